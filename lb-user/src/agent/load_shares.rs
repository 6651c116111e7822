//! The shares of new connections that servers get by the room that they have: no I/O, no
//! clock, no chance.
//!
//! Two directors that are told the same end with the same weights, whatever they have seen
//! before: averages reach what stays the same, shares reach their target, and what they are
//! rounded to is in force after the settling time of their [`Pace`] at the latest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_wire::load::Load;

/// The weights of a service's servers are parts of this number.
pub const TOTAL: u32 = 1_000;
/// Interval at which shares move.
const STEP: Duration = Duration::from_millis(500);
/// The most that a share moves within a second, of the whole.
const MAX_CHANGE_PER_SECOND: f64 = 0.1;
/// Time constant of the average of answers.
const SMOOTHING: Duration = Duration::from_secs(1);
/// The part of the limit below which an average has reached what it follows.
const NEGLIGIBLE: f64 = 0.001;

/// How closely weights follow shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// A share moves the weights at once by this much of the whole, and by less after
    /// `settling_time`.
    hysteresis: f64,
    /// Time for which weights stay that differ from the shares by little.
    settling_time: Duration,
}

impl Pace {
    /// Where new weights matter to new connections alone.
    pub const SWIFT: Self = Self {
        hysteresis: 0.02,
        settling_time: Duration::from_secs(5),
    };
    /// Where each change moves some clients of a hash to other servers, and makes a table that
    /// other directors' connections are found by, of which only the last are remembered
    /// ([`MAX_GENERATIONS`](lb_model::MAX_GENERATIONS)).
    pub const OF_TABLES: Self = Self {
        hysteresis: 0.1,
        settling_time: Duration::from_secs(300),
    };
}

/// A server that may have new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its address.
    pub address: SocketAddr,
    /// The weight that it has without regard to loads; more than 0.
    pub weight: u32,
    /// True if its load counts: an operator's order comes first.
    pub is_fed: bool,
}

/// What a server has said of itself.
#[derive(Debug, Clone, Copy)]
struct Answer {
    load: Load,
    /// What it sends and will send, smoothed.
    used: f64,
    at: Instant,
    /// Time for which it counts.
    valid: Duration,
}

impl Answer {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= self.valid
    }

    /// What more it may send, bit/s; `None` if it does not know what it may.
    fn room(&self) -> Option<f64> {
        let limit = self.load.limit()? as f64;
        Some((limit - self.used).max(0.0))
    }
}

/// The shares of one service's servers.
///
/// ```text
/// answer ──▶ average ──▶ room ──▶ target ── at most 10 % a second ──▶ share
///                                              ── beyond the hysteresis ──▶ weight
/// ```
#[derive(Debug, Clone, Default)]
pub struct LoadShares {
    answers: HashMap<SocketAddr, Answer>,
    /// Parts of the whole, which are 1 together.
    shares: HashMap<SocketAddr, f64>,
    /// What is in force; empty while the configured weights are.
    weights: HashMap<SocketAddr, u32>,
    /// Time since when the shares have meant other weights.
    differ_since: Option<Instant>,
    stepped: Option<Instant>,
    /// Time until when the weights of an earlier agent stay, unless all servers have answered
    /// before.
    inherited_until: Option<Instant>,
}

impl LoadShares {
    /// Those of an earlier agent, from whose weights they move once all servers have
    /// answered, or at `until`.
    pub fn inherit(weights: HashMap<SocketAddr, u32>, until: Instant) -> Self {
        let all: f64 = weights.values().copied().map(f64::from).sum();
        let share = |(server, weight): (&SocketAddr, &u32)| (*server, f64::from(*weight) / all);
        Self {
            shares: weights.iter().map(share).collect(),
            weights,
            inherited_until: Some(until),
            ..Self::default()
        }
    }

    /// Takes the answer of a server, which counts for as long as it is `valid`.
    pub fn answered(&mut self, server: SocketAddr, load: Load, valid: Duration, now: Instant) {
        let said = load.used() as f64;
        let known = self
            .answers
            .get(&server)
            .filter(|known| known.is_fresh(now));
        let used = known.map_or(said, |known| {
            let age = now.saturating_duration_since(known.at).as_secs_f64();
            let part = 1.0 - (-age / SMOOTHING.as_secs_f64()).exp();
            let used = known.used + (said - known.used) * part;
            let negligible = load.limit().unwrap_or(0) as f64 * NEGLIGIBLE;
            if (said - used).abs() <= negligible {
                said
            } else {
                used
            }
        });
        let answer = Answer {
            load,
            used,
            at: now,
            valid,
        };
        self.answers.insert(server, answer);
    }

