//! Players of HTTP-FLV and WebSocket-FLV: whole runs against the project's own
//! server, and against servers that do badly in a known way.

use crate::{origin::Origin, run::report, scripted::Scripted};

/// A run of players at this path of an origin that gathers or sends at once.
fn at_origin(vhost: &str, scheme: &str, more: &str) -> rtmp_load::Report {
    let origin = Origin::start(vhost);
    let url = format!("{scheme}://{}/live/s.flv", origin.http);
    let publish = format!(
        "--publish generated --publish-url {}",
        origin.publish_url("s")
    );
    report(&url, &format!("{publish} {more}"))
}

#[test]
fn players_of_both_protocols_get_every_frame_whole() {
    for vhost in [
        "min_latency on;",
        "min_latency off; play { mw_latency 100; }",
    ] {
        for scheme in ["http", "ws"] {
            let report = at_origin(vhost, scheme, "-n 8 --verify");
            assert!(report.is_healthy(), "{scheme}, {vhost}\n{report}");
            let frames = report.frames.as_ref().expect("frames were stamped");
            assert_eq!(
                (frames.lost, frames.repeated, frames.corrupt),
                (0, 0, 0),
                "{scheme}, {vhost}\n{report}"
            );
            assert_eq!(report.timestamps.players, 0, "{report}");
            assert_eq!(report.first_keyframe_ms.expect("keyframes came").count, 8);
            assert!(report.latency_ms.expect("latency was measured").count > 0);
        }
    }
}

#[test]
fn players_that_only_count_or_read_as_coroutines_are_healthy() {
    for more in ["--inspect-one-in 2", "--receiver coroutines"] {
        for scheme in ["http", "ws"] {
            let report = at_origin("min_latency on;", scheme, &format!("-n 4 {more}"));
            assert!(report.is_healthy(), "{scheme} {more}\n{report}");
        }
    }
}

#[test]
fn a_stream_that_is_not_there_fails_its_players_with_the_servers_words() {
    let server = Scripted::answers(|_| {
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nno stream\n".to_vec()
    });
    let report = report(&server.url("live/s.flv"), "-n 2");
    assert_eq!(report.players.failed, 2, "{report}");
    let causes: Vec<&String> = report.connections.ended.keys().collect();
    assert_eq!(causes, ["refused: 404 Not Found (no stream)"], "{report}");
}

#[test]
fn a_tag_whose_size_lies_fails_its_player() {
    let server = Scripted::answers(|_| {
        let mut stream = b"HTTP/1.1 200 OK\r\n\r\nFLV\x01\x01\0\0\0\x09\0\0\0\0".to_vec();
        stream.extend_from_slice(b"\x09\0\0\x02\0\0\0\0\0\0\0\x17\x01\0\0\0\x0e");
        stream
    });
    let report = report(&server.url("live/s.flv"), "-n 1");
    assert_eq!(report.players.failed, 1, "{report}");
    let cause = report.connections.ended.keys().next().expect("a cause");
    assert!(
        cause.contains("13 bytes and said that it had 14"),
        "{report}"
    );
}
