//! Tools that know keepalived find what they look for.

use std::fs;

use nix::libc;
use serde_json::Value;

use super::network::Network;
use super::{Agent, VIP, both_servers, wait_for};

impl Agent {
    /// Sends a signal that may have no name.
    fn send(&self, number: i32) {
        let id = i32::try_from(self.process.pid()).expect("a pid");
        // SAFETY: the call takes two numbers and touches no memory.
        assert_eq!(unsafe { libc::kill(id, number) }, 0, "the agent runs");
    }

    /// The file that keepalived's tools read, once it is there and `is_whole`.
    fn wait_for_file(&self, name: &str, is_whole: impl Fn(&str) -> bool) -> String {
        wait_for(name, || {
            let text = fs::read_to_string(self.directory.path().join(name)).ok()?;
            is_whole(&text).then_some(text)
        })
    }
}

#[test]
#[ignore = "needs root"]
fn the_signals_of_keepalived_s_exporters_are_answered_with_its_files_and_end_nobody() {
    let network = Network::new();
    let agent = Agent::start(&network, &both_servers());
    agent.send(36);
    let json = agent.wait_for_file("keepalived.json", |text| !text.is_empty());
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let data = &json[0]["data"];
    assert_eq!(data["iname"], "VI_1");
    assert_eq!((&data["state"], &data["vrid"]), (&2.into(), &51.into()));
    assert_eq!(data["vips"][0], format!("{VIP} dev eth2 scope global set"));
    assert_eq!(json[0]["stats"]["become_master"], 1);
    assert_eq!(data["adver_int"].to_string(), "1", "a whole number");
    // As an exporter does without JSON.
    agent.send(libc::SIGUSR2);
    agent.send(libc::SIGUSR1);
    let data = agent.wait_for_file("keepalived.data", |text| text.contains("VRRP Instance"));
    for line in [
        " VRRP Instance = VI_1\n",
        "   State = MASTER\n",
        "   Interface = eth2\n",
        "   Virtual IP (1):\n     172.16.1.200 dev eth2 scope global set\n",
    ] {
        assert!(data.contains(line), "{data}");
    }
    let stats = agent.wait_for_file("keepalived.stats", |text| text.contains("Sent"));
    assert!(
        stats.starts_with("VRRP Instance: VI_1\n  Advertisements:\n"),
        "{stats}"
    );
    for number in [14, 26, 27, 29, 30, 34, 35, 40, 63, 64] {
        agent.send(number);
    }
    let list = agent.list().expect("it serves on");
    assert_eq!(list["virtual_addresses"][0]["held"], true);
    assert!(agent.stop().success());
}
