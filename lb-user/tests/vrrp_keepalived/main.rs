//! Our virtual routers beside Debian's keepalived, on a real network.

mod netns;

use std::sync::mpsc;
use std::thread::JoinHandle;

use lb_user::config;
use lb_user::vrrp::machine::{Cause, State};
use lb_user::vrrp::{Event, InstanceStatus, Settings, Vrrp};
use netns::{Host, INTERFACE, Keepalived, Network, wait_for};

const VIP: &str = "172.16.1.200";

/// Our side, running on a host; all calls wait for their answer.
struct Ours {
    commands: tokio::sync::mpsc::UnboundedSender<Command>,
    events: mpsc::Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Status(mpsc::Sender<Vec<InstanceStatus>>),
    Reload(Settings),
    /// Ends as `kill -9` would: without a word.
    Abandon,
    Stop,
}

impl Ours {
    fn start(network: &Network, configuration: &str) -> Self {
        let settings = settings(configuration);
        let (commands, mut incoming) = tokio::sync::mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel();
        let thread = network.on(Host::Ours, move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime");
            runtime.block_on(async move {
                let mut vrrp = Vrrp::start(settings).await.expect("VRRP starts");
                loop {
                    tokio::select! {
                        event = vrrp.next_event() => sender.send(event).expect("the test listens"),
                        command = incoming.recv() => match command {
                            Some(Command::Status(asker)) => {
                                asker.send(vrrp.status().await).expect("the test listens");
                            }
                            Some(Command::Reload(settings)) => {
                                for event in vrrp.reload(settings).await {
                                    sender.send(event).expect("the test listens");
                                }
                            }
                            Some(Command::Abandon) => return,
                            Some(Command::Stop) | None => break,
                        },
                    }
                }
                for event in vrrp.stop().await {
                    // After a failure nobody listens.
                    let _ = sender.send(event);
                }
            });
        });
        Self {
            commands,
            events,
            thread: Some(thread),
        }
    }

    fn status(&self) -> InstanceStatus {
        let (sender, answer) = mpsc::channel();
        assert!(
            self.commands.send(Command::Status(sender)).is_ok(),
            "our side runs"
        );
        answer.recv().expect("an answer").remove(0)
    }

    fn reload(&self, configuration: &str) {
        let sent = self.commands.send(Command::Reload(settings(configuration)));
        assert!(sent.is_ok(), "our side runs");
    }

    /// Waits until a state is entered; returns why.
    fn wait_for_state(&self, state: State) -> Cause {
        self.wait_for_event(&state.to_string(), |event| event.state == state)
    }

    /// Waits until a state is entered for such a cause. What a busy machine
    /// makes happen besides is passed over.
    fn wait_for_cause(&self, what: &str, is_such: impl Fn(&Cause) -> bool) {
        self.wait_for_event(what, |event| is_such(&event.cause));
    }

    fn wait_for_event(&self, what: &str, is_wanted: impl Fn(&Event) -> bool) -> Cause {
        loop {
            let event = self.events.recv_timeout(netns::PATIENCE);
            let event = event.unwrap_or_else(|_| panic!("waited in vain for: {what}"));
            println!("{event}");
            if is_wanted(&event) {
                return event.cause;
            }
        }
    }

    fn stop(mut self) {
        self.end(Command::Stop);
    }

    fn abandon(mut self) {
        self.end(Command::Abandon);
    }

    fn end(&mut self, command: Command) {
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked takes no command.
            let _ = self.commands.send(command);
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "our side has failed"
            );
        }
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.end(Command::Stop);
    }
}

fn settings(configuration: &str) -> Settings {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, configuration).expect("the file is written");
    let loaded = config::load(&file).expect("the configuration is accepted");
    Settings::from_config(&loaded.config).expect("the virtual routers can be")
}

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
    wait_for("keepalived to lead", || {
        network.holds(Host::Theirs, vip).then_some(())
    });
    keepalived
}

