//! The edge as a process, between an origin and real ffmpeg.

#[path = "../../../crates/rtmp-server/tests/common/server.rs"]
#[allow(dead_code, reason = "the tests of rtmp-server use the rest")]
mod server;

use std::net::TcpStream;
use std::process::{Command, Stdio};

use netbed::local::{ChildGuard, ffmpeg, free_address, push};
use netbed::wait_for;
use rtmp_server::config::Role;

use server::{Serving, any_port, configuration, serve};

/// The deployment's configuration, as it is.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/edge.conf");

fn edge() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rtmp-edge"))
}

#[test]
fn the_example_configuration_is_good() {
    let output = edge().args(["-t", "-c", EXAMPLE]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn a_check_says_which_vhosts_are_left_to_the_origin() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("both.conf");
    let text = "vhost here.example.com { mode remote; origin 127.0.0.1; }\n\
                vhost there.example.com { }\n";
    std::fs::write(&file, text).unwrap();
    let output = edge().arg("-t").arg("-c").arg(&file).output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    let expected = "both.conf:2: the vhost `there.example.com` names no `origin` to pull \
                    from: it is left to rtmp-origin\n";
    assert!(told.ends_with(expected), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn an_edge_without_origin_says_what_it_needs() {
    let output = edge().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("--origin HOST:PORT"), "{message}");
}

#[test]
fn several_viewers_of_an_edge_decode_what_was_pushed_to_the_origin() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _context = runtime.enter();
    let text = "vhost __defaultVhost__ { min_latency on; }";
    let config = configuration(Role::Origin, text);
    let Serving {
        server: origin,
        address: origin_address,
        ..
    } = serve(any_port(), Role::Origin, config);

    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let child = edge()
        .args([
            "--origin",
            &origin_address.to_string(),
            "--listen",
            &address.to_string(),
        ])
        .args(["--log-file", "edge.log"])
        .current_dir(&directory)
        .spawn();
    let _edge = ChildGuard(child.unwrap());
    wait_for("a listening edge", || TcpStream::connect(address).is_ok());

    let _publisher = push(&format!("rtmp://{origin_address}/live/livestream"));
    let url = format!("rtmp://{address}/live/livestream");
    let viewers: Vec<_> = (0..3)
        .map(|_| {
            ffmpeg()
                .args(["-rw_timeout", "30000000"])
                .args(["-i", &url, "-t", "2", "-map", "0:v", "-map", "0:a"])
                .args(["-f", "framecrc", "-"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    wait_for("a pull", || {
        !origin.streams().is_empty() && origin.streams()[0].players() > 0
    });
    for viewer in viewers {
        let output = viewer.wait_with_output().unwrap();
        let frames = String::from_utf8_lossy(&output.stdout);
        for stream in ["0,", "1,"] {
            let count = frames
                .lines()
                .filter(|line| line.starts_with(stream))
                .count();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(count > 20, "{count} frames of stream {stream} {errors}");
        }
        assert_eq!(origin.streams()[0].players(), 1, "more than one pull");
    }
}
