//! The coming of a publisher.

use std::time::{Duration, Instant};

use super::{
    Entry, MAX_STANDBYS, OnAirSigns, Pauses, Publishers, Rank, SecondPublisher, State,
    TAKEOVER_SILENCE, before,
};

/// Why a publisher is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Busy {
    /// There is another one, beside which it may not be.
    #[error("the stream has a publisher already")]
    Publisher,
    /// As many wait as may.
    #[error("the stream has {MAX_STANDBYS} standby publishers already")]
    Standbys,
}

/// What becomes of a publisher that comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    /// It goes on air; who was there, if anybody, is displaced, or waits.
    OnAir { displaced: Option<u64> },
    /// It waits; one that has been silent for long may be displaced.
    Waits { displaced: Option<u64> },
}

impl Publishers {
    /// A publisher comes; `signs` are those of the one on air. Returns its number, which is
    /// that of [`Publishers::on_air`] if it goes on air at once.
    ///
    /// # Errors
    /// It is refused.
    pub(in crate::stream) fn join(
        &mut self,
        rank: Rank,
        client: Option<u64>,
        signs: OnAirSigns,
        now: Instant,
    ) -> Result<u64, Busy> {
        let admission = self.admit(rank, signs, now)?;
        self.last_id += 1;
        let id = self.last_id;
        let (Admission::OnAir { displaced } | Admission::Waits { displaced }) = admission;
        self.entries.retain(|entry| Some(entry.id) != displaced);
        self.entries.push(Entry {
            id,
            rank,
            client,
            is_ready: false,
            heard: now,
            pauses: Pauses::default(),
            steady_since: None,
        });
        match (admission, self.state) {
            (Admission::OnAir { .. }, _) => {
                if let Some(former) = self.on_air().and_then(|id| self.entry_mut(id)) {
                    former.wait(before(now, signs.silence));
                }
                self.state = State::OnAir(id);
                self.usual_silence = Duration::ZERO;
            }
            (Admission::Waits { .. }, State::Ordered { on_air, to }) if Some(to) == displaced => {
                self.state = State::OnAir(on_air);
            }
            (Admission::Waits { .. }, _) => {}
        }
        Ok(id)
    }

    /// Why a publisher of `rank` would be refused now.
    pub(in crate::stream) fn refusal(
        &self,
        rank: Rank,
        signs: OnAirSigns,
        now: Instant,
    ) -> Option<Busy> {
        self.admit(rank, signs, now).err()
    }

    fn admit(&self, rank: Rank, signs: OnAirSigns, now: Instant) -> Result<Admission, Busy> {
        let Some(on_air) = self.on_air_entry() else {
            return Ok(Admission::OnAir { displaced: None });
        };
        if rank == Rank::Slate {
            return match signs.has_sent || on_air.rank == Rank::Slate {
                true => Err(Busy::Publisher),
                false => Ok(Admission::OnAir { displaced: None }),
            };
        }
        let policy = self.turns.second_publisher;
        if rank == Rank::Primary
            && policy != SecondPublisher::Standby
            && let Some(rival) = self.rival(now)
        {
            let is_on_air = rival.id == on_air.id;
            let is_dead = match is_on_air {
                true => signs.silence >= TAKEOVER_SILENCE,
                false => rival.is_dead(now),
            };
            if policy == SecondPublisher::Refuse && !is_dead {
                return Err(Busy::Publisher);
            }
            let displaced = Some(rival.id);
            return Ok(match is_on_air {
                true => Admission::OnAir { displaced },
                false => Admission::Waits { displaced },
            });
        }
        if self.standbys() < MAX_STANDBYS {
            return Ok(Admission::Waits { displaced: None });
        }
        let dead = self.waiting().find(|entry| entry.is_dead(now));
        let displaced = Some(dead.ok_or(Busy::Standbys)?.id);
        Ok(Admission::Waits { displaced })
    }

    /// The publisher that is not marked, beside which the policy lets no other one be: the one
    /// on air, or else one that waits, of several one that is not dead.
    fn rival(&self, now: Instant) -> Option<&Entry> {
        let on_air = self.on_air();
        let unmarked = self.entries.iter().filter(|it| it.rank == Rank::Primary);
        unmarked.min_by_key(|entry| (Some(entry.id) != on_air, entry.is_dead(now)))
    }
}

impl Entry {
    /// True if nothing has been heard of it, which waits, for so long that its connection is
    /// most likely dead.
    fn is_dead(&self, now: Instant) -> bool {
        let has_been_heard = now.saturating_duration_since(self.heard) < TAKEOVER_SILENCE;
        !has_been_heard && self.is_silent(now, TAKEOVER_SILENCE)
    }
}
