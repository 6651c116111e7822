//! Our virtual routers beside Debian's keepalived, on a real network.

mod measurement;
mod netns;
mod ours;
mod policies;
mod routes;
mod signed;
mod wire;

use netbed::wait_for;
use netns::{Host, INTERFACE, Keepalived, Network};
use ours::{Ours, settings};
use vrrp::Vrrp;
use vrrp::{Cause, State};

const VIP: &str = "172.16.1.200";

/// The deployment's virtual router; keepalived and we read the same file.
fn deployment(priority: u8, more: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            advert_int 1
            authentication {{
                auth_type PASS
                auth_pass 1111
            }}
            virtual_ipaddress {{
                {VIP}
            }}
            {more}
        }}
        "
    )
}

/// Starts keepalived and lets it lead, so that our side finds a master.
fn leading_keepalived(network: &Network, configuration: &str, vip: &str) -> Keepalived {
    let keepalived = network.keepalived(Host::Theirs, configuration);
    wait_for("keepalived to lead", || network.holds(Host::Theirs, vip));
    keepalived
}

#[test]
#[ignore = "needs root"]
fn keepalived_takes_over_at_once_when_we_stop_and_gives_back_when_we_return() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(150, ""));
    let keepalived = network.keepalived(Host::Theirs, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Ours, VIP);

    ours.stop();
    keepalived.wait_for_log("Backup received priority 0 advertisement");
    network.wait_for_holder(Host::Theirs, VIP);

    let ours = Ours::start(&network, &deployment(150, ""));
    ours.wait_for_cause("Cause::LowerPriority(_, 100)", |cause| {
        matches!(cause, Cause::LowerPriority(_, 100))
    });
    keepalived.wait_for_log("with higher priority 150, ours 100");
    network.wait_for_holder(Host::Ours, VIP);
    let counters = ours.status().counters;
    assert!(
        counters.adverts_dropped.is_empty(),
        "{:?}",
        counters.adverts_dropped
    );
}

#[test]
#[ignore = "needs root"]
fn we_take_over_at_once_when_keepalived_stops_and_give_back_when_it_returns() {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &deployment(150, ""), VIP);
    let ours = Ours::start(&network, &deployment(100, ""));
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);
    let theirs = Host::Theirs.address().into();
    wait_for("its address in our status", || {
        ours.status().master == Some(theirs)
    });

    keepalived.stop();
    ours.wait_for_cause("it left", |cause| *cause == Cause::MasterLeft(theirs));
    network.wait_for_holder(Host::Ours, VIP);

    let keepalived = network.keepalived(Host::Theirs, &deployment(150, ""));
    let higher = Cause::HigherPriority(theirs, 150);
    ours.wait_for_cause("it is back", |cause| *cause == higher);
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn a_master_that_is_cut_off_is_replaced_and_gets_its_role_back() {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &deployment(150, ""), VIP);
    let ours = Ours::start(&network, &deployment(100, ""));
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);

    network.cut(Host::Theirs);
    ours.wait_for_cause("Cause::Silence(_)", |cause| {
        matches!(cause, Cause::Silence(_))
    });
    network.mend(Host::Theirs);
    ours.wait_for_cause("Cause::HigherPriority(_, 150)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 150))
    });
    network.wait_for_holder(Host::Theirs, VIP);

    // And the other way round.
    ours.stop();
    let ours = Ours::start(&network, &deployment(200, ""));
    ours.wait_for_state(State::Master);
    network.wait_for_holder(Host::Ours, VIP);
    network.cut(Host::Ours);
    wait_for("keepalived to take over", || {
        network.holds(Host::Theirs, VIP)
    });
    network.mend(Host::Ours);
    network.wait_for_holder(Host::Ours, VIP);
    assert_eq!(ours.status().state, State::Master);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn with_nopreempt_we_leave_a_living_master_of_lower_priority_alone() {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &deployment(100, ""), VIP);
    network.third_host_asks_for(VIP);
    let ours = Ours::start(&network, &deployment(150, "nopreempt"));
    // More adverts than a router that preempts would let pass.
    wait_for("six adverts", || {
        ours.status().counters.adverts_received >= 6
    });
    assert_eq!(ours.status().state, State::Backup);
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
    ours.wait_for_cause("Cause::MasterLeft(_)", |cause| {
        matches!(cause, Cause::MasterLeft(_))
    });
    network.wait_for_holder(Host::Ours, VIP);
}

