//! The listening sockets of a server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

use serde::{Deserialize, Serialize};

use crate::config::{Config, TlsListener};
use crate::hand_over::Inherited;
use crate::server::{listen, try_address};

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ListenerKind {
    Rtmp,
    Rtmps,
    Http,
    Https,
    HttpApi,
    HttpApiHttps,
}

impl ListenerKind {
    /// The directive that sets its address.
    fn option(self) -> &'static str {
        match self {
            Self::Rtmp => "`listen` or --listen",
            Self::Rtmps => "`rtmps { listen …; }`",
            Self::Http => "`http_server { listen …; }`",
            Self::Https => "`http_server { https { listen …; } }`",
            Self::HttpApi => "`http_api { listen …; }` or --http-api",
            Self::HttpApiHttps => "`http_api { https { listen …; } }`",
        }
    }
}

/// A listening socket. It is opened before the process goes to the background.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) kind: ListenerKind,
    /// The address, as it is configured.
    address: SocketAddr,
    pub(super) socket: TcpListener,
}

/// A listening socket for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ListenerPart {
    kind: ListenerKind,
    address: SocketAddr,
    pub(super) descriptor: RawFd,
}

impl Listener {
    /// The socket for the program that the process becomes.
    pub(super) fn part(&self) -> ListenerPart {
        ListenerPart {
            kind: self.kind,
            address: self.address,
            descriptor: self.socket.as_raw_fd(),
        }
    }
}

/// The addresses that `config` names.
fn addresses(config: &Config) -> Vec<(ListenerKind, SocketAddr)> {
    let tls = |listener: Option<&TlsListener>| {
        listener.map_or_else(Vec::new, |listener| listener.listen.clone())
    };
    let api = config.http_api.iter().map(|api| api.listen);
    [
        (ListenerKind::Rtmp, config.listen.clone()),
        (ListenerKind::Http, config.http_listen().to_vec()),
        (ListenerKind::Rtmps, tls(config.rtmps.as_ref())),
        (ListenerKind::Https, tls(config.https())),
        (ListenerKind::HttpApi, api.collect()),
        (
            ListenerKind::HttpApiHttps,
            tls(config.http_api_https.as_ref()),
        ),
    ]
    .into_iter()
    .flat_map(|(kind, addresses)| addresses.into_iter().map(move |address| (kind, address)))
    .collect()
}

/// The sockets that a server has, and why it has not all that its configuration names.
#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) listeners: Vec<Listener>,
    /// One for each address that cannot be bound.
    pub(super) errors: Vec<anyhow::Error>,
}

/// Opens the sockets that `config` names. Those that have been handed over are kept where it
/// names them, too; who waits in their queues is not lost. Where one of a kind cannot be opened,
/// the others of its kind that have been handed over are kept as well.
pub(super) fn open(config: &Config, parts: &[ListenerPart], inherited: &mut Inherited) -> Opened {
    let mut former: Vec<Listener> = parts
        .iter()
        .filter_map(|part| {
            Some(Listener {
                kind: part.kind,
                address: part.address,
                socket: inherited.take(part.descriptor).ok()?.into(),
            })
        })
        .collect();
    let (kept, new): (Vec<_>, Vec<_>) = addresses(config)
        .into_iter()
        .partition(|wanted| former.iter().any(|it| (it.kind, it.address) == *wanted));
    let mut opened = Opened {
        listeners: former
            .extract_if(.., |it| kept.contains(&(it.kind, it.address)))
            .collect(),
        errors: Vec::new(),
    };
    let mut failed = Vec::new();
    for (kind, address) in new {
        let socket = listen(address).or_else(|error| {
            // One that is named no longer may have its port.
            let in_the_way = former
                .extract_if(.., |it| is_in_the_way(&error, it.address, address))
                .map(|it| (it.kind, it.address));
            let closed: Vec<_> = in_the_way.collect();
            if closed.is_empty() {
                return Err(error);
            }
            listen(address).inspect_err(|_| {
                // It was another program's: they are needed again.
                let again = closed.into_iter().filter_map(|(kind, address)| {
                    Some(Listener {
                        kind,
                        address,
                        socket: listen(address).ok()?,
                    })
                });
                former.extend(again);
            })
        });
        match socket {
            Ok(socket) => opened.listeners.push(Listener {
                kind,
                address,
                socket,
            }),
            Err(error) => {
                failed.push(kind);
                opened.errors.push(cannot_listen(kind, address, error));
            }
        }
    }
    let stay = former.into_iter().filter(|it| failed.contains(&it.kind));
    opened.listeners.extend(stay);
    opened
}

/// Checks that [`open`] could open the sockets that `config` names, beside those that are there.
///
/// # Errors
/// An address cannot be bound.
pub(super) fn check(config: &Config, parts: &[ListenerPart]) -> anyhow::Result<()> {
    let addresses = addresses(config);
    let is_there = |it: &&(ListenerKind, SocketAddr)| {
        parts.iter().any(|part| (part.kind, part.address) == **it)
    };
    for &(kind, address) in addresses.iter().filter(|it| !is_there(it)) {
        if let Err(error) = try_address(address) {
            let is_named = |part: &ListenerPart| addresses.contains(&(part.kind, part.address));
            let mut left = parts.iter().filter(|part| !is_named(part));
            if !left.any(|part| is_in_the_way(&error, part.address, address)) {
                return Err(cannot_listen(kind, address, error));
            }
        }
    }
    Ok(())
}

/// True if `address` cannot be bound, for this `error`, while there is a socket at `other`.
fn is_in_the_way(error: &io::Error, other: SocketAddr, address: SocketAddr) -> bool {
    error.kind() == io::ErrorKind::AddrInUse && other.port() == address.port()
}

fn cannot_listen(kind: ListenerKind, address: SocketAddr, error: io::Error) -> anyhow::Error {
    let option = kind.option();
    let text = format!("cannot listen at {address}: choose another address or port by {option}");
    anyhow::Error::new(error).context(text)
}
