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
    /// What the origin sends is a slate, or no longer.
    Slate(bool),
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
    /// Number of the origin that another pull of the same stream has; set by
    /// [`Pull::leave_out`].
    elsewhere: Option<usize>,
    /// Attempts since media last flowed.
    failures: u32,
    /// True if an origin has accepted a connection in the present round.
    answered: bool,
    all_failed: Option<AllOriginsFailed>,
    /// What the origin sends is a slate.
    is_slate: bool,
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
            elsewhere: None,
            failures: 0,
            answered: false,
            all_failed: None,
            is_slate: false,
            // xorshift stays at zero for ever.
            random: seed | 1,
        }
    }

    /// The origin with this number is left to another pull of the same stream, until the next
    /// call; with `None` no one is.
    pub(super) fn leave_out(&mut self, origin: Option<usize>) {
        self.elsewhere = origin.filter(|_| self.origins > 1);
    }

    /// Number of origins that it may try.
    fn candidates(&self) -> usize {
        self.origins - usize::from(self.elsewhere.is_some())
    }

    /// Goes on with a connection to the origin numbered `origin` that was made before;
    /// `flows`: media flows over it.
    pub(super) fn resume(&mut self, origin: usize, flows: bool, now: Instant) {
        self.origin = origin % self.origins;
        self.state = match flows {
            true => State::Flowing,
            false => State::Asking(Some(now + self.answer_timeout())),
        };
    }

    /// Time at which [`Input::Time`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Pausing(until) | State::Lingering(until) => Some(until),
            State::Asking(until) => until,
            State::New | State::Connecting | State::Flowing | State::Finished => None,
        }
    }

    /// True if media flows.
    pub(super) fn flows(&self) -> bool {
        matches!(self.state, State::Flowing | State::Lingering(_))
    }

    /// True if what flows is a slate.
    pub(super) fn shows_slate(&self) -> bool {
        self.flows() && self.is_slate
    }

    /// True if it has ended, for want of an audience.
    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Finished
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
            (_, Input::Slate(is_slate)) => self.is_slate = is_slate,
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
                if self.candidates() > 1 {
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
        u32::try_from(self.candidates()).unwrap_or(u32::MAX)
    }

    /// Number of rounds in which all origins have failed since media last flowed.
    fn rounds(&self) -> u32 {
        self.failures / self.round_length()
    }

    fn connect(&mut self) -> Action {
        // The other pull may have gone there since this origin was chosen.
        self.pass_elsewhere();
        self.is_slate = false;
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
        self.pass_elsewhere();
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

    /// Goes on to the next origin if another pull of the same stream has this one.
    fn pass_elsewhere(&mut self) {
        if self.elsewhere == Some(self.origin) {
            self.origin = (self.origin + 1) % self.origins;
        }
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
mod tests;
