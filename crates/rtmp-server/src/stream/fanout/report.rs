//! What the workers say about their players on request: where each stands in its
//! stream's log, and how its connection does.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::tcp_info::{self, TcpInfo};
use crate::stream::Stream;
use crate::stream::log::Log;

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
    /// The lag of each player at `now`. The log's index is locked meanwhile.
    pub(crate) fn lags(&self, now: Instant) -> Vec<PlayerLag> {
        let now_ms = self.stream.logs.milliseconds(now);
        let index = self.log.index();
        let lag = |position: &Position| PlayerLag {
            id: position.id,
            lag: match position.standing {
                Standing::Following(offset) => {
                    let arrived = index.arrival_at(offset);
                    let ms = arrived.map_or(0, |arrived| now_ms.saturating_sub(arrived));
                    Some(Duration::from_millis(ms))
                }
                Standing::Waiting | Standing::Paused => None,
            },
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
