//! The JSON of vhosts, streams and clients.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::Serialize;

use crate::config::Vhost;
use crate::server::Client;
use crate::stream::Stream;

/// A vhost.
#[derive(Debug, Serialize)]
pub(super) struct VhostReport<'a> {
    name: &'a str,
    enabled: bool,
    /// Streams that are known at present.
    streams: usize,
    /// Players of all of them.
    clients: usize,
    /// All its settings.
    settings: &'a Vhost,
}

impl<'a> VhostReport<'a> {
    pub(super) fn new(vhost: &'a Vhost, streams: &[Arc<Stream>]) -> Self {
        let ours = || {
            streams
                .iter()
                .filter(|stream| stream.key().vhost == vhost.name)
        };
        Self {
            name: &vhost.name,
            enabled: vhost.enabled,
            streams: ours().count(),
            clients: ours().map(|stream| stream.players()).sum(),
            settings: vhost,
        }
    }
}

/// State of a stream's publishing.
#[derive(Debug, Serialize)]
struct PublishReport {
    active: bool,
    /// Publishers so far, or connections to origins.
    count: u64,
}

/// A stream.
#[derive(Debug, Serialize)]
pub(super) struct StreamReport<'a> {
    id: u64,
    name: &'a str,
    vhost: &'a str,
    app: &'a str,
    /// Players, those by HLS among them.
    clients: usize,
    /// Those by HLS.
    hls_clients: usize,
    publish: PublishReport,
    recv_bytes: u64,
    recv_messages: u64,
    /// Memory that its logs take.
    log_bytes: Option<u64>,
    /// Memory that the log of HLS segments takes of it.
    hls_log_bytes: Option<u64>,
    /// Messages that HLS lacks: its packager was too slow.
    hls_lost: u64,
}

impl<'a> StreamReport<'a> {
    pub(super) fn new(stream: &'a Stream, hls_clients: Option<usize>) -> Self {
        let (key, totals) = (stream.key(), stream.totals());
        let hls_clients = hls_clients.unwrap_or(0);
        let hls = stream.hls();
        Self {
            id: stream.id(),
            name: &key.stream,
            vhost: &key.vhost,
            app: &key.app,
            clients: stream.players() + hls_clients,
            hls_clients,
            publish: PublishReport {
                active: stream.is_published(),
                count: totals.publishers.load(Ordering::Relaxed),
            },
            recv_bytes: totals.bytes_in.load(Ordering::Relaxed),
            recv_messages: totals.messages_in.load(Ordering::Relaxed),
            log_bytes: stream.memory().ok(),
            hls_log_bytes: hls.as_ref().map(|hls| hls.log().memory().unwrap_or(0)),
            hls_lost: hls.map_or(0, |hls| hls.lost()),
        }
    }
}

/// A connection.
#[derive(Debug, Serialize)]
pub(super) struct ClientReport {
    id: u64,
    ip: String,
    port: u16,
    /// Where the connection is encrypted: `kernel` or `user` space; none if it is plain.
    tls: Option<&'static str>,
    /// `idle`, `publish`, `wait` or `play`.
    r#type: &'static str,
    vhost: Option<String>,
    app: Option<String>,
    /// The stream's name.
    name: Option<String>,
    /// Seconds since it connected.
    alive: f64,
    recv_bytes: u64,
    send_bytes: u64,
    /// Number of times that it was too slow and was moved to a keyframe.
    skips: u64,
}

impl ClientReport {
    pub(super) fn new(client: &Client, now: Instant) -> Self {
        let activity = client.activity();
        let key = activity.stream();
        Self {
            id: client.id,
            ip: client.peer.ip().to_string(),
            port: client.peer.port(),
            tls: client.tls(),
            r#type: activity.name(),
            vhost: key.map(|key| key.vhost.clone()),
            app: key.map(|key| key.app.clone()),
            name: key.map(|key| key.stream.clone()),
            alive: client.age(now).as_secs_f64(),
            recv_bytes: client.received.load(Ordering::Relaxed),
            send_bytes: client.meter.bytes.load(Ordering::Relaxed),
            skips: client.meter.skips.load(Ordering::Relaxed),
        }
    }
}
