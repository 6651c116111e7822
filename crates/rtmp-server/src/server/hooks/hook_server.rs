//! A web server that hooks are posted to: the limits and the order of requests
//! (whose answer decides) and notifications (whose answer is ignored).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::stream::lock;

/// Maximum number of concurrent requests; further ones wait.
const MAX_REQUESTS: usize = 256;
/// Maximum number of concurrent notifications; further ones wait.
const MAX_NOTIFICATIONS: usize = 64;
/// Maximum number of notifications that wait or are sent; further ones are lost.
const MAX_QUEUED: usize = 4_096;
/// Maximum number of sockets of one web server's hooks.
pub(super) const MAX_SOCKETS: u64 = (MAX_REQUESTS + MAX_NOTIFICATIONS) as u64;

/// Events of the same key are posted in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum OrderingKey {
    /// The connection with this id.
    Client(u64),
    /// Publishers of this stream.
    Publishers(StreamKey),
}

/// Closes, by the drop of its sender, when an event has been delivered.
type Delivered = watch::Receiver<()>;

/// One web server.
#[derive(Debug)]
pub(super) struct HookServer {
    pub(super) requests: Semaphore,
    notifications: Arc<Semaphore>,
    /// The free places of the queue.
    queue: Arc<Semaphore>,
    /// By key, the newest event in the queue.
    newest: Mutex<HashMap<OrderingKey, Delivered>>,
}

impl Default for HookServer {
    fn default() -> Self {
        Self {
            requests: Semaphore::new(MAX_REQUESTS),
            notifications: Arc::new(Semaphore::new(MAX_NOTIFICATIONS)),
            queue: Arc::new(Semaphore::new(MAX_QUEUED)),
            newest: Mutex::default(),
        }
    }
}

impl HookServer {
    /// Waits until the events that are queued now for `ordering_keys` are delivered.
    pub(super) async fn wait_for_earlier(&self, ordering_keys: &[OrderingKey]) {
        let before: Vec<Delivered> = {
            let newest = lock(&self.newest);
            let known = ordering_keys.iter().filter_map(|key| newest.get(key));
            known.cloned().collect()
        };
        wait_for(before).await;
    }

    /// Waits until all events that are queued now are delivered. Further ones may come.
    pub(super) async fn flush(&self) {
        // Each is behind those of the same keys.
        let queued: Vec<Delivered> = lock(&self.newest).values().cloned().collect();
        wait_for(queued).await;
    }

    /// Queues an event behind those of the same keys. Returns `None` if the queue is
    /// full.
    pub(super) fn enqueue(self: &Arc<Self>, ordering_keys: &[OrderingKey]) -> Option<QueuedEvent> {
        let queue_place = self.queue.clone().try_acquire_owned().ok()?;
        let (done, delivered) = watch::channel(());
        let mut newest = lock(&self.newest);
        let before = ordering_keys
            .iter()
            .filter_map(|key| newest.insert(key.clone(), delivered.clone()))
            .collect();
        drop(newest);
        Some(QueuedEvent {
            server: self.clone(),
            ordering_keys: ordering_keys.to_vec(),
            before,
            delivered,
            _done: done,
            _queue_place: queue_place,
        })
    }
}

async fn wait_for(before: Vec<Delivered>) {
    for mut delivered in before {
        // Nothing is ever sent: this ends with the sender.
        let _ = delivered.changed().await;
    }
}

/// An event in a web server's queue. Its drop marks it as delivered: the next one
/// of the same key may go.
#[derive(Debug)]
pub(super) struct QueuedEvent {
    server: Arc<HookServer>,
    ordering_keys: Vec<OrderingKey>,
    /// The events before it, of the same keys.
    before: Vec<Delivered>,
    delivered: Delivered,
    _done: watch::Sender<()>,
    _queue_place: OwnedSemaphorePermit,
}

impl QueuedEvent {
    /// Waits until the event may be posted. Drop the result once it has been.
    pub(super) async fn turn(mut self) -> (Self, Option<OwnedSemaphorePermit>) {
        wait_for(std::mem::take(&mut self.before)).await;
        // The semaphore is never closed.
        let turn = self.server.notifications.clone().acquire_owned().await.ok();
        (self, turn)
    }
}

impl Drop for QueuedEvent {
    fn drop(&mut self) {
        let mut newest = lock(&self.server.newest);
        for key in &self.ordering_keys {
            if newest
                .get(key)
                .is_some_and(|newest| newest.same_channel(&self.delivered))
            {
                newest.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queued_notifications_are_bounded_and_requests_have_their_own_limit() {
        let server = Arc::new(HookServer::default());
        let enqueue = |client| server.enqueue(&[OrderingKey::Client(client)]);
        let places: Vec<_> = (0..).map_while(enqueue).collect();
        assert_eq!(places.len(), MAX_QUEUED, "the rest is lost");
        let mut turns = Vec::new();
        let mut places = places.into_iter();
        for place in places.by_ref().take(MAX_NOTIFICATIONS) {
            turns.push(place.turn().await);
        }
        let next = tokio::spawn(places.next().unwrap().turn());
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "the others wait");
        assert_eq!(server.requests.available_permits(), MAX_REQUESTS);
        turns.pop();
        next.await.unwrap();
        drop((turns, places));
        assert!(lock(&server.newest).is_empty(), "nothing is left of them");
        assert_eq!(server.queue.available_permits(), MAX_QUEUED);
    }

    #[tokio::test]
    async fn a_subjects_events_are_told_one_after_the_other_and_others_meanwhile() {
        let server = Arc::new(HookServer::default());
        let stream = OrderingKey::Publishers(StreamKey {
            vhost: "v".into(),
            app: "live".into(),
            stream: "s".into(),
        });
        let first = server.enqueue(&[OrderingKey::Client(1), stream.clone()]);
        let second = server.enqueue(&[OrderingKey::Client(1)]).unwrap();
        let other = server.enqueue(&[OrderingKey::Client(2)]).unwrap();
        let first = first.unwrap().turn().await;
        let second = tokio::spawn(second.turn());
        let request = {
            let server = server.clone();
            tokio::spawn(async move {
                server
                    .wait_for_earlier(&[OrderingKey::Client(3), stream])
                    .await
            })
        };
        other.turn().await;
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && !request.is_finished());
        drop(first);
        second.await.unwrap();
        request.await.unwrap();
    }
}
