//! `load`: what this server sends, what it may send, and if one more viewer fits, for
//! directors (`LOAD_CHECK`).

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::Api;
use super::call::Call;
use super::system::CpuTimes;
use crate::server::{LoadReport, report_load};

/// The load; rates are in bit/s, with the headers of TCP, IP and Ethernet.
#[derive(Debug, Serialize)]
pub(super) struct Load {
    /// Average of the last seconds.
    bits_out: u64,
    /// In the last quarter of a second.
    bits_out_now: u64,
    /// What viewers will take that were let in a moment ago.
    reserved: u64,
    /// What can be sent; `None` where it is not known.
    capacity: Option<u64>,
    /// What viewers may take of it.
    limit: Option<u64>,
    /// The interface whose capacity it is; `None` where a rate is configured.
    interface: Option<String>,
    players: usize,
    /// Lag that 99 of 100 players do not pass, in ms, up to five seconds ago.
    lag_p99_ms: u64,
    /// Part of the machine's processors that this process has taken in the last seconds.
    cpu: f64,
    /// False if new viewers are refused.
    pub(super) accepting: bool,
    /// Why they are: `draining`, `max-connections` or `capacity`.
    reason: Option<&'static str>,
}

pub(super) async fn answer(State(api): State<Arc<Api>>, call: Call) -> Response {
    let report = report_load(&api.server).await;
    super::answer(move || call.get(&api, "data", &Load::new(&api, report))).await
}

impl Load {
    pub(super) fn new(api: &Api, report: LoadReport) -> Self {
        let server = &api.server;
        let clients = server.clients();
        let config = server.config();
        let reason = if server.is_draining() {
            Some("draining")
        } else if clients.connections() >= config.max_connections as usize {
            Some("max-connections")
        } else if config.limits_viewers() && report.room() == Some(0) {
            Some("capacity")
        } else {
            None
        };
        let players: usize = server.streams().iter().map(|it| it.players()).sum();
        // All processors together are 1.
        let (cpu, _) = CpuTimes::read().since(api.samples.recent().cpu(), 1);
        Self {
            bits_out: report.average,
            bits_out_now: report.now,
            reserved: report.reserved,
            capacity: report.capacity,
            limit: report.limit,
            interface: report.interface,
            players: players + clients.hls_viewers(),
            lag_p99_ms: api.samples.lag_p99_ms(),
            cpu,
            accepting: reason.is_none(),
            reason,
        }
    }
}
