//! Walks through the data plane's tables, beside the agent's loop: one at a
//! time, whoever asks.

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::control::protocol::Response;
use lb_dataplane::{Census, Error, Remembered};

/// Who waits for a listing.
pub type Waiter = oneshot::Sender<Response>;

/// The walk that is under way, and what is to come after it.
#[derive(Debug, Default)]
pub struct Surveys {
    running: Option<Running>,
    sweep_is_due: bool,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<Result<Census, Error>>,
    sweeps: bool,
    waiting: Vec<Waiter>,
}

/// What a walk has brought.
#[derive(Debug)]
pub struct Survey {
    /// What was counted.
    pub census: Result<Census, Error>,
    /// Whether what is over was removed.
    pub swept: bool,
    /// Who has waited for it.
    pub waiting: Vec<Waiter>,
}

impl Surveys {
    /// Has a census made for `waiter`, which begins after this.
    pub fn ask(&mut self, waiter: Waiter) {
        self.waiting.push(waiter);
    }

    /// Has the next walk remove what is over.
    pub fn sweep(&mut self) {
        self.sweep_is_due = true;
    }

    /// Whether a walk is wanted and none is under way.
    pub fn is_due(&self) -> bool {
        self.running.is_none() && (self.sweep_is_due || !self.waiting.is_empty())
    }

    /// Starts the walk that is due.
    pub fn start(&mut self, remembered: Remembered) {
        let sweeps = std::mem::take(&mut self.sweep_is_due);
        let task = spawn_blocking(move || {
            if sweeps {
                remembered.sweep().map(|(_, census)| census)
            } else {
                remembered.census()
            }
        });
        self.running = Some(Running {
            task,
            sweeps,
            waiting: std::mem::take(&mut self.waiting),
        });
    }

    /// Waits for the end of the walk under way; for ever, while there is none.
    pub async fn finished(&mut self) -> Survey {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let census = (&mut running.task).await.expect("a walk does not panic");
        let running = self.running.take().expect("it was there");
        Survey {
            census,
            swept: running.sweeps,
            waiting: running.waiting,
        }
    }
}
