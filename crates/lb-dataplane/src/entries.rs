//! Connections and templates one by one, as operators ask for them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use aya::Pod;
use lb_abi::{Flow, FlowKey, FlowState, Template, TemplateKey};
use serde::{Deserialize, Serialize};

use super::changes::ServerId;
use super::conntrack::{ConntrackSnapshot, now_ns, silent_ns};
use super::error::Error;
use super::table::{Bucket, Table};
use lb_model::{Protocol, ServiceKey};

/// An entry of the connection tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Protocol of the service.
    pub protocol: Protocol,
    /// Its state.
    pub state: ConnectionState,
    /// Seconds until it expires, if it stays silent.
    pub expires_s: u64,
    /// The client's end.
    pub client: SocketAddr,
    /// The virtual address, and the port that the client has connected to.
    pub service: SocketAddr,
    /// The real server; `None` if that is gone.
    pub server: Option<SocketAddr>,
}

/// A persistence template: a client, or a network of clients, with its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersistentClient {
    /// Protocol of the service.
    pub protocol: Protocol,
    /// Seconds until the template expires.
    pub expires_s: u64,
    /// The client's address, or the first of its network.
    pub client: IpAddr,
    /// Prefix length of that network.
    pub prefix_length: u8,
    /// The virtual address and port.
    pub service: SocketAddr,
    /// The real server; `None` if that is gone.
    pub server: Option<SocketAddr>,
}

macro_rules! states {
    ($($(#[doc = $meaning:literal])+ $variant:ident = $name:literal,)+) => {
        /// State of a connection, as far as the client's packets show it
        /// ([`FlowState`]).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum ConnectionState {
            $($(#[doc = $meaning])+ #[serde(rename = $name)] $variant,)+
        }

        impl ConnectionState {
            /// All names, as ipvsadm(8) has them.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// Its name in ipvsadm(8).
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            fn of(flow: &Flow) -> Option<Self> {
                $(if flow.state == FlowState::$variant as u16 {
                    return Some(Self::$variant);
                })+
                None
            }
        }

        impl FromStr for ConnectionState {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $(if text.eq_ignore_ascii_case($name) {
                    return Ok(Self::$variant);
                })+
                Err(format!("`{text}` is no state; expected one of {}", Self::NAMES.join(", ")))
            }
        }
    };
}

states! {
    /// A SYN has been seen.
    SynReceived = "SYN_RECV",
    /// The handshake is complete.
    Established = "ESTABLISHED",
    /// The client has sent FIN.
    FinWait = "FIN_WAIT",
    /// The client has sent FIN before the handshake was complete.
    TimeWait = "TIME_WAIT",
    /// The client has sent RST.
    Closed = "CLOSE",
    /// UDP.
    Udp = "UDP",
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The place from which reading goes on; as text, a token for reading page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// 0: the lasting table; 1: that of new entries.
    table: u8,
    bucket: Option<Bucket>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.table)?;
        match self.bucket {
            Some(bucket) => write!(f, ".{bucket}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (table, bucket) = match text.split_once('.') {
                Some((table, bucket)) => (table, Some(bucket.parse().ok()?)),
                None => (text, None),
            };
            let table = table.parse().ok().filter(|table| *table < 2)?;
            Some(Self { table, bucket })
        };
        parse().ok_or_else(|| format!("`{text}` is no place to go on from"))
    }
}

