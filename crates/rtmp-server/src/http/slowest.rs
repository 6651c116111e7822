//! `clients?slowest=N`: the players that are furthest behind, with the figures of their
//! connections, and what most likely holds them up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use serde::Serialize;

use super::Api;
use super::call::Call;
use super::clients::ClientReport;
use super::snapshot::Snapshot;
use crate::stream::fanout::{GroupReport, PlayerLag, SocketReport, TcpInfo};

/// Number of players that are shown where `slowest` is no number.
const DEFAULT_SLOWEST: usize = 10;
/// Maximum number of players that are shown.
const MAX_SLOWEST: usize = 100;
/// A player is behind whose lag passes its vhost's `mw_latency`, for which messages are
/// gathered, by this.
const TOLERANCE: Duration = Duration::from_secs(1);

/// What holds a player up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The path to it takes less than the stream needs.
    Network,
    /// It does not read: the window that it has advertised is full.
    Player,
    /// Its socket would take more, and this server has not written.
    Server,
}

impl Verdict {
    /// The verdict on a player that is `lag` behind where `mw_latency` is no lag;
    /// `blocked`: its socket took no more when the server last wrote. `None`: it is not
    /// behind.
    fn of(lag: Duration, mw_latency: Duration, blocked: bool, tcp: &TcpInfo) -> Option<Self> {
        if lag <= mw_latency + TOLERANCE {
            return None;
        }
        let queued = u64::from(tcp.unsent_bytes) + tcp.unacknowledged_bytes;
        if !blocked || queued == 0 {
            return Some(Self::Server);
        }
        let window = u64::from(tcp.peer_window_bytes);
        let room = window.saturating_sub(tcp.unacknowledged_bytes);
        let is_full = tcp.window_probes > 0 || room < u64::from(tcp.mss_bytes);
        if is_full && tcp.unsent_bytes > 0 {
            Some(Self::Player)
        } else {
            Some(Self::Network)
        }
    }
}

/// A player that is behind.
#[derive(Debug, Serialize)]
struct SlowReport {
    #[serde(flatten)]
    client: ClientReport,
    lag_ms: u64,
    verdict: Option<Verdict>,
    tcp: TcpReport,
}

/// `TCP_INFO` of its connection.
#[derive(Debug, Serialize)]
struct TcpReport {
    rtt_ms: f64,
    cwnd_bytes: u64,
    peer_window_bytes: u32,
    unsent_bytes: u32,
    unacknowledged_bytes: u64,
    retransmits: u32,
    /// Time-outs in a row.
    backoff: u8,
    window_probes: u8,
    /// Bytes a second.
    delivery_rate: u64,
    /// Part of the time with something to send in which the peer's window was the limit,
    /// in percent.
    peer_limited_percent: u64,
}

impl TcpReport {
    fn new(tcp: &TcpInfo) -> Self {
        Self {
            rtt_ms: f64::from(tcp.rtt_us) / 1_000.0,
            cwnd_bytes: tcp.cwnd_bytes,
            peer_window_bytes: tcp.peer_window_bytes,
            unsent_bytes: tcp.unsent_bytes,
            unacknowledged_bytes: tcp.unacknowledged_bytes,
            retransmits: tcp.retransmits,
            backoff: tcp.backoff,
            window_probes: tcp.window_probes,
            delivery_rate: tcp.delivery_rate,
            peer_limited_percent: tcp.peer_limited_us.saturating_mul(100) / tcp.busy_us.max(1),
        }
    }
}

/// Answers with as many players as `slowest` says. Those that wait for a keyframe, or have
/// paused, have no lag, and are not among them.
pub(super) async fn answer(api: &Arc<Api>, call: Call) -> Response {
    let number = call.query("slowest").and_then(|it| it.parse().ok());
    let number = number.unwrap_or(DEFAULT_SLOWEST).min(MAX_SLOWEST);
    let groups = api.server.report_players().await;
    let found = super::spawn_blocking(move || slowest(&groups, number)).await;
    let slowest = found.unwrap_or_default();
    let ids = slowest.iter().map(|player| player.id).collect();
    let sockets = api.server.inspect_players(ids).await;
    let api = api.clone();
    super::answer(move || {
        let reports = reports(&api, &slowest, &sockets);
        call.get(&api, "clients", &reports)
    })
    .await
}

/// The players of `groups` with the greatest lag, the slowest first.
fn slowest(groups: &[GroupReport], number: usize) -> Vec<PlayerLag> {
    let now = Instant::now();
    let lags = groups.iter().flat_map(|group| group.lags(now));
    let mut lags: Vec<_> = lags.filter(|player| player.lag.is_some()).collect();
    lags.sort_unstable_by_key(|player| (Reverse(player.lag), player.id));
    lags.truncate(number);
    lags
}

fn reports(api: &Api, slowest: &[PlayerLag], sockets: &[SocketReport]) -> Vec<SlowReport> {
    let snapshot = Snapshot::take(api);
    let config = api.server.config();
    let sockets: HashMap<_, _> = sockets.iter().map(|it| (it.id, it.tcp)).collect();
    let report = |player: &PlayerLag| {
        // It may have gone meanwhile.
        let client = api.server.clients().find(player.id)?;
        let tcp = sockets.get(&player.id)?;
        let lag = player.lag?;
        let vhost = client.activity().stream().map(|key| key.vhost.clone());
        let vhost = vhost.and_then(|name| config.vhost(&name));
        let mw_latency = vhost.map_or(Duration::ZERO, |vhost| vhost.effective_mw_latency());
        Some(SlowReport {
            client: ClientReport::new(&client, &snapshot),
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            verdict: Verdict::of(lag, mw_latency, player.blocked, tcp),
            tcp: TcpReport::new(tcp),
        })
    };
    slowest.iter().filter_map(report).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_follows_the_window_the_queue_and_the_lag() {
        let behind = Duration::from_secs(5);
        let mw_latency = Duration::from_millis(350);
        let full = TcpInfo {
            peer_window_bytes: 60_000,
            unacknowledged_bytes: 59_000,
            unsent_bytes: 200_000,
            mss_bytes: 1_448,
            ..TcpInfo::default()
        };
        let congested = TcpInfo {
            unacknowledged_bytes: 14_480,
            ..full
        };
        let probed = TcpInfo {
            peer_window_bytes: 0,
            unacknowledged_bytes: 0,
            window_probes: 1,
            ..full
        };
        let nothing_queued = TcpInfo {
            unacknowledged_bytes: 0,
            unsent_bytes: 0,
            ..full
        };
        let all_is_on_its_way = TcpInfo {
            unsent_bytes: 0,
            ..full
        };
        for (lag, blocked, tcp, verdict) in [
            (mw_latency, true, full, None),
            (mw_latency + TOLERANCE, false, congested, None),
            (behind, true, full, Some(Verdict::Player)),
            (behind, true, probed, Some(Verdict::Player)),
            (behind, true, congested, Some(Verdict::Network)),
            (behind, true, all_is_on_its_way, Some(Verdict::Network)),
            (behind, false, full, Some(Verdict::Server)),
            (behind, true, nothing_queued, Some(Verdict::Server)),
        ] {
            let given = Verdict::of(lag, mw_latency, blocked, &tcp);
            assert_eq!(given, verdict, "{lag:?} {blocked} {tcp:?}");
        }
    }
}
