//! `cargo xtask bench xdp`: builds the programs, then runs the benchmark that
//! lies with the data plane (`crates/lb-dataplane/benches/xdp`). It needs root.

use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
    /// How many interleaved rounds to take the medians of.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Leave out the scans of a table of a million connections.
    #[arg(long)]
    without_scans: bool,
}

/// Measures and prints.
///
/// # Errors
/// If that was not possible.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::build_ebpf::run()?;
    let mut command = Command::new("cargo");
    command.args([
        "bench",
        "--quiet",
        "--package",
        "lb-dataplane",
        "--bench",
        "xdp",
        "--",
    ]);
    command.args(["--rounds", &options.rounds.to_string()]);
    if options.json {
        command.arg("--json");
    }
    if options.without_scans {
        command.arg("--without-scans");
    }
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the benchmark did not finish; it needs root");
    }
    Ok(())
}
