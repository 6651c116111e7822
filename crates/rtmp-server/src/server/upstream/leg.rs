//! One of the connections by which a stream is pulled: most streams have one.

use std::future::poll_fn;
use std::task::Poll;

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::origin_pull::{OriginPull, PullEvent, ResumedPull};
use super::pull::{AllOriginsFailed, Input, Pull};

/// The task of a connection to an origin; dropped, the connection ends.
pub(super) struct OriginTask {
    _task: AbortOnDropHandle<()>,
    events: mpsc::Receiver<PullEvent>,
}

impl OriginTask {
    /// Starts it, over `resumed` if that is there.
    pub(super) fn start(origin: OriginPull, resumed: Option<Box<ResumedPull>>) -> Self {
        let (sender, events) = mpsc::channel(4);
        Self {
            _task: AbortOnDropHandle::new(tokio::spawn(origin.run(resumed, sender))),
            events,
        }
    }
}

/// One of a stream's connections to origins, and what it has come to.
pub(super) struct Leg {
    pub(super) pull: Pull,
    pub(super) connection: Option<OriginTask>,
    /// Result of its last round, if no origin has had the stream.
    failed: Option<AllOriginsFailed>,
}

/// An event for a leg.
pub(super) struct LegInput {
    pub(super) leg: usize,
    pub(super) input: Input,
}

impl LegInput {
    /// The same event for all of `legs` legs.
    pub(super) fn to_all(legs: usize, input: Input) -> Vec<Self> {
        (0..legs).map(|leg| Self { leg, input }).collect()
    }
}

impl Leg {
    pub(super) fn new(pull: Pull) -> Self {
        Self {
            pull,
            connection: None,
            failed: None,
        }
    }

    /// Waits for the next event of a connection.
    pub(super) async fn next_event(legs: &mut [Self]) -> LegInput {
        poll_fn(|context| {
            for (leg, it) in legs.iter_mut().enumerate() {
                let Some(connection) = &mut it.connection else {
                    continue;
                };
                if let Poll::Ready(event) = connection.events.poll_recv(context) {
                    let input = event.map_or(Input::Lost, Input::from);
                    return Poll::Ready(LegInput { leg, input });
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The result of rounds in which no origin has had the stream, once: there is none as
    /// long as a leg may still find one.
    pub(super) fn take_all_failed(legs: &mut [Self]) -> Option<AllOriginsFailed> {
        for leg in &mut *legs {
            if leg.pull.flows() {
                leg.failed = None;
            }
            if let Some(failed) = leg.pull.take_all_failed() {
                leg.failed = Some(failed);
            }
        }
        if legs.iter().any(|leg| leg.failed.is_none()) {
            return None;
        }
        let failed = legs.iter_mut().filter_map(|leg| leg.failed.take());
        let answered = failed.fold(false, |answered, failed| answered | failed.answered);
        Some(AllOriginsFailed { answered })
    }
}

impl From<PullEvent> for Input {
    fn from(event: PullEvent) -> Self {
        match event {
            PullEvent::Connected => Self::Connected,
            PullEvent::PublisherAnnounced(has_publisher) => Self::PublisherAnnounced(has_publisher),
            PullEvent::Flowing => Self::Flowing,
            PullEvent::Slate(is_slate) => Self::Slate(is_slate),
            PullEvent::Lost => Self::Lost,
        }
    }
}
