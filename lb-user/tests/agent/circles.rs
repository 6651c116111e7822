//! Directors that are each other's real servers.

use super::network::Network;
use super::subnets::decided;
use super::{Agent, configuration, server, wait_for};

/// Makes `host` a director that stands by, whose one real server is at `address`.
fn stand_by(network: &Network, host: &str, address: &str) -> Agent {
    let configuration =
        configuration(&server(address)).replace("state MASTER", "state BACKUP\npriority 50");
    let agent = Agent::begin(network, host, &configuration, &[]);
    wait_for("an agent that stands by", || {
        let list = agent.list()?;
        (list["services"][0]["servers"][0]["state"] == "up").then_some(())
    });
    agent
}

#[test]
#[ignore = "needs root"]
fn of_two_directors_that_are_each_others_server_the_second_answers_itself() {
    let network = Network::new();
    let _servers = [network.serve("director"), network.serve("edge1")];
    let active = Agent::start(&network, &configuration(&server("172.16.1.211")));
    let standing_by = stand_by(&network, "edge1", "172.16.1.208");
    active.wait_for_states(&["up"]);
    for _ in 0..4 {
        assert_eq!(network.answer_at(super::VIP), "edge1");
    }
    let forwarded = decided(&active, "forwarded");
    assert!(decided(&standing_by, "balanced-before") >= forwarded);
    assert_eq!(decided(&standing_by, "forwarded"), 0, "nothing comes back");
}

#[test]
#[ignore = "needs root"]
fn a_circle_of_directors_who_do_not_know_each_other_ends_with_a_packets_hops() {
    let network = Network::new();
    let _servers = ["director", "edge1", "edge2"].map(|host| network.serve(host));
    let first = Agent::start(&network, &configuration(&server("172.16.1.211")));
    let second = stand_by(&network, "edge1", "172.16.1.207");
    let third = stand_by(&network, "edge2", "172.16.1.208");
    first.wait_for_states(&["up"]);
    // 64 hops from the client: the first has the packet again when they are used up.
    assert_eq!(network.answer_at(super::VIP), "director");
    let ended = decided(&first, "hops-exceeded");
    assert!(ended > 0);
    wait_for("all packets to end", || {
        let rounds = 21 * decided(&first, "hops-exceeded");
        let forwarded = [&first, &second, &third].map(|agent| decided(agent, "forwarded"));
        (forwarded == [rounds; 3]).then_some(())
    });
}
