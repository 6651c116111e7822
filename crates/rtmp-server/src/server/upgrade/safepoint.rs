//! Where those who own connections stand still while the process is about to become another
//! program.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::parts::TaskParts;
use crate::hand_over::HandOverError;
use crate::stream::lock;

/// The phase of an upgrade.
///
/// ```text
///          settle              freeze
/// Running ───────▶ Settling ◀──────────▶ Frozen ──▶ exec
///    ▲                 │      unfreeze      │
///    └─────────────────┴──────── thaw ──────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Phase {
    /// There is no upgrade.
    Running,
    /// Requests that have begun are answered, others wait; media flows.
    Settling,
    /// Everybody stands still.
    Frozen,
}

/// The safepoint of a server.
#[derive(Debug)]
pub(in crate::server) struct Safepoint {
    phase: watch::Sender<Phase>,
    /// Participants that do not stand still.
    running: AtomicUsize,
    /// Participants that have written down what they have, and stand still.
    parked: AtomicUsize,
    /// Requests that are being answered.
    requests: AtomicUsize,
    /// One of the numbers has fallen.
    fallen: Notify,
    /// What those who stand still have written down.
    parts: Mutex<TaskParts>,
}

impl Default for Safepoint {
    fn default() -> Self {
        Self::new(Phase::Running)
    }
}

impl Safepoint {
    /// A safepoint that begins in `phase`.
    pub(in crate::server) fn new(phase: Phase) -> Self {
        Self {
            phase: watch::Sender::new(phase),
            running: AtomicUsize::new(0),
            parked: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            fallen: Notify::new(),
            parts: Mutex::default(),
        }
    }

    /// Counts its holder among those who have to stand still.
    pub(in crate::server) fn join(self: &Arc<Self>) -> Participant {
        self.running.fetch_add(1, Ordering::SeqCst);
        Participant(self.clone())
    }

    /// The phase.
    pub(in crate::server) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Changes the phase.
    pub(super) fn set_phase(&self, phase: Phase) {
        // Under the lock: what belongs to another freeze is neither kept nor added.
        let mut parts = lock(&self.parts);
        *parts = TaskParts::default();
        self.phase.send_replace(phase);
    }

    /// Waits until the phase is another one than `phase`.
    async fn leave(&self, phase: Phase) {
        // An error cannot be: the sender is ours.
        let _ = self.phase.subscribe().wait_for(|it| *it != phase).await;
    }

    /// Waits while there is an upgrade.
    pub(in crate::server) async fn running(&self) {
        let _ = self
            .phase
            .subscribe()
            .wait_for(|it| *it == Phase::Running)
            .await;
    }

    /// Waits while everybody has to stand still.
    pub(in crate::server) async fn pass(&self) {
        self.leave(Phase::Frozen).await;
    }

    /// Waits until everybody has to stand still. May be dropped.
    pub(in crate::server) async fn frozen(&self) {
        let _ = self
            .phase
            .subscribe()
            .wait_for(|it| *it == Phase::Frozen)
            .await;
    }

    /// Waits until no request is being answered. Returns false after `limit`.
    pub(super) async fn settled(&self, limit: Duration) -> bool {
        self.wait(&self.requests, limit).await
    }

    /// Waits until everybody stands still. Returns false after `limit`.
    pub(super) async fn all_stand_still(&self, limit: Duration) -> bool {
        self.wait(&self.running, limit).await
    }

    /// Waits until all go on that have stood still. Returns false after `limit`.
    pub(super) async fn all_go_on(&self, limit: Duration) -> bool {
        self.wait(&self.parked, limit).await
    }

    async fn wait(&self, number: &AtomicUsize, limit: Duration) -> bool {
        let is_zero = || number.load(Ordering::SeqCst) == 0;
        let waited = timeout(limit, async {
            loop {
                let fallen = self.fallen.notified();
                tokio::pin!(fallen);
                // Before the look: what falls after it is not missed.
                fallen.as_mut().enable();
                if is_zero() {
                    return;
                }
                fallen.await;
            }
        });
        waited.await.is_ok()
    }

