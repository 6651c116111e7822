//! Sources of real servers that are not in the configuration: files, DNS, etcd.
//!
//! A source is followed by a task of its own, which tells of every reading. What follows
//! from it the agent decides (`agent/discovery.rs`): a source that answers nothing, or
//! nothing that can be used, leaves the servers as they are.

mod dns;
mod etcd;
mod file;
mod tls;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use lb_model::config::{Discover, DiscoveredServer};

/// The first pause after a reading that has failed; each further one is twice as long.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause after a reading that has failed.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Time within which a name server or etcd is to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// A source, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    kind: Kind,
    /// Servers that are taken at most.
    max_servers: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    File(PathBuf),
    Dns {
        name: String,
        server: Option<SocketAddr>,
    },
    Etcd(etcd::Server),
}

/// A reading of a source: its servers, sorted, or why there are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The source.
    pub source: Source,
    /// What it has answered.
    pub servers: Result<Vec<DiscoveredServer>, String>,
}

impl Source {
    /// The source of a `discover` block; `None` for one that names none, which is an error
    /// of the configuration.
    pub fn new(given: &Discover) -> Option<Self> {
        const DEFAULT_PREFIX: &str = "/millrace/";
        let prefix = given.prefix.as_deref().unwrap_or(DEFAULT_PREFIX);
        let path = |file: &Option<String>| file.as_ref().map(PathBuf::from);
        let kind = match (&given.file, &given.dns, &given.etcd) {
            (Some(path), None, None) => Kind::File(path.into()),
            (None, Some(name), None) => Kind::Dns {
                name: name.clone(),
                server: given.dns_server,
            },
            (None, None, Some(url)) => Kind::Etcd(etcd::Server {
                url: url.trim_end_matches('/').to_owned(),
                prefix: prefix.to_owned(),
                files: tls::Files {
                    authorities: path(&given.etcd_ca),
                    identity: path(&given.etcd_cert).zip(path(&given.etcd_key)),
                },
                credentials: given.etcd_username.clone().map(|name| etcd::Credentials {
                    name,
                    password: given.etcd_password.clone().unwrap_or_default(),
                }),
            }),
            _ => return None,
        };
        Some(Self {
            kind,
            max_servers: given.max_servers(),
        })
    }

    /// Follows the source until the handle is dropped.
    pub fn follow(&self, readings: mpsc::UnboundedSender<Reading>) -> AbortOnDropHandle<()> {
        let reports = Reports {
            source: self.clone(),
            readings,
        };
        let task = match self.kind.clone() {
            Kind::File(path) => tokio::spawn(file::follow(path, reports)),
            Kind::Dns { name, server } => tokio::spawn(dns::follow(name, server, reports)),
            Kind::Etcd(server) => tokio::spawn(etcd::follow(server, reports)),
        };
        AbortOnDropHandle::new(task)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File(path) => write!(f, "file {}", path.display()),
            Kind::Dns { name, .. } => write!(f, "dns {name}"),
            Kind::Etcd(server) => write!(f, "etcd {} {}", server.url, server.prefix),
        }
    }
}

/// The way of a source's readings to the agent.
struct Reports {
    source: Source,
    readings: mpsc::UnboundedSender<Reading>,
}

impl Reports {
    /// Tells of a reading. Returns false once nobody listens any more.
    fn send(&self, servers: Result<Vec<DiscoveredServer>, String>) -> bool {
        let servers = servers.and_then(|servers| self.admit(servers));
        let source = self.source.clone();
        self.readings.send(Reading { source, servers }).is_ok()
    }

    /// The servers in one order, each address once: of two the first counts.
    fn admit(&self, mut servers: Vec<DiscoveredServer>) -> Result<Vec<DiscoveredServer>, String> {
        // One name server of the wrong kind answers 0.0.0.0 for what it blocks, another
        // 127.0.0.1: this machine would be the server.
        let is_none = |it: &&DiscoveredServer| {
            let address = it.address.to_canonical();
            address.is_loopback() || address.is_unspecified() || address.is_multicast()
        };
        if let Some(server) = servers.iter().find(is_none) {
            return Err(format!(
                "{} is no address of a server that others reach; expected one that is neither \
                 loopback, unspecified nor multicast",
                server.address
            ));
        }
        servers.sort_by_key(|server| (server.address, server.port));
        servers.dedup_by_key(|server| (server.address, server.port));
        let most = self.source.max_servers as usize;
        if servers.len() > most {
            let found = servers.len();
            return Err(format!(
                "it has {found} servers and `max_servers` is {most}; raise it if that is right"
            ));
        }
        Ok(servers)
    }
}

/// Pauses that grow from failure to failure.
struct Pauses(Duration);

impl Pauses {
    fn new() -> Self {
        Self(MIN_PAUSE)
    }

    /// After a success.
    fn reset(&mut self) {
        self.0 = MIN_PAUSE;
    }

    /// The pause after one more failure.
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(MAX_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_servers_sorted_once_each_and_not_more_than_it_may() {
        let (readings, mut received) = mpsc::unbounded_channel();
        let given = Discover {
            file: Some("/f".to_owned()),
            max_servers: Some(2),
            ..Discover::default()
        };
        let source = Source::new(&given).expect("a source");
        assert_eq!(source.to_string(), "file /f");
        let reports = Reports { source, readings };
        let server = |last: u8| DiscoveredServer {
            address: [10, 0, 0, last].into(),
            port: None,
            weight: Some(last.into()),
        };
        assert!(reports.send(Ok(vec![server(2), server(1), server(2)])));
        assert!(reports.send(Ok(vec![server(2), server(1), server(3)])));
        let reading = received.try_recv().expect("a reading").servers;
        assert_eq!(reading, Ok(vec![server(1), server(2)]));
        let refused = received.try_recv().expect("a reading").servers;
        assert_eq!(
            refused.expect_err("too many"),
            "it has 3 servers and `max_servers` is 2; raise it if that is right"
        );
        for address in [
            "127.0.0.2",
            "0.0.0.0",
            "224.0.0.1",
            "::1",
            "::",
            "ff02::1",
            "::ffff:127.0.0.1",
        ] {
            let wrong = DiscoveredServer {
                address: address.parse().expect("an address"),
                ..server(1)
            };
            assert!(reports.send(Ok(vec![wrong])));
            let refused = received.try_recv().expect("a reading").servers;
            let refused = refused.expect_err("it is no server");
            assert!(refused.contains("no address of a server"), "{refused}");
        }
        drop(received);
        assert!(!reports.send(Ok(Vec::new())), "nobody listens");
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut pauses = Pauses::new();
        let seconds: Vec<u64> = (0..7).map(|_| pauses.next().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        pauses.reset();
        assert_eq!(pauses.next(), MIN_PAUSE);
    }
}
