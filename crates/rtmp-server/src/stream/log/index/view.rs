//! A log at one moment, as a fan-out worker sees it.

use std::sync::Arc;

use super::join::JoinPoint;
use super::{Headers, Index};

/// The state of a log at one moment: all that a flush has to know.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// Offset at which the newest message ends.
    pub end: u64,
    /// The newest message's time, ms.
    pub timestamp: u64,
    /// Time of arrival of the newest message on the server's clock, ms.
    pub arrived: u64,
    /// Number of pictures in the log up to its end.
    pub pictures: u64,
    /// A player before this offset is too far behind, and has to skip to a
    /// keyframe.
    pub keep_from: u64,
    /// The newest place where a player can begin; `None` before the first
    /// keyframe.
    pub join: Option<JoinPoint>,
    /// The place for those that must not begin as early as at `join`: a later
    /// picture of a stream that flags no keyframes any more.
    pub later_join: Option<JoinPoint>,
    /// Offset at which the present publication begins.
    pub publication: u64,
    /// The headers in force at the end.
    pub headers: Arc<Headers>,
}

impl View {
    /// The place to begin for a player that has had the log up to `offset`.
    #[must_use]
    pub(crate) fn join_from(&self, offset: u64) -> Option<&JoinPoint> {
        let mut points = self.join.iter().chain(&self.later_join);
        points.find(|join| join.offset >= offset)
    }

    /// Offset of the newest place where a player can begin.
    #[must_use]
    pub(crate) fn newest_join(&self) -> Option<u64> {
        let newest = self.later_join.as_ref().or(self.join.as_ref());
        newest.map(|join| join.offset)
    }
}

impl Index {
    /// The log as it is now, for the reader number `reader`, whose players
    /// stand at `low_water` or later. Until its next view nothing is given back
    /// that one of them, or one that joins, can read.
    pub(crate) fn view(&mut self, reader: usize, low_water: u64) -> View {
        let keep_from = self.keep_from();
        self.low_water[reader] = low_water.min(keep_from);
        View {
            end: self.end,
            timestamp: self.timestamp,
            arrived: self.now,
            pictures: self.pictures,
            keep_from,
            join: self.joins.newest().cloned(),
            later_join: self.joins.later().cloned(),
            publication: self.publication,
            headers: self.headers.clone(),
        }
    }

    /// Reader number `reader` has no player of this stream any more.
    pub(crate) fn remove_reader(&mut self, reader: usize) {
        self.low_water[reader] = u64::MAX;
    }
}
