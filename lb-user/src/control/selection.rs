//! Selections of connections or clients that an operator wants to see.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use lb_dataplane::{Connection, ConnectionState, PersistentClient};
use net_types::Network;

/// Conditions for an entry to be shown; one that is left out always holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// The client's address.
    pub client: Option<Network>,
    /// The real server.
    pub server: Option<Endpoint>,
    /// The service.
    pub service: Option<Endpoint>,
    /// The state of the connection.
    pub state: Option<ConnectionState>,
}

impl Selection {
    /// True if a connection meets the conditions.
    pub fn has_connection(&self, connection: &Connection) -> bool {
        self.state.is_none_or(|state| state == connection.state)
            && self.has(
                connection.client.ip(),
                connection.service,
                connection.server,
            )
    }

    /// True if a client meets the conditions. One that is a network does if it lies
    /// within the network that was named, or that within it.
    pub fn has_persistent_client(&self, client: &PersistentClient) -> bool {
        let own = Network::new(client.client, client.prefix_length);
        self.client.is_none_or(|network| network.overlaps(own))
            && Self {
                client: None,
                ..self.clone()
            }
            .has(client.client, client.service, client.server)
    }

    fn has(&self, client: IpAddr, service: SocketAddr, server: Option<SocketAddr>) -> bool {
        // A service of all ports, which is named by port 0, may be meant.
        let all_ports = SocketAddr::new(service.ip(), 0);
        let is_service = |endpoint: Endpoint| endpoint.names(service) || endpoint.names(all_ports);
        self.client.is_none_or(|network| network.contains(client))
            && self.service.is_none_or(is_service)
            && self
                .server
                .is_none_or(|endpoint| server.is_some_and(|server| endpoint.names(server)))
    }
}

/// `ADDRESS` or `ADDRESS:PORT`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// One port of an address.
    Socket(SocketAddr),
    /// All ports of an address.
    Host(IpAddr),
}

impl Endpoint {
    /// True if this is the name of `address`.
    pub fn names(self, address: SocketAddr) -> bool {
        match self {
            Self::Socket(own) => own == address,
            Self::Host(own) => own == address.ip(),
        }
    }
}

impl Endpoint {
    /// Its address, and its port if it names one.
    pub fn parts(self) -> (IpAddr, Option<u16>) {
        match self {
            Self::Socket(socket) => (socket.ip(), Some(socket.port())),
            Self::Host(address) => (address, None),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let socket = || text.parse().map(Self::Socket);
        let host = || text.parse().map(Self::Host);
        socket().or_else(|_| host()).map_err(|_| {
            format!(
                "`{text}` is no address; expected ADDRESS or ADDRESS:PORT as `lb-user list` \
                     shows"
            )
        })
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Host(address) => address.fmt(f),
        }
    }
}

/// It is text in JSON, too.
impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_model::Protocol;

    fn connection() -> Connection {
        Connection {
            protocol: Protocol::Tcp,
            state: ConnectionState::Established,
            expires_s: 900,
            client: "10.0.3.4:5000".parse().expect("an end"),
            service: "172.16.1.200:1935".parse().expect("an end"),
            server: Some("172.16.1.211:1935".parse().expect("an end")),
        }
    }

    #[test]
    fn every_word_of_a_selection_counts() {
        let select = |json: &str| serde_json::from_str::<Selection>(json);
        for (json, expected) in [
            ("{}", true),
            (r#"{"client": "10.0.3.4"}"#, true),
            (r#"{"client": "10.0.0.0/16"}"#, true),
            (r#"{"client": "0.0.0.0/0"}"#, true),
            (r#"{"client": "10.1.0.0/16"}"#, false),
            (r#"{"client": "::/0"}"#, false),
            (r#"{"server": "172.16.1.211"}"#, true),
            (r#"{"server": "172.16.1.211:1936"}"#, false),
            (r#"{"service": "172.16.1.200:1935"}"#, true),
            (r#"{"service": "172.16.1.201"}"#, false),
            (r#"{"state": "ESTABLISHED"}"#, true),
            (r#"{"state": "FIN_WAIT"}"#, false),
            (r#"{"client": "10.0.3.4", "server": "172.16.1.207"}"#, false),
        ] {
            let selection = select(json).expect(json);
            assert_eq!(selection.has_connection(&connection()), expected, "{json}");
            let again = serde_json::to_string(&selection).expect("JSON");
            assert_eq!(select(&again).expect("the same"), selection);
        }
        assert!(select(r#"{"client": "10.0.0.0/33"}"#).is_err());
        assert!(select(r#"{"server": "edge1"}"#).is_err());
    }

    #[test]
    fn an_address_stands_for_all_its_ports_unless_it_names_one() {
        let one: SocketAddr = "10.0.0.2:80".parse().expect("an address");
        let other: SocketAddr = "10.0.0.2:81".parse().expect("an address");
        let names = |text: &str| {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            (endpoint.names(one), endpoint.names(other))
        };
        assert_eq!(names("10.0.0.2:80"), (true, false));
        assert_eq!(names("10.0.0.2"), (true, true));
        assert_eq!(names("10.0.0.3"), (false, false));
        assert_eq!(
            "edge1".parse::<Endpoint>(),
            Err(
                "`edge1` is no address; expected ADDRESS or ADDRESS:PORT as `lb-user list` shows"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_connection_whose_server_is_gone_is_nobodys() {
        let orphan = Connection {
            server: None,
            ..connection()
        };
        assert!(Selection::default().has_connection(&orphan));
        let selection = Selection {
            server: Some("172.16.1.211".parse().expect("an endpoint")),
            ..Selection::default()
        };
        assert!(!selection.has_connection(&orphan));
    }

    #[test]
    fn a_network_of_clients_is_selected_by_any_of_its_addresses() {
        let client = PersistentClient {
            protocol: Protocol::Tcp,
            expires_s: 50,
            client: "10.0.3.0".parse().expect("an address"),
            prefix_length: 24,
            service: "172.16.1.200:1935".parse().expect("an end"),
            server: None,
        };
        for (network, expected) in [
            ("10.0.3.77", true),
            ("10.0.0.0/8", true),
            ("10.0.4.0/24", false),
        ] {
            let selection = Selection {
                client: Some(network.parse().expect("a network")),
                ..Selection::default()
            };
            assert_eq!(
                selection.has_persistent_client(&client),
                expected,
                "{network}"
            );
        }
    }
}
