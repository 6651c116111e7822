//! The table of connections: for `max_connections`, the log and the HTTP API.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use super::client::{Activity, Client, ClientProtocol};
use super::counts::Counts;
use super::quotas::counted_address;
use super::upgrade::ClientsPart;
use crate::hand_over::HandOverError;
use crate::stream::lock;

/// The most connections that a server takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// `max_connections`.
    pub(super) all: u32,
    /// `max_connections_per_address`; 0: any number.
    pub(super) per_address: u32,
}

/// The limit for which a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LimitReached {
    /// Of all connections.
    #[error("max_connections ({0}) is reached")]
    All(u32),
    /// Of those from one address.
    #[error("max_connections_per_address ({0}) is reached")]
    PerAddress(u32),
}

/// Totals of all connections since the start, those that have gone included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClientTotals {
    /// Connections that have come.
    pub(crate) came: u64,
    /// Connections that have failed: neither side ended them in an orderly way.
    pub(crate) failed: u64,
    /// Bytes received.
    pub(crate) received: u64,
    /// Bytes sent.
    pub(crate) sent: u64,
}

/// The connections of a server.
#[derive(Debug, Default)]
pub struct Clients {
    last_id: AtomicU64,
    table: Mutex<Table>,
}

/// The present connections, and what those that have gone leave behind.
#[derive(Debug, Default)]
struct Table {
    /// Connections, and viewers by HLS.
    clients: BTreeMap<u64, Arc<Client>>,
    /// Number of viewers by HLS among them.
    sessions: usize,
    /// Number of connections by [`counted_address`].
    addresses: Counts<IpAddr>,
    /// The same of viewers by HLS.
    session_addresses: Counts<IpAddr>,
    /// Totals of those that have gone.
    gone: ClientTotals,
}

impl Table {
    /// Counts another connection of `peer`, or viewer by HLS.
    ///
    /// # Errors
    /// The address has as many as it may.
    fn add_address(&mut self, peer: IpAddr, session: bool, max: u32) -> Result<(), LimitReached> {
        match self.addresses(session).add(counted_address(peer), max) {
            true => Ok(()),
            false => Err(LimitReached::PerAddress(max)),
        }
    }

    /// The numbers of viewers by HLS, or of connections, by address.
    fn addresses(&mut self, sessions: bool) -> &mut Counts<IpAddr> {
        match sessions {
            true => &mut self.session_addresses,
            false => &mut self.addresses,
        }
    }
}

impl Clients {
    /// Adds a new connection.
    ///
    /// # Errors
    /// There are as many as may be already.
    pub(super) fn add(
        &self,
        peer: SocketAddr,
        limits: ConnectionLimits,
        now: Instant,
    ) -> Result<Arc<Client>, LimitReached> {
        let mut table = lock(&self.table);
        if table.clients.len() - table.sessions >= limits.all as usize {
            return Err(LimitReached::All(limits.all));
        }
        table.add_address(peer.ip(), false, limits.per_address)?;
        Ok(self.insert(peer, false, &mut table, now))
    }

