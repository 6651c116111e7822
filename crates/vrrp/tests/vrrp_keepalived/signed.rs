//! Signed adverts (`auth_hmac`), beside a keepalived that knows them. Debian 12 has none:
//! the first keepalived in `PATH` is asked.

use std::process::Command;

use netbed::{skip, wait_for};
use vrrp::{Cause, Refusal, State};

use super::netns::{Host, INTERFACE, Network};
use super::ours::Ours;
use super::{VIP, leading_keepalived};

/// True for keepalived 2.4 or later.
fn knows_signatures() -> bool {
    let output = Command::new("keepalived").arg("--version").output();
    let output = output.expect("keepalived is installed");
    // It writes that to standard error.
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('v'));
    let mut parts = version.unwrap_or_default().split('.');
    let mut part = || parts.next()?.parse::<u32>().ok();
    (part(), part()) >= (Some(2), Some(4))
}

fn router(priority: u8, key: &str, more: &str, vip: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int 1
            auth_hmac {{
                key 1 {key}
                key 2 0123456789abcdef0123456789abcdef
                active_key 1
            }}
            virtual_ipaddress {{
                {vip}
            }}
            {more}
        }}
        "
    )
}

const KEY: &str = "hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[test]
#[ignore = "needs root"]
fn signed_adverts_are_understood_in_both_directions() {
    if !knows_signatures() {
        skip!("this keepalived knows no auth_hmac, 2.4 does");
    }
    for (vip, more) in [
        (VIP.to_owned(), String::new()),
        (VIP.to_owned(), "version 3".to_owned()),
        ("fe80::200".to_owned(), String::new()),
        (
            VIP.to_owned(),
            "unicast_src_ip %OURS\nunicast_peer {\n%THEIRS\n}".to_owned(),
        ),
    ] {
        let network = Network::lay_out();
        let (ours, theirs) = (Host::Ours.address(), Host::Theirs.address());
        let of = |own: &str, other: &str| more.replace("%OURS", own).replace("%THEIRS", other);
        let our_lines = of(&ours.to_string(), &theirs.to_string());
        let their_lines = of(&theirs.to_string(), &ours.to_string());
        let their_file = router(150, KEY, &their_lines, &vip);
        let keepalived = leading_keepalived(&network, &their_file, &vip);
        let ours = Ours::start(&network, &router(100, KEY, &our_lines, &vip));
        wait_for("an advert of keepalived's", || {
            ours.status().counters.adverts_received > 1
        });
        keepalived.stop();
        ours.wait_for_cause("it left", |cause| matches!(cause, Cause::MasterLeft(_)));
        let keepalived = network.keepalived(Host::Theirs, &router(50, KEY, &their_lines, &vip));
        keepalived.wait_for_log("Entering BACKUP STATE");
        // It hears the master; otherwise it would take the address, too.
        ours.stop();
        keepalived.wait_for_log("Backup received priority 0 advertisement");
        keepalived.stop();
    }
}

#[test]
#[ignore = "needs root"]
fn an_advert_with_another_key_counts_for_nothing() {
    if !knows_signatures() {
        skip!("this keepalived knows no auth_hmac, 2.4 does");
    }
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &router(150, KEY, "", VIP), VIP);
    let other = KEY.replace("1f", "ff");
    let ours = Ours::start(&network, &router(100, &other, "", VIP));
    ours.wait_for_state(State::Master);
    let dropped = ours.status().counters.adverts_dropped;
    assert_eq!(
        dropped.keys().copied().collect::<Vec<_>>(),
        [Refusal::SignatureWrong]
    );
    keepalived.wait_for_log("invalid authentication HMAC from");
    keepalived.stop();
}
