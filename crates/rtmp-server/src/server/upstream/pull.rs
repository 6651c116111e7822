//! The choice of an origin for one stream of an edge, as a state machine without
//! sockets and clocks: when to connect to which origin, and when to let go.

use std::time::{Duration, Instant};

/// Pause after the first round in which all origins have failed; it doubles
/// with each round.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Maximum pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Time after which an origin that has accepted the play and has sent nothing
/// is taken not to have the stream. It doubles with each round, for origins that
/// wait for a keyframe.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of times that [`ANSWER_TIMEOUT`] doubles.
const MAX_DOUBLINGS: u32 = 3;

/// An event of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// Number of those who play the stream here, or wait to.
    Audience(usize),
    /// The origin has accepted the connection, and is asked for the stream.
    Connected,
    /// The origin, which has sent no media yet, says if the stream has a
    /// publisher.
    PublisherAnnounced(bool),
    /// The origin has sent media.
    Flowing,
    /// The connection could not be made, or has ended, or has no such stream.
    Lost,
    /// The time that [`Pull::deadline`] gave has come.
    Time,
}

/// The consequence of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Connect to the origin with this number, and ask for the stream.
    Connect(usize),
    /// Nobody needs the stream any more: close what is open, and end.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has asked for the stream yet.
    New,
    /// A connection is being made.
    Connecting,
    /// The origin has been asked for the stream. At this time, if any, it is
    /// taken not to have it.
    Asking(Option<Instant>),
    /// Media flows.
    Flowing,
    /// Media flows and nobody plays it: the pull ends at this time.
    Lingering(Instant),
    /// All origins have failed: the next round begins at this time.
    Pausing(Instant),
    Finished,
}

/// Result of a round in which no origin has had the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AllOriginsFailed {
    /// True if at least one of them has accepted a connection.
    pub(super) answered: bool,
}

/// The pull of one stream from its origins.
///
/// ```text
///       Audience(1..)              Connected            Flowing
///  New ──────────────▶ Connecting ──────────▶ Asking ──────────▶ Flowing
///                      ▲   ▲  │ Lost            │ Lost, Time    │   │  ▲
///                      │   │  ▼                 ▼        Lost   │   │  │ Audience(1..)
///                      │   └─ the next origin ◀─────────────────┘   │  │
///                 Time │          │ after the last            Audience(0)
///                      │          ▼                                 ▼  │
///                      └─────── Pausing                         Lingering
/// ```
///
/// `Lingering` becomes `Finished` by `Lost` or `Time`; every other state but
/// `Flowing` does by `Audience(0)`.
///
/// Call [`Pull::handle`] with each event, carry out the action that it returns,
/// take [`Pull::take_all_failed`], and call it with [`Input::Time`] at
/// [`Pull::deadline`].
#[derive(Debug)]
pub(super) struct Pull {
    /// Number of origins, at least 1.
    origins: usize,
    linger: Duration,
    state: State,
    /// Number of the origin that is tried, or tried next.
    origin: usize,
    /// Attempts since media last flowed.
    failures: u32,
    /// True if an origin has accepted a connection in the present round.
    answered: bool,
    all_failed: Option<AllOriginsFailed>,
    /// State of the random numbers.
    random: u64,
}

impl Pull {
    /// A pull from one of `origins` origins, the one numbered `first` before
    /// the others, that keeps its connection for `linger` after the last of the
    /// audience has gone. `seed` spreads the retries of many edges.
    pub(super) fn new(origins: usize, first: usize, linger: Duration, seed: u64) -> Self {
        let origins = origins.max(1);
        Self {
            origins,
            linger,
            state: State::New,
            origin: first % origins,
            failures: 0,
            answered: false,
            all_failed: None,
            // xorshift stays at zero for ever.
            random: seed | 1,
        }
    }

