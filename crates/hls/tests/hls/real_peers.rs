//! ffmpeg's encoders in, ffprobe and ffmpeg's decoders out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hls::playlist::{Found, MediaPlaylist, Playlist, PlaylistSettings, Resource};
use hls::segmenter::{Container, Output, Segmenter, Settings};
use rtmp_proto::wire::media::{MediaClass, MediaHead};
use rtmp_proto::wire::{Message, MessageType};

use crate::encoder::{Scratch, encode, read_flv, run};
use crate::enhanced::{FRAGMENTED, read_mp4};
use crate::packets::check_transport;
use crate::stream::{check_rules, read_samples, segment, segments};

const H264: &str = "-c:v libx264 -preset ultrafast -g 60 -keyint_min 60 -sc_threshold 0 -bf 2";

fn settings(container: Container) -> Settings {
    Settings {
        container,
        part_target: Duration::from_millis(333),
        fragment: Duration::from_secs(2),
        ..Settings::default()
    }
}

/// A packet as ffprobe sees it: stream, presentation and decoding time in seconds, hash.
#[derive(Debug, Clone)]
struct Packet {
    kind: String,
    pts: f64,
    dts: f64,
    hash: String,
}

fn packets(file: &Path) -> Vec<Packet> {
    let entries = "packet=codec_type,pts_time,dts_time,data_hash";
    let arguments = [
        "-v",
        "error",
        "-show_data_hash",
        "md5",
        "-show_entries",
        entries,
        "-of",
        "compact=p=0",
        file.to_str().unwrap(),
    ];
    let text = run("ffprobe", &arguments);
    let field = |line: &str, name: &str| {
        let mut fields = line.split('|');
        let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_default().to_owned()
    };
    let lines = text.lines().filter(|line| line.contains("codec_type"));
    let packets = lines.map(|line| Packet {
        kind: field(line, "codec_type"),
        pts: field(line, "pts_time").parse().expect("a time"),
        dts: field(line, "dts_time").parse().expect("a time"),
        hash: field(line, "data_hash"),
    });
    packets.collect()
}

fn of_kind<'a>(packets: &'a [Packet], kind: &str) -> Vec<&'a Packet> {
    packets
        .iter()
        .filter(|packet| packet.kind == kind)
        .collect()
}

/// Frames of sound that ffmpeg sends before the first keyframe; nobody hears them.
const BEFORE_KEYFRAME: usize = 1;

/// Compares what ffprobe finds in two files: the same packets, at times that differ by a
/// constant and a rounding.
fn assert_same_packets(expected: &Path, found: &Path, tolerance: f64, same_bytes: bool) {
    let (expected, found) = (packets(expected), packets(found));
    let origin = |packets: &[Packet]| {
        let first = of_kind(packets, "video").first().copied();
        first.or(packets.first()).expect("a packet").dts
    };
    let shift = origin(&found) - origin(&expected);
    for kind in ["video", "audio"] {
        let (expected, found) = (of_kind(&expected, kind), of_kind(&found, kind));
        let missing = expected.len() - found.len();
        assert!(missing <= BEFORE_KEYFRAME, "{kind}: {missing} packets");
        let expected = &expected[missing..];
        for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
            let near = |one: f64, other: f64| (one - other).abs() <= tolerance;
            let same =
                near(expected.pts + shift, found.pts) && near(expected.dts + shift, found.dts);
            assert!(same, "{kind} {index}: {expected:?} {found:?}, by {shift}");
            if same_bytes {
                assert_eq!(expected.hash, found.hash, "{kind} {index}");
            }
        }
    }
}

/// Decodes a file, and gives the count of decoded pictures and frames of sound.
fn decode(file: &Path) -> (usize, usize) {
    let arguments = [
        "-v",
        "error",
        "-xerror",
        "-i",
        file.to_str().unwrap(),
        "-f",
        "framecrc",
        "-",
    ];
    let text = run("ffmpeg", &arguments);
    let mut streams = std::collections::BTreeMap::<u8, usize>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        *streams.entry(line.as_bytes()[0] - b'0').or_default() += 1;
    }
    (
        streams.get(&0).copied().unwrap_or(0),
        streams.get(&1).copied().unwrap_or(0),
    )
}

