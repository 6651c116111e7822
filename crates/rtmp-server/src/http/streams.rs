//! The JSON of streams.

use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;
use service_kit::unix_ms;

use super::codecs::{self, AudioReport, VideoReport};
use super::samples::Rates;
use super::snapshot::Snapshot;
use super::without_query;
use crate::server::{PullReport, stream_url};
use crate::stream::{Rank, Stream};

/// State of a stream's publishing.
#[derive(Debug, Serialize)]
struct PublishReport {
    active: bool,
    /// What is published is the slate.
    slate: bool,
    /// The connection that publishes it here; not there while it is pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    /// Publishers so far, or connections to origins.
    count: u64,
    /// Seconds since the present one began.
    alive: Option<f64>,
}

/// A connection by which a stream is pulled.
#[derive(Debug, Clone, Serialize)]
struct PullJson {
    /// The origin that it is pulled from, or tried.
    origin: String,
    /// `connecting`, `asking`, `flowing`, `lingering` or `pausing`.
    state: &'static str,
    /// What it brings, with `origin_redundancy 2`.
    #[serde(flatten)]
    leg: Option<LegJson>,
}

/// What one of several connections to origins brings.
#[derive(Debug, Clone, Serialize)]
struct LegJson {
    /// It has brought the newest message.
    leads: bool,
    /// It brings the same messages as another one.
    aligned: bool,
    /// Number of pictures that it was the first to bring.
    pictures_first: u64,
}

impl From<&PullReport> for PullJson {
    fn from(pull: &PullReport) -> Self {
        Self {
            origin: pull.origin.clone(),
            state: pull.state,
            leg: pull.leg.map(|leg| LegJson {
                leads: leg.leads,
                aligned: leg.is_aligned,
                pictures_first: leg.pictures_first,
            }),
        }
    }
}

/// A publisher that waits while another one is on air.
#[derive(Debug, Serialize)]
struct StandbyReport {
    cid: Option<String>,
    /// It has marked itself as a standby.
    backup: bool,
    /// It has a keyframe to begin at.
    ready: bool,
    /// It has been ordered on air, at its next keyframe.
    ordered: bool,
    /// Time since its last media.
    silent_ms: Option<u64>,
}

impl StandbyReport {
    /// The standbys of a stream.
    fn of(stream: &Stream, now: Instant) -> Vec<Self> {
        let publishers = stream.publishers(now).into_iter();
        let standbys = publishers.filter(|publisher| !publisher.is_on_air);
        let reports = standbys.map(|publisher| Self {
            cid: publisher.client.map(|id| id.to_string()),
            backup: publisher.rank == Rank::Backup,
            ready: publisher.is_ready,
            ordered: publisher.is_ordered,
            silent_ms: publisher
                .silence
                .map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
        });
        reports.collect()
    }
}

/// A stream.
#[derive(Debug, Serialize)]
pub(super) struct StreamReport<'a> {
    id: String,
    name: &'a str,
    vhost: &'a str,
    app: &'a str,
    #[serde(rename = "tcUrl")]
    tc_url: String,
    url: String,
    /// Time of the answer, Unix time in ms, as in SRS.
    live_ms: u64,
    /// Players, those by HLS among them.
    clients: usize,
    /// Those by HLS.
    hls_clients: usize,
    /// Pictures received.
    frames: u64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Rates,
    publish: PublishReport,
    /// Publishers that wait while another one is on air.
    standby: Vec<StandbyReport>,
    video: Option<VideoReport>,
    audio: Option<AudioReport>,
    recv_messages: u64,
    /// Number of times that players were too slow and were moved to a keyframe.
    skips: u64,
    /// Memory that its logs take.
    log_bytes: Option<u64>,
    /// Memory that the log of HLS segments takes of it.
    hls_log_bytes: Option<u64>,
    /// Messages that HLS lacks: its packager was too slow.
    hls_lost: u64,
    /// The greatest lag of its players, of up to five seconds ago, in ms.
    lag_ms: u64,
    /// The pull from an origin, of several the one that leads; none where there is a
    /// publisher here, or nobody.
    pull: Option<PullJson>,
    /// All pulls from origins.
    pulls: Vec<PullJson>,
}

impl<'a> StreamReport<'a> {
    pub(super) fn new(stream: &'a Stream, snapshot: &Snapshot) -> Self {
        let (key, totals) = (stream.key(), stream.totals());
        let bytes = snapshot.bytes_of(stream);
        let publisher = snapshot.publisher_of(stream);
        let urls = publisher.and_then(|client| client.urls());
        let hls_clients = snapshot.hls_viewers_of(stream);
        let hls = stream.hls();
        let (video, audio) = codecs::of_stream(stream);
        let alive = stream.published_for(snapshot.now);
        let pulls = snapshot.pulls_of(stream);
        let leading = pulls
            .iter()
            .find(|pull| pull.leg.is_some_and(|leg| leg.leads));
        let tc_url = urls.map(|urls| without_query(&urls.tc_url).to_owned());
        Self {
            id: stream.id().to_string(),
            name: &key.stream,
            vhost: &key.vhost,
            app: &key.app,
            tc_url: tc_url.unwrap_or_else(|| format!("rtmp://{}/{}", key.vhost, key.app)),
            url: stream_url(key),
            live_ms: unix_ms(),
            clients: snapshot.players_of(stream),
            hls_clients,
            frames: stream.pictures(),
            send_bytes: bytes.sent,
            recv_bytes: bytes.received,
            kbps: snapshot.rates_of_stream(bytes),
            publish: PublishReport {
                active: stream.is_published(),
                slate: stream.shows_slate(),
                cid: publisher.map(|client| client.id.to_string()),
                count: totals.publishers.load(Ordering::Relaxed),
                alive: alive.map(|alive| alive.as_secs_f64()),
            },
            standby: StandbyReport::of(stream, snapshot.now),
            video,
            audio,
            recv_messages: totals.messages_in.load(Ordering::Relaxed),
            skips: totals.skips.load(Ordering::Relaxed),
            log_bytes: stream.memory().ok(),
            hls_log_bytes: hls.as_ref().map(|hls| hls.log().memory().unwrap_or(0)),
            hls_lost: hls.map_or(0, |hls| hls.lost()),
            lag_ms: snapshot.lag_ms_of(stream),
            pull: leading.or(pulls.first()).map(PullJson::from),
            pulls: pulls.iter().map(PullJson::from).collect(),
        }
    }
}
