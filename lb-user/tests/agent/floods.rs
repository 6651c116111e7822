//! Protection from floods: clients with a kernel of their own, on both sides of a NAT.

use std::fs;

use serde_json::Value;

use super::hitless::Viewer;
use super::network::{Network, VIP, VIP6};
use super::subnets::decided;
use super::{Agent, Process, configuration, server, wait_for};

/// The deployment with these lines in `global_defs`.
fn with(global_defs: &str, services: &str) -> String {
    format!("global_defs {{\n{global_defs}\n}}\n{services}")
}

fn one_server() -> String {
    configuration(&server("172.16.1.211"))
}

fn both_families() -> String {
    let service6 = format!(
        "virtual_server {VIP6} 1935 {{
            delay_loop 0.2
            lb_algo rr
            protocol TCP
            real_server 2001:db8::d3 1935 {{ TCP_CHECK {{ connect_timeout 1 }} }}
        }}"
    );
    one_server() + "\n" + &service6
}

/// Connects from each of these addresses to the service, prints the milliseconds that the
/// slowest took, and what the last server said.
const CONNECT: &str = "
import socket, sys, time
slowest = 0
for source in sys.argv[2:]:
    begin = time.monotonic()
    with socket.create_connection((sys.argv[1], 1935), 20, (source, 0)) as s:
        slowest = max(slowest, time.monotonic() - begin)
        name = s.recv(64).decode()
print(f'{slowest * 1000:.1f} ms to {name}')
";

/// Adds eight addresses, whose last byte is `first` or more, to an interface of a host, and
/// returns them.
fn add_addresses(network: &Network, host: &str, interface: &str, first: &str) -> Vec<String> {
    let (net, first) = first.rsplit_once('.').expect("four bytes");
    let first: u8 = first.parse().expect("a byte");
    let addresses = (first..first + 8).map(|last| format!("{net}.{last}"));
    addresses
        .inspect(|address| network.ip_on(host, &format!("addr add {address}/24 dev {interface}")))
        .collect()
}

fn connect_from(network: &Network, host: &str, to: &str, sources: &[String]) {
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let words = [&["python3", "-c", CONNECT, to], sources.as_slice()].concat();
    let output = network.output(host, &words);
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    println!("{host}, {} clients: at most {said}", sources.len());
    assert!(said.contains("to edge1"), "{host}: {said:?} {error}");
}

/// Puts a host `inside` behind a NAT that drops what its connection tracking finds invalid,
/// and returns the addresses of `inside`, each of which the NAT gives one of its own.
fn behind_a_nat(network: &mut Network) -> Vec<String> {
    network.host("inside");
    network.plug_in_between("nat", "172.16.1.60", "inside");
    network.ip_on("nat", "addr add 10.9.0.1/24 dev eth3");
    let inner = add_addresses(network, "inside", "eth3", "10.9.0.110");
    let outer = add_addresses(network, "nat", "eth2", "172.16.1.110");
    network.ip_on("inside", "route add default via 10.9.0.1");
    network.set("nat", "net.ipv4.ip_forward=1");
    let pairs = inner.iter().zip(&outer);
    let map: Vec<String> = pairs.map(|(from, to)| format!("{from} : {to}")).collect();
    let rules = format!(
        "table ip nat {{
            chain postrouting {{
                type nat hook postrouting priority 100;
                oifname eth2 snat to ip saddr map {{ {} }}
            }}
        }}
        table ip filter {{
            chain forward {{
                type filter hook forward priority 0;
                ct state invalid counter drop
            }}
        }}",
        map.join(", ")
    );
    let output = network.output("nat", &["nft", &rules]);
    assert!(output.status.success(), "{output:?}");
    inner
}

#[test]
#[ignore = "needs root"]
fn linux_clients_prove_themselves_directly_and_through_a_nat() {
    let mut network = Network::new();
    let inside = behind_a_nat(&mut network);
    let direct = add_addresses(&network, "client", "eth2", "172.16.1.120");
    network.finish_packets("nat");
    // No virtual router has it here.
    network.ip_on("director", &format!("addr add {VIP6}/128 dev eth2 nodad"));
    let _server = network.serve("edge1");
    let agent = Agent::start(
        &network,
        &with("lb_syn_validation always", &both_families()),
    );
    wait_for("both servers to be up", || {
        let list = agent.list()?;
        let services = list["services"].as_array()?;
        let is_up = |service: &Value| service["servers"][0]["state"] == "up";
        services.iter().all(is_up).then_some(())
    });

    connect_from(&network, "client", VIP, &direct);
    connect_from(&network, "client", VIP6, &["2001:db8::32".to_owned()]);
    connect_from(&network, "inside", VIP, &inside);

    let clients = (direct.len() + 1 + inside.len()) as u64;
    assert!(decided(&agent, "challenged") >= clients);
    assert!(decided(&agent, "source-proven") >= clients);
    assert_eq!(decided(&agent, "wrong-cookie"), 0);
    // A proven source is not challenged again.
    let before = decided(&agent, "challenged");
    connect_from(&network, "client", VIP, &direct);
    assert_eq!(decided(&agent, "challenged"), before);
}

/// Starts to send SYNs, each from another address of 10.0.0.0/8.
fn flood(network: &Network, host: &str) -> Process {
    const PROGRAM: &str = "
import random, socket, struct, sys
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
target = socket.inet_aton(sys.argv[1])
def checksum(data):
    total = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    total = (total >> 16) + (total & 0xffff)
    return ~((total >> 16) + total) & 0xffff
while True:
    source = bytes([10]) + random.randbytes(3)
    def tcp(check):
        return struct.pack('!HHIIBBHHH', 4000, 1935, 1, 0, 0x50, 2, 65535, check, 0)
    pseudo = source + target + struct.pack('!HH', 6, 20)
    segment = tcp(checksum(pseudo + tcp(0)))
    header = struct.pack('!BBHHHBBH', 0x45, 0, 40, 0, 0, 64, 6, 0) + source + target
    raw.sendto(header + segment, (sys.argv[1], 0))
";
    network.start_python(host, PROGRAM, &[VIP])
}

