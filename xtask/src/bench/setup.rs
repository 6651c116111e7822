//! What the benchmarks of servers have in common: their cores, the stream, the build, the
//! load generator's report and the JSON file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;

use super::process::{allow_open_files, build};

/// Where it is measured, and with what stream.
#[derive(Debug, Clone, Args)]
pub(crate) struct Setup {
    /// Core of the servers.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: u32,

    /// Core of the load generator and the publisher.
    #[arg(long, default_value_t = 1)]
    pub(crate) load_core: u32,

    /// Give servers and load precedence over all else on the machine
    /// (SCHED_FIFO, needs root), so that other programs disturb less.
    #[arg(long)]
    pub(crate) realtime: bool,

    /// Bits of video per second.
    #[arg(long, default_value_t = 2_000_000)]
    pub(crate) bitrate: u64,

    /// Measure the release build that is there, or that of the folder MILLRACE_BIN_DIR, instead
    /// of building it.
    #[arg(long)]
    pub(crate) no_build: bool,
}

impl Setup {
    /// Builds these packages, or looks whether their programs are there, and says where.
    ///
    /// # Errors
    /// If that fails, or the load would be measured as well.
    pub(crate) fn prepare(&self, packages: &[&str]) -> anyhow::Result<PathBuf> {
        if self.server_core == self.load_core {
            bail!("--server-core and --load-core are the same: the load would be measured as well");
        }
        let binaries = build(self.no_build, packages)?;
        allow_open_files()?;
        Ok(binaries)
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = if self.realtime {
            ", before all else"
        } else {
            ""
        };
        write!(
            f,
            "servers on core {}, load and publisher on core {}{first}; {} kbit/s of video",
            self.server_core,
            self.load_core,
            self.bitrate / 1000,
        )
    }
}

/// Runs the load generator against `contender`; its report.
///
/// # Errors
/// If it does not start or has nothing to report.
pub(crate) fn load(mut command: Command, contender: impl fmt::Display) -> anyhow::Result<Value> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("starting rtmp-load")?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        let status = output.status;
        format!("{contender}: rtmp-load ended with {status} and no report")
    })
}

/// Writes all figures to `file`.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn write_json(file: &Path, figures: &Value) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(file, serde_json::to_string_pretty(figures)?)
        .with_context(|| file.display().to_string())?;
    println!("all figures: {}", file.display());
    Ok(())
}