impl ConntrackSnapshot {
    /// Reads some connections, about `batch` at most, and returns them with the
    /// place to go on from; `None` at the end. Expired ones are left out.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn connections(
        &self,
        from: Cursor,
        batch: usize,
    ) -> Result<(Vec<Connection>, Option<Cursor>), Error> {
        let now_ns = now_ns();
        let tables = [&self.tables.flows, &self.tables.half_open];
        read_some(tables, from, batch, |_, key, flow| {
            Ok(self.connection(&key, &flow, now_ns))
        })
    }

    /// As [`ConntrackSnapshot::connections`], for persistence templates.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn persistent_clients(
        &self,
        from: Cursor,
        batch: usize,
    ) -> Result<(Vec<PersistentClient>, Option<Cursor>), Error> {
        let now_ns = now_ns();
        let tables = [&self.tables.templates, &self.tables.new_templates];
        read_some(tables, from, batch, |table, key, template| {
            // A client that has sent another SYN may have one in both tables.
            if table == 1 {
                let lasting = self.tables.templates.get(&key)?;
                if lasting.is_some_and(|lasting| lasting.expires_ns > now_ns) {
                    return Ok(None);
                }
            }
            Ok(self.persistent_client(&key, &template, now_ns))
        })
    }

    fn connection(&self, key: &FlowKey, flow: &Flow, now_ns: u64) -> Option<Connection> {
        let left_ns = self.timeout_ns(flow).checked_sub(silent_ns(flow, now_ns))?;
        let service = self.service(key.service)?;
        Some(Connection {
            protocol: service.protocol,
            state: ConnectionState::of(flow)?,
            expires_s: whole_seconds(left_ns),
            client: SocketAddr::new(key.client.into(), u16::from_be(key.port)),
            service: SocketAddr::new(service.address.ip(), u16::from_be(key.service_port)),
            server: self.server((flow.server, flow.generation)),
        })
    }

    fn persistent_client(
        &self,
        key: &TemplateKey,
        template: &Template,
        now_ns: u64,
    ) -> Option<PersistentClient> {
        let left_ns = template.expires_ns.checked_sub(now_ns)?;
        let number = u16::try_from(key.service).ok()?;
        let service = self.service(number)?;
        let client: IpAddr = key.client.into();
        let (_, mask) = self.ids.services.get(&number)?.persistence?;
        let masked: u32 = mask.0.iter().map(|word| word.count_zeros()).sum();
        let longest: u32 = if client.is_ipv4() { 32 } else { 128 };
        Some(PersistentClient {
            protocol: service.protocol,
            expires_s: whole_seconds(left_ns),
            client,
            prefix_length: longest.saturating_sub(masked) as u8,
            service: service.address,
            server: self.server((template.server, template.generation)),
        })
    }

    fn service(&self, number: u16) -> Option<ServiceKey> {
        Some(self.ids.services.get(&number)?.key)
    }

    fn server(&self, id: ServerId) -> Option<SocketAddr> {
        self.ids.servers.get(&id).copied()
    }
}

/// Rounded up: what is shown with 0 seconds is gone.
fn whole_seconds(ns: u64) -> u64 {
    ns.div_ceil(1_000_000_000)
}

/// Reads a batch of one of two tables.
fn read_some<K: Pod, V: Pod, T>(
    tables: [&Table<K, V>; 2],
    from: Cursor,
    batch: usize,
    mut show: impl FnMut(u8, K, V) -> Result<Option<T>, Error>,
) -> Result<(Vec<T>, Option<Cursor>), Error> {
    let mut walk = tables[usize::from(from.table)].walk(from.bucket, batch);
    let mut shown = Vec::new();
    if let Some(entries) = walk.next_batch()? {
        for (key, value) in entries {
            shown.extend(show(from.table, key, value)?);
        }
    }
    let next = match walk.position() {
        Some(bucket) => Some(Cursor {
            bucket: Some(bucket),
            ..from
        }),
        None if from.table == 0 => Some(Cursor {
            table: 1,
            bucket: None,
        }),
        None => None,
    };
    Ok((shown, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_being_written_down() {
        for text in ["0", "1", "0.17", "1.4294967295"] {
            let place: Cursor = text.parse().expect("a place");
            assert_eq!(place.to_string(), text);
        }
        for text in ["", "2", "0.", "0.x", "1.4294967296", "0.1.2"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn states_are_named_as_ipvsadm_names_them() {
        assert_eq!(
            "established".parse(),
            Ok(ConnectionState::Established),
            "in small letters, too"
        );
        assert_eq!(ConnectionState::SynReceived.to_string(), "SYN_RECV");
        assert!("OPEN".parse::<ConnectionState>().is_err());
    }
}
