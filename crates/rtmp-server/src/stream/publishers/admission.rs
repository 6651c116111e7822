//! The coming of a publisher.

use std::time::{Duration, Instant};

use super::{
    Entry, MAX_STANDBYS, Pauses, Publishers, Rank, SecondPublisher, State, TAKEOVER_SILENCE,
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
    /// It goes on air; who was there, if anybody, is displaced.
    OnAir { displaced: Option<u64> },
    /// It waits; one that has been silent for long may be displaced.
    Waits { displaced: Option<u64> },
}

impl Publishers {
    /// A publisher comes, while the one on air has been silent for `silence`. Returns its
    /// number, which is that of [`Publishers::on_air`] if it goes on air at once.
    ///
    /// # Errors
    /// It is refused.
    pub(in crate::stream) fn join(
        &mut self,
        rank: Rank,
        client: Option<u64>,
        silence: Duration,
        now: Instant,
    ) -> Result<u64, Busy> {
        let admission = self.admit(rank, silence, now)?;
        self.last_id += 1;
        let id = self.last_id;
        let (Admission::OnAir { displaced } | Admission::Waits { displaced }) = admission;
        self.entries.retain(|entry| Some(entry.id) != displaced);
        self.entries.push(Entry {
            id,
            rank,
            client,
            is_ready: false,
            came: now,
            pauses: Pauses::default(),
            steady_since: None,
        });
        match (admission, self.state) {
            (Admission::OnAir { .. }, _) => {
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
        silence: Duration,
        now: Instant,
    ) -> Option<Busy> {
        self.admit(rank, silence, now).err()
    }

    fn admit(&self, rank: Rank, silence: Duration, now: Instant) -> Result<Admission, Busy> {
        let Some(on_air) = self.on_air_entry() else {
            return Ok(Admission::OnAir { displaced: None });
        };
        let policy = self.turns.second_publisher;
        if rank == Rank::Slate {
            return Err(Busy::Publisher);
        }
        if on_air.rank == Rank::Primary && rank == Rank::Primary {
            let take_over = match policy {
                SecondPublisher::Refuse => silence >= TAKEOVER_SILENCE,
                SecondPublisher::TakeOver => true,
                SecondPublisher::Standby => false,
            };
            if take_over {
                let displaced = Some(on_air.id);
                return Ok(Admission::OnAir { displaced });
            }
            if policy != SecondPublisher::Standby {
                return Err(Busy::Publisher);
            }
        }
        if self.standbys() < MAX_STANDBYS {
            return Ok(Admission::Waits { displaced: None });
        }
        let dead = self.waiting().find(|entry| {
            let has_come = now.saturating_duration_since(entry.came) >= TAKEOVER_SILENCE;
            has_come && entry.is_silent(now, TAKEOVER_SILENCE)
        });
        let displaced = Some(dead.ok_or(Busy::Standbys)?.id);
        Ok(Admission::Waits { displaced })
    }
}
