//! The defaults that are filled in.

use std::time::Duration;

use super::*;
use crate::checker::machine::Timing;
use crate::checker::tcp::{Connection, TcpProbe};
use lb_model::Protocol;

fn plan(text: &str) -> Plan {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("keepalived.conf");
    std::fs::write(&file, text).expect("the file is written");
    Plan::new(&lb_config::load(&file).expect("the file is accepted").config).expect("a plan")
}

#[test]
fn the_deployment_is_planned_as_keepalived_would_run_it() {
    let plan = plan(include_str!("../../../../examples/keepalived.conf"));
    assert_eq!(plan.interfaces(), ["eth2"]);
    let address = &plan.vrrp.instances[0].addresses[0];
    assert_eq!(
        (address.prefix_length, address.interface.as_str()),
        (32, "eth2")
    );
    let service = &plan.services[0];
    assert_eq!(service.key.to_string(), "TCP 172.16.1.200:1935");
    let persistence = Persistence {
        timeout: Duration::from_secs(50),
        prefix_length: 32,
        expire_quiescent: false,
    };
    assert_eq!(service.persistence, Some(persistence));
    assert_eq!(service.quorum, 1);
    let check = &service.servers[1].checks[0];
    assert_eq!(check.probe.to_string(), "TCP_CHECK 172.16.1.207:1935");
    assert_eq!(
        check.timing,
        Timing {
            delay_loop: Duration::from_secs(6),
            delay_before_retry: Duration::from_secs(3),
            retry: 3,
            first_check: Duration::from_secs(1),
            warmup: Duration::from_secs(6),
            alpha: false,
        }
    );
}

#[test]
fn lvs_timeouts_are_the_data_planes_and_the_others_those_of_ipvs() {
    let given = plan("global_defs {\nlvs_timeouts tcp 800 tcpfin 70 udp 90\n}");
    let expected = Timeouts {
        established: Duration::from_secs(800),
        fin_wait: Duration::from_secs(70),
        udp: Duration::from_secs(90),
        ..Timeouts::default()
    };
    assert_eq!(given.timeouts, expected);
    assert_eq!(plan("").timeouts, Timeouts::default());
}

#[test]
fn only_maglev_takes_connections_over_in_their_middle_unless_told_to() {
    let sloppy = |more: &str| {
        let text = format!("virtual_server 10.0.0.1 80 {{\n{more}\n}}");
        plan(&text).services[0].sloppy
    };
    assert!(sloppy("lb_algo mh"));
    assert!(!sloppy("lb_algo mh\nsloppy off"));
    assert!(!sloppy("lb_algo mh\nprotocol UDP"));
    for other in ["", "lb_algo rr", "lb_algo wlc", "lb_algo sh"] {
        assert!(!sloppy(other), "{other}");
    }
    assert!(sloppy("lb_algo sh\nsloppy"));
}

#[test]
fn a_check_takes_its_times_from_the_nearest_that_says_something() {
    let plan = plan(
        "virtual_server 10.0.0.1 80 {
            delay_loop 9
            retry 7
            real_server 10.0.0.2 80 {
                retry 8
                TCP_CHECK {
                    connect_port 8080
                    bindto 10.0.0.9
                    delay_before_retry 0.5
                }
            }
        }",
    );
    let check = &plan.services[0].servers[0].checks[0];
    assert_eq!(
        check.timing.delay_loop,
        Duration::from_secs(9),
        "of the service"
    );
    assert_eq!(check.timing.retry, 8, "of the server");
    assert_eq!(
        check.timing.delay_before_retry,
        Duration::from_millis(500),
        "of the check"
    );
    assert_eq!(check.timing.warmup, Duration::from_secs(9), "as delay_loop");
    let connection = Connection {
        to: "10.0.0.2:8080".parse().expect("an address"),
        from: Some("10.0.0.9:0".parse().expect("an address")),
        timeout: Duration::from_secs(5),
    };
    assert_eq!(check.probe, Probe::Tcp(TcpProbe(connection)));
}

