//! Servers that are not on the viewers' segment.

use serde_json::Value;

use super::director::Director;
use super::network::{Network, VIP};
use super::{Agent, configuration, geteuid, wait_for};

fn reason(list: &Value, name: &str) -> Option<u64> {
    let reasons = list["reasons"].as_array()?;
    let counted = reasons.iter().find(|reason| reason["name"] == name)?;
    counted["packets"].as_u64()
}

/// How often the program decided so.
fn decided(agent: &Agent, name: &str) -> u64 {
    let list = agent.list().expect("the agent answers");
    reason(&list, name).expect("a reason of ours")
}

fn accept_the_virtual_address(network: &Network, host: &str) {
    network.ip_on(host, &format!("addr add {VIP}/32 dev lo"));
}

#[test]
fn a_server_on_another_interface_is_reached_by_redirection() {
    need_root!();
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
fn an_operator_is_told_how_to_have_packets_arrive_that_fit_another_interface() {
    need_root!();
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
    assert!(!list().contains("IN DOUBT"), "{}", list());
    assert_eq!(check(), "");
}

#[test]
fn a_server_behind_a_router_is_reached_through_a_tunnel() {
    need_root!();
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
    let _tunnel_end = network.decapsulate("edge3");
    let _server = network.serve("edge3");
    network.finish_packets("client");

    let servers = super::server("10.8.0.2");
    let configuration = configuration(&servers).replace("lb_kind DR", "lb_kind TUN");
    let agent = Agent::start(&network, &configuration);
    agent.wait_for_states(&["up"]);
    wait_for("an answer", || (network.ask() == "edge3").then_some(()));
    assert!(decided(&agent, "tunnelled") > 0);
    assert_eq!(decided(&agent, "forwarded"), 0);

    // Full packets do not fit until the client has been told.
    assert_eq!(network.tell(300_000), "edge3 300000");
    assert!(decided(&agent, "too-big") > 0);
}
