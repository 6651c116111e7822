//! `cargo xtask bench checks`: runs the benchmark that lies with the checkers
//! (`lb-user/benches/checks.rs`).

use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many servers.
    #[arg(long, default_value_t = 500)]
    servers: u32,
    /// How long each kind of check is measured, in seconds.
    #[arg(long, default_value_t = 12)]
    seconds: u32,
}

/// Measures and prints.
///
/// # Errors
/// If that was not possible.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    crate::build_ebpf::run()?;
    let mut command = Command::new("cargo");
    command.args(["bench", "--quiet", "--package", "lb-user"]);
    command.args(["--bench", "checks", "--"]);
    command.args(["--servers", &options.servers.to_string()]);
    command.args(["--seconds", &options.seconds.to_string()]);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the benchmark did not finish");
    }
    Ok(())
}
