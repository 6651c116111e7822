//! A player that waits for its stream to be published.

use rtmp_proto::session::Status;
use rtmp_proto::session::status::code;
use tokio::time::Instant;

use super::end::End;
use super::handover::Play;
use super::{Connection, Engagement};
use crate::config::Vhost;
use crate::server::clients::Activity;
use crate::server::peer::PeerKind;
use crate::stream::StreamState;

/// How long a player waits for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Until then.
    Until(Instant),
    /// The stream has a publisher that has sent nothing yet: for as long as it
    /// has.
    WithPublisher,
    /// The origins come first: it begins when all have been asked in vain more
    /// often than this.
    AfterOrigins(u64),
}

impl Patience {
    /// The patience of a player that comes at `now`, or whose publisher has
    /// just gone.
    fn new(state: &StreamState, vhost: &Vhost, now: Instant) -> Self {
        if state.has_publisher() {
            Self::WithPublisher
        } else if vhost.upstream.is_some() {
            Self::AfterOrigins(state.failed_rounds)
        } else {
            Self::Until(now + vhost.play_wait_timeout)
        }
    }

    /// What becomes of it when the stream's state has changed.
    fn after(self, state: &StreamState, vhost: &Vhost, now: Instant) -> Self {
        match self {
            _ if state.has_publisher() => Self::WithPublisher,
            Self::WithPublisher => Self::new(state, vhost, now),
            Self::AfterOrigins(before) if state.failed_rounds > before => {
                Self::Until(now + vhost.play_wait_timeout)
            }
            other => other,
        }
    }
}

impl Connection {
    /// Has the player wait for its stream, unless that has something to play.
    pub(super) fn wait(&mut self, play: Play, vhost: &Vhost) {
        let stream = play.subscription.stream();
        let state = stream.state();
        if state.borrow().live {
            self.accept_play(play);
            return;
        }
        self.client
            .set_activity(Activity::Waiting(stream.key().clone()));
        let stream_id = play.request.stream_id;
        self.session.defer_play(stream_id);
        let patience = Patience::new(&state.borrow(), vhost, Instant::now());
        if patience == Patience::WithPublisher {
            self.announce(stream_id, true);
        }
        self.engagement = Engagement::Waiting {
            play,
            state,
            patience,
        };
    }

    /// The stream that the player waits for has a new state.
    pub(super) fn wait_on(&mut self, state: StreamState) -> Result<(), End> {
        let Engagement::Waiting { play, patience, .. } = &mut self.engagement else {
            return Ok(());
        };
        if state.live {
            let engagement = std::mem::replace(&mut self.engagement, Engagement::None);
            if let Engagement::Waiting { play, .. } = engagement {
                self.accept_play(play);
            }
            return Ok(());
        }
        if state.ended {
            return Err(self.expired(""));
        }
        let before = *patience;
        if let Some(vhost) = &self.vhost {
            *patience = before.after(&state, vhost, Instant::now());
        }
        let stream_id = play.request.stream_id;
        let has_publisher = *patience == Patience::WithPublisher;
        if has_publisher != (before == Patience::WithPublisher) {
            self.announce(stream_id, has_publisher);
        }
        Ok(())
    }

    /// Tells a server of ours that waits whether the stream has a publisher: its
    /// own players wait on then. Others would take it for something else.
    fn announce(&mut self, stream_id: u32, has_publisher: bool) {
        if self.connect_info.peer != PeerKind::OurServer {
            return;
        }
        let status = if has_publisher {
            Status::notice(code::PLAY_PUBLISH_NOTIFY, "The stream has a publisher.")
        } else {
            Status::notice(code::PLAY_UNPUBLISH_NOTIFY, "The publisher has gone.")
        };
        self.session.send_status(stream_id, &status, &mut self.out);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{self, Role, conf};

    fn vhost(role: Role, text: &str) -> Vhost {
        let text = format!("vhost __defaultVhost__ {{ play_wait_timeout 10000; {text} }}");
        let directives = conf::parse("x.conf", &text).unwrap();
        let config = config::build(&directives, role).unwrap().config;
        (*config.vhosts["__defaultVhost__"]).clone()
    }

    const NOBODY: StreamState = StreamState {
        generation: 0,
        live: false,
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
        let patience = Patience::new(&NOBODY, &vhost, now);
        assert_eq!(patience, Patience::Until(now + wait));
        for publisher in [PRESENT, EXPECTED] {
            let waits = patience.after(&publisher, &vhost, now);
            assert_eq!(waits, Patience::WithPublisher);
            assert_eq!(Patience::new(&publisher, &vhost, now), waits);
            let later = now + 3 * wait;
            assert_eq!(waits.after(&publisher, &vhost, later), waits);
            let gone = waits.after(&NOBODY, &vhost, later);
            assert_eq!(gone, Patience::Until(later + wait));
        }
    }

    #[test]
    fn at_an_edge_the_time_begins_when_the_origins_have_been_asked_again() {
        let vhost = vhost(Role::Edge, "mode remote; origin 192.0.2.1;");
        let now = Instant::now();
        let waits = Patience::new(&EXPECTED, &vhost, now);
        assert_eq!(waits, Patience::WithPublisher);
        let asks = waits.after(&NOBODY, &vhost, now);
        assert_eq!(asks, Patience::AfterOrigins(3));
        let asked_again = StreamState {
            failed_rounds: 4,
            ..NOBODY
        };
        let until = asks.after(&asked_again, &vhost, now);
        assert_eq!(until, Patience::Until(now + Duration::from_secs(10)));
        assert_eq!(until.after(&EXPECTED, &vhost, now), Patience::WithPublisher);
    }
}
