//! The agent as a whole: a director in a network namespace, real servers,
//! real packets. Needs root.

mod circles;
mod cut_off;
mod director;
mod discovery;
mod etcd;
mod floods;
mod hitless;
mod ipv6;
mod keepalived_tools;
mod local;
mod log;
mod neighbors;
mod network;
mod orders;
mod reach;
mod recovery;
mod refusal;
mod scheduling;
mod shared_checks;
mod statics;
mod subnets;
mod upgrade;
mod upgrade_adverts;
mod virtual_routers;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use netbed::{Process, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use network::{Network, VIP};

/// The deployment with other services.
fn with_services(services: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state MASTER
            interface eth2
            virtual_router_id 51
            virtual_ipaddress {{ {VIP} }}
        }}
        {services}"
    )
}

/// The deployment with checks that are quick enough for a test.
fn configuration(inside: &str) -> String {
    with_services(&format!(
        "virtual_server {VIP} 1935 {{
            delay_loop 0.2
            delay_before_retry 0.1
            warmup 0
            lb_algo rr
            lb_kind DR
            protocol TCP
            {inside}
        }}"
    ))
}

fn server(address: &str) -> String {
    format!("real_server {address} 1935 {{ TCP_CHECK {{ connect_timeout 1 }} }}\n")
}

fn both_servers() -> String {
    configuration(&(server("172.16.1.211") + &server("172.16.1.207")))
}

/// A running agent, on the director as a rule.
struct Agent {
    process: Process,
    directory: TempDir,
}

impl Agent {
    /// Starts an agent and waits until it is master.
    fn start(network: &Network, configuration: &str) -> Self {
        Self::start_with(network, configuration, &[])
    }

    /// As [`Self::start`], with further words on its command line.
    fn start_with(network: &Network, configuration: &str, words: &[&str]) -> Self {
        let agent = Self::begin(network, "director", configuration, words);
        // A master waits for others to speak first, 3.6 s here.
        wait_for("the agent holds its address", || {
            (agent.list()?["virtual_addresses"][0]["held"] == true).then_some(())
        });
        agent
    }

