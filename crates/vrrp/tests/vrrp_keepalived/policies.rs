//! Who leads when, as both files say, with keepalived in either role.

use netbed::wait_for;
use vrrp::Subject;
use vrrp::{Cause, State};

use crate::netns::{Host, INTERFACE, Network};
use crate::ours::Ours;
use crate::{VIP, deployment, leading_keepalived, version_3};

#[test]
#[ignore = "needs root"]
fn with_nopreempt_keepalived_leaves_us_alone_though_its_priority_is_higher() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    let keepalived = network.keepalived(Host::Theirs, &deployment(150, "nopreempt"));
    keepalived.wait_for_log("Entering BACKUP STATE");
    network.third_host_asks_for(VIP);
    let sent = ours.status().counters.adverts_sent;
    // More adverts than a router that preempts would let pass.
    wait_for("six adverts", || {
        ours.status().counters.adverts_sent >= sent + 6
    });
    assert_eq!(ours.status().state, State::Master);
    assert!(!keepalived.log().contains("Entering MASTER STATE"));
    ours.stop();
    keepalived.wait_for_log("Entering MASTER STATE");
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn with_preempt_delay_we_let_a_lower_priority_lead_for_that_long() {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &deployment(100, ""), VIP);
    let ours = Ours::start(&network, &deployment(150, "preempt_delay 6"));
    ours.wait_for_state(State::Backup);
    ours.wait_for_cause("Cause::LowerPriority(_, 100)", |cause| {
        matches!(cause, Cause::LowerPriority(_, 100))
    });
    // Within six seconds keepalived sends five adverts, but for a busy machine; without
    // the delay we would have waited for three.
    assert!(ours.status().counters.adverts_received > 3);
    keepalived.wait_for_log("with higher priority 150, ours 100");
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Ours, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn with_preempt_delay_keepalived_lets_us_lead_for_that_long() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    let sent = ours.status().counters.adverts_sent;
    let keepalived = network.keepalived(Host::Theirs, &deployment(150, "preempt_delay 6"));
    ours.wait_for_cause("Cause::HigherPriority(_, 150)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 150))
    });
    assert!(ours.status().counters.adverts_sent > sent + 3);
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn scripts_that_cannot_be_run_count_for_nothing_here_as_there() {
    let network = Network::lay_out();
    let directory = tempfile::tempdir().expect("a directory");
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "#!/bin/sh\nexit 0\n").expect("the file is written");
    let plain = plain.display();
    let scripts = [
        ("missing", "/no/such/script with words".to_owned()),
        ("in_no_path", "no-such-program".to_owned()),
        ("not_executable", plain.to_string()),
        ("is_there", format!("<{plain}")),
    ];
    let tracked: Vec<&str> = scripts.iter().map(|(name, _)| *name).collect();
    let blocks = scripts.iter().map(|(name, script)| {
        format!("vrrp_script {name} {{\nscript \"{script}\"\ninterval 1\ninit_fail\n}}\n")
    });
    let track = format!("track_script {{\n{}\n}}\n", tracked.join("\n"));
    let configuration = blocks.collect::<String>() + &deployment(100, &track);

    let keepalived = leading_keepalived(&network, &configuration, VIP);
    keepalived.wait_for_log("Disabling track script missing since not found/accessible");
    keepalived.stop();
    let ours = Ours::start(&network, &configuration);
    ours.wait_for_state(State::Master);
}

#[test]
#[ignore = "needs root"]
fn a_file_that_is_gone_is_a_failure_of_the_script_that_opens_it() {
    let network = Network::lay_out();
    let directory = tempfile::tempdir().expect("a directory");
    let flag = directory.path().join("healthy");
    std::fs::write(&flag, "").expect("the flag is written");
    let configuration = format!(
        "vrrp_script healthy {{\nscript \"<{}\"\ninterval 0.2\n}}\n",
        flag.display()
    ) + &deployment(100, "track_script {\nhealthy\n}");
    let ours = Ours::start(&network, &configuration);
    ours.wait_for_state(State::Master);
    std::fs::remove_file(&flag).expect("the flag is removed");
    let cause = ours.wait_for_state(State::Fault);
    assert_eq!(cause, Cause::Fault("the script healthy fails".to_owned()));
}

#[test]
#[ignore = "needs root"]
fn a_sync_group_of_one_is_told_of_its_states_here_as_there() {
    let network = Network::lay_out();
    let group = "vrrp_sync_group VG_1 {\ngroup {\nVI_1\n}\n}\n";
    let configuration = deployment(100, "") + group;
    let keepalived = leading_keepalived(&network, &configuration, VIP);
    keepalived.wait_for_log("VRRP_Group(VG_1) Syncing instances to MASTER state");
    keepalived.stop();
    let ours = Ours::start(&network, &configuration);
    for state in [State::Backup, State::Master] {
        ours.wait_for_event("an event of the group", |event| {
            (event.subject, event.name.as_str(), event.state) == (Subject::Group, "VG_1", state)
        });
    }
}

/// A virtual router whose priority falls while a file is missing.
fn that_tracks(flag: &std::path::Path, priority: u8) -> String {
    // In its own directory, as root: keepalived refuses others.
    format!(
        "global_defs {{
            script_user root
        }}
        vrrp_script chk {{
            script \"/usr/bin/test -e {}\"
            interval 1
            weight -60
        }}
        ",
        flag.display()
    ) + &deployment(priority, "track_script {\nchk\n}")
}

