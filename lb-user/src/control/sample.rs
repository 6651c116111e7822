//! A listing as an agent gives it, for the tests of whatever shows one.

use super::protocol::{
    Counters, ListedAddress, ListedInterface, ListedPersistence, ListedServer, ListedService,
    Listing, Rates, ServerState,
};
use lb_model::{Protocol, Scheduler};

/// A server of [`listing`]'s service, by the last byte of its address.
pub(crate) fn server(last: u8, state: ServerState, reason: Option<&str>) -> ListedServer {
    ListedServer {
        address: ([172, 16, 1, last], 1935).into(),
        sorry: false,
        weight: u32::from(state == ServerState::Up),
        state,
        reason: reason.map(str::to_owned),
        order: None,
        load: None,
        mac: Some(format!("02:00:00:00:00:{last:02x}")),
        interface: Some("eth2".to_owned()),
        active_connections: 250,
        inactive_connections: 3,
        persistent_clients: 2,
        connections_reset: 5,
        counters: Counters {
            connections: 12,
            packets: 3456,
            bytes: 789_012,
        },
        rates: Some(Rates {
            connections_per_s: 12.4,
            packets_per_s: 18_250.0,
            bits_per_s: 7_590_000.0,
        }),
    }
}

/// A director that leads, with a service of these servers. It was set up this
/// very second: it has no rates yet.
pub(crate) fn listing(servers: Vec<ListedServer>) -> Listing {
    Listing {
        interfaces: vec![ListedInterface {
            name: "eth2".to_owned(),
            index: 2,
            xdp_mode: "native".to_owned(),
            native_refused: None,
            lost: None,
        }],
        virtual_addresses: vec![ListedAddress {
            address: "172.16.1.200/32".to_owned(),
            interface: "eth2".to_owned(),
            instance: "VI_1".to_owned(),
            held: true,
            state: "master".to_owned(),
            cause: "nobody else is heard".to_owned(),
        }],
        services: vec![ListedService {
            protocol: Protocol::Tcp,
            address: ([172, 16, 1, 200], 1935).into(),
            scheduler: Scheduler::Rr,
            persistence: Some(ListedPersistence {
                timeout_s: 50,
                prefix_length: 32,
            }),
            ops: false,
            quorum: true,
            counters: Counters {
                connections: 24,
                packets: 6912,
                bytes: 1_578_024,
            },
            rates: None,
            servers,
        }],
        ..Listing::default()
    }
}
