//! The listening sockets of a server.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::config::{Config, TlsListener};
use crate::hand_over::Inherited;
use crate::server::listen;

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

/// Opens the sockets that `config` names. Those that have been handed over are kept where it
/// names them, too; who waits in their queues is not lost.
///
/// # Errors
/// An address cannot be bound.
pub(super) fn open(
    config: &Config,
    parts: &[ListenerPart],
    inherited: &mut Inherited,
) -> anyhow::Result<Vec<Listener>> {
    let addresses = addresses(config);
    let is_kept = |part: &&ListenerPart| addresses.contains(&(part.kind, part.address));
    for part in parts.iter().filter(|part| !is_kept(part)) {
        // Closed: another address may take its port.
        drop(inherited.take(part.descriptor));
    }
    let open = |(kind, address): (ListenerKind, SocketAddr)| {
        let part = parts
            .iter()
            .find(|part| (part.kind, part.address) == (kind, address));
        let taken = part.and_then(|part| inherited.take(part.descriptor).ok());
        let socket = match taken {
            Some(descriptor) => descriptor.into(),
            None => listen(address).with_context(|| {
                let option = kind.option();
                format!("cannot listen at {address}: choose another address or port by {option}")
            })?,
        };
        Ok(Listener {
            kind,
            address,
            socket,
        })
    };
    addresses.iter().copied().map(open).collect()
}
