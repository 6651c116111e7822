//! Prometheus' text format (version 0.0.4), written from a snapshot.
//!
//! `docs/decisions/0012-metrics-text.md` says why no client library writes it.

use std::fmt::{self, Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Kind of a family of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Counts of observations by size.
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// Labels of a sample: `service="192.0.2.1:1935",protocol="tcp"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// These names with these values.
    #[must_use]
    pub fn new(labels: &[(&str, &dyn Display)]) -> Self {
        labels
            .iter()
            .fold(Self::default(), |all, (name, value)| all.with(name, value))
    }

    /// The same and one more.
    #[must_use]
    pub fn with(&self, name: &str, value: impl Display) -> Self {
        let mut text = self.0.clone();
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        write!(Escaping(&mut text), "{value}").expect("a string can always grow");
        text.push('"');
        Self(text)
    }

    /// Length of their text, in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.0.len()
    }
}

/// Writes a label's value as the format wants it.
struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '\\' => self.0.push_str("\\\\"),
                '"' => self.0.push_str("\\\""),
                '\n' => self.0.push_str("\\n"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

/// Metrics as text, family after family.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Begins the family `name`. Each name is for one family only.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let text = &mut self.text;
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("a string can always grow");
        Family {
            name: name.to_owned(),
            text,
        }
    }

    /// All of it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// A family of metrics that is being written.
#[derive(Debug)]
pub struct Family<'a> {
    name: String,
    text: &'a mut String,
}

impl Family<'_> {
    /// Writes one sample.
    pub fn sample(&mut self, labels: &Labels, value: impl Display) {
        self.line("", labels, value);
    }

    /// Writes one sample without labels.
    pub fn value(&mut self, value: impl Display) {
        self.sample(&Labels::default(), value);
    }

    /// Writes a histogram.
    pub fn histogram<const N: usize>(&mut self, labels: &Labels, histogram: &Histogram<N>) {
        let mut count = 0;
        for (bound_ms, bucket) in histogram.bounds_ms.iter().zip(&histogram.buckets) {
            count += bucket.load(Ordering::Relaxed);
            let bound = Duration::from_millis(*bound_ms).as_secs_f64();
            self.line("_bucket", &labels.with("le", bound), count);
        }
        count += histogram.beyond.load(Ordering::Relaxed);
        self.line("_bucket", &labels.with("le", "+Inf"), count);
        let sum = Duration::from_micros(histogram.sum_us.load(Ordering::Relaxed));
        self.line("_sum", labels, sum.as_secs_f64());
        self.line("_count", labels, count);
    }

    fn line(&mut self, suffix: &str, Labels(labels): &Labels, value: impl Display) {
        let (name, text) = (&self.name, &mut *self.text);
        let written = match labels.is_empty() {
            true => writeln!(text, "{name}{suffix} {value}"),
            false => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
        };
        written.expect("a string can always grow");
    }
}

/// Durations, counted by size. Written by any thread, without a lock.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    /// Upper bounds, in ms, rising.
    bounds_ms: [u64; N],
    /// Observations up to each bound and beyond the one before.
    buckets: [AtomicU64; N],
    /// Observations beyond the last bound.
    beyond: AtomicU64,
    sum_us: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one with these upper bounds, in ms, which must rise.
    #[must_use]
    pub const fn new(bounds_ms: [u64; N]) -> Self {
        Self {
            bounds_ms,
            buckets: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        }
    }

    /// The numbers of observations by size, those beyond the last bound, and the sum in µs.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        let numbers = self.buckets.iter().chain([&self.beyond, &self.sum_us]);
        numbers
            .map(|number| number.load(Ordering::Relaxed))
            .collect()
    }

    /// Adds what another histogram of the same bounds has counted, in the form of
    /// [`Histogram::counts`]; other bounds have another number of counts, and are left out.
    pub fn add(&self, counts: &[u64]) {
        let numbers = self.buckets.iter().chain([&self.beyond, &self.sum_us]);
        if counts.len() == N + 2 {
            for (number, count) in numbers.zip(counts) {
                number.fetch_add(*count, Ordering::Relaxed);
            }
        }
    }

    /// Counts an observation.
    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self
            .bounds_ms
            .partition_point(|bound_ms| bound_ms.saturating_mul(1_000) < us);
        let bucket = self.buckets.get(bucket).unwrap_or(&self.beyond);
        bucket.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_with_their_help_and_escaped_labels() {
        let mut exposition = Exposition::default();
        let mut family = exposition.family("a_total", Kind::Counter, "Things");
        family.value(3);
        family.sample(&Labels::new(&[("x", &"\\ \"q\"\n"), ("y", &7)]), 1.5);
        assert_eq!(
            exposition.into_text(),
            "# HELP a_total Things\n# TYPE a_total counter\na_total 3\n\
             a_total{x=\"\\\\ \\\"q\\\"\\n\",y=\"7\"} 1.5\n"
        );
    }

    #[test]
    fn a_histogram_goes_on_with_what_another_one_has_counted() {
        let before = Histogram::new([10, 1_000]);
        before.observe(Duration::from_millis(11));
        let after = Histogram::new([10, 1_000]);
        after.observe(Duration::from_millis(5));
        after.add(&before.counts());
        after.add(&[7]);
        assert_eq!(after.counts(), [1, 1, 0, 16_000]);
    }

    #[test]
    fn a_histograms_buckets_count_all_below_them() {
        let histogram = Histogram::new([10, 1_000]);
        for ms in [0, 10, 11, 1_000, 1_001, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut exposition = Exposition::default();
        exposition
            .family("h", Kind::Histogram, "H")
            .histogram(&Labels::new(&[("e", &"x")]), &histogram);
        let text = exposition.into_text();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "h_bucket{e=\"x\",le=\"0.01\"} 2",
                "h_bucket{e=\"x\",le=\"1\"} 4",
                "h_bucket{e=\"x\",le=\"+Inf\"} 6",
                "h_sum{e=\"x\"} 62.022",
                "h_count{e=\"x\"} 6",
            ]
        );
    }
}
