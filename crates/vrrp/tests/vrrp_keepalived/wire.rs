//! What goes over the wire.

use netbed::wait_for;

use crate::netns::{Host, Network};
use crate::ours::Ours;
use crate::{VIP, deployment, version_3};

/// What a router sends on becoming master, and on leaving: each frame once.
fn frames_of_a_life(network: &Network, live: impl FnOnce()) -> Vec<String> {
    let capture = network.capture();
    live();
    let last_words = |frame: &Vec<u8>| match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(36) == Some(&0),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&112) && frame.get(56) == Some(&0),
        _ => false,
    };
    wait_for("both last adverts", || {
        let frames = capture.kept();
        frames.iter().filter(|frame| last_words(frame)).count() == 2
    });
    let mut lines: Vec<String> = capture
        .kept()
        .into_iter()
        .filter_map(|frame| describe(network, frame))
        .collect();
    lines.sort();
    lines.dedup();
    lines
}

/// A frame as text, without what differs from one packet to the next: IPv4's
/// identification with its checksum, and IPv6's flow label.
fn describe(network: &Network, mut frame: Vec<u8>) -> Option<String> {
    let from: Vec<String> = frame[6..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if from.join(":") != network.mac_address(Host::Ours) {
        return None;
    }
    let kind = match frame[12..14] {
        [0x08, 0x06] => "ARP",
        [0x08, 0x00] => {
            frame[18..20].fill(0);
            frame[24..26].fill(0);
            "IPv4"
        }
        _ if frame[20] == 112 => {
            frame[15] &= 0xf0;
            frame[16..18].fill(0);
            "IPv6"
        }
        _ if frame[54] == 136 && frame[38..54].ends_with(&[0, 1]) => "NA",
        _ => return None,
    };
    let bytes: Vec<String> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    // The kernel's own ARP, and its answers, are of no interest.
    if kind == "ARP" && frame[28..32] != frame[38..42] {
        return None;
    }
    Some(format!("{kind} {}", bytes.join(" ")))
}

#[test]
#[ignore = "needs root"]
fn on_the_wire_nobody_can_tell_us_from_keepalived() {
    let network = Network::lay_out();
    let both = deployment(100, "") + &version_3(100, "fe80::200\n2001:db8::200/64");
    let has_announced = |network: &Network| {
        wait_for("both addresses", || {
            [VIP, "2001:db8::200"]
                .iter()
                .all(|vip| network.holds(Host::Ours, vip))
        });
    };
    let theirs = frames_of_a_life(&network, || {
        let keepalived = network.keepalived(Host::Ours, &both);
        has_announced(&network);
        keepalived.stop();
    });
    let ours = frames_of_a_life(&network, || {
        let ours = Ours::start(&network, &both);
        has_announced(&network);
        ours.stop();
    });
    assert_eq!(ours, theirs);
    // Two adverts of each family, an ARP, two neighbour advertisements.
    assert_eq!(ours.len(), 7, "{ours:#?}");
}

#[test]
#[ignore = "needs root"]
fn of_more_addresses_than_an_advert_takes_both_sides_name_the_same() {
    let network = Network::lay_out();
    let v4: Vec<String> = (0..260)
        .map(|n| format!("10.9.{}.{}", n / 250, n % 250 + 1))
        .collect();
    // As many as keepalived has room for on an interface of Ethernet's MTU: 89.
    let v6: Vec<String> = (0..120)
        .map(|n| format!("2001:db8:9::{:x}/64", n + 1))
        .collect();
    let both = |priority: u8| {
        deployment(priority, "").replace(VIP, &format!("{VIP}\n{}", v4.join("\n")))
            + &version_3(priority, &format!("fe80::200\n{}", v6.join("\n")))
    };
    let lead = |host: Host, address: &str| {
        wait_for("it leads", || network.holds(host, address));
    };
    let last = [&*v4[v4.len() - 1], "2001:db8:9::78"];

    let keepalived = network.keepalived(Host::Theirs, &both(150));
    last.iter().for_each(|address| lead(Host::Theirs, address));
    let ours = Ours::start(&network, &both(100));
    let theirs = Host::Theirs.address().into();
    wait_for("its address in our status", || {
        ours.status().master == Some(theirs)
    });
    // It takes ours for adverts of its own virtual routers.
    keepalived.stop();
    last.iter().for_each(|address| lead(Host::Ours, address));
    // It may be busy with the addresses of one virtual router for seconds, and must not take
    // the other's master for silent before it reads the last advert.
    let patient = both(50).replace("advert_int", "down_timer_adverts 100\nadvert_int");
    let keepalived = network.keepalived(Host::Theirs, &patient);
    keepalived.wait_for_log("(VI_1) Entering BACKUP STATE");
    ours.stop();
    for name in ["VI_1", "VI_3"] {
        keepalived.wait_for_log(&format!(
            "({name}) Backup received priority 0 advertisement"
        ));
    }
}
