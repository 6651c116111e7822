//! Scans through the data plane's tables of connections, beside the agent's loop: with
//! a million entries one takes a while. One at a time, whoever asks.

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::control::protocol::Response;
use lb_dataplane::{ConnectionCounts, ConntrackSnapshot, Error};

/// A client that waits for a listing.
pub(super) type Waiter = oneshot::Sender<Response>;

/// The scan that is under way, and what the next one is for.
#[derive(Debug, Default)]
pub(super) struct TableScans {
    running: Option<Running>,
    /// The next scan removes what has expired.
    is_sweep_due: bool,
    /// Those whom the next scan is for: the one under way may have passed by what they
    /// want to see.
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<Result<ConnectionCounts, Error>>,
    sweeps: bool,
    waiting: Vec<Waiter>,
}

/// A scan that has ended.
#[derive(Debug)]
pub(super) struct TableScan {
    /// The connections that were counted.
    pub counts: Result<ConnectionCounts, Error>,
    /// True if what has expired was removed.
    pub swept: bool,
    /// Those who have waited for it.
    pub waiting: Vec<Waiter>,
}

impl TableScans {
    /// Has a scan made for `waiter`, which begins after this.
    pub(super) fn add(&mut self, waiter: Waiter) {
        self.waiting.push(waiter);
    }

    /// Has the next scan remove what has expired.
    pub(super) fn sweep(&mut self) {
        self.is_sweep_due = true;
    }

    /// True if a scan is wanted and none is under way.
    pub(super) fn is_due(&self) -> bool {
        self.running.is_none() && (self.is_sweep_due || !self.waiting.is_empty())
    }

    /// Starts the scan that is due.
    pub(super) fn start(&mut self, snapshot: ConntrackSnapshot) {
        let sweeps = std::mem::take(&mut self.is_sweep_due);
        let task = spawn_blocking(move || {
            if sweeps {
                snapshot.sweep().map(|(_, counts)| counts)
            } else {
                snapshot.counts()
            }
        });
        self.running = Some(Running {
            task,
            sweeps,
            waiting: std::mem::take(&mut self.waiting),
        });
    }

    /// Waits for the end of the scan under way; for ever, while there is none. May be
    /// dropped without losing it.
    pub(super) async fn finished(&mut self) -> TableScan {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let counts = (&mut running.task).await.expect("a scan does not panic");
        let running = self.running.take().expect("it was there");
        TableScan {
            counts,
            swept: running.sweeps,
            waiting: running.waiting,
        }
    }
}
