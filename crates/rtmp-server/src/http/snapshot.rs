//! All connections and streams at one moment, and which of them belong together.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;

use super::Api;
use super::samples::{Bytes, Rates, Sample};
use crate::server::{Activity, Client, PullReport, Server};
use crate::stream::Stream;

/// The connections of a stream.
#[derive(Debug, Default)]
struct Use {
    /// Bytes sent to players that have gone.
    sent_to_former: u64,
    /// Bytes sent to the present players.
    sent: u64,
    publisher: Option<Arc<Client>>,
    /// Viewers by HLS, who have no place in the stream's log.
    hls_viewers: usize,
}

/// All connections and streams.
pub(super) struct Totals {
    pub(super) streams: Vec<Arc<Stream>>,
    /// In the order of their ids.
    pub(super) clients: Vec<Arc<Client>>,
    /// By the address of the stream's name: a stream and its connections share it.
    uses: HashMap<usize, Use>,
}

fn address(key: &Arc<StreamKey>) -> usize {
    Arc::as_ptr(key).addr()
}

impl Totals {
    pub(super) fn take(server: &Server) -> Self {
        let (streams, clients) = (server.streams(), server.clients().list());
        let mut uses: HashMap<usize, Use> = HashMap::new();
        for stream in &streams {
            let former = stream.sent_to_former_players();
            uses.entry(address(stream.key()))
                .or_default()
                .sent_to_former = former;
        }
        for client in &clients {
            match client.activity() {
                Activity::Playing(key) => {
                    let stream = uses.entry(address(&key)).or_default();
                    stream.sent += client.meter.sent_of_play();
                    stream.hls_viewers += usize::from(client.is_session);
                }
                Activity::Publishing(key) => {
                    let publisher = Some(client.clone());
                    uses.entry(address(&key)).or_default().publisher = publisher;
                }
                Activity::Idle | Activity::StandingBy(_) | Activity::Waiting(_) => {}
            }
        }
        Self {
            streams,
            clients,
            uses,
        }
    }

    /// Bytes that a stream has received, and that its players were sent.
    pub(super) fn bytes_of(&self, stream: &Stream) -> Bytes {
        let known = self.uses.get(&address(stream.key()));
        Bytes {
            id: stream.id(),
            received: stream.totals().bytes_in.load(Ordering::Relaxed),
            sent: stream.report_sent(known.map_or(0, |it| it.sent_to_former + it.sent)),
        }
    }

    /// Number of viewers of a stream by HLS.
    pub(super) fn hls_viewers_of(&self, stream: &Stream) -> usize {
        let present = self.uses.get(&address(stream.key()));
        present.map_or(0, |it| it.hls_viewers)
    }

    /// Number of players of a stream, viewers by HLS among them.
    pub(super) fn players_of(&self, stream: &Stream) -> usize {
        stream.players() + self.hls_viewers_of(stream)
    }

    /// The connection that publishes a stream here.
    pub(super) fn publisher_of(&self, stream: &Stream) -> Option<&Arc<Client>> {
        let present = self.uses.get(&address(stream.key()));
        present.and_then(|it| it.publisher.as_ref())
    }
}

/// The same, with an earlier sample for rates.
pub(super) struct Snapshot {
    totals: Totals,
    sample: Arc<Sample>,
    stream_ids: HashMap<usize, u64>,
    lags_ms: Arc<HashMap<u64, u64>>,
    pulls: HashMap<u64, Vec<PullReport>>,
    pub(super) now: Instant,
}

impl std::ops::Deref for Snapshot {
    type Target = Totals;

    fn deref(&self) -> &Totals {
        &self.totals
    }
}

impl Snapshot {
    pub(super) fn take(api: &Api) -> Self {
        let totals = Totals::take(&api.server);
        let ids = totals
            .streams
            .iter()
            .map(|stream| (address(stream.key()), stream.id()));
        Self {
            stream_ids: ids.collect(),
            lags_ms: api.samples.lags_ms(),
            pulls: api.server.pulls().list(),
            sample: api.samples.oldest(),
            totals,
            now: Instant::now(),
        }
    }

    /// The id of the stream with this name.
    pub(super) fn stream_id(&self, key: &Arc<StreamKey>) -> Option<u64> {
        self.stream_ids.get(&address(key)).copied()
    }

    /// The greatest lag of a stream's players.
    pub(super) fn lag_ms_of(&self, stream: &Stream) -> u64 {
        self.lags_ms.get(&stream.id()).copied().unwrap_or(0)
    }

    /// The connections by which a stream is pulled.
    pub(super) fn pulls_of(&self, stream: &Stream) -> &[PullReport] {
        self.pulls.get(&stream.id()).map_or(&[], Vec::as_slice)
    }

    /// Rates of a connection.
    pub(super) fn rates_of_client(&self, bytes: Bytes, age: Duration) -> Rates {
        self.sample.rates_of_client(bytes, age)
    }

    /// Rates of a stream.
    pub(super) fn rates_of_stream(&self, bytes: Bytes) -> Rates {
        self.sample.rates_of_stream(bytes)
    }
}
