//! Servers that come back: slow start and flap control; and files that say how
//! they are.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::network::Network;
use super::{Agent, Process, configuration, wait_for};

/// Both servers, of which the second is as well as `file` says: 0 for well.
fn second_by_file(file: &Path, inside: &str) -> String {
    let configuration = configuration(&format!(
        "{inside}
        real_server 172.16.1.211 1935 {{ }}
        real_server 172.16.1.207 1935 {{ FILE_CHECK {{ track_file health }} }}"
    ));
    format!(
        "track_file health {{
            file {}
            weight 0
        }}
        {configuration}",
        file.display()
    )
}

/// The second server, as it is listed.
fn second(agent: &Agent) -> Value {
    agent.list().expect("the agent answers")["services"][0]["servers"][1].clone()
}

fn say(file: &Path, number: &str) {
    fs::write(file, number).expect("it is written");
}

/// `lb-user events`, in whose log is what happens from now on.
fn follow(network: &Network, agent: &Agent) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb-user"));
    command
        .args(["events", "--socket"])
        .arg(agent.directory.path().join("agent.sock"));
    let follower = network.on("director").spawn("events", command);
    let follower = follower.expect("the program exists");
    wait_for("the first event that it hears", || {
        for order in ["drain", "undrain"] {
            agent.command(&[order, "172.16.1.211"]);
        }
        (!follower.log().is_empty()).then_some(())
    });
    follower
}

#[test]
#[ignore = "needs root"]
fn the_share_of_a_server_that_returns_rises_step_by_step_to_the_whole() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("health");
    let agent = Agent::start(&network, &second_by_file(&file, "slow_start 9"));
    agent.wait_for_states(&["up", "up"]);
    assert_eq!(second(&agent)["reason"], Value::Null, "it was never down");
    say(&file, "1");
    agent.wait_for_states(&["up", "down"]);
    assert_eq!(second(&agent)["reason"], "it says 1");
    say(&file, "0");
    let mut shares = Vec::new();
    wait_for("the whole share", || {
        let second = second(&agent);
        let reason = second["reason"].as_str().unwrap_or_default();
        match reason.strip_prefix("slow start: ") {
            Some(share) => shares.push(share.to_owned()),
            None if second["state"] == "up" && !shares.is_empty() => return Some(()),
            None => {}
        }
        None
    });
    shares.dedup();
    assert!(shares.is_sorted(), "{shares:?}");
    assert!(shares.len() > 1, "in steps: {shares:?}");
    for share in &shares {
        let steps = (1..=9).map(|tenth| format!("{tenth}0 % of its share"));
        assert!(steps.into_iter().any(|step| step == *share), "{share}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_server_that_flaps_is_held_out_and_released_by_itself() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("health");
    let flap = "flap_limit 3\nflap_window 8\nflap_hold_down 1\nflap_hold_down_max 1";
    let agent = Agent::start(&network, &second_by_file(&file, flap));
    agent.wait_for_states(&["up", "up"]);
    let follower = follow(&network, &agent);
    hold_out(&agent, &file);
    agent.wait_for_states(&["up", "up"]);
    wait_for("the events to say why, and that it is back", || {
        let events = follower.log();
        let (_, then) = events.split_once("172.16.1.207:1935 stays out: held out for 1 s")?;
        then.contains("172.16.1.207:1935 is up").then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_that_is_held_out_is_released_when_the_other_is_drained() {
    let network = Network::new();
    let _server = network.serve("edge2");
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("health");
    let flap = "flap_limit 2\nflap_window 600\nflap_hold_down 600";
    let agent = Agent::start(&network, &second_by_file(&file, flap));
    agent.wait_for_states(&["up", "up"]);
    hold_out(&agent, &file);
    let drained = agent.command(&["drain", "172.16.1.211"]);
    assert!(drained.status.success(), "{drained:?}");
    assert_eq!(agent.states(), ["quiesced", "up"]);
    wait_for("an answer of the one that was held out", || {
        (network.ask() == "edge2").then_some(())
    });
}

/// Lets the second server flap until it is held out though it is well.
fn hold_out(agent: &Agent, file: &Path) {
    wait_for("it is held out", || {
        say(file, "1");
        agent.wait_for_states(&["up", "down"]);
        say(file, "0");
        wait_for("it is up, or would be", || {
            let second = second(agent);
            let reason = second["reason"].as_str().unwrap_or_default().to_owned();
            let is_held = reason.starts_with("held out");
            (is_held || second["state"] == "up").then_some(is_held)
        })
        .then_some(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_number_in_a_file_changes_the_weight_and_the_priority() {
    let network = Network::new();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("number");
    let configuration = configuration(
        "real_server 172.16.1.211 1935 { }
        real_server 172.16.1.207 1935 {
            weight 10
            FILE_CHECK {
                track_file number
                weight 2
            }
        }",
    )
    .replacen(
        "virtual_ipaddress",
        "track_file { number weight 0 reverse\n }\nvirtual_ipaddress",
        1,
    );
    let number = format!(
        "track_file number {{
            file {}
            init_file 7
        }}\n",
        file.display()
    );
    let agent = Agent::start(&network, &(number + &configuration));
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "7\n");
    let weight = |expected: u32| {
        wait_for(format!("weight {expected}"), || {
            (second(&agent)["weight"] == expected).then_some(())
        });
    };
    weight(24);
    say(&file, "-3");
    weight(4);
    say(&file, "-100");
    weight(0);
    // For the virtual router, 0 is a fault.
    let state = || agent.list().expect("the agent answers")["virtual_addresses"][0].clone();
    assert_eq!(state()["state"], "master", "{}", state());
    fs::remove_file(&file).expect("it is there");
    wait_for("a fault", || (state()["held"] == false).then_some(()));
    let cause = state()["cause"].to_string();
    assert!(cause.contains("the file number says so: 0"), "{cause}");
    weight(10);
    say(&file, "1");
    wait_for("master again", || (state()["held"] == true).then_some(()));
}
