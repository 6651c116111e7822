//! The load of this server: what it sends, what it may send, and if one more viewer fits.
//!
//! What is sent is measured every [`INTERVAL`], where somebody wants to know: the directive
//! `admission`, or a director that asks the HTTP API. Viewers that have been let in and are
//! not in the measurement yet have their stream's bit rate reserved.

mod link;
mod rate;
mod reserved;
mod unpublished;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use self::link::Link;
use self::rate::Rate;
use self::reserved::{Fading, Reserved};
use self::unpublished::{Place, Unpublished};
use super::Server;
use crate::config::{Action, Capacity, Config};
use crate::hand_over::monotonic;
use crate::stream::lock;

/// Interval of the measurements.
const INTERVAL: Duration = Duration::from_millis(250);
/// Time constant of the averages: longer than `mw_latency` and most groups of pictures, which
/// are sent in bursts.
const SMOOTHING: Duration = Duration::from_secs(3);
/// Time after which the bit rate of a stream is known.
const MIN_MEASURED: Duration = Duration::from_secs(2);
/// A server that sends less than this part of its limit lets a viewer in whose stream it does
/// not know.
const IDLE_PART: u64 = 10;
/// Time after which nobody is measured for that has asked.
const ASKED_FOR: Duration = Duration::from_secs(60);
/// Time after which a viewer without room may ask again, in seconds.
pub(in crate::server) const RETRY_AFTER_S: u32 = 5;

/// A frame of TCP with IPv4, time stamps and Ethernet has so many bytes, of which so many
/// are the stream's.
const FRAME_BYTES: u64 = 1_514;
const PAYLOAD_BYTES: u64 = 1_448;

/// What a server sends and may send.
#[derive(Debug, Default)]
pub(crate) struct Load(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What is sent: over `link`, by whomever; by this server where there is none.
    sent: Rate,
    link: Option<Link>,
    /// The bit rates of streams, by number.
    streams: HashMap<u64, Rate>,
    reserved: Reserved,
    /// The same for streams that nobody publishes yet: they are not in `reserved`.
    unpublished: Unpublished,
    /// Time when somebody has last asked.
    asked: Option<Instant>,
    /// The log has said that the capacity is not known.
    has_warned: bool,
}

/// The load for the program that the process becomes: its first viewers would have all of the
/// room otherwise.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LoadPart {
    sent: Rate,
    link: Option<Link>,
    streams: HashMap<u64, Rate>,
    reserved: Fading,
    #[serde(with = "monotonic")]
    at: Instant,
    #[serde(with = "monotonic")]
    asked: Option<Instant>,
}

/// The load at one moment. Rates are in bit/s, with the headers of TCP, IP and Ethernet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LoadReport {
    /// What is sent, as it was lately on average.
    pub(crate) average: u64,
    /// What was sent within the last interval.
    pub(crate) now: u64,
    /// What viewers will take that are not in the average yet.
    pub(crate) reserved: u64,
    /// What can be sent; `None` where it is not known.
    pub(crate) capacity: Option<u64>,
    /// What viewers may take of it.
    pub(crate) limit: Option<u64>,
    /// The interface whose capacity it is; `None` where a rate is configured.
    pub(crate) interface: Option<String>,
}

/// There is no room for one more viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// What is taken, what the viewer would take, and what viewers may take, bit/s.
    pub(super) used: u64,
    pub(super) wanted: u64,
    pub(super) limit: u64,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [used, wanted, limit] =
            [self.used, self.wanted, self.limit].map(|rate| rate as f64 / 1e6);
        write!(
            f,
            "the server is full: {used:.1} of {limit:.1} Mbit/s are taken, {wanted:.1} are wanted \
             (`admission`)"
        )
    }
}

/// The bit rate that is kept for a viewer until it is measured.
#[derive(Debug)]
pub(super) struct Reservation {
    load: Arc<Load>,
    rate: f64,
    /// Where it waits, or has waited, for a publisher.
    place: Option<Place>,
    /// Time when it has begun to be sent; `None` before.
    begun: Mutex<Option<Instant>>,
}

/// What asks to be let in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Applicant {
    pub(super) action: Action,
    /// True for a server that pulls the stream, or forwards a publish.
    pub(super) is_relay: bool,
    /// The stream's number.
    pub(super) stream: u64,
    /// True if there is something to play.
    pub(super) is_published: bool,
}

