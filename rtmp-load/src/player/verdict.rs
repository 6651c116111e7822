//! A player after the run, and the verdict on it.

use std::{sync::Arc, time::Duration};

use super::{Record, Rules};
use crate::address::StreamAddress;

/// The state of a player when the run ended.
#[derive(Debug, Clone, Copy)]
pub struct FinalState {
    /// True if it was playing.
    pub playing: bool,
    /// Time for which nothing had come on its connection.
    pub quiet_for: Option<Duration>,
}

/// A player after the run.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The stream that it played.
    pub address: Arc<StreamAddress>,
    /// True if its messages were looked at to the end.
    pub inspected: bool,
    /// Its record.
    pub record: Record,
    /// Its final state.
    pub final_state: FinalState,
}

/// A verdict on a player.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It got what it should.
    Healthy,
    /// It was connected and got too little.
    Starved,
    /// It was not connected when it should have been.
    Failed,
}

impl Finished {
    /// The verdict: *failed* if it was not connected at the end, or had to
    /// begin again without being told to; *starved* if it never got a keyframe,
    /// had gone quiet, or got less than `min_share` of its frames.
    pub fn health(&self, rules: &Rules, min_share: f64) -> Health {
        let lost_connections: u64 = self.record.ends.values().sum();
        let Some(quiet_for) = self.final_state.quiet_for else {
            return Health::Failed;
        };
        if lost_connections > 0 && !rules.reconnect {
            return Health::Failed;
        }
        let short = self
            .record
            .frames
            .delivered()
            .is_some_and(|share| share < min_share);
        if !self.final_state.playing || quiet_for > rules.stall || short {
            return Health::Starved;
        }
        Health::Healthy
    }
}
