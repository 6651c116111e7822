//! Debian's keepalived as another director: the one that we must get on with.

use std::process::Command;

use anyhow::{Context, Result};

use crate::config::{DEPLOYED_KEEPALIVED_CONF, with_role};
use crate::host::Host;
use crate::process::Process;

/// A `keepalived.conf` for a second director of the deployment, of which only
/// the virtual router is served: the kernel may have no IPVS.
///
/// # Panics
/// When the deployment's file is no longer what it was.
#[must_use]
pub fn virtual_router_conf(state: &str, priority: u8) -> String {
    let (router, _) = DEPLOYED_KEEPALIVED_CONF
        .split_once("virtual_server ")
        .expect("the deployment has a virtual server");
    with_role(router, state, priority)
}

/// Starts keepalived on a host, for virtual routers only.
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
