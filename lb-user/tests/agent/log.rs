//! Texts that others choose, in the log and in lists.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::director::Director;
use super::network::Network;
use super::{Process, configuration, wait_for};

/// Starts a server on a host's port 1935 that greets everybody with what should
/// pass for a line of the agent's, and waits until it listens.
fn greet(network: &Network, host: &str) -> Process {
    const PROGRAM: &str = "
import socket
server = socket.create_server(('', 1935))
while True:
    server.accept()[0].sendall(b'554 \\x1b[2Jno\\r[ERROR] forged by a server\\r\\n')
";
    network.start_server(host, PROGRAM, &[])
}

#[test]
#[ignore = "needs root"]
fn neither_a_server_nor_a_script_can_forge_a_line_or_steer_a_terminal() {
    let network = Network::new();
    let _server = greet(&network, "edge1");
    let director = Director::new(&network, "");
    let script = director.path("check");
    let text = "#!/bin/sh\nprintf '[ERROR] forged by a script\\n\\033cwell\\n' >&2\nexit 3\n";
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("it may be run");
    director.configure(&configuration(&format!(
        "real_server 172.16.1.211 1935 {{ SMTP_CHECK {{ }} }}
        real_server 172.16.1.207 1935 {{ MISC_CHECK {{ misc_path {} }} }}",
        script.display()
    )));
    let _agent = director.start(&[]);
    wait_for("both to be down", || {
        (director.states() == ["down", "down"]).then_some(())
    });
    let list = director.output(&["list"]);
    let list = String::from_utf8_lossy(&list.stdout);
    let log = director.log();
    let greeting = r"the greeting is `554 \u{1b}[2Jno\r[ERROR] forged by a server`, expected 220";
    for shown in [&*list, &log] {
        assert!(shown.contains(greeting), "{shown}");
        assert!(!shown.contains(['\x1b', '\r']), "{shown}");
    }
    for words in ["[ERROR] forged by a script\n", "\\u{1b}cwell\n"] {
        let line = format!("INFO ] script `{}` wrote: {words}", script.display());
        wait_for(&line, || director.log().contains(&line).then_some(()));
    }
    let log = director.log();
    let forged = log.lines().filter(|line| line.starts_with("[ERROR]"));
    assert_eq!(forged.count(), 0, "{log}");
}
