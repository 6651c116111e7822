use super::*;
use crate::machine::{AnnouncementPolicy, Preemption};
use crate::packet::{MULTICAST_V4, MULTICAST_V6, Password};
use lb_model::config::Config;

fn config(text: &str) -> Config {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("the file is written");
    lb_config::load(&file).expect("the file is accepted").config
}

fn instance_with(more: &str) -> InstanceSettings {
    let text = format!(
        "vrrp_instance VI_1 {{
            interface eth0
            virtual_router_id 51
            virtual_ipaddress {{
                10.0.0.1
            }}
            {more}
        }}"
    );
    Settings::from_config(&config(&text))
        .expect("valid")
        .instances
        .remove(0)
}

fn problem(text: &str) -> Problem {
    Settings::from_config(&config(text))
        .expect_err("it cannot be")
        .problem
}

#[test]
fn the_deployment_is_what_keepalived_makes_of_it() {
    let config = config(include_str!("../../../../examples/keepalived.conf"));
    let settings = Settings::from_config(&config).expect("valid");
    let [instance] = &settings.instances[..] else {
        panic!("one virtual router")
    };
    let address = [172, 16, 1, 200].into();
    let password = Some(Password::new("1111"));
    let format = Format::new(
        Version::V2,
        51,
        &[address],
        password,
        Duration::from_secs(1),
    );
    assert_eq!(instance.format, format.expect("valid"));
    assert_eq!(instance.priority, 100);
    assert_eq!(
        instance.transport,
        Transport::Multicast(MULTICAST_V4.into())
    );
    let held = VirtualAddress {
        address,
        prefix_length: 32,
        interface: "eth2".to_owned(),
        label: None,
    };
    assert_eq!(instance.addresses, [held]);
    assert_eq!(instance.policy.announcing, AnnouncementPolicy::default());
    assert_eq!(instance.policy.preemption, Preemption::AtOnce);
}

#[test]
fn a_router_without_a_priority_has_100_and_a_master_without_one_owns_the_addresses() {
    assert_eq!(instance_with("").priority, 100);
    assert_eq!(instance_with("state MASTER").priority, 255);
    assert_eq!(instance_with("state MASTER\npriority 7").priority, 7);
}

#[test]
fn preemption_is_what_a_backup_asks_for() {
    let preemption = |more| instance_with(more).policy.preemption;
    assert_eq!(preemption("nopreempt"), Preemption::Never);
    assert_eq!(
        preemption("preempt_delay 7.5"),
        Preemption::After(Duration::from_millis(7500))
    );
    assert_eq!(preemption("preempt_delay 0"), Preemption::AtOnce);
    assert_eq!(
        preemption("state MASTER\nnopreempt"),
        Preemption::AtOnce,
        "as keepalived has it"
    );
}

#[test]
fn a_master_that_gives_way_says_so_unless_told_not_to() {
    let answers = |more| instance_with(more).policy.answer_higher_priority;
    assert!(answers(""));
    assert!(!answers("higher_prio_send_advert off"));
}

#[test]
fn announcements_for_a_lower_priority_default_to_those_of_a_new_master() {
    let announcing = |more| instance_with(more).policy.announcing;
    let few = announcing("garp_master_repeat 2\ngarp_master_delay 9");
    assert_eq!(
        (few.lower_priority_repeat, few.lower_priority_delay),
        (2, Duration::from_secs(9))
    );
    let none = announcing("garp_lower_prio_repeat 0");
    assert_eq!((none.repeat, none.lower_priority_repeat), (5, 0));
}

#[test]
fn peers_with_bounds_of_their_own_shut_others_out() {
    let transport = |peers: &str| instance_with(&format!("unicast_peer {{\n{peers}\n}}")).transport;
    let unicast = |time_to_live, check_source| Transport::Unicast {
        peers: vec![Peer {
            address: [10, 0, 0, 9].into(),
            time_to_live,
        }],
        time_to_live: 255,
        check_source,
    };
    assert_eq!(transport("10.0.0.9"), unicast(0..=255, false));
    assert_eq!(transport("10.0.0.9 min_ttl 250"), unicast(250..=255, true));
}

#[test]
fn ipv6_is_spoken_in_version_3_whatever_the_default() {
    let text = "global_defs {
        vrrp_version 2
    }
    vrrp_instance VI_6 {
        interface eth0
        virtual_router_id 51
        authentication {
            auth_type PASS
            auth_pass 1111
        }
        virtual_ipaddress {
            fe80::1
        }
    }";
    let settings = Settings::from_config(&config(text)).expect("valid");
    let instance = &settings.instances[0];
    assert_eq!(instance.format.version(), Version::V3);
    assert_eq!(
        instance.transport,
        Transport::Multicast(MULTICAST_V6.into())
    );
    assert_eq!(instance.addresses[0].prefix_length, 128);
}

#[test]
fn a_tracked_script_brings_its_weight_unless_another_is_named() {
    let text = "vrrp_script chk {
        script /bin/true
        weight -5 reverse
    }
    vrrp_instance VI_1 {
        interface eth0
        virtual_router_id 51
        virtual_ipaddress {
            10.0.0.1
        }
        track_script {
            chk
            chk weight 7
        }
        track_interface {
            eth1 weight 3
        }
    }";
    let settings = Settings::from_config(&config(text)).expect("valid");
    let tracked: Vec<_> = settings.instances[0]
        .tracked
        .iter()
        .map(|tracked| (tracked.subject.clone(), tracked.weight, tracked.reverse))
        .collect();
    let interface = |name: &str| TrackedSubject::Interface(name.to_owned());
    let script = || TrackedSubject::Script("chk".to_owned());
    let expected = [
        (interface("eth0"), 0, false),
        (interface("eth1"), 3, false),
        (script(), -5, true),
        (script(), 7, false),
    ];
    assert_eq!(tracked, expected);
    assert_eq!(
        settings.scripts[0].timeout,
        Duration::from_secs(1),
        "as its interval"
    );
}

