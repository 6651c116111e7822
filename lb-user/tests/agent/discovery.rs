//! Real servers that sources name: files, DNS, orders.

use std::path::Path;
use std::process::Command;

use netbed::{Process, wait_for};
use serde_json::Value;

use super::director::Director;
use super::network::{Network, VIP};
use super::{Agent, configuration, fs};

pub(crate) const EDGE1: &str = "172.16.1.211";
pub(crate) const EDGE2: &str = "172.16.1.207";

/// The one service, with a source instead of real servers.
pub(crate) fn with_source(source: &str) -> String {
    configuration(&format!(
        "discover {{ {source}
        }}
        real_server_template {{
            weight 3
            TCP_CHECK {{ connect_timeout 1 }}
        }}"
    ))
}

/// The addresses of the servers that are up, sorted.
pub(crate) fn up(list: Option<Value>) -> Vec<String> {
    let list = list.unwrap_or_default();
    let servers = list["services"][0]["servers"].as_array().cloned();
    let mut servers: Vec<String> = servers
        .unwrap_or_default()
        .iter()
        .filter(|server| server["state"] == "up")
        .map(|server| server["address"].to_string().replace('"', ""))
        .collect();
    servers.sort();
    servers
}

pub(crate) fn wait_for_servers(agent: &Agent, expected: &[&str]) {
    let mut expected: Vec<String> = expected.iter().map(|it| format!("{it}:1935")).collect();
    expected.sort();
    wait_for(format!("the servers {expected:?}"), || {
        up(agent.list()) == expected
    });
}

/// What is wrong with the one source.
pub(crate) fn error(agent: &Agent) -> Option<String> {
    let list = agent.list()?;
    list["sources"][0]["error"].as_str().map(str::to_owned)
}

fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("the new file is written");
    fs::rename(new, file).expect("it takes the place of the old one");
}

#[test]
#[ignore = "needs root"]
fn servers_of_a_file_come_and_go_with_it_and_stay_while_it_makes_no_sense() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("servers");
    replace(&file, &format!("{EDGE1}\n"));
    let agent = Agent::start(&network, &with_source(&format!("file {}", file.display())));
    wait_for_servers(&agent, &[EDGE1]);
    replace(
        &file,
        &format!(r#"["{EDGE1}", {{"address": "{EDGE2}", "weight": 7}}]"#),
    );
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    let list = agent.list().expect("the agent answers");
    let servers = list["services"][0]["servers"].as_array().expect("servers");
    let weights: Vec<&Value> = servers.iter().map(|server| &server["weight"]).collect();
    assert_eq!(weights, [7, 3], "in the order of their addresses: {list}");
    replace(&file, "no servers here\n");
    wait_for("the mistake", || {
        error(&agent).is_some_and(|error| error.starts_with("line 1: `no"))
    });
    assert_eq!(up(agent.list()).len(), 2);
    fs::remove_file(&file).expect("the file is removed");
    wait_for("its absence", || {
        error(&agent).is_some_and(|error| error.contains("No such file"))
    });
    assert_eq!(up(agent.list()).len(), 2);
    replace(&file, &format!("{EDGE2}\n"));
    wait_for_servers(&agent, &[EDGE2]);
    assert_eq!(error(&agent), None);
    // A server that cannot be one of this service: all stay as they are.
    replace(&file, &format!("{EDGE1}\n{VIP}\n"));
    wait_for("the refusal", || {
        error(&agent).is_some_and(|error| error.contains("is the virtual address itself"))
    });
    wait_for_servers(&agent, &[EDGE2]);
}

#[test]
#[ignore = "needs root"]
fn a_restart_knows_the_servers_of_a_file_that_is_gone() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("servers");
    replace(&file, &format!("{EDGE1}\n{EDGE2}\n"));
    let source = with_source(&format!("file {}", file.display()));
    let director = Director::new(&network, &source);
    let agent = director.start_up();
    wait_for("both servers", || up(director.list()).len() == 2);
    let added = director.output(&["server", "add", "172.16.1.50", "--weight", "5"]);
    assert!(added.status.success(), "{added:?}");
    agent.kill().expect("it runs");
    fs::remove_file(&file).expect("the file is removed");
    let agent = director.start(&[]);
    wait_for("both servers, and the one of the order", || {
        let list = director.list()?;
        let servers = list["services"][0]["servers"].as_array()?.len();
        (up(Some(list)).len() == 2 && servers == 3).then_some(())
    });
    agent.stop().expect("it stops");
}

#[test]
#[ignore = "needs root"]
fn orders_add_servers_and_take_them_back() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(
        &network,
        &configuration(
            "real_server 172.16.1.211 1935 { TCP_CHECK { } }
             real_server_template { TCP_CHECK { connect_timeout 1 } }",
        ),
    );
    wait_for_servers(&agent, &[EDGE1]);
    let added = agent.command(&["server", "add", EDGE2]);
    assert!(added.status.success(), "{added:?}");
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    // A reload leaves it.
    let reloaded = agent.command(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    let unknown = agent.command(&["server", "remove", EDGE1]);
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(text.contains("no order has added 172.16.1.211"), "{text}");
    let removed = agent.command(&["server", "remove", EDGE2]);
    assert!(removed.status.success(), "{removed:?}");
    wait_for_servers(&agent, &[EDGE1]);
    let elsewhere = agent.command(&["server", "add", EDGE2, "--service", "10.9.9.9:80"]);
    assert!(!elsewhere.status.success(), "{elsewhere:?}");
}

