//! The silence of a stream's publisher.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Stream;
use super::publishers::{OnAirSigns, PAUSE_WINDOW, Publishers};

impl Stream {
    /// `now` on the server's clock, ms.
    pub(super) fn milliseconds(&self, now: Instant) -> u64 {
        self.logs.milliseconds(now)
    }

    /// The publisher has come, has gone or has sent something at `now`.
    pub(super) fn note_sign(&self, now: Instant) {
        let now = self.logs.milliseconds(now);
        self.last_sign_ms.store(now, Ordering::Relaxed);
    }

    /// Time since then.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        let last_sign = self.last_sign_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.logs.milliseconds(now).saturating_sub(last_sign))
    }

    /// Time since the last media; `None` if who is on air has sent some since it is there.
    pub(crate) fn without_media_for(&self, now: Instant) -> Option<Duration> {
        if self.state.borrow().has_sent() {
            return None;
        }
        let arrived = self.log.index().newest_arrival();
        let silence_ms = self.logs.milliseconds(now).saturating_sub(arrived);
        Some(Duration::from_millis(silence_ms))
    }

    /// What is known of the publisher on air.
    pub(super) fn on_air_signs(&self, now: Instant) -> OnAirSigns {
        OnAirSigns {
            silence: self.silence(now),
            has_sent: self.state.borrow().has_sent(),
        }
    }

    /// The silence of the publisher on air. Where that could be a failure, `publishers` are
    /// told how long it usually pauses: the log knows, so that its messages need not be
    /// looked at as they come.
    pub(super) fn silence_on_air(&self, publishers: &mut Publishers, now: Instant) -> Duration {
        let silence = self.silence(now);
        let limit = publishers.turns.standby_after;
        if silence >= limit && publishers.standbys() > 0 {
            let window = self
                .logs
                .milliseconds(now.checked_sub(PAUSE_WINDOW).unwrap_or(now));
            let since = window.max(self.published_since_ms.load(Ordering::Relaxed));
            let pauses = self.log.index().pauses(since, limit);
            publishers.note_pauses(pauses.into_iter(), now);
        }
        silence
    }
}
