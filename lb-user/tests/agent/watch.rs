//! `lb-user watch`, in a terminal and without one.

use std::process::Command;

use crate::network::Network;
use crate::{Agent, both_servers};

/// `lb-user watch` in a terminal of this size: what it draws, and its keys.
struct Watch {
    process: netbed::Process,
    output: std::process::ChildStdout,
    input: std::process::ChildStdin,
    screen: vt100::Parser,
    drawn: Vec<u8>,
}

impl Watch {
    fn start(network: &Network, agent: &Agent, rows: u16, columns: u16) -> Self {
        let watch = format!(
            "stty rows {rows} cols {columns}; timeout --foreground 60 {} watch --socket {}",
            env!("CARGO_BIN_EXE_lb-user"),
            agent.directory.path().join("agent.sock").display()
        );
        // script(1) gives it a terminal.
        let mut command = Command::new("script");
        command
            .args(["--quiet", "--return", "--command", &watch, "/dev/null"])
            .env("TERM", "xterm");
        let process = network.start_dialogue("director", command);
        Self {
            output: process.take_stdout().expect("piped"),
            input: process.take_stdin().expect("piped"),
            process,
            screen: vt100::Parser::new(rows, columns, 0),
            drawn: Vec::new(),
        }
    }

    /// The lines of the terminal, as soon as one of them has `words`.
    fn lines_with(&mut self, words: &str) -> Vec<String> {
        loop {
            let text = self.screen.screen().contents();
            if text.contains(words) {
                return text.lines().map(|it| it.trim_end().to_owned()).collect();
            }
            assert!(self.read(), "no `{words}`: {text}");
        }
    }

    /// Reads some of what is drawn; false at the end.
    fn read(&mut self) -> bool {
        let mut some = [0; 4096];
        let read = std::io::Read::read(&mut self.output, &mut some).expect("it can be read");
        self.screen.process(&some[..read]);
        self.drawn.extend_from_slice(&some[..read]);
        read > 0
    }

    fn press(&mut self, keys: &str) {
        std::io::Write::write_all(&mut self.input, keys.as_bytes()).expect("written");
    }

    /// Quits, and expects the terminal as it was.
    fn quit(mut self) {
        self.press("q");
        while self.read() {}
        let drawn = String::from_utf8_lossy(&self.drawn);
        assert!(drawn.contains("\x1b[?1049l"), "the other screen is left");
        let status = self.process.wait().expect("watch quits");
        assert!(status.success(), "{status}");
    }
}

#[test]
#[ignore = "needs root"]
fn watch_draws_on_a_terminal_and_leaves_it_as_it_was() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);
    let mut watch = Watch::start(&network, &agent, 24, 80);
    let lines = watch.lines_with("172.16.1.211:1935 up");
    let headings = "Service / server      State     Active Conn/s  Pkt/s   Mbit/s";
    assert!(lines.iter().any(|line| line == headings), "{lines:#?}");
    assert!(lines[23].starts_with("q: quit"), "{lines:#?}");
    // The agent remembers the rates of five seconds ago.
    let lines = watch.lines_with("▁");
    assert!(
        lines.iter().all(|line| line.chars().count() <= 80),
        "{lines:#?}"
    );
    assert!(agent.command(&["drain", "172.16.1.211"]).status.success());
    watch.lines_with("drained");
    watch.press("s");
    let lines = watch.lines_with("Server / service");
    assert!(
        lines.iter().any(|line| line.starts_with("172.16.1.211 ")),
        "{lines:#?}"
    );
    watch.quit();

    let mut narrow = Watch::start(&network, &agent, 24, 40);
    let lines = narrow.lines_with(" -> 172.16.1.211:1935 quiesced");
    let headings = "Service / server      State      Mbit/s";
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with(headings.trim_end())),
        "{lines:#?}"
    );
    narrow.quit();
}

#[test]
#[ignore = "needs root"]
fn watch_prints_lines_and_json_where_there_is_no_terminal() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);
    let printed = agent.command(&["watch", "--once"]);
    let said = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(printed.status.success(), "{said}");
    assert!(said.contains("\n -> 172.16.1.211:1935 up"), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
    let printed = agent.command(&["watch", "--once", "--json"]);
    let said = String::from_utf8_lossy(&printed.stdout).into_owned();
    let watched: serde_json::Value = serde_json::from_str(&said).expect("one object");
    assert_eq!(
        watched["services"][0]["servers"][0]["state"], "up",
        "{said}"
    );
    assert!(watched["history"].is_array(), "{said}");
}
