//! Rates at which counters grow. No I/O; time is an argument.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::control::protocol::{RateHistory, Rates};
use lb_dataplane::{Statistics, Traffic};
use lb_model::ServiceKey;

/// Time over which a rate is measured.
pub(super) const WINDOW: Duration = Duration::from_secs(5);

/// Interval at which the counters are read.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// Interval of the samples of the history.
const HISTORY_INTERVAL: Duration = Duration::from_secs(5);

/// Number of samples that are kept: those of ten minutes.
const MAX_HISTORY: usize = 120;

/// Whose counters: a service's, or those of one of its servers.
type Counted = (ServiceKey, Option<SocketAddr>);

/// Readings of the counters over the last [`WINDOW`], and the rates of a longer time.
#[derive(Debug, Default)]
pub(super) struct Meter {
    readings: VecDeque<Reading>,
    /// Bits per second, the oldest first.
    history: HashMap<Counted, VecDeque<f64>>,
    /// Time of the newest sample of the history.
    sampled: Option<Instant>,
}

#[derive(Debug)]
struct Reading {
    at: Instant,
    traffic: HashMap<Counted, Traffic>,
}

impl Meter {
    /// Takes note of the counters, and forgets what is further back than the
    /// window.
    pub(super) fn record(&mut self, statistics: &Statistics, now: Instant) {
        let mut traffic = HashMap::new();
        for service in &statistics.services {
            let key = ServiceKey {
                protocol: service.protocol,
                address: service.address,
            };
            traffic.insert((key, None), service.traffic);
            for server in &service.servers {
                traffic.insert((key, Some(server.address)), server.traffic);
            }
        }
        self.readings.push_back(Reading { at: now, traffic });
        // The agent reads a little late at times; of two readings the rate can
        // always be told.
        let window = WINDOW + INTERVAL / 2;
        while self.readings.len() > 2 && now.saturating_duration_since(self.readings[0].at) > window
        {
            self.readings.pop_front();
        }
        let is_due = |last: Instant| now + INTERVAL / 2 >= last + HISTORY_INTERVAL;
        if self.sampled.is_none_or(is_due) {
            self.sampled = Some(now);
            self.sample();
        }
    }

    /// Adds the present rates to the history. What is counted no more is forgotten.
    fn sample(&mut self) {
        let Some(newest) = self.readings.back() else {
            return;
        };
        let counted: Vec<Counted> = newest.traffic.keys().copied().collect();
        let mut former = std::mem::take(&mut self.history);
        for counted in counted {
            let mut samples = former.remove(&counted).unwrap_or_default();
            if let Some(rates) = self.of(counted) {
                if samples.len() == MAX_HISTORY {
                    samples.pop_front();
                }
                samples.push_back(rates.bits_per_s);
            }
            self.history.insert(counted, samples);
        }
    }

    /// The rates of the last ten minutes, in a fixed order.
    pub(super) fn history(&self) -> Vec<RateHistory> {
        let mut all: Vec<_> = self.history.iter().collect();
        all.sort_by_key(|(counted, _)| **counted);
        let history = all
            .into_iter()
            .map(|((service, server), samples)| RateHistory {
                protocol: service.protocol,
                service: service.address,
                server: *server,
                bits_per_s: samples.iter().copied().collect(),
            });
        history.collect()
    }

    /// The rates of a service; `None` while it has not been read twice.
    pub(super) fn of_service(&self, service: ServiceKey) -> Option<Rates> {
        self.of((service, None))
    }

    /// The rates of a server within a service, in the same way.
    pub(super) fn of_server(&self, service: ServiceKey, server: SocketAddr) -> Option<Rates> {
        self.of((service, Some(server)))
    }

    fn of(&self, counted: Counted) -> Option<Rates> {
        let last = self.readings.back()?;
        let end = *last.traffic.get(&counted)?;
        // Counters that are less than later are those of what was there before
        // under the same name.
        let mut next = end;
        let (since, begin) = self
            .readings
            .iter()
            .rev()
            .skip(1)
            .map_while(|reading| {
                let traffic = *reading.traffic.get(&counted)?;
                let grows = traffic.connections <= next.connections
                    && traffic.packets_in <= next.packets_in
                    && traffic.bytes_in <= next.bytes_in;
                next = traffic;
                grows.then_some((reading.at, traffic))
            })
            .last()?;
        let seconds = last.at.saturating_duration_since(since).as_secs_f64();
        let per_second = |begin: u64, end: u64| tenths((end - begin) as f64 / seconds);
        (seconds > 0.0).then(|| Rates {
            connections_per_s: per_second(begin.connections, end.connections),
            packets_per_s: per_second(begin.packets_in, end.packets_in),
            bits_per_s: per_second(8 * begin.bytes_in, 8 * end.bytes_in),
        })
    }
}

