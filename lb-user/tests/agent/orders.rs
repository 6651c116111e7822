//! Orders and requests of an operator's on the command line and over HTTP.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::network::{Network, VIP, python};
use super::{Agent, Process, both_servers, configuration, server, wait_for};

/// The address of the agent's HTTP server, on the director.
const HTTP: &str = "127.0.0.1:9101";

/// Opens connections from the client to the virtual address and keeps them;
/// returns once all are there.
pub(crate) fn connect(network: &Network, count: usize) -> Process {
    const PROGRAM: &str = "
import resource, socket, sys
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = [socket.create_connection((sys.argv[1], 1935), 20) for _ in range(int(sys.argv[2]))]
print('connected', flush=True)
sys.stdin.read()
";
    let count = count.to_string();
    let process = network.start_dialogue("client", python(PROGRAM, &[VIP, &count]));
    let mut line = String::new();
    let stdout = process.take_stdout().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("read");
    assert_eq!(line, "connected\n");
    process
}

/// Lines of JSON.
fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The connections or persistent clients that `words` select.
fn entries(agent: &Agent, words: &[&str]) -> Vec<Value> {
    let all = [&["list", "--json"], words].concat();
    let output = agent.command(&all);
    assert!(output.status.success(), "{output:?}");
    lines(&output.stdout)
}

