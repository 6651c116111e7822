//! One stream that several origins bring at once: each message is taken from whoever brings
//! it first, so that nothing is missed when one of them dies (as SMPTE ST 2022-7 does with
//! the packets of two paths). No I/O, no clock.

mod leg;
mod mark;
mod part;
mod relay;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rtmp_proto::wire::media::MediaClass;
use serde::{Deserialize, Serialize};

pub(crate) use self::part::MergedRelayPart;
pub(crate) use self::relay::{LegPublication, LegReport, MergedRelay};
use super::log::headers::Headers;
use super::publishers::Pauses;
use super::standby::Parts;
use super::{MediaMessage, slate_mark};
use leg::{Position, Sort, Waiting, recognise};
use mark::{Hashing, Mark, Taken};

/// Silence of a programme after which a slate takes its place, unless `standby_after` is
/// longer: it may go on, as the default of `slate_after` has it.
const SLATE_AFTER: Duration = Duration::from_secs(3);

/// The settings by which legs take turns that do not bring the same messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct MergeSettings {
    /// Silence of what is on air after which a leg that waits takes its place.
    pub(super) standby_after: Duration,
    /// Time after which pictures without a keyframe are taken for keyframes.
    pub(super) keyframe_timeout: Duration,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) enum Output {
    /// A publication begins: nobody was on air.
    Begin,
    /// The message goes on air.
    Take(MediaMessage),
    /// What comes next on air is another publication of the origin.
    NewPublication,
    /// The leg goes on air in place of those that were, with what it has kept.
    TakeOver { leg: usize, parts: Box<Parts> },
    /// The leg brings what is on air, too.
    Merged(usize),
    /// The leg brings something else than what is on air.
    Parted(usize),
    /// The leg brings what is on air, too, but so much later that it waits, and does not catch
    /// up.
    Late(usize),
}

/// What a leg is to the stream.
#[derive(Debug, Serialize, Deserialize)]
enum Leg {
    /// It brings nothing.
    Away,
    /// It is not merged: what it brings is kept, as of a standby.
    Waiting(Box<Waiting>),
    /// It brings what goes on air.
    Merged(Position),
}

/// The messages of several legs, as one stream.
///
/// ```text
///        its first message, nobody on air         another publication begins there,
///  Away ───────────────────────────────▶ Merged   or its next message is none of those
///    │                                   ▲    │   that have gone on air, or it is late
///    │ its first message                 │    ▼   for `standby_after`
///    └───────────────────────────────▶ Waiting
///                    a message of it has gone on air, and is not late,
///                    or it takes over
/// any of them ─ its connection ends ─▶ Away
/// ```
///
/// A leg takes over if none is merged, or those that are have been silent for
/// `standby_after`, and it has a keyframe to begin at.
///
/// A leg that brings a slate is of the lowest rank: any other one that has a keyframe takes its
/// place, and it takes over from a programme only after [`SLATE_AFTER`].
///
/// A leg is late that is more than two seconds of media behind what is on air: were it
/// merged, and left alone, viewers would see nothing for as long. So it takes over instead.
/// One that begins with an old group of pictures, or has stalled, gets `standby_after` to
/// catch up.
///
/// Messages are recognised by their bytes and times, so two encoders that code the same
/// pictures each for itself are never merged: a picture of one does not decode with those
/// of the other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Merge {
    legs: Vec<Leg>,
    /// What has gone on air since the last leg took over.
    taken: Taken,
    /// The headers in force on air.
    headers: Headers,
    /// Messages of the legs on air, and the pauses between them.
    signs: Pauses,
    hashing: Hashing,
    /// Of each leg the number of pictures that it has brought first.
    firsts: Vec<u64>,
    /// The leg that has brought the newest message on air.
    leader: Option<usize>,
    /// The legs that bring a slate, as its metadata say.
    #[serde(default)]
    slates: BTreeSet<usize>,
}

impl Merge {
    /// The stream of `legs` legs, none of which has come.
    pub(super) fn new(legs: usize) -> Self {
        Self {
            legs: (0..legs).map(|_| Leg::Away).collect(),
            taken: Taken::default(),
            headers: Headers::default(),
            signs: Pauses::default(),
            hashing: Hashing::default(),
            firsts: vec![0; legs],
            leader: None,
            slates: BTreeSet::new(),
        }
    }

    /// Number of legs, present or not.
    fn legs(&self) -> usize {
        self.legs.len()
    }

