//! A player that waits for its stream to be published.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::play::Play;
use crate::config::Vhost;
use crate::stream::StreamState;

/// State of a player's wait for its stream.
///
/// ```text
///            publisher gone, origin server             play_wait_timeout
///  ForPublisher ───────────────────────────▶ Until(t) ──────────────────▶ refused
///   │        ▲                                │    ▲
///   │        ├──────── publisher there ───────┘    │ all origins have
///   │        │                                     │ failed once more
///   │ publisher gone, edge ──▶ ForOrigins(n) ──────┘
///   └──────────────────────────▲  │
///            ▲── publisher there ─┘
/// ```
///
/// In each state, a stream that becomes live is played, and one that has ended
/// refuses the player.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) enum PlayWait {
    /// Nobody publishes: the player is refused at this time.
    Until(#[serde(with = "crate::hand_over::monotonic")] Instant),
    /// The stream has a publisher that has sent nothing yet. The publisher's
    /// own time limit holds, and none for the player.
    ForPublisher,
    /// The origins are being asked. The player's time begins when all of them
    /// have failed more often than this number.
    ForOrigins(u64),
}

impl PlayWait {
    /// The wait of a player that asks at `now`, or whose publisher has just
    /// gone.
    pub(in crate::server) fn new(state: &StreamState, vhost: &Vhost, now: Instant) -> Self {
        if state.has_publisher() {
            Self::ForPublisher
        } else if vhost.upstream.is_some() {
            Self::ForOrigins(state.failed_rounds)
        } else {
            Self::Until(now + vhost.play_wait_timeout)
        }
    }

    /// The wait after a change of the stream's state.
    pub(in crate::server) fn after(self, state: &StreamState, vhost: &Vhost, now: Instant) -> Self {
        match self {
            _ if state.has_publisher() => Self::ForPublisher,
            Self::ForPublisher => Self::new(state, vhost, now),
            Self::ForOrigins(before) if state.failed_rounds > before => {
                Self::Until(now + vhost.play_wait_timeout)
            }
            other => other,
        }
    }
}

/// Consequence of a stream's new state for a player that waits.
pub(super) enum WaitUpdate {
    /// The stream is live: the play is to be accepted.
    Play,
    /// The stream has ended: the play is to be refused.
    Refuse,
    /// The player waits on.
    Wait,
    /// The player waits on; the stream has a publisher now (`true`), or has
    /// none any more.
    Publisher(bool),
}

/// A player that waits.
pub(super) struct Waiting {
    pub(super) play: Play,
    pub(super) stream_state: watch::Receiver<StreamState>,
    pub(super) wait: PlayWait,
}

impl Waiting {
    /// Begins the wait for the stream of `play`.
    pub(super) fn new(
        play: Play,
        stream_state: watch::Receiver<StreamState>,
        vhost: &Vhost,
        now: Instant,
    ) -> Self {
        let wait = PlayWait::new(&stream_state.borrow(), vhost, now);
        Self {
            play,
            stream_state,
            wait,
        }
    }

    /// Reason to refuse the player, for its status.
    pub(super) fn refusal(&self) -> String {
        let key = self.play.subscription.stream().key();
        match self.wait {
            _ if self.stream_state.borrow().ended => format!("{key} has ended"),
            PlayWait::ForOrigins(_) => format!("the origins of {key} have not answered"),
            PlayWait::Until(_) | PlayWait::ForPublisher => format!("nobody publishes {key}"),
        }
    }

    /// Takes the stream's newest state.
    pub(super) fn update(&mut self, vhost: Option<&Vhost>, now: Instant) -> WaitUpdate {
        let state = *self.stream_state.borrow_and_update();
        if state.live {
            return WaitUpdate::Play;
        }
        if state.ended {
            return WaitUpdate::Refuse;
        }
        let before = self.wait;
        if let Some(vhost) = vhost {
            self.wait = before.after(&state, vhost, now);
        }
        let has_publisher = self.wait == PlayWait::ForPublisher;
        if has_publisher == (before == PlayWait::ForPublisher) {
            WaitUpdate::Wait
        } else {
            WaitUpdate::Publisher(has_publisher)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Role};

    fn vhost(role: Role, text: &str) -> Vhost {
        let text = format!("vhost __defaultVhost__ {{ play_wait_timeout 10000; {text} }}");
        let config = config::load(&text, role).unwrap().config;
        (*config.vhosts["__defaultVhost__"]).clone()
    }

    const NOBODY: StreamState = StreamState {
        turn: 0,
        on_air: 0,
        switch: None,
        live: false,
        sent_turn: 0,
        present: false,
        expected: 0,
        ended: false,
        failed_rounds: 3,
    };
    const PRESENT: StreamState = StreamState {
        present: true,
        ..NOBODY
    };
    const EXPECTED: StreamState = StreamState {
        expected: 1,
        ..NOBODY
    };

    #[test]
    fn a_player_waits_while_there_is_a_publisher_and_its_time_begins_when_it_goes() {
        let vhost = vhost(Role::Origin, "");
        let now = Instant::now();
        let wait = Duration::from_secs(10);
        let waits = PlayWait::new(&NOBODY, &vhost, now);
        assert_eq!(waits, PlayWait::Until(now + wait));
        for publisher in [PRESENT, EXPECTED] {
            let waits = waits.after(&publisher, &vhost, now);
            assert_eq!(waits, PlayWait::ForPublisher);
            assert_eq!(PlayWait::new(&publisher, &vhost, now), waits);
            let later = now + 3 * wait;
            assert_eq!(waits.after(&publisher, &vhost, later), waits);
            let gone = waits.after(&NOBODY, &vhost, later);
            assert_eq!(gone, PlayWait::Until(later + wait));
        }
    }

    #[test]
    fn at_an_edge_the_time_begins_when_the_origins_have_been_asked_again() {
        let vhost = vhost(Role::Edge, "mode remote; origin 192.0.2.1;");
        let now = Instant::now();
        let waits = PlayWait::new(&EXPECTED, &vhost, now);
        assert_eq!(waits, PlayWait::ForPublisher);
        let asks = waits.after(&NOBODY, &vhost, now);
        assert_eq!(asks, PlayWait::ForOrigins(3));
        let failed_rounds = StreamState {
            failed_rounds: 4,
            ..NOBODY
        };
        let until = asks.after(&failed_rounds, &vhost, now);
        assert_eq!(until, PlayWait::Until(now + Duration::from_secs(10)));
        assert_eq!(until.after(&EXPECTED, &vhost, now), PlayWait::ForPublisher);
    }
}