    /// Begins to answer a request, which an upgrade waits for; waits while there is one.
    pub(in crate::server) async fn begin_request(self: &Arc<Self>) -> RequestInProgress {
        loop {
            let (request, is_running) = self.count_request();
            if is_running {
                return request;
            }
            drop(request);
            self.running().await;
        }
    }

    /// Counts a request; true if it may be answered.
    fn count_request(self: &Arc<Self>) -> (RequestInProgress, bool) {
        // Counted before the look: either we see that there is an upgrade, or it sees us.
        self.requests.fetch_add(1, Ordering::SeqCst);
        let request = RequestInProgress(self.clone());
        (request, self.phase() == Phase::Running)
    }

    /// What those who stand still have written down.
    pub(super) fn take_parts(&self) -> TaskParts {
        std::mem::take(&mut *lock(&self.parts))
    }

    fn fall(&self, number: &AtomicUsize) {
        number.fetch_sub(1, Ordering::SeqCst);
        self.fallen.notify_waiters();
    }
}

/// Somebody who has to stand still; dropped, it has nothing to hand over.
#[derive(Debug)]
pub(in crate::server) struct Participant(Arc<Safepoint>);

impl Participant {
    /// True if everybody has to stand still.
    pub(in crate::server) fn is_frozen(&self) -> bool {
        self.0.phase() == Phase::Frozen
    }

    /// Waits until everybody has to stand still. May be dropped.
    pub(in crate::server) async fn frozen(&self) {
        self.0.frozen().await;
    }

    /// Stands still until the server goes on, with `write` having written down what is to be
    /// handed over.
    pub(in crate::server) async fn park(
        &self,
        write: impl FnOnce(&mut TaskParts) -> Result<(), HandOverError>,
    ) {
        let _parked = Parked::new(&self.0);
        {
            let mut parts = lock(&self.0.parts);
            if !self.is_frozen() {
                return;
            }
            if let Err(error) = write(&mut parts) {
                parts.failure.get_or_insert(error);
            }
        }
        let _standing = Standing::new(self);
        self.0.pass().await;
    }

    /// Waits for `future`, which stands still whenever everybody has to; `write` writes down
    /// then what is to be handed over.
    pub(in crate::server) async fn follow<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
        write: impl Fn(&mut TaskParts) -> Result<(), HandOverError>,
    ) -> T {
        loop {
            tokio::select! {
                biased;
                () = self.frozen() => self.park(&write).await,
                output = future.as_mut() => return output,
            }
        }
    }

    /// Waits for `future`; `None` once everybody has to stand still.
    pub(in crate::server) async fn unless_frozen<T>(
        &self,
        mut future: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        // What is done at once need not be left out.
        let first = poll_fn(|context| Poll::Ready(future.as_mut().poll(context)));
        if let Poll::Ready(output) = first.await {
            return Some(output);
        }
        tokio::select! {
            biased;
            () = self.frozen() => None,
            output = future => Some(output),
        }
    }

    /// Begins to answer a request, which an upgrade waits for. `None` if it has to wait.
    pub(in crate::server) fn begin_request(&self) -> Option<RequestInProgress> {
        let (request, may_be_answered) = self.0.count_request();
        may_be_answered.then_some(request)
    }

    /// Waits until there may be requests again, or everybody has to stand still.
    pub(in crate::server) async fn settling(&self) {
        self.0.leave(Phase::Settling).await;
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        self.0.fall(&self.0.running);
    }
}

/// A participant stands still; dropped, it does no longer.
struct Standing<'a>(&'a Safepoint);

impl<'a> Standing<'a> {
    fn new(participant: &'a Participant) -> Self {
        let safepoint = &participant.0;
        safepoint.fall(&safepoint.running);
        Self(safepoint)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
    }
}

/// A participant has written down what it has; dropped, it goes on.
struct Parked<'a>(&'a Safepoint);

