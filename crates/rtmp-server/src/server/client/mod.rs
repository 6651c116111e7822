//! One connection, or one viewer by HLS: its use and its counters.

mod stats;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rtmp_proto::session::{Status, StreamKey};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::admission::Admitted;
use super::loop_guard::LoopGuard;
use crate::config::Action;
use crate::stream::fanout::{Meter, MeterPart};
use crate::stream::lock;
use crate::transport::TlsPlace;
pub(super) use stats::StatsSnapshot;

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
    /// It publishes a stream, and another publisher is on air.
    StandingBy(Arc<StreamKey>),
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
            Self::StandingBy(_) => "standby",
            Self::Waiting(_) => "wait",
            Self::Playing(_) => "play",
        }
    }

    /// The stream that is published, waited for or played.
    #[must_use]
    pub fn stream(&self) -> Option<&Arc<StreamKey>> {
        match self {
            Self::Idle => None,
            Self::Publishing(key)
            | Self::StandingBy(key)
            | Self::Waiting(key)
            | Self::Playing(key) => Some(key),
        }
    }
}

/// The protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// None: the server itself fetches what it publishes.
    Ingest,
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
            Self::Ingest => "ingest",
        }
    }
}

/// The URLs that a client names with its first request.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct ClientUrls {
    /// The URL that it has connected to.
    pub(crate) tc_url: Arc<str>,
    /// The page that embeds the player.
    pub(crate) page_url: Arc<str>,
    /// The Flash player's own.
    pub(crate) swf_url: Arc<str>,
    /// True if it is a server that relays the stream, such as an edge.
    pub(crate) is_server: bool,
    /// The servers that the connection has come through.
    pub(super) loop_guard: LoopGuard,
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
    /// Its part of quotas and of the capacity while it publishes or plays.
    admitted: Mutex<Option<Admitted>>,
    protocol: Mutex<ClientProtocol>,
    urls: OnceLock<ClientUrls>,
    /// Time by which its stream requests so far will have been earned back (a token
    /// bucket).
    requests_until: Mutex<Instant>,
    dismissed: Notify,
    tls: OnceLock<TlsPlace>,
    /// Its connection is one of HTTP/2.
    is_http2: AtomicBool,
    /// True if it is a viewer by HLS, whose requests come over any connections.
    pub(crate) is_session: bool,
    /// Boxed: most have none.
    carrier: OnceLock<Box<Carrier>>,
}

/// The connection of HTTP/2 that a client is a request of.
#[derive(Debug)]
struct Carrier {
    id: u64,
    /// One of its places, held until the client has ended.
    _place: OwnedSemaphorePermit,
}

/// A [`Client`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClientPart {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    #[serde(with = "crate::hand_over::monotonic")]
    since: Instant,
    meter: MeterPart,
    received: u64,
    messages_received: u64,
    pictures_received: u64,
    /// Its activity and its stream.
    activity: Option<(ActivityKind, StreamKey)>,
    has_permit: bool,
    protocol: ClientProtocol,
    urls: Option<ClientUrls>,
    #[serde(with = "crate::hand_over::monotonic")]
    requests_until: Instant,
    tls: Option<TlsPlace>,
    pub(super) is_session: bool,
}

/// An [`Activity`] without its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ActivityKind {
    Publishing,
    StandingBy,
    Waiting,
    Playing,
}

impl ClientPart {
    /// What the client does for quotas, with its stream.
    pub(super) fn counted(&self) -> Option<(Action, &StreamKey)> {
        let (kind, key) = self.activity.as_ref().filter(|_| self.has_permit)?;
        let action = match kind {
            ActivityKind::Publishing | ActivityKind::StandingBy => Action::Publish,
            ActivityKind::Waiting | ActivityKind::Playing => Action::Play,
        };
        Some((action, key))
    }
}

impl Client {
    /// The client for the program that the process becomes.
    pub(super) fn part(&self) -> ClientPart {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let activity = match self.activity() {
            Activity::Idle => None,
            Activity::Publishing(key) => Some((ActivityKind::Publishing, key)),
            Activity::StandingBy(key) => Some((ActivityKind::StandingBy, key)),
            Activity::Waiting(key) => Some((ActivityKind::Waiting, key)),
            Activity::Playing(key) => Some((ActivityKind::Playing, key)),
        };
        ClientPart {
            id: self.id,
            peer: self.peer,
            since: self.since,
            meter: MeterPart::from(&*self.meter),
            received: read(&self.received),
            messages_received: read(&self.messages_received),
            pictures_received: read(&self.pictures_received),
            activity: activity.map(|(kind, key)| (kind, (*key).clone())),
            has_permit: lock(&self.admitted).is_some(),
            protocol: self.protocol(),
            urls: self.urls.get().cloned(),
            requests_until: *lock(&self.requests_until),
            tls: self.tls_place(),
            is_session: self.is_session,
        }
    }

