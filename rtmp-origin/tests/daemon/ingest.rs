//! Streams that the origin fetches by itself: from cameras, files and other servers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use netbed::local::{
    CAMERA_B_FRAMES, CAMERA_H264, CAMERA_H265, ChildGuard, camera, ffmpeg, free_address, push,
};
use netbed::wait_for;
use nix::sys::signal::Signal;

use crate::{Origin, pull, read, text};

/// An origin with a log, an HTTP API, and these directives in its default vhost.
pub(crate) struct Fetching {
    pub(crate) origin: Origin,
    api: SocketAddr,
}

impl Fetching {
    pub(crate) fn start(vhost: &str) -> Self {
        Self::start_with(vhost, |_| {})
    }

    /// `prepare` fills the directory that the origin is started in.
    pub(crate) fn start_with(vhost: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let api = free_address();
        let api_flag = api.to_string();
        let arguments = ["-c", "origin.conf", "--http-api", &api_flag];
        let origin = Origin::start_with(&arguments, |command| {
            let directory = command.get_current_dir().unwrap().to_owned();
            std::fs::write(directory.join("origin.conf"), conf(vhost)).unwrap();
            prepare(&directory);
        });
        Self { origin, api }
    }

    pub(crate) fn log(&self) -> String {
        read(&self.origin.path("log"))
    }

    /// Waits until the log has this text `count` times.
    pub(crate) fn wait_for_log(&self, text: &str, count: usize) {
        wait_for(format!("`{text}` in the log"), || {
            self.log().matches(text).count() >= count
        });
    }

    /// Puts other directives in the default vhost.
    pub(crate) fn reload(&self, vhost: &str) {
        let before = self.log().matches("reloaded").count();
        std::fs::write(self.origin.path("origin.conf"), conf(vhost)).unwrap();
        self.origin.process.signal(Signal::SIGHUP);
        self.wait_for_log("reloaded", before + 1);
    }

    pub(crate) fn url(&self, stream: &str) -> String {
        format!("rtmp://{}/live/{stream}", self.origin.address)
    }

    /// The body of the answer to a request.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(self.api).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        text(&answer).split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    /// Waits until the only stream that is fetched is in this state.
    fn wait_for_state(&self, state: &str) {
        wait_for(format!("the state {state}"), || {
            let ingests = self.get("/api/v1/ingests");
            ingests.contains(&format!("\"state\":\"{state}\""))
        });
    }
}

fn conf(vhost: &str) -> String {
    format!(
        "srs_log_tank file; srs_log_file log; http_api {{ enabled on; }}
         vhost __defaultVhost__ {{ {vhost} }}"
    )
}

fn start_camera(address: SocketAddr, pipeline: &str, loss: u32) -> ChildGuard {
    ChildGuard::spawn(&mut camera(address, pipeline, loss, None))
}

/// An `ingest` of the camera at `address`, which takes it for lost after two seconds.
fn of_camera(address: SocketAddr, more: &str) -> String {
    format!(
        "ingest camera {{ enabled on; input {{ type rtsp; url rtsp://{address}/camera; timeout \
         2000; {more} }} }}"
    )
}

/// Plays a stream until a hundred packets have come; there are those of `kinds`, and their
/// times rise.
fn assert_plays(url: &str, kinds: &[&str]) {
    let packets = pull(url);
    assert!(packets.len() >= 100, "{url}: {} packets", packets.len());
    for kind in kinds {
        let times = packets.iter().filter(|packet| packet.0 == *kind);
        let times: Vec<i64> = times.map(|packet| packet.1).collect();
        assert!(times.len() > 10, "{url}: {} of {kind}", times.len());
        assert!(times.is_sorted_by(|a, b| a < b), "{url}: {times:?}");
    }
}