    /// When to call [`step`](Self::step), if ever.
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(until) = self.inherited_until {
            let mut servers = self.weights.keys();
            let has_all = servers.all(|server| self.answers.contains_key(server));
            let last = self.answers.values().map(|answer| answer.at).max();
            return Some(last.filter(|_| has_all).unwrap_or(until).min(until));
        }
        let last = self
            .answers
            .values()
            .map(|answer| answer.at + answer.valid)
            .max()?;
        match self.stepped {
            None => self.answers.values().map(|answer| answer.at).min(),
            Some(stepped) if stepped <= last || !self.weights.is_empty() => Some(stepped + STEP),
            Some(_) => None,
        }
    }

    /// Moves the shares of `members` to where they belong at `now`. Returns true if weights
    /// have changed.
    pub fn step(&mut self, members: &[Member], pace: Pace, now: Instant) -> bool {
        self.inherited_until = None;
        let pause = self
            .stepped
            .replace(now)
            .map(|before| now.saturating_duration_since(before));
        // After a time without answers, shares begin to move anew.
        let seconds = pause
            .map_or(STEP, |pause| pause.min(2 * STEP))
            .as_secs_f64();
        self.answers
            .retain(|server, _| members.iter().any(|member| member.address == *server));
        let Some(targets) = self.targets(members, now) else {
            self.shares.clear();
            self.differ_since = None;
            return !std::mem::take(&mut self.weights).is_empty();
        };
        let has_joined_or_left = self.take_members(members, &targets);
        self.approach(&targets, MAX_CHANGE_PER_SECOND * seconds);
        self.weigh(has_joined_or_left, pace, now)
    }

    /// The share of new connections, in parts of [`TOTAL`]; `None`: as configured.
    pub fn weight(&self, server: SocketAddr) -> Option<u32> {
        self.weights.get(&server).copied()
    }

    /// The weights in force; none: as configured.
    pub fn weights(&self) -> &HashMap<SocketAddr, u32> {
        &self.weights
    }

    /// True if weights follow loads at present.
    pub fn is_in_force(&self) -> bool {
        !self.weights.is_empty()
    }

    /// The last answer of a server, and true if it still counts.
    pub fn answer(&self, server: SocketAddr, now: Instant) -> Option<(Load, bool)> {
        let answer = self.answers.get(&server)?;
        Some((answer.load, answer.is_fresh(now)))
    }

    /// The shares that the servers should have; `None` if no answer counts. Servers without
    /// one have their configured part; the others share the rest by their room.
    fn targets(&self, members: &[Member], now: Instant) -> Option<HashMap<SocketAddr, f64>> {
        let all: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
        let room_of = |member: &Member| {
            let answer = self.answers.get(&member.address)?;
            (member.is_fed && answer.is_fresh(now)).then(|| answer.room())?
        };
        let rooms: Vec<Option<f64>> = members.iter().map(room_of).collect();
        let fed = members
            .iter()
            .zip(&rooms)
            .filter(|(_, room)| room.is_some());
        let fed_weight: f64 = fed.map(|(member, _)| f64::from(member.weight)).sum();
        if fed_weight == 0.0 {
            return None;
        }
        let room: f64 = rooms.iter().flatten().sum();
        let target = |(member, its_room): (&Member, &Option<f64>)| {
            let configured = f64::from(member.weight) / all;
            let share = match its_room {
                // All are full: none is better than another.
                Some(its_room) if room > 0.0 => fed_weight / all * its_room / room,
                _ => configured,
            };
            (member.address, share)
        };
        Some(members.iter().zip(&rooms).map(target).collect())
    }

    /// Makes the shares those of `members`: who joins begins with its target, and the others
    /// keep their proportions. Returns true if one has joined or left.
    fn take_members(&mut self, members: &[Member], targets: &HashMap<SocketAddr, f64>) -> bool {
        let before = self.shares.len();
        if self.shares.is_empty() {
            // The configured shares, from which they move.
            let all: f64 = members.iter().map(|member| f64::from(member.weight)).sum();
            let share = |member: &Member| (member.address, f64::from(member.weight) / all);
            self.shares = members.iter().map(share).collect();
            return true;
        }
        self.shares.retain(|server, _| targets.contains_key(server));
        let has_left = self.shares.len() < before;
        let kept: f64 = self.shares.values().sum();
        let joins = |member: &&Member| !self.shares.contains_key(&member.address);
        let joining: Vec<_> = members.iter().filter(joins).collect();
        if !has_left && joining.is_empty() {
            return false;
        }
        let joined: f64 = joining.iter().map(|member| targets[&member.address]).sum();
        if kept > 0.0 {
            for share in self.shares.values_mut() {
                *share *= (1.0 - joined) / kept;
            }
        }
        for member in joining {
            self.shares.insert(member.address, targets[&member.address]);
        }
        true
    }

    /// Moves all shares towards their targets, by `most` each.
    fn approach(&mut self, targets: &HashMap<SocketAddr, f64>, most: f64) {
        let distance = |(server, share): (&SocketAddr, &f64)| (targets[server] - share).abs();
        let furthest = self.shares.iter().map(distance).fold(0.0, f64::max);
        for (server, share) in &mut self.shares {
            let target = targets[server];
            if furthest <= most {
                *share = target;
            } else {
                *share += (target - *share) * most / furthest;
            }
        }
    }

    /// Puts the shares in force as weights, if they differ by enough, or for long enough;
    /// `at_once`: in any case.
    fn weigh(&mut self, at_once: bool, pace: Pace, now: Instant) -> bool {
        let weight = |(server, share): (&SocketAddr, &f64)| {
            let weight = (share * f64::from(TOTAL)).round() as u32;
            (*server, weight.max(1))
        };
        let weights: HashMap<SocketAddr, u32> = self.shares.iter().map(weight).collect();
        if weights == self.weights {
            self.differ_since = None;
            return false;
        }
        let moved = |(server, share): (&SocketAddr, &f64)| {
            let before = self.weights.get(server).copied().unwrap_or(0);
            (share - f64::from(before) / f64::from(TOTAL)).abs() >= pace.hysteresis
        };
        let since = *self.differ_since.get_or_insert(now);
        let is_settled = now.saturating_duration_since(since) >= pace.settling_time;
        if !at_once && !is_settled && !self.shares.iter().any(moved) {
            return false;
        }
        self.weights = weights;
        self.differ_since = None;
        true
    }
}

#[cfg(test)]
mod tests;
