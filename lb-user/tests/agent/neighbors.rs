//! Frames after MAC addresses change, or are named.

use std::time::{Duration, Instant};

use super::hitless::{Viewer, two_viewers};
use super::network::{Network, VIP6};
use super::{Agent, configuration, wait_for};

#[test]
#[ignore = "needs root"]
fn a_mac_address_that_changes_in_silence_is_followed() {
    let network = Network::new();
    // Without checks: nothing else would make the director talk to the edges.
    let without_checks =
        configuration("real_server 172.16.1.211 1935 { }\nreal_server 172.16.1.207 1935 { }\n");
    let agent = Agent::start(&network, &without_checks);
    agent.wait_for_states(&["up", "up"]);
    let mac = "02:00:00:00:00:77";
    network.output("edge2", &["ip", "link", "set", "eth2", "address", mac]);
    wait_for("the new MAC address", || {
        let list = agent.list()?;
        (list["services"][0]["servers"][1]["mac"] == mac).then_some(())
    });
    agent.wait_for_states(&["up", "up"]);
}

#[test]
#[ignore = "needs root"]
fn a_permanent_entry_of_the_kernels_is_left_alone() {
    let network = Network::new();
    let mac = "02:00:00:00:00:99";
    let words = [
        "ip",
        "neigh",
        "add",
        "172.16.1.207",
        "lladdr",
        mac,
        "dev",
        "eth2",
        "nud",
    ];
    network.output("director", &[&words[..], &["permanent"]].concat());
    let without_checks =
        configuration("real_server 172.16.1.211 1935 { }\nreal_server 172.16.1.207 1935 { }\n");
    let agent = Agent::start(&network, &without_checks);
    agent.wait_for_states(&["up", "up"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(list["services"][0]["servers"][1]["mac"], mac);
    let entry = network.stdout("director", &["ip", "neigh", "show", "172.16.1.207"]);
    assert!(
        entry.contains(mac) && entry.contains("PERMANENT"),
        "{entry}"
    );
}

#[test]
#[ignore = "needs root"]
fn a_server_whose_mac_address_is_named_need_not_answer_for_it() {
    let network = Network::new();
    let _two = network.serve("edge2");
    // It answers no ARP request at all (ip-sysctl.rst, arp_ignore).
    let silent = ["sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=8"];
    network.output("edge2", &silent);
    let mac = network.stdout("edge2", &["cat", "/sys/class/net/eth2/address"]);
    let agent = Agent::start(
        &network,
        &configuration("real_server 172.16.1.207 1935 { }\n"),
    );
    agent.wait_for_states(&["no-mac"]);
    drop(agent);
    let named = format!("real_server 172.16.1.207 1935 {{ mac_address {mac} }}\n");
    let agent = Agent::start(&network, &configuration(&named));
    agent.wait_for_states(&["up"]);
    wait_for("an answer", || (network.ask() == "edge2").then_some(()));
}

#[test]
#[ignore = "needs root"]
fn a_known_server_that_no_longer_answers_for_its_mac_address_keeps_its_viewers() {
    let network = Network::new();
    let _servers = [network.converse("edge1"), network.converse("edge2")];
    let without_checks =
        configuration("real_server 172.16.1.211 1935 { }\nreal_server 172.16.1.207 1935 { }\n");
    let agent = Agent::start(&network, &without_checks);
    agent.wait_for_states(&["up", "up"]);
    let (mut viewers, served) = two_viewers(&network);

    network.set("edge2", "net.ipv4.conf.all.arp_ignore=8");
    agent.wait_for_states(&["up", "no-mac"]);
    let list = agent.list().expect("the agent answers");
    let reason = list["services"][0]["servers"][1]["reason"].as_str();
    assert_eq!(
        reason,
        Some("172.16.1.207 does not answer for its MAC address on eth2")
    );
    // Frames go where they went: it may be that only its answers are lost.
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);

    // It answers again, at another MAC address.
    let mac = "02:00:00:00:00:78";
    network.output("edge2", &["ip", "link", "set", "eth2", "address", mac]);
    network.set("edge2", "net.ipv4.conf.all.arp_ignore=1");
    agent.wait_for_states(&["up", "up"]);
    let list = agent.list().expect("the agent answers");
    assert_eq!(list["services"][0]["servers"][1]["mac"], mac);
    assert_eq!(viewers.each_mut().map(Viewer::ask), served);
}

/// Prints how long it takes until a MAC address that changes in silence is
/// followed, and what is asked meanwhile. Run it by itself, on a quiet machine:
/// `cargo test --release -p lb-user --test agent -- --ignored --nocapture missed`
#[test]
#[ignore = "a measurement"]
fn how_long_a_mac_address_that_changes_in_silence_is_missed() {
    const CHANGES: u8 = 20;
    let network = Network::new();
    let without_checks = configuration("real_server 172.16.1.207 1935 { }\n")
        + &format!("\nvirtual_server {VIP6} 1935 {{\nreal_server 2001:db8::cf 1935 {{ }}\n}}\n");
    let agent = Agent::start(&network, &without_checks);
    for (service, address) in ["172.16.1.207", "2001:db8::cf"].into_iter().enumerate() {
        let mut times = Vec::new();
        for change in 0..CHANGES {
            // At another moment between two questions each time.
            std::thread::sleep(Duration::from_millis(1_000 + 37 * u64::from(change)));
            let mac = format!("02:00:00:00:{service:02x}:{change:02x}");
            network.output("edge2", &["ip", "link", "set", "eth2", "address", &mac]);
            let start = Instant::now();
            while agent.list().expect("it answers")["services"][service]["servers"][0]["mac"] != mac
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "{address}: {:.0?} to {:.0?}, half of them within {:.0?}",
            times[0],
            times[times.len() - 1],
            times[times.len() / 2]
        );
    }
    let asked = network.capture(
        "director",
        "-t arp[6:2]==1 or icmp6[icmp6type]==icmp6-neighborsolicit",
    );
    std::thread::sleep(Duration::from_secs(12));
    let asked = asked.stop();
    for (family, word) in [("IPv4", "ARP"), ("IPv6", "neighbor solicitation")] {
        let count = asked.lines().filter(|line| line.contains(word)).count();
        println!("{family}: {count} questions in 12 s");
    }
}