#[test]
#[ignore = "needs root"]
fn unicast_peers_agree_with_keepalived() {
    let network = Network::lay_out();
    let unicast = |us: Host, peer: Host, priority| {
        let (us, peer) = (us.address(), peer.address());
        deployment(
            priority,
            &format!("unicast_src_ip {us}\nunicast_peer {{\n{peer}\n}}"),
        )
    };
    let ours = Ours::start(&network, &unicast(Host::Ours, Host::Theirs, 100));
    ours.wait_for_state(State::Master);
    let theirs = unicast(Host::Theirs, Host::Ours, 150);
    let keepalived = network.keepalived(Host::Theirs, &theirs);
    ours.wait_for_cause("Cause::HigherPriority(_, 150)", |cause| {
        matches!(cause, Cause::HigherPriority(_, 150))
    });
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);
    keepalived.stop();
    ours.wait_for_state(State::Master);
    network.wait_for_holder(Host::Ours, VIP);
}

fn version_3(priority: u8, addresses: &str) -> String {
    format!(
        "vrrp_instance VI_3 {{
            state BACKUP
            interface {INTERFACE}
            version 3
            virtual_router_id 53
            priority {priority}
            advert_int 0.5
            virtual_ipaddress {{
                {addresses}
            }}
        }}
        "
    )
}

fn agree_in_version_3(addresses: &str, vip: &str) {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &version_3(150, addresses), vip);
    let ours = Ours::start(&network, &version_3(100, addresses));
    network.third_host_asks_for(vip);
    network.wait_for_holder(Host::Theirs, vip);
    keepalived.stop();
    ours.wait_for_cause("Cause::MasterLeft(_)", |cause| {
        matches!(cause, Cause::MasterLeft(_))
    });
    network.wait_for_holder(Host::Ours, vip);

    let keepalived = network.keepalived(Host::Theirs, &version_3(50, addresses));
    keepalived.wait_for_log("Entering BACKUP STATE");
    ours.stop();
    keepalived.wait_for_log("Backup received priority 0 advertisement");
    network.wait_for_holder(Host::Theirs, vip);
}

#[test]
#[ignore = "needs root"]
fn version_3_over_ipv4_agrees_with_keepalived() {
    agree_in_version_3(VIP, VIP);
}

#[test]
#[ignore = "needs root"]
fn version_3_over_ipv6_agrees_with_keepalived() {
    agree_in_version_3("fe80::200\n2001:db8::200/64", "fe80::200");
}

#[test]
#[ignore = "needs root"]
fn a_wrong_password_is_dropped_and_counted() {
    let network = Network::lay_out();
    let keepalived = leading_keepalived(&network, &deployment(150, ""), VIP);
    let other = deployment(100, "").replace("auth_pass 1111", "auth_pass 2222");
    let ours = Ours::start(&network, &other);
    let dropped = wait_for("a dropped advert", || {
        ours.status()
            .counters
            .adverts_dropped
            .keys()
            .next()
            .copied()
    });
    assert_eq!(dropped, vrrp::Refusal::Password);
    assert_eq!(ours.status().counters.adverts_received, 0);
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_goes_down_is_a_fault_and_one_that_returns_is_none() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.ip_on(Host::Ours, &format!("link set {INTERFACE} down"));
    let cause = ours.wait_for_state(State::Fault);
    assert_eq!(cause, Cause::Fault(format!("{INTERFACE} is down")));
    wait_for("no address", || !network.holds(Host::Ours, VIP));
    network.ip_on(Host::Ours, &format!("link set {INTERFACE} up"));
    ours.wait_for_state(State::Backup);
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    // Another interface of the same name is another interface.
    network.ip_on(Host::Ours, &format!("link del {INTERFACE}"));
    let cause = ours.wait_for_state(State::Fault);
    assert!(cause.to_string().contains(INTERFACE), "{cause}");
    network.plug_in_again(Host::Ours);
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
}

#[test]
#[ignore = "needs root"]
fn an_address_that_somebody_takes_away_comes_back() {
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    network.ip_on(Host::Ours, &format!("addr del {VIP}/32 dev {INTERFACE}"));
    network.third_host_asks_for(VIP);
    assert_eq!(ours.status().state, State::Master);
}

