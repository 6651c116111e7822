//! Programs that cut one and the same URL into application and stream in
//! different places meet on one stream.

use std::process::Command;

use crate::common::program::{Program, require, require_ffmpeg};
use crate::origin::Origin;

/// ffmpeg, publishing for as long as it is let.
fn publish(url: &str, options: &[&str]) -> Program {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-re"]);
    ffmpeg.args(["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]);
    ffmpeg.args(["-f", "flv"]).args(options);
    Program::start(ffmpeg.arg(url))
}

/// Asserts that each of the programs plays `url`.
fn assert_is_played(url: &str) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-loglevel", "error", "-i", url]);
    ffmpeg.args(["-frames:v", "1", "-f", "null", "-"]);
    let mut rtmpdump = Command::new("rtmpdump");
    rtmpdump.args(["--quiet", "--live", "--stop", "1", "-r", url]);
    rtmpdump.args(["-o", "/dev/null"]);
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.args(["-q", "rtmp2src", "num-buffers=10"]);
    gstreamer.args([&format!("location={url}"), "!", "fakesink"]);
    for (player, version) in [
        (&mut ffmpeg, "-version"),
        (&mut rtmpdump, "--help"),
        (&mut gstreamer, "--version"),
    ] {
        let name = player.get_program().to_string_lossy().into_owned();
        require(&name, &[version]);
        let ended = Program::start(player).wait();
        assert!(ended.success(), "{name} of {url}: {ended}");
    }
}

#[test]
fn every_player_finds_a_stream_with_a_long_path_at_the_url_of_its_publisher() {
    require_ffmpeg();
    let origin = Origin::start();
    let url = origin.url("a/b/c/d");
    // ffmpeg takes `a/b` for the application; OBS, whose fields these options
    // are, whatever stands in the first.
    let as_obs = ["-rtmp_app", "a/b/c", "-rtmp_playpath", "d"];
    for options in [&[][..], &as_obs] {
        let _publisher = publish(&url, options);
        assert_is_played(&url);
    }
}

#[test]
fn the_whole_url_may_stand_in_the_field_of_the_server() {
    require_ffmpeg();
    let origin = Origin::start();
    let url = origin.url("live/livestream");
    let key_empty = ["-rtmp_app", "live/livestream", "-rtmp_playpath", ""];
    let _publisher = publish(&url, &key_empty);
    assert_is_played(&url);
}
