//! The deployment end to end: real ffmpeg, real packets, in namespaces.

mod balancing;
mod checks;
mod command_line;
mod dead_server;
mod directors;
mod failover;
mod flood;
mod hitless;
mod interoperation;
mod life_cycle;
mod privileges;
mod scripts;
mod streaming;
mod testbed_itself;
mod units;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use testbed::{Builder, Cluster};

/// How long a test waits for what should happen soon. Only a broken cluster
/// makes anybody wait so long; a slow machine does not.
const SOON: Duration = Duration::from_secs(40);

/// Whether this process may build clusters. If not, says so, past the test
/// harness, which would keep it to itself.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Where standard error is closed, nobody can be told.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: network namespaces need root; run with sudo"
        );
    }
    root
}

/// Runs a test on a cluster of its own. A failure shows what the programs said.
fn on(builder: Builder, test: impl FnOnce(&Cluster) -> Result<()>) {
    if !is_root() {
        return;
    }
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
