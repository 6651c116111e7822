//! `rtmp-origin top`, in a terminal and without one.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use netbed::local::{free_address, push};
use netbed::wait_for;
use tempfile::TempDir;

use crate::{Origin, origin, text};

/// An origin with an HTTP API that wants a password, its configuration, and the folder that
/// has it.
fn start() -> (Origin, String, TempDir) {
    let api = free_address();
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("origin.conf");
    let settings = format!(
        "http_api {{ enabled on; listen {api}; \
         auth {{ enabled on; username admin; password secret; }} }} vhost __defaultVhost__ {{ }}"
    );
    fs::write(&conf, settings).unwrap();
    let conf = conf.to_str().unwrap().to_owned();
    let origin = Origin::start(&["-c", &conf]);
    wait_for("the HTTP API", || listens(api));
    (origin, conf, directory)
}

fn listens(address: SocketAddr) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

/// `rtmp-origin top` in a terminal of this size.
struct Top {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    screen: vt100::Parser,
}

impl Top {
    fn start(conf: &str, rows: u16, columns: u16) -> Self {
        let top = format!(
            "stty rows {rows} cols {columns}; timeout --foreground 60 {} top -c {conf}",
            env!("CARGO_BIN_EXE_rtmp-origin")
        );
        // script(1) gives it a terminal.
        let mut process = Command::new("script")
            .args(["--quiet", "--return", "--command", &top, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: process.stdin.take().unwrap(),
            output: process.stdout.take().unwrap(),
            process,
            screen: vt100::Parser::new(rows, columns, 0),
        }
    }

    /// The lines of the terminal, as soon as one of them has `words`.
    fn lines_with(&mut self, words: &str) -> Vec<String> {
        loop {
            let shown = self.screen.screen().contents();
            if shown.contains(words) {
                return shown.lines().map(|it| it.trim_end().to_owned()).collect();
            }
            let mut some = [0; 4096];
            let read = self.output.read(&mut some).unwrap();
            assert!(read > 0, "no `{words}`: {shown}");
            self.screen.process(&some[..read]);
        }
    }

    fn press(&mut self, key: &str) {
        self.input.write_all(key.as_bytes()).unwrap();
    }

    fn quit(mut self) {
        self.press("q");
        // What is still drawn would fill the pipe.
        self.output.read_to_end(&mut Vec::new()).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        // Errors do not matter: it has quit, unless the test has failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn top_draws_streams_and_viewers_on_a_terminal() {
    let (origin, conf, _directory) = start();
    let _encoder = push(&origin.url());
    let mut top = Top::start(&conf, 24, 80);
    let lines = top.lines_with("live/livestream ");
    assert!(lines[0].contains("1 of 1 streams live"), "{lines:#?}");
    assert!(
        lines[3].starts_with("Stream          Players Out Mb/s In Mb/s Video"),
        "{lines:#?}"
    );
    assert_eq!(lines[23], "q: quit   v: slowest viewers");
    // The second look tells rates.
    top.lines_with("▁");
    top.press("v");
    top.lines_with("Held by");
    top.quit();
    let mut narrow = Top::start(&conf, 24, 40);
    let lines = narrow.lines_with("live/livestream ");
    assert_eq!(lines[3], "Stream          Players Out Mb/s");
    narrow.quit();
}

#[test]
fn top_prints_lines_and_json_where_there_is_no_terminal() {
    let (origin, conf, _directory) = start();
    let _encoder = push(&origin.url());
    let once = |arguments: &[&str]| {
        let mut command = self::origin();
        command.args(["top", "--once"]).args(arguments);
        let output = command.output().unwrap();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    wait_for("the stream", || {
        once(&["-c", &conf]).1.contains("live/livestream ")
    });
    let (status, shown, _) = once(&["-c", &conf]);
    assert_eq!(status, Some(0));
    assert!(!shown.contains('\x1b'), "{shown}");
    let (_, json, _) = once(&["-c", &conf, "--json"]);
    assert!(json.contains("\"name\":\"livestream\""), "{json}");
    assert_eq!(json.lines().count(), 1, "{json}");
    let config = fs::read_to_string(&conf).unwrap();
    let address = config.split("listen ").nth(1).unwrap().split(';').next();
    let url = format!("http://{}", address.unwrap());
    let (status, _, error) = once(&[&url]);
    assert_eq!(status, Some(1));
    assert!(error.contains("another user and password"), "{error}");
    let password = std::path::Path::new(&conf).with_extension("password");
    fs::write(&password, "secret\n").unwrap();
    let file = password.to_str().unwrap();
    let (status, shown, error) = once(&[&url, "--username", "admin", "--password-file", file]);
    assert_eq!(status, Some(0), "{error}");
    assert!(shown.contains("live/livestream "), "{shown}");
}
