//! The cables: a switch, and a host at each of its ports.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;

use crate::host::{Host, INTERFACE};

/// The length of the prefix of every segment's subnet, as in the deployment.
const PREFIX_LENGTH: u8 = 24;

/// Ports of a switch between which packets go. A switch keeps its segments apart.
#[derive(Clone, Debug)]
pub struct Segment {
    switch: Arc<Host>,
    bridge: String,
}

/// One cable from the switch to a host.
#[derive(Clone, Debug)]
pub struct Cable<'h> {
    /// The host at the other end.
    pub host: &'h Host,
    /// The name of the switch's port, at most 15 letters.
    pub port: String,
    /// The name of the host's interface.
    pub interface: &'static str,
    /// The host's address on this segment.
    pub address: Ipv4Addr,
}

impl<'h> Cable<'h> {
    /// A cable to a host's [`INTERFACE`], with the host's address. The port is called
    /// like the host.
    #[must_use]
    pub fn to(host: &'h Host) -> Self {
        Self {
            host,
            port: host.name().to_owned(),
            interface: INTERFACE,
            address: host.address(),
        }
    }

    /// The batch of `ip` that makes the cable, for the switch.
    fn made(&self, bridge: &str) -> String {
        let Self {
            port, interface, ..
        } = self;
        let [a, b, c, d] = self.address.octets();
        // Locally administered, and readable in a packet dump.
        let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
        format!(
            "link add {port} type veth peer name {interface} address {mac} netns {}\n\
             link set {port} master {bridge} up\n",
            self.host.net_path().display(),
        )
    }

    /// Gives the host's interface its address.
    fn configure(&self) -> Result<()> {
        let Self {
            host,
            interface,
            address,
            ..
        } = self;
        host.ip_batch(&format!(
            "address add {address}/{PREFIX_LENGTH} broadcast + dev {interface}\n\
             link set {interface} up\n"
        ))
    }
}

impl Segment {
    /// Adds a segment to a switch. `bridge` is its name there.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn create(switch: &Arc<Host>, bridge: &str) -> Result<Self> {
        switch.ip_batch(&format!(
            "link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n\
             link set {bridge} up\n"
        ))?;
        Ok(Self {
            switch: Arc::clone(switch),
            bridge: bridge.to_owned(),
        })
    }

    /// Plugs in cables.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug_in(&self, cables: &[Cable<'_>]) -> Result<()> {
        let batch = cables.iter().map(|cable| cable.made(&self.bridge));
        self.switch.ip_batch(&batch.collect::<String>())?;
        cables.iter().try_for_each(Cable::configure)
    }

    /// Cuts a port off: its cable stays plugged in, nothing comes through.
    ///
    /// # Errors
    /// When there is no such port.
    pub fn cut(&self, port: &str) -> Result<()> {
        self.switch.ip_batch(&format!("link set {port} nomaster\n"))
    }

    /// Ends a [`cut`](Self::cut).
    ///
    /// # Errors
    /// When there is no such port.
    pub fn mend(&self, port: &str) -> Result<()> {
        let bridge = &self.bridge;
        self.switch
            .ip_batch(&format!("link set {port} master {bridge}\n"))
    }
}
