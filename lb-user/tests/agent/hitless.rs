//! Agents that are killed, upgraded or stopped, and their successors.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, ChildStdout};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::director::Director;
use super::network::python;
use super::*;

/// A viewer that stays: it is told its server's name, says something now and
/// then, and is answered.
pub(crate) struct Viewer {
    process: Process,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Viewer {
    pub(crate) fn connect(network: &Network) -> Self {
        const PROGRAM: &str = "
import socket, sys
s = socket.create_connection((sys.argv[1], 1935), 60)
for line in sys.stdin.buffer:
    s.sendall(line)
    answer = s.recv(64)
    if not answer:
        break
    sys.stdout.buffer.write(answer)
    sys.stdout.flush()
";
        let process = network.start_dialogue("client", python(PROGRAM, &[VIP]));
        Self {
            stdin: process.take_stdin().expect("piped"),
            stdout: process.take_stdout().expect("piped"),
            process,
        }
    }

    /// The name of the server that answers on this connection.
    pub(crate) fn ask(&mut self) -> String {
        self.stdin.write_all(b"?\n").expect("the viewer listens");
        let mut answer = vec![0; "edge1\n".len()];
        self.stdout
            .read_exact(&mut answer)
            .expect("the connection lives");
        String::from_utf8(answer).expect("a name").trim().to_owned()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

/// Two viewers, each at another edge, and the names of those.
pub(crate) fn two_viewers(network: &Network) -> ([Viewer; 2], [String; 2]) {
    let mut viewers = [Viewer::connect(network), Viewer::connect(network)];
    let served = viewers.each_mut().map(Viewer::ask);
    assert_ne!(served[0], served[1], "by turns");
    (viewers, served)
}

fn connections(list: &Value) -> Vec<u64> {
    let servers = list["services"][0]["servers"].as_array().expect("servers");
    let count = |server: &Value| server["counters"]["connections"].as_u64();
    servers.iter().filter_map(count).collect()
}

#[test]
#[ignore = "needs root"]
fn a_killed_agent_is_not_missed_and_the_next_one_carries_on() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let agent = director.start_up();
    let (mut viewers, served) = two_viewers(&network);
    let ordered = director.output(&["weight", "172.16.1.207", "7"]);
    assert!(ordered.status.success(), "{ordered:?}");
    let before = director.list().expect("it answers");
    let program = director.program();
    assert!(program.is_some());

    agent.kill().expect("it runs");
    assert_eq!(director.program(), program, "XDP goes on");
    assert!(director.interface().contains("172.16.1.200/32"));
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);
    let mut newcomer = Viewer::connect(&network);
    newcomer.ask();

    let agent = director.start_up();
    assert_ne!(director.program(), program, "replaced in place");
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);
    let after = director.list().expect("it answers");
    let total = |list: &Value| connections(list).iter().sum::<u64>();
    assert_eq!(total(&after), total(&before) + 1, "{after}");
    assert_eq!(after["services"][0]["servers"][1]["weight"], 7, "the order");
    assert!(director.log().contains("is adopted"), "{}", director.log());
    agent.kill().expect("it runs");
}

#[test]
#[ignore = "needs root"]
fn viewers_of_a_server_that_a_restart_finds_gone_are_told_at_once() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let agent = director.start_up();
    let (mut viewers, served) = two_viewers(&network);
    agent.kill().expect("it runs");

    director.configure(&configuration(&server("172.16.1.207")));
    let _agent = director.start(&[]);
    // The viewer says nothing: the packet path has nothing to answer.
    wait_for("the agent to tell the viewer", || {
        let log = director.log();
        log.contains("server 172.16.1.211:1935 is gone: 1 connection(s) reset")
            .then_some(())
    });
    let stays = served.iter().position(|name| name == "edge2");
    assert_eq!(viewers[stays.expect("one of them")].ask(), "edge2");
}

#[test]
#[ignore = "needs root"]
fn an_upgrade_in_place_keeps_connections_address_orders_and_the_process() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let notified = tempfile::NamedTempFile::new().expect("a file");
    let script = format!(
        "notify_master \"/bin/sh -c 'echo M >> {0}'\"\nnotify_backup \"/bin/sh -c 'echo B >> {0}'\"\n",
        notified.path().display()
    );
    // No second volley of announcements, which may come while the upgrade is rehearsed.
    let inside = format!("state MASTER\ngarp_master_delay 0\n{script}");
    let configuration = both_servers().replacen("state MASTER", &inside, 1);
    let director = Director::new(&network, &configuration);
    let agent = director.start_up();
    let mut viewer = Viewer::connect(&network);
    let served = viewer.ask();
    let drained = director.output(&[
        "drain",
        if served == "edge1" {
            "172.16.1.211"
        } else {
            "172.16.1.207"
        },
    ]);
    assert!(drained.status.success(), "{drained:?}");
    let states = director.states();
    let scripts = fs::read_to_string(notified.path()).expect("readable");
    assert!(scripts.ends_with("M\n"), "{scripts:?}");
    let program = director.program();

    let announcements = network.capture("client", "arp and src host 172.16.1.200");
    let upgraded = director.output(&["upgrade"]);
    assert!(
        upgraded.status.success(),
        "{upgraded:?}\n{}",
        director.log()
    );
    assert!(director.interface().contains("172.16.1.200/32"));
    wait_for("the new program to lead on", || {
        (director.list()?["virtual_addresses"][0]["held"] == true).then_some(())
    });
    assert!(agent.is_running(), "the same process");
    assert_ne!(director.program(), program, "the program is replaced");
    assert_eq!(director.states(), states, "the order holds");
    assert_eq!(viewer.ask(), served, "the viewer is where it was");
    let list = director.list().expect("it answers");
    let cause = list["virtual_addresses"][0]["cause"]
        .as_str()
        .expect("a cause");
    assert!(cause.contains("handed over"), "{cause}");
    assert_eq!(
        fs::read_to_string(notified.path()).expect("readable"),
        scripts,
        "no script is run for what has not changed"
    );
    assert!(
        !director.log().contains("removed from"),
        "{}",
        director.log()
    );
    assert_eq!(announcements.stop().trim(), "", "nothing is announced");

    // SIGUSR2 is the same; a file that the new program refuses changes nothing.
    director.configure("virtual_serve");
    let refused = director.output(&["upgrade"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("did you mean `virtual_server`?"), "{said}");
    assert_eq!(director.states(), states, "it goes on");
    director.configure(&configuration);
    let program = director.program();
    agent.signal(Signal::SIGUSR2).expect("the agent runs");
    wait_for("another program", || {
        (director.program() != program).then_some(())
    });
    assert_eq!(viewer.ask(), served);
}

