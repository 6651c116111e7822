//! What the workers say about their players on request: where each stands in its
//! stream's log, and how its connection does.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::metrics::Histogram;

use super::tcp_info::{self, TcpInfo};
use crate::stream::Stream;
use crate::stream::log::Log;

/// Upper bounds of the lag of players, in ms. `queue_length` is 30 s unless it is set.
const LAG_BOUNDS_MS: [u64; 9] = [100, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000];

/// The lags that players were seen to have.
pub(crate) type LagTimes = Histogram<{ LAG_BOUNDS_MS.len() }>;

/// None yet.
pub(crate) fn no_lag_times() -> LagTimes {
    Histogram::new(LAG_BOUNDS_MS)
}

/// State of a player's delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is sent the stream, of which this is its next byte's offset in the log.
    Following(u64),
    /// It waits for a place to begin: the next keyframe.
    Waiting,
    /// It asked for a pause.
    Paused,
}

/// One player.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    /// The connection's id.
    pub(crate) id: u64,
    pub(super) standing: Standing,
    /// The socket takes nothing at present.
    pub(super) blocked: bool,
}

impl Position {
    /// Offset of its next byte in the log; `None` while it is sent nothing.
    fn offset(&self) -> Option<u64> {
        match self.standing {
            Standing::Following(offset) => Some(offset),
            Standing::Waiting | Standing::Paused => None,
        }
    }
}

/// The players of a stream at a worker that read the same log.
#[derive(Debug)]
pub(crate) struct GroupReport {
    /// The stream.
    pub(crate) stream: Arc<Stream>,
    pub(super) log: Arc<Log>,
    pub(super) positions: Vec<Position>,
}

/// A player's distance from the stream's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlayerLag {
    /// The connection's id.
    pub(crate) id: u64,
    /// Time since the oldest message came that has not been handed to its socket
    /// wholly; zero if there is none. `None` while it waits for a keyframe or has paused.
    pub(crate) lag: Option<Duration>,
    /// State of its delivery.
    pub(crate) standing: Standing,
    /// The socket takes nothing at present.
    pub(crate) blocked: bool,
}

impl GroupReport {
    /// The lag of each player at `now`. The log's index is locked for one copy only.
    pub(crate) fn lags(&self, now: Instant) -> Vec<PlayerLag> {
        let now_ms = self.stream.logs.milliseconds(now);
        let offsets = self.positions.iter().filter_map(Position::offset);
        let arrivals = offsets.min().map(|from| self.log.index().arrivals(from));
        let arrivals = arrivals.unwrap_or_default();
        let lag = |position: &Position| PlayerLag {
            id: position.id,
            lag: position.offset().map(|offset| {
                let ms = arrivals
                    .at(offset)
                    .map_or(0, |at| now_ms.saturating_sub(at));
                Duration::from_millis(ms)
            }),
            standing: position.standing,
            blocked: position.blocked,
        };
        self.positions.iter().map(lag).collect()
    }
}

/// A player's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketReport {
    /// The connection's id.
    pub(crate) id: u64,
    /// State of TCP.
    pub(crate) tcp: TcpInfo,
}

impl SocketReport {
    /// The report about `socket`; `None` if the connection has ended.
    pub(super) fn of(id: u64, socket: &TcpStream) -> Option<Self> {
        let tcp = tcp_info::read(socket).ok()?;
        Some(Self { id, tcp })
    }
}
