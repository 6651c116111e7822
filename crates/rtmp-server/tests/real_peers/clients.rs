//! Real clients against our server session.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;

use netbed::wait_for;
use rtmp_proto::wire::media::{MediaClass, MediaHead};
use rtmp_proto::wire::{Message, MessageType};

use crate::common::program::{Program, output, require, require_ffmpeg, require_gstreamer};
use crate::http_flv::{PICTURES, decoded, publish_to};
use crate::origin::Origin;
use crate::relay::{Relay, Reply};

/// ffmpeg, publishing two seconds of a test picture and tone.
fn ffmpeg_publishing(url: &str) -> Program {
    Program::start(
        Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
            .args([
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=160x120:rate=25:duration=2",
            ])
            .args(["-f", "lavfi", "-i", "sine=duration=2"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-g",
                "25",
                "-c:a",
                "aac",
            ])
            .args(["-f", "flv", url]),
    )
}

/// Number of messages of a class.
fn count(stream: &[Message], class: MediaClass) -> usize {
    stream
        .iter()
        .filter(|message| MediaHead::parse(message).is_some_and(|head| head.class == class))
        .count()
}

fn video_frames(stream: &[Message]) -> usize {
    count(stream, MediaClass::Keyframe { track: 0 })
        + count(stream, MediaClass::InterFrame { track: 0 })
}

fn assert_is_a_test_stream(stream: &[Message], frames: usize) {
    assert_eq!(
        count(stream, MediaClass::VideoSequenceHeader { track: 0 }),
        1
    );
    assert_eq!(video_frames(stream), frames);
    assert!(count(stream, MediaClass::Keyframe { track: 0 }) >= 1);
    assert!(stream.iter().all(|message| message.stream_id == 1));
}

/// Two seconds, as ffmpeg publishes them to us.
fn test_stream() -> Vec<Message> {
    let relay = Relay::start(Reply::Complete);
    let mut ffmpeg = ffmpeg_publishing(&relay.url());
    assert!(ffmpeg.wait().success());
    relay.wait("the end of the publish", |state| {
        state
            .told
            .contains(&"PublishEnded")
            .then(|| state.stream.clone())
    })
}

#[test]
fn ffmpeg_publishes() {
    require_ffmpeg();
    let relay = Relay::start(Reply::Complete);
    let mut ffmpeg = ffmpeg_publishing(&relay.url());
    assert!(ffmpeg.wait().success());
    let (stream, told) = relay.wait("the end of the connection", |state| {
        (!state.ended.is_empty()).then(|| (state.stream.clone(), state.told.clone()))
    });
    assert_eq!(told, ["Connect", "Publish", "PublishEnded"]);
    assert_is_a_test_stream(&stream, 50);
    assert_eq!(count(&stream, MediaClass::Metadata), 1);
    assert_eq!(
        count(&stream, MediaClass::AudioSequenceHeader { track: 0 }),
        1
    );
    relay.record("ffmpeg-publish");
}

#[test]
fn ffmpeg_hears_why_it_may_not_publish() {
    require_ffmpeg();
    let relay = Relay::start(Reply::Busy);
    let mut ffmpeg = ffmpeg_publishing(&relay.url());
    assert!(
        !ffmpeg.wait().success(),
        "ffmpeg must not believe that it publishes"
    );
    let stream = relay.wait("the end of the connection", |state| {
        (!state.ended.is_empty()).then_some(state.stream.len())
    });
    assert_eq!(stream, 0);
}

#[test]
fn ffmpeg_plays_to_the_end() {
    require_ffmpeg();
    let relay = Relay::with_stream(Reply::Complete, test_stream());
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("frames.txt");
    let mut ffmpeg = Program::start(
        Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-hide_banner",
                "-loglevel",
                "error",
                "-i",
                &relay.url(),
            ])
            .args(["-map", "0:v", "-c", "copy", "-f", "framecrc"])
            .arg(&list),
    );
    assert!(ffmpeg.wait().success());
    assert_eq!(lines(&list), 50);
    relay.record("ffmpeg-play");
}

#[test]
fn ffmpeg_hears_that_there_is_no_stream() {
    require_ffmpeg();
    let relay = Relay::start(Reply::NotFound);
    let mut ffmpeg = Program::start(
        Command::new("ffmpeg")
            .args([
                "-nostdin",
                "-hide_banner",
                "-loglevel",
                "quiet",
                "-i",
                &relay.url(),
            ])
            .args(["-f", "null", "-"]),
    );
    assert!(!ffmpeg.wait().success());
}

/// Lines that are not comments: one for each frame.
fn lines(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).count()
}

fn as_tags(stream: &[Message]) -> Vec<(MessageType, usize)> {
    stream
        .iter()
        .map(|message| (message.message_type, message.payload.len()))
        .collect()
}

/// The sizes of the pictures. Players write metadata and silence of their own,
/// and leave out the end of sequence, which is no longer than this.
fn picture_sizes(tags: Vec<(MessageType, usize)>) -> Vec<usize> {
    const END_OF_SEQUENCE: usize = 5;
    tags.into_iter()
        .filter(|(kind, size)| *kind == MessageType::VIDEO && *size > END_OF_SEQUENCE)
        .map(|(_, size)| size)
        .collect()
}