    /// Starts an agent on a host, and waits for nothing.
    fn begin(network: &Network, host: &str, configuration: &str, words: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        fs::write(&file, configuration).expect("the file is written");
        let socket = directory.path().join("agent.sock");
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb-user"));
        command.args(["run", "--no-pins", "-c"]).arg(&file);
        command.arg("--socket").arg(&socket).args(words);
        command.env("TMPDIR", directory.path());
        Self {
            process: network.start(host, command),
            directory,
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("keepalived.conf")
    }

    fn command(&self, words: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_lb-user"))
            .args(words)
            .arg("--socket")
            .arg(self.directory.path().join("agent.sock"))
            .output()
            .expect("lb-user exists")
    }

    fn list(&self) -> Option<Value> {
        let output = self.command(&["list", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The state of each server of the one service.
    fn states(&self) -> Vec<String> {
        let list = self.list().expect("the agent answers");
        let servers = list["services"][0]["servers"]
            .as_array()
            .expect("servers")
            .clone();
        servers
            .iter()
            .map(|s| s["state"].as_str().expect("a state").to_owned())
            .collect()
    }

    fn wait_for_states(&self, expected: &[&str]) {
        wait_for(
            format!("states {expected:?}, the last being {:?}", self.states()),
            || (self.states() == expected).then_some(()),
        );
    }

    fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("the agent runs");
    }

    /// Ends the agent as an operator would.
    fn stop(self) -> ExitStatus {
        self.process.stop().expect("the agent ends")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that has been stopped is not there any more.
        let _ = self.process.kill();
    }
}

#[test]
#[ignore = "needs root"]
fn an_agent_balances_and_leaves_nothing_behind() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);

    let link = || network.stdout("director", &["ip", "addr", "show", "eth2"]);
    assert!(
        link().contains("xdp"),
        "the program is attached:\n{}",
        link()
    );
    assert!(
        link().contains("172.16.1.200/32"),
        "the address is held:\n{}",
        link()
    );

    assert_eq!(
        network.ask_twice_at(VIP),
        ["edge1", "edge2"],
        "round robin without persistence"
    );
    let list = agent.list().expect("the agent answers");
    assert!(
        list["services"][0]["counters"]["connections"].as_u64() >= Some(2),
        "{list}"
    );
    wait_for("rates of a service and its servers", || {
        // Rates are of the last seconds.
        network.ask();
        let service = &agent.list()?["services"][0];
        let server = &service["servers"][0];
        let is_positive = |rate: &str| {
            [service, server]
                .iter()
                .all(|it| it["rates"][rate].as_f64() > Some(0.0))
        };
        ["connections_per_s", "packets_per_s", "bits_per_s"]
            .into_iter()
            .all(is_positive)
            .then_some(())
    });

    let socket = agent.directory.path().join("agent.sock");
    assert!(agent.stop().success());
    assert!(
        !link().contains("xdp"),
        "the program is detached:\n{}",
        link()
    );
    assert!(!link().contains(VIP), "the address is gone:\n{}", link());
    assert!(!socket.exists(), "the socket is gone");
}

#[test]
#[ignore = "needs root"]
fn a_server_that_stops_listening_leaves_rotation_and_comes_back() {
    let network = Network::new();
    let _one = network.serve("edge1");
    let two = network.serve("edge2");
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);
    two.kill().expect("it runs");
    agent.wait_for_states(&["up", "down"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(
        list["services"][0]["servers"][1]["reason"],
        "Connection refused"
    );
    for _ in 0..3 {
        assert_eq!(network.answer_at(VIP), "edge1");
    }
    let _two = network.serve("edge2");
    agent.wait_for_states(&["up", "up"]);
}

#[test]
#[ignore = "needs root"]
fn a_drained_server_gets_no_new_connections_until_it_is_undrained() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &both_servers());
    agent.wait_for_states(&["up", "up"]);
    let drained = agent.command(&["drain", "--wait", "172.16.1.211"]);
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(agent.states(), ["quiesced", "up"]);
    for _ in 0..3 {
        assert_eq!(network.answer_at(VIP), "edge2");
    }
    assert!(
        agent
            .command(&["undrain", "172.16.1.211:1935"])
            .status
            .success()
    );
    assert_eq!(agent.states(), ["up", "up"]);
    let unknown = agent.command(&["drain", "172.16.1.99"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(
        said.contains("no service has a server 172.16.1.99"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_server_without_mac_address_is_not_ready_until_it_answers() {
    let network = Network::new();
    network.output("edge2", &["ip", "link", "set", "eth2", "down"]);
    let without_checks =
        configuration("real_server 172.16.1.211 1935 { }\nreal_server 172.16.1.207 1935 { }\n");
    let agent = Agent::start(&network, &without_checks);
    agent.wait_for_states(&["up", "no-mac"]);
    network.output("edge2", &["ip", "link", "set", "eth2", "up"]);
    agent.wait_for_states(&["up", "up"]);

    let mac = "02:00:00:00:00:77";
    network.output("edge2", &["ip", "link", "set", "eth2", "address", mac]);
    // What a host does whose MAC address changes; the agent follows at once
    // what the kernel learns.
    network.output("edge2", &["ping", "-c1", "-W2", "172.16.1.208"]);
    wait_for("the new MAC address", || {
        let list = agent.list()?;
        (list["services"][0]["servers"][1]["mac"] == mac).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_reload_changes_what_the_file_changes_and_a_bad_file_changes_nothing() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let agent = Agent::start(&network, &configuration(&server("172.16.1.211")));
    agent.wait_for_states(&["up"]);
    assert_eq!(network.answer_at(VIP), "edge1");
    let connections =
        |list: &Value| list["services"][0]["servers"][0]["counters"]["connections"].clone();
    let before = connections(&agent.list().expect("the agent answers"));

    fs::write(agent.file(), "virtual_serve").expect("the file is written");
    let refused = agent.command(&["reload"]);
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        reason.contains("did you mean `virtual_server`?"),
        "{reason}"
    );
    assert_eq!(agent.states(), ["up"]);

    fs::write(agent.file(), both_servers()).expect("the file is written");
    agent.signal(Signal::SIGHUP);
    agent.wait_for_states(&["up", "up"]);
    assert_eq!(
        connections(&agent.list().expect("the agent answers")),
        before,
        "the server that stays keeps its counters"
    );
}

#[test]
#[ignore = "needs root"]
fn a_virtual_router_that_a_reload_removes_is_told_to_stop() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("script");
    let told = directory.path().join("told");
    let text = format!("#!/bin/sh\necho \"$*\" >> {}\n", told.display());
    fs::write(&script, text).expect("the script is written");
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("it may be run");
    let second = format!(
        "\nvrrp_instance VI_2 {{
            interface eth2
            virtual_router_id 52
            virtual_ipaddress {{ 172.16.1.202 }}
            notify_stop \"{0} own\"
            notify \"{0} any\"
        }}",
        script.display()
    );
    let agent = Agent::start(&network, &(both_servers() + &second));
    fs::write(agent.file(), both_servers()).expect("the file is written");
    assert!(agent.command(&["reload"]).status.success());
    wait_for("the last words", || {
        let told = fs::read_to_string(&told).ok()?;
        let both = ["own\n", "any INSTANCE VI_2 STOP 100\n"];
        both.iter().all(|line| told.contains(line)).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_host_that_comes_to_hold_the_address_says_so_twice_five_times() {
    let network = Network::new();
    let capture = network.capture("client", &format!("-c 10 arp and src host {VIP}"));
    let _agent = Agent::start(&network, &both_servers());
    let text = capture.all();
    let announcements = text.lines().filter(|line| {
        line.contains("Request who-has 172.16.1.200") && line.contains("tell 172.16.1.200")
    });
    assert_eq!(announcements.count(), 10, "{text}");
}

#[test]
#[ignore = "needs root"]
fn mistakes_end_with_status_2_and_a_sentence() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    fs::write(
        &file,
        both_servers().replace("interface eth2", "interface eth3"),
    )
    .expect("written");
    let socket = directory.path().join("agent.sock");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-user"));
    command.args(["run", "-c"]).arg(&file);
    command.arg("--socket").arg(&socket);
    let output = network.on("director").output(command).expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("there is no network interface `eth3`"),
        "{said}"
    );
    assert!(said.contains("did you mean `eth2`?"), "{said}");
}
