//! A web server that hooks are posted to: how much it is asked and told at a
//! time, and in which order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rtmp_proto::session::StreamKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::stream::lock;

/// Questions that are open at a time; what is beyond waits for its turn.
const MAX_ASKING: usize = 256;
/// The same for what is only told.
const MAX_TELLING: usize = 64;
/// Events that wait to be told; what is beyond is lost.
const MAX_UNTOLD: usize = 4_096;
/// Descriptors that one web server's hooks take at most.
pub(super) const MAX_SOCKETS: u64 = (MAX_ASKING + MAX_TELLING) as u64;

/// What events arrive in order of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// The connection with this id.
    Client(u64),
    /// Publishers of this stream.
    Publishers(StreamKey),
}

/// Ends, that is, its sender is dropped, when an event has been told.
type Told = watch::Receiver<()>;

/// One web server.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) asking: Semaphore,
    telling: Arc<Semaphore>,
    untold: Arc<Semaphore>,
    /// The newest event of each subject that is to be told.
    newest: Mutex<HashMap<Subject, Told>>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            asking: Semaphore::new(MAX_ASKING),
            telling: Arc::new(Semaphore::new(MAX_TELLING)),
            untold: Arc::new(Semaphore::new(MAX_UNTOLD)),
            newest: Mutex::default(),
        }
    }
}

impl Backend {
    /// Waits until all that is to be told of `subjects` at present has been.
    pub(super) async fn told_of(&self, subjects: &[Subject]) {
        let before: Vec<Told> = {
            let newest = lock(&self.newest);
            let known = subjects.iter().filter_map(|subject| newest.get(subject));
            known.cloned().collect()
        };
        wait_for(before).await;
    }

    /// Waits until nothing is left to be told.
    pub(super) async fn all_told(&self) {
        let all = u32::try_from(MAX_UNTOLD).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let _ = self.untold.acquire_many(all).await;
    }

    /// Takes a place behind what is to be told of `subjects`; none is left
    /// where too much waits already.
    pub(super) fn enqueue(self: &Arc<Self>, subjects: &[Subject]) -> Option<Place> {
        let untold = self.untold.clone().try_acquire_owned().ok()?;
        let (done, told) = watch::channel(());
        let mut newest = lock(&self.newest);
        let before = subjects
            .iter()
            .filter_map(|subject| newest.insert(subject.clone(), told.clone()))
            .collect();
        drop(newest);
        Some(Place {
            backend: self.clone(),
            subjects: subjects.to_vec(),
            before,
            told,
            _done: done,
            _untold: untold,
        })
    }
}

async fn wait_for(before: Vec<Told>) {
    for mut told in before {
        // Nothing is ever sent: this ends with the sender.
        let _ = told.changed().await;
    }
}

/// An event's place in a web server's queue; dropped, the next ones go on.
#[derive(Debug)]
pub(super) struct Place {
    backend: Arc<Backend>,
    subjects: Vec<Subject>,
    /// What must have been told before.
    before: Vec<Told>,
    told: Told,
    _done: watch::Sender<()>,
    _untold: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until the event may be told; it has been when what is returned is
    /// dropped.
    pub(super) async fn turn(mut self) -> (Self, Option<OwnedSemaphorePermit>) {
        wait_for(std::mem::take(&mut self.before)).await;
        // The semaphore is never closed.
        let turn = self.backend.telling.clone().acquire_owned().await.ok();
        (self, turn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut newest = lock(&self.backend.newest);
        for subject in &self.subjects {
            if newest
                .get(subject)
                .is_some_and(|told| told.same_channel(&self.told))
            {
                newest.remove(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_to_be_told_is_bounded_and_asking_has_turns_of_its_own() {
        let backend = Arc::new(Backend::default());
        let enqueue = |client| backend.enqueue(&[Subject::Client(client)]);
        let places: Vec<_> = (0..).map_while(enqueue).collect();
        assert_eq!(places.len(), MAX_UNTOLD, "the rest is lost");
        let mut turns = Vec::new();
        let mut places = places.into_iter();
        for place in places.by_ref().take(MAX_TELLING) {
            turns.push(place.turn().await);
        }
        let next = tokio::spawn(places.next().unwrap().turn());
        tokio::task::yield_now().await;
        assert!(!next.is_finished(), "the others wait");
        assert_eq!(backend.asking.available_permits(), MAX_ASKING);
        turns.pop();
        next.await.unwrap();
        drop((turns, places));
        assert!(lock(&backend.newest).is_empty(), "nothing is left of them");
        assert_eq!(backend.untold.available_permits(), MAX_UNTOLD);
    }

    #[tokio::test]
    async fn a_subjects_events_are_told_one_after_the_other_and_others_meanwhile() {
        let backend = Arc::new(Backend::default());
        let stream = Subject::Publishers(StreamKey {
            vhost: "v".into(),
            app: "live".into(),
            stream: "s".into(),
        });
        let first = backend.enqueue(&[Subject::Client(1), stream.clone()]);
        let second = backend.enqueue(&[Subject::Client(1)]).unwrap();
        let other = backend.enqueue(&[Subject::Client(2)]).unwrap();
        let first = first.unwrap().turn().await;
        let second = tokio::spawn(second.turn());
        let asked = {
            let backend = backend.clone();
            tokio::spawn(async move { backend.told_of(&[Subject::Client(3), stream]).await })
        };
        other.turn().await;
        tokio::task::yield_now().await;
        assert!(!second.is_finished() && !asked.is_finished());
        drop(first);
        second.await.unwrap();
        asked.await.unwrap();
    }
}
