//! Servers that packets do not reach, and the ways to those that they do.

use std::fs;

use super::director::Director;
use super::network::{Network, VIP, VIP6};
use super::{Agent, both_servers, configuration, server, wait_for};

/// Takes the director's route to all but these hosts.
fn cut_off_from_all_but(network: &Network, others: &[&str]) {
    for other in others {
        network.ip_on(
            "director",
            &format!("route add {other}/32 dev eth2 src 172.16.1.208"),
        );
    }
    network.ip_on("director", "route del 172.16.1.0/24 dev eth2");
}

fn restore_route(network: &Network) {
    network.ip_on(
        "director",
        "route add 172.16.1.0/24 dev eth2 src 172.16.1.208",
    );
}

#[test]
#[ignore = "needs root"]
fn without_a_route_to_its_servers_a_service_has_no_quorum_and_the_sorry_server_serves() {
    let network = Network::new();
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let directory = tempfile::tempdir().expect("a directory");
    let lost = directory.path().join("lost");
    let inside = format!(
        "quorum_down \"/bin/touch {}\"\nsorry_server 172.16.1.207 1935\n{}",
        lost.display(),
        server("172.16.1.211")
    );
    let agent = Agent::start(&network, &configuration(&inside));
    agent.wait_for_states(&["up", "standby"]);
    assert_eq!(network.answer_at(VIP), "edge1");

    // A check of a server without a route to it says nothing of the server.
    cut_off_from_all_but(&network, &["172.16.1.50", "172.16.1.207"]);
    agent.wait_for_states(&["no-mac", "up"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(list["services"][0]["quorum"], false);
    assert_eq!(list["services"][0]["servers"][0]["weight"], 0);
    assert_eq!(network.answer_at(VIP), "edge2");
    wait_for("quorum_down", || fs::exists(&lost).ok()?.then_some(()));

    restore_route(&network);
    agent.wait_for_states(&["up", "standby"]);
    wait_for("the server", || (network.ask() == "edge1").then_some(()));
}

#[test]
#[ignore = "needs root"]
fn a_director_that_has_lost_its_way_to_the_servers_leaves_leading_to_another() {
    let network = Network::new();
    let watched = both_servers().replace("state MASTER", "priority 150\ntrack_quorum -100");
    let _servers = [network.serve("edge1"), network.serve("edge2")];
    let director = Director::new(&network, &watched);
    let _agent = director.start_up();
    cut_off_from_all_but(&network, &["172.16.1.50"]);
    let says = |priority: u8| {
        let said = format!("VI_1: its priority is {priority} now");
        wait_for(&said, || director.log().contains(&said).then_some(()));
    };
    says(50);
    restore_route(&network);
    says(150);
}

#[test]
#[ignore = "needs root"]
fn servers_of_ipv6_and_of_tunnels_are_out_of_reach_without_a_route_too() {
    let network = Network::new();
    // Without checks: nothing but the way says how they are.
    let services = format!(
        "{}\nvirtual_server {VIP6} 1935 {{\nreal_server 2001:db8::d3 1935 {{ }}\n}}\n\
         virtual_server {VIP} 1936 {{\nlb_kind TUN\nreal_server 172.16.1.207 1936 {{ }}\n}}\n",
        configuration("real_server 172.16.1.211 1935 { }\n")
    );
    let agent = Agent::start(&network, &services);
    let quorums = || {
        let list = agent.list()?;
        let services = list["services"].as_array()?.clone();
        let quorum = |service: &serde_json::Value| service["quorum"].as_bool();
        services.iter().map(quorum).collect::<Option<Vec<bool>>>()
    };
    agent.wait_for_states(&["up"]);
    assert_eq!(quorums(), Some(vec![true; 3]));
    cut_off_from_all_but(&network, &["172.16.1.50"]);
    network.ip_on("director", "-6 route del 2001:db8::/64 dev eth2");
    wait_for("no quorum", || (quorums()? == [false; 3]).then_some(()));
    restore_route(&network);
    network.ip_on("director", "-6 route add 2001:db8::/64 dev eth2");
    wait_for("every quorum", || (quorums()? == [true; 3]).then_some(()));
}

#[test]
#[ignore = "needs root"]
fn servers_behind_an_interface_that_is_down_or_gone_are_out_of_reach() {
    let mut network = Network::new();
    network.plug_in_between("edge3", "172.16.1.213", "director");
    network.ip_on("edge3", "addr add 10.8.0.2/24 dev eth3");
    network.ip_on("director", "addr add 10.8.0.1/24 dev eth3");
    // It is not there at the start already.
    network.ip_on("edge3", "link set eth3 down");
    let inside = "quorum 2\nreal_server 172.16.1.211 1935 { }\nreal_server 10.8.0.2 1935 { }\n";
    let agent = Agent::start(&network, &configuration(inside));
    let wait_for_quorum = |expected: bool| {
        wait_for(format!("quorum: {expected}"), || {
            (agent.list()?["services"][0]["quorum"] == expected).then_some(())
        });
    };
    wait_for_quorum(false);
    agent.wait_for_states(&["up", "no-mac"]);
    network.ip_on("edge3", "link set eth3 up");
    wait_for_quorum(true);
    agent.wait_for_states(&["up", "up"]);

    // As a sorry server it is missed as well, and so it is after a reload.
    let inside = "real_server 172.16.1.211 1935 { }\nsorry_server 10.8.0.2 1935\n";
    fs::write(agent.file(), configuration(inside)).expect("the file is written");
    let reloaded = agent.command(&["reload"]);
    assert!(reloaded.status.success(), "{reloaded:?}");
    agent.wait_for_states(&["up", "standby"]);
    network.ip_on("director", "link del eth3");
    agent.wait_for_states(&["up", "no-mac"]);
    wait_for_quorum(true);
}

#[test]
#[ignore = "needs root"]
fn a_start_knows_at_once_where_the_servers_are_that_the_kernel_knows() {
    let servers = "real_server 172.16.1.211 1935 { }\nreal_server 172.16.1.207 1935 { }\n";
    let master = configuration(servers);
    let backup = master.replace("state MASTER", "state BACKUP\npriority 50");
    let (_, static_address) = master.split_at(master.find("virtual_server").expect("a service"));
    for (configuration, words) in [
        (&*master, &[][..]),
        (&*backup, &[]),
        (static_address, &["--interface", "eth2"]),
    ] {
        let network = Network::new();
        for (host, address, state) in [
            ("edge1", "172.16.1.211", "reachable"),
            ("edge2", "172.16.1.207", "stale"),
        ] {
            let mac = network.stdout(host, &["cat", "/sys/class/net/eth2/address"]);
            let entry = format!(
                "neigh replace {address} lladdr {} dev eth2 nud {state}",
                mac.trim()
            );
            network.ip_on("director", &entry);
        }
        let director = Director::new(&network, configuration);
        let _agent = director.start(words);
        let ready_at = wait_for("the agent to be ready", || director.log().find("ready: "));
        let log = director.log();
        for server in ["172.16.1.211", "172.16.1.207"] {
            let reached_at = log.find(&format!("{server}: reached at "));
            assert!(
                reached_at.is_some_and(|at| at < ready_at),
                "{configuration}: {server} is not reached by then:\n{log}"
            );
        }
    }
}
