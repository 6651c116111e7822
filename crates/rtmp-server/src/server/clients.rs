//! The table of connections: for `max_connections`, the log and the HTTP API.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rtmp_proto::session::{Status, StreamKey};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::quotas::{Permit, counted_address};
use crate::stream::fanout::Meter;
use crate::stream::lock;
use crate::transport::TlsPlace;

/// Maximum number of streams that a connection may ask for in a row. A request
/// for a stream that nobody publishes makes the server keep it for a moment, and an
/// edge ask its origin.
const MAX_STREAM_REQUESTS: u32 = 32;
/// Time after which it may ask for one more.
const STREAM_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Present use of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// Handshake and commands.
    Idle,
    /// It publishes a stream.
    Publishing(Arc<StreamKey>),
    /// It waits for a stream to play.
    Waiting(Arc<StreamKey>),
    /// It plays a stream.
    Playing(Arc<StreamKey>),
}

impl Activity {
    /// Its name in the HTTP API.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Publishing(_) => "publish",
            Self::Waiting(_) => "wait",
            Self::Playing(_) => "play",
        }
    }

    /// The stream that is published, waited for or played.
    #[must_use]
    pub fn stream(&self) -> Option<&Arc<StreamKey>> {
        match self {
            Self::Idle => None,
            Self::Publishing(key) | Self::Waiting(key) | Self::Playing(key) => Some(key),
        }
    }
}

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientProtocol {
    /// RTMP.
    Rtmp,
    /// HTTP, before it has asked for a stream.
    Http,
    /// HTTP-FLV.
    HttpFlv,
    /// FLV in WebSocket frames.
    WebSocketFlv,
    /// HLS: a viewer, not a connection.
    Hls,
}

impl ClientProtocol {
    /// Its name in the HTTP API and in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rtmp => "rtmp",
            Self::Http => "http",
            Self::HttpFlv => "http-flv",
            Self::WebSocketFlv => "ws-flv",
            Self::Hls => "hls",
        }
    }
}

/// The URLs that a client names with its first request.
#[derive(Debug, Default)]
pub(crate) struct ClientUrls {
    /// The URL that it has connected to.
    pub(crate) tc_url: Arc<str>,
    /// The page that embeds the player.
    pub(crate) page_url: Arc<str>,
    /// The Flash player's own.
    pub(crate) swf_url: Arc<str>,
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Unique in this process; log lines and the HTTP API name it.
    pub id: u64,
    /// The client's address; IPv4 is never mapped to IPv6.
    pub(crate) peer: SocketAddr,
    /// Time of its accept.
    since: Instant,
    /// Counters of what it has been sent.
    pub meter: Arc<Meter>,
    /// Bytes that it has sent.
    pub received: AtomicU64,
    /// Messages of media that it has sent.
    pub(super) messages_received: AtomicU64,
    /// Pictures among them.
    pub(super) pictures_received: AtomicU64,
    activity: Mutex<Activity>,
    /// Its part of the counts of quotas while it publishes or plays.
    permit: Mutex<Option<Permit>>,
    protocol: Mutex<ClientProtocol>,
    urls: OnceLock<ClientUrls>,
    /// Time by which its stream requests so far will have been earned back (a token
    /// bucket).
    requests_until: Mutex<Instant>,
    dismissed: Notify,
    tls: OnceLock<TlsPlace>,
    /// True if it is a viewer by HLS, whose requests come over any connections.
    pub(crate) is_session: bool,
    carrier: OnceLock<Carrier>,
}

/// The connection of HTTP/2 that a client is a request of.
#[derive(Debug)]
struct Carrier {
    id: u64,
    /// One of its places, held until the client has ended.
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// Its present use.
    #[must_use]
    pub fn activity(&self) -> Activity {
        lock(&self.activity).clone()
    }