#[test]
#[ignore = "needs root"]
fn a_script_that_fails_hands_over_to_keepalived_and_one_that_succeeds_takes_back() {
    let network = Network::lay_out();
    let directory = tempfile::tempdir().expect("a directory");
    let flag = directory.path().join("healthy");
    std::fs::write(&flag, "").expect("the flag is written");
    let ours = Ours::start(&network, &that_tracks(&flag, 150));
    ours.wait_for_state(State::Master);
    let keepalived = network.keepalived(Host::Theirs, &deployment(100, ""));
    keepalived.wait_for_log("Entering BACKUP STATE");
    network.third_host_asks_for(VIP);

    std::fs::remove_file(&flag).expect("the flag is removed");
    ours.wait_for_cause("Cause::HigherPriority(_, 100)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 100))
    });
    network.wait_for_holder(Host::Theirs, VIP);
    assert_eq!(ours.status().priority, 90);

    std::fs::write(&flag, "").expect("the flag is written");
    keepalived.wait_for_log("with higher priority 150, ours 100");
    network.wait_for_holder(Host::Ours, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn a_script_of_keepalived_that_fails_hands_over_to_us() {
    let network = Network::lay_out();
    let directory = tempfile::tempdir().expect("a directory");
    let flag = directory.path().join("healthy");
    std::fs::write(&flag, "").expect("the flag is written");
    let keepalived = leading_keepalived(&network, &that_tracks(&flag, 150), VIP);
    let ours = Ours::start(&network, &deployment(100, ""));
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);

    std::fs::remove_file(&flag).expect("the flag is removed");
    ours.wait_for_cause("Cause::LowerPriority(_, 90)", |cause| {
        matches!(cause, Cause::LowerPriority(_, 90))
    });
    network.wait_for_holder(Host::Ours, VIP);

    std::fs::write(&flag, "").expect("the flag is written");
    ours.wait_for_cause("Cause::HigherPriority(_, 150)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 150))
    });
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn unicast_peers_agree_with_keepalived_over_ipv6() {
    let network = Network::lay_out();
    let [us, them] = [(Host::Ours, "fe80::a"), (Host::Theirs, "fe80::b")].map(|(host, address)| {
        network.ip_on(
            host,
            &format!("addr add {address}/64 dev {INTERFACE} nodad"),
        );
        address
    });
    let unicast = |from: &str, to: &str, priority| {
        let more = format!("unicast_src_ip {from}\nunicast_peer {{\n{to}\n}}");
        version_3(priority, "fe80::200").replace("version 3", &format!("version 3\n{more}"))
    };
    let ours = Ours::start(&network, &unicast(us, them, 100));
    ours.wait_for_state(State::Master);
    let keepalived = network.keepalived(Host::Theirs, &unicast(them, us, 150));
    ours.wait_for_cause("Cause::HigherPriority(_, 150)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 150))
    });
    network.third_host_asks_for("fe80::200");
    network.wait_for_holder(Host::Theirs, "fe80::200");
    keepalived.stop();
    ours.wait_for_cause("Cause::MasterLeft(_)", |cause| {
        matches!(cause, Cause::MasterLeft(_))
    });
    network.wait_for_holder(Host::Ours, "fe80::200");
}

#[test]
#[ignore = "needs root"]
fn a_group_of_their_own_keeps_two_pairs_of_one_number_apart() {
    let network = Network::lay_out();
    let other_group = deployment(150, "mcast_dst_ip 224.0.0.99");
    let keepalived = leading_keepalived(&network, &other_group, VIP);
    let deaf = Ours::start(&network, &deployment(100, "").replace(VIP, "172.16.1.201"));
    deaf.wait_for_state(State::Master);
    assert_eq!(deaf.status().counters.adverts_received, 0);
    drop(deaf);
    let ours = Ours::start(&network, &deployment(100, "mcast_dst_ip 224.0.0.99"));
    wait_for("an advert", || ours.status().counters.adverts_received > 0);
    assert_eq!(ours.status().state, State::Backup);
    keepalived.stop();
    ours.wait_for_state(State::Master);
}

#[test]
#[ignore = "needs root"]
fn a_source_that_must_exist_is_waited_for() {
    let network = Network::lay_out();
    let ours = Ours::start(
        &network,
        &deployment(100, "mcast_src_ip 172.16.1.77\ntrack_src_ip"),
    );
    let cause = ours.wait_for_state(State::Fault);
    let expected = format!("{INTERFACE} does not have the address 172.16.1.77");
    assert_eq!(cause, Cause::Fault(expected));
    network.ip_on(
        Host::Ours,
        &format!("addr add 172.16.1.77/24 dev {INTERFACE}"),
    );
    ours.wait_for_state(State::Master);
}

#[test]
#[ignore = "needs root"]
fn announcements_keep_their_pauses_and_end_with_the_lead() {
    let network = Network::lay_out();
    let capture = network.capture();
    let slow = "global_defs {\nvrrp_garp_interval 2\n}\n".to_owned();
    let ours = Ours::start(
        &network,
        &(slow + &deployment(100, "garp_master_repeat 100")),
    );
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    let gratuitous = || {
        let frames = capture.kept();
        let is_ours = |frame: &&Vec<u8>| {
            frame[12..14] == [8, 6]
                && frame[28..32] == [172, 16, 1, 200]
                && frame[28..32] == frame[38..42]
        };
        frames.iter().filter(is_ours).count()
    };
    wait_for("the second announcement", || gratuitous() == 2);
    // A hundred of them would take minutes.
    ours.stop();
    assert!(!network.holds(Host::Ours, VIP));
    assert!(gratuitous() < 10, "{}", gratuitous());
}