    fn insert(
        &self,
        peer: SocketAddr,
        is_session: bool,
        table: &mut Table,
        now: Instant,
    ) -> Arc<Client> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Arc::new(Client::new(id, peer, is_session, now));
        table.clients.insert(id, client.clone());
        client
    }

    /// The table for the program that the process becomes.
    pub(super) fn part(&self) -> ClientsPart {
        let clients = self.list();
        ClientsPart {
            last_id: self.last_id.load(Ordering::Relaxed),
            gone: lock(&self.table).gone,
            clients: clients.iter().map(|client| client.part()).collect(),
        }
    }

    /// Goes on with the table that this process has had before, whatever the limits say now.
    pub(super) fn take_over(&self, part: ClientsPart) -> Vec<Arc<Client>> {
        self.last_id.fetch_max(part.last_id, Ordering::Relaxed);
        let mut table = lock(&self.table);
        table.gone = part.gone;
        let clients = part.clients.into_iter().map(|part| {
            let client = Arc::new(Client::take_over(part));
            // Without a limit, there is no error.
            let _ = table.add_address(client.peer.ip(), client.is_session, 0);
            table.sessions += usize::from(client.is_session);
            table.clients.insert(client.id, client.clone());
            client
        });
        clients.collect()
    }

    /// Adds a viewer that asks over connections of others, by HLS.
    ///
    /// # Errors
    /// There are as many such as may be connections already.
    pub(super) fn add_session(
        &self,
        peer: SocketAddr,
        limits: ConnectionLimits,
        now: Instant,
    ) -> Result<Arc<Client>, LimitReached> {
        let mut table = lock(&self.table);
        if table.sessions >= limits.all as usize {
            return Err(LimitReached::All(limits.all));
        }
        table.add_address(peer.ip(), true, limits.per_address)?;
        table.sessions += 1;
        let client = self.insert(peer, true, &mut table, now);
        client.set_protocol(ClientProtocol::Hls);
        Ok(client)
    }

    /// Adds a client that the server itself is, at `peer`. Limits are for others.
    pub(super) fn add_own(
        &self,
        peer: SocketAddr,
        protocol: ClientProtocol,
        now: Instant,
    ) -> Arc<Client> {
        let mut table = lock(&self.table);
        // Without a limit there is room.
        let _ = table.add_address(peer.ip(), false, 0);
        let client = self.insert(peer, false, &mut table, now);
        client.set_protocol(protocol);
        client
    }

    /// Removes a connection or session that has ended; `failed`: neither side ended it in an orderly
    /// way.
    pub(super) fn remove(&self, id: u64, failed: bool) {
        let mut table = lock(&self.table);
        let Some(client) = table.clients.remove(&id) else {
            return;
        };
        if client.is_session {
            table.sessions -= 1;
        }
        let address = counted_address(client.peer.ip());
        table.addresses(client.is_session).remove(address);
        let gone = &mut table.gone;
        gone.failed += u64::from(failed);
        gone.received += client.received.load(Ordering::Relaxed);
        gone.sent += client.sent_by_itself();
        drop(table);
        client.set_activity(Activity::Idle);
    }

    /// Totals of all connections since the start.
    pub(crate) fn totals(&self) -> ClientTotals {
        let table = lock(&self.table);
        let mut totals = table.gone;
        totals.came = self.last_id.load(Ordering::Relaxed);
        for client in table.clients.values() {
            totals.received += client.received.load(Ordering::Relaxed);
            totals.sent += client.sent_by_itself();
        }
        totals
    }

    /// The connection with this id.
    pub(crate) fn find(&self, id: u64) -> Option<Arc<Client>> {
        lock(&self.table).clients.get(&id).cloned()
    }

    /// The connection with this id, which the program before has handed over.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn handed_over(&self, id: u64) -> Result<Arc<Client>, HandOverError> {
        let missing = || HandOverError::Missing(format!("client c{id}"));
        self.find(id).ok_or_else(missing)
    }

    /// Number of connections that have come, plus those that have gone, so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        let present = lock(&self.table).clients.len() as u64;
        // As many have come as ids were given; all but the present have gone.
        2 * self.last_id.load(Ordering::Relaxed) - present
    }

    /// Number of connections.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.table).clients.len()
    }

    /// Number of connections, without sessions of HLS.
    #[must_use]
    pub fn connections(&self) -> usize {
        let table = lock(&self.table);
        table.clients.len() - table.sessions
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Client>> {
        lock(&self.table).clients.values().cloned().collect()
    }

    /// Number of viewers by HLS who play.
    #[must_use]
    pub(crate) fn hls_viewers(&self) -> usize {
        // Collected, since a connection's own lock is not taken under the table's.
        let table = lock(&self.table);
        let sessions = table.clients.values().filter(|it| it.is_session);
        let sessions: Vec<_> = sessions.cloned().collect();
        drop(table);
        let playing = |client: &&Arc<Client>| matches!(client.activity(), Activity::Playing(_));
        sessions.iter().filter(playing).count()
    }

    /// The connection that publishes a stream.
    pub(super) fn publisher(&self, key: &StreamKey) -> Option<Arc<Client>> {
        let publishes = |client: &Arc<Client>| match client.activity() {
            Activity::Publishing(published) => *published == *key,
            _ => false,
        };
        self.list().into_iter().find(publishes)
    }

    /// Dismisses a connection that no fan-out worker has. Returns false if there is
    /// none with this id.
    pub(super) fn dismiss(&self, id: u64) -> bool {
        let client = self.find(id);
        if let Some(client) = &client {
            client.dismiss();
        }
        client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_connections_as_it_may() {
        let clients = Clients::default();
        let add = |peer: &str, per_address| {
            let limits = ConnectionLimits {
                all: 5,
                per_address,
            };
            let added = clients.add(peer.parse().unwrap(), limits, Instant::now());
            added.map(|client| client.id)
        };
        let first = add("192.0.2.1:5", 2).unwrap();
        add("[::ffff:192.0.2.1]:6", 2).unwrap();
        assert_eq!(add("192.0.2.1:7", 2), Err(LimitReached::PerAddress(2)));
        add("[2001:db8::1]:5", 1).unwrap();
        assert_eq!(add("[2001:db8::2]:5", 1), Err(LimitReached::PerAddress(1)));
        clients.remove(first, false);
        add("192.0.2.1:8", 2).unwrap();
        for port in 0..2 {
            add(&format!("192.0.2.1:{port}"), 0).unwrap();
        }
        assert_eq!(add("192.0.2.9:5", 0), Err(LimitReached::All(5)));
    }
}