impl<'a> Parked<'a> {
    fn new(safepoint: &'a Safepoint) -> Self {
        safepoint.parked.fetch_add(1, Ordering::SeqCst);
        Self(safepoint)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fall(&self.0.parked);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(in crate::server) struct RequestInProgress(Arc<Safepoint>);

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.fall(&self.0.requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn whoever_stands_still_goes_on_at_the_thaw() {
        let safepoint = Arc::<Safepoint>::default();
        let participant = safepoint.join();
        assert!(!safepoint.all_stand_still(SHORT).await);
        safepoint.set_phase(Phase::Frozen);
        let parked = tokio::spawn(async move {
            participant.frozen().await;
            participant.park(|_| Ok(())).await;
            participant
        });
        assert!(safepoint.all_stand_still(LIMIT).await);
        safepoint.set_phase(Phase::Running);
        let participant = parked.await.unwrap();
        assert!(!safepoint.all_stand_still(SHORT).await);
        drop(participant);
        assert!(safepoint.all_stand_still(LIMIT).await);
    }

    #[tokio::test]
    async fn all_go_on_before_they_stand_still_again() {
        let safepoint = Arc::<Safepoint>::default();
        let participant = safepoint.join();
        tokio::spawn(async move {
            loop {
                participant.frozen().await;
                let write = |parts: &mut TaskParts| {
                    parts.handed_over.add(7);
                    Ok(())
                };
                participant.park(write).await;
            }
        });
        for _ in 0..3 {
            safepoint.set_phase(Phase::Frozen);
            assert!(safepoint.all_stand_still(LIMIT).await);
            let parts = safepoint.take_parts();
            assert_eq!(parts.handed_over.numbers(), [7]);
            safepoint.set_phase(Phase::Settling);
            assert!(safepoint.all_go_on(LIMIT).await);
        }
    }

    #[tokio::test]
    async fn what_is_waited_for_stands_still_too_and_goes_on() {
        let safepoint = Arc::<Safepoint>::default();
        let participant = safepoint.join();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let followed = tokio::spawn(async move {
            let write = |parts: &mut TaskParts| {
                parts.handed_over.add(7);
                Ok(())
            };
            participant.follow(std::pin::pin!(receiver), write).await
        });
        for _ in 0..2 {
            safepoint.set_phase(Phase::Frozen);
            assert!(safepoint.all_stand_still(LIMIT).await);
            assert_eq!(safepoint.take_parts().handed_over.numbers(), [7]);
            safepoint.set_phase(Phase::Running);
            assert!(safepoint.all_go_on(LIMIT).await);
        }
        sender.send(8).unwrap();
        assert_eq!(followed.await.unwrap(), Ok(8));
    }

    #[tokio::test]
    async fn who_comes_late_to_a_freeze_adds_nothing_to_the_next() {
        let safepoint = Arc::<Safepoint>::default();
        let participant = safepoint.join();
        let late = |parts: &mut TaskParts| {
            parts.handed_over.add(7);
            Ok(())
        };
        safepoint.set_phase(Phase::Frozen);
        participant.frozen().await;
        safepoint.set_phase(Phase::Settling);
        participant.park(late).await;
        assert!(safepoint.all_go_on(LIMIT).await);
        safepoint.set_phase(Phase::Frozen);
        assert!(safepoint.take_parts().handed_over.numbers().is_empty());
    }

    #[tokio::test]
    async fn requests_that_have_begun_are_waited_for_and_others_wait() {
        let safepoint = Arc::<Safepoint>::default();
        let participant = safepoint.join();
        let request = participant.begin_request().unwrap();
        safepoint.set_phase(Phase::Settling);
        assert!(!safepoint.settled(SHORT).await);
        assert!(participant.begin_request().is_none());
        drop(request);
        assert!(safepoint.settled(LIMIT).await);
        safepoint.set_phase(Phase::Running);
        participant.settling().await;
        assert!(participant.begin_request().is_some());
    }
}
