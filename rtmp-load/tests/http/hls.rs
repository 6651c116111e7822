//! Players of HLS: whole runs against segments and playlists that ffmpeg writes.

use crate::{
    files::{self, Packager},
    run::report,
    scripted::Scripted,
};

/// A run against what ffmpeg makes of the stream that is published meanwhile.
fn of_ffmpeg(more_of_ffmpeg: &str, more: &str) -> rtmp_load::Report {
    let packager = Packager::start(more_of_ffmpeg);
    let publish = format!("--publish generated --publish-url {}", packager.rtmp);
    let options = "-t 4 --lead 5 --timeout 60 --stall-ms 1500";
    report(&packager.url(), &format!("{publish} {options} {more}"))
}

#[test]
fn players_get_every_frame_of_both_containers() {
    for container in ["mpegts", "fmp4"] {
        let report = of_ffmpeg(&format!("-hls_segment_type {container}"), "-n 4 --verify");
        assert!(report.is_healthy(), "{container}\n{report}");
        let frames = report.frames.as_ref().expect("frames were stamped");
        assert_eq!(
            (frames.lost, frames.repeated, frames.corrupt),
            (0, 0, 0),
            "{container}\n{report}"
        );
        assert_eq!(report.timestamps.players, 0, "{container}\n{report}");
        let hls = report.hls.as_ref().expect("HLS was played");
        assert!(hls.answers > 0, "{container}\n{report}");
        let behind = hls.behind_ms.expect("pictures were shown");
        let latency = report.latency_ms.expect("latency was measured");
        assert!(behind.p50 >= latency.p50, "{container}\n{report}");
    }
}

#[test]
fn ranges_of_one_file_are_played() {
    for container in ["mpegts", "fmp4"] {
        let options = format!("-hls_segment_type {container} -hls_flags single_file");
        let report = of_ffmpeg(&options, "-n 2 --verify");
        assert!(report.is_healthy(), "{container}\n{report}");
    }
}

#[test]
fn players_that_only_count_are_healthy() {
    let report = of_ffmpeg("-hls_segment_type fmp4", "-n 4 --inspect-one-in 0");
    assert!(report.is_healthy(), "{report}");
    assert_eq!(report.players.inspected, 0);
}

#[test]
fn a_playlist_that_does_not_go_on_starves_its_players() {
    // Half a second of media, and nothing after it.
    let server = Scripted::answers(|request| match request.target.as_str() {
        "/live/s.m3u8" => files::ok(
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:0.5,\n0.ts\n",
        ),
        _ => files::ok(&[]),
    });
    let report = report(&server.url("live/s.m3u8"), "-n 2");
    assert_eq!(report.players.starved, 2, "{report}");
}
