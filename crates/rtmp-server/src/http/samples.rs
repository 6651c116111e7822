//! What is sampled: counters, for rates over 30 seconds; the lag of players, for a
//! histogram; the time of processors.
//!
//! One task takes a sample of everything, so that a connection needs no timer and nothing
//! on the way of a message.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use super::Api;
use super::snapshot::Totals;
use super::system::CpuTimes;
use crate::server::Server;
use crate::stream::fanout::{GroupReport, Standing};
use crate::stream::lock;

/// Interval of the samples.
const INTERVAL: Duration = Duration::from_secs(5);
/// Number of samples that are kept: the oldest is about 30 s older than now.
const KEPT: usize = 7;

/// Bytes that a connection or a stream has received and sent by a certain moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) id: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// All counters at one moment, in the order of the ids.
#[derive(Debug)]
pub(super) struct Sample {
    at: Instant,
    clients: Vec<Bytes>,
    streams: Vec<Bytes>,
    cpu: CpuTimes,
}

/// `kbps` of SRS: kilobits a second over the last 30 s.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Rates {
    pub(super) recv_30s: u64,
    pub(super) send_30s: u64,
}

impl Rates {
    /// The rates of what has been transferred in `duration`.
    fn of(received: u64, sent: u64, duration: Duration) -> Self {
        let kbps = |bytes: u64| {
            let ms = duration.as_millis().max(1);
            u64::try_from(u128::from(bytes) * 8 / ms).unwrap_or(u64::MAX)
        };
        Self {
            recv_30s: kbps(received),
            send_30s: kbps(sent),
        }
    }
}

impl std::ops::Add for Rates {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            recv_30s: self.recv_30s + other.recv_30s,
            send_30s: self.send_30s + other.send_30s,
        }
    }
}

impl Sample {
    fn take(server: &Server) -> Self {
        let totals = Totals::take(server);
        let clients = totals.clients.iter().map(|client| Bytes {
            id: client.id,
            received: client.received.load(Ordering::Relaxed),
            sent: client.meter.bytes.load(Ordering::Relaxed),
        });
        let streams = totals.streams.iter().map(|stream| totals.bytes_of(stream));
        let mut streams: Vec<_> = streams.collect();
        streams.sort_unstable_by_key(|bytes| bytes.id);
        Self {
            at: Instant::now(),
            clients: clients.collect(),
            streams,
            cpu: CpuTimes::read(),
        }
    }

    /// Rates of the connection that has transferred `now`, and was accepted `age` ago.
    pub(super) fn rates_of_client(&self, now: Bytes, age: Duration) -> Rates {
        rates(&self.clients, now, age.min(self.at.elapsed()))
    }

    /// Rates of the stream that has transferred `now`.
    pub(super) fn rates_of_stream(&self, now: Bytes) -> Rates {
        rates(&self.streams, now, self.at.elapsed())
    }

    /// Time of processors up to this sample.
    pub(super) fn cpu(&self) -> &CpuTimes {
        &self.cpu
    }
}

/// Rates since `earlier`, `duration` ago. What is not among these began later, with
/// nothing.
fn rates(earlier: &[Bytes], now: Bytes, duration: Duration) -> Rates {
    let known = earlier.binary_search_by_key(&now.id, |bytes| bytes.id);
    let (received, sent) = known.map_or((0, 0), |position| {
        (earlier[position].received, earlier[position].sent)
    });
    let received = now.received.saturating_sub(received);
    Rates::of(received, now.sent.saturating_sub(sent), duration)
}

/// The samples.
pub(super) struct Samples {
    kept: Mutex<VecDeque<Arc<Sample>>>,
    /// By stream, the greatest lag of its players at the last sample.
    lags_ms: Mutex<Arc<HashMap<u64, u64>>>,
    /// Lag that 99 of 100 players did not pass at the last sample.
    lag_p99_ms: AtomicU64,
    /// Players that waited for a keyframe at the last sample.
    pub(super) waiting: AtomicUsize,
    /// Players that had paused at the last sample.
    pub(super) paused: AtomicUsize,
}

impl Samples {
    /// One sample.
    pub(super) fn new(server: &Server) -> Self {
        Self {
            kept: Mutex::new(VecDeque::from([Arc::new(Sample::take(server))])),
            lags_ms: Mutex::default(),
            lag_p99_ms: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            paused: AtomicUsize::new(0),
        }
    }

