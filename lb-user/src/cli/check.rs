//! `lb-user check`: is a configuration right, and what would be done?

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use crate::agent::plan::{Plan, ServerPlan, ServicePlan};
use crate::checker::CheckSpec;
use crate::config;
use crate::control::protocol::scheduler_name;
use crate::dataplane::{AttachMode, Dataplane, Options, TableSizes};

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

/// Has the kernel verify the XDP program, and attaches it to nothing.
///
/// # Errors
/// The kernel refuses it.
pub fn load() -> anyhow::Result<()> {
    Dataplane::load(&Options {
        interfaces: Vec::new(),
        mode: AttachMode::Generic,
        tables: TableSizes::default(),
        pins: None,
    })?;
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
            line(sentence_of_server(server));
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
    format!(
        "{}: direct routing, scheduler {scheduler}; {persistence}{sloppy}.",
        service.key
    )
}

fn sentence_of_server(server: &ServerPlan) -> String {
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
    format!(
        "    {} weight {}: {checks}{inhibit}",
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
}
