//! Servers that are not on the viewers' segment.

use serde_json::Value;

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
        let setting = format!("net.ipv4.conf.all.{setting}");
        network.output("edge3", &["sysctl", "-qw", &setting]);
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
