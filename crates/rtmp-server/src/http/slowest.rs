//! `clients?slowest=N`: the players that are furthest behind, with the figures of their
//! connections, and what most likely holds them up.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use serde::Serialize;
use tokio::sync::Mutex;

use super::Api;
use super::call::Call;
use super::clients::ClientReport;
use super::snapshot::Snapshot;
use crate::server::Server;
use crate::stream::fanout::{GroupReport, PlayerLag, TcpInfo};

/// Number of players that are shown where `slowest` is no number.
const DEFAULT_SLOWEST: usize = 10;
/// Maximum number of players that are shown.
const MAX_SLOWEST: usize = 100;
/// Time for which a look at all players answers further requests: one costs the fan-out
/// workers a system call for each player that is shown.
const MAX_AGE: Duration = Duration::from_secs(1);
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

impl Verdict {
    /// The same where the kernel's figures are missing: what holds the connection up that a
    /// request by HTTP/2 shares is not known.
    fn without_figures(lag: Duration, mw_latency: Duration, blocked: bool) -> Option<Self> {
        let is_behind = lag > mw_latency + TOLERANCE;
        (is_behind && !blocked).then_some(Self::Server)
    }
}

/// A player that is behind.
#[derive(Debug, Serialize)]
struct SlowReport {
    #[serde(flatten)]
    client: ClientReport,
    lag_ms: u64,
    verdict: Option<Verdict>,
    /// `None` for a request by HTTP/2, which shares its connection with others.
    tcp: Option<TcpReport>,
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

/// The slowest players as they were last looked for. Whoever asks meanwhile waits for that.
#[derive(Debug, Default)]
pub(super) struct Slowest(Mutex<Option<Look>>);

/// A player, and the state of its connection; `None` for a request by HTTP/2, which shares its
/// connection with others.
type Slow = (PlayerLag, Option<TcpInfo>);

/// The slowest players at one moment, the slowest first.
#[derive(Debug)]
struct Look {
    at: Instant,
    players: Arc<[Slow]>,
}

impl Slowest {
    /// The slowest players, as they were a moment ago.
    async fn players(&self, server: &Server) -> Arc<[Slow]> {
        let mut last = self.0.lock().await;
        if let Some(look) = last.as_ref().filter(|look| look.at.elapsed() < MAX_AGE) {
            return look.players.clone();
        }
        let players: Arc<[_]> = look_for(server).await.into();
        *last = Some(Look {
            at: Instant::now(),
            players: players.clone(),
        });
        players
    }
}

/// Answers with as many players as `slowest` says. Those that wait for a keyframe, or have
/// paused, have no lag, and are not among them.
pub(super) async fn answer(api: &Arc<Api>, call: Call) -> Response {
    let number = call.query("slowest").and_then(|it| it.parse().ok());
    let number = number.unwrap_or(DEFAULT_SLOWEST).min(MAX_SLOWEST);
    let slowest = api.slowest.players(&api.server).await;
    let api = api.clone();
    super::answer(move || {
        let shown = &slowest[..number.min(slowest.len())];
        call.get(&api, "clients", &reports(&api, shown))
    })
    .await
}

/// Asks the fan-out workers for the players with the greatest lag and for the state of
/// their connections.
async fn look_for(server: &Server) -> Vec<Slow> {
    let groups = server.report_players().await;
    let found = super::spawn_blocking(move || slowest(&groups)).await;
    let slowest = found.unwrap_or_default();
    let ids = slowest.iter().map(|player| player.id).collect();
    let sockets = server.inspect_players(ids).await;
    let sockets: HashMap<_, _> = sockets.iter().map(|it| (it.id, it.tcp)).collect();
    // Who is not among them has gone meanwhile, or has no TCP connection of its own.
    let players = slowest.into_iter();
    players
        .map(|player| (player, sockets.get(&player.id).copied()))
        .collect()
}

/// The players of `groups` with the greatest lag, the slowest first.
fn slowest(groups: &[GroupReport]) -> Vec<PlayerLag> {
    let now = Instant::now();
    let lags = groups.iter().flat_map(|group| group.lags(now));
    let mut lags: Vec<_> = lags.filter(|player| player.lag.is_some()).collect();
    lags.sort_unstable_by_key(|player| (Reverse(player.lag), player.id));
    lags.truncate(MAX_SLOWEST);
    lags
}

fn reports(api: &Api, slowest: &[Slow]) -> Vec<SlowReport> {
    let snapshot = Snapshot::take(api);
    let config = api.server.config();
    let report = |(player, tcp): &Slow| {
        // It may have gone meanwhile.
        let client = api.server.clients().find(player.id)?;
        let lag = player.lag?;
        let vhost = client.activity().stream().map(|key| key.vhost.clone());
        let vhost = vhost.and_then(|name| config.vhost(&name));
        let mw_latency = vhost.map_or(Duration::ZERO, |vhost| vhost.effective_mw_latency());
        Some(SlowReport {
            client: ClientReport::new(&client, &snapshot),
            lag_ms: u64::try_from(lag.as_millis()).unwrap_or(u64::MAX),
            verdict: match tcp {
                Some(tcp) => Verdict::of(lag, mw_latency, player.blocked, tcp),
                None => Verdict::without_figures(lag, mw_latency, player.blocked),
            },
            tcp: tcp.as_ref().map(TcpReport::new),
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
