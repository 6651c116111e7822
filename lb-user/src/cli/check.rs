//! `lb-user check`: is a configuration right, and what would be done?

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use crate::agent::plan::{Plan, ServerPlan, ServicePlan};
use crate::checker::CheckSpec;
use crate::config;
use crate::config::model::LbKind;
use crate::control::protocol::scheduler_name;

/// Validates `file`; explains it, or prints it as JSON.
///
/// # Errors
/// The file is refused.
pub fn check(file: &Path, config_id: &str, json: bool) -> anyhow::Result<()> {
    let loaded = config::load_for(file, config_id)?;
    let plan = Plan::new(&loaded.config)?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    let text = if json {
        serde_json::to_string_pretty(&config::to_json(&loaded.config))? + "\n"
    } else {
        explain(file, &plan)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

/// What would be done, in sentences.
fn explain(file: &Path, plan: &Plan) -> String {
    let mut text = format!("{} is right.\n", file.display());
    let mut line = |sentence: String| {
        writeln!(text, "{sentence}").expect("a string can always grow");
    };
    for instance in &plan.vrrp.instances {
        let addresses: Vec<String> = instance
            .addresses
            .iter()
            .map(|held| {
                format!(
                    "{}/{} on {}",
                    held.address, held.prefix_length, held.interface
                )
            })
            .collect();
        line(format!(
            "{}, as VRRP master with priority {}, holds {}.",
            instance.name,
            instance.priority,
            addresses.join(", ")
        ));
    }
    for service in &plan.services {
        line(sentence_of_service(service));
        for server in &service.servers {
            line(sentence_of_server(server, service.lb_kind));
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
    let forwarding = name_of(service.lb_kind);
    format!(
        "{}: {forwarding}, scheduler {scheduler}; {persistence}{sloppy}.",
        service.key
    )
}

fn name_of(lb_kind: LbKind) -> &'static str {
    match lb_kind {
        LbKind::DirectRouting => "direct routing",
        LbKind::Tunnel => "tunnels",
    }
}

fn sentence_of_server(server: &ServerPlan, of_service: LbKind) -> String {
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
        same if same == of_service => "",
        LbKind::DirectRouting => " by direct routing",
        LbKind::Tunnel => " through a tunnel",
    };
    format!(
        "    {}{forwarding} weight {}: {checks}{inhibit}",
        server.address, server.weight
    )
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

    #[test]
    fn the_deployment_is_explained_in_sentences() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/keepalived.conf");
        let loaded = config::load(&file).expect("the deployment's file is accepted");
        let text = explain(
            Path::new("keepalived.conf"),
            &Plan::new(&loaded.config).expect("a plan"),
        );
        assert_eq!(
            text,
            "keepalived.conf is right.\n\
             VI_1, as VRRP master with priority 100, holds 172.16.1.200/32 on eth2.\n\
             TCP 172.16.1.200:1935: direct routing, scheduler rr; a client's address (/32) keeps \
             its server for 50 s after its last connection.\n    \
             172.16.1.211:1935 weight 1: TCP_CHECK 172.16.1.211:1935 every 6 s, down after 4 \
             failure(s) in a row 3 s apart\n    \
             172.16.1.207:1935 weight 1: TCP_CHECK 172.16.1.207:1935 every 6 s, down after 4 \
             failure(s) in a row 3 s apart\n"
        );
    }

    #[test]
    fn a_tunnel_is_told_of_where_it_is_not_the_services_way() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        let text = "virtual_server 10.0.0.1 80 {
            lb_kind TUN
            real_server 10.1.0.2 80 { }
            real_server fd00::2 80 { }
            real_server 10.0.0.3 80 { lb_kind DR }
        }
        virtual_server 10.0.0.1 81 {
            real_server 10.1.0.2 81 { lvs_method TUN }
        }";
        std::fs::write(&file, text).expect("the file is written");
        let loaded = config::load(&file).expect("the file is accepted");
        let text = explain(
            Path::new("t.conf"),
            &Plan::new(&loaded.config).expect("a plan"),
        );
        assert_eq!(
            text,
            "t.conf is right.\n\
             TCP 10.0.0.1:80: tunnels, scheduler rr; no persistence.\n    \
             10.1.0.2:80 weight 1: no check\n    \
             [fd00::2]:80 weight 1: no check\n    \
             10.0.0.3:80 by direct routing weight 1: no check\n\
             TCP 10.0.0.1:81: direct routing, scheduler rr; no persistence.\n    \
             10.1.0.2:81 through a tunnel weight 1: no check\n"
        );
    }
}