/// Messages in an FLV file.
fn flv_tags(path: &Path) -> Vec<(MessageType, usize)> {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(bytes[..3], *b"FLV");
    let mut at = 9 + 4;
    let mut tags = Vec::new();
    while at < bytes.len() {
        let size = u32::from_be_bytes([0, bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
        tags.push((MessageType(bytes[at]), size));
        at += 11 + size + 4;
    }
    tags
}

#[test]
fn rtmpdump_plays_every_picture_to_the_end() {
    require_ffmpeg();
    require("rtmpdump", &["--help"]);
    let stream = test_stream();
    let relay = Relay::with_stream(Reply::Complete, stream.clone());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("camera.flv");
    let mut rtmpdump = Program::start(
        Command::new("rtmpdump")
            .args(["--quiet", "--live", "-r", &relay.url(), "-o"])
            .arg(&file),
    );
    assert!(rtmpdump.wait().success());
    let tags = flv_tags(&file);
    assert_eq!(picture_sizes(tags), picture_sizes(as_tags(&stream)));
    relay.record("rtmpdump-play");
}

#[test]
fn rtmpdump_hears_that_there_is_no_stream() {
    require("rtmpdump", &["--help"]);
    let relay = Relay::start(Reply::NotFound);
    let mut rtmpdump = Program::start(Command::new("rtmpdump").args([
        "--quiet",
        "--live",
        "-r",
        &relay.url(),
        "-o",
        "/dev/null",
    ]));
    assert!(!rtmpdump.wait().success());
}

/// GStreamer, publishing 50 pictures by this element.
fn gstreamer_publishing(sink: &str, location: &str) -> Program {
    Program::start(
        Command::new("gst-launch-1.0")
            .args(["-q", "videotestsrc", "num-buffers=50", "!"])
            .args(["video/x-raw,width=160,height=120,framerate=25/1", "!"])
            .args(["x264enc", "speed-preset=ultrafast", "key-int-max=25", "!"])
            .args(["flvmux", "streamable=true", "!", sink, location]),
    )
}

/// Asserts that `sink` of GStreamer publishes at a location with these words; what it says is
/// recorded under `capture`.
fn assert_sink_publishes(sink: &str, more: &str, capture: &str) {
    require_gstreamer(&[sink, "x264enc", "flvmux"]);
    let relay = Relay::start(Reply::Complete);
    let location = format!("location={}{more}", relay.url());
    let mut gstreamer = gstreamer_publishing(sink, &location);
    assert!(gstreamer.wait().success());
    let stream = relay.wait("the end of the connection", |state| {
        (!state.ended.is_empty()).then(|| state.stream.clone())
    });
    assert_is_a_test_stream(&stream, 50);
    relay.record(capture);
}

#[test]
fn gstreamers_own_sink_publishes() {
    assert_sink_publishes("rtmp2sink", "", "gstreamer-publish");
}

#[test]
fn librtmp_publishes() {
    assert_sink_publishes("rtmpsink", " live=1", "librtmp-publish");
}

#[test]
fn gstreamers_own_source_plays_to_the_end() {
    require_ffmpeg();
    require_gstreamer(&["rtmp2src"]);
    let stream = test_stream();
    let relay = Relay::with_stream(Reply::Complete, stream.clone());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("camera.flv");
    let mut gstreamer = Program::start(
        Command::new("gst-launch-1.0")
            .args([
                "-q",
                "rtmp2src",
                &format!("location={}", relay.url()),
                "!",
                "filesink",
            ])
            .arg(format!("location={}", file.display())),
    );
    assert!(gstreamer.wait().success());
    let tags = flv_tags(&file);
    assert_eq!(picture_sizes(tags), picture_sizes(as_tags(&stream)));
    relay.record("gstreamer-play");
}

/// The rates, in bit/s, at which the kernel sends from the port of `server` at most, of each
/// connection that has such a limit (`pacing_rate RATE/MAXbps` of ss(8)).
fn max_pacing_rates(server: SocketAddr) -> Vec<u64> {
    let port = format!("( sport = :{} )", server.port());
    let text = output(Command::new("ss").args(["-tinH", "state", "established", &port]));
    let words = text.split_whitespace();
    let limits = words.filter_map(|word| word.split_once('/')?.1.strip_suffix("bps"));
    limits.filter_map(|limit| limit.parse().ok()).collect()
}

#[test]
fn ffmpeg_plays_from_a_connection_with_max_pacing_rate() {
    require_ffmpeg();
    let vhost = "play_wait_timeout 60000; publish_return_timeout 0; play { max_pacing_rate 4000; }";
    let origin = Origin::with(vhost);
    let urls = [
        origin.url("live/s"),
        format!("http://{}", origin.flv("live/s")),
    ];
    for (url, server) in urls.iter().zip([origin.rtmp(), origin.http()]) {
        let playing = thread::spawn({
            let url = url.clone();
            move || decoded(&[], &url)
        });
        origin.wait_for_player();
        let _publisher = publish_to(&origin.url("live/s"));
        wait_for("a connection with a limit", || {
            max_pacing_rates(server) == [4_000_000]
        });
        assert_eq!(playing.join().unwrap(), PICTURES, "{url}");
        wait_for("the end of the stream", || origin.is_idle());
    }
}
