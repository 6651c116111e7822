//! The latest events, and those who follow further ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use service_kit::{EventRing, Numbered};
use tokio::sync::broadcast;

use super::protocol::Event;

/// Events that are kept for those who come later.
pub(crate) const LATEST_KEPT: usize = 100;

/// Events that a follower may be behind before it misses some.
const BACKLOG: usize = 1024;

/// The latest events, and who is told of the next ones.
#[derive(Debug, Clone)]
pub struct EventLog {
    followers: broadcast::Sender<Event>,
    latest: Arc<Mutex<EventRing<Event>>>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self {
            followers: broadcast::channel(BACKLOG).0,
            latest: Arc::new(Mutex::new(EventRing::new(LATEST_KEPT))),
        }
    }
}

impl EventLog {
    /// Keeps an event, and tells all followers.
    pub fn publish(&self, event: Event) {
        let mut latest = self.latest();
        latest.push(event.clone());
        // Nobody may be following.
        let _ = self.followers.send(event);
    }

    /// The events from now on.
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.followers.subscribe()
    }

    /// The latest events, the oldest first, and those from now on: none is missing
    /// in between, and none is there twice.
    pub fn follow_with_latest(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let latest = self.latest();
        (latest.iter().cloned().collect(), self.followers.subscribe())
    }

    /// The latest events with greater numbers than `number`, the oldest first.
    pub(super) fn after(&self, number: u64) -> Vec<Numbered<Event>> {
        self.latest().after(number)
    }

    fn latest(&self) -> MutexGuard<'_, EventRing<Event>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of followers.
    #[cfg(test)]
    pub fn follower_count(&self) -> usize {
        self.followers.receiver_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_later_gets_the_latest_events_and_each_further_one_once() {
        let log = EventLog::default();
        let event = |number: usize| Event {
            time_ms: 1,
            message: number.to_string(),
            ..Event::default()
        };
        let count = LATEST_KEPT + 3;
        (0..count).for_each(|number| log.publish(event(number)));
        let (latest, mut more) = log.follow_with_latest();
        let expected: Vec<Event> = (3..count).map(event).collect();
        assert_eq!(latest, expected);
        log.publish(event(count));
        assert_eq!(more.recv().await, Ok(event(count)));
        assert!(more.try_recv().is_err(), "no more");
    }
}
