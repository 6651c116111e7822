//! The cables: one switch, and a host at each of its ports.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::host::{Host, INTERFACE};

/// The length of the subnet's prefix, as in the deployment.
pub(crate) const PREFIX_LENGTH: u8 = 24;

const BRIDGE: &str = "br0";

/// Runs a batch of `ip` commands on a host.
pub(crate) fn ip_batch(host: &Host, batch: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = host
        .within(move || command.spawn())
        .context("cannot start `ip` (Debian's package iproute2)")?;
    child
        .stdin
        .take()
        .expect("piped above")
        .write_all(batch.as_bytes())
        .context("cannot write to `ip`")?;
    let output = child.wait_with_output().context("cannot wait for `ip`")?;
    ensure!(
        output.status.success(),
        "`ip` failed on {}:\n{}commands were:\n{batch}",
        host.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Connects every host to the switch, by a port that is called like the host.
pub(crate) fn connect(switch: &Host, hosts: &[&Host]) -> Result<()> {
    let mut batch = format!(
        "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
         link set {BRIDGE} up\n"
    );
    for host in hosts {
        let [a, b, c, d] = host.address().octets();
        // Locally administered, and readable in a packet dump.
        let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        let port = host.name();
        let namespace = host.net_path();
        batch += &format!(
            "link add {port} type veth peer name {INTERFACE} address {mac} netns {}\n\
             link set {port} master {BRIDGE} up\n",
            namespace.display()
        );
    }
    ip_batch(switch, &batch)?;
    for host in hosts {
        configure(host)?;
    }
    Ok(())
}

fn configure(host: &Host) -> Result<()> {
    // No duplicate address detection: nobody else is on this wire, and it
    // would keep an IPv6 address from use for a second.
    host.within(|| fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "0").ok());
    let address = host.address();
    ip_batch(
        host,
        &format!(
            "link set lo up\n\
             address add {address}/{PREFIX_LENGTH} broadcast + dev {INTERFACE}\n\
             link set {INTERFACE} up\n"
        ),
    )
}

/// Writes a kernel setting of a host: `net/ipv4/ip_forward`.
pub(crate) fn set_sysctl(host: &Host, name: &str, value: &'static str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name);
    let shown = path.display().to_string();
    host.within(move || fs::write(path, value))
        .with_context(|| format!("cannot set {shown} on {}", host.name()))
}
