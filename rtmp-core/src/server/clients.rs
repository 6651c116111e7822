//! Who is connected: for the limit, the log and the HTTP API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::session::StreamKey;
use crate::stream::fanout::Meter;

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
    activity: Mutex<Activity>,
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
            activity: Mutex::new(Activity::Idle),
            dismissed: Notify::new(),
        });
        clients.insert(id, client.clone());
        Some(client)
    }

    /// Forgets a connection that has ended.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
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
