//! HLS with the programs that people use.

use std::collections::HashSet;
use std::process::Command;
use std::thread;

use netbed::wait_for;

use crate::common::program::{Program, output, require, require_ffmpeg, require_gstreamer};
use crate::origin::Origin;

/// Seconds of pictures and sound, published in real time.
const SECONDS: &str = "6";

/// An origin of short segments, in `container`, whose streams end with their publishers.
fn origin(container: &str) -> Origin {
    Origin::with(&format!(
        "play_wait_timeout 60000; publish_return_timeout 10000; \
         hls {{ enabled on; hls_fragment 1; {container} }}"
    ))
}

/// Times of MPEG-TS are so much later.
const TS_OFFSET_MS: i64 = 1_000;

const CONTAINERS: [&str; 5] = [
    "",
    "hls_keys on; hls_fragments_per_key 2;",
    "hls_use_fmp4 on;",
    "hls_use_fmp4 on; hls_keys on; hls_fragments_per_key 2;",
    "hls_low_latency on; hls_fragment 1;",
];

fn publish(origin: &Origin) -> Program {
    publish_for(origin, SECONDS)
}

fn publish_for(origin: &Origin, seconds: &str) -> Program {
    Program::start(
        Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error"])
            .args(["-re", "-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"])
            .args(["-re", "-f", "lavfi", "-i", "sine", "-t", seconds])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"])
            .args(["-c:a", "aac", "-f", "flv", &origin.url("live/s")]),
    )
}

/// The time in ms and the checksum of each picture that ffmpeg decodes of `input`.
fn decoded(input: &str) -> Vec<(i64, String)> {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-copyts"])
        .args(["-i", input, "-map", "0:v", "-fps_mode", "passthrough"])
        .args(["-enc_time_base:v", "1:1000", "-f", "framecrc", "-"]);
    let text = output(&mut command);
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    let frames = frames.map(|line| {
        let columns: Vec<_> = line.split(',').map(str::trim).collect();
        (columns[2].parse().unwrap(), columns[5].to_owned())
    });
    frames.collect()
}

#[test]
fn ffmpeg_decodes_the_publishers_pictures_at_the_publishers_times() {
    require_ffmpeg();
    for container in CONTAINERS {
        let origin = origin(container);
        let rtmp = origin.url("live/s");
        let by_rtmp = thread::spawn(move || decoded(&rtmp));
        let url = origin.hls("live/s");
        let by_hls = thread::spawn(move || decoded(&url));
        let mut publisher = publish(&origin);
        assert!(publisher.wait().success());
        let known: HashSet<_> = by_rtmp.join().unwrap().into_iter().collect();
        let mut pictures = by_hls.join().unwrap();
        if !container.contains("fmp4") && !container.contains("latency") {
            // MPEG-TS begins later: its clock may not be negative.
            pictures
                .iter_mut()
                .for_each(|(time, _)| *time -= TS_OFFSET_MS);
        }
        assert!(pictures.len() >= 50, "{container}: {}", pictures.len());
        for picture in &pictures {
            assert!(known.contains(picture), "{container}: {picture:?}");
        }
        let times: Vec<_> = pictures.iter().map(|(time, _)| *time).collect();
        assert!(times.is_sorted(), "{container}: {times:?}");
    }
}

/// Waits until the playlist lists this many segments.
fn wait_for_segments(url: &str, count: usize) {
    let fetch = |url: &str| output(Command::new("curl").args(["--silent", "--fail", url]));
    let multivariant = fetch(url);
    let media = url.replace("s.m3u8", multivariant.lines().last().unwrap());
    wait_for("segments", || {
        let listed = fetch(&media).matches("#EXTINF:").count();
        (listed >= count).then_some(())
    });
}

#[test]
fn gstreamer_plays() {
    require_ffmpeg();
    require("curl", &["--version"]);
    require_gstreamer(&["playbin3", "hlsdemux2", "h264parse"]);
    // GStreamer 1.22 fails at fragmented MP4 that is encrypted; ffmpeg and mpv play it.
    let is_played = |it: &&str| !(it.contains("fmp4") && it.contains("keys"));
    for container in CONTAINERS.into_iter().filter(is_played) {
        let origin = origin(container);
        let _publisher = publish_for(&origin, "600");
        // Its demuxer waits for ever where a playlist begins with one segment.
        wait_for_segments(&origin.hls("live/s"), 5);
        let mut player = Program::start(
            Command::new("gst-launch-1.0")
                .args(["-q", "playbin3", &format!("uri={}", origin.hls("live/s"))])
                .args([
                    "video-sink=fakesink num-buffers=40",
                    "audio-sink=fakesink num-buffers=40",
                ]),
        );
        assert!(player.wait().success(), "{container}");
    }
}

#[test]
fn mpv_plays_to_the_end() {
    require_ffmpeg();
    require("mpv", &["--version"]);
    for container in CONTAINERS {
        let origin = origin(container);
        let mut player = Program::start(
            Command::new("mpv")
                .args(["--no-config", "--really-quiet", "--vo=null", "--ao=null"])
                .args(["--ytdl=no", &origin.hls("live/s")]),
        );
        let _publisher = publish(&origin);
        assert!(player.wait().success(), "{container}");
    }
}

#[test]
fn curl_fetches_playlists_and_segments_over_one_connection() {
    require_ffmpeg();
    require("curl", &["--version"]);
    let origin = origin("");
    let _publisher = publish(&origin);
    let url = origin.hls("live/s");
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        output(
            command
                .args(["--silent", "--show-error", "--fail"])
                .args(arguments),
        )
    };
    let beside = |text: &str| {
        let name = text.lines().rfind(|line| !line.starts_with('#')).unwrap();
        url.replace("s.m3u8", name)
    };
    let media = beside(&curl(&[&url]));
    let segment = beside(&curl(&[&media]));
    let status = "%{http_code} %{num_connects}\n";
    let write_out = ["--write-out", status, "--output", "/dev/null"];
    let of_two = curl(
        &[
            &write_out[..],
            &[&segment, "--next", "--silent", "--fail"],
            &write_out,
            &[&segment],
        ]
        .concat(),
    );
    assert_eq!(of_two, "200 1\n200 0\n");
    let part = curl(&[
        "--range",
        "0-187",
        "--write-out",
        "%{http_code} %{size_download}",
        "--output",
        "/dev/null",
        &segment,
    ]);
    assert_eq!(part, "206 188");
}