#[test]
#[ignore = "needs root"]
fn stop_takes_everything_away_with_an_agent_and_without() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let stop = || {
        let output = director.stop();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    let agent = director.start_up();
    director.output(&["drain", "172.16.1.211"]);
    assert_eq!(stop(), "the agent has stopped\n");
    director.check_that_nothing_is_left();
    assert!(agent.wait().expect("it has ended").success());

    let agent = director.start_up();
    director.output(&["drain", "172.16.1.211"]);
    agent.kill().expect("it runs");
    assert!(director.program().is_some());
    let said = stop();
    assert!(
        said.starts_with("no agent runs\nremoved: 172.16.1.200 on eth2\n"),
        "{said}"
    );
    assert!(said.contains("removed: maps in"), "{said}");
    director.check_that_nothing_is_left();
    assert_eq!(stop(), "no agent runs\n");
}

#[test]
#[ignore = "needs root"]
fn orders_outlive_a_stop_of_the_service() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let agent = director.start_up();
    director.output(&["drain", "172.16.1.211"]);
    agent.signal(Signal::SIGTERM).expect("the agent runs");
    assert!(agent.wait().expect("it ends").success());
    assert_eq!(director.program(), None, "detached");
    assert!(!director.pins().exists(), "nothing is pinned");
    assert!(!director.interface().contains(VIP), "the address is gone");

    let _agent = director.start(&[]);
    wait_for("the drained server to be drained still", || {
        (director.states() == ["quiesced", "up"]).then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_that_was_down_is_down_for_the_next_agent_until_it_is_checked() {
    let network = Network::new();
    let _one = network.converse("edge1");
    let director = Director::new(&network, &both_servers());
    let agent = director.start(&[]);
    wait_for("one server to be down", || {
        (director.states() == ["up", "down"]).then_some(())
    });
    agent.kill().expect("it runs");
    // Checks that come too late to be what is seen.
    director.configure(
        &both_servers()
            .replace("delay_loop 0.2", "delay_loop 600")
            .replace("warmup 0", "warmup 600"),
    );
    let _agent = director.start(&[]);
    wait_for("the agent answers", || director.list());
    assert_eq!(director.states(), ["up", "down"]);
}

#[test]
#[ignore = "needs root"]
fn a_configuration_that_does_not_fit_the_tables_changes_nothing() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let agent = director.start(&["--table", "servers=2"]);
    director.wait_until_ready();
    let mut viewer = Viewer::connect(&network);
    let served = viewer.ask();

    let three = server("172.16.1.50") + &server("172.16.1.211") + &server("172.16.1.207");
    director.configure(&configuration(&three));
    let refused = director.output(&["reload"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{refused:?}");
    assert!(
        said.contains("real servers: 3 are needed and the table holds 2; raise servers"),
        "{said}"
    );
    assert_eq!(director.states(), ["up", "up"]);
    assert_eq!(viewer.ask(), served);

    // Another capacity, another agent, the same viewer.
    agent.kill().expect("it runs");
    let _agent = director.start(&["--table", "servers=8"]);
    wait_for("three servers", || {
        (director.states().len() == 3).then_some(())
    });
    assert_eq!(viewer.ask(), served, "carried over to larger tables");
    assert!(
        director.log().contains("SERVERS has 4 entries"),
        "{}",
        director.log()
    );
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_made_anew_is_attached_to_and_led_on_again() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let director = Director::new(&network, &both_servers());
    let _agent = director.start_up();
    Viewer::connect(&network).ask();

    network.unplug("director");
    wait_for("the loss to be seen", || {
        let list = director.list()?;
        (list["interfaces"][0]["lost"] == "the interface is gone").then_some(())
    });
    network.plug_in("director");
    director.wait_until_ready();
    let list = director.list().expect("it answers");
    assert_eq!(list["interfaces"][0]["lost"], Value::Null);
    assert_eq!(list["interfaces"][0]["xdp_mode"], "generic");
    assert!(director.program().is_some());
    Viewer::connect(&network).ask();

    network.output("director", &["ip", "link", "set", "eth2", "down"]);
    wait_for("the address to be given up", || {
        (director.list()?["virtual_addresses"][0]["held"] == false).then_some(())
    });
    network.output("director", &["ip", "link", "set", "eth2", "up"]);
    director.wait_until_ready();
    Viewer::connect(&network).ask();
}
