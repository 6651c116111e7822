//! A stream that is relayed from several origins at once.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Merge, MergeSettings, Output};
use crate::stream::publication::{AppendError, Publication};
use crate::stream::{MediaMessage, Source, Stream, lock};

/// What one origin brings to a stream, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LegReport {
    /// It has brought the newest message.
    pub(crate) leads: bool,
    /// It brings the same messages as another one.
    pub(crate) is_aligned: bool,
    /// Number of pictures that it was the first to bring.
    pub(crate) pictures_first: u64,
}

/// A stream that several origins bring at once: one publication of what they bring first.
#[derive(Debug)]
pub(crate) struct MergedRelay {
    pub(super) stream: Arc<Stream>,
    pub(super) on_air: Mutex<OnAir>,
}

/// The publication, and who brings it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OnAir {
    pub(super) merge: Merge,
    /// What can be expected of each origin.
    sources: Vec<Source>,
    /// The number of each leg's present connection, if it has one: what another one brings
    /// comes too late.
    pub(super) connections: Vec<Option<u64>>,
    /// Number of connections so far.
    joined: u64,
    /// None while no origin brings anything. Written apart.
    #[serde(skip)]
    pub(super) publication: Option<Publication>,
    /// What has become of legs since it was last told.
    changes: Vec<(usize, LegChange)>,
    /// Number of publications that could not go on.
    lost: u64,
}

/// What has become of a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LegChange {
    /// It brings what is on air, too.
    Merged,
    /// It brings something else.
    Parted,
    /// It brings what is on air, too, but too late.
    Late,
    /// It goes on air in place of the others.
    TookOver,
}

impl LegChange {
    /// What it means, for the log.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Merged => "brings the same messages: each is taken from whoever brings it first",
            Self::Parted => "brings other messages than are on air: it waits beside them",
            Self::Late => "is seconds behind what is on air: it waits beside the others",
            Self::TookOver => "goes on air, as the others have ended, are silent or bring a slate",
        }
    }
}

/// One origin's part in a [`MergedRelay`]; dropped, its connection has ended.
#[derive(Debug)]
pub(crate) struct LegPublication {
    pub(super) relay: Arc<MergedRelay>,
    pub(super) leg: usize,
    /// The number of the connection.
    pub(super) number: u64,
    /// Number of publications that had been lost when its origin was asked. Once another one
    /// is, what its origin sent before that is missing, headers above all.
    pub(super) lost: u64,
}

impl MergedRelay {
    /// `stream`, relayed from `legs` origins at once.
    pub(crate) fn new(stream: Arc<Stream>, legs: usize) -> Arc<Self> {
        Arc::new(Self {
            stream,
            on_air: Mutex::new(OnAir {
                merge: Merge::new(legs),
                sources: vec![Source::OriginWithoutPublicationMarks; legs],
                connections: vec![None; legs],
                joined: 0,
                publication: None,
                changes: Vec::new(),
                lost: 0,
            }),
        })
    }

    /// The origin of the leg numbered `leg` is about to send. `origin` says what can be
    /// expected of it.
    pub(crate) fn join(self: &Arc<Self>, leg: usize, origin: Source) -> LegPublication {
        let settings = self.settings();
        let mut on_air = lock(&self.on_air);
        // Its former connection may be dropped only later: it has ended nevertheless.
        if on_air.connections[leg].is_some() {
            on_air.leave(&self.stream, leg, &settings, Instant::now());
        }
        on_air.joined += 1;
        on_air.connections[leg] = Some(on_air.joined);
        on_air.sources[leg] = origin;
        LegPublication {
            relay: self.clone(),
            leg,
            number: on_air.joined,
            lost: on_air.lost,
        }
    }

    /// What the leg numbered `leg` brings.
    pub(crate) fn report(&self, leg: usize) -> LegReport {
        let merge = &lock(&self.on_air).merge;
        LegReport {
            leads: merge.leader() == Some(leg),
            is_aligned: merge.is_aligned(leg),
            pictures_first: merge.pictures_first(leg),
        }
    }

