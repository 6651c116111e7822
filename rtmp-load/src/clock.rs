//! The one clock of this program, and how it compares with other processes'.
//!
//! Everything is timed by `CLOCK_MONOTONIC`. All processes of one booted
//! machine read the same clock, in whatever network namespace they live, so a
//! stamp written by one `rtmp-load` can be compared with the arrival seen by
//! another as long as both name the same boot. Between machines, or across a
//! reboot, no comparison is attempted.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point in time: nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Instant(u64);

impl Instant {
    /// The time now.
    pub fn now() -> Self {
        Self(read(ClockId::CLOCK_MONOTONIC))
    }

    /// A point so many nanoseconds after the clock's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's start.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since `earlier`; zero if this is not after it.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, span: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(span)))
    }
}

impl std::ops::Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, span: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(span)))
    }
}

/// Converts monotonic instants into the calendar's time, for reports.
#[derive(Debug, Clone, Copy)]
pub struct Calendar {
    /// Nanoseconds to add to a monotonic instant to get Unix time.
    offset_ns: u64,
}

impl Calendar {
    /// Compares the two clocks now.
    pub fn now() -> Self {
        let unix = read(ClockId::CLOCK_REALTIME);
        Self {
            offset_ns: unix.saturating_sub(Instant::now().0),
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self, at: Instant) -> u64 {
        (at.0 + self.offset_ns) / 1_000_000
    }
}

/// A number that is the same in all processes of this boot of this machine and,
/// very probably, nowhere else: a digest of the kernel's boot id.
///
/// Without `/proc` there is no boot id; then the number is this process's own
/// and only its own stamps are comparable.
pub(crate) fn boot_identity() -> u32 {
    match std::fs::read("/proc/sys/kernel/random/boot_id") {
        Ok(id) => crc32fast::hash(&id),
        Err(_) => std::process::id() ^ 0x5eed_0000,
    }
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock).expect("Linux always has these two clocks");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

fn nanos(span: Duration) -> u64 {
    span.as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_between_instants_is_never_negative() {
        let early = Instant::from_nanos(5);
        let late = Instant::from_nanos(9);
        assert_eq!(late.since(early), Duration::from_nanos(4));
        assert_eq!(early.since(late), Duration::ZERO);
    }

    #[test]
    fn the_boot_identity_does_not_change_while_running() {
        assert_eq!(boot_identity(), boot_identity());
    }
}
