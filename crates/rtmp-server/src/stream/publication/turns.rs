//! Publishers of a stream come, and take turns.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Publication, PublicationState};
use crate::stream::log::headers::Headers;
use crate::stream::publishers::{
    Busy, OrderError, PublisherReport, Publishers, Rank, Switch, SwitchReason,
};
use crate::stream::writer::Source;
use crate::stream::{Stream, lock};

/// A publisher that comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) rank: Rank,
    /// Its connection, for reports.
    pub(crate) client: Option<u64>,
}

impl Candidate {
    /// One of no particular kind.
    const PRIMARY: Self = Self {
        rank: Rank::Primary,
        client: None,
    };
}

impl Stream {
    /// The reason for which [`Stream::publish_as`] would fail at `now`.
    pub(crate) fn refusal(&self, rank: Rank, now: Instant) -> Option<Busy> {
        lock(&self.publishers).refusal(rank, self.on_air_signs(now), now)
    }

    /// Becomes the stream's only publisher.
    ///
    /// # Errors
    /// [`Busy`] if there is one that has not been silent for two seconds.
    pub fn publish(self: &Arc<Self>, now: Instant) -> Result<Publication, Busy> {
        self.publish_as(Candidate::PRIMARY, now)
    }

    /// Becomes a publisher of the stream: on air, or beside the one that is.
    ///
    /// # Errors
    /// [`Busy`] if the settings allow neither.
    pub(crate) fn publish_as(
        self: &Arc<Self>,
        candidate: Candidate,
        now: Instant,
    ) -> Result<Publication, Busy> {
        let source = match candidate.rank {
            Rank::Slate => Source::Slate,
            _ => Source::Encoder,
        };
        self.begin(candidate, now, source, Duration::ZERO)
    }

    /// Becomes the stream's publisher on behalf of an origin, which sends its
    /// newest group of pictures first. What the stream had already of it is
    /// left out where the timestamps go on. `origin` says what can be expected
    /// of it.
    ///
    /// # Errors
    /// As [`Stream::publish`].
    pub fn relay(self: &Arc<Self>, origin: Source, now: Instant) -> Result<Publication, Busy> {
        let group = self.log.index().group();
        self.begin(Candidate::PRIMARY, now, origin, group)
    }

    fn begin(
        self: &Arc<Self>,
        candidate: Candidate,
        now: Instant,
        source: Source,
        replay: Duration,
    ) -> Result<Publication, Busy> {
        let Candidate { rank, client } = candidate;
        // Looked at and changed under one lock: of two that come at once, one
        // is refused, or waits.
        let mut publishers = lock(&self.publishers);
        let id = publishers.join(rank, client, self.on_air_signs(now), now)?;
        let is_on_air = publishers.on_air() == Some(id);
        let turn = is_on_air.then(|| self.put_on_air(id, None, now));
        drop(publishers);
        self.totals.publishers.fetch_add(1, Ordering::Relaxed);
        let state = if let Some(turn) = turn {
            self.origins_unreachable.store(false, Ordering::Relaxed);
            let mut writer = lock(&self.writer);
            // Another one may have taken over meanwhile, and have begun to write.
            if self.state.borrow().turn == turn {
                writer.publisher_begins(source, replay);
            }
            PublicationState::OnAir {
                turn,
                headers: Headers::default(),
            }
        } else {
            // A dead standby may have been displaced: it is to look.
            self.state.send_modify(|_| {});
            PublicationState::standby(Headers::default())
        };
        Ok(Publication {
            stream: self.clone(),
            id,
            state,
            switch: None,
        })
    }

    /// What the publisher `id` sends is from now on the stream's. Returns the turn.
    fn put_on_air(&self, id: u64, switch: Option<Switch>, now: Instant) -> u64 {
        let mut turn = 0;
        self.state.send_modify(|state| {
            state.on_air = id;
            state.turn += 1;
            turn = state.turn;
            state.present = true;
            state.switch = switch;
            self.note_sign(now);
        });
        let now_ms = self.logs.milliseconds(now);
        self.published_since_ms.store(now_ms, Ordering::Relaxed);
        turn
    }

    /// Has the publishers take turns as `decide` says; the publication that is switched to
    /// finds it in the stream's state.
    pub(super) fn take_turns(
        &self,
        now: Instant,
        decide: impl FnOnce(&mut Publishers, Duration) -> Option<Switch>,
    ) {
        let mut publishers = lock(&self.publishers);
        let silence = self.silence_on_air(&mut publishers, now);
        let Some(switch) = decide(&mut publishers, silence) else {
            return;
        };
        self.put_on_air(switch.to, Some(switch), now);
        drop(publishers);
        log::info!("{}: {}", self.key(), describe(&switch));
    }

    /// Orders that the publisher of the connection `client` goes on air at its next
    /// keyframe; without one, the best that waits. If it is on air, an order to another one is
    /// taken back. Returns its connection.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn order_switch(&self, client: Option<u64>) -> Result<Option<u64>, OrderError> {
        lock(&self.publishers).order(client)
    }

    /// All publishers, in the order in which they came.
    pub(crate) fn publishers(&self, now: Instant) -> Vec<PublisherReport> {
        lock(&self.publishers).report(now)
    }

    /// Number of publishers that wait beside the one on air.
    pub(crate) fn standbys(&self) -> usize {
        lock(&self.publishers).standbys()
    }

    /// True if a slate is on air, this server's or an origin's.
    pub(crate) fn shows_slate(&self) -> bool {
        let is_own = lock(&self.publishers).shows_slate();
        is_own || self.state.borrow().has_sent() && self.relays_slate()
    }

    /// True if the newest publication is a slate, as its metadata say.
    fn relays_slate(&self) -> bool {
        self.log.index().headers().mark_slate()
    }

    /// True if somebody publishes it: a slate does not count.
    pub(crate) fn has_encoder(&self) -> bool {
        lock(&self.publishers).has_encoder()
    }
}

/// `c9 goes on air: c7 has ended`.
fn describe(switch: &Switch) -> String {
    let name = |client: Option<u64>| client.map_or("the slate".to_owned(), |id| format!("c{id}"));
    let (to, from) = (name(switch.to_client), name(switch.from_client));
    let why = match switch.reason {
        SwitchReason::Silent => format!("{from} is silent"),
        SwitchReason::Ended => format!("{from} has ended"),
        SwitchReason::Ordered => format!("by order, in place of {from}"),
        SwitchReason::Returned => format!("{from} has a lower rank"),
        SwitchReason::Slate => "nobody sends anything".to_owned(),
    };
    format!("{to} goes on air: {why}")
}