#[test]
fn keepalived_takes_over_at_once_when_we_stop_and_gives_back_when_we_return() {
    let Some(network) = Network::lay_out() else {
        return;
    };
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
fn we_take_over_at_once_when_keepalived_stops_and_give_back_when_it_returns() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let keepalived = leading_keepalived(&network, &deployment(150, ""), VIP);
    let ours = Ours::start(&network, &deployment(100, ""));
    network.third_host_asks_for(VIP);
    network.wait_for_holder(Host::Theirs, VIP);
    let theirs = Host::Theirs.address().parse().expect("an address");
    wait_for("its address in our status", || {
        (ours.status().master == Some(theirs)).then_some(())
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
fn a_master_that_is_cut_off_is_replaced_and_gets_its_role_back() {
    let Some(network) = Network::lay_out() else {
        return;
    };
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
        network.holds(Host::Theirs, VIP).then_some(())
    });
    network.mend(Host::Ours);
    network.wait_for_holder(Host::Ours, VIP);
    assert_eq!(ours.status().state, State::Master);
    keepalived.stop();
}

#[test]
fn with_nopreempt_we_leave_a_living_master_of_lower_priority_alone() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let keepalived = leading_keepalived(&network, &deployment(100, ""), VIP);
    network.third_host_asks_for(VIP);
    let ours = Ours::start(&network, &deployment(150, "nopreempt"));
    // More adverts than a router that preempts would let pass.
    wait_for("six adverts", || {
        (ours.status().counters.adverts_received >= 6).then_some(())
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
fn unicast_peers_agree_with_keepalived() {
    let Some(network) = Network::lay_out() else {
        return;
    };
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
    let Some(network) = Network::lay_out() else {
        return;
    };
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
fn version_3_over_ipv4_agrees_with_keepalived() {
    agree_in_version_3(VIP, VIP);
}

#[test]
fn version_3_over_ipv6_agrees_with_keepalived() {
    agree_in_version_3("fe80::200\n2001:db8::200/64", "fe80::200");
}

#[test]
fn a_wrong_password_is_dropped_and_counted() {
    let Some(network) = Network::lay_out() else {
        return;
    };
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
    assert_eq!(dropped, lb_user::vrrp::packet::Refusal::Password);
    assert_eq!(ours.status().counters.adverts_received, 0);
    keepalived.stop();
}

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
        let frames = capture.frames();
        (frames.iter().filter(|frame| last_words(frame)).count() == 2).then_some(())
    });
    let mut lines: Vec<String> = capture
        .frames()
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
    let link = network.run(
        Host::Ours,
        &["cat", &format!("/sys/class/net/{INTERFACE}/address")],
    );
    let from: Vec<String> = frame[6..12]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if from.join(":") != link.trim() {
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
fn on_the_wire_nobody_can_tell_us_from_keepalived() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let both = deployment(100, "") + &version_3(100, "fe80::200\n2001:db8::200/64");
    let has_announced = |network: &Network| {
        wait_for("both addresses", || {
            let all = [VIP, "2001:db8::200"]
                .iter()
                .all(|vip| network.holds(Host::Ours, vip));
            all.then_some(())
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
fn an_interface_that_goes_down_is_a_fault_and_one_that_returns_is_none() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.ip_on(Host::Ours, &format!("link set {INTERFACE} down"));
    let cause = ours.wait_for_state(State::Fault);
    assert_eq!(cause, Cause::Fault(format!("{INTERFACE} is down")));
    wait_for("no address", || {
        (!network.holds(Host::Ours, VIP)).then_some(())
    });
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
fn an_address_that_somebody_takes_away_comes_back() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let ours = Ours::start(&network, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    network.ip_on(Host::Ours, &format!("addr del {VIP}/32 dev {INTERFACE}"));
    network.third_host_asks_for(VIP);
    assert_eq!(ours.status().state, State::Master);
}

#[test]
fn a_restarted_director_goes_on_holding_the_address_of_its_earlier_run() {
    // Time enough for our side to be started again, whatever else runs here.
    const PATIENT: &str = "down_timer_adverts 10";
    let Some(network) = Network::lay_out() else {
        return;
    };
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
fn a_reload_keeps_the_state_and_changes_the_addresses() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    const SECOND: &str = "172.16.1.201";
    let with = |addresses: &str, more: &str| deployment(100, more).replace(VIP, addresses);
    let ours = Ours::start(&network, &with(VIP, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    ours.reload(&with(&format!("{VIP}\n{SECOND}"), ""));
    network.third_host_asks_for(SECOND);
    ours.reload(&with(SECOND, ""));
    wait_for("the first address gone", || {
        (!network.holds(Host::Ours, VIP)).then_some(())
    });
    assert!(network.holds(Host::Ours, SECOND));
    let status = ours.status();
    assert_eq!(
        (status.state, status.counters.became_master),
        (State::Master, 1)
    );
    ours.reload("");
    wait_for("the second address gone", || {
        (!network.holds(Host::Ours, SECOND)).then_some(())
    });
}

#[test]
fn a_sync_group_leads_and_leaves_as_one_and_a_failing_script_takes_it_down() {
    let Some(network) = Network::lay_out() else {
        return;
    };
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
        let none = [VIP, "fe80::200"]
            .iter()
            .all(|vip| !network.holds(Host::Ours, vip));
        none.then_some(())
    });
    std::fs::write(&flag, "").expect("the flag is written");
    ours.wait_for_state(State::Master);
}

/// Set for the copy of this program that `two_capabilities_are_enough` starts.
const RUN: &str = "VRRP_TEST_RUN";

#[test]
fn two_capabilities_are_enough() {
    if std::env::var_os(RUN).is_some() {
        return run_until_killed();
    }
    let Some(network) = Network::lay_out() else {
        return;
    };
    let program = std::env::current_exe().expect("its own path");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--bounding-set", "-all,+net_raw,+net_admin"])
        .arg(program)
        .args(["--exact", "two_capabilities_are_enough"])
        .env(RUN, "1");
    let child = network.on(Host::Ours, move || command.spawn()).join();
    let mut child = child.expect("the thread ends").expect("setpriv starts");
    network.third_host_asks_for(VIP);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
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

/// Prints for how long nobody answers for the address. Run it by itself, on a
/// quiet machine:
/// `cargo test -p lb-user --test vrrp_keepalived -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn how_long_nobody_answers_for_the_address() {
    let Some(network) = Network::lay_out() else {
        return;
    };
    let ours = Ours::start(&network, &deployment(150, ""));
    let keepalived = network.keepalived(Host::Theirs, &deployment(100, ""));
    ours.wait_for_state(State::Master);
    network.third_host_asks_for(VIP);
    let (stopped, ()) = network.longest_silence(VIP, || {
        ours.stop();
        network.wait_for_holder(Host::Theirs, VIP);
    });
    println!("we stop, keepalived takes over: {stopped:?}");
    let ours = Ours::start(&network, &deployment(150, ""));
    let (returned, ()) = network.longest_silence(VIP, || {
        ours.wait_for_state(State::Master);
        network.wait_for_holder(Host::Ours, VIP);
    });
    println!("we return and take the address back: {returned:?}");
    let (cut, ()) = network.longest_silence(VIP, || {
        network.cut(Host::Ours);
        wait_for("keepalived to take over", || {
            network.holds(Host::Theirs, VIP).then_some(())
        });
        network.third_host_asks_for(VIP);
    });
    println!("we are cut off, keepalived takes over: {cut:?}");
    network.mend(Host::Ours);
    network.wait_for_holder(Host::Ours, VIP);
    let (again, _ours) = network.longest_silence(VIP, || {
        ours.abandon();
        let ours = Ours::start(&network, &deployment(150, ""));
        ours.wait_for_state(State::Master);
        ours
    });
    println!("we are killed and started again: {again:?}");
    keepalived.stop();
}
