//! The agent's state for Prometheus.

use std::fmt::Write as _;

use super::protocol::{ListedServer, ListedService, Listing, ServerState};
use crate::dataplane::state::Protocol;

/// A family of metrics about real servers: name, type, help, and the value.
type ServerFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ListedServer) -> u64,
);

const SERVER_FAMILIES: [ServerFamily; 9] = [
    (
        "up",
        "gauge",
        "Whether the server takes connections",
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
    (
        "connections_total",
        "counter",
        "Connections scheduled",
        |server| server.counters.connections,
    ),
    ("packets_total", "counter", "Packets forwarded", |server| {
        server.counters.packets
    }),
    (
        "bytes_total",
        "counter",
        "Bytes forwarded, from the IP header on",
        |server| server.counters.bytes,
    ),
];

type ServiceFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&ListedService) -> u64,
);

const SERVICE_FAMILIES: [ServiceFamily; 4] = [
    (
        "quorum",
        "gauge",
        "Whether enough servers are up",
        |service| u64::from(service.quorum),
    ),
    (
        "connections_total",
        "counter",
        "Connections scheduled",
        |service| service.counters.connections,
    ),
    ("packets_total", "counter", "Packets forwarded", |service| {
        service.counters.packets
    }),
    (
        "bytes_total",
        "counter",
        "Bytes forwarded, from the IP header on",
        |service| service.counters.bytes,
    ),
];

/// The state in the text format of Prometheus.
pub fn render(listing: &Listing) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("a string can always grow");
    };
    for (name, kind, help, value) in SERVICE_FAMILIES {
        let name = format!("millrace_service_{name}");
        line(format!("# HELP {name} {help}"));
        line(format!("# TYPE {name} {kind}"));
        for service in &listing.services {
            line(format!("{name}{{{}}} {}", labels(service), value(service)));
        }
    }
    for (name, kind, help, value) in SERVER_FAMILIES {
        let name = format!("millrace_server_{name}");
        line(format!("# HELP {name} {help}"));
        line(format!("# TYPE {name} {kind}"));
        for service in &listing.services {
            for server in &service.servers {
                let (labels, address) = (labels(service), server.address);
                line(format!(
                    "{name}{{{labels},server=\"{address}\"}} {}",
                    value(server)
                ));
            }
        }
    }
    let name = "millrace_server_state";
    line(format!(
        "# HELP {name} The state of the server, as `lb-user list` shows it"
    ));
    line(format!("# TYPE {name} gauge"));
    for service in &listing.services {
        for server in &service.servers {
            let (labels, address, state) = (labels(service), server.address, server.state);
            line(format!(
                "{name}{{{labels},server=\"{address}\",state=\"{state}\"}} 1"
            ));
        }
    }
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
    let name = "millrace_interface_attached";
    line(format!(
        "# HELP {name} Whether the XDP program is attached to the interface"
    ));
    line(format!("# TYPE {name} gauge"));
    for interface in &listing.interfaces {
        let value = u8::from(interface.lost.is_none());
        line(format!(
            "{name}{{interface=\"{}\",mode=\"{}\"}} {value}",
            escape(&interface.name),
            escape(&interface.xdp_mode)
        ));
    }
    let name = "millrace_virtual_address_held";
    line(format!(
        "# HELP {name} Whether this machine holds a virtual address"
    ));
    line(format!("# TYPE {name} gauge"));
    for held in &listing.virtual_addresses {
        let (address, instance) = (&held.address, escape(&held.instance));
        let value = u8::from(held.held);
        line(format!(
            "{name}{{address=\"{address}\",instance=\"{instance}\"}} {value}"
        ));
    }
    text
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
pub mod tests {
    use super::*;
    use crate::control::protocol::{Counters, ListedAddress, ListedInterface, Rates};

    pub fn state() -> Listing {
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
                instance: "VI \"1\"".to_owned(),
                held: true,
                state: "master".to_owned(),
                cause: String::new(),
            }],
            services: vec![ListedService {
                protocol: Protocol::Tcp,
                address: "172.16.1.200:1935".parse().expect("an address"),
                scheduler: crate::dataplane::state::Scheduler::Rr,
                persistence: None,
                quorum: true,
                counters: Counters {
                    connections: 7,
                    packets: 70,
                    bytes: 700,
                },
                rates: None,
                servers: vec![ListedServer {
                    address: "172.16.1.211:1935".parse().expect("an address"),
                    sorry: false,
                    weight: 3,
                    state: ServerState::Up,
                    reason: None,
                    mac: None,
                    interface: None,
                    active_connections: 2,
                    inactive_connections: 1,
                    persistent_clients: 0,
                    connections_reset: 5,
                    counters: Counters {
                        connections: 7,
                        packets: 70,
                        bytes: 700,
                    },
                    rates: Some(Rates {
                        connections_per_s: 0.2,
                        packets_per_s: 14.0,
                        bits_per_s: 1120.0,
                    }),
                }],
            }],
            ..Listing::default()
        }
    }

    #[test]
    fn metrics_name_every_service_server_and_interface() {
        let text = render(&state());
        for line in [
            "# TYPE millrace_service_bytes_total counter",
            "millrace_service_bytes_total{protocol=\"tcp\",service=\"172.16.1.200:1935\"} 700",
            "millrace_server_up{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\"} 1",
            "millrace_server_weight{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\"} 3",
            "millrace_server_state{protocol=\"tcp\",service=\"172.16.1.200:1935\",server=\"172.16.1.211:1935\",state=\"up\"} 1",
            "millrace_interface_attached{interface=\"eth2\",mode=\"native\"} 1",
            "millrace_virtual_address_held{address=\"172.16.1.200/32\",instance=\"VI \\\"1\\\"\"} 1",
        ] {
            assert!(
                text.lines().any(|given| given == line),
                "no line `{line}` in:\n{text}"
            );
        }
    }
}
