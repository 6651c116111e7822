//! The publishers of a stream: which of them is on air, and when another one takes its
//! place. No I/O, no clock.

mod admission;
mod pauses;
mod report;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub(crate) use admission::Busy;
use pauses::silence_limit;
pub(super) use pauses::{Pauses, WINDOW as PAUSE_WINDOW};
pub(crate) use report::PublisherReport;

/// A publisher that has been silent for this long may be pushed aside by
/// another: its connection is most likely dead, and the encoder is back.
pub(super) const TAKEOVER_SILENCE: Duration = Duration::from_secs(2);
/// Maximum number of publishers of a stream that wait beside the one on air.
const MAX_STANDBYS: usize = 4;

/// What becomes of a second publisher that is not marked as a standby.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecondPublisher {
    /// It is refused, unless the first has been silent for two seconds: then it takes its place.
    #[default]
    Refuse,
    /// It takes the first one's place at once, whose connection ends.
    TakeOver,
    /// It is a standby.
    Standby,
}

/// The precedence of a publisher, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Rank {
    /// The file that fills gaps.
    Slate,
    /// It has marked itself as a standby.
    Backup,
    /// Any other.
    Primary,
}

/// The settings by which publishers take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turns {
    /// What becomes of a second publisher that is not marked.
    pub(crate) second_publisher: SecondPublisher,
    /// Silence of the publisher on air after which a standby takes its place.
    pub(crate) standby_after: Duration,
    /// Time for which a publisher of higher rank has sent without such a silence before it
    /// goes on air again; `None`: it stays a standby.
    pub(crate) return_after: Option<Duration>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            second_publisher: SecondPublisher::default(),
            standby_after: Duration::from_millis(500),
            return_after: None,
        }
    }
}

/// Why a publisher goes on air in place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum SwitchReason {
    /// The other has sent nothing for `standby_after`.
    Silent,
    /// The other has ended.
    Ended,
    /// An operator has ordered it.
    Ordered,
    /// It has a higher rank.
    Returned,
    /// It is a slate, and nobody sends anything.
    Slate,
}

impl SwitchReason {
    pub(crate) const ALL: [Self; 5] = [
        Self::Silent,
        Self::Ended,
        Self::Ordered,
        Self::Returned,
        Self::Slate,
    ];

    /// Its name in metrics and hooks.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::Ordered => "ordered",
            Self::Returned => "returned",
            Self::Slate => "slate",
        }
    }
}

/// One publisher takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Switch {
    /// The publisher that goes on air.
    pub(crate) to: u64,
    /// Connection of the one that was on air; `None` for a slate.
    pub(crate) from_client: Option<u64>,
    /// Connection of the one that goes on air; `None` for a slate.
    pub(crate) to_client: Option<u64>,
    pub(crate) reason: SwitchReason,
}

/// What is known of the publisher on air. Its messages are not reported, so that they cost
/// nothing here.
#[derive(Debug, Clone, Copy)]
pub(super) struct OnAirSigns {
    /// Time since its last message, or since it came.
    pub(super) silence: Duration,
    /// It has sent media since it is on air.
    pub(super) has_sent: bool,
}

/// An order to switch that cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OrderError {
    /// Nobody waits beside the publisher on air.
    #[error("the stream has no such standby publisher")]
    NoStandby,
}

/// Who is on air.
///
/// ```text
///          the first comes                 a switch
///  Vacant ─────────────────▶ OnAir(a) ───────────────▶ OnAir(b)
///    ▲                        │ │   ▲
///    │ a ends, nobody waits   │ │   │ b ends, or order(a)
///    └────────────────────────┘ │   │
///                      order(b) ▼   │     keyframe of b, or a ends
///                           Ordered(a, b) ─────────────────────────▶ OnAir(b)
/// ```
///
/// A switch is due
/// - when the one on air ends: to the best that waits, with or without a keyframe,
/// - when it has been silent for `standby_after`: to the best that has a keyframe and is
///   not silent itself,
/// - at a keyframe of one that waits, if an operator has ordered it, if a slate is on air,
///   or if it has a higher rank and has been steady for `return_after`.
///
/// Who was on air and has not ended waits then; a slate is removed. A slate comes in place of
/// nobody, or of one that has sent nothing since it is on air.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Vacant,
    OnAir(u64),
    Ordered { on_air: u64, to: u64 },
}