impl Load {
    /// Lets `applicant` in if there is room; `Ok(None)`: it takes none that counts.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn admit(
        self: &Arc<Self>,
        config: &Config,
        applicant: Applicant,
        now: Instant,
    ) -> Result<Option<Reservation>, Full> {
        if !config.limits_viewers() {
            return Ok(None);
        }
        let admission = &config.admission;
        let plays = applicant.action == Action::Play;
        let is_refused = match plays {
            true => admission.relays || !applicant.is_relay,
            false => admission.publishers,
        };
        if !plays && !is_refused {
            return Ok(None);
        }
        let state = &mut *lock(&self.0);
        let reserve = admission.reserve as f64;
        let mut is_guess = false;
        let mut guess = |rate: f64| {
            is_guess = true;
            rate
        };
        let wanted = match state.streams.get(&applicant.stream) {
            _ if !plays => 0.0,
            None => guess(reserve),
            Some(rate) if rate.average() == 0.0 => guess(reserve),
            Some(rate) if rate.measured_for() < MIN_MEASURED => guess(rate.average().max(reserve)),
            Some(rate) => rate.average(),
        };
        if applicant.is_published {
            state.publish(applicant.stream);
        }
        let report = state.report(config, now);
        if let Some(limit) = report.limit.filter(|_| is_refused) {
            let waiting = state.unpublished.rate(applicant.stream) as u64;
            let used = report.average + report.reserved + waiting;
            // Publishers take nothing themselves: they are refused where nobody could watch.
            // A guess that is too high would keep the first viewer out for ever.
            let is_idle = is_guess && used < limit / IDLE_PART;
            if !is_idle && used + (wanted as u64).max(1) > limit {
                return Err(Full {
                    used,
                    wanted: wanted as u64,
                    limit,
                });
            }
        }
        if !plays {
            return Ok(None);
        }
        let place = match applicant.is_published {
            true => {
                state.reserved.add(wanted);
                None
            }
            false => Some(state.unpublished.add(applicant.stream, wanted)),
        };
        Ok(Some(Reservation {
            load: self.clone(),
            rate: wanted,
            place,
            begun: Mutex::default(),
        }))
    }

    /// The load, for somebody who is likely to ask again.
    pub(crate) fn ask(&self, config: &Config, now: Instant) -> LoadReport {
        let state = &mut *lock(&self.0);
        state.asked = Some(now);
        state.report(config, now)
    }

    /// True if what is sent has been measured lately.
    pub(crate) fn is_measured(&self, now: Instant) -> bool {
        let state = lock(&self.0);
        let measured = state.sent.measured();
        measured.is_some_and(|at| now.saturating_duration_since(at) < 2 * INTERVAL)
    }

    /// The load at `now` for the program that the process becomes.
    pub(super) fn part(&self, now: Instant) -> LoadPart {
        let state = &mut *lock(&self.0);
        LoadPart {
            sent: state.sent,
            link: state.link.clone(),
            streams: state.streams.clone(),
            reserved: state.reserved.part(SMOOTHING, now),
            at: now,
            asked: state.asked,
        }
    }

    /// Goes on with what has been measured before.
    pub(super) fn take_over(&self, part: LoadPart) {
        let state = &mut *lock(&self.0);
        (state.sent, state.link, state.streams) = (part.sent, part.link, part.streams);
        state.reserved.take_over(part.reserved, part.at);
        state.asked = part.asked;
    }

    fn is_wanted(&self, config: &Config, now: Instant) -> bool {
        let asked = lock(&self.0).asked;
        let is_asked = asked.is_some_and(|at| now.saturating_duration_since(at) < ASKED_FOR);
        is_asked || config.limits_viewers()
    }

    /// Measures, once.
    fn measure(&self, server: &Server) {
        let config = server.config();
        let link = Link::read(config.capacity.as_ref().unwrap_or(&Capacity::Auto));
        let sent = match &link {
            Some(link) => link.sent_bytes,
            None => on_the_wire(server.clients().totals().sent),
        };
        let streams = server.streams();
        let now = Instant::now();
        let state = &mut *lock(&self.0);
        let name = |link: &Option<Link>| link.as_ref().map(|link| link.name.clone());
        if name(&state.link) != name(&link) {
            state.sent = Rate::default();
        }
        state.link = link;
        state.warn_if_unknown(&config);
        state.sent.observe(sent, SMOOTHING, now);
        let mut known = std::mem::take(&mut state.streams);
        for stream in &streams {
            let bytes = stream.totals().bytes_in.load(Ordering::Relaxed);
            let mut rate = known.remove(&stream.id()).unwrap_or_default();
            rate.observe(on_the_wire(bytes), SMOOTHING, now);
            state.streams.insert(stream.id(), rate);
            if stream.is_playable() {
                state.publish(stream.id());
            }
        }
    }
}

