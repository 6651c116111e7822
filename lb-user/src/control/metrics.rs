//! The agent's state as Prometheus reads it.

use std::collections::BTreeMap;
use std::fmt::Display;

use service_kit::metrics::{Exposition, Kind, Labels};

use super::protocol::{
    Counters, ListedInterface, ListedLoad, ListedProtection, ListedServer, ListedService,
    ListedSource, Listing, ServerState,
};
use lb_model::Protocol;

/// A family of metrics about things of one kind: name, type, help, and the value.
type Family<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

const COUNTER_FAMILIES: [Family<Counters>; 3] = [
    (
        "connections_total",
        Kind::Counter,
        "Connections scheduled",
        |counters| counters.connections,
    ),
    (
        "packets_total",
        Kind::Counter,
        "Packets forwarded",
        |counters| counters.packets,
    ),
    (
        "bytes_total",
        Kind::Counter,
        "Bytes forwarded, from the IP header on",
        |counters| counters.bytes,
    ),
];

const SERVER_FAMILIES: [Family<ListedServer>; 7] = [
    (
        "up",
        Kind::Gauge,
        "1 if the server takes connections",
        |server| u64::from(server.state == ServerState::Up),
    ),
    (
        "weight",
        Kind::Gauge,
        "Share of new connections",
        |server| server.weight.into(),
    ),
    (
        "weight_in_force",
        Kind::Gauge,
        "The same, of 1000 for all servers of the service where it follows their load",
        |server| server.weight_in_force().into(),
    ),
    (
        "active_connections",
        Kind::Gauge,
        "Connections in the ESTABLISHED state",
        |server| server.active_connections,
    ),
    (
        "inactive_connections",
        Kind::Gauge,
        "Connections in any other state",
        |server| server.inactive_connections,
    ),
    (
        "persistent_clients",
        Kind::Gauge,
        "Clients that persistence ties to the server",
        |server| server.persistent_clients,
    ),
    (
        "connections_reset_total",
        Kind::Counter,
        "Connections that were reset, unasked, when the server was gone",
        |server| server.connections_reset,
    ),
];

const SERVICE_FAMILIES: [Family<ListedService>; 1] = [(
    "quorum",
    Kind::Gauge,
    "Whether enough servers are up",
    |service| u64::from(service.quorum),
)];

const STATE_FAMILIES: [Family<ListedServer>; 1] = [(
    "state",
    Kind::Gauge,
    "The state of the server, as `lb-user list` shows it",
    |_| 1,
)];

const LOAD_FAMILIES: [Family<ListedLoad>; 4] = [
    (
        "used_bytes_per_second",
        Kind::Gauge,
        "Bytes per second that the server says that it sends, with what is reserved",
        |load| load.used / 8,
    ),
    (
        "limit_bytes_per_second",
        Kind::Gauge,
        "Bytes per second that its viewers may take; 0 if it does not know",
        |load| load.limit.unwrap_or(0) / 8,
    ),
    ("players", Kind::Gauge, "Number of its players", |load| {
        load.players
    }),
    (
        "fresh",
        Kind::Gauge,
        "1 if what it says is new enough to count",
        |load| u64::from(load.fresh),
    ),
];

const INTERFACE_FAMILIES: [Family<ListedInterface>; 1] = [(
    "attached",
    Kind::Gauge,
    "Whether the XDP program is attached to the interface",
    |interface| u64::from(interface.lost.is_none()),
)];

const SOURCE_FAMILIES: [Family<ListedSource>; 2] = [
    (
        "up",
        Kind::Gauge,
        "Whether the source can be read, and its servers are taken",
        |source| u64::from(source.error.is_none()),
    ),
    (
        "servers",
        Kind::Gauge,
        "Servers that the source has named last",
        |source| source.servers as u64,
    ),
];

const SOURCE_AGE_FAMILIES: [Family<ListedSource>; 1] = [(
    "age_seconds",
    Kind::Gauge,
    "Time since the source has named its servers last",
    |source| source.age_s.unwrap_or_default(),
)];

const PROTECTION_FAMILIES: [Family<ListedProtection>; 4] = [
    (
        "syn_validation_active",
        Kind::Gauge,
        "Whether SYNs of sources that are not proven are challenged",
        |protection| u64::from(protection.validating),
    ),
    (
        "syns_per_second",
        Kind::Gauge,
        "SYNs of connections that are not known, as last measured",
        |protection| protection.syns_per_s,
    ),
    (
        "half_open_connections",
        Kind::Gauge,
        "Connections of the last minute whose handshake is not complete",
        |protection| protection.half_open,
    ),
    (
        "denied_networks",
        Kind::Gauge,
        "Networks on the deny list",
        |protection| protection.denied as u64,
    ),
];

