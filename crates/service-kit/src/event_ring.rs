//! The latest events, with numbers by which somebody asks for those that are new.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// An event and its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Numbered<T> {
    /// Its number. Later events have greater ones, also after a restart.
    pub number: u64,
    /// The event.
    #[serde(flatten)]
    pub event: T,
}

/// The latest events, the oldest first.
///
/// The first number is the time of the ring's making in ms since 1970, and each event takes
/// the next one: whoever has seen events of an earlier process asks for what is new in the
/// same way.
#[derive(Debug)]
pub struct EventRing<T> {
    capacity: usize,
    last: u64,
    events: VecDeque<Numbered<T>>,
}

impl<T: Clone> EventRing<T> {
    /// An empty ring for so many events.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            last: unix_ms(),
            events: VecDeque::with_capacity(capacity),
        }
    }

    /// Goes on with the events of another ring, whose last number was `last`.
    pub fn resume(&mut self, last: u64, events: impl IntoIterator<Item = Numbered<T>>) {
        self.events = events.into_iter().collect();
        while self.events.len() > self.capacity {
            self.events.pop_front();
        }
        self.last = last;
    }

    /// The number of the last event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Adds an event. The oldest one leaves if there is no room.
    pub fn push(&mut self, event: T) {
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.last += 1;
        self.events.push_back(Numbered {
            number: self.last,
            event,
        });
    }

    /// Takes the oldest event out that `is_wanted` chooses.
    pub fn take(&mut self, is_wanted: impl Fn(&T) -> bool) -> Option<T> {
        let position = self.events.iter().position(|it| is_wanted(&it.event))?;
        self.events.remove(position).map(|it| it.event)
    }

    /// The events, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.events.iter().map(|it| &it.event)
    }

    /// The events with greater numbers than `number`, the oldest first.
    #[must_use]
    pub fn after(&self, number: u64) -> Vec<Numbered<T>> {
        let first = self.events.partition_point(|it| it.number <= number);
        self.events.range(first..).cloned().collect()
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_with_the_last_number_gets_what_is_new() {
        let mut ring = EventRing::new(3);
        let before = ring.last;
        for event in ["a", "b", "c", "d"] {
            ring.push(event);
        }
        let all = ring.after(0);
        let names: Vec<_> = all.iter().map(|it| it.event).collect();
        assert_eq!(names, ["b", "c", "d"], "the oldest has left");
        assert_eq!(all[2].number, before + 4);
        assert_eq!(ring.after(all[1].number), all[2..]);
        assert_eq!(ring.after(all[2].number), []);
        assert_eq!(ring.take(|it| *it == "c"), Some("c"));
        ring.push("e");
        let names: Vec<_> = ring
            .after(all[0].number)
            .iter()
            .map(|it| it.event)
            .collect();
        assert_eq!(names, ["d", "e"]);
    }
}
