//! HTTP-FLV and WebSocket-FLV with the programs that people use.

use std::path::Path;
use std::process::Command;

use crate::common::program::{Program, output, require, require_ffmpeg, runs};
use crate::origin::Origin;

/// Two seconds of pictures and sound, published in real time to a player that is there
/// already: the stream ends soon after.
const SECONDS: &str = "2";
pub(crate) const PICTURES: usize = 50;

fn origin() -> Origin {
    Origin::with("play_wait_timeout 60000; publish_return_timeout 0;")
}

fn publish(origin: &Origin) -> Program {
    publish_to(&origin.url("live/s"))
}

pub(crate) fn publish_to(url: &str) -> Program {
    let video = "testsrc2=size=160x120:rate=25";
    Program::start(
        Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
            .args(["-re", "-f", "lavfi", "-i", video])
            .args(["-re", "-f", "lavfi", "-i", "sine", "-t", SECONDS])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"])
            .args(["-c:a", "aac", "-f", "flv", url]),
    )
}

/// The number of pictures that ffmpeg decodes of `input`, with these options; their times rise. It calls the end
/// of an answer without a length premature, and takes it for the end.
pub(crate) fn decoded(options: &[&str], input: &str) -> usize {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
        .args(options)
        .args(["-i", input, "-map", "0:v", "-f", "framecrc", "-"]);
    let text = output(&mut command);
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    let times: Vec<i64> = frames
        .map(|line| line.split(',').nth(1).unwrap().trim().parse().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    times.len()
}

/// The tracks that ffprobe finds in `input`.
fn tracks(input: &Path) -> Vec<String> {
    let mut command = Command::new("ffprobe");
    command
        .args(["-loglevel", "error", "-show_entries", "stream=codec_name"])
        .args(["-of", "csv=p=0"])
        .arg(input);
    let mut tracks: Vec<_> = output(&mut command).lines().map(str::to_owned).collect();
    tracks.sort();
    tracks
}

/// A recorded stream is whole.
pub(crate) fn assert_is_the_stream(file: &Path) {
    assert_eq!(tracks(file), ["aac", "h264"]);
    assert_eq!(decoded(&[], file.to_str().unwrap()), PICTURES);
}

#[test]
fn ffmpeg_plays_over_http() {
    require_ffmpeg();
    let origin = origin();
    let url = format!("http://{}", origin.flv("live/s"));
    let player = std::thread::spawn(move || decoded(&[], &url));
    origin.wait_for_player();
    let _publisher = publish(&origin);
    assert_eq!(player.join().unwrap(), PICTURES);
}

#[test]
fn curl_records_over_http() {
    require_ffmpeg();
    require("curl", &["--version"]);
    let origin = origin();
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("http://{}", origin.flv("live/s"));
    let mut curl = Program::start(
        Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--output"])
            .arg(file.path())
            .arg(&url),
    );
    origin.wait_for_player();
    let mut publisher = publish(&origin);
    assert!(publisher.wait().success());
    assert!(curl.wait().success());
    assert_is_the_stream(file.path());
    let mut refused = Command::new("curl");
    refused.args(["--silent", "--write-out", "%{http_code}", "--head"]);
    let answer = output(refused.arg(&url));
    assert!(answer.ends_with("404"), "{answer}");
}

/// What Node.js runs: records a WebSocket's messages in a file, up to a clean end.
pub(crate) const RECORD: &str = "
    const [url, file] = process.argv.slice(1);
    const socket = new WebSocket(url);
    const parts = [];
    socket.binaryType = 'arraybuffer';
    socket.onmessage = message => parts.push(Buffer.from(message.data));
    socket.onclose = event => {
        require('fs').writeFileSync(file, Buffer.concat(parts));
        process.exit(event.wasClean && event.code === 1000 ? 0 : 1);
    };";

#[test]
fn node_records_over_a_websocket() {
    let has_websocket = "process.exit(typeof WebSocket === 'function' ? 0 : 1)";
    require_ffmpeg();
    if !runs("node", &["-e", has_websocket]) {
        netbed::skip!("there is no Node.js with WebSocket");
    }
    let origin = origin();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut node = Program::start(
        Command::new("node")
            .args(["-e", RECORD, &format!("ws://{}", origin.flv("live/s"))])
            .arg(file.path()),
    );
    origin.wait_for_player();
    let mut publisher = publish(&origin);
    assert!(publisher.wait().success());
    assert!(node.wait().success());
    assert_is_the_stream(file.path());
}
