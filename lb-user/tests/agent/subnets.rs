//! Servers that are not on the viewers' segment.

use std::collections::HashSet;

use serde_json::Value;

use super::director::Director;
use super::network::{Network, VIP};
use super::{Agent, Process, configuration, wait_for};

fn reason(list: &Value, name: &str) -> Option<u64> {
    let reasons = list["reasons"].as_array()?;
    let counted = reasons.iter().find(|reason| reason["name"] == name)?;
    counted["packets"].as_u64()
}

/// How often the program decided so.
pub(crate) fn decided(agent: &Agent, name: &str) -> u64 {
    let list = agent.list().expect("the agent answers");
    reason(&list, name).expect("a reason of ours")
}

fn accept_the_virtual_address(network: &Network, host: &str) {
    network.ip_on(host, &format!("addr add {VIP}/32 dev lo"));
}

#[test]
#[ignore = "needs root"]
fn a_server_on_another_interface_is_reached_by_redirection() {
    let mut network = Network::new();
    network.plug_in_between("edge3", "172.16.1.213", "director");
    network.ip_on("edge3", "addr add 10.8.0.2/24 dev eth3");
    network.ip_on("director", "addr add 10.8.0.1/24 dev eth3");
    for setting in ["arp_ignore=1", "arp_announce=2"] {
        network.set("edge3", &format!("net.ipv4.conf.all.{setting}"));
    }
    accept_the_virtual_address(&network, "edge3");
    let _server = network.serve("edge3");
    let configuration = configuration(&super::server("10.8.0.2"));
    let agent = Agent::start(&network, &configuration);
    agent.wait_for_states(&["up"]);
    wait_for("an answer", || (network.ask() == "edge3").then_some(()));
    assert!(decided(&agent, "redirected") > 0);
    assert_eq!(decided(&agent, "forwarded"), 0);
}

#[test]
#[ignore = "needs root"]
fn an_operator_is_told_how_to_have_packets_arrive_that_fit_another_interface() {
    let mut network = Network::new();
    network.plug_in_between("edge3", "172.16.1.213", "director");
    network.ip_on("edge3", "addr add 10.8.0.2/24 dev eth3");
    network.ip_on("director", "addr add 10.8.0.1/24 dev eth3");
    let merge = |how| {
        let words = ["ethtool", "-K", "eth2", "gro", how];
        let output = network.output("director", &words);
        assert!(output.status.success(), "{output:?}");
    };
    merge("on");
    let advice = "`ethtool -K eth2 gro off`";
    let director = Director::new(&network, &configuration(&super::server("10.8.0.2")));
    let file = director.path("keepalived.conf");
    let file = file.to_str().expect("UTF-8");
    let check = || {
        let program = env!("CARGO_BIN_EXE_lb-user");
        let output = network.output("director", &[program, "check", "-c", file]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert!(check().contains(advice), "{}", check());

    let _agent = director.start(&[]);
    let list = || String::from_utf8(director.output(&["list"]).stdout).expect("UTF-8");
    wait_for("the advice", || list().contains(advice).then_some(()));
    let logged = director.log().matches(advice).count();
    assert_eq!(logged, 1, "{}", director.log());
    merge("off");
    assert!(!list().contains("WARNING"), "{}", list());
    assert_eq!(check(), "");
}

/// A network whose `edge3` is behind a router, serves, and takes packets out of a
/// tunnel for as long as the processes live.
fn with_a_server_behind_a_router() -> (Network, [Process; 2]) {
    let mut network = Network::new();
    network.host("edge3");
    network.plug_in_between("router", "172.16.1.1", "edge3");
    network.ip_on("router", "addr add 10.8.0.1/24 dev eth3");
    network.set("router", "net.ipv4.ip_forward=1");
    network.ip_on("edge3", "addr add 10.8.0.2/24 dev eth3");
    network.ip_on("edge3", "route add default via 10.8.0.1");
    network.ip_on("director", "route add 10.8.0.0/24 via 172.16.1.1");
    // Viewers and the virtual address are not where routes say they are.
    network.accept_any_source("router", &["eth2", "eth3"]);
    network.accept_any_source("edge3", &["eth3"]);
    accept_the_virtual_address(&network, "edge3");
    let processes = [network.decapsulate("edge3"), network.serve("edge3")];
    network.finish_packets("client");
    (network, processes)
}

fn tunnel_configuration() -> String {
    configuration(&super::server("10.8.0.2")).replace("lb_kind DR", "lb_kind TUN")
}

#[test]
#[ignore = "needs root"]
fn a_server_behind_a_router_is_reached_through_a_tunnel() {
    let (network, _processes) = with_a_server_behind_a_router();
    let agent = Agent::start(&network, &tunnel_configuration());
    agent.wait_for_states(&["up"]);
    let outer = network.capture("router", "ip proto 4 and src host 172.16.1.208");
    wait_for("an answer", || (network.ask() == "edge3").then_some(()));
    assert!(decided(&agent, "tunnelled") > 0);
    assert_eq!(decided(&agent, "forwarded"), 0);

    // Full packets do not fit until the client has been told.
    assert_eq!(network.tell(300_000), "edge3 300000");
    assert!(decided(&agent, "too-big") > 0);
    assert_ne!(outer.stop().trim(), "", "from the director's own address");
}

#[test]
#[ignore = "needs root"]
fn a_tunnels_outer_packets_come_from_the_network_that_is_given() {
    let (network, _processes) = with_a_server_behind_a_router();
    let configuration = format!(
        "global_defs {{ lb_tunnel_source4 172.20.0.0/16 }}
        {}",
        tunnel_configuration()
    );
    let agent = Agent::start(&network, &configuration);
    agent.wait_for_states(&["up"]);
    let others = network.capture("router", "ip proto 4 and not src net 172.20.0.0/16");
    let outer = network.capture("router", "ip proto 4 and src net 172.20.0.0/16");
    for _ in 0..8 {
        assert_eq!(network.answer_at(VIP), "edge3");
    }
    let packets = outer.stop();
    let sources: HashSet<&str> = packets
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    assert!(sources.len() > 1, "of eight connections:\n{packets}");
    assert_eq!(others.stop().trim(), "");
}