/// The answer at a path, over HTTP.
fn get(network: &Network, path: &str) -> Value {
    let url = format!("http://{HTTP}{path}");
    let text = network.stdout("director", &["curl", "-sSg", &url]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
}

/// All entries of an API, page by page, and how many pages there were.
fn pages(network: &Network, path: &str) -> (Vec<Value>, usize) {
    let (mut entries, mut count) = (Vec::new(), 0);
    let mut from = String::new();
    loop {
        let page = get(network, &format!("{path}{from}"));
        count += 1;
        entries.extend(page["entries"].as_array().expect("entries").iter().cloned());
        let Some(next) = page["next"].as_str() else {
            return (entries, count);
        };
        from = format!("&from={next}");
    }
}

/// The fields that tell entries from each other.
fn clients(entries: &[Value]) -> BTreeSet<String> {
    let clients = entries.iter().map(|entry| entry["client"].to_string());
    clients.collect()
}

#[test]
#[ignore = "needs root"]
fn connections_are_listed_whole_by_the_command_line_and_page_by_page_over_http() {
    const CONNECTIONS: usize = 600;
    let network = Network::new();
    let _servers = [network.hold("edge1"), network.hold("edge2")];
    let configuration = configuration(&format!(
        "persistence_timeout 50
        {}{}",
        server("172.16.1.211"),
        server("172.16.1.207")
    ));
    let agent = Agent::start_with(&network, &configuration, &["--http", HTTP]);
    agent.wait_for_states(&["up", "up"]);
    let _connected = connect(&network, CONNECTIONS);

    let all = wait_for("all connections", || {
        let all = entries(&agent, &["-c", "--state", "established"]);
        (all.len() == CONNECTIONS).then_some(all)
    });
    assert_eq!(clients(&all).len(), CONNECTIONS, "each once");
    // One client: persistence keeps it at one server.
    let serving = all[0]["server"].as_str().expect("a server");
    let idle = match serving {
        "172.16.1.211:1935" => "172.16.1.207",
        _ => "172.16.1.211",
    };
    let count = |words: &[&str]| entries(&agent, words).len();
    assert_eq!(count(&["-c", "--server", serving]), CONNECTIONS);
    assert_eq!(count(&["-c", "--server", idle]), 0);
    assert_eq!(count(&["-c", "--client", "172.16.1.0/24"]), CONNECTIONS);
    assert_eq!(count(&["-c", "--client", "172.16.2.0/24"]), 0);
    assert_eq!(count(&["-c", "--service", VIP]), CONNECTIONS);
    assert_eq!(count(&["-c", "--service", "172.16.1.200:1936"]), 0);
    let templates = entries(&agent, &["-p"]);
    assert_eq!(templates.len(), 1, "{templates:?}");
    assert_eq!(templates[0]["client"], "172.16.1.50");
    assert_eq!(templates[0]["server"], serving);
    assert_eq!(count(&["-p", "--server", idle]), 0);

    let text = agent.command(&["list", "-c", "--server", serving]).stdout;
    let text = String::from_utf8(text).expect("UTF-8");
    assert_eq!(text.lines().count(), CONNECTIONS + 1, "and a heading");
    assert!(text.starts_with("Prot Expires State"), "{text}");

    let (found, count) = pages(&network, "/api/v1/connections?limit=50&state=ESTABLISHED");
    assert_eq!(clients(&found), clients(&all));
    assert_eq!(found.len(), CONNECTIONS, "each once");
    assert!(count >= 3, "in {count} pages");
    let selected = format!("/api/v1/connections?limit=50&server={idle}");
    assert_eq!(pages(&network, &selected).0, Vec::<Value>::new());
    let (templates, _) = pages(&network, "/api/v1/persistence?limit=1");
    assert_eq!(templates.len(), 1);
    let served = get(&network, "/api/v1/services");
    assert_eq!(served["services"][0]["scheduler"], "rr");
}

#[test]
#[ignore = "needs root"]
fn drain_with_wait_counts_down_until_the_last_connection_has_gone() {
    let network = Network::new();
    let _server = network.hold("edge1");
    let agent = Agent::start(&network, &configuration(&server("172.16.1.211")));
    agent.wait_for_states(&["up"]);
    let mut connected = vec![connect(&network, 1), connect(&network, 1)];
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-user"));
    command
        .args(["drain", "--wait", "172.16.1.211", "--socket"])
        .arg(agent.directory.path().join("agent.sock"))
        .stderr(Stdio::piped());
    let drain = network.start("director", command);
    let said = BufReader::new(drain.take_stderr().expect("piped"));
    for (line, left) in said.lines().zip([2, 1, 0]) {
        let line = line.expect("read");
        assert_eq!(line, format!("{left} connection(s) left"));
        if let Some(connection) = connected.pop() {
            connection.kill().expect("it runs");
        }
    }
    assert!(drain.wait().expect("it ends").success());
    assert_eq!(agent.states(), ["quiesced"]);
}

#[test]
#[ignore = "needs root"]
fn a_persistent_client_leaves_a_drained_server_only_with_drop_templates() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let configuration = configuration(&format!(
        "persistence_timeout 50
        {}{}",
        server("172.16.1.211"),
        server("172.16.1.207")
    ));
    let agent = Agent::start(&network, &configuration);
    agent.wait_for_states(&["up", "up"]);
    let ask = || network.answer_at(VIP);
    let at_first = ask();
    let (address, other) = match at_first.as_str() {
        "edge1" => ("172.16.1.211", "edge2"),
        _ => ("172.16.1.207", "edge1"),
    };
    let order = |words: &[&str]| {
        let output = agent.command(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
    };
    order(&["drain", address]);
    assert_eq!(ask(), at_first, "as with IPVS at weight 0");
    order(&["drain", "--drop-templates", address]);
    assert_eq!(ask(), other);
    order(&["undrain", address]);
    assert_eq!(ask(), other, "it is the other's client now");
}

#[test]
#[ignore = "needs root"]
fn weight_and_disable_do_what_they_say_until_undrain() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);
    let first = || agent.list().expect("the agent answers")["services"][0]["servers"][0].clone();
    let order = |words: &[&str]| {
        let output = agent.command(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    order(&["weight", "172.16.1.211", "5"]);
    assert_eq!(
        (&first()["weight"], &first()["state"]),
        (&5.into(), &"up".into())
    );
    order(&["weight", "172.16.1.211:1935", "0"]);
    assert_eq!(first()["state"], "quiesced");
    order(&["undrain", "172.16.1.211"]);
    assert_eq!(
        (&first()["weight"], &first()["state"]),
        (&1.into(), &"up".into())
    );

    // Of two connections `rr` gives one to each.
    let _connected = connect(&network, 2);
    wait_for("a connection at the first server", || {
        (first()["active_connections"] == 1).then_some(())
    });
    order(&["disable", "172.16.1.211"]);
    let disabled = first();
    assert_eq!(disabled["state"], "disabled");
    assert_eq!(disabled["reason"], "disabled by the operator");
    wait_for("its viewer is told", || {
        (first()["connections_reset"] == 1).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(network.answer_at(VIP), "edge2");
    }
    let text = String::from_utf8(agent.command(&["list"]).stdout).expect("UTF-8");
    assert!(text.contains("disabled by the operator"), "{text}");
    order(&["undrain", "172.16.1.211"]);
    assert_eq!(agent.states(), ["up", "up"]);
}
