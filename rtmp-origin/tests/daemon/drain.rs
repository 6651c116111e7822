//! SIGQUIT: viewers may finish, and nobody new is taken.

use std::io::{Read, Write};
use std::net::TcpStream;

use netbed::local::{free_address, play, push};
use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::Signal;

use crate::{Origin, pull, read};

#[test]
fn a_drain_waits_for_viewers_and_takes_nobody_new() {
    let mut origin = Origin::start(&["--log-file", "origin.log", "--min-latency", "on"]);
    let _publisher = push(&origin.url());
    let viewer = play(&origin.url());
    let log = || read(&origin.path("origin.log"));
    wait_for("a viewer", || log().contains("play live/livestream"));
    origin.process.signal(Signal::SIGQUIT);
    wait_for("the drain", || log().contains("draining"));
    wait_for("a closed port", || {
        TcpStream::connect(origin.address).is_err()
    });
    assert!(
        origin.process.0.try_wait().unwrap().is_none(),
        "it did not wait for its viewer"
    );
    drop(viewer);
    assert!(origin.process.end().success());
}

#[test]
fn http_flv_is_served_and_drained_like_rtmp() {
    let http = free_address();
    let http_server = format!("http_server {{ enabled on; listen {http}; }}");
    let arguments = ["--log-file", "origin.log", "--min-latency", "on"];
    let served = ["--set", &http_server, "--set", "http_remux { enabled on; }"];
    let mut origin = Origin::start(&[&arguments[..], &served].concat());
    let _publisher = push(&origin.url());
    let url = format!("http://{http}/live/livestream.flv");
    let packets = pull(&url);
    assert_eq!(packets.len(), 100, "{packets:?}");
    assert!(packets.iter().all(|packet| packet.0 != "subtitle"));
    let viewer = play(&url);
    let log = || read(&origin.path("origin.log"));
    wait_for("both players", || {
        log().matches("play live/livestream by HTTP-FLV").count() == 2
    });
    wait_for("the end of the first", || {
        log().contains("played live/livestream: ")
    });
    origin.process.signal(Signal::SIGQUIT);
    wait_for("a closed port", || TcpStream::connect(http).is_err());
    assert!(
        origin.process.0.try_wait().unwrap().is_none(),
        "it did not wait for its viewer"
    );
    drop(viewer);
    assert!(origin.process.end().success());
}

/// The answer to a GET over a connection that stays; its head and its body.
fn get(connection: &mut TcpStream, target: &str) -> (String, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut input = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        let count = connection.read(&mut bytes).unwrap();
        assert!(count > 0, "no answer to {target}");
        input.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&input).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split("Content-Length: ").nth(1).expect("a length");
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() == length {
            return (head.to_owned(), body.to_owned());
        }
    }
}

#[test]
fn a_drain_lets_viewers_by_hls_go_on_and_takes_nobody_new() {
    for low_latency in ["", "hls_low_latency on; hls_part 200;"] {
        let http = free_address();
        let http_server = format!("http_server {{ enabled on; listen {http}; }}");
        let hls = format!("hls {{ enabled on; hls_fragment 1; {low_latency} }}");
        let mut origin = Origin::start(&[
            "--log-file",
            "origin.log",
            "--min-latency",
            "on",
            "--set",
            &http_server,
            "--set",
            &hls,
        ]);
        let _publisher = push(&origin.url());
        let mut viewer = TcpStream::connect(http).unwrap();
        viewer.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let mut other = TcpStream::connect(http).unwrap();
        other.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let begin = "/live/livestream.m3u8";
        let (head, multivariant) = get(&mut viewer, begin);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let media = format!("/live/{}", multivariant.lines().last().unwrap());
        get(&mut viewer, &media);
        // It accepts the other connection before the port is closed.
        let (head, _) = get(&mut other, "/live/livestream-1.key");
        assert!(head.starts_with("HTTP/1.1 40"), "{head}");
        origin.process.signal(Signal::SIGQUIT);
        wait_for("a closed port", || TcpStream::connect(http).is_err());
        let sequence = |playlist: &str| {
            let line = playlist
                .lines()
                .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
            let first: u64 = line.unwrap().parse().unwrap();
            first + playlist.matches("#EXTINF").count() as u64
        };
        let (_, before) = get(&mut viewer, &media);
        wait_for("the playlist to go on", || {
            let (head, later) = get(&mut viewer, &media);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            sequence(&later) > sequence(&before)
        });
        let (head, _) = get(&mut other, begin);
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert!(
            origin.process.0.try_wait().unwrap().is_none(),
            "it did not wait for its viewer"
        );
        // The session ends some time after its last request, and the drain with it.
        drop((viewer, other));
        assert!(origin.process.end().success());
        let log = read(&origin.path("origin.log"));
        assert!(log.contains("played live/livestream by HLS"), "{log}");
        assert!(log.contains("no request any more"), "{log}");
    }
}

#[test]
fn a_drain_ends_when_its_time_is_over_though_viewers_stay() {
    let mut origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        "drain_timeout 0.5",
    ]);
    let _publisher = push(&origin.url());
    let mut viewer = play(&origin.url());
    let file = origin.path("origin.log");
    let log = || read(&file);
    wait_for("a viewer", || log().contains("play live/livestream"));
    assert!(viewer.0.try_wait().unwrap().is_none(), "it has left");
    origin.process.signal(Signal::SIGQUIT);
    assert!(origin.process.end().success());
    let log = log();
    assert!(log.contains("viewers may finish for 500ms"), "{log}");
    assert!(log.contains("played live/livestream"), "{log}");
    assert!(log.contains("frames, 0 skips; dismissed"), "{log}");
    viewer.end();
}