#[test]
fn each_kind_of_check_has_its_own_defaults() {
    let plan = plan(
        "virtual_server 10.0.0.1 80 {
            delay_loop 9
            virtualhost www.example
            real_server 10.0.0.2 80 {
                HTTP_GET { url { path /a } }
                MISC_CHECK { misc_path \"/bin/true -x\" }
                UDP_CHECK { payload ab12 }
                RTMP_CHECK { stream s }
                FLV_CHECK { stream s }
            }
        }",
    );
    let [http, misc, udp, rtmp, flv] = plan.services[0].servers[0].checks.as_slice() else {
        panic!("five checks")
    };
    assert_eq!(
        (http.timing.retry, http.timing.delay_before_retry.as_secs()),
        (1, 3)
    );
    assert!(
        matches!(&http.probe, Probe::Http(probe) if probe.pages[0].path == "/a"
            && probe.pages[0].virtual_host.as_deref() == Some("www.example")
            && probe.pages[0].status_codes == [(200, 299)]),
        "{http:?}"
    );
    assert_eq!(misc.timing.retry, 0);
    assert!(
        matches!(&misc.probe, Probe::Misc(probe) if probe.timeout.as_secs() == 9),
        "{misc:?}"
    );
    assert!(
        matches!(&udp.probe, Probe::Udp(probe) if probe.payload == [0xab, 0x12]),
        "{udp:?}"
    );
    assert_eq!(rtmp.probe.to_string(), "RTMP_CHECK 10.0.0.2:80 /live/s");
    assert_eq!(flv.probe.to_string(), "FLV_CHECK 10.0.0.2:80 /live/s");
    assert!(
        matches!(&flv.probe, Probe::Flv(probe) if !probe.tls
            && probe.virtual_host.as_deref() == Some("www.example")
            && probe.play_timeout.as_secs() == 10),
        "{flv:?}"
    );
}

#[test]
fn a_group_of_addresses_is_a_service_each_with_the_same_checks() {
    let plan = plan(
        "virtual_server_group G {
            10.0.0.1 80
            10.0.1.8-10 81
            10.0.2.252/30 82
        }
        virtual_server group G {
            real_server 10.0.9.1 80 { TCP_CHECK { } }
        }",
    );
    let addresses: Vec<String> = plan
        .services
        .iter()
        .map(|service| service.key.address.to_string())
        .collect();
    assert_eq!(
        addresses,
        [
            "10.0.0.1:80",
            "10.0.1.8:81",
            "10.0.1.9:81",
            "10.0.1.10:81",
            "10.0.2.252:82",
            "10.0.2.253:82",
            "10.0.2.254:82",
            "10.0.2.255:82",
        ]
    );
    let first = plan.checks().next().expect("a check");
    assert!(
        plan.checks().all(|check| check == first),
        "made once for all"
    );
}

#[test]
fn scripts_run_as_script_user_unless_they_name_another() {
    let plan = plan(
        "global_defs { script_user nobody nogroup }
        virtual_server 10.0.0.1 80 {
            real_server 10.0.0.2 80 {
                MISC_CHECK { misc_path /bin/true }
                MISC_CHECK { misc_path /bin/true\n user root }
            }
        }",
    );
    let users: Vec<_> = plan
        .checks()
        .map(|check| match &check.probe {
            Probe::Misc(probe) => (
                probe.script.script.user.as_deref(),
                probe.script.script.group.as_deref(),
            ),
            other => panic!("no script: {other:?}"),
        })
        .collect();
    assert_eq!(
        users,
        [(Some("nobody"), Some("nogroup")), (Some("root"), None)]
    );
}

#[test]
fn a_file_is_checked_at_once_and_its_own_weight_counts_where_the_check_names_none() {
    let plan = plan(
        "track_file F {
            file /run/number
            weight 3 reverse
        }
        virtual_server 10.0.0.1 80 {
            alpha
            retry 9
            real_server 10.0.0.2 80 {
                FILE_CHECK { track_file F }
                FILE_CHECK { track_file F\n weight -7 }
            }
        }",
    );
    let checks: Vec<_> = plan.checks().collect();
    let factor = |check: &CheckSpec| match &check.probe {
        Probe::File(probe) => (probe.factor.weight, probe.factor.reverse),
        other => panic!("no file: {other:?}"),
    };
    assert_eq!(checks[0].probe.to_string(), "FILE_CHECK /run/number");
    assert_eq!(
        (factor(checks[0]), factor(checks[1])),
        ((3, true), (-7, false))
    );
    let timing = checks[0].timing;
    assert_eq!((timing.first_check, timing.warmup), Default::default());
    assert_eq!((timing.retry, timing.alpha), (0, false));
    assert_eq!(plan.number_files().count(), 2);
}

