//! What is counted for metrics alone: pulls from origins.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::hand_over::HandOverError;
use crate::stream::{LegReport, MergedRelay, MergedRelayPart, lock};

/// A connection to an origin, or the attempt to make one.
#[derive(Debug, Clone)]
struct Leg {
    origin: String,
    state: &'static str,
    /// Number of pictures that it had been the first to bring before it came to this origin.
    former_pictures: u64,
}

/// The pull of one stream.
#[derive(Debug)]
struct StreamPull {
    legs: Vec<Leg>,
    /// What the legs bring, if there may be several.
    merged: Option<Arc<MergedRelay>>,
}

/// A connection to an origin, for reports.
#[derive(Debug, Clone)]
pub(crate) struct PullReport {
    pub(crate) origin: String,
    pub(crate) state: &'static str,
    /// What it brings, where the stream is pulled from several origins at once.
    pub(crate) leg: Option<LegReport>,
}

impl StreamPull {
    fn reports(&self) -> impl Iterator<Item = PullReport> {
        let legs = self.legs.iter().enumerate();
        legs.map(|(number, leg)| PullReport {
            origin: leg.origin.clone(),
            state: leg.state,
            leg: self.report(number),
        })
    }

    /// What a leg has brought of its present origin.
    fn report(&self, number: usize) -> Option<LegReport> {
        let mut report = self.merged.as_ref()?.report(number);
        report.pictures_first -= self.legs[number].former_pictures;
        Some(report)
    }
}

/// The pulls from origins, by stream.
#[derive(Debug, Default)]
pub(crate) struct Pulls {
    streams: Mutex<HashMap<u64, StreamPull>>,
    /// By origin the number of pictures that it was the first to bring, of connections that
    /// have ended or gone to another one.
    former_pictures: Mutex<BTreeMap<String, u64>>,
}

/// What is pulled from several origins at once, for the program that the process becomes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(in crate::server) struct MergedPullsPart {
    /// By the id of the stream.
    pub(in crate::server) streams: HashMap<u64, MergedPullPart>,
    pub(in crate::server) former_pictures: BTreeMap<String, u64>,
}

/// A stream of several origins.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct MergedPullPart {
    pub(in crate::server) relay: MergedRelayPart,
    /// Of each leg its origin, and the number of pictures that it had been the first to bring
    /// before it came there.
    pub(in crate::server) legs: Vec<(String, u64)>,
}

impl Pulls {
    /// What is pulled from several origins at once, for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn part(&self) -> Result<MergedPullsPart, HandOverError> {
        let mut part = MergedPullsPart {
            former_pictures: lock(&self.former_pictures).clone(),
            ..MergedPullsPart::default()
        };
        for (&id, pull) in lock(&self.streams).iter() {
            let Some(merged) = &pull.merged else { continue };
            let legs = pull.legs.iter();
            let legs = legs.map(|leg| (leg.origin.clone(), leg.former_pictures));
            let pull = MergedPullPart {
                relay: merged.part()?,
                legs: legs.collect(),
            };
            part.streams.insert(id, pull);
        }
        Ok(part)
    }

    /// Goes on counting where this process has been before.
    pub(super) fn take_over(&self, part: &MergedPullsPart) {
        lock(&self.former_pictures).clone_from(&part.former_pictures);
    }

    /// Nobody has listened to origins until `now`: that is no silence of theirs.
    pub(super) fn excuse_silence(&self, now: Instant) {
        for pull in lock(&self.streams).values() {
            if let Some(merged) = &pull.merged {
                merged.excuse_silence(now);
            }
        }
    }

    /// The stream number `id` is pulled by so many connections as there are `legs`: of each the
    /// origin, if it is known, and the number of pictures that it had brought first before.
    pub(super) fn begin(&self, id: u64, legs: &[(String, u64)], merged: Option<Arc<MergedRelay>>) {
        let legs = legs.iter().map(|(origin, former_pictures)| Leg {
            origin: origin.clone(),
            state: "connecting",
            former_pictures: *former_pictures,
        });
        let legs = legs.collect();
        self.remove(id);
        lock(&self.streams).insert(id, StreamPull { legs, merged });
    }

    /// The connection `leg` of the stream number `id` is in `state`, at or on its way to
    /// `origin`.
    pub(super) fn set(&self, id: u64, leg: usize, origin: &str, state: &'static str) {
        let mut streams = lock(&self.streams);
        let Some(pull) = streams.get_mut(&id) else {
            return;
        };
        if pull.legs[leg].origin != origin {
            self.retire(pull, leg);
            origin.clone_into(&mut pull.legs[leg].origin);
        }
        pull.legs[leg].state = state;
    }

    /// What a leg has brought of its present origin is counted among the former.
    fn retire(&self, pull: &mut StreamPull, number: usize) {
        let Some(report) = pull.report(number) else {
            return;
        };
        let leg = &mut pull.legs[number];
        leg.former_pictures += report.pictures_first;
        if report.pictures_first > 0 {
            let mut former = lock(&self.former_pictures);
            *former.entry(leg.origin.clone()).or_default() += report.pictures_first;
        }
    }

    /// By origin the number of pictures that it was the first to bring, of streams that are
    /// pulled from several origins at once.
    pub(crate) fn pictures_first(&self) -> BTreeMap<String, u64> {
        let streams = lock(&self.streams);
        let mut pictures = lock(&self.former_pictures).clone();
        for report in streams.values().flat_map(StreamPull::reports) {
            if let Some(leg) = report.leg {
                *pictures.entry(report.origin).or_default() += leg.pictures_first;
            }
        }
        pictures
    }

    /// Number of streams whose origins bring the same messages.
    pub(crate) fn aligned(&self) -> usize {
        let streams = lock(&self.streams);
        let is_aligned = |pull: &StreamPull| {
            let mut reports = pull.reports();
            reports.any(|report| report.leg.is_some_and(|leg| leg.is_aligned))
        };
        streams.values().filter(|pull| is_aligned(pull)).count()
    }

    /// The origin of the connection `leg` of the stream number `id`.
    pub(super) fn origin(&self, id: u64, leg: usize) -> String {
        let streams = lock(&self.streams);
        let leg = streams.get(&id).and_then(|pull| pull.legs.get(leg));
        leg.map(|leg| leg.origin.clone()).unwrap_or_default()
    }

    /// The stream number `id` is no longer pulled.
    pub(super) fn remove(&self, id: u64) {
        let mut streams = lock(&self.streams);
        if let Some(mut pull) = streams.remove(&id) {
            (0..pull.legs.len()).for_each(|leg| self.retire(&mut pull, leg));
        }
    }

    /// The connections by stream.
    pub(crate) fn list(&self) -> HashMap<u64, Vec<PullReport>> {
        let streams = lock(&self.streams);
        let streams = streams.iter();
        streams
            .map(|(&id, pull)| (id, pull.reports().collect()))
            .collect()
    }

    /// Number of connections by origin and state.
    pub(crate) fn counts(&self) -> BTreeMap<(String, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for pull in lock(&self.streams).values() {
            for leg in &pull.legs {
                *counts.entry((leg.origin.clone(), leg.state)).or_default() += 1;
            }
        }
        counts
    }
}