    /// Goes on with a client that this process has had before.
    pub(super) fn take_over(part: ClientPart) -> Self {
        let mut client = Self::new(part.id, part.peer, part.is_session, part.since);
        client.meter = Arc::new(part.meter.into());
        client.received = part.received.into();
        client.messages_received = part.messages_received.into();
        client.pictures_received = part.pictures_received.into();
        client.requests_until = Mutex::new(part.requests_until);
        if let Some((kind, key)) = part.activity {
            let key = Arc::new(key);
            client.set_activity(match kind {
                ActivityKind::Publishing => Activity::Publishing(key),
                ActivityKind::StandingBy => Activity::StandingBy(key),
                ActivityKind::Waiting => Activity::Waiting(key),
                ActivityKind::Playing => Activity::Playing(key),
            });
        }
        client.set_protocol(part.protocol);
        if let Some(urls) = part.urls {
            client.set_urls(urls);
        }
        if let Some(place) = part.tls {
            client.set_tls(place);
        }
        client
    }

    /// The connection, or the viewer by HLS, number `id`, which has come at `now`.
    pub(super) fn new(id: u64, peer: SocketAddr, is_session: bool, now: Instant) -> Self {
        Self {
            id,
            peer: SocketAddr::new(peer.ip().to_canonical(), peer.port()),
            since: now,
            meter: Arc::default(),
            received: AtomicU64::new(0),
            messages_received: AtomicU64::new(0),
            pictures_received: AtomicU64::new(0),
            activity: Mutex::new(Activity::Idle),
            admitted: Mutex::default(),
            protocol: Mutex::new(ClientProtocol::Rtmp),
            urls: OnceLock::new(),
            requests_until: Mutex::new(now),
            dismissed: Notify::new(),
            tls: OnceLock::new(),
            is_http2: AtomicBool::new(false),
            is_session,
            carrier: OnceLock::new(),
        }
    }

    /// Its present use.
    #[must_use]
    pub fn activity(&self) -> Activity {
        lock(&self.activity).clone()
    }

    /// The place where its connection is encrypted, `kernel` or `user` space; `None` if it
    /// is plain.
    #[must_use]
    pub fn tls(&self) -> Option<&'static str> {
        self.tls_place().map(TlsPlace::name)
    }

    /// The place where its connection is encrypted; `None` if it is plain.
    pub(super) fn tls_place(&self) -> Option<TlsPlace> {
        self.tls.get().copied()
    }

    /// Its TLS handshake is done.
    pub(super) fn set_tls(&self, place: TlsPlace) {
        // It has one handshake.
        let _ = self.tls.set(place);
    }

    /// Its connection speaks HTTP/2.
    pub(super) fn set_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    /// False if its connection cannot be handed over to another program: what this process
    /// knows of it is hyper's.
    pub(super) fn is_portable(&self) -> bool {
        !self.is_http2.load(Ordering::Relaxed) && self.carrier().is_none()
    }

    /// It is a request of the HTTP/2 connection `id`, and has one of its places.
    pub(super) fn set_carrier(&self, id: u64, place: OwnedSemaphorePermit) {
        // It is made for one request.
        let _ = self.carrier.set(Box::new(Carrier { id, _place: place }));
    }

    /// The connection of HTTP/2 that it is a request of.
    pub(super) fn carrier(&self) -> Option<u64> {
        self.carrier.get().map(|it| it.id)
    }

    /// Sets its present use.
    pub(super) fn set_activity(&self, activity: Activity) {
        match activity {
            Activity::Idle => drop(lock(&self.admitted).take()),
            Activity::Playing(_) => {
                if let Some(admitted) = &*lock(&self.admitted) {
                    admitted.begin();
                }
            }
            Activity::Publishing(_) | Activity::StandingBy(_) | Activity::Waiting(_) => {}
        }
        *lock(&self.activity) = activity;
    }

    /// Counts it for quotas, and for the capacity, until it is idle again.
    pub(super) fn hold(&self, admitted: Admitted) {
        *lock(&self.admitted) = Some(admitted);
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

    /// True if it is a server that relays streams, such as an edge.
    pub(crate) fn is_relay(&self) -> bool {
        self.urls().is_some_and(|urls| urls.is_server)
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

    /// Dismisses it, if it is with no fan-out worker.
    pub(super) fn dismiss(&self) {
        self.dismissed.notify_one();
    }

    /// Waits until it is dismissed.
    pub(super) async fn dismissal(&self) {
        self.dismissed.notified().await;
    }

    /// Bytes that it has been sent; 0 for a session of HLS and a request by HTTP/2, whose bytes
    /// are also those of its connections.
    pub(super) fn sent_by_itself(&self) -> u64 {
        match self.is_session || self.carrier().is_some() {
            true => 0,
            false => self.meter.bytes.load(Ordering::Relaxed),
        }
    }

    /// Time since its accept.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// `c7 192.0.2.1:50000`, as log lines begin.
impl std::fmt::Display for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "c{} {}", self.id, self.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_ask_for_some_streams_at_once_and_for_more_with_time() {
        let now = Instant::now();
        let peer = "192.0.2.1:5".parse().unwrap();
        let client = Client::new(1, peer, false, now);
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