/// One publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    id: u64,
    rank: Rank,
    /// Its connection; `None` for a slate, and for a pull from an origin.
    client: Option<u64>,
    /// It has a place to begin at: a keyframe.
    is_ready: bool,
    /// When it came or, if it was on air since then, when it was last heard there.
    #[serde(rename = "came", with = "crate::hand_over::monotonic")]
    heard: Instant,
    /// Its media while it waits, and the pauses between them.
    pauses: Pauses,
    /// It has sent without a silence since then, while it waits.
    #[serde(with = "crate::hand_over::monotonic")]
    steady_since: Option<Instant>,
}

impl Entry {
    fn is_silent(&self, now: Instant, limit: Duration) -> bool {
        self.pauses.are_over(now, limit)
    }

    /// It, which was last heard at that time, begins to wait, without a keyframe.
    fn wait(&mut self, heard: Instant) {
        self.heard = heard;
        self.is_ready = false;
        self.pauses.stop();
        self.steady_since = None;
    }
}

/// The publishers of a stream.
///
/// The silence of the one on air is an argument: see [`OnAirSigns`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Publishers {
    pub(super) turns: Turns,
    state: State,
    /// All of them, in the order in which they came.
    entries: Vec<Entry>,
    last_id: u64,
    /// Silence of the one on air that is no failure: it usually pauses for that long.
    usual_silence: Duration,
}

impl Publishers {
    pub(super) fn new(turns: Turns) -> Self {
        Self {
            turns,
            state: State::Vacant,
            entries: Vec::new(),
            last_id: 0,
            usual_silence: Duration::ZERO,
        }
    }

    /// The publisher on air.
    pub(super) fn on_air(&self) -> Option<u64> {
        match self.state {
            State::Vacant => None,
            State::OnAir(id) | State::Ordered { on_air: id, .. } => Some(id),
        }
    }

