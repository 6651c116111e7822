//! The agent's state as Prometheus reads it.
//!
//! Written by hand: each answer describes one snapshot, while the registries of client
//! libraries hold living counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::protocol::{
    Counters, ListedInterface, ListedServer, ListedService, Listing, ServerState,
};
use lb_model::Protocol;

/// A family of metrics about things of one kind: name, type, help, and the value.
type Family<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const COUNTER_FAMILIES: [Family<Counters>; 3] = [
    (
        "connections_total",
        "counter",
        "Connections scheduled",
        |counters| counters.connections,
    ),
    (
        "packets_total",
        "counter",
        "Packets forwarded",
        |counters| counters.packets,
    ),
    (
        "bytes_total",
        "counter",
        "Bytes forwarded, from the IP header on",
        |counters| counters.bytes,
    ),
];

const SERVER_FAMILIES: [Family<ListedServer>; 6] = [
    (
        "up",
        "gauge",
        "1 if the server takes connections",
        |server| u64::from(server.state == ServerState::Up),
    ),
    ("weight", "gauge", "Share of new connections", |server| {
        server.weight.into()
    }),
    (
        "active_connections",
        "gauge",
        "Connections in the ESTABLISHED state",
        |server| server.active_connections,
    ),
    (
        "inactive_connections",
        "gauge",
        "Connections in any other state",
        |server| server.inactive_connections,
    ),
    (
        "persistent_clients",
        "gauge",
        "Clients that persistence ties to the server",
        |server| server.persistent_clients,
    ),
    (
        "connections_reset_total",
        "counter",
        "Connections that were reset, unasked, when the server was gone",
        |server| server.connections_reset,
    ),
];

const SERVICE_FAMILIES: [Family<ListedService>; 1] = [(
    "quorum",
    "gauge",
    "Whether enough servers are up",
    |service| u64::from(service.quorum),
)];

const STATE_FAMILIES: [Family<ListedServer>; 1] = [(
    "state",
    "gauge",
    "The state of the server, as `lb-user list` shows it",
    |_| 1,
)];

const INTERFACE_FAMILIES: [Family<ListedInterface>; 1] = [(
    "attached",
    "gauge",
    "Whether the XDP program is attached to the interface",
    |interface| u64::from(interface.lost.is_none()),
)];

/// The state in the text format of Prometheus.
pub(super) fn render(listing: &Listing) -> String {
    let mut text = String::new();
    let services: Vec<(String, &ListedService)> = listing
        .services
        .iter()
        .map(|service| (labels(service), service))
        .collect();
    families(&mut text, "service", &SERVICE_FAMILIES, &services);
    let counters: Vec<_> = services
        .iter()
        .map(|(labels, service)| (labels.clone(), &service.counters))
        .collect();
    families(&mut text, "service", &COUNTER_FAMILIES, &counters);
    let servers: Vec<(String, &ListedServer)> = services
        .iter()
        .flat_map(|(labels, service)| {
            let servers = service.servers.iter();
            let servers = servers.filter(|server| is_at_work(server, service));
            servers.map(move |server| (format!("{labels},server=\"{}\"", server.address), server))
        })
        .collect();
    families(&mut text, "server", &SERVER_FAMILIES, &servers);
    let counters: Vec<_> = servers
        .iter()
        .map(|(labels, server)| (labels.clone(), &server.counters))
        .collect();
    families(&mut text, "server", &COUNTER_FAMILIES, &counters);
    let states: Vec<_> = servers
        .iter()
        .map(|(labels, server)| (format!("{labels},state=\"{}\"", server.state), *server))
        .collect();
    families(&mut text, "server", &STATE_FAMILIES, &states);
    let interfaces: Vec<_> = listing
        .interfaces
        .iter()
        .map(|interface| {
            let (name, mode) = (escape(&interface.name), escape(&interface.xdp_mode));
            (format!("interface=\"{name}\",mode=\"{mode}\""), interface)
        })
        .collect();
    families(&mut text, "interface", &INTERFACE_FAMILIES, &interfaces);
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("a string can always grow");
    };
    let name = "millrace_packets_total";
    line(format!(
        "# HELP {name} Packets by the reason of their verdict"
    ));
    line(format!("# TYPE {name} counter"));
    for reason in &listing.reasons {
        line(format!(
            "{name}{{reason=\"{}\"}} {}",
            escape(&reason.name),
            reason.packets
        ));
    }
    let name = "millrace_virtual_address_held";
    line(format!(
        "# HELP {name} Whether this machine holds a virtual address"
    ));
    line(format!("# TYPE {name} gauge"));
    // A file may name an address twice, on two interfaces for one.
    let held: BTreeMap<_, _> = listing
        .virtual_addresses
        .iter()
        .map(|listed| ((&listed.address, &listed.instance), listed.held))
        .collect();
    for ((address, instance), held) in held {
        let (instance, value) = (escape(instance), u8::from(held));
        line(format!(
            "{name}{{address=\"{address}\",instance=\"{instance}\"}} {value}"
        ));
    }
    text
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
fn families<T>(text: &mut String, of: &str, families: &[Family<T>], things: &[(String, &T)]) {
    for (name, kind, help, value) in families {
        let name = format!("millrace_{of}_{name}");
        let mut line = |line: String| {
            writeln!(text, "{line}").expect("a string can always grow");
        };
        line(format!("# HELP {name} {help}"));
        line(format!("# TYPE {name} {kind}"));
        for (labels, thing) in things {
            line(format!("{name}{{{labels}}} {}", value(thing)));
        }
    }
}

fn labels(service: &ListedService) -> String {
    let protocol = match service.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("protocol=\"{protocol}\",service=\"{}\"", service.address)
}

/// A label's value, as Prometheus wants it.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
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
