//! `lb-user check`: explains what a configuration would do, if it is right.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::Path;

use crate::agent::capacity;
use crate::agent::plan::{Plan, ServerPlan, ServicePlan};
use crate::agent::recovery::RecoveryPlan;
use crate::agent::server_path;
use crate::checker::{CheckSpec, Probe};
use crate::control::protocol::scheduler_name;
use lb_dataplane::TableSizes;
use lb_model::config::{ALL_PORTS, LbKind};
use lb_model::{MAX_GENERATIONS, Protocol, Scheduler, Thresholds};
use netlink::interfaces;
use vrrp::{Tracked, TrackedSubject, VirtualAddress};

/// Validates `file`; explains it, or prints it as JSON.
///
/// # Errors
/// The file is refused.
pub(super) async fn check(file: &Path, config_id: &str, json: bool) -> anyhow::Result<()> {
    let loaded = lb_config::load_for(file, config_id)?;
    let plan = Plan::new(&loaded.config)?;
    let own_addresses = interfaces::own_addresses().await;
    let of_directors = lb_config::warnings_of_directors(&loaded.config, file, &own_addresses);
    for warning in loaded.warnings.iter().chain(&of_directors) {
        eprintln!("{warning}");
    }
    capacity::sizes(&plan, TableSizes::default())?;
    for warning in server_path::warnings_beforehand(&plan).await {
        eprintln!("warning: {warning}");
    }
    for warning in second_chance_warnings(&plan, &own_addresses) {
        eprintln!("warning: {warning}");
    }
    let text = if json {
        serde_json::to_string_pretty(&lb_config::to_json(&loaded.config))? + "\n"
    } else {
        explain(file, &plan, &own_addresses)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// True if a server is the machine with these addresses.
fn is_own(server: &ServerPlan, own_addresses: &[IpAddr]) -> bool {
    let ip = server.address.ip();
    ip.is_loopback() || own_addresses.contains(&ip)
}

/// What the second chance does not do for announced services, of which ECMP moves
/// connections from director to director (docs/decisions/0017-second-chance.md).
fn second_chance_warnings(plan: &Plan, own_addresses: &[IpAddr]) -> Vec<String> {
    let is_moved = |service: &&ServicePlan| {
        service.announce.is_some()
            && service.scheduler == Scheduler::Mh
            && service.key.protocol == Protocol::Tcp
    };
    let mut warnings = Vec::new();
    for service in plan.services.iter().filter(is_moved) {
        let key = service.key;
        for server in &service.servers {
            if is_own(server, own_addresses) {
                warnings.push(format!(
                    "{key}: the server {} is this machine itself: millrace-second-chance passes no \
                     packets on to it, so that connections break that another director brings; \
                     with `announce`, servers are other machines",
                    server.address
                ));
            }
        }
        let mut checks = service.servers.iter().flat_map(|server| &server.checks);
        if checks.any(|check| matches!(check.probe, Probe::Load(_))) {
            warnings.push(format!(
                "{key}: LOAD_CHECK changes the table of `lb_algo mh` up to once in five minutes, \
                 and more often with great changes; the last {MAX_GENERATIONS} tables are \
                 remembered, and with `announce` older connections may break when a director \
                 comes or goes; leave LOAD_CHECK out if they are to last"
            ));
        }
    }
    warnings
}

/// The plan in sentences, for a machine with these addresses.
fn explain(file: &Path, plan: &Plan, own_addresses: &[IpAddr]) -> String {
    let mut text = format!("{} is right.\n", file.display());
    let mut line = |sentence: String| {
        writeln!(text, "{sentence}").expect("a string can always grow");
    };
    for held in &plan.statics.addresses {
        line(format!("This machine has {} while it runs.", place(held)));
    }
    for route in &plan.statics.routes {
        line(format!("This machine has the route {route} while it runs."));
    }
    for instance in &plan.vrrp.instances {
        let addresses: Vec<String> = instance.addresses.iter().map(place).collect();
        line(format!(
            "{}, as VRRP master with priority {}, holds {}.",
            instance.name,
            instance.priority,
            addresses.join(", ")
        ));
        for route in &instance.routes {
            line(format!("    and has the route {route}"));
        }
        tracked(&instance.tracked).into_iter().for_each(&mut line);
    }
    for group in &plan.vrrp.groups {
        let name = &group.name;
        line(match group.members.as_slice() {
            [] => continue,
            [only] => format!("{name}: {only} is master alone."),
            members => format!("{name}: {} are master together.", members.join(" and ")),
        });
        tracked(&group.tracked).into_iter().for_each(&mut line);
    }
    for service in &plan.services {
        line(sentence_of_service(service));
        for server in &service.servers {
            let is_own = is_own(server, own_addresses);
            line(sentence_of_server(server, service.lb_kind, is_own));
        }
        if let Some(sorry) = service.sorry_server {
            line(format!(
                "    sorry server {sorry}: serves while less than weight {} is up",
                service.quorum
            ));
        }
    }
    text
}

/// An address, and where it is.
fn place(held: &VirtualAddress) -> String {
    format!(
        "{}/{} on {}",
        held.address, held.prefix_length, held.interface
    )
}

/// Tracked objects, one line each.
fn tracked(tracked: &[Tracked]) -> Vec<String> {
    tracked
        .iter()
        .map(|it| {
            let what = match &it.subject {
                TrackedSubject::Interface(name) => format!("the interface {name}"),
                TrackedSubject::Script(name) => format!("the script {name}"),
                TrackedSubject::File(name) => format!("the number in the file {name}"),
                TrackedSubject::Quorum => "the quorum of its services".to_owned(),
            };
            let reverse = if it.reverse { ", reversed" } else { "" };
            match (it.weight, &it.subject) {
                (0, TrackedSubject::File(_)) if it.reverse => {
                    format!("    {what} is a fault if it is 0")
                }
                (0, TrackedSubject::File(_)) => format!("    {what} is a fault unless it is 0"),
                (0, _) => format!("    {what} is a fault while it is down{reverse}"),
                (weight, TrackedSubject::File(_)) => {
                    format!("    {what}, times {weight}, is added to its priority{reverse}")
                }
                (weight @ 1.., _) => {
                    format!("    {what} adds {weight} to its priority while it is up{reverse}")
                }
                (weight, _) => {
                    format!("    {what} adds {weight} to its priority while it is down{reverse}")
                }
            }
        })
        .collect()
}

fn sentence_of_service(service: &ServicePlan) -> String {
    let persistence = match service.persistence {
        Some(persistence) => format!(
            "a client's address (/{}) keeps its server for {} s after its last connection",
            persistence.prefix_length,
            persistence.timeout.as_secs()
        ),
        None => "no persistence".to_owned(),
    };
    let scheduler = scheduler_name(service.scheduler);
    let sloppy = if service.sloppy {
        "; connections of another director are taken over"
    } else {
        ""
    };
    let quorum = match (service.quorum, service.hysteresis) {
        (1, 0) => String::new(),
        (quorum, 0) => format!("; quorum {quorum}"),
        (quorum, hysteresis) => format!("; quorum {quorum} ± {hysteresis}"),
    };
    let forwarding = name_of(service.lb_kind);
    let ports = match service.key.address.port() {
        ALL_PORTS => " (all ports that no other service has)",
        _ => "",
    };
    let one_packet = if service.one_packet {
        " for every packet by itself"
    } else {
        ""
    };
    format!(
        "{}{ports}: {forwarding}, scheduler {scheduler}{one_packet}; \
         {persistence}{sloppy}{quorum}.",
        service.key
    )
}

fn name_of(lb_kind: LbKind) -> &'static str {
    match lb_kind {
        LbKind::DirectRouting => "direct routing",
        LbKind::Tunnel => "tunnels",
    }
}

fn sentence_of_server(server: &ServerPlan, of_service: LbKind, is_own: bool) -> String {
    let checks: Vec<String> = server.checks.iter().map(sentence_of_check).collect();
    let checks = if checks.is_empty() {
        "no check".to_owned()
    } else {
        checks.join("; ")
    };
    let inhibit = if server.inhibit_on_failure {
        "; kept at weight 0 on failure"
    } else {
        ""
    };
    let forwarding = match server.lb_kind {
        _ if is_own => ", this machine itself,",
        same if same == of_service => "",
        LbKind::DirectRouting => " by direct routing",
        LbKind::Tunnel => " through a tunnel",
    };
    format!(
        "    {}{forwarding} weight {}: {checks}{inhibit}{}{}",
        server.address,
        server.weight,
        limit_of(server.thresholds),
        return_of(&server.recovery)
    )
}

/// The limit of a server's connections.
fn limit_of(Thresholds { upper, lower }: Thresholds) -> String {
    match (upper, lower) {
        (0, _) => String::new(),
        (upper, 0) => {
            format!("; full with {upper} connections until there are fewer than three quarters")
        }
        (upper, lower) => {
            format!("; full with {upper} connections until there are fewer than {lower}")
        }
    }
}

/// Slow start and flap control of a server.
fn return_of(recovery: &RecoveryPlan) -> String {
    let mut text = String::new();
    if !recovery.slow_start.is_zero() {
        text += &format!("; slow start {} s", recovery.slow_start.as_secs_f64());
    }
    if let Some(flap) = recovery.flap {
        text += &format!(
            "; held out {} s after more than {} changes in {} s",
            flap.hold_down.as_secs_f64(),
            flap.limit,
            flap.window.as_secs_f64()
        );
    }
    text
}

fn sentence_of_check(check: &CheckSpec) -> String {
    let timing = check.timing;
    format!(
        "{} every {} s, down after {} failure(s) in a row {} s apart",
        check.probe,
        timing.delay_loop.as_secs_f64(),
        u64::from(timing.retry) + 1,
        timing.delay_before_retry.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The explanation of a file `t.conf` of this text.
    fn explained(text: &str) -> String {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("the file is written");
        let loaded = lb_config::load(&file).expect("the file is accepted");
        let plan = Plan::new(&loaded.config).expect("a plan");
        explain(Path::new("t.conf"), &plan, &[[10, 0, 0, 99].into()])
    }

    #[test]
    fn what_the_second_chance_does_not_do_is_warned_of() {
        let warnings = |service: &str, checks: &str, own: &[IpAddr]| {
            let directory = tempfile::tempdir().expect("a directory");
            let file = directory.path().join("keepalived.conf");
            let text = format!(
                "virtual_server 10.0.0.1 80 {{
                    {service}
                    real_server 10.0.0.2 80 {{
                        {checks}
                    }}
                }}"
            );
            std::fs::write(&file, text).expect("the file is written");
            let loaded = lb_config::load(&file).expect("the file is accepted");
            let plan = Plan::new(&loaded.config).expect("a plan");
            second_chance_warnings(&plan, own)
        };
        let (load, own) = ("LOAD_CHECK {\n}", [[10, 0, 0, 2].into()]);
        let announced = "lb_algo mh\nannounce lo";
        assert_eq!(warnings(announced, "", &[]), [""; 0]);
        assert_eq!(warnings("lb_algo mh", load, &own), [""; 0]);
        assert_eq!(warnings("announce lo", load, &own), [""; 0]);
        let both = warnings(announced, load, &own);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[0].contains("10.0.0.2:80 is this machine"), "{both:?}");
        assert!(both[1].contains("LOAD_CHECK"), "{both:?}");
    }

    #[test]
    fn a_sync_group_is_explained_by_how_many_it_has() {
        let text = explained(
            "vrrp_sync_group NONE { group { } }
            vrrp_sync_group ONE { group { V } }
            vrrp_instance V {
                interface eth0
                virtual_router_id 1
                virtual_ipaddress { 10.0.0.1 }
            }",
        );
        assert!(text.contains("\nONE: V is master alone.\n"), "{text}");
        assert!(!text.contains("NONE"), "{text}");
    }

    #[test]
    fn a_route_is_explained_with_all_that_it_is() {
        let text = explained(
            "static_routes {
                blackhole 10.1.0.0/16
            }
            vrrp_instance V {
                interface eth0
                virtual_router_id 1
                virtual_ipaddress { 10.0.0.1 }
                virtual_routes {
                    src 10.0.0.1 10.2.0.0/16 via 10.0.0.7 or 10.0.0.8
                    10.3.0.0/16 via 10.0.0.7 dev eth0 metric 5 mtu 1400 no_track
                }
            }",
        );
        for expected in [
            "This machine has the route blackhole 10.1.0.0/16 while it runs.\n",
            "and has the route 10.2.0.0/16 src 10.0.0.1 nexthop via 10.0.0.7 nexthop via 10.0.0.8\n",
            "and has the route 10.3.0.0/16 via 10.0.0.7 dev eth0 metric 5 mtu 1400 no_track\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn who_gets_a_connection_is_explained() {
        let text = explained(
            "virtual_server 10.0.0.1 {
                protocol UDP
                persistence_timeout 50
                lb_algo sed
                ops
                real_server 10.0.0.2 { uthreshold 100 }
                real_server 10.0.0.3 { uthreshold 100\n lthreshold 80 }
            }",
        );
        for expected in [
            "UDP 10.0.0.1:0 (all ports that no other service has): direct routing, scheduler sed \
             for every packet by itself; a client's address",
            "10.0.0.2:0 weight 1: no check; full with 100 connections until there are fewer than three quarters\n",
            "; full with 100 connections until there are fewer than 80\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_deployment_is_explained_in_sentences() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/keepalived.conf");
        let loaded = lb_config::load(&file).expect("the deployment's file is accepted");
        let text = explain(
            Path::new("keepalived.conf"),
            &Plan::new(&loaded.config).expect("a plan"),
            &[],
        );
        assert_eq!(
            text,
            "keepalived.conf is right.\n\
             VI_1, as VRRP master with priority 100, holds 172.16.1.200/32 on eth2.\n    \
             the interface eth2 is a fault while it is down\n\
             TCP 172.16.1.200:1935: direct routing, scheduler rr; a client's address (/32) keeps \
             its server for 50 s after its last connection.\n    \
             172.16.1.211:1935 weight 1: TCP_CHECK 172.16.1.211:1935 every 6 s, down after 4 \
             failure(s) in a row 3 s apart\n    \
             172.16.1.207:1935 weight 1: TCP_CHECK 172.16.1.207:1935 every 6 s, down after 4 \
             failure(s) in a row 3 s apart\n"
        );
    }

    #[test]
    fn a_server_that_is_this_machine_is_told_of() {
        let text = "virtual_server 10.0.0.1 80 {
            real_server 10.0.0.99 80 { }
            real_server 127.0.0.1 80 { lb_kind TUN }
            real_server 10.0.0.3 80 { }
        }";
        assert_eq!(
            explained(text),
            "t.conf is right.\n\
             TCP 10.0.0.1:80: direct routing, scheduler wlc; no persistence.\n    \
             10.0.0.99:80, this machine itself, weight 1: no check\n    \
             127.0.0.1:80, this machine itself, weight 1: no check\n    \
             10.0.0.3:80 weight 1: no check\n"
        );
    }

    #[test]
    fn a_tunnel_is_told_of_where_it_is_not_the_services_way() {
        let text = "virtual_server 10.0.0.1 80 {
            lb_kind TUN
            real_server 10.1.0.2 80 { }
            real_server fd00::2 80 { }
            real_server 10.0.0.3 80 { lb_kind DR }
        }
        virtual_server 10.0.0.1 81 {
            real_server 10.1.0.2 81 { lvs_method TUN }
        }";
        assert_eq!(
            explained(text),
            "t.conf is right.\n\
             TCP 10.0.0.1:80: tunnels, scheduler wlc; no persistence.\n    \
             10.1.0.2:80 weight 1: no check\n    \
             [fd00::2]:80 weight 1: no check\n    \
             10.0.0.3:80 by direct routing weight 1: no check\n\
             TCP 10.0.0.1:81: direct routing, scheduler wlc; no persistence.\n    \
             10.1.0.2:81 through a tunnel weight 1: no check\n"
        );
    }

    #[test]
    fn what_is_tracked_and_how_servers_come_back_is_told() {
        let text = "track_file F {\nfile /run/f\n}
        vrrp_script S {\nscript /bin/true\n}
        vrrp_sync_group G {\ngroup {\nA\nB\n}\ntrack_file {\nF weight 0 reverse\n}\n}
        vrrp_instance A {
            interface eth0
            virtual_router_id 1
            virtual_ipaddress { 10.0.0.1 }
            dont_track_primary
            track_interface {\neth1 weight 10\neth2 weight -5\n}
            track_script {\nS\n}
        }
        vrrp_instance B {
            interface eth0
            virtual_router_id 2
            virtual_ipaddress { 10.0.0.2 }
            dont_track_primary
            track_quorum -60
        }
        virtual_server 10.0.0.1 80 {
            quorum 2
            hysteresis 1
            slow_start 30
            flap_limit 5
            real_server 10.0.0.3 80 {\nweight 3\nFILE_CHECK {\ntrack_file F\n}\n}
        }";
        assert_eq!(
            explained(text),
            "t.conf is right.\n\
             A, as VRRP master with priority 100, holds 10.0.0.1/32 on eth0.\n    \
             the interface eth1 adds 10 to its priority while it is up\n    \
             the interface eth2 adds -5 to its priority while it is down\n    \
             the script S is a fault while it is down\n\
             B, as VRRP master with priority 100, holds 10.0.0.2/32 on eth0.\n    \
             the quorum of its services adds -60 to its priority while it is down\n\
             G: A and B are master together.\n    \
             the number in the file F is a fault if it is 0\n\
             TCP 10.0.0.1:80: direct routing, scheduler wlc; no persistence; quorum 2 ± 1.\n    \
             10.0.0.3:80 weight 3: FILE_CHECK /run/f every 0.25 s, down after 1 failure(s) in a \
             row 0.25 s apart; slow start 30 s; held out 30 s after more than 5 changes in 60 s\n"
        );
    }
}