#[test]
fn what_global_defs_say_holds_where_an_instance_says_nothing() {
    let instance = |more: &str| {
        let text = format!(
            "global_defs {{
                vrrp_down_timer_adverts 5
                vrrp_lower_prio_no_advert
                vrrp_higher_prio_send_advert off
                vrrp_check_unicast_src
                vrrp_min_garp
                vrrp_garp_interval 0.002
                vrrp_gna_interval 0.003
            }}
            vrrp_instance VI_1 {{
                interface eth0
                virtual_router_id 51
                virtual_ipaddress {{
                    10.0.0.1
                }}
                unicast_peer {{
                    10.0.0.9
                }}
                {more}
            }}"
        );
        Settings::from_config(&config(&text))
            .expect("valid")
            .instances
            .remove(0)
    };
    let by_global = instance("");
    assert_eq!(by_global.policy.down_timer_adverts, 5);
    assert!(!by_global.policy.answer_lower_priority);
    assert!(!by_global.policy.answer_higher_priority);
    assert_eq!(by_global.policy.announcing, AnnouncementPolicy::MIN);
    let pauses = Pauses {
        arp: Duration::from_millis(2),
        neighbour_advertisement: Duration::from_millis(3),
    };
    assert_eq!(by_global.pauses, pauses);
    assert!(matches!(
        by_global.transport,
        Transport::Unicast {
            check_source: true,
            ..
        }
    ));
    let own = instance(
        "down_timer_adverts 4
        lower_prio_no_advert off
        higher_prio_send_advert on
        check_unicast_src off
        garp_master_repeat 3",
    );
    assert_eq!(own.policy.down_timer_adverts, 4);
    assert!(own.policy.answer_lower_priority && own.policy.answer_higher_priority);
    assert_eq!(own.policy.announcing.repeat, 3);
    assert!(matches!(
        own.transport,
        Transport::Unicast {
            check_source: false,
            ..
        }
    ));
}

#[test]
fn an_instance_may_have_a_group_of_its_own_and_not_track_its_interface() {
    let instance = instance_with("mcast_dst_ip 224.0.0.99\ndont_track_primary");
    let group = IpAddr::from([224, 0, 0, 99]);
    assert_eq!(instance.transport, Transport::Multicast(group));
    assert_eq!(instance.tracked, []);
}

#[test]
fn a_quorum_is_tracked_where_asked_for() {
    let quorum = |more| {
        let tracked = instance_with(more).tracked.into_iter();
        let mut quorum = tracked.filter(|tracked| tracked.subject == TrackedSubject::Quorum);
        quorum.next().map(|tracked| tracked.weight)
    };
    assert_eq!(quorum(""), None);
    assert_eq!(quorum("track_quorum -50"), Some(-50));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let instance = |interface: &str, addresses: &str, more: &str| {
        format!(
            "vrrp_instance VI_1 {{
                {interface}
                virtual_router_id 51
                virtual_ipaddress {{
                    {addresses}
                }}
                {more}
            }}"
        )
    };
    let eth0 = "interface eth0";
    let half = Duration::from_millis(500);
    assert_eq!(
        problem(&instance(eth0, "10.0.0.1", "advert_int 0.5")),
        FormatError::IntervalInVersion2(half).into()
    );
    assert_eq!(
        problem(&instance(eth0, "10.0.0.1\nfe80::1", "")),
        FormatError::MixedFamilies.into()
    );
    let other_family = instance(eth0, "10.0.0.1", "mcast_src_ip fe80::2");
    assert_eq!(
        problem(&other_family),
        Problem::Family("fe80::2".parse().expect("an address"))
    );
}

#[test]
fn a_director_speaks_for_an_address_that_it_leads_at_or_that_no_virtual_router_holds() {
    let text = "vrrp_instance VI_1 {
            interface eth0
            virtual_router_id 51
            virtual_ipaddress {
                10.0.0.1
            }
            virtual_ipaddress_excluded {
                10.0.0.2
            }
        }
        vrrp_instance VI_2 {
            interface eth0
            virtual_router_id 52
            virtual_ipaddress {
                10.0.0.3
            }
        }";
    let settings = Settings::from_config(&config(text)).expect("valid");
    let spoken_for = |masters: &[&str]| {
        let masters = masters.iter().map(ToString::to_string).collect();
        [1, 2, 3, 4].map(|last| settings.answers_at([10, 0, 0, last].into(), &masters))
    };
    assert_eq!(spoken_for(&[]), [false, false, false, true]);
    assert_eq!(spoken_for(&["VI_1"]), [true, true, false, true]);
    assert_eq!(spoken_for(&["VI_2"]), [false, false, true, true]);
    assert_eq!(spoken_for(&["VI_1", "VI_2"]), [true; 4]);
    let mapped = "::ffff:10.0.0.1".parse().expect("an address");
    assert!(!settings.answers_at(mapped, &BTreeSet::new()));
}

#[test]
fn more_addresses_than_an_advert_names_are_held_without_being_advertised() {
    let addresses: Vec<String> = (0..300)
        .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
        .collect();
    let text = format!(
        "vrrp_instance VI_1 {{\ninterface eth0\nvirtual_router_id 51\nvirtual_ipaddress {{\n{}\n}}\n}}",
        addresses.join("\n")
    );
    let settings = Settings::from_config(&config(&text)).expect("valid");
    let instance = &settings.instances[0];
    assert_eq!(instance.addresses.len(), 300);
    let us = "10.0.0.1".parse().expect("an address");
    assert_eq!(instance.format.encode(100, us, us)[3], 255);
}