    /// Nobody has listened to the legs until `now`: that is no silence of theirs.
    pub(super) fn excuse_silence(&mut self, now: Instant) {
        self.signs.excuse(now);
        for leg in &mut self.legs {
            match leg {
                Leg::Away => {}
                Leg::Waiting(waiting) => waiting.pauses.excuse(now),
                Leg::Merged(position) => position.excuse_lag(),
            }
        }
    }

    /// True if no leg brings anything.
    pub(super) fn is_over(&self) -> bool {
        self.legs.iter().all(|leg| matches!(leg, Leg::Away))
    }

    /// Number of legs whose messages go on air.
    fn merged(&self) -> usize {
        let legs = self.legs.iter();
        legs.filter(|leg| matches!(leg, Leg::Merged(_))).count()
    }

    /// The leg that has brought the newest message on air.
    pub(super) fn leader(&self) -> Option<usize> {
        self.leader
    }

    /// True if the leg brings the same messages as another one.
    pub(super) fn is_aligned(&self, leg: usize) -> bool {
        matches!(self.legs[leg], Leg::Merged(_)) && self.merged() > 1
    }

    /// Number of pictures that the leg was the first to bring.
    pub(super) fn pictures_first(&self, leg: usize) -> u64 {
        self.firsts[leg]
    }

    /// The leg has sent `message`.
    pub(super) fn take(
        &mut self,
        leg: usize,
        message: &MediaMessage,
        now: Instant,
        settings: &MergeSettings,
        out: &mut Vec<Output>,
    ) {
        let Some(head) = message.head() else { return };
        if matches!(self.legs[leg], Leg::Away) {
            self.come(leg, now, out);
        }
        if head.class == MediaClass::Metadata {
            match slate_mark::is_in(&message.message().payload) {
                true => self.slates.insert(leg),
                false => self.slates.remove(&leg),
            };
        }
        let mark = Mark::new(message, head, self.hashing);
        if self.take_merged(leg, message, mark, out) {
            self.signs.note(now, settings.standby_after);
            self.part_if_late(leg, mark, now, settings, out);
            return;
        }
        let Leg::Waiting(waiting) = &mut self.legs[leg] else {
            return;
        };
        waiting.keep(message, mark, now, settings);
        if self.catch_up(leg, message, mark, now, settings, out)
            || self.recognise_newest(leg, now, out)
        {
            self.signs.note(now, settings.standby_after);
        } else {
            self.take_turns(now, settings, out);
        }
    }

    /// The leg's first message is about to be taken.
    fn come(&mut self, leg: usize, now: Instant, out: &mut Vec<Output>) {
        if self.is_over() {
            self.taken = Taken::default();
            self.headers = Headers::default();
            self.signs = Pauses::since(now);
            self.legs[leg] = Leg::Merged(Position::at_end(&self.taken));
            out.push(Output::Begin);
        } else {
            self.wait(leg, Headers::default(), Pauses::since(now));
        }
    }

    fn wait(&mut self, leg: usize, headers: Headers, pauses: Pauses) {
        self.legs[leg] = Leg::Waiting(Box::new(Waiting::new(headers, pauses)));
    }

    /// Takes a message of a leg that is merged, unless it has gone on air already. Returns
    /// false if the leg is not, or no longer.
    fn take_merged(
        &mut self,
        leg: usize,
        message: &MediaMessage,
        mark: Mark,
        out: &mut Vec<Output>,
    ) -> bool {
        let Leg::Merged(position) = &mut self.legs[leg] else {
            return false;
        };
        let mark = mark.on_clock(position.ahead);
        match position.sort(&mark, &self.taken) {
            Sort::Known => {}
            Sort::New => self.put_on_air(leg, message, mark, out),
            Sort::Strange => {
                self.part(leg, self.headers.clone(), out);
                return false;
            }
        }
        true
    }

    /// A message goes on air that `leg` is the first to bring.
    fn put_on_air(
        &mut self,
        leg: usize,
        message: &MediaMessage,
        mark: Mark,
        out: &mut Vec<Output>,
    ) {
        self.taken.push(mark);
        if let Some(head) = message.head() {
            self.headers.follow(head, message.message());
        }
        self.firsts[leg] += u64::from(message.is_picture());
        self.leader = Some(leg);
        out.push(Output::Take(message.at(mark.timestamp)));
        if !self.taken.tell_streams_apart_by(&mark) {
            return;
        }
        for other in 0..self.legs.len() {
            let Leg::Waiting(waiting) = &self.legs[other] else {
                continue;
            };
            if let Some((place, ahead)) = waiting.find(&mark) {
                let number = self.taken.of(mark.kind).end() - 1;
                let position = Position::behind(mark.kind, number, ahead);
                self.merge(other, position, place + 1, out);
            }
        }
    }