    /// The oldest sample that is kept.
    pub(super) fn oldest(&self) -> Arc<Sample> {
        let kept = lock(&self.kept);
        kept.front().expect("there is one from the start").clone()
    }

    /// The sample before the last one.
    pub(super) fn recent(&self) -> Arc<Sample> {
        let kept = lock(&self.kept);
        kept[kept.len().saturating_sub(2)].clone()
    }

    /// Lag that 99 of 100 players do not pass, in ms; those that wait or have paused have none.
    pub(super) fn lag_p99_ms(&self) -> u64 {
        self.lag_p99_ms.load(Ordering::Relaxed)
    }

    /// By stream, the greatest lag of its players.
    pub(super) fn lags_ms(&self) -> Arc<HashMap<u64, u64>> {
        lock(&self.lags_ms).clone()
    }

    fn add(&self, sample: Sample) {
        let mut kept = lock(&self.kept);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::new(sample));
    }

    /// Counts where all players stand.
    fn observe(&self, server: &Server, groups: &[GroupReport]) {
        let now = Instant::now();
        let (mut waiting, mut paused) = (0, 0);
        let mut lags_ms = HashMap::<_, u64>::new();
        let mut all_ms = Vec::new();
        for group in groups {
            let greatest = lags_ms.entry(group.stream.id()).or_default();
            for player in group.lags(now) {
                match player.standing {
                    Standing::Following(_) => {
                        let lag = player.lag.unwrap_or_default();
                        server.lag_times().observe(lag);
                        *greatest = (*greatest).max(lag.as_millis() as u64);
                        all_ms.push(lag.as_millis() as u64);
                    }
                    Standing::Waiting => waiting += 1,
                    Standing::Paused => paused += 1,
                }
            }
        }
        self.lag_p99_ms
            .store(percentile_99(all_ms), Ordering::Relaxed);
        *lock(&self.lags_ms) = Arc::new(lags_ms);
        self.waiting.store(waiting, Ordering::Relaxed);
        self.paused.store(paused, Ordering::Relaxed);
    }
}

/// The number that 99 of 100 of `numbers` do not pass; 0 if there is none.
fn percentile_99(mut numbers: Vec<u64>) -> u64 {
    let Some(last) = numbers.len().checked_sub(1) else {
        return 0;
    };
    let rank = (numbers.len() * 99)
        .div_ceil(100)
        .saturating_sub(1)
        .min(last);
    *numbers.select_nth_unstable(rank).1
}

/// Takes samples until it is dropped.
pub(super) async fn run(api: Arc<Api>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is at once, and there is a sample already.
    interval.tick().await;
    loop {
        interval.tick().await;
        let groups = api.server.report_players().await;
        let api = api.clone();
        let sampled = spawn_blocking(move || {
            api.samples.observe(&api.server, &groups);
            api.samples.add(Sample::take(&api.server));
        });
        if let Err(error) = sampled.await {
            log::error!("the HTTP API has no sample of its counters: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_percentile_leaves_one_of_a_hundred_out() {
        assert_eq!(percentile_99(Vec::new()), 0);
        assert_eq!(percentile_99(vec![7]), 7);
        assert_eq!(percentile_99((1..=100).rev().collect()), 99);
        assert_eq!(percentile_99((1..=1_000).collect()), 990);
    }

    #[test]
    fn rates_are_of_what_came_since_the_sample() {
        let bytes = |id, received, sent| Bytes { id, received, sent };
        let earlier = [bytes(1, 1_000, 0), bytes(3, 0, 500_000)];
        let seconds = Duration::from_secs;
        for (now, duration, recv_30s, send_30s) in [
            (bytes(1, 5_000, 0), seconds(32), 1, 0),
            (bytes(3, 0, 4_500_000), seconds(32), 0, 1_000),
            // One that has come since.
            (bytes(2, 125_000, 0), seconds(1), 1_000, 0),
            (bytes(2, 0, 0), seconds(0), 0, 0),
        ] {
            let expected = Rates { recv_30s, send_30s };
            assert_eq!(rates(&earlier, now, duration), expected, "{now:?}");
        }
    }
}
