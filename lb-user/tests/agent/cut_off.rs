//! A director that can no longer reach the edges, while viewers reach it.

use super::hitless::{Viewer, two_viewers};
use super::network::Network;
use super::{Agent, both_servers};

#[test]
#[ignore = "needs root"]
fn a_director_that_is_cut_off_from_the_edges_resets_nobody_before_another_could_lead() {
    let network = Network::new();
    let edges = ["edge1", "edge2"];
    let _servers = edges.map(|edge| network.converse(edge));
    // Adverts are so rare that nothing is decided in this test: another director
    // would take 21 s.
    let watched = both_servers().replace("state MASTER", "advert_int 4\ntrack_quorum -50");
    let agent = Agent::start(&network, &watched);
    agent.wait_for_states(&["up", "up"]);
    let (mut viewers, served) = two_viewers(&network);

    // Checks of the director's are not answered any more.
    for edge in edges {
        network.ip_on(edge, "route add blackhole 172.16.1.208/32");
    }
    agent.wait_for_states(&["down", "down"]);
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);
    for edge in edges {
        network.ip_on(edge, "route del blackhole 172.16.1.208/32");
    }
    agent.wait_for_states(&["up", "up"]);
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);
    let list = agent.list().expect("the agent answers");
    for server in list["services"][0]["servers"].as_array().expect("servers") {
        assert_eq!(server["connections_reset"], 0, "{server}");
    }
}