    /// Nobody has listened to the origins until `now`: that is no silence of theirs.
    pub(crate) fn excuse_silence(&self, now: Instant) {
        lock(&self.on_air).merge.excuse_silence(now);
    }

    pub(super) fn settings(&self) -> MergeSettings {
        MergeSettings {
            standby_after: lock(&self.stream.publishers).turns.standby_after,
            keyframe_timeout: self.stream.keyframe_timeout(),
        }
    }
}

impl OnAir {
    /// Carries out what a leg's messages have brought about.
    fn carry_out(
        &mut self,
        stream: &Arc<Stream>,
        leg: usize,
        outputs: Vec<Output>,
        now: Instant,
    ) -> Result<(), AppendError> {
        let mut batch: Vec<MediaMessage> = Vec::new();
        for output in outputs {
            if !matches!(output, Output::Take(_)) {
                self.append(&mut batch, now)?;
            }
            match output {
                Output::Take(message) => batch.push(message),
                Output::Begin => {
                    // The former one would be in the way of the new.
                    drop(self.publication.take());
                    self.publication = Some(stream.relay(self.sources[leg], now)?);
                }
                Output::NewPublication => {
                    if let Some(publication) = &mut self.publication {
                        publication.start_new_publication();
                    }
                }
                Output::TakeOver { leg, parts } => {
                    self.changes.push((leg, LegChange::TookOver));
                    if let Some(publication) = &mut self.publication {
                        publication.go_on_with(self.sources[leg], *parts, now)?;
                    }
                }
                Output::Merged(leg) => self.changes.push((leg, LegChange::Merged)),
                Output::Parted(leg) => self.changes.push((leg, LegChange::Parted)),
                Output::Late(leg) => self.changes.push((leg, LegChange::Late)),
            }
        }
        self.append(&mut batch, now)
    }

    /// Has `change` happen to a leg. If the publication cannot go on, it is lost.
    fn change(
        &mut self,
        stream: &Arc<Stream>,
        leg: usize,
        now: Instant,
        change: impl FnOnce(&mut Merge, usize, &mut Vec<Output>),
    ) -> Result<(), AppendError> {
        let mut outputs = Vec::new();
        change(&mut self.merge, leg, &mut outputs);
        let done = self.carry_out(stream, leg, outputs, now);
        if done.is_err() {
            self.publication = None;
            self.merge.reset();
            self.lost += 1;
        }
        done
    }

    /// The leg's connection has ended.
    pub(super) fn leave(
        &mut self,
        stream: &Arc<Stream>,
        leg: usize,
        settings: &MergeSettings,
        now: Instant,
    ) {
        self.connections[leg] = None;
        // The publication ends below if it cannot go on: nobody is left to be told.
        let _ = self.change(stream, leg, now, |merge, leg, outputs| {
            merge.leave(leg, now, settings, outputs);
        });
        if self.merge.is_over() {
            self.publication = None;
        }
    }

    fn append(&mut self, batch: &mut Vec<MediaMessage>, now: Instant) -> Result<(), AppendError> {
        if let Some(publication) = self.publication.as_mut().filter(|_| !batch.is_empty()) {
            publication.append(batch, now)?;
            batch.clear();
        }
        Ok(())
    }
}

impl LegPublication {
    /// Takes what one read from the origin has brought.
    ///
    /// # Errors
    /// As [`Publication::append`].
    pub(crate) fn append(
        &mut self,
        messages: &[MediaMessage],
        now: Instant,
    ) -> Result<(), AppendError> {
        let settings = self.relay.settings();
        self.change(now, |merge, leg, outputs| {
            for message in messages {
                merge.take(leg, message, now, &settings, outputs);
            }
        })
    }

    /// The origin goes over to another publication.
    ///
    /// # Errors
    /// As [`Publication::append`].
    pub(crate) fn start_new_publication(&mut self, now: Instant) -> Result<(), AppendError> {
        self.change(now, |merge, leg, outputs| {
            merge.start_new_publication(leg, outputs);
        })
    }