/// The order for each server of the one service, in the order of their addresses.
fn orders(list: &Value) -> Vec<Value> {
    let servers = list["services"][0]["servers"].as_array().cloned();
    let servers = servers.unwrap_or_default();
    servers
        .iter()
        .map(|server| server["state"].clone())
        .collect()
}

#[test]
#[ignore = "needs root"]
fn a_reload_that_names_another_source_takes_no_server_out_and_no_order_back() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let directory = tempfile::tempdir().expect("a directory");
    let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
    let both = format!("{EDGE1}\n{EDGE2}\n");
    replace(&first, &both);
    let agent = Agent::start(&network, &with_source(&format!("file {}", first.display())));
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    let drained = agent.command(&["drain", EDGE1]);
    assert!(drained.status.success(), "{drained:?}");
    let expected = ["up", "quiesced"];
    assert_eq!(agent.states(), expected);

    // The other source is not there yet.
    let renamed = with_source(&format!("file {}", second.display()));
    fs::write(agent.file(), &renamed).expect("the file is written");
    let refused = agent.command(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(said.contains("a new source that cannot be read"), "{said}");
    assert_eq!(agent.states(), expected);

    replace(&second, &both);
    let reloaded = agent.command(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let list = agent.list().expect("the agent answers");
    assert_eq!(orders(&list), expected, "{list}");
    let source = format!("file {}", second.display());
    assert_eq!(list["sources"][0]["source"], source.as_str());
    // It is followed.
    replace(&second, &format!("{EDGE2}\n"));
    wait_for_servers(&agent, &[EDGE2]);
}

#[test]
#[ignore = "needs root"]
fn a_bad_list_at_a_start_leaves_the_former_servers_until_the_file_is_mended() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("servers");
    replace(&file, &format!("{EDGE1}\n"));
    let source = with_source(&format!("file {}", file.display()));
    let director = Director::new(&network, &source);
    let agent = director.start_up();
    wait_for("the server", || up(director.list()).len() == 1);
    agent.kill().expect("it runs");
    // The virtual address can be no server of its own service.
    replace(&file, &format!("{EDGE1}\n{EDGE2}\n{VIP}\n"));
    for _ in 0..2 {
        let agent = director.start(&[]);
        wait_for("the former server", || {
            (up(director.list()) == [format!("{EDGE1}:1935")]).then_some(())
        });
        let list = director.list().expect("the agent answers");
        let error = list["sources"][0]["error"].as_str().unwrap_or_default();
        assert!(error.contains("is the virtual address itself"), "{list}");
        // Nor is the bad list saved.
        agent.kill().expect("it runs");
    }
    let agent = director.start_up();
    // Without a change of the file of servers.
    let other = "172.16.1.201";
    director.configure(&source.replace(VIP, other));
    let reloaded = director.output(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let list = director.list().expect("the agent answers");
    assert_eq!(orders(&list).len(), 3, "{list}");
    assert_eq!(list["sources"][0]["error"], Value::Null, "{list}");
    assert!(agent.stop().expect("it stops").success());
}

/// A name server on the director with an SRV record for each of `edges`.
fn dnsmasq(network: &Network, edges: &[(&str, &str)]) -> Process {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--port=5353",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
        "--local=/example.org/",
        "--local-ttl=1",
    ]);
    for (name, address) in edges {
        let name = format!("{name}.example.org");
        command.arg(format!("--srv-host=_rtmp._tcp.example.org,{name},1935,0,5"));
        command.arg(format!("--host-record={name},{address}"));
    }
    network.start("director", command)
}

#[test]
#[ignore = "needs root"]
fn servers_of_the_dns_follow_its_records_and_stay_while_it_is_silent() {
    let network = Network::new();
    let _edges = [network.serve("edge1"), network.serve("edge2")];
    let server = dnsmasq(&network, &[("edge1", EDGE1)]);
    let agent = Agent::start(
        &network,
        &with_source("dns _rtmp._tcp.example.org\ndns_server 127.0.0.1 5353"),
    );
    wait_for_servers(&agent, &[EDGE1]);
    server.stop().expect("it stops");
    wait_for("the silence", || {
        error(&agent).is_some_and(|error| error.contains("_rtmp._tcp.example.org at 127.0.0.1"))
    });
    assert_eq!(up(agent.list()).len(), 1);
    let _server = dnsmasq(&network, &[("edge1", EDGE1), ("edge2", EDGE2)]);
    wait_for_servers(&agent, &[EDGE1, EDGE2]);
    assert_eq!(error(&agent), None);
}
