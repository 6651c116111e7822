//! Directors that are real servers of their own services.

use nix::sys::signal::Signal;

use super::hitless::two_viewers;
use super::network::{Network, VIP};
use super::subnets::decided;
use super::{Agent, configuration, server, wait_for};

/// Hosts that are directors and real servers. They have the virtual address on `lo`.
const BOXES: [(&str, &str); 2] = [("edge1", "172.16.1.211"), ("edge2", "172.16.1.207")];

/// The state of a director's servers, which has not led yet perhaps.
fn wait_until_up(agent: &Agent, count: usize) {
    wait_for("its servers are up", || {
        let list = agent.list()?;
        let servers = list["services"][0]["servers"].as_array()?.clone();
        let is_up = |server: &serde_json::Value| server["state"] == "up";
        (servers.len() == count && servers.iter().all(is_up)).then_some(())
    });
}

fn order(agent: &Agent, words: &[&str]) {
    let output = agent.command(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
}

#[test]
#[ignore = "needs root"]
fn a_director_serves_its_share_by_its_address_or_by_loopback() {
    let network = Network::new();
    let _servers = [network.serve("director"), network.serve("edge2")];
    for own in ["172.16.1.208", "127.0.0.1"] {
        let agent = Agent::start(
            &network,
            &configuration(&(server(own) + &server("172.16.1.207"))),
        );
        agent.wait_for_states(&["up", "up"]);
        for _ in 0..2 {
            assert_eq!(network.ask_twice_at(VIP), ["director", "edge2"], "{own}");
        }
        assert!(decided(&agent, "local") > 0);
        let list = agent.list().expect("the agent answers");
        let servers = &list["services"][0]["servers"];
        for server in servers.as_array().expect("servers") {
            assert!(
                server["counters"]["connections"].as_u64() >= Some(2),
                "{list}"
            );
        }

        let file = agent.file();
        let file = file.to_str().expect("UTF-8");
        let program = env!("CARGO_BIN_EXE_lb-user");
        let output = network.output("director", &[program, "check", "-c", file]);
        let told = String::from_utf8(output.stdout).expect("UTF-8");
        let sentence = format!("{own}:1935, this machine itself, weight 1: TCP_CHECK");
        assert!(told.contains(&sentence), "{told}");
        assert!(agent.stop().success());
    }
}

#[test]
#[ignore = "needs root"]
fn a_director_that_may_not_serve_refuses_although_it_listens() {
    let network = Network::new();
    let _servers = [network.converse("director"), network.serve("edge2")];
    let agent = Agent::start(
        &network,
        &configuration(&(server("172.16.1.208") + &server("172.16.1.207"))),
    );
    agent.wait_for_states(&["up", "up"]);
    // Of two connections `rr` gives one to each.
    let _connected = super::orders::connect(&network, 2);
    let first = || agent.list().expect("the agent answers")["services"][0]["servers"][0].clone();
    wait_for("a connection at the director", || {
        (first()["active_connections"] == 1).then_some(())
    });
    order(&agent, &["disable", "172.16.1.208"]);
    wait_for("its viewer is told", || {
        (first()["connections_reset"] == 1).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(network.answer_at(VIP), "edge2");
    }
    order(&agent, &["disable", "172.16.1.207"]);
    assert_eq!(network.ask(), "", "nobody serves");
    assert!(decided(&agent, "refused") > 0);
    order(&agent, &["undrain", "172.16.1.208"]);
    wait_for("it serves again", || {
        (decided(&agent, "local") > 0 && first()["state"] == "up").then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn two_boxes_share_connections_and_the_second_keeps_its_own_when_it_takes_over() {
    let network = Network::new();
    let _servers = BOXES.map(|(host, _)| network.converse(host));
    let servers: String = BOXES.iter().map(|(_, address)| server(address)).collect();
    let first = configuration(&servers);
    let second = first.replace("state MASTER", "state BACKUP\npriority 50");
    let first = Agent::begin(&network, "edge1", &first, &[]);
    let second = Agent::begin(&network, "edge2", &second, &[]);
    for agent in [&first, &second] {
        wait_until_up(agent, 2);
    }
    let leads = |agent: &Agent| {
        wait_for("it leads", || {
            (agent.list()?["virtual_addresses"][0]["held"] == true).then_some(())
        });
    };
    leads(&first);

    let ([mut one, mut other], served) = two_viewers(&network);
    assert!(decided(&second, "balanced-before") > 0);
    for verdict in ["forwarded", "local"] {
        assert_eq!(decided(&second, verdict), 0, "nothing is balanced twice");
    }

    // The first one's machine loses power.
    first.signal(Signal::SIGKILL);
    network.unplug("edge1");
    leads(&second);
    let kept = if served[0] == "edge2" {
        &mut one
    } else {
        &mut other
    };
    assert_eq!(kept.ask(), "edge2", "by the connection that it had");
}
