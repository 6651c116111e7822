//! The timers of one virtual router, all in one table.

use std::time::{Duration, Instant};

/// A timer of a virtual router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// Master: the next advert (`Adver_Timer`, RFC 3768 §6.2).
    Advert,
    /// Backup: the master counts as gone (`Master_Down_Timer`, RFC 3768 §6.2).
    MasterDown,
    /// Master: the second set of announcements (keepalived.conf(5),
    /// `garp_master_delay`).
    SecondSet,
    /// Master: the second set after an advert of lower priority
    /// (`garp_lower_prio_delay`).
    SecondLowerPrioritySet,
    /// Master: the next periodic announcement (`garp_master_refresh`).
    Refresh,
}

const TIMERS: usize = Timer::Refresh as usize + 1;

/// The expiry of each timer; a timer without one is stopped.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TimerTable([Option<Instant>; TIMERS]);

impl TimerTable {
    /// Time at which a timer expires; `None` if it is stopped.
    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// Starts a timer, or starts it anew.
    pub(super) fn set(&mut self, timer: Timer, expiry: Instant) {
        self.0[timer as usize] = Some(expiry);
    }

    /// Starts a timer that expires `delay` after `now`. A delay of zero, which
    /// means "never" in keepalived.conf(5), stops it.
    pub(super) fn set_after(&mut self, timer: Timer, now: Instant, delay: Duration) {
        self.0[timer as usize] = (!delay.is_zero()).then(|| now + delay);
    }

    /// Stops all timers.
    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// Stops a timer that has expired, and returns when it was due.
    pub(super) fn take_expired(&mut self, timer: Timer, now: Instant) -> Option<Instant> {
        self.0[timer as usize].take_if(|expiry| *expiry <= now)
    }

    /// Time at which the next timer expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