    /// The place where its connection is encrypted, `kernel` or `user` space; `None` if it
    /// is plain.
    #[must_use]
    pub fn tls(&self) -> Option<&'static str> {
        self.tls.get().map(|place| place.name())
    }

    /// The same as [`Client::tls`].
    pub(super) fn tls_place(&self) -> Option<TlsPlace> {
        self.tls.get().copied()
    }

    /// Its TLS handshake is done.
    pub(super) fn set_tls(&self, place: TlsPlace) {
        // It has one handshake.
        let _ = self.tls.set(place);
    }

    /// It is a request of the HTTP/2 connection `id`, and has one of its places.
    pub(super) fn set_carrier(&self, id: u64, place: OwnedSemaphorePermit) {
        // It is made for one request.
        let _ = self.carrier.set(Carrier { id, _place: place });
    }

    /// The connection of HTTP/2 that it is a request of.
    pub(super) fn carrier(&self) -> Option<u64> {
        self.carrier.get().map(|it| it.id)
    }

    /// Sets its present use.
    pub(super) fn set_activity(&self, activity: Activity) {
        if activity == Activity::Idle {
            lock(&self.permit).take();
        }
        *lock(&self.activity) = activity;
    }

    /// Counts it for quotas until it is idle again.
    pub(super) fn hold(&self, permit: Permit) {
        *lock(&self.permit) = Some(permit);
    }

    /// The protocol that it speaks.
    pub(crate) fn protocol(&self) -> ClientProtocol {
        *lock(&self.protocol)
    }

    /// Sets the protocol that it speaks.
    pub(super) fn set_protocol(&self, protocol: ClientProtocol) {
        *lock(&self.protocol) = protocol;
    }

    /// The URLs that it has named; `None` before.
    pub(crate) fn urls(&self) -> Option<&ClientUrls> {
        self.urls.get()
    }

    /// Sets the URLs that it names. The first ones stay.
    pub(super) fn set_urls(&self, urls: ClientUrls) {
        let _ = self.urls.set(urls);
    }

    /// Returns true if it may ask for one more stream, and counts the request.
    pub(super) fn may_request_stream(&self, now: Instant) -> bool {
        let mut until = lock(&self.requests_until);
        let next = now.max(*until) + STREAM_REQUEST_INTERVAL;
        let allowed = next <= now + STREAM_REQUEST_INTERVAL * MAX_STREAM_REQUESTS;
        if allowed {
            *until = next;
        }
        allowed
    }

    /// Logs a refusal that does not end the connection: at `debug` if there are too
    /// many of them, so that a client cannot fill the log.
    pub(super) fn log_refusal(&self, status: &Status) {
        let level = if self.may_request_stream(Instant::now()) {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        log::log!(level, "{self}: refused: {status}");
    }

    /// Waits until it is dismissed.
    pub(super) async fn dismissal(&self) {
        self.dismissed.notified().await;
    }

    /// Bytes that it has been sent; 0 for a session of HLS, whose bytes are also those of its
    /// connections.
    fn sent_by_itself(&self) -> u64 {
        match self.is_session {
            true => 0,
            false => self.meter.bytes.load(Ordering::Relaxed),
        }
    }

    /// Time since its accept.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// The counters of a connection at one moment. The difference of two snapshots is one
/// play or publish, of which a connection may have several.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatsSnapshot {
    at: Instant,
    received: u64,
    messages_received: u64,
    pictures_received: u64,
    sent: u64,
    pictures: u64,
    skips: u64,
}

impl StatsSnapshot {
    /// The counters of `client` at `now`.
    pub(super) fn of(client: &Client, now: Instant) -> Self {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            at: now,
            received: read(&client.received),
            messages_received: read(&client.messages_received),
            pictures_received: read(&client.pictures_received),
            sent: read(&client.meter.bytes),
            pictures: read(&client.meter.pictures),
            skips: read(&client.meter.skips),
        }
    }

    /// `3.5 s, 1028736 bytes, 103 frames, 0 skips`: what has been sent to a
    /// player since `begun`.
    pub(super) fn played_since(&self, begun: &Self) -> String {
        format!(
            "{:.1} s, {} bytes, {} frames, {} skips",
            self.at.saturating_duration_since(begun.at).as_secs_f64(),
            self.sent - begun.sent,
            self.pictures - begun.pictures,
            self.skips - begun.skips,
        )
    }

    /// `3.5 s, 1028736 bytes`: what a viewer by HLS has been sent since `begun`.
    pub(super) fn delivered_since(&self, begun: &Self) -> String {
        let passed = self.at.saturating_duration_since(begun.at).as_secs_f64();
        format!("{passed:.1} s, {} bytes", self.sent - begun.sent)
    }

    /// `3.5 s, 1028736 bytes, 103 frames, 290 messages`: what a publisher has
    /// sent since `begun`.
    pub(super) fn published_since(&self, begun: &Self) -> String {
        format!(
            "{:.1} s, {} bytes, {} frames, {} messages",
            self.at.saturating_duration_since(begun.at).as_secs_f64(),
            self.received - begun.received,
            self.pictures_received - begun.pictures_received,
            self.messages_received - begun.messages_received,
        )
    }
}

