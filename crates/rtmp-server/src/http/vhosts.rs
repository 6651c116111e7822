//! The JSON of vhosts.

use serde::Serialize;

use super::samples::Rates;
use super::snapshot::Snapshot;
use crate::config::Vhost;

/// A vhost.
#[derive(Debug, Serialize)]
pub(super) struct VhostReport<'a> {
    /// Its name: streams and clients name their vhost by it.
    id: &'a str,
    name: &'a str,
    enabled: bool,
    /// Players of its streams.
    clients: usize,
    /// Streams that are known at present.
    streams: usize,
    send_bytes: u64,
    recv_bytes: u64,
    kbps: Rates,
    /// All its settings.
    settings: &'a Vhost,
}

impl<'a> VhostReport<'a> {
    pub(super) fn new(vhost: &'a Vhost, snapshot: &Snapshot) -> Self {
        let mut report = Self {
            id: &vhost.name,
            name: &vhost.name,
            enabled: vhost.enabled,
            clients: 0,
            streams: 0,
            send_bytes: 0,
            recv_bytes: 0,
            kbps: Rates::default(),
            settings: vhost,
        };
        let streams = snapshot.streams.iter();
        for stream in streams.filter(|stream| stream.key().vhost == vhost.name) {
            let bytes = snapshot.bytes_of(stream);
            report.streams += 1;
            report.clients += snapshot.players_of(stream);
            report.send_bytes += bytes.sent;
            report.recv_bytes += bytes.received;
            report.kbps = report.kbps + snapshot.rates_of_stream(bytes);
        }
        report
    }
}