impl State {
    /// There is something to play in `stream`: what is reserved for it counts for all.
    fn publish(&mut self, stream: u64) {
        if let Some((rate, viewers)) = self.unpublished.publish(stream) {
            self.reserved.add_all(rate, viewers);
        }
    }

    /// Takes a reservation out of those that wait for a publisher; false if it is none of them.
    fn leave(&mut self, reservation: &Reservation) -> bool {
        let place = reservation.place;
        place.is_some_and(|place| self.unpublished.remove(place, reservation.rate))
    }

    /// Says, once, that nobody is refused for want of a capacity.
    fn warn_if_unknown(&mut self, config: &Config) {
        let speed = self.link.as_ref().and_then(|link| link.speed);
        let is_rate = matches!(config.capacity, Some(Capacity::Rate(_)));
        let is_unknown = config.limits_viewers() && !is_rate && speed.is_none();
        if is_unknown && !self.has_warned {
            let link = self.link.as_ref().map_or(
                "no interface has the default route",
                |_| "the kernel does not know the speed of the interface",
            );
            log::warn!(
                "`admission` refuses nobody: {link}; set `capacity` to a rate such as `10g`"
            );
        }
        self.has_warned = is_unknown;
    }

    fn report(&mut self, config: &Config, now: Instant) -> LoadReport {
        let capacity = match &config.capacity {
            Some(Capacity::Rate(rate)) => Some(*rate),
            _ => self.link.as_ref().and_then(|link| link.speed),
        };
        let part = match config.limits_viewers() {
            true => config.admission.limit / 100.0,
            false => 1.0,
        };
        LoadReport {
            average: self.sent.average() as u64,
            now: self.sent.now() as u64,
            reserved: self.reserved.rate(SMOOTHING, now) as u64,
            capacity,
            limit: capacity.map(|capacity| (capacity as f64 * part) as u64),
            interface: self.link.as_ref().map(|link| link.name.clone()),
        }
    }
}

impl LoadReport {
    /// What viewers may take beyond what they have and what is reserved, bit/s; `None` where
    /// it is not known.
    pub(crate) fn room(&self) -> Option<u64> {
        let limit = self.limit?;
        Some(limit.saturating_sub(self.average + self.reserved))
    }
}

impl Reservation {
    /// The viewer begins to be sent its stream.
    pub(super) fn begin(&self) {
        let now = Instant::now();
        let begun = &mut *lock(&self.begun);
        if begun.replace(now).is_none() {
            let state = &mut *lock(&self.load.0);
            // The measurement that would have seen the publisher is still to come.
            if state.leave(self) {
                state.reserved.add(self.rate);
            }
            state.reserved.begin(self.rate, SMOOTHING, now);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let begun = *lock(&self.begun);
        let state = &mut *lock(&self.load.0);
        if !state.leave(self) {
            let now = Instant::now();
            state.reserved.remove(self.rate, begun, SMOOTHING, now);
        }
    }
}

/// Bytes of frames that so many bytes of streams are sent in.
fn on_the_wire(bytes: u64) -> u64 {
    bytes + bytes / PAYLOAD_BYTES * (FRAME_BYTES - PAYLOAD_BYTES)
}

/// Measures as long as somebody wants to know, until it is dropped.
pub(super) async fn run(server: Arc<Server>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // What has been sent before is counted then.
    server.safepoint.running().await;
    loop {
        interval.tick().await;
        if server.load.is_wanted(&server.config(), Instant::now()) {
            measure(&server).await;
        }
    }
}

/// The load, measured anew if that was not done lately.
pub(crate) async fn report(server: &Arc<Server>) -> LoadReport {
    let config = server.config();
    if !server.load.is_measured(Instant::now()) {
        measure(server).await;
        tokio::time::sleep(INTERVAL).await;
        measure(server).await;
    }
    server.load.ask(&config, Instant::now())
}

/// Measures in a thread that may take its time: with thousands of connections, that is
/// milliseconds.
async fn measure(server: &Arc<Server>) {
    let server = server.clone();
    let measured = spawn_blocking(move || server.load.measure(&server)).await;
    if let Err(error) = measured {
        log::error!("the load cannot be measured: {error}");
    }
}

#[cfg(test)]
mod tests;
