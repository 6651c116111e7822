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
mod tests;
