//! Words that say who gets a connection, from the file to the wire.

use std::io::BufReader;
use std::process::Stdio;

use super::network::{Network, VIP, python};
use super::{Agent, Process, wait_for, with_services};

/// A port beside the one that [`Network::serve`] serves.
const OTHER_PORT: u16 = 8080;

/// Two servers that are checked at port 1935, with `inside` the first.
fn servers(inside: &str) -> String {
    let check = "TCP_CHECK { connect_port 1935\n connect_timeout 1\n }";
    let timing = "delay_loop 0.2\n delay_before_retry 0.1\n warmup 0";
    format!(
        "{timing}
        real_server 172.16.1.211 0 {{ {check}\n {inside} }}
        real_server 172.16.1.207 0 {{ {check} }}"
    )
}

/// A server of connections to [`OTHER_PORT`] that says the host's name to each and
/// keeps it; returns once it listens.
fn serve_other_port(network: &Network, host: &str) -> Process {
    const PROGRAM: &str = "
import socket, sys
server = socket.create_server(('', int(sys.argv[2])))
print('listening', flush=True)
held = []
while True:
    held.append(server.accept()[0])
    held[-1].sendall(sys.argv[1].encode() + b'\\n')
";
    said(network, host, PROGRAM, host, "listening").0
}

/// A client of [`OTHER_PORT`] that says who has answered, and how it ends; returns
/// once there is an answer.
fn ask_other_port(network: &Network) -> (Process, String, BufReader<std::process::ChildStdout>) {
    const PROGRAM: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as s:
    s.settimeout(None)
    print(s.recv(64).decode().strip(), flush=True)
    try:
        s.recv(64)
        print('ended', flush=True)
    except ConnectionResetError:
        print('reset', flush=True)
";
    said(network, "client", PROGRAM, VIP, "")
}

/// Runs a program with `word` and the port as arguments until it has said a line,
/// which begins with `expected`.
fn said(
    network: &Network,
    host: &str,
    program: &str,
    word: &str,
    expected: &str,
) -> (Process, String, BufReader<std::process::ChildStdout>) {
    let port = OTHER_PORT.to_string();
    let mut command = python(program, &[word, &port]);
    command.stdout(Stdio::piped());
    let process = network.start(host, command);
    let mut output = BufReader::new(process.take_stdout().expect("piped"));
    let line = next_line(&mut output);
    assert!(line.starts_with(expected), "{line}");
    (process, line, output)
}

fn next_line(output: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    output.read_line(&mut line).expect("read");
    line.trim().to_owned()
}

#[test]
#[ignore = "needs root"]
fn a_service_of_all_ports_gives_a_client_one_server_and_tells_it_when_that_is_gone() {
    let network = Network::new();
    let _servers = ["edge1", "edge2"].map(|host| {
        let other = serve_other_port(&network, host);
        (network.serve(host), other)
    });
    let service = format!(
        "virtual_server {VIP} {{ protocol TCP\n lb_algo rr\n {} }}",
        servers("")
    );
    let agent = Agent::start(&network, &with_services(&service));
    agent.wait_for_states(&["up", "up"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(list["services"][0]["address"], format!("{VIP}:0"));
    assert_eq!(list["services"][0]["persistence"]["timeout_s"], 360);

    let own = network.answer_at(VIP);
    let (_asking, name, mut ends) = ask_other_port(&network);
    assert_eq!(name, own, "the same server at another port");
    let established = ["list", "-c", "--json", "--state", "established"];
    wait_for("the connection with its port", || {
        let output = agent.command(&established);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.contains(&format!("{VIP}:{OTHER_PORT}")).then_some(())
    });
    let address = match own.as_str() {
        "edge1" => "172.16.1.211",
        _ => "172.16.1.207",
    };
    let disabled = agent.command(&["disable", address]);
    assert!(disabled.status.success(), "{disabled:?}");
    assert_eq!(next_line(&mut ends), "reset", "from the port that it asked");
}

#[test]
#[ignore = "needs root"]
fn a_full_server_is_shown_and_passed_over_until_it_has_room() {
    let network = Network::new();
    let _servers = ["edge1", "edge2"].map(|host| serve_other_port(&network, host));
    let _checked = [network.hold("edge1"), network.hold("edge2")];
    let service = format!(
        "virtual_server {VIP} {OTHER_PORT} {{ protocol TCP\n lb_algo fo\n {} }}",
        servers("weight 2\n uthreshold 2\n lthreshold 1")
    );
    let agent = Agent::start(&network, &with_services(&service));
    agent.wait_for_states(&["up", "up"]);
    let asking: Vec<_> = (0..3).map(|_| ask_other_port(&network)).collect();
    let names: Vec<_> = asking.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["edge1", "edge1", "edge2"]);
    agent.wait_for_states(&["full", "up"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(
        list["services"][0]["servers"][0]["reason"],
        "no new connections before it has fewer than 1 (uthreshold 2)"
    );
    let drop_limit = format!(
        "virtual_server {VIP} {OTHER_PORT} {{ protocol TCP\n lb_algo fo\n {} }}",
        servers("weight 2")
    );
    std::fs::write(agent.file(), with_services(&drop_limit)).expect("written");
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.wait_for_states(&["up", "up"]);
    assert_eq!(ask_other_port(&network).1, "edge1");
}