    /// Parts a leg that is merged, and has just brought `mark`, if it stays late.
    fn part_if_late(
        &mut self,
        leg: usize,
        mark: Mark,
        now: Instant,
        settings: &MergeSettings,
        out: &mut Vec<Output>,
    ) {
        let Leg::Merged(position) = &mut self.legs[leg] else {
            return;
        };
        let mark = mark.on_clock(position.ahead);
        if !self.taken.tell_streams_apart_by(&mark)
            || !position.falls_behind(&mark, &self.taken, now)
            || !position.stays_late(now, settings.standby_after)
        {
            return;
        }
        let mut waiting = Waiting::new(self.headers.clone(), self.signs.clone());
        waiting.behind = Some(*position);
        waiting.is_told_late = true;
        self.legs[leg] = Leg::Waiting(Box::new(waiting));
        out.push(Output::Late(leg));
    }

    /// Follows a leg that waits because it is late; true if it is merged now, as its newest
    /// message is not late.
    fn catch_up(
        &mut self,
        leg: usize,
        message: &MediaMessage,
        mark: Mark,
        now: Instant,
        settings: &MergeSettings,
        out: &mut Vec<Output>,
    ) -> bool {
        let Leg::Waiting(waiting) = &mut self.legs[leg] else {
            return false;
        };
        let Some(former) = waiting.behind else {
            return false;
        };
        let mut position = former;
        let on_clock = mark.on_clock(position.ahead);
        // What tells nothing and is new is left to whoever is on air.
        let tells_apart = self.taken.tell_streams_apart_by(&mark);
        let has_caught_up = match position.sort(&on_clock, &self.taken) {
            Sort::Strange => {
                waiting.behind = None;
                return false;
            }
            Sort::Known => {
                let is_late = tells_apart && position.is_late(&on_clock, &self.taken, now);
                waiting.behind = Some(position);
                let stays_late = is_late && position.stays_late(now, settings.standby_after);
                if stays_late && !std::mem::replace(&mut waiting.is_told_late, true) {
                    out.push(Output::Late(leg));
                }
                tells_apart && !is_late
            }
            Sort::New => tells_apart,
        };
        if has_caught_up {
            let mut position = former;
            position.excuse_lag();
            self.legs[leg] = Leg::Merged(position);
            out.push(Output::Merged(leg));
            self.take_merged(leg, message, mark, out);
        }
        has_caught_up
    }

    /// Looks the newest message of a leg that waits up among those that have gone on air;
    /// true if the leg is merged therefore, which a late one is not.
    fn recognise_newest(&mut self, leg: usize, now: Instant, out: &mut Vec<Output>) -> bool {
        let is_on_air = self.merged() > 0;
        let Leg::Waiting(waiting) = &mut self.legs[leg] else {
            return false;
        };
        if !is_on_air || waiting.behind.is_some() {
            return false;
        }
        let place = waiting.marks().len();
        let newest = waiting.marks().last().copied();
        let Some(mark) = newest.filter(|mark| self.taken.tell_streams_apart_by(mark)) else {
            return false;
        };
        let marks = self.taken.of(mark.kind);
        let Some(number) = recognise(&mark, marks.iter()) else {
            return false;
        };
        let on_air = marks.get(number).map_or(0, |mark| mark.timestamp);
        let ahead = mark.timestamp.wrapping_sub(on_air);
        let mut position = Position::behind(mark.kind, number, ahead);
        if position.is_late(&mark.on_clock(ahead), &self.taken, now) {
            waiting.behind = Some(position);
            return false;
        }
        self.merge(leg, position, place, out);
        true
    }

    /// The leg, which waits, brings what is on air: it stands at `position`, and has brought
    /// its group from `place` on after that.
    fn merge(&mut self, leg: usize, position: Position, place: usize, out: &mut Vec<Output>) {
        let former = std::mem::replace(&mut self.legs[leg], Leg::Merged(position));
        out.push(Output::Merged(leg));
        let Leg::Waiting(waiting) = former else {
            return;
        };
        let (parts, marks) = waiting.into_parts();
        let after = parts.messages.iter().zip(marks).skip(place);
        for (arrived, mark) in after {
            if !self.take_merged(leg, &arrived.message, mark, out) {
                return;
            }
        }
    }