    /// True if the publisher `id` is known: it has neither ended nor been displaced.
    pub(super) fn contains(&self, id: u64) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// The numbers of all of them.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.id).collect()
    }

    /// Number of those that wait.
    pub(super) fn standbys(&self) -> usize {
        self.waiting().count()
    }

    /// True if a slate is on air.
    pub(super) fn shows_slate(&self) -> bool {
        self.on_air_entry()
            .is_some_and(|entry| entry.rank == Rank::Slate)
    }

    /// True if there is a publisher other than a slate.
    pub(super) fn has_encoder(&self) -> bool {
        self.entries.iter().any(|entry| entry.rank > Rank::Slate)
    }

    fn entry(&self, id: u64) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    fn entry_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    fn on_air_entry(&self) -> Option<&Entry> {
        self.on_air().and_then(|id| self.entry(id))
    }

    /// Those that wait.
    fn waiting(&self) -> impl Iterator<Item = &Entry> {
        let on_air = self.on_air();
        let entries = self.entries.iter();
        entries.filter(move |entry| Some(entry.id) != on_air)
    }

    /// The publisher `id` has ended.
    pub(super) fn leave(&mut self, id: u64, now: Instant) -> Option<Switch> {
        let position = self.entries.iter().position(|entry| entry.id == id)?;
        let gone = self.entries.remove(position);
        match self.state {
            State::Ordered { on_air, to } if to == id => self.state = State::OnAir(on_air),
            State::OnAir(on_air) | State::Ordered { on_air, .. } if on_air == id => {
                let ordered = match self.state {
                    State::Ordered { to, .. } => Some(to),
                    _ => None,
                };
                self.state = State::Vacant;
                let limit = self.turns.standby_after;
                let next = self.entries.iter().max_by_key(|entry| {
                    let usable = entry.is_ready && !entry.is_silent(now, limit);
                    let is_ordered = Some(entry.id) == ordered;
                    let first = std::cmp::Reverse(entry.id);
                    (usable, is_ordered, entry.is_ready, entry.rank, first)
                });
                let next = next.map(|entry| entry.id)?;
                return Some(self.switch(next, gone.client, SwitchReason::Ended, now));
            }
            _ => {}
        }
        None
    }

    /// Puts `to` on air in place of the one that is there, if any, and was last `heard` then.
    fn switch(
        &mut self,
        to: u64,
        from_client: Option<u64>,
        reason: SwitchReason,
        heard: Instant,
    ) -> Switch {
        if let Some(former) = self.on_air().and_then(|id| self.entry_mut(id)) {
            former.wait(heard);
        }
        self.entries.retain(|entry| entry.rank > Rank::Slate);
        self.state = State::OnAir(to);
        self.usual_silence = Duration::ZERO;
        Switch {
            to,
            from_client,
            to_client: self.entry(to).and_then(|entry| entry.client),
            reason,
        }
    }

    /// The publisher `id`, which waits, has sent media. `is_ready`: it has a place to
    /// begin at. `at_keyframe`: that place is what has come now. The one on air has been
    /// silent for `silence`.
    pub(super) fn take_media(
        &mut self,
        id: u64,
        is_ready: bool,
        at_keyframe: bool,
        silence: Duration,
        now: Instant,
    ) -> Option<Switch> {
        let limit = self.turns.standby_after;
        let entry = self.entry_mut(id)?;
        if entry.is_silent(now, limit) {
            entry.steady_since = Some(now);
        }
        entry.pauses.note(now, limit);
        entry.is_ready = is_ready;
        if at_keyframe && let Some(reason) = self.due_at_keyframe(id, now) {
            let from = self.on_air_entry().and_then(|entry| entry.client);
            return Some(self.switch(id, from, reason, before(now, silence)));
        }
        self.check(silence, now)
    }

    /// Why `id`, which waits, is to go on air at a keyframe, if it is.
    fn due_at_keyframe(&self, id: u64, now: Instant) -> Option<SwitchReason> {
        if let State::Ordered { to, .. } = self.state
            && to == id
        {
            return Some(SwitchReason::Ordered);
        }
        let (entry, on_air) = (self.entry(id)?, self.on_air_entry()?);
        if entry.id == on_air.id || entry.rank <= on_air.rank {
            return None;
        }
        let steady = entry.steady_since?;
        let has_returned = self
            .turns
            .return_after
            .is_some_and(|after| now.saturating_duration_since(steady) >= after);
        (on_air.rank == Rank::Slate || has_returned).then_some(SwitchReason::Returned)
    }

    /// Time has passed; the one on air has been silent for `silence`.
    pub(super) fn check(&mut self, silence: Duration, now: Instant) -> Option<Switch> {
        let limit = self.turns.standby_after;
        if silence < limit.max(self.usual_silence) {
            return None;
        }
        let from = self.on_air_entry()?.client;
        let usable = |entry: &&Entry| entry.is_ready && !entry.is_silent(now, limit);
        let next = self
            .waiting()
            .filter(usable)
            .max_by_key(|entry| (entry.rank, std::cmp::Reverse(entry.id)))?;
        let next = next.id;
        Some(self.switch(next, from, SwitchReason::Silent, before(now, silence)))
    }

    /// The one on air has made these `pauses` lately that are not shorter than
    /// `standby_after`.
    pub(super) fn note_pauses(&mut self, pauses: impl Iterator<Item = Duration>, now: Instant) {
        let limit = self.turns.standby_after;
        let before = self.on_air_entry().map(|entry| entry.pauses.recent(now));
        let before = before.into_iter().flatten();
        self.usual_silence = silence_limit(limit, pauses.chain(before));
    }

    /// Time until which [`Publishers::check`] has nothing to say unless something
    /// happens; `None`: without limit.
    pub(super) fn check_in(&self, silence: Duration) -> Option<Duration> {
        let has_standby = self.waiting().any(|entry| entry.is_ready);
        // How long it usually pauses is not looked up before that matters.
        let limit = match self.turns.standby_after {
            limit if silence < limit => limit,
            limit => limit.max(self.usual_silence),
        };
        let left = limit.checked_sub(silence);
        left.filter(|left| has_standby && !left.is_zero())
    }

    /// Orders that the publisher of the connection `client` goes on air at its next
    /// keyframe; without one, the best that waits. If it is on air, an order to another one is
    /// taken back.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn order(&mut self, client: Option<u64>) -> Result<Option<u64>, OrderError> {
        let entry = self.on_air_entry().ok_or(OrderError::NoStandby)?;
        let (on_air, is_on_air) = (entry.id, client.is_some() && entry.client == client);
        if is_on_air {
            self.state = State::OnAir(on_air);
            return Ok(client);
        }
        let is_meant = |entry: &&Entry| match client {
            Some(client) => entry.client == Some(client),
            None => true,
        };
        let best = self
            .waiting()
            .filter(is_meant)
            .max_by_key(|entry| (entry.is_ready, entry.rank, std::cmp::Reverse(entry.id)));
        let best = best.ok_or(OrderError::NoStandby)?;
        let (to, client) = (best.id, best.client);
        self.state = State::Ordered { on_air, to };
        Ok(client)
    }
}

/// The time `silence` before `now`.
fn before(now: Instant, silence: Duration) -> Instant {
    now.checked_sub(silence).unwrap_or(now)
}

#[cfg(test)]
mod tests;