#[test]
#[ignore = "needs root"]
fn a_restarted_director_goes_on_holding_the_address_of_its_earlier_run() {
    // Time enough for our side to be started again, whatever else runs here.
    const PATIENT: &str = "down_timer_adverts 10";
    let network = Network::lay_out();
    let ours = Ours::start(&network, &deployment(150, PATIENT));
    ours.wait_for_state(State::Master);
    let keepalived = network.keepalived(Host::Theirs, &deployment(100, PATIENT));
    keepalived.wait_for_log("Entering BACKUP STATE");
    ours.abandon();
    assert!(network.holds(Host::Ours, VIP), "nobody has removed it");
    let ours = Ours::start(&network, &deployment(150, PATIENT));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Ours, VIP);
    assert!(
        !keepalived.log().contains("Entering MASTER STATE"),
        "keepalived never missed us"
    );
    keepalived.stop();
}

#[test]
#[ignore = "needs root"]
fn a_reload_keeps_the_state_and_changes_the_addresses() {
    let network = Network::lay_out();
    const SECOND: &str = "172.16.1.201";
    let with = |addresses: &str, more: &str| deployment(100, more).replace(VIP, addresses);
    let ours = Ours::start(&network, &with(VIP, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    ours.reload(&with(&format!("{VIP}\n{SECOND}"), ""));
    network.third_host_asks_for(SECOND);
    ours.reload(&with(SECOND, ""));
    wait_for("the first address gone", || !network.holds(Host::Ours, VIP));
    assert!(network.holds(Host::Ours, SECOND));
    let status = ours.status();
    assert_eq!(
        (status.state, status.counters.became_master),
        (State::Master, 1)
    );
    ours.reload("");
    wait_for("the second address gone", || {
        !network.holds(Host::Ours, SECOND)
    });
}

#[test]
#[ignore = "needs root"]
fn a_sync_group_leads_and_leaves_as_one_and_a_failing_script_takes_it_down() {
    let network = Network::lay_out();
    let directory = tempfile::tempdir().expect("a directory");
    let flag = directory.path().join("healthy");
    std::fs::write(&flag, "").expect("the flag is written");
    let configuration = deployment(100, "")
        + &version_3(100, "fe80::200")
        + &format!(
            "vrrp_script chk {{
                script \"/usr/bin/test -e {}\"
                interval 0.2
            }}
            vrrp_sync_group VG_1 {{
                group {{
                    VI_1
                    VI_3
                }}
                track_script {{
                    chk
                }}
            }}",
            flag.display()
        );
    let ours = Ours::start(&network, &configuration);
    assert_eq!(ours.wait_for_state(State::Master), Cause::Group);
    network.third_host_asks_for(VIP);
    network.third_host_asks_for("fe80::200");
    std::fs::remove_file(&flag).expect("the flag is removed");
    let cause = ours.wait_for_state(State::Fault);
    assert_eq!(cause, Cause::Fault("the script chk fails".to_owned()));
    wait_for("no address", || {
        [VIP, "fe80::200"]
            .iter()
            .all(|vip| !network.holds(Host::Ours, vip))
    });
    std::fs::write(&flag, "").expect("the flag is written");
    ours.wait_for_state(State::Master);
}

/// Set for the copy of this program that `two_capabilities_are_enough` starts.
const RUN: &str = "VRRP_TEST_RUN";

#[test]
#[ignore = "needs root"]
fn two_capabilities_are_enough() {
    if std::env::var_os(RUN).is_some() {
        return run_until_killed();
    }
    let network = Network::lay_out();
    let program = std::env::current_exe().expect("its own path");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--bounding-set", "-all,+net_raw,+net_admin"])
        .arg(program)
        .args(["--ignored", "--exact", "two_capabilities_are_enough"])
        .env(RUN, "1");
    let process = network.start(Host::Ours, command);
    network.third_host_asks_for(VIP);
    process.kill().expect("it runs");
}

fn run_until_killed() {
    let status = std::fs::read_to_string("/proc/self/status").expect("its own status");
    let effective = status.lines().find(|line| line.starts_with("CapEff:"));
    // CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13 (linux/capability.h).
    assert_eq!(effective, Some("CapEff:\t0000000000003000"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let mut vrrp = Vrrp::start(settings(&deployment(100, "")))
            .await
            .expect("VRRP starts");
        loop {
            println!("{}", vrrp.next_event().await);
        }
    });
}