/// Decodes two seconds of a stream; returns what ffmpeg complains of, and the number of
/// pictures.
fn decode(url: &str) -> (String, usize) {
    let output = ffmpeg()
        .args("-rw_timeout 20000000 -i".split(' '))
        .args([url, "-map", "0:v", "-t", "2", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg is needed for this test");
    let lines = text(&output.stdout);
    let pictures = lines.lines().filter(|line| !line.starts_with('#')).count();
    (text(&output.stderr), pictures)
}

#[test]
fn a_camera_with_a_password_is_played_and_its_password_is_told_to_nobody() {
    let address = free_address();
    let credentials = Some(("operator", "secret/word"));
    let _camera = ChildGuard::spawn(&mut camera(address, CAMERA_H264, 0, credentials));
    let origin = Fetching::start(&format!(
        "ingest camera {{ enabled on; input {{ type rtsp; \
         url rtsp://operator:secret%2Fword@{address}/camera; }} }}"
    ));
    origin.wait_for_state("running");
    assert_plays(&origin.url("camera"), &["video", "audio"]);
    let (complaints, pictures) = decode(&origin.url("camera"));
    assert_eq!(complaints, "");
    assert!(pictures > 30, "{pictures} pictures");
    let ingests = origin.get("/api/v1/ingests");
    assert!(
        ingests.contains(&format!("\"url\":\"rtsp://{address}/camera\"")),
        "{ingests}"
    );
    assert!(ingests.contains("\"by\":\"rtsp\""), "{ingests}");
    let clients = origin.get("/api/v1/clients");
    for shown in [&ingests, &clients, &origin.get("/metrics"), &origin.log()] {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[test]
fn a_wrong_password_is_said_and_is_tried_again() {
    let address = free_address();
    let credentials = Some(("operator", "secret"));
    let _camera = ChildGuard::spawn(&mut camera(address, CAMERA_H264, 0, credentials));
    let origin = Fetching::start(&format!(
        "ingest camera {{ enabled on; input {{ type rtsp; url rtsp://operator:hidden@{address}/camera; }} }}"
    ));
    origin.wait_for_log("401 response to DESCRIBE", 1);
    wait_for("another attempt", || {
        origin.get("/api/v1/ingests").contains("\"attempts\":3")
    });
    assert!(!origin.log().contains("hidden"), "{}", origin.log());
    assert!(origin.get("/api/v1/ingests").contains("401"));
}

#[test]
fn a_camera_that_dies_or_falls_silent_is_asked_again() {
    let address = free_address();
    let mut camera = start_camera(address, CAMERA_H264, 0);
    let origin = Fetching::start(&of_camera(address, ""));
    assert_plays(&origin.url("camera"), &["video"]);
    // It dies.
    camera.0.kill().unwrap();
    camera.end();
    origin.wait_for_state("waiting");
    let camera = start_camera(address, CAMERA_H264, 0);
    origin.wait_for_state("running");
    assert_plays(&origin.url("camera"), &["video"]);
    // It falls silent, with its connections open.
    camera.signal(Signal::SIGSTOP);
    origin.wait_for_log("nothing has come for 2s", 1);
    camera.signal(Signal::SIGCONT);
    origin.wait_for_state("running");
    assert_plays(&origin.url("camera"), &["video"]);
}

#[test]
fn a_camera_that_reorders_pictures_is_played() {
    let address = free_address();
    let _camera = start_camera(address, CAMERA_B_FRAMES, 0);
    let origin = Fetching::start(&of_camera(address, ""));
    // The camera may have been asked before it listened.
    origin.wait_for_log("ingest camera: publish", 1);
    let (complaints, pictures) = decode(&origin.url("camera"));
    assert_eq!(complaints, "");
    assert!(pictures > 30, "{pictures} pictures");
    let output = ffmpeg()
        .args(["-i", &origin.url("camera")])
        .args("-c copy -frames:v 100 -copyts -f framecrc -".split(' '))
        .output()
        .expect("ffmpeg is needed for this test");
    let lines = text(&output.stdout);
    // Each line: the stream, the time when it is decoded, that when it is shown, and so on.
    let times: Vec<(i64, i64)> = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut fields = line.split(',').skip(1).map(|it| it.trim().parse().unwrap());
            (fields.next().unwrap(), fields.next().unwrap())
        })
        .collect();
    assert!(times.len() > 50, "{lines}");
    assert!(times.is_sorted_by_key(|it| it.0), "{lines}");
    assert!(!times.is_sorted_by_key(|it| it.1), "{lines}");
    let log = origin.log();
    assert_eq!(log.matches("ingest camera: publish").count(), 1, "{log}");
}

#[test]
fn datagrams_that_are_lost_are_counted_and_the_stream_goes_on() {
    let address = free_address();
    let _camera = start_camera(address, CAMERA_H264, 25);
    let origin = Fetching::start(&of_camera(address, "transport udp;"));
    origin.wait_for_state("running");
    assert_plays(&origin.url("camera"), &["video", "audio"]);
    // What a decoder makes of pictures that refer to lost ones is its own affair.
    let (_, pictures) = decode(&origin.url("camera"));
    assert!(pictures > 25, "{pictures} pictures");
    wait_for("lost packets", || {
        !origin.get("/api/v1/ingests").contains("\"lost_packets\":0")
    });
    // It may have been asked before it listened; once it was found, it is not begun anew.
    let log = origin.log();
    assert_eq!(log.matches("ingest camera: publish").count(), 1, "{log}");
}

#[test]
fn h265_is_played_and_g711_left_out_unless_it_is_asked_for() {
    let address = free_address();
    let _camera = start_camera(address, CAMERA_H265, 0);
    let origin = Fetching::start(&of_camera(address, ""));
    origin.wait_for_log("audio in pcma is left out", 1);
    // ffmpeg of Debian 12 reads no Enhanced RTMP: the server's own view of the codec.
    wait_for("pictures in H.265", || {
        origin.get("/api/v1/streams").contains("HEVC")
    });
    origin.reload(&of_camera(address, "g711 on;"));
    wait_for("sound in G.711", || {
        let streams = origin.get("/api/v1/streams");
        streams.contains("HEVC") && streams.contains("\"audio\":{")
    });
}

/// Makes a file of two seconds, of the kind that its name says.
fn make_file(directory: &std::path::Path, name: &str) {
    let made = ffmpeg()
        .args("-f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine -t 2".split(' '))
        .args("-c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac".split(' '))
        .arg(directory.join(name))
        .status();
    assert!(made.expect("ffmpeg is needed for this test").success());
}

#[test]
fn a_file_is_repeated_and_its_time_goes_on() {
    let origin = Fetching::start_with(
        "ingest film { enabled on; input { type file; url film.flv; } \
         engine { output rtmp://127.0.0.1:[port]/live/film?vhost=[vhost]; } }",
        |directory| make_file(directory, "film.flv"),
    );
    origin.wait_for_state("running");
    // The file has about 140 packets: 300 are more than two turns.
    for _ in 0..3 {
        assert_plays(&origin.url("film"), &["video", "audio"]);
    }
    assert!(origin.get("/api/v1/ingests").contains("\"by\":\"file\""));
    assert!(!origin.log().contains("again in"), "{}", origin.log());
}

#[test]
fn another_servers_stream_is_pulled() {
    let source = Fetching::start("");
    let _publisher = push(&source.url("livestream"));
    let url = source.url("livestream");
    let origin = Fetching::start(&format!(
        "ingest relay {{ enabled on; input {{ type stream; url {url}; }} }}"
    ));
    assert_plays(&origin.url("relay"), &["video", "audio"]);
    assert!(origin.get("/api/v1/ingests").contains("\"by\":\"rtmp\""));
}

#[test]
fn a_reload_leaves_what_is_the_same_alone() {
    let film = |name: &str| {
        format!("ingest {name} {{ enabled on; input {{ type file; url film.flv; }} }}")
    };
    let origin = Fetching::start_with(&(film("a") + &film("b")), |directory| {
        make_file(directory, "film.flv");
    });
    origin.wait_for_log("publish live/a", 1);
    origin.wait_for_log("publish live/b", 1);
    origin.reload(&(film("a") + &film("c")));
    origin.wait_for_log("publish live/c", 1);
    origin.wait_for_log("published live/b", 1);
    let ingests = origin.get("/api/v1/ingests");
    for name in ["a", "c"] {
        assert!(
            ingests.contains(&format!("\"name\":\"{name}\"")),
            "{ingests}"
        );
    }
    assert!(!ingests.contains("\"name\":\"b\""), "{ingests}");
    assert!(
        !origin.log().contains("published live/a"),
        "{}",
        origin.log()
    );
}