/// Segments a stream, checks each part, and writes all segments one after another.
fn remux(scratch: &Scratch, container: Container, messages: &[Message]) -> PathBuf {
    let settings = settings(container);
    let outputs = segment(&settings, messages);
    check_rules(&settings, &outputs);
    let segments = segments(&outputs);
    assert!(segments.len() > 2, "{} segments", segments.len());
    let mut bytes = segments[0].initialization.as_ref().unwrap().bytes.to_vec();
    match container {
        Container::Fmp4 => check_samples(&outputs, messages),
        Container::MpegTs => check_transport(&outputs),
    }
    for segment in &segments {
        bytes.extend(segment.bytes());
    }
    scratch.write("remuxed", &bytes)
}

/// The samples of all parts are the messages' bodies, at their times.
fn check_samples(outputs: &[Output], messages: &[Message]) {
    let samples = read_samples(outputs);
    for (kind, handler) in [(MessageType::VIDEO, b"vide"), (MessageType::AUDIO, b"soun")] {
        let found = samples
            .iter()
            .filter(|(track, _)| &track.handler == handler);
        let found: Vec<_> = found.collect();
        let sent = messages.iter().filter(|it| it.message_type == kind);
        let sent: Vec<_> = sent.filter(|it| is_frame(it)).collect();
        let missing = sent.len() - found.len();
        assert!(missing <= BEFORE_KEYFRAME, "{missing} messages");
        let sent = &sent[missing..];
        for ((track, sample), message) in found.iter().zip(sent) {
            assert!(message.payload.ends_with(&sample.data));
            assert!(message.payload.len() - sample.data.len() <= 8);
            let ms = sample.dts as f64 * 1000.0 / track.timescale as f64;
            let difference = (ms - f64::from(message.timestamp)).abs();
            assert!(difference < 1.6, "{ms} ms: {}", message.timestamp);
        }
        for pair in found.windows(2) {
            let ((_, one), (_, next)) = (pair[0], pair[1]);
            assert_eq!(one.dts + one.duration, next.dts, "no gap, no overlap");
        }
    }
}

fn is_frame(message: &Message) -> bool {
    let head = MediaHead::parse(message);
    head.is_some_and(|head| head.is_picture() || head.class == MediaClass::Audio)
}

/// Remuxes what ffmpeg makes with these options into both containers, where they carry
/// it, and compares.
fn round_trip(name: &str, options: &str, containers: &[Container]) {
    for &container in containers {
        let scratch = Scratch::new(&format!("{name}-{container:?}"));
        let flv = scratch.path("in.flv");
        encode(&flv, 9, options);
        let remuxed = remux(&scratch, container, &read_flv(&flv));
        let same_bytes = container == Container::Fmp4;
        assert_same_packets(&flv, &remuxed, 0.0021, same_bytes);
        let (found, expected) = (decode(&remuxed), decode(&flv));
        assert_eq!(found.0, expected.0);
        assert!(
            expected.1 - found.1 <= BEFORE_KEYFRAME,
            "{found:?} {expected:?}"
        );
    }
}

const BOTH: [Container; 2] = [Container::Fmp4, Container::MpegTs];

#[test]
fn h264_with_reordered_pictures_and_aac() {
    round_trip("h264-aac", &format!("{H264} -c:a aac"), &BOTH);
}

#[test]
fn h264_without_reordered_pictures_and_mp3() {
    let options = format!("{H264} -bf 0 -c:a libmp3lame");
    round_trip("h264-mp3", &options, &BOTH);
}

#[test]
fn pictures_alone() {
    round_trip("video-only", &format!("{H264} -an"), &BOTH);
}

#[test]
fn sound_alone() {
    round_trip("audio-only", "-vn -c:a aac", &BOTH);
    round_trip("mp3-only", "-vn -c:a libmp3lame", &BOTH);
}

/// The same with codecs of Enhanced RTMP, out of ffmpeg's fragmented MP4.
fn enhanced_round_trip(name: &str, options: &str, codecs: &str, containers: &[Container]) {
    for &container in containers {
        let scratch = Scratch::new(&format!("{name}-{container:?}"));
        let mp4 = scratch.path("in.mp4");
        encode(&mp4, 7, &format!("{options} {FRAGMENTED}"));
        let messages = read_mp4(&mp4);
        let outputs = segment(&settings(container), &messages);
        let initialization = outputs.iter().find_map(|output| match output {
            Output::Initialization(it) => Some(it.clone()),
            _ => None,
        });
        let initialization = initialization.expect("an initialization");
        assert_eq!(initialization.codecs, codecs);
        assert_eq!(initialization.resolution.unwrap().to_string(), "320x180");
        let remuxed = remux(&scratch, container, &messages);
        let (found, expected) = (decode(&remuxed), decode(&mp4));
        assert_eq!(found.0, expected.0);
        // Edit lists, which ffmpeg's file has, cut what is heard before the start.
        assert!(found.1.abs_diff(expected.1) <= 2, "{found:?} {expected:?}");
    }
}

