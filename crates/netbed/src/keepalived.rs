//! Debian's keepalived, the director that we must get on with.

use std::process::Command;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::process::Process;

/// Starts keepalived on a host, for virtual routers only: the kernel may have no IPVS.
///
/// # Errors
/// When it is not installed.
pub fn start_keepalived(host: &Host, config: &str) -> Result<Process> {
    let path = host.write_file("keepalived-vrrp.conf", config)?;
    let mut command = Command::new("keepalived");
    command
        .args([
            "--vrrp",
            "--dont-fork",
            "--log-console",
            "--log-detail",
            "--use-file",
        ])
        .arg(path);
    host.spawn("keepalived", command)
        .context("keepalived comes with Debian's package keepalived")
}
