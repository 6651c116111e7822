//! Which tracks players find: those that are published, and no other.

use std::path::Path;
use std::process::Command;

use rtmp_proto::wire::Message;
use serde_json::Value;

use crate::common::program::{Program, output, require, require_ffmpeg, require_gstreamer};
use crate::origin::Origin;
use crate::relay::{Relay, Reply};

/// Nothing here takes ten seconds; this is for machines that are busy.
const PICTURES: &[&str] = &["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"];
const SOUND: &[&str] = &["-f", "lavfi", "-i", "sine"];
const H264: &[&str] = &["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"];

/// Inputs of a publisher, and the tracks that a player is to find.
const STREAMS: [(&[&[&str]], &[&str]); 3] = [
    (&[PICTURES, SOUND], &["audio", "video"]),
    (&[SOUND], &["audio"]),
    (&[PICTURES], &["video"]),
];

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
    command
}

/// ffmpeg, publishing these inputs.
fn publish(inputs: &[&[&str]], options: &[&str], url: &str) -> Program {
    let mut command = ffmpeg();
    for input in inputs {
        command.args(options).args(*input);
    }
    if inputs.contains(&PICTURES) {
        command.args(H264);
    }
    Program::start(command.args(["-c:a", "aac", "-f", "flv", url]))
}

/// A second of these inputs, as they arrive here.
fn published(inputs: &[&[&str]]) -> Vec<Message> {
    let relay = Relay::start(Reply::Complete);
    let mut publisher = publish(inputs, &["-t", "1"], &relay.url());
    assert!(publisher.wait().success());
    relay.wait("the end of the publish", |state| {
        let ended = state.told.contains(&"PublishEnded");
        ended.then(|| state.stream.clone())
    })
}

/// The kinds of tracks that ffprobe finds, in order of the alphabet.
fn tracks(input: &str) -> Vec<String> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-show_streams", "-of", "json", input]);
    let found: Value = serde_json::from_str(&output(&mut ffprobe)).unwrap();
    let streams = found["streams"].as_array().unwrap().iter();
    let kind = |stream: &Value| stream["codec_type"].as_str().unwrap().to_owned();
    let mut tracks: Vec<_> = streams.map(kind).collect();
    tracks.sort();
    tracks
}

fn tracks_of(file: &Path) -> Vec<String> {
    tracks(&file.display().to_string())
}

#[track_caller]
fn require_ffprobe() {
    require_ffmpeg();
    require("ffprobe", &["-version"]);
}

#[test]
fn ffprobe_and_ffmpeg_find_the_tracks_that_are_published() {
    require_ffprobe();
    let directory = tempfile::tempdir().unwrap();
    for (inputs, expected) in STREAMS {
        let relay = Relay::with_stream(Reply::Complete, published(inputs));
        assert_eq!(tracks(&relay.url()), expected);
        for format in ["mp4", "ts"] {
            let file = directory.path().join(format!("copy.{format}"));
            let mut copy = ffmpeg();
            copy.args(["-y", "-i", &relay.url(), "-map", "0", "-c", "copy"]);
            let ended = Program::start(copy.arg(&file)).wait();
            assert!(ended.success(), "ffmpeg to {format}: {ended}, {expected:?}");
            assert_eq!(tracks_of(&file), expected, "{format}");
        }
    }
}

#[test]
fn rtmpdump_keeps_the_tracks_that_are_published() {
    require_ffprobe();
    require("rtmpdump", &["--help"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("dump.flv");
    for (inputs, expected) in STREAMS {
        let relay = Relay::with_stream(Reply::Complete, published(inputs));
        let mut rtmpdump = Command::new("rtmpdump");
        rtmpdump.args(["--quiet", "--live", "-r", &relay.url(), "-o"]);
        let ended = Program::start(rtmpdump.arg(&file)).wait();
        assert!(ended.success(), "{ended}");
        assert_eq!(tracks_of(&file), expected);
    }
}

#[test]
fn gstreamer_finds_the_tracks_that_are_published() {
    require_ffprobe();
    require_gstreamer(&["rtmp2src", "flvdemux"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("gstreamer.flv");
    for (inputs, expected) in STREAMS {
        let relay = Relay::with_stream(Reply::Complete, published(inputs));
        let location = format!("location={}", relay.url());
        let mut gstreamer = Command::new("gst-launch-1.0");
        gstreamer.args(["rtmp2src", &location, "!", "tee", "name=all", "!"]);
        gstreamer.args(["queue", "!", "flvdemux", "!", "fakesink", "sync=false"]);
        gstreamer.args(["all.", "!", "queue", "!", "filesink"]);
        gstreamer.arg(format!("location={}", file.display()));
        // It writes down which pads are added: one for each track.
        let notes = directory.path().join("gstreamer.txt");
        gstreamer.env("GST_DEBUG", "GST_ELEMENT_PADS:4");
        gstreamer.env("GST_DEBUG_NO_COLOR", "1");
        gstreamer.env("GST_DEBUG_FILE", &notes);
        output(&mut gstreamer);
        let text = std::fs::read_to_string(&notes).unwrap();
        let added = |line: &str| {
            let (_, pad) = line.split_once("adding pad '")?;
            let pad = pad.trim_end_matches('\'');
            ["audio", "video"].contains(&pad).then(|| pad.to_owned())
        };
        let mut found: Vec<_> = text.lines().filter_map(added).collect();
        found.sort();
        assert_eq!(found, expected, "{text}");
        assert_eq!(tracks_of(&file), expected);
    }
}

#[test]
fn mpv_finds_the_tracks_that_are_published() {
    require_ffprobe();
    require("mpv", &["--version"]);
    for (inputs, expected) in STREAMS {
        let relay = Relay::with_stream(Reply::Complete, published(inputs));
        let mut mpv = Command::new("mpv");
        mpv.args(["--no-config", "--vo=null", "--ao=null", "--untimed"]);
        mpv.arg("--term-status-msg=");
        let text = output(mpv.args(["--msg-color=no", &relay.url()]));
        let track = |line: &str| {
            let line = line.trim_start_matches(['(', '+', ')', ' ']);
            let kind = line.split_once(" --")?.0;
            Some(kind.trim().to_ascii_lowercase())
        };
        let mut found: Vec<_> = text.lines().filter_map(track).collect();
        found.sort();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn ffmpeg_copies_a_part_of_a_stream_that_goes_on() {
    require_ffprobe();
    let directory = tempfile::tempdir().unwrap();
    for (inputs, expected) in STREAMS {
        let origin = Origin::start();
        let url = origin.url("live/camera");
        let _publisher = publish(inputs, &["-re"], &url);
        let file = directory.path().join("part.ts");
        let mut copy = ffmpeg();
        copy.args(["-y", "-i", &url, "-map", "0", "-c", "copy"]);
        let ended = Program::start(copy.args(["-t", "1"]).arg(&file)).wait();
        assert!(ended.success(), "{ended}, {expected:?}");
        assert_eq!(tracks_of(&file), expected);
    }
}
