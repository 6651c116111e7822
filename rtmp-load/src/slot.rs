//! A place for one publisher or player in a thread, with its connections.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    clock::Instant,
    dialogue::{MAX_CONNECTIONS, Outboxes},
    link::Link,
    player::{Player, Progress},
    publisher::Publisher,
    tls::TlsServer,
};

/// Where to connect, and how.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// `None` for connections without TLS.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// A place for one publisher or player, connected or not.
pub(crate) struct Slot {
    pub(crate) peer: Peer,
    pub(crate) server: Server,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) links: [Option<Link>; MAX_CONNECTIONS],
    /// Bytes that the sockets have not taken yet, or that wait for a connection.
    pub(crate) outboxes: Outboxes,
    /// True from its start to its end.
    pub(crate) begun: bool,
    /// The time of its next timer.
    pub(crate) wakes_at: Option<Instant>,
    /// Bytes received before the measured window.
    pub(crate) bytes_before_window: u64,
}

pub(crate) enum Peer {
    Player(Player),
    Publisher(Publisher),
}

impl Slot {
    pub(crate) fn new(peer: Peer, server: Server, bind: Option<IpAddr>) -> Self {
        Self {
            peer,
            server,
            bind,
            links: Default::default(),
            outboxes: Outboxes::default(),
            begun: false,
            wakes_at: None,
            bytes_before_window: 0,
        }
    }
}

/// A connection's key in the event queue.
pub(crate) fn key(index: usize, connection: usize) -> u64 {
    (index * MAX_CONNECTIONS + connection) as u64
}

/// The slot and the connection of a key.
pub(crate) fn numbers(key: u64) -> (usize, usize) {
    let key = key as usize;
    (key / MAX_CONNECTIONS, key % MAX_CONNECTIONS)
}

impl Slot {
    /// The time at which its publisher has something to send that the socket
    /// would take.
    pub(crate) fn sends_at(&self) -> Option<Instant> {
        match &self.peer {
            Peer::Publisher(publisher)
                if self.links[0].is_some() && self.outboxes[0].is_empty() =>
            {
                publisher.due_at()
            }
            _ => None,
        }
    }
}

impl Peer {
    pub(crate) fn progress(&self) -> Progress {
        match self {
            Self::Player(player) => player.progress().unwrap_or(Progress::Connecting),
            Self::Publisher(publisher) if publisher.is_publishing() => Progress::Streaming,
            Self::Publisher(_) => Progress::Negotiating,
        }
    }
}
