//! What a server hands over to the program that its process becomes.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::time::Instant;

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use crate::hand_over::{HandOverError, HandedOver, monotonic};
use crate::server::client::ClientPart;
use crate::server::clients::ClientTotals;
use crate::server::connection::ConnectionPart;
use crate::server::counters::MergedPullsPart;
use crate::server::dvr::RecorderPart;
use crate::server::events::Event;
use crate::server::forward::ForwardPart;
use crate::server::hls::HlsServerPart;
use crate::server::hooks::NotificationPart;
use crate::server::http::HttpPart;
use crate::server::load::LoadPart;
use crate::server::loop_guard::LoopGuard;
use crate::server::slate::SlatePart;
use crate::server::upstream::PullPart;
use crate::stream::fanout::PlayerPart;
use crate::stream::{RegistryPart, Stream};

/// What tasks have written down that stand still.
#[derive(Debug, Default)]
pub(in crate::server) struct TaskParts {
    pub(in crate::server) connections: Vec<ConnectionPart>,
    pub(in crate::server) http: Vec<HttpPart>,
    pub(in crate::server) pulls: Vec<PullPart>,
    pub(in crate::server) forwards: Vec<ForwardPart>,
    pub(in crate::server) slates: Vec<SlatePart>,
    pub(in crate::server) legs: Vec<PullPart>,
    pub(in crate::server) handed_over: HandedOver,
    /// The first of them that could not be written down.
    pub(in crate::server) failure: Option<HandOverError>,
}

/// A server for the program that its process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerPart {
    pub(super) id: LoopGuard,
    #[serde(with = "monotonic")]
    pub(super) started: Instant,
    pub(super) clients: ClientsPart,
    pub(super) registry: RegistryPart,
    pub(super) players: Vec<PlayerPart>,
    pub(super) connections: Vec<ConnectionPart>,
    /// Connections whose requests for HLS are answered.
    #[serde(default)]
    pub(super) http: Vec<HttpPart>,
    #[serde(default)]
    pub(super) hls: HlsServerPart,
    /// Of streams that are pulled from one origin each.
    pub(super) pulls: Vec<PullPart>,
    #[serde(default)]
    pub(super) forwards: Vec<ForwardPart>,
    /// Those that are shown.
    #[serde(default)]
    pub(super) slates: Vec<SlatePart>,
    /// Of streams that are pulled from several at once, which a former program of this layout
    /// begins anew: it would take these for pulls of their own.
    #[serde(default)]
    pub(super) legs: Vec<PullPart>,
    #[serde(default)]
    pub(super) merged: MergedPullsPart,
    pub(super) counters: CountersPart,
    /// Those of hooks that are not delivered.
    #[serde(default)]
    pub(super) notifications: Vec<NotificationPart>,
    #[serde(default)]
    pub(super) load: Option<LoadPart>,
    #[serde(default)]
    pub(super) events: EventsPart,
    /// Streams that are recorded (true), or are not, by order.
    #[serde(default)]
    pub(super) dvr_orders: Vec<(StreamKey, bool)>,
    #[serde(default)]
    pub(super) recordings: Vec<RecorderPart>,
    /// Streams that programs make, which are begun anew.
    #[serde(default)]
    pub(super) program_outputs: Vec<StreamKey>,
    /// Descriptors that it has.
    pub(super) descriptors: Vec<RawFd>,
}

/// The table of connections.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct ClientsPart {
    pub(in crate::server) last_id: u64,
    pub(in crate::server) gone: ClientTotals,
    pub(in crate::server) clients: Vec<ClientPart>,
}

/// What is handed over of streams, by their ids: each stream is asked for while everybody stands
/// still.
#[derive(Debug)]
pub(in crate::server) struct ByStream<T>(HashMap<u64, Vec<T>>);

impl<T> ByStream<T> {
    /// `parts`, each of which is of the stream with the id `id(part)`.
    pub(in crate::server) fn new(parts: Vec<T>, id: impl Fn(&T) -> u64) -> Self {
        let mut by_stream = HashMap::<_, Vec<T>>::new();
        for part in parts {
            by_stream.entry(id(&part)).or_default().push(part);
        }
        Self(by_stream)
    }

    /// Those of `stream`.
    pub(in crate::server) fn of(&self, stream: &Stream) -> &[T] {
        self.0.get(&stream.id()).map_or(&[], Vec::as_slice)
    }
}

/// What is counted for metrics.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct CountersPart {
    /// By the names of reasons: another version may have others.
    pub(in crate::server) refusals: HashMap<String, u64>,
    pub(in crate::server) switches: HashMap<String, u64>,
    /// The origin that last had a stream, by vhost.
    pub(in crate::server) last_good_origins: HashMap<String, String>,
    /// Durations of flushes, in the form of [`Histogram::counts`].
    ///
    /// [`Histogram::counts`]: service_kit::metrics::Histogram::counts
    pub(in crate::server) flush_times: Vec<Vec<u64>>,
    /// Lags of players, in the same form.
    pub(in crate::server) lag_times: Vec<u64>,
    /// Of recordings, forwards, fetched streams and programs, by their names in metrics.
    pub(in crate::server) totals: HashMap<String, u64>,
    /// By event: latencies, refusals, failures of hooks.
    pub(in crate::server) hooks: HashMap<String, (Vec<u64>, u64, u64)>,
}

/// The latest events.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::server) struct EventsPart {
    pub(in crate::server) last: u64,
    pub(in crate::server) events: Vec<(u64, Event)>,
}

impl ServerPart {
    /// Checks that this program can go on with it.
    ///
    /// # Errors
    /// Why it cannot.
    pub(crate) fn check(&self) -> Result<(), HandOverError> {
        for stream in &self.registry.streams {
            stream.check()?;
        }
        for player in &self.players {
            crate::server::viewer::check(player)?;
        }
        for connection in &self.connections {
            connection.check()?;
        }
        for http in &self.http {
            http.check()?;
        }
        for pull in self.pulls.iter().chain(&self.legs) {
            pull.check()?;
        }
        for forward in &self.forwards {
            forward.check()?;
        }
        for merged in self.merged.streams.values() {
            merged.relay.check()?;
        }
        Ok(())
    }

    /// Number of connections that it has.
    pub(crate) fn connections(&self) -> usize {
        let forwards = self.forwards.iter().filter(|it| it.is_connected());
        let viewers = self.players.len() + self.http.len();
        let pulls = self.pulls.len() + self.legs.len();
        viewers + self.connections.len() + pulls + forwards.count()
    }
}