/// `c7 192.0.2.1:50000`, as log lines begin.
impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "c{} {}", self.id, self.peer)
    }
}

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    addresses: HashMap<IpAddr, u32>,
    /// The same of viewers by HLS.
    session_addresses: HashMap<IpAddr, u32>,
    /// Totals of those that have gone.
    gone: ClientTotals,
}

impl Table {
    /// The numbers of connections, or of viewers by HLS, by address.
    fn addresses(&mut self, sessions: bool) -> &mut HashMap<IpAddr, u32> {
        match sessions {
            true => &mut self.session_addresses,
            false => &mut self.addresses,
        }
    }

    /// Counts another of this address.
    fn add_address(
        &mut self,
        address: IpAddr,
        sessions: bool,
        max: u32,
    ) -> Result<(), LimitReached> {
        let of_address = self.addresses(sessions).entry(counted_address(address));
        let of_address = of_address.or_default();
        if max > 0 && *of_address >= max {
            return Err(LimitReached::PerAddress(max));
        }
        *of_address += 1;
        Ok(())
    }

    /// One of this address has ended.
    fn remove_address(&mut self, address: IpAddr, sessions: bool) {
        let addresses = self.addresses(sessions);
        if let Entry::Occupied(mut count) = addresses.entry(counted_address(address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
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
        let client = Arc::new(Client {
            id,
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            since: now,
            meter: Arc::default(),
            received: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            pictures_received: AtomicU64::new(0),
            activity: Mutex::new(Activity::Idle),
            permit: Mutex::default(),
            protocol: Mutex::new(ClientProtocol::Rtmp),
            urls: OnceLock::new(),
            requests_until: Mutex::new(now),
            dismissed: Notify::new(),
            tls: OnceLock::new(),
            is_session,
            carrier: OnceLock::new(),
        });
        table.clients.insert(id, client.clone());
        client
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
        table.remove_address(client.peer.ip(), client.is_session);
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

    /// Number of viewers by HLS of each stream that has any.
    #[must_use]
    pub(crate) fn hls_viewers(&self) -> HashMap<Arc<StreamKey>, usize> {
        let mut viewers = HashMap::new();
        for client in lock(&self.table)
            .clients
            .values()
            .filter(|it| it.is_session)
        {
            if let Activity::Playing(key) = &*lock(&client.activity) {
                *viewers.entry(key.clone()).or_default() += 1;
            }
        }
        viewers
    }

    /// The connection that publishes a stream.
    pub(super) fn publisher(&self, key: &StreamKey) -> Option<Arc<Client>> {
        let table = lock(&self.table);
        let publishes = |client: &&Arc<Client>| match &*lock(&client.activity) {
            Activity::Publishing(published) => **published == *key,
            _ => false,
        };
        table.clients.values().find(publishes).cloned()
    }

    /// Dismisses a connection that no fan-out worker has. Returns false if there is
    /// none with this id.
    pub(super) fn dismiss(&self, id: u64) -> bool {
        let client = self.find(id);
        if let Some(client) = &client {
            client.dismissed.notify_one();
        }
        client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: ConnectionLimits = ConnectionLimits {
        all: 100,
        per_address: 0,
    };

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

    #[test]
    fn a_connection_may_ask_for_some_streams_at_once_and_for_more_with_time() {
        let now = Instant::now();
        let peer = "192.0.2.1:5".parse().unwrap();
        let client = Clients::default().add(peer, ANY, now).unwrap();
        for _ in 0..MAX_STREAM_REQUESTS {
            assert!(client.may_request_stream(now));
        }
        assert!(!client.may_request_stream(now));
        let later = now + STREAM_REQUEST_INTERVAL;
        assert!(client.may_request_stream(later));
        assert!(!client.may_request_stream(later));
        let much_later = now + 3 * MAX_STREAM_REQUESTS * STREAM_REQUEST_INTERVAL;
        let asked = (0..2 * MAX_STREAM_REQUESTS).filter(|_| client.may_request_stream(much_later));
        assert_eq!(asked.count(), MAX_STREAM_REQUESTS as usize);
    }
}
