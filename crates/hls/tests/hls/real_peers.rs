//! ffmpeg's encoders in, ffprobe and ffmpeg's decoders out.

use std::path::Path;
use std::time::Duration;

use hls::segmenter::{Container, Settings};
use rtmp_proto::wire::Message;

use crate::encoder::{Scratch, encode, read_flv, run};
use crate::stream::{check_rules, segment, segments};

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

/// Compares what ffprobe finds in two files: the same packets, at times that differ by a
/// constant and a rounding.
fn assert_same_packets(expected: &Path, found: &Path, tolerance: f64, same_bytes: bool) {
    let (expected, found) = (packets(expected), packets(found));
    let origin = |packets: &[Packet]| {
        let times = packets.iter().map(|packet| packet.dts);
        times.fold(f64::INFINITY, f64::min)
    };
    let shift = origin(&found) - origin(&expected);
    for kind in ["video", "audio"] {
        let (expected, found) = (of_kind(&expected, kind), of_kind(&found, kind));
        assert_eq!(expected.len(), found.len(), "{kind} packets");
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

/// Segments a file of ffmpeg's, and writes all segments one after another.
fn remux(scratch: &Scratch, container: Container, messages: &[Message]) -> std::path::PathBuf {
    let settings = settings(container);
    let outputs = segment(&settings, messages);
    check_rules(&settings, &outputs);
    let segments = segments(&outputs);
    let mut bytes = segments[0].initialization.as_ref().unwrap().bytes.to_vec();
    for segment in &segments {
        bytes.extend(segment.bytes());
    }
    scratch.write("remuxed", &bytes)
}

#[test]
fn h264_and_aac_come_out_of_fmp4_as_they_went_in() {
    let scratch = Scratch::new("fmp4-h264");
    let flv = scratch.path("in.flv");
    encode(&flv, 9, &format!("{H264} -c:a aac"));
    let remuxed = remux(&scratch, Container::Fmp4, &read_flv(&flv));
    assert_same_packets(&flv, &remuxed, 0.0016, true);
    assert_eq!(decode(&remuxed).0, 270);
}

#[test]
fn h264_and_aac_come_out_of_mpegts() {
    let scratch = Scratch::new("ts-h264");
    let flv = scratch.path("in.flv");
    encode(&flv, 9, &format!("{H264} -c:a aac"));
    let remuxed = remux(&scratch, Container::MpegTs, &read_flv(&flv));
    assert_same_packets(&flv, &remuxed, 0.0016, false);
    assert_eq!(decode(&remuxed).0, 270);
}