    /// The leg brings something else than what is on air; it has `headers` in force.
    fn part(&mut self, leg: usize, headers: Headers, out: &mut Vec<Output>) {
        self.wait(leg, headers, self.signs.clone());
        out.push(Output::Parted(leg));
    }

    /// Another publication begins at the leg's origin.
    pub(super) fn start_new_publication(&mut self, leg: usize, out: &mut Vec<Output>) {
        self.slates.remove(&leg);
        match self.legs[leg] {
            Leg::Away => {}
            Leg::Merged(_) if self.merged() == 1 => {
                self.forget_taken();
                self.headers = Headers::default();
                self.legs[leg] = Leg::Merged(Position::at_end(&self.taken));
                out.push(Output::NewPublication);
            }
            Leg::Merged(_) => self.part(leg, Headers::default(), out),
            Leg::Waiting(ref waiting) => {
                let pauses = waiting.pauses.clone();
                self.wait(leg, Headers::default(), pauses);
            }
        }
    }

    /// The leg's connection has ended.
    pub(super) fn leave(
        &mut self,
        leg: usize,
        now: Instant,
        settings: &MergeSettings,
        out: &mut Vec<Output>,
    ) {
        self.legs[leg] = Leg::Away;
        self.slates.remove(&leg);
        if self.leader == Some(leg) {
            let mut legs = self.legs.iter();
            self.leader = legs.position(|leg| matches!(leg, Leg::Merged(_)));
        }
        self.take_turns(now, settings, out);
    }

    /// The publication on air is lost: whoever brings something next begins another.
    pub(super) fn reset(&mut self) {
        self.legs.fill_with(|| Leg::Away);
        self.slates.clear();
        self.leader = None;
    }

    /// Has a leg that waits take over, if that is due.
    fn take_turns(&mut self, now: Instant, settings: &MergeSettings, out: &mut Vec<Output>) {
        let is_ready =
            |leg: &Leg| matches!(leg, Leg::Waiting(waiting) if waiting.is_ready(now, settings));
        let mut ready = (0..self.legs.len()).filter(|&leg| is_ready(&self.legs[leg]));
        let Some(first) = ready.next() else { return };
        let is_slate = |leg: &usize| self.slates.contains(leg);
        let programme = [first].into_iter().chain(ready).find(|leg| !is_slate(leg));
        let shows_slate = self.shows_slate();
        let after = match (programme, shows_slate) {
            (Some(_), true) => None,
            (None, false) => Some(settings.standby_after.max(SLATE_AFTER)),
            _ => Some(settings.standby_after),
        };
        if self.merged() == 0 || after.is_none_or(|after| self.signs.are_over(now, after)) {
            self.take_over(programme.unwrap_or(first), out);
        }
    }

    /// Notes what the headers in force say of what is on air: a former program does not know
    /// that it is a slate.
    pub(super) fn recognise_slate(&mut self) {
        if self.headers.mark_slate() {
            let legs = self.legs.iter().enumerate();
            let on_air = legs.filter(|(_, leg)| matches!(leg, Leg::Merged(_)));
            self.slates.extend(on_air.map(|(number, _)| number));
        }
    }

    /// True if what is on air is a slate.
    fn shows_slate(&self) -> bool {
        let mut slates = self.slates.iter();
        slates.any(|&leg| matches!(self.legs[leg], Leg::Merged(_)))
    }

    /// What comes next on air has nothing in common with what has gone on air.
    fn forget_taken(&mut self) {
        self.taken = Taken::default();
        for leg in &mut self.legs {
            if let Leg::Waiting(waiting) = leg {
                waiting.behind = None;
            }
        }
    }

    fn take_over(&mut self, next: usize, out: &mut Vec<Output>) {
        for leg in 0..self.legs.len() {
            if matches!(self.legs[leg], Leg::Merged(_)) {
                self.part(leg, self.headers.clone(), out);
            }
        }
        let Leg::Waiting(waiting) = std::mem::replace(&mut self.legs[next], Leg::Away) else {
            return;
        };
        self.signs = waiting.pauses.clone();
        let (parts, marks) = waiting.into_parts();
        self.forget_taken();
        for mark in marks {
            self.taken.push(mark);
        }
        self.legs[next] = Leg::Merged(Position::at_end(&self.taken));
        self.headers = parts.headers.clone();
        self.leader = Some(next);
        out.push(Output::TakeOver {
            leg: next,
            parts: Box::new(parts),
        });
    }
}

#[cfg(test)]
mod tests;