    /// Time at which [`Input::Time`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Pausing(until) | State::Lingering(until) => Some(until),
            State::Asking(until) => until,
            State::New | State::Connecting | State::Flowing | State::Finished => None,
        }
    }

    /// True if there is to be a connection.
    pub(super) fn is_connected(&self) -> bool {
        matches!(
            self.state,
            State::Connecting | State::Asking(_) | State::Flowing | State::Lingering(_)
        )
    }

    /// Result of a round that has just failed, once.
    pub(super) fn take_all_failed(&mut self) -> Option<AllOriginsFailed> {
        self.all_failed.take()
    }

    /// Name of its state in metrics.
    pub(super) fn state_name(&self) -> &'static str {
        match self.state {
            State::New | State::Connecting => "connecting",
            State::Asking(_) => "asking",
            State::Flowing => "flowing",
            State::Lingering(_) => "lingering",
            State::Pausing(_) => "pausing",
            State::Finished => "finished",
        }
    }

    /// The origin that is tried, or was the last to be.
    pub(super) fn origin(&self) -> usize {
        self.origin
    }

    /// Takes an event, and returns its consequence.
    pub(super) fn handle(&mut self, now: Instant, input: Input) -> Option<Action> {
        match (self.state, input) {
            (State::New, Input::Audience(1..)) => return Some(self.connect()),
            (State::Flowing, Input::Audience(0)) => {
                self.state = State::Lingering(now + self.linger);
            }
            (State::Lingering(_), Input::Audience(1..)) => self.state = State::Flowing,
            (State::Finished, _)
            | (State::Lingering(_), Input::Audience(0))
            | (_, Input::Audience(1..)) => {}
            (_, Input::Audience(0)) => return Some(self.finish()),
            (State::Connecting, Input::Connected) => {
                self.answered = true;
                self.state = State::Asking(Some(now + self.answer_timeout()));
            }
            (State::Asking(_), Input::PublisherAnnounced(true)) => {
                self.state = State::Asking(None);
            }
            (State::Asking(None), Input::PublisherAnnounced(false)) => {
                self.state = State::Asking(Some(now + self.answer_timeout()));
            }
            (State::Connecting | State::Asking(_), Input::Flowing) => {
                self.state = State::Flowing;
                self.failures = 0;
                self.answered = false;
            }
            (State::Asking(Some(until)), Input::Time) if until <= now => {
                if self.origins > 1 {
                    return self.next_origin(now);
                }
                // There is no other origin. This one is kept: it sends the stream
                // as soon as somebody publishes it.
                self.state = State::Asking(None);
                self.all_failed = Some(AllOriginsFailed { answered: true });
            }
            (State::Connecting | State::Asking(_) | State::Flowing, Input::Lost) => {
                return self.next_origin(now);
            }
            (State::Pausing(until), Input::Time) if until <= now => return Some(self.connect()),
            (State::Lingering(_), Input::Lost) => return Some(self.finish()),
            (State::Lingering(until), Input::Time) if until <= now => return Some(self.finish()),
            _ => {}
        }
        None
    }

    /// Time for which an origin may send nothing before it is taken not to have
    /// the stream.
    fn answer_timeout(&self) -> Duration {
        ANSWER_TIMEOUT * (1 << self.rounds().min(MAX_DOUBLINGS))
    }

    fn round_length(&self) -> u32 {
        u32::try_from(self.origins).unwrap_or(u32::MAX)
    }

    /// Number of rounds in which all origins have failed since media last flowed.
    fn rounds(&self) -> u32 {
        self.failures / self.round_length()
    }

    fn connect(&mut self) -> Action {
        self.state = State::Connecting;
        Action::Connect(self.origin)
    }

    fn finish(&mut self) -> Action {
        self.state = State::Finished;
        Action::Finish
    }

    /// Connects to the next origin: at once, or after a pause if all have
    /// failed.
    fn next_origin(&mut self, now: Instant) -> Option<Action> {
        self.failures += 1;
        self.origin = (self.origin + 1) % self.origins;
        if !self.failures.is_multiple_of(self.round_length()) {
            return Some(self.connect());
        }
        self.all_failed = Some(AllOriginsFailed {
            answered: std::mem::take(&mut self.answered),
        });
        let rounds = (self.rounds() - 1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << rounds).min(MAX_PAUSE);
        // Between half the pause and all of it, so that edges do not retry in step.
        let pause = pause / 2 + (pause / 2).mul_f64(self.fraction());
        self.state = State::Pausing(now + pause);
        None
    }

    /// A number between 0 and 1 (xorshift64, Marsaglia 2003).
    fn fraction(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        f64::from((self.random >> 32) as u32) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(10);

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    /// A pull whose stream flows from the first of `origins`.
    fn flowing(origins: usize, now: Instant) -> Pull {
        let mut pull = Pull::new(origins, 0, LINGER, 7);
        assert_eq!(
            pull.handle(now, Input::Audience(1)),
            Some(Action::Connect(0))
        );
        assert_eq!(pull.handle(now, Input::Flowing), None);
        pull
    }

    #[test]
    fn the_first_player_starts_it_and_others_change_nothing() {
        let now = Instant::now();
        let mut pull = Pull::new(2, 0, LINGER, 7);
        assert_eq!(pull.deadline(), None);
        assert_eq!(
            pull.handle(now, Input::Audience(1)),
            Some(Action::Connect(0))
        );
        assert_eq!(pull.handle(now, Input::Audience(2)), None);
        assert_eq!(pull.handle(now, Input::Flowing), None);
        assert_eq!(pull.handle(now, Input::Audience(3)), None);
    }

    #[test]
    fn it_lingers_after_the_last_player_and_then_lets_go() {
        let now = Instant::now();
        let mut pull = flowing(1, now);
        assert_eq!(pull.handle(now + second(1), Input::Audience(0)), None);
        assert_eq!(pull.deadline(), Some(now + second(11)));
        assert_eq!(pull.handle(now + second(10), Input::Time), None);
        assert_eq!(
            pull.handle(now + second(11), Input::Time),
            Some(Action::Finish)
        );
        assert_eq!(
            pull.handle(now + second(12), Input::Audience(1)),
            None,
            "it is finished"
        );
    }

    #[test]
    fn a_new_player_cancels_the_lingering() {
        let now = Instant::now();
        let mut pull = flowing(1, now);
        pull.handle(now, Input::Audience(0));
        assert_eq!(pull.handle(now + second(9), Input::Audience(1)), None);
        assert_eq!(pull.deadline(), None);
        assert_eq!(pull.handle(now + second(20), Input::Time), None);
        pull.handle(now + second(30), Input::Audience(0));
        assert_eq!(
            pull.deadline(),
            Some(now + second(40)),
            "the time runs anew"
        );
    }

    #[test]
    fn origins_are_tried_in_turn_then_there_is_a_pause_that_grows() {
        let now = Instant::now();
        let mut pull = Pull::new(2, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        let mut longest = Duration::ZERO;
        for round in 0..12 {
            assert_eq!(
                pull.handle(now, Input::Lost),
                Some(Action::Connect(1)),
                "round {round}"
            );
            assert_eq!(pull.handle(now, Input::Lost), None);
            let pause = pull.deadline().unwrap() - now;
            let expected = (FIRST_PAUSE * (1 << round.min(10))).min(MAX_PAUSE);
            assert!(
                (expected / 2..=expected).contains(&pause),
                "round {round}: {pause:?}"
            );
            longest = longest.max(pause);
            assert_eq!(
                pull.handle(now + pause, Input::Time),
                Some(Action::Connect(0))
            );
        }
        assert!(longest <= MAX_PAUSE);
    }

    #[test]
    fn edges_do_not_retry_in_step() {
        let now = Instant::now();
        let pause = |seed| {
            let mut pull = Pull::new(1, 0, LINGER, seed);
            pull.handle(now, Input::Audience(1));
            pull.handle(now, Input::Lost);
            pull.deadline().unwrap()
        };
        assert_ne!(pause(1), pause(0x9e37_79b9_7f4a_7c15));
    }

    #[test]
    fn an_origin_that_dies_is_replaced_by_the_next_while_players_stay() {
        let now = Instant::now();
        let mut pull = flowing(2, now);
        assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
        assert_eq!(pull.handle(now, Input::Flowing), None);
        assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(0)));
    }

    #[test]
    fn media_makes_the_pauses_short_again() {
        let now = Instant::now();
        let mut pull = Pull::new(1, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        for _ in 0..8 {
            pull.handle(now, Input::Lost);
            pull.handle(now + MAX_PAUSE, Input::Time);
        }
        pull.handle(now, Input::Flowing);
        pull.handle(now, Input::Lost);
        assert!(pull.deadline().unwrap() - now <= FIRST_PAUSE);
    }

    #[test]
    fn it_ends_at_once_when_nobody_waits_for_a_stream_that_does_not_come() {
        let now = Instant::now();
        let mut pull = Pull::new(1, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        assert_eq!(pull.handle(now, Input::Audience(0)), Some(Action::Finish));
        let mut pull = Pull::new(1, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        pull.handle(now, Input::Lost);
        assert_eq!(pull.handle(now, Input::Audience(0)), Some(Action::Finish));
        let mut pull = flowing(1, now);
        pull.handle(now, Input::Audience(0));
        assert_eq!(
            pull.handle(now, Input::Lost),
            Some(Action::Finish),
            "lost while lingering"
        );
    }

    #[test]
    fn an_origin_without_the_stream_is_left_for_the_next_before_players_give_up() {
        let now = Instant::now();
        let mut pull = Pull::new(2, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        pull.handle(now, Input::Connected);
        let until = pull.deadline().unwrap();
        assert!(until <= now + second(1));
        assert_eq!(pull.handle(until, Input::Time), Some(Action::Connect(1)));
        assert_eq!(pull.take_all_failed(), None, "one is left to be asked");
        pull.handle(until, Input::Connected);
        assert_eq!(pull.handle(until, Input::Flowing), None);
        assert_eq!(pull.origin(), 1);
        assert!(pull.is_connected());
    }

    #[test]
    fn origins_that_let_the_edge_wait_for_a_keyframe_get_longer_to_send_it() {
        let mut now = Instant::now();
        let mut pull = Pull::new(2, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        for patience in [1, 2, 4, 8, 8] {
            for action in [Some(Action::Connect(1)), None] {
                pull.handle(now, Input::Connected);
                assert_eq!(pull.deadline(), Some(now + second(patience)));
                now += second(patience);
                assert_eq!(pull.handle(now, Input::Time), action);
            }
            now = pull.deadline().unwrap();
            assert_eq!(pull.handle(now, Input::Time), Some(Action::Connect(0)));
        }
    }

    #[test]
    fn the_only_origin_is_kept_though_it_has_nothing_yet() {
        let now = Instant::now();
        let mut pull = Pull::new(1, 0, LINGER, 7);
        pull.handle(now, Input::Audience(1));
        pull.handle(now, Input::Connected);
        assert_eq!(pull.handle(now + second(1), Input::Time), None);
        assert_eq!(
            pull.take_all_failed(),
            Some(AllOriginsFailed { answered: true })
        );
        assert_eq!(pull.take_all_failed(), None, "it is told once");
        assert!(pull.is_connected());
        assert_eq!(pull.deadline(), None);
        assert_eq!(pull.handle(now + second(9), Input::Flowing), None);
        pull.handle(now + second(9), Input::Audience(0));
        assert_eq!(pull.deadline(), Some(now + second(19)), "it flows");
    }

    #[test]
    fn an_origin_that_has_a_publisher_is_kept_until_that_goes() {
        let now = Instant::now();
        for origins in [1, 2] {
            let mut pull = Pull::new(origins, 0, LINGER, 7);
            pull.handle(now, Input::Audience(1));
            pull.handle(now, Input::Connected);
            assert_eq!(pull.handle(now, Input::PublisherAnnounced(true)), None);
            assert_eq!(pull.deadline(), None);
            assert_eq!(pull.handle(now + second(15), Input::Time), None);
            assert_eq!((pull.origin(), pull.take_all_failed()), (0, None));
            let gone = now + second(20);
            pull.handle(gone, Input::PublisherAnnounced(false));
            assert_eq!(pull.deadline(), Some(gone + second(1)));
            let next = (origins > 1).then_some(Action::Connect(1));
            assert_eq!(pull.handle(gone + second(1), Input::Time), next);
        }
    }

    #[test]
    fn a_round_in_vain_says_whether_any_origin_could_be_talked_to() {
        let now = Instant::now();
        for (connected, answered) in [(false, false), (true, true)] {
            let mut pull = flowing(2, now);
            assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(1)));
            if connected {
                pull.handle(now, Input::Connected);
            }
            assert_eq!(pull.handle(now, Input::Lost), None);
            assert_eq!(pull.take_all_failed(), Some(AllOriginsFailed { answered }));
            assert!(!pull.is_connected());
        }
    }

    #[test]
    fn the_origin_that_had_the_last_stream_is_asked_first() {
        let now = Instant::now();
        let mut pull = Pull::new(3, 2, LINGER, 7);
        assert_eq!(
            pull.handle(now, Input::Audience(1)),
            Some(Action::Connect(2))
        );
        assert_eq!(pull.handle(now, Input::Lost), Some(Action::Connect(0)));
    }
}
