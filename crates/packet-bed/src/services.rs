//! Services, real servers and table sizes that cases speak of.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lb_dataplane::TableSizes;
use lb_model::{
    DesiredState, Forwarding, NextHop, OrphanPolicy, Persistence, Protocol, RealServer, Scheduler,
    Service, Thresholds, Vlan,
};

use crate::{DIRECTOR, ELSEWHERE, INGRESS};

/// Tables that are made quickly.
pub fn small_tables() -> TableSizes {
    TableSizes {
        connections: 1024,
        half_open: 1024,
        templates: 1024,
        services: 16,
        servers: 64,
        ring_places: 1 << 14,
        fragments: 64,
        denied: 64,
        proven: 1024,
        rates: 64,
        maglev_places: 251,
    }
}

/// The servers that cases speak of.
const SERVERS: [&str; 4] = ["edge 1", "edge 2", "edge 3", "far edge"];

fn mac_of(name: &str) -> [u8; 6] {
    let number = SERVERS
        .iter()
        .position(|server| *server == name)
        .expect("a server of ours");
    [2, 0, 0, 1, 0, number as u8]
}

pub(crate) fn name_of(mac: &[u8]) -> &'static str {
    SERVERS
        .iter()
        .find(|name| mac_of(name) == mac)
        .unwrap_or_else(|| panic!("no server has the MAC address {mac:02x?}"))
}

/// A real server of weight 1 in good health.
pub fn server(name: &'static str, port: u16) -> RealServer {
    let mac = mac_of(name);
    let address: IpAddr = [172, 16, 1, 210 + mac[5]].into();
    let interface_index = if name == "far edge" {
        ELSEWHERE
    } else {
        INGRESS
    };
    RealServer {
        address: SocketAddr::new(address, port),
        weight: 1,
        thresholds: Thresholds::default(),
        keeps_templates: true,
        alive: true,
        forwarding: Forwarding::Direct,
        next_hop: Some(NextHop {
            interface_index,
            source: DIRECTOR.into(),
            destination: mac.into(),
            vlan: Vlan::Untagged,
            is_router: false,
        }),
    }
}

/// A real server of weight 1 that is the director itself.
pub fn local_server(port: u16) -> RealServer {
    RealServer {
        address: SocketAddr::from(([172, 16, 1, 208], port)),
        forwarding: Forwarding::Local,
        next_hop: Some(NextHop::local(INGRESS, DIRECTOR.into())),
        ..server("edge 1", port)
    }
}

/// A service on `address` served by `servers` in turn.
pub fn service(address: &str, servers: &[&'static str]) -> Service {
    let address: SocketAddr = address.parse().expect("an address and a port");
    Service {
        protocol: Protocol::Tcp,
        address,
        scheduler: Scheduler::Rr,
        hash_port: false,
        hash_fallback: false,
        one_packet: false,
        persistence: None,
        orphans: OrphanPolicy::Reset,
        sloppy: false,
        servers: servers
            .iter()
            .map(|name| server(name, address.port()))
            .collect(),
    }
}

/// As `service`, with persistence.
pub fn persistent(mut service: Service, timeout_s: u64, prefix_length: u8) -> Service {
    let timeout = Duration::from_secs(timeout_s);
    service.persistence = Some(Persistence {
        timeout,
        prefix_length,
        expire_quiescent: false,
    });
    service
}

/// A state of these services.
pub fn state(services: impl IntoIterator<Item = Service>) -> DesiredState {
    DesiredState {
        services: services.into_iter().collect(),
        ..DesiredState::default()
    }
}
