//! What `lb-user list --json` says.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// The balancer's whole state.
#[derive(Clone, Debug, Deserialize)]
pub struct Balancer {
    /// Where XDP is attached.
    pub interfaces: Vec<Interface>,
    /// The addresses that it takes as a MASTER.
    pub virtual_addresses: Vec<VirtualAddress>,
    /// The virtual services.
    pub services: Vec<Service>,
}

/// An interface with the XDP program on it.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `generic` or `native`.
    pub xdp_mode: String,
}

/// An address that moves between directors.
#[derive(Clone, Debug, Deserialize)]
pub struct VirtualAddress {
    /// With its prefix length: `172.16.1.200/32`.
    pub address: String,
    /// Whether this director has it now.
    pub held: bool,
}

/// A virtual service.
#[derive(Clone, Debug, Deserialize)]
pub struct Service {
    /// Where clients connect to.
    pub address: SocketAddr,
    /// `rr`, `wrr` …
    pub scheduler: String,
    /// What went through it.
    pub counters: Traffic,
    /// The servers behind it, in the order of the configuration.
    pub servers: Vec<RealServer>,
}

/// A real server of a service.
#[derive(Clone, Debug, Deserialize)]
pub struct RealServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share.
    pub weight: u32,
    /// What it says of its load.
    #[serde(default)]
    pub load: Option<Load>,
    /// `up`, or why it gets no new connections: `down`, `quiesced`, `no-mac`.
    pub state: String,
    /// What the last failed check said.
    pub reason: Option<String>,
    /// Its Ethernet address, once known.
    pub mac: Option<String>,
    /// Connections whose handshake is complete.
    pub active_connections: u64,
    /// All others: half open, or being closed.
    pub inactive_connections: u64,
    /// Clients that persistence ties to it.
    #[serde(default)]
    pub persistent_clients: u64,
    /// What was sent to it.
    pub counters: Traffic,
}

/// What a server has said of its load.
#[derive(Clone, Debug, Deserialize)]
pub struct Load {
    /// The weight that follows, of 1,000 for all servers of the service.
    pub weight: Option<u32>,
    /// What it sends and will send, bit/s.
    pub used: u64,
    /// What its viewers may take, bit/s.
    pub limit: Option<u64>,
}

impl RealServer {
    /// Whether it gets new connections.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == "up"
    }
}

/// What has been forwarded. Only the clients' half: the answers do not come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets of theirs.
    pub packets: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Balancer {
    /// The real server at `address`, of the first service that has it.
    #[must_use]
    pub fn server(&self, address: Ipv4Addr) -> Option<&RealServer> {
        let mut servers = self.services.iter().flat_map(|service| &service.servers);
        servers.find(|server| server.address.ip() == address)
    }

    /// Whether XDP is attached, the virtual addresses are held and every server
    /// gets connections.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_able() && self.virtual_addresses.iter().all(|address| address.held)
    }

    /// Whether XDP is attached and every server gets connections.
    #[must_use]
    pub fn is_able(&self) -> bool {
        !self.interfaces.is_empty()
            && self
                .services
                .iter()
                .flat_map(|service| &service.servers)
                .all(RealServer::is_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{
      "interfaces": [{"name": "eth2", "index": 2, "xdp_mode": "generic"}],
      "virtual_addresses": [
        {"address": "172.16.1.200/32", "interface": "eth2", "instance": "VI_1", "held": true}],
      "services": [{
        "protocol": "TCP", "address": "172.16.1.200:1935", "scheduler": "rr",
        "persistence": {"timeout_s": 50, "prefix_length": 32}, "quorum": true,
        "counters": {"connections": 3, "packets": 40, "bytes": 5000},
        "servers": [{
          "address": "172.16.1.211:1935", "weight": 1, "state": "down",
          "reason": "TCP_CHECK 172.16.1.211:1935: connection refused",
          "mac": null, "interface": null, "active_connections": 0, "inactive_connections": 0,
          "counters": {"connections": 0, "packets": 0, "bytes": 0}}]}]}"#;

    #[test]
    fn a_listed_server_is_found_by_its_address() {
        let balancer: Balancer = serde_json::from_str(LIST).unwrap();
        let server = balancer
            .server(Ipv4Addr::new(172, 16, 1, 211))
            .expect("listed");
        assert!(!server.is_up());
        assert!(balancer.server(Ipv4Addr::new(172, 16, 1, 207)).is_none());
    }

    #[test]
    fn a_balancer_with_a_server_that_is_down_or_without_its_address_is_not_ready() {
        let mut balancer: Balancer = serde_json::from_str(LIST).unwrap();
        assert!(!balancer.is_ready());
        balancer.services[0].servers[0].state = "up".to_owned();
        assert!(balancer.is_ready());
        balancer.virtual_addresses[0].held = false;
        assert!(balancer.is_able() && !balancer.is_ready());
    }
}