    fn change(
        &self,
        now: Instant,
        change: impl FnOnce(&mut Merge, usize, &mut Vec<Output>),
    ) -> Result<(), AppendError> {
        let mut on_air = lock(&self.relay.on_air);
        let is_present = on_air.connections[self.leg] == Some(self.number);
        if on_air.lost != self.lost || !is_present {
            return Err(AppendError::Ended);
        }
        on_air.change(&self.relay.stream, self.leg, now, change)
    }

    /// What has become of legs since it was last told, by their numbers: when one of them
    /// ends, the next that sends something is told.
    pub(crate) fn take_changes(&self) -> Vec<(usize, LegChange)> {
        std::mem::take(&mut lock(&self.relay.on_air).changes)
    }
}

impl Drop for LegPublication {
    fn drop(&mut self) {
        let settings = self.relay.settings();
        let mut on_air = lock(&self.relay.on_air);
        // Another one may have taken its place.
        if on_air.connections[self.leg] == Some(self.number) {
            on_air.leave(&self.relay.stream, self.leg, &settings, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use rtmp_proto::session::StreamKey;
    use rtmp_proto::wire::{Message, MessageType};

    use super::*;
    use crate::hand_over::Blob;
    use crate::stream::merge::MergedRelayPart;
    use crate::stream::{Registry, StreamSettings, Wakers};

    fn keyframe(timestamp: u32) -> [MediaMessage; 1] {
        let message = Message {
            timestamp,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: vec![0x17, 1, 0, 0, 0, 1].into(),
        };
        [message.into()]
    }

    fn stream() -> Arc<Stream> {
        let now = Instant::now();
        let registry = Registry::new(Wakers::new(1).unwrap(), u64::MAX, now);
        let key = StreamKey {
            vhost: String::new(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        registry.obtain(&key, &StreamSettings::of_tests(), now)
    }

    #[test]
    fn a_connection_that_is_dropped_late_does_not_end_the_one_after_it() {
        let now = Instant::now();
        let stream = stream();
        let relay = MergedRelay::new(stream.clone(), 2);
        let source = Source::OriginWithoutPublicationMarks;
        let mut former = relay.join(0, source);
        former.append(&keyframe(0), now).unwrap();
        let mut present = relay.join(0, source);
        present.append(&keyframe(40), now).unwrap();
        assert!(former.append(&keyframe(80), now).is_err(), "it is over");
        drop(former);
        assert!(stream.is_published());
        present.append(&keyframe(80), now).unwrap();
        assert!(relay.report(0).leads);
        drop(present);
        assert!(!stream.is_published());
    }

    #[test]
    fn another_program_goes_on_with_the_legs_whose_connections_it_has() {
        let now = Instant::now();
        let stream = stream();
        let relay = MergedRelay::new(stream.clone(), 2);
        let legs = [0, 1].map(|leg| {
            let mut leg = relay.join(leg, Source::OriginWithoutPublicationMarks);
            leg.append(&keyframe(0), now).unwrap();
            leg.append(&keyframe(40), now).unwrap();
            leg
        });
        let [mut first, second] = legs;
        first.append(&keyframe(80), now).unwrap();
        let part = Blob::of(&relay.part().unwrap()).unwrap();
        let part: MergedRelayPart = part.read().unwrap();
        part.check().unwrap();
        let written = [&first, &second].map(|leg| leg.part().unwrap());
        // Nothing of them ends.
        std::mem::forget((relay, first, second));

        assert!(MergedRelay::take_over(&part, &stream, 3).is_err());
        assert!(stream.is_published(), "it has not been taken over");
        let relay = MergedRelay::take_over(&part, &stream, 2).unwrap();
        assert!(relay.report(1).is_aligned);
        let publication = relay.publication();
        let mut leg = relay.resume(1, &written[1]).unwrap();
        relay.end_legs_but(&[1]);
        assert!(!relay.report(1).is_aligned);
        assert!(relay.resume(0, &written[0]).is_err(), "it has ended");
        for timestamp in [80, 120] {
            leg.append(&keyframe(timestamp), now).unwrap();
        }
        let firsts = [0, 1].map(|leg| relay.report(leg).pictures_first);
        assert_eq!(firsts, [3, 1], "one had come");
        assert_eq!(relay.publication(), publication);
        drop(leg);
        assert!(!stream.is_published());
    }
}