#[test]
fn h265_and_opus() {
    let options = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
        log-level=none:keyint=60:min-keyint=60:scenecut=0:bframes=2 -c:a libopus -strict -2";
    enhanced_round_trip("hevc", options, "hvc1.1.6.L60.90,opus", &[Container::Fmp4]);
}

#[test]
fn h265_and_ac3() {
    let options = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
        log-level=none:keyint=60:min-keyint=60:scenecut=0:bframes=2 -c:a ac3";
    enhanced_round_trip("hevc-ac3", options, "hvc1.1.6.L60.90,ac-3", &BOTH);
}

#[test]
fn av1_and_opus() {
    let options = "-c:v libsvtav1 -preset 12 -g 60 -c:a libopus -strict -2";
    enhanced_round_trip("av1", options, "av01.0.00M.08,opus", &[Container::Fmp4]);
}

#[test]
fn vp9_and_opus() {
    let options = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 60 -c:a libopus -strict -2";
    enhanced_round_trip("vp9", options, "vp09.00.11.08,opus", &[Container::Fmp4]);
}

/// Writes what a server would serve: the playlist and all that it refers to.
fn write_playlist(scratch: &Scratch, settings: &Settings, outputs: &[Output]) -> PathBuf {
    let container = settings.container;
    let mut playlist = Playlist::new(PlaylistSettings {
        segments: settings.clone(),
        window: Duration::from_secs(60),
        first_segment: 5,
    });
    let mut log = Vec::new();
    for output in outputs {
        if let Output::Part(part) = output {
            log.extend_from_slice(&part.bytes);
        }
        playlist.push(output, None);
    }
    playlist.end();
    let form = MediaPlaylist::default();
    let text = playlist.media(form, &|resource| resource.name(container));
    let text = text.expect("it is ready");
    let quoted = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let names = text.lines().filter_map(|line| match line.starts_with('#') {
        true => quoted(line),
        false => Some(line.to_owned()),
    });
    for name in names {
        let resource = Resource::parse(&name, container).expect("a name");
        let bytes = match playlist.find(resource) {
            Some(Found::Bytes(bytes)) => bytes.to_vec(),
            Some(Found::Log(range)) => log[range.start as usize..range.end as usize].to_vec(),
            other => panic!("{name}: {other:?}"),
        };
        scratch.write(&name, &bytes);
    }
    scratch.write("live.m3u8", text.as_bytes())
}

#[test]
fn ffmpeg_plays_the_playlist() {
    for container in BOTH {
        let scratch = Scratch::new(&format!("playlist-{container:?}"));
        let flv = scratch.path("in.flv");
        encode(&flv, 9, &format!("{H264} -c:a aac"));
        let settings = settings(container);
        let outputs = segment(&settings, &read_flv(&flv));
        let playlist = write_playlist(&scratch, &settings, &outputs);
        assert_same_packets(&flv, &playlist, 0.0021, container == Container::Fmp4);
        assert_eq!(decode(&playlist), decode(&flv));
    }
}

#[test]
fn ffmpeg_plays_on_behind_a_discontinuity() {
    // ffmpeg 5.1 reads another initialization section, but does not tell its decoder.
    let second = [(Container::Fmp4, "320:180"), (Container::MpegTs, "160:90")];
    for (container, second) in second {
        let scratch = Scratch::new(&format!("discontinuity-{container:?}"));
        let settings = settings(container);
        let mut segmenter = Segmenter::new(&settings);
        let mut outputs = Vec::new();
        let mut start = 0;
        for size in ["320:180", second] {
            let flv = scratch.path("in.flv");
            encode(&flv, 5, &format!("{H264} -vf scale={} -c:a aac", size));
            segmenter.begin_publication(&mut outputs);
            for message in read_flv(&flv) {
                let time = start + u64::from(message.timestamp);
                segmenter.push(&message, time, &mut outputs);
            }
            start += 8000;
        }
        segmenter.finish(&mut outputs);
        check_rules(&settings, &outputs);
        let playlist = write_playlist(&scratch, &settings, &outputs);
        assert_eq!(decode(&playlist).0, 300);
    }
}
