//! Who is connected: for the limit, the log and the HTTP API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rtmp_proto::session::{Status, StreamKey};
use tokio::sync::Notify;

use crate::stream::fanout::Meter;

/// So many streams a connection may ask for in a row, …
const MAX_ASKED: u32 = 32;
/// … and one more each time that this has passed. Whoever asks for a stream
/// that is not there makes us keep it for a moment, and an edge ask its origin.
const ASK_INTERVAL: Duration = Duration::from_millis(500);

/// What a connection is for.
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
    /// One word for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Publishing(_) => "publish",
            Self::Waiting(_) => "wait",
            Self::Playing(_) => "play",
        }
    }

    /// The stream that it is about.
    #[must_use]
    pub fn stream(&self) -> Option<&Arc<StreamKey>> {
        match self {
            Self::Idle => None,
            Self::Publishing(key) | Self::Waiting(key) | Self::Playing(key) => Some(key),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    /// Unique in this process; log lines and the HTTP API name it.
    pub id: u64,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// Since when it is there.
    pub since: Instant,
    /// What it has been sent.
    pub meter: Arc<Meter>,
    /// Bytes that it has sent.
    pub received: AtomicU64,
    /// Messages of media that it has sent.
    pub messages_received: AtomicU64,
    /// Pictures among them.
    pub pictures_received: AtomicU64,
    activity: Mutex<Activity>,
    /// When it will have made up for all that it has asked for.
    asked_until: Mutex<Instant>,
    dismissed: Notify,
}

impl Client {
    /// What it does at present.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.activity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// It does something else from now on.
    pub fn set_activity(&self, activity: Activity) {
        *self.activity.lock().unwrap_or_else(PoisonError::into_inner) = activity;
    }

    /// Whether it may ask for one more stream; it is taken to do so.
    #[must_use]
    pub fn may_ask(&self, now: Instant) -> bool {
        let mut until = self
            .asked_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let next = now.max(*until) + ASK_INTERVAL;
        let allowed = next <= now + ASK_INTERVAL * MAX_ASKED;
        if allowed {
            *until = next;
        }
        allowed
    }

    /// The line about a refusal that does not end the connection. Whoever goes on
    /// asking cannot fill the log.
    pub(super) fn log_refusal(&self, status: &Status) {
        let level = if self.may_ask(Instant::now()) {
            log::Level::Info
        } else {
            log::Level::Debug
        };
        log::log!(level, "{self}: refused: {status}");
    }

    /// Waits until it is to be let go.
    pub async fn dismissal(&self) {
        self.dismissed.notified().await;
    }

    /// How long it has been there.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// What a connection has done up to a moment, for it may play or publish more
/// than once.
#[derive(Debug, Clone, Copy)]
pub struct StatsSnapshot {
    at: Instant,
    received: u64,
    messages_received: u64,
    pictures_received: u64,
    sent: u64,
    pictures: u64,
    skips: u64,
}

impl StatsSnapshot {
    /// What `client` has done up to `now`.
    #[must_use]
    pub fn of(client: &Client, now: Instant) -> Self {
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
    #[must_use]
    pub fn played_since(&self, begun: &Self) -> String {
        format!(
            "{:.1} s, {} bytes, {} frames, {} skips",
            self.at.saturating_duration_since(begun.at).as_secs_f64(),
            self.sent - begun.sent,
            self.pictures - begun.pictures,
            self.skips - begun.skips,
        )
    }

    /// `3.5 s, 1028736 bytes, 103 frames, 290 messages`: what a publisher has
    /// sent since `begun`.
    #[must_use]
    pub fn published_since(&self, begun: &Self) -> String {
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

/// All connections.
#[derive(Debug, Default)]
pub struct Clients {
    last_id: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
}

impl Clients {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a new connection, unless there are `most` already.
    pub fn enter(&self, peer: SocketAddr, most: usize, now: Instant) -> Option<Arc<Client>> {
        let mut clients = self.lock();
        if clients.len() >= most {
            return None;
        }
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
            asked_until: Mutex::new(now),
            dismissed: Notify::new(),
        });
        clients.insert(id, client.clone());
        Some(client)
    }

    /// Forgets a connection that has ended.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// How often one has come or gone so far.
    #[must_use]
    pub fn changes(&self) -> u64 {
        let there = self.lock().len() as u64;
        2 * self.last_id.load(Ordering::Relaxed) - there
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Client>> {
        self.lock().values().cloned().collect()
    }

    /// Asks a connection to end that no fan-out worker has; whether there is
    /// one with this id.
    pub fn dismiss(&self, id: u64) -> bool {
        let client = self.lock().get(&id).cloned();
        if let Some(client) = &client {
            client.dismissed.notify_one();
        }
        client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_may_ask_for_some_streams_at_once_and_for_more_with_time() {
        let now = Instant::now();
        let peer = "192.0.2.1:5".parse().unwrap();
        let client = Clients::default().enter(peer, 1, now).unwrap();
        for _ in 0..MAX_ASKED {
            assert!(client.may_ask(now));
        }
        assert!(!client.may_ask(now));
        let later = now + ASK_INTERVAL;
        assert!(client.may_ask(later));
        assert!(!client.may_ask(later));
        let much_later = now + 3 * MAX_ASKED * ASK_INTERVAL;
        let asked = (0..2 * MAX_ASKED).filter(|_| client.may_ask(much_later));
        assert_eq!(asked.count(), MAX_ASKED as usize);
    }
}
