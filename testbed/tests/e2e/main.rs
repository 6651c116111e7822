//! The deployment end to end: real ffmpeg, real packets, in namespaces.

mod alerts;
mod balancing;
mod browser;
mod checks;
mod command_line;
mod dead_server;
mod directors;
mod ecmp;
mod failover;
mod flood;
mod hitless;
mod hot_hot;
mod ingest;
mod interoperation;
mod life_cycle;
mod load;
mod migration;
mod packages;
mod page;
mod privileges;
mod scripts;
mod server_upgrade;
mod standby;
mod streaming;
mod testbed_itself;
mod two_boxes;
mod units;

use anyhow::{Context, Result};
use netbed::say_skipped;
use testbed::{Builder, Cluster, Machine};

/// True if a host can be a machine here. If not, says why.
fn has_machines() -> bool {
    let missing = Machine::missing();
    if let Some(why) = &missing {
        say_skipped(why);
    }
    missing.is_none()
}

/// The README's commands that follow `heading`.
fn readme_commands(heading: &str) -> Result<&'static str> {
    let text = include_str!("../../../README.md");
    let (_, after) = text
        .split_once(&format!("\n{heading}"))
        .with_context(|| format!("the README tells nothing of {heading}"))?;
    let (_, after) = after.split_once("```sh\n").context("no commands follow")?;
    let (commands, _) = after.split_once("```").context("their end is missing")?;
    Ok(commands)
}

/// Runs a test on a cluster of its own. A failure shows what the programs said.
fn on(builder: Builder, test: impl FnOnce(&Cluster) -> Result<()>) {
    let cluster = match builder.start() {
        Ok(cluster) => cluster,
        Err(error) => panic!("the cluster does not start: {error:#}"),
    };
    if let Err(error) = test(&cluster) {
        panic!(
            "{error:#}\n\nthe programs of the cluster:\n{}",
            cluster.logs()
        );
    }
}
