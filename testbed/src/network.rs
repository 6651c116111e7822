//! The cables: one switch, and a host at each of its ports; where a test asks
//! for it, a router to a second segment.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::config;
use crate::host::{Host, INTERFACE};

/// The length of the subnet's prefix, as in the deployment.
pub(crate) const PREFIX_LENGTH: u8 = 24;

/// The router's interface to the other subnet.
const OUTER_INTERFACE: &str = "eth3";

/// One of the two segments that the switch keeps apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Where the deployment is.
    Inside,
    /// Where viewers are who reach it through a router.
    Outside,
}

impl Segment {
    fn bridge(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        }
    }
}

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

/// One cable from the switch to a host.
struct Cable<'h> {
    host: &'h Host,
    /// The switch's port.
    port: String,
    interface: &'static str,
    address: Ipv4Addr,
    segment: Segment,
}

/// Connects every host to the switch, by a port that is called like the host.
pub(crate) fn connect(switch: &Host, hosts: &[&Host], segment: Segment) -> Result<()> {
    let bridge = segment.bridge();
    ip_batch(
        switch,
        &format!(
            "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} up\n"
        ),
    )?;
    let cables: Vec<Cable<'_>> = hosts
        .iter()
        .map(|host| Cable {
            host,
            port: host.name().to_owned(),
            interface: INTERFACE,
            address: host.address(),
            segment,
        })
        .collect();
    plug_in(switch, &cables)
}

/// Connects a router to both segments, and gives everybody a route through it.
pub(crate) fn connect_router(
    switch: &Host,
    router: &Host,
    inside: &[&Host],
    outside: &[&Host],
) -> Result<()> {
    let inner = Cable {
        host: router,
        port: router.name().to_owned(),
        interface: INTERFACE,
        address: router.address(),
        segment: Segment::Inside,
    };
    let outer = Cable {
        host: router,
        port: format!("{}-outer", router.name()),
        interface: OUTER_INTERFACE,
        address: config::OUTER_ROUTER,
        segment: Segment::Outside,
    };
    plug_in(switch, &[inner, outer])?;
    set_sysctl(router, "net/ipv4/ip_forward", "1")?;
    let legs = [(inside, router.address()), (outside, config::OUTER_ROUTER)];
    for (hosts, gateway) in legs {
        for host in hosts {
            ip_batch(host, &format!("route add default via {gateway}\n"))?;
        }
    }
    Ok(())
}

fn plug_in(switch: &Host, cables: &[Cable<'_>]) -> Result<()> {
    let mut batch = String::new();
    for Cable {
        host,
        port,
        interface,
        address,
        segment,
    } in cables
    {
        let [a, b, c, d] = address.octets();
        // Locally administered, and readable in a packet dump.
        let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        batch += &format!(
            "link add {port} type veth peer name {interface} address {mac} netns {}\n\
             link set {port} master {} up\n",
            host.net_path().display(),
            segment.bridge(),
        );
    }
    ip_batch(switch, &batch)?;
    cables.iter().try_for_each(configure)
}

fn configure(cable: &Cable<'_>) -> Result<()> {
    let Cable {
        host,
        interface,
        address,
        ..
    } = cable;
    // No duplicate address detection: nobody else is on this wire, and it
    // would keep an IPv6 address from use for a second. The kernel looks at
    // both settings; hosts without IPv6 have neither.
    let of_interface = format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad");
    host.within(move || {
        for setting in ["/proc/sys/net/ipv6/conf/all/accept_dad", &of_interface] {
            fs::write(setting, "0").ok();
        }
    });
    ip_batch(
        host,
        &format!(
            "link set lo up\n\
             address add {address}/{PREFIX_LENGTH} broadcast + dev {interface}\n\
             link set {interface} up\n"
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