/// The state in the text format of Prometheus.
pub(super) fn render(listing: &Listing) -> String {
    let mut metrics = Exposition::default();
    let services: Vec<(Labels, &ListedService)> = listing
        .services
        .iter()
        .map(|service| (labels(service), service))
        .collect();
    families(&mut metrics, "service", &SERVICE_FAMILIES, &services);
    let counters: Vec<_> = services
        .iter()
        .map(|(labels, service)| (labels.clone(), &service.counters))
        .collect();
    families(&mut metrics, "service", &COUNTER_FAMILIES, &counters);
    let servers: Vec<(Labels, &ListedServer)> = services
        .iter()
        .flat_map(|(labels, service)| {
            let servers = service.servers.iter();
            let servers = servers.filter(|server| is_at_work(server, service));
            servers.map(move |server| (labels.with("server", server.address), server))
        })
        .collect();
    families(&mut metrics, "server", &SERVER_FAMILIES, &servers);
    let counters: Vec<_> = servers
        .iter()
        .map(|(labels, server)| (labels.clone(), &server.counters))
        .collect();
    families(&mut metrics, "server", &COUNTER_FAMILIES, &counters);
    let states: Vec<_> = servers
        .iter()
        .map(|(labels, server)| (labels.with("state", server.state), *server))
        .collect();
    families(&mut metrics, "server", &STATE_FAMILIES, &states);
    let loads = servers.iter();
    let loads: Vec<_> = loads
        .filter_map(|(labels, server)| Some((labels.clone(), server.load.as_ref()?)))
        .collect();
    families(&mut metrics, "server_load", &LOAD_FAMILIES, &loads);
    let interfaces: Vec<_> = listing
        .interfaces
        .iter()
        .map(|interface| {
            let labels = [
                ("interface", &interface.name as &dyn Display),
                ("mode", &interface.xdp_mode),
            ];
            (Labels::new(&labels), interface)
        })
        .collect();
    families(&mut metrics, "interface", &INTERFACE_FAMILIES, &interfaces);
    let sources = listing.sources.iter();
    let sources: Vec<_> = sources
        .map(|source| (Labels::new(&[("source", &source.source)]), source))
        .collect();
    families(&mut metrics, "source", &SOURCE_FAMILIES, &sources);
    let read: Vec<_> = sources
        .into_iter()
        .filter(|(_, source)| source.age_s.is_some())
        .collect();
    families(&mut metrics, "source", &SOURCE_AGE_FAMILIES, &read);
    let protection = [(Labels::new(&[]), &listing.protection)];
    families(&mut metrics, "flood", &PROTECTION_FAMILIES, &protection);
    let help = "Packets by the reason of their verdict";
    let mut packets = metrics.family("millrace_packets_total", Kind::Counter, help);
    for reason in &listing.reasons {
        packets.sample(&Labels::new(&[("reason", &reason.name)]), reason.packets);
    }
    let help = "Whether this machine holds a virtual address";
    let mut addresses = metrics.family("millrace_virtual_address_held", Kind::Gauge, help);
    // A file may name an address twice, on two interfaces for one.
    let held: BTreeMap<_, _> = listing
        .virtual_addresses
        .iter()
        .map(|listed| ((&listed.address, &listed.instance), listed.held))
        .collect();
    for ((address, instance), held) in held {
        let labels = Labels::new(&[("address", address), ("instance", instance)]);
        addresses.sample(&labels, u8::from(held));
    }
    metrics.into_text()
}

/// True if this is what a server does now: a sorry server may be one of the real
/// ones, and each series is to be there once.
fn is_at_work(server: &ListedServer, service: &ListedService) -> bool {
    let mut others = service.servers.iter();
    let other = others.find(|other| other.address == server.address && other.sorry != server.sorry);
    let is_sorry_at_work = |sorry: &ListedServer| sorry.state != ServerState::Standby;
    match other {
        None => true,
        Some(_) if server.sorry => is_sorry_at_work(server),
        Some(sorry) => !is_sorry_at_work(sorry),
    }
}

/// Families of metrics about `things`, each with its labels.
fn families<T>(
    metrics: &mut Exposition,
    of: &str,
    families: &[Family<T>],
    things: &[(Labels, &T)],
) {
    for (name, kind, help, value) in families {
        let mut family = metrics.family(&format!("millrace_{of}_{name}"), *kind, help);
        for (labels, thing) in things {
            family.sample(labels, value(thing));
        }
    }
}

fn labels(service: &ListedService) -> Labels {
    let protocol = match service.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    Labels::new(&[("protocol", &protocol), ("service", &service.address)])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::sample::{listing, server};

    fn assert_each_series_once(text: &str) {
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            assert!(seen.insert(series), "twice: {series}\n{text}");
        }
    }

    #[test]
    fn an_address_that_a_file_names_twice_has_one_series() {
        let mut listing = listing(Vec::new());
        let mut again = listing.virtual_addresses[0].clone();
        again.interface = "eth3".to_owned();
        listing.virtual_addresses.push(again);
        let text = render(&listing);
        assert_each_series_once(&text);
        let held = "millrace_virtual_address_held{address=\"172.16.1.200/32\",instance=\"VI_1\"} 1";
        assert!(text.lines().any(|line| line == held), "{text}");
    }

    #[test]
    fn a_sorry_server_that_is_a_real_one_too_has_each_series_once() {
        for (state, of_sorry, weight) in [
            (ServerState::Up, ServerState::Standby, 1),
            (ServerState::Down, ServerState::Up, 7),
        ] {
            let mut sorry = server(211, of_sorry, None);
            (sorry.sorry, sorry.weight) = (true, 7);
            let text = render(&listing(vec![
                server(211, state, None),
                server(207, ServerState::Up, None),
                sorry,
            ]));
            assert_each_series_once(&text);
            let expected = format!("server=\"172.16.1.211:1935\"}} {weight}");
            let weights = text
                .lines()
                .filter(|line| line.starts_with("millrace_server_weight"));
            assert!(
                weights.clone().any(|line| line.ends_with(&expected)),
                "{text}"
            );
        }
    }
}
