//! Times on the system's monotonic clock, which goes on when a process becomes another
//! program (`#[serde(with = "crate::hand_over::monotonic")]`).

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time, or what has one.
pub(crate) trait Monotonic: Sized {
    /// The form in which it is written: ns on the system's monotonic clock.
    type Written: Serialize + DeserializeOwned;

    fn written(&self) -> Self::Written;

    fn read(written: Self::Written) -> Self;
}

/// Writes a time.
///
/// # Errors
/// Those of the serializer.
pub(crate) fn serialize<T: Monotonic, S: Serializer>(
    time: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.written().serialize(serializer)
}

/// Reads a time.
///
/// # Errors
/// There is something else.
pub(crate) fn deserialize<'de, T: Monotonic, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    T::Written::deserialize(deserializer).map(T::read)
}

/// The system's monotonic clock, ns.
fn clock_ns() -> i64 {
    // The clock is there on every Linux (clock_gettime(2)).
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| {
        now.tv_sec()
            .saturating_mul(1_000_000_000)
            .saturating_add(now.tv_nsec())
    })
}

fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Monotonic for Instant {
    type Written = i64;

    fn written(&self) -> i64 {
        let now = Self::now();
        let ahead = ns(self.saturating_duration_since(now));
        let behind = ns(now.saturating_duration_since(*self));
        clock_ns().saturating_add(ahead).saturating_sub(behind)
    }

    fn read(written: i64) -> Self {
        let (now, now_ns) = (Self::now(), clock_ns());
        let distance = Duration::from_nanos(written.abs_diff(now_ns));
        let time = match written < now_ns {
            true => now.checked_sub(distance),
            false => now.checked_add(distance),
        };
        time.unwrap_or(now)
    }
}

impl Monotonic for tokio::time::Instant {
    type Written = i64;

    fn written(&self) -> i64 {
        self.into_std().written()
    }

    fn read(written: i64) -> Self {
        Self::from_std(Instant::read(written))
    }
}

impl<T: Monotonic> Monotonic for Option<T> {
    type Written = Option<T::Written>;

    fn written(&self) -> Self::Written {
        self.as_ref().map(T::written)
    }

    fn read(written: Self::Written) -> Self {
        written.map(T::read)
    }
}

/// The number of a track, and the time of its newest picture.
impl Monotonic for (u8, Instant) {
    type Written = (u8, i64);

    fn written(&self) -> Self::Written {
        (self.0, self.1.written())
    }

    fn read((number, time): Self::Written) -> Self {
        (number, Instant::read(time))
    }
}

/// A time, and what a counter was then.
impl Monotonic for (Instant, u64) {
    type Written = (i64, u64);

    fn written(&self) -> Self::Written {
        (self.0.written(), self.1)
    }

    fn read((time, count): Self::Written) -> Self {
        (Instant::read(time), count)
    }
}

/// Pauses, with the times of their ends.
impl Monotonic for Vec<(Instant, Duration)> {
    type Written = Vec<(i64, Duration)>;

    fn written(&self) -> Self::Written {
        let written = self.iter().map(|(time, pause)| (time.written(), *pause));
        written.collect()
    }

    fn read(written: Self::Written) -> Self {
        let read = written
            .into_iter()
            .map(|(time, pause)| (Instant::read(time), pause));
        read.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stays_where_it_is() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        for time in [now, now - second, now + second] {
            let read = Instant::read(time.written());
            let off = read.max(time) - read.min(time);
            assert!(off < second / 10, "{off:?}");
        }
        assert_eq!(Option::<Instant>::read(None), None);
    }
}
