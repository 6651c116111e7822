//! Lines of the log: nobody forges one, and probes are not worth one.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;

use netbed::local::{ChildGuard, ffmpeg, free_address};
use netbed::wait_for;
use nix::sys::signal::Signal;

use crate::{Origin, answers, origin, read};

/// Text of a web server and of a client that looks like a log line.
const FORGED: &str = "no\n2026-01-01T00:00:00.000Z INFO  c9 192.0.2.1:5: publish live/forged";

/// The URL of a web server that answers each request with [`FORGED`].
fn forging_web_server() -> String {
    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in web.incoming() {
            let mut socket = socket.unwrap();
            let mut asked = Vec::new();
            // The question is a JSON object, the last of which is its brace.
            while asked.last() != Some(&b'}') {
                let mut part = [0; 4096];
                let count = socket.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..count]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                FORGED.len()
            );
            socket.write_all((head + FORGED).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn what_others_say_makes_no_lines_in_the_log() {
    let hook = format!(
        "http_hooks {{ enabled on; on_publish {}; }}",
        forging_web_server()
    );
    let arguments = [
        "--log-file",
        "origin.log",
        "--log-level",
        "debug",
        "--set",
        &hook,
    ];
    let mut origin = Origin::start(&arguments);
    let tc_url = format!("rtmp://{}/live{FORGED}", origin.address);
    let pushed = ffmpeg()
        .args("-f lavfi -i sine=duration=1 -c:a aac -f flv -rtmp_tcurl".split(' '))
        .args([&tc_url, &origin.url()])
        .stderr(Stdio::null())
        .status();
    assert!(!pushed.unwrap().success(), "it was let in");
    origin.process.signal(Signal::SIGTERM);
    origin.process.end();
    let log = read(&origin.path("origin.log"));
    let told = |line: &&str| line.contains("publish live/forged");
    assert_eq!(log.lines().filter(told).count(), 2, "{log}");
    // It says whom the web server was asked about.
    assert!(
        log.contains(" 127.0.0.1: on_publish: the hook http://127.0.0.1:"),
        "{log}"
    );
    let forged = |line: &str| line.starts_with("2026-01-01");
    assert!(!log.lines().any(forged), "{log}");
}

#[test]
fn probes_of_the_port_are_not_worth_a_line_but_rust_log_shows_them() {
    for (rust_log, shown) in [(None, false), (Some("rtmp_server=debug"), true)] {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = origin();
        command.args(["--listen", &address.to_string(), "--log-file", "origin.log"]);
        if let Some(rust_log) = rust_log {
            command.env("RUST_LOG", rust_log);
        }
        let mut process = ChildGuard(command.current_dir(&directory).spawn().unwrap());
        wait_for("a serving origin", || answers(address).is_ok());
        drop(TcpStream::connect(address).unwrap());
        let log = || read(&directory.path().join("origin.log"));
        let told = || log().contains("closed by the peer");
        if shown {
            wait_for("a line about the probe", told);
        } else {
            // One that came later has been served: the probe had its time.
            wait_for("another answer", || answers(address).is_ok());
        }
        process.signal(Signal::SIGTERM);
        process.end();
        assert_eq!(told(), shown, "{}", log());
    }
}
