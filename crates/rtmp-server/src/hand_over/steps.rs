//! What the time goes by with while everybody stands still, for the log.

use std::fmt;
use std::time::{Duration, Instant};

/// Steps that follow each other, and how long each took.
#[derive(Debug)]
pub(crate) struct Steps {
    since: Instant,
    last: Instant,
    steps: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// The first begins now.
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            last: now,
            steps: Vec::new(),
        }
    }

    /// The beginning of the first.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// A step, which is called `name`, ends, and the next begins.
    pub(crate) fn end(&mut self, name: &'static str) {
        let now = Instant::now();
        self.steps.push((name, now - self.last));
        self.last = now;
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, time)) in self.steps.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {:.1} ms", time.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_named_in_their_order() {
        let mut steps = Steps::new();
        assert_eq!(steps.to_string(), "");
        steps.end("read");
        steps.end("started");
        let text = steps.to_string();
        let places = ["read ", " ms, started ", " ms"].map(|it| text.find(it));
        assert!(places.is_sorted() && places[0] == Some(0), "{text}");
    }
}
