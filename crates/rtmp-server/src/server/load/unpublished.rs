//! The bit rates of viewers who wait for streams that nobody publishes. Nothing is sent to them,
//! and perhaps never will be: they refuse nobody but further viewers of the same stream.

use std::collections::HashMap;

/// What is reserved, by the streams' numbers.
#[derive(Debug, Default)]
pub(super) struct Unpublished {
    streams: HashMap<u64, Waiting>,
    next: u64,
}

/// The viewers of a stream, until it is published.
#[derive(Debug)]
struct Waiting {
    number: u64,
    /// bit/s.
    rate: f64,
    viewers: usize,
}

/// A viewer's place: of the stream, and of the wait for a publisher.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    stream: u64,
    number: u64,
}

impl Unpublished {
    /// Reserves `rate` for a viewer of `stream`.
    pub(super) fn add(&mut self, stream: u64, rate: f64) -> Place {
        let next = &mut self.next;
        let waiting = self.streams.entry(stream).or_insert_with(|| {
            *next += 1;
            Waiting {
                number: *next,
                rate: 0.0,
                viewers: 0,
            }
        });
        waiting.rate += rate;
        waiting.viewers += 1;
        let number = waiting.number;
        Place { stream, number }
    }

    /// Takes a viewer of `rate` away; false if its stream has got a publisher meanwhile.
    pub(super) fn remove(&mut self, place: Place, rate: f64) -> bool {
        let waiting = self.streams.get_mut(&place.stream);
        let Some(waiting) = waiting.filter(|it| it.number == place.number) else {
            return false;
        };
        waiting.rate -= rate;
        waiting.viewers -= 1;
        if waiting.viewers == 0 {
            self.streams.remove(&place.stream);
        }
        true
    }

    /// What is reserved for `stream`, bit/s.
    pub(super) fn rate(&self, stream: u64) -> f64 {
        self.streams.get(&stream).map_or(0.0, |it| it.rate)
    }

    /// The stream has a publisher: takes all of its viewers away, and returns their bit rate
    /// and number.
    pub(super) fn publish(&mut self, stream: u64) -> Option<(f64, usize)> {
        let waiting = self.streams.remove(&stream)?;
        Some((waiting.rate, waiting.viewers))
    }
}