#[test]
fn a_script_that_cannot_be_run_holds_no_server_down_until_it_succeeds() {
    for (script, expected) in [("/no/such/script", false), ("true", true)] {
        let plan = plan(&format!(
            "virtual_server 10.0.0.1 80 {{\nalpha\nreal_server 10.0.0.2 80 {{\nMISC_CHECK {{\n\
             misc_path {script}\n}}\n}}\n}}\n"
        ));
        let check = &plan.services[0].servers[0].checks[0];
        assert_eq!(check.timing.alpha, expected, "{script}");
    }
}

#[test]
fn a_server_that_names_no_weight_has_its_services() {
    let plan = plan(
        "virtual_server 10.0.0.1 80 {\nweight 7\nreal_server 10.0.0.2 80 {\n}\n\
         real_server 10.0.0.3 80 {\nweight 2\n}\n}\n",
    );
    let weights = plan.services[0].servers.iter().map(|server| server.weight);
    assert_eq!(weights.collect::<Vec<_>>(), [7, 2]);
}

#[test]
fn a_quorum_beyond_all_weights_is_all_of_them() {
    let quorum = |quorum: &str| {
        let plan = plan(&format!(
            "virtual_server 10.0.0.1 80 {{
                quorum {quorum}
                real_server 10.0.0.2 80 {{ weight 3 }}
                real_server 10.0.0.3 80 {{ }}
            }}"
        ));
        plan.services[0].quorum
    };
    assert_eq!((quorum("4"), quorum("5")), (4, 4));
}

#[test]
fn what_a_service_leaves_out_is_as_in_keepalived_where_it_can_be() {
    let plan = plan(
        "virtual_server 10.0.0.1 80 {
            real_server 10.0.0.2 80 { weight 3 }
            real_server 10.0.0.2 80 { weight 4 }
        }",
    );
    let service = &plan.services[0];
    assert_eq!(service.scheduler, Scheduler::Wlc);
    assert_eq!(service.key.protocol, Protocol::Tcp);
    assert_eq!(service.lb_kind, LbKind::DirectRouting);
    let weights: Vec<u32> = service.servers.iter().map(|server| server.weight).collect();
    assert_eq!(weights, [3], "the first of two that are the same");
}

#[test]
fn what_a_server_may_have_and_how_packets_are_scheduled_is_planned() {
    let plan = plan(
        "virtual_server 10.0.0.1 0 {
            protocol UDP
            lb_algo mh
            mh-fallback
            ops
            real_server 10.0.0.2 0 {
                uthreshold 100
                lthreshold 80
            }
            real_server 10.0.0.3 0 { }
        }",
    );
    let service = &plan.services[0];
    assert!(service.hash_fallback && service.one_packet);
    let timeout = service.persistence.map(|persistence| persistence.timeout);
    assert_eq!(
        timeout,
        Some(Duration::from_secs(360)),
        "as keepalived sets it"
    );
    let thresholds: Vec<_> = service.servers.iter().map(|it| it.thresholds).collect();
    let of_first = Thresholds {
        upper: 100,
        lower: 80,
    };
    assert_eq!(thresholds, [of_first, Thresholds::default()]);
}

#[test]
fn servers_without_shares_have_none_that_could_grow() {
    for (scheduler, slow_start) in [
        ("rr", 30),
        ("sed", 30),
        ("nq", 30),
        ("fo", 0),
        ("ovf", 0),
        ("dh", 0),
    ] {
        let plan = plan(&format!(
            "virtual_server 10.0.0.1 80 {{
                lb_algo {scheduler}
                slow_start 30
                real_server 10.0.0.2 80 {{ }}
            }}"
        ));
        let planned = plan.services[0].servers[0].recovery.slow_start;
        assert_eq!(planned, Duration::from_secs(slow_start), "{scheduler}");
    }
}

#[test]
fn a_host_is_pinged_once_for_all_its_ports() {
    let service = |port: u16| {
        format!(
            "virtual_server 10.0.0.1 {port} {{\nlb_algo rr\n\
             real_server 10.0.0.2 {port} {{\nPING_CHECK {{\nbind_port {port}\n}}\n}}\n}}\n"
        )
    };
    let plan = plan(&(service(80) + &service(1935)));
    let [first, second] = &plan.services[..] else {
        panic!("two services");
    };
    assert_eq!(first.servers[0].checks, second.servers[0].checks);
}
