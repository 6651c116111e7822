//! What a director needs to reach its servers, whoever leads.

use std::fs;

use nix::unistd::geteuid;

use super::network::Network;
use super::{Agent, both_servers, wait_for};

fn with(statics: &str) -> String {
    statics.to_owned() + &both_servers()
}

/// Whether the director has such an address, and such a route.
fn has(network: &Network, address: &str, route: &str) -> [bool; 2] {
    let shown = |words: &[&str]| {
        let output = network.output("director", words);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let addresses = shown(&["ip", "-o", "addr", "show", "dev", "eth2"]);
    let routes = shown(&["ip", "route", "show"]);
    [addresses.contains(address), routes.contains(route)]
}

#[test]
fn static_addresses_and_routes_are_there_while_the_agent_runs() {
    need_root!();
    let network = Network::new();
    let first = with(
        "static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n\
         static_routes {\n10.9.0.0/16 via 10.8.0.254 dev eth2\n}\n",
    );
    let there = || {
        has(
            &network,
            "10.8.0.1/24",
            "10.9.0.0/16 via 10.8.0.254 dev eth2",
        )
    };
    let agent = Agent::start(&network, &first);
    assert_eq!(there(), [true, true]);
    for words in [
        ["route", "del", "10.9.0.0/16", "dev", "eth2"],
        ["addr", "del", "10.8.0.1/24", "dev", "eth2"],
    ] {
        let taken = network.output("director", &[&["ip"][..], &words].concat());
        assert!(taken.status.success(), "{taken:?}");
    }
    wait_for("both again", || (there() == [true, true]).then_some(()));

    let second = with(
        "static_ipaddress {\n10.8.1.1/24 dev eth2\n}\n\
         static_routes {\n10.9.1.0/24 dev eth2\n}\n",
    );
    fs::write(agent.file(), second).expect("the file is written");
    assert!(agent.command(&["reload"]).status.success());
    assert_eq!(there(), [false, false]);
    let now = || has(&network, "10.8.1.1/24", "10.9.1.0/24 dev eth2");
    assert_eq!(now(), [true, true]);
    assert!(agent.stop().success());
    assert_eq!(now(), [false, false]);
}

#[test]
fn an_address_that_the_machine_had_before_stays_when_the_agent_goes() {
    need_root!();
    let network = Network::new();
    network.output(
        "director",
        &["ip", "addr", "add", "10.8.0.1/24", "dev", "eth2"],
    );
    let agent = Agent::start(
        &network,
        &with("static_ipaddress {\n10.8.0.1/24 dev eth2\n}\n"),
    );
    assert!(agent.stop().success());
    assert_eq!(has(&network, "10.8.0.1/24", "172.16.1.0/24"), [true, true]);
}