/// Connections scheduled so far.
fn scheduled(agent: &Agent) -> u64 {
    let list = agent.list().expect("the agent answers");
    let connections = &list["services"][0]["counters"]["connections"];
    connections.as_u64().expect("a number")
}

#[test]
#[ignore = "needs root"]
fn a_flood_begins_validation_and_nothing_of_it_is_entered_any_more() {
    let mut network = Network::new();
    network.plug_in_between("attacker", "172.16.1.66", "client");
    // It answers nobody who is not there.
    network.ip_on("edge1", "route add blackhole 10.0.0.0/8");
    let _server = network.converse("edge1");
    let settings = "lb_syn_validation automatic\nlb_syn_validation_rate 200";
    let agent = Agent::start(&network, &with(settings, &one_server()));
    agent.wait_for_states(&["up"]);

    let mut viewer = Viewer::connect(&network);
    assert_eq!(viewer.ask(), "edge1");

    let flood = flood(&network, "attacker");
    let validates = || {
        let list = agent.list()?;
        (list["protection"]["validating"] == true).then_some(())
    };
    wait_for("validation to begin", validates);
    let entered = scheduled(&agent);
    let challenged = decided(&agent, "challenged");
    wait_for("a thousand SYNs to be challenged", || {
        (decided(&agent, "challenged") > challenged + 1000).then_some(())
    });
    assert_eq!(scheduled(&agent), entered, "none of them is entered");
    assert_eq!(viewer.ask(), "edge1", "its connection goes on");
    // A client that has not been there before.
    network.ip_on("client", "addr add 172.16.1.51/24 dev eth2");
    const ASK: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], 1935), 20, ('172.16.1.51', 0)) as s:
    s.sendall(b'?\\n')
    print(s.recv(64).decode(), end='')
";
    let said = network.stdout("client", &["python3", "-c", ASK, VIP]);
    assert_eq!(said, "edge1\n");
    assert_eq!(scheduled(&agent), entered + 1, "it alone");
    drop(flood);
}

#[test]
#[ignore = "needs root"]
fn a_denied_network_loses_its_connections_until_it_is_allowed_again() {
    let network = Network::new();
    let _server = network.serve("edge1");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("deny");
    fs::write(&file, "192.0.2.0/24 # nobody\n").expect("written");
    let settings = format!("lb_deny_file {}", file.display());
    let agent = Agent::start(&network, &with(&settings, &one_server()));
    agent.wait_for_states(&["up"]);
    let _held = super::orders::connect(&network, 3);

    let order = |words: &[&str]| {
        let output = agent.command(words);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success(), said)
    };
    let (done, said) = order(&["deny", "add", "172.16.1.50", "--timeout", "1h"]);
    assert!(done && said.contains("172.16.1.50/32"), "{said}");
    wait_for("its connections to end", || {
        let list = agent.list()?;
        (list["services"][0]["servers"][0]["active_connections"] == 0).then_some(())
    });
    assert_eq!(network.ask(), "", "and it gets no new ones");
    assert!(decided(&agent, "denied") > 0);

    let (_, said) = order(&["deny", "list", "--json"]);
    let denials: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(denials[0]["network"], "172.16.1.50/32");
    assert!(denials[0]["remaining_s"].as_u64().expect("a number") > 3000);
    assert_eq!(denials[1]["network"], "192.0.2.0/24");
    assert!(!order(&["deny", "remove", "192.0.2.0/24"]).0, "the file's");
    assert!(order(&["deny", "remove", "172.16.1.50"]).0);
    assert!(!order(&["deny", "remove", "172.16.1.50"]).0, "only once");
    assert_eq!(network.answer_at(VIP), "edge1");

    fs::write(&file, "172.16.1.0/26\n").expect("written");
    assert!(order(&["reload"]).0);
    assert_eq!(network.ask(), "", "the file has another network");
    fs::write(&file, "nonsense\n").expect("written");
    assert!(!order(&["reload"]).0, "a file with a mistake is refused");
    fs::write(&file, "").expect("written");
    assert!(order(&["reload"]).0);
    assert_eq!(network.answer_at(VIP), "edge1");
}

#[test]
#[ignore = "needs root"]
fn an_operator_limits_new_connections_and_validates_sources() {
    let network = Network::new();
    let _server = network.serve("edge1");
    let agent = Agent::start(&network, &one_server());
    agent.wait_for_states(&["up"]);
    assert_eq!(network.answer_at(VIP), "edge1");
    let order = |words: &[&str]| assert!(agent.command(words).status.success(), "{words:?}");
    let protection = || agent.list().expect("it answers")["protection"].clone();

    order(&["limit", "1", "--burst", "1"]);
    wait_for("a connection too many", || {
        network.ask();
        (decided(&agent, "rate-limited") > 0).then_some(())
    });
    let rate = &protection()["connection_rate"];
    assert_eq!(
        (&rate["per_second"], &rate["burst"]),
        (&1.into(), &1.into())
    );
    order(&["limit", "default"]);
    assert!(protection()["connection_rate"].is_null());

    assert_eq!(decided(&agent, "challenged"), 0);
    order(&["validate", "always"]);
    assert_eq!(network.answer_at(VIP), "edge1");
    assert!(decided(&agent, "source-proven") > 0);
    assert_eq!(protection()["validating"], true);
    order(&["validate", "default"]);
    assert_eq!(protection()["validating"], false);
}
