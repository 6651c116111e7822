//! When an edge connects to which origin, and when it lets go: a state
//! machine that knows neither sockets nor clocks.

use std::time::{Duration, Instant};

/// The pause after the first round of origins has failed; it doubles with
/// each round.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// An origin that has taken the question and has sent nothing by then does not
/// have the stream at present; twice as long in each later round, for origins
/// that wait for a keyframe.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// The rounds after which that patience grows no longer.
const MAX_DOUBLINGS: u32 = 3;

/// What happens to a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// So many play the stream here, or wait to.
    Audience(usize),
    /// The origin has accepted the connection, and is asked for the stream.
    Connected,
    /// The origin says whether the stream, of which it has sent nothing yet,
    /// has a publisher.
    Announced(bool),
    /// The origin has sent media.
    Flowing,
    /// The connection could not be made, or has ended, or has no such stream.
    Lost,
    /// The time that [`Pull::deadline`] gave has come.
    Time,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Connect to the origin with this number, and ask for the stream.
    Connect(usize),
    /// Nobody needs the stream any more: close what is open, and end.
    Finish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody has come yet.
    New,
    /// A connection is being made.
    Connecting,
    /// It waits for media, and until then it does so with hope.
    Asking(Option<Instant>),
    /// Media flows.
    Flowing,
    /// All origins have failed: the next round begins then.
    Pausing(Instant),
    Finished,
}

/// All origins have been asked, and none has the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vain {
    /// Whether one of them at least could be talked to.
    pub answered: bool,
}

/// The pull of one stream from its origins.
#[derive(Debug)]
pub struct Pull {
    origins: usize,
    linger: Duration,
    state: State,
    /// The origin that is tried, or tried next.
    origin: usize,
    /// Attempts since media last flowed.
    failures: u32,
    /// Whether an origin could be talked to in the present round.
    answered: bool,
    /// The last round that has brought nothing.
    vain: Option<Vain>,
    /// When a flowing stream without audience is given up.
    linger_until: Option<Instant>,
    random: u64,
}

impl Pull {
    /// A pull from one of `origins` origins, the one numbered `first` before
    /// the others, that keeps its connection for `linger` after the last of the
    /// audience has gone. `seed` spreads the retries of many edges.
    #[must_use]
    pub fn new(origins: usize, first: usize, linger: Duration, seed: u64) -> Self {
        let origins = origins.max(1);
        Self {
            origins,
            linger,
            state: State::New,
            origin: first % origins,
            failures: 0,
            answered: false,
            vain: None,
            linger_until: None,
            random: seed | 1,
        }
    }

    /// When [`Input::Time`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Pausing(until) => Some(until),
            State::Flowing => self.linger_until,
            State::Asking(until) => until,
            State::New | State::Connecting | State::Finished => None,
        }
    }

    /// Whether there is to be a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(
            self.state,
            State::Connecting | State::Asking(_) | State::Flowing
        )
    }

    /// A round that has just been in vain, once.
    pub fn take_vain(&mut self) -> Option<Vain> {
        self.vain.take()
    }

    /// The origin that is tried, or was the last to be.
    #[cfg(test)]
    fn origin(&self) -> usize {
        self.origin
    }

    /// Takes what has happened and says what is to be done.
    pub fn handle(&mut self, now: Instant, input: Input) -> Option<Action> {
        match (self.state, input) {
            (State::Finished, _) => None,
            (State::New, Input::Audience(1..)) => Some(self.connect()),
            (State::Flowing, Input::Audience(0)) => {
                self.linger_until.get_or_insert(now + self.linger);
                None
            }
            (_, Input::Audience(0)) => Some(self.finish()),
            (_, Input::Audience(_)) => {
                self.linger_until = None;
                None
            }
            (State::Connecting, Input::Connected) => {
                self.answered = true;
                self.state = State::Asking(Some(now + self.patience()));
                None
            }
            (State::Asking(_), Input::Announced(true)) => {
                self.state = State::Asking(None);
                None
            }
            (State::Asking(None), Input::Announced(false)) => {
                self.state = State::Asking(Some(now + self.patience()));
                None
            }
            (State::Connecting | State::Asking(_), Input::Flowing) => {
                self.state = State::Flowing;
                self.failures = 0;
                self.answered = false;
                None
            }
            (State::Asking(Some(until)), Input::Time) if until <= now => {
                if self.origins > 1 {
                    return self.fail(now);
                }
                // There is no other: should somebody begin to publish, this
                // one tells.
                self.state = State::Asking(None);
                self.vain = Some(Vain { answered: true });
                None
            }
            (State::Flowing, Input::Lost) if self.linger_until.is_some() => Some(self.finish()),
            (State::Connecting | State::Asking(_) | State::Flowing, Input::Lost) => self.fail(now),
            (State::Pausing(until), Input::Time) if until <= now => Some(self.connect()),
            (State::Flowing, Input::Time)
                if self.linger_until.is_some_and(|until| until <= now) =>
            {
                Some(self.finish())
            }
            _ => None,
        }
    }

    /// How long an origin may send nothing before it is taken not to have the
    /// stream.
    fn patience(&self) -> Duration {
        ANSWER_PATIENCE * (1 << self.rounds().min(MAX_DOUBLINGS))
    }

    fn round_length(&self) -> u32 {
        u32::try_from(self.origins).unwrap_or(u32::MAX)
    }

    /// How often all origins have been asked in vain since media last flowed.
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

    /// On to the next origin: at once, or after a pause when all have failed.
    fn fail(&mut self, now: Instant) -> Option<Action> {
        self.failures += 1;
        self.origin = (self.origin + 1) % self.origins;
        if !self.failures.is_multiple_of(self.round_length()) {
            return Some(self.connect());
        }
        self.vain = Some(Vain {
            answered: std::mem::take(&mut self.answered),
        });
        let rounds = (self.rounds() - 1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << rounds).min(MAX_PAUSE);
        // Between half the pause and all of it.
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
        assert_eq!(pull.take_vain(), None, "one is left to be asked");
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
        assert_eq!(pull.take_vain(), Some(Vain { answered: true }));
        assert_eq!(pull.take_vain(), None, "it is told once");
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
            assert_eq!(pull.handle(now, Input::Announced(true)), None);
            assert_eq!(pull.deadline(), None);
            assert_eq!(pull.handle(now + second(15), Input::Time), None);
            assert_eq!((pull.origin(), pull.take_vain()), (0, None));
            let gone = now + second(20);
            pull.handle(gone, Input::Announced(false));
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
            assert_eq!(pull.take_vain(), Some(Vain { answered }));
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
