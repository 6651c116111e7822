//! The JSON of connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::samples::{Bytes, Rates};
use super::snapshot::Snapshot;
use super::without_query;
use crate::server::{Activity, Client, stream_url};

/// A connection.
#[derive(Debug, Serialize)]
pub(super) struct ClientReport {
    id: String,
    vhost: Option<String>,
    /// The stream's id.
    stream: Option<String>,
    ip: String,
    #[serde(rename = "pageUrl")]
    page_url: Arc<str>,
    #[serde(rename = "swfUrl")]
    swf_url: Arc<str>,
    #[serde(rename = "tcUrl")]
    tc_url: Arc<str>,
    url: String,
    /// The stream's name.
    name: Option<String>,
    /// `idle`, `publish`, `standby`, `wait` or `play`.
    r#type: &'static str,
    publish: bool,
    /// Seconds since it connected.
    alive: f64,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Rates,
    port: u16,
    app: Option<String>,
    protocol: &'static str,
    /// Where the connection is encrypted: `kernel` or `user` space; none if it is plain.
    tls: Option<&'static str>,
    /// It is a server that relays the stream, such as an edge.
    relay: bool,
    /// Number of times that it was too slow and was moved to a keyframe.
    skips: u64,
}

impl ClientReport {
    pub(super) fn new(client: &Client, snapshot: &Snapshot) -> Self {
        let activity = client.activity();
        let key = activity.stream();
        let age = client.age(snapshot.now);
        let bytes = Bytes {
            id: client.id,
            received: client.received.load(Ordering::Relaxed),
            sent: client.meter.bytes.load(Ordering::Relaxed),
        };
        let urls = client.urls();
        Self {
            id: client.id.to_string(),
            vhost: key.map(|key| key.vhost.clone()),
            stream: key
                .and_then(|key| snapshot.stream_id(key))
                .map(|id| id.to_string()),
            ip: client.peer.ip().to_string(),
            page_url: urls.map(|urls| urls.page_url.clone()).unwrap_or_default(),
            swf_url: urls.map(|urls| urls.swf_url.clone()).unwrap_or_default(),
            tc_url: urls
                .map(|urls| without_query(&urls.tc_url).into())
                .unwrap_or_default(),
            url: key.map_or(String::new(), |key| stream_url(key)),
            name: key.map(|key| key.stream.clone()),
            r#type: activity.name(),
            publish: matches!(activity, Activity::Publishing(_) | Activity::StandingBy(_)),
            alive: age.as_secs_f64(),
            send_bytes: bytes.sent,
            recv_bytes: bytes.received,
            kbps: snapshot.rates_of_client(bytes, age),
            port: client.peer.port(),
            app: key.map(|key| key.app.clone()),
            protocol: client.protocol().name(),
            tls: client.tls(),
            relay: client.is_relay(),
            skips: client.meter.skips.load(Ordering::Relaxed),
        }
    }
}