/// More digits say nothing about traffic.
fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_dataplane::{ServerStatistics, ServiceStatistics};
    use lb_model::Protocol;

    const SERVER: ([u8; 4], u16) = ([172, 16, 1, 211], 1935);

    fn service() -> ServiceKey {
        ServiceKey {
            protocol: Protocol::Tcp,
            address: ([172, 16, 1, 200], 1935).into(),
        }
    }

    fn traffic(connections: u64) -> Traffic {
        Traffic {
            connections,
            packets_in: connections * 10,
            bytes_in: connections * 1000,
        }
    }

    /// A service that has had so many connections, and its server, if there.
    fn statistics(of_service: u64, of_server: Option<u64>) -> Statistics {
        let servers = of_server.map(|connections| ServerStatistics {
            address: SERVER.into(),
            traffic: traffic(connections),
            active_connections: 0,
            inactive_connections: 0,
            templates: 0,
            is_full: false,
        });
        Statistics {
            services: vec![ServiceStatistics {
                protocol: Protocol::Tcp,
                address: service().address,
                traffic: traffic(of_service),
                servers: servers.into_iter().collect(),
            }],
            reasons: Vec::new(),
        }
    }

    fn rates(connections_per_s: f64) -> Option<Rates> {
        Some(Rates {
            connections_per_s,
            packets_per_s: connections_per_s * 10.0,
            bits_per_s: connections_per_s * 8000.0,
        })
    }

    /// A meter that has read these, a second apart.
    fn meter(readings: &[(u64, Option<u64>)]) -> Meter {
        let start = Instant::now();
        let mut meter = Meter::default();
        for (second, (of_service, of_server)) in (0..).zip(readings) {
            let now = start + INTERVAL * second;
            meter.record(&statistics(*of_service, *of_server), now);
        }
        meter
    }

    #[test]
    fn a_rate_takes_two_readings() {
        let one = meter(&[(1_000_000, Some(1_000_000))]);
        assert_eq!(one.of_service(service()), None);
        assert_eq!(one.of_server(service(), SERVER.into()), None);
        let two = meter(&[(1_000_000, Some(1_000_000)), (1_000_040, Some(1_000_030))]);
        assert_eq!(two.of_service(service()), rates(40.0));
        assert_eq!(two.of_server(service(), SERVER.into()), rates(30.0));
        let other = ([172, 16, 1, 212], 1935).into();
        assert_eq!(two.of_server(service(), other), None);
    }

    #[test]
    fn what_is_further_back_than_the_window_does_not_count() {
        // A burst in the first second, then 10 per second.
        let counts = [0, 1000].into_iter().chain((101..=105).map(|n| n * 10));
        let readings: Vec<_> = counts.map(|count| (count, None)).collect();
        assert_eq!(meter(&readings[..6]).of_service(service()), rates(208.0));
        assert_eq!(meter(&readings).of_service(service()), rates(10.0));
        assert_eq!(meter(&readings).readings.len(), 6);
    }

    #[test]
    fn rates_are_kept_for_ten_minutes_of_what_is_there() {
        let start = Instant::now();
        let mut meter = Meter::default();
        for second in 0..700 {
            let server = (second < 650).then_some(second * 10);
            let now = start + Duration::from_secs(second);
            meter.record(&statistics(second * 10, server), now);
        }
        let history = meter.history();
        assert_eq!(history.len(), 1, "{history:?}");
        assert_eq!(history[0].server, None);
        assert_eq!(history[0].bits_per_s, [80_000.0; MAX_HISTORY]);
    }

    #[test]
    fn a_late_reading_counts_with_the_time_that_it_took() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.record(&statistics(0, None), start);
        let late = start + WINDOW * 4;
        meter.record(&statistics(100, None), late);
        assert_eq!(meter.of_service(service()), rates(5.0));
    }

    #[test]
    fn a_server_that_has_left_and_come_back_begins_anew() {
        let gone_and_back = [
            (100, Some(100)),
            (110, None),
            (130, Some(5)),
            (150, Some(25)),
        ];
        let meter_with_gap = meter(&gone_and_back);
        assert_eq!(
            meter_with_gap.of_server(service(), SERVER.into()),
            rates(20.0)
        );
        let at_once = [(100, Some(100)), (130, Some(5)), (150, Some(25))];
        assert_eq!(
            meter(&at_once).of_server(service(), SERVER.into()),
            rates(20.0)
        );
        assert_eq!(meter(&at_once).of_service(service()), rates(25.0));
    }
}
