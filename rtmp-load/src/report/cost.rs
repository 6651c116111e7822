//! The cost of a run: of this program itself, and of the processes that were
//! watched.

use std::time::Duration;

use serde::Serialize;

use super::{Measured, milliseconds};
use crate::usage::ProcessSample;

/// A window shorter than this, of a run that ended early, says nothing about
/// the share of a core.
const MIN_WINDOW: Duration = Duration::from_millis(100);

/// A watched process at three moments.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Before the first connection.
    pub before: ProcessSample,
    /// At the start of the measured window.
    pub start: ProcessSample,
    /// At its end; `None` if the process was gone.
    pub end: Option<ProcessSample>,
}

/// The cost of this program itself in the measured window.
#[derive(Debug, Clone, Serialize)]
pub struct Own {
    /// Threads that serve players.
    pub threads: usize,
    /// CPU time in the program, `getrusage(2)`; publishers included.
    pub cpu_user_s: f64,
    /// CPU time in the kernel.
    pub cpu_system_s: f64,
    /// CPU time per megabyte (10⁶ bytes) received.
    pub cpu_ms_per_mb: Option<f64>,
    /// Share of one core that the busiest thread used.
    pub busiest_thread: f64,
    /// The longest turn of an event loop: what latencies may include of this
    /// program itself.
    pub longest_turn_ms: f64,
}

/// The cost of a watched process.
#[derive(Debug, Clone, Serialize)]
pub struct WatchedCost {
    /// Its process id.
    pub pid: u32,
    /// Its command's name.
    pub name: String,
    /// CPU time in the measured window; `None` if it was gone at the end.
    pub cpu_s: Option<f64>,
    /// The same per megabyte (10⁶ bytes) received by the players.
    pub cpu_ms_per_mb: Option<f64>,
    /// Its threads that used any CPU time, busiest first.
    pub threads: Vec<ThreadCost>,
    /// Resident memory (without shared memory files) before the first
    /// connection, in kilobytes.
    pub resident_before_kb: u64,
    /// The same at the start of the window.
    pub resident_kb: u64,
    /// The growth per player, in bytes.
    pub resident_bytes_per_player: Option<f64>,
}

/// The cost of a thread of a watched process.
#[derive(Debug, Clone, Serialize)]
pub struct ThreadCost {
    /// Its name.
    pub name: String,
    /// CPU time in the measured window.
    pub cpu_s: f64,
}

pub(super) fn own(measured: &Measured, per_mb: impl Fn(Duration) -> Option<f64>) -> Own {
    let user: Duration = measured.threads.iter().map(|(cpu, _)| cpu.user).sum();
    let system: Duration = measured.threads.iter().map(|(cpu, _)| cpu.system).sum();
    let busiest = measured
        .threads
        .iter()
        .map(|(cpu, _)| cpu.total())
        .max()
        .unwrap_or_default();
    let longest = measured
        .threads
        .iter()
        .map(|(_, turn)| *turn)
        .max()
        .unwrap_or_default();
    Own {
        threads: measured.threads.len(),
        cpu_user_s: user.as_secs_f64(),
        cpu_system_s: system.as_secs_f64(),
        cpu_ms_per_mb: per_mb(user + system),
        busiest_thread: match measured.span >= MIN_WINDOW {
            true => busiest.as_secs_f64() / measured.span.as_secs_f64(),
            false => 0.0,
        },
        longest_turn_ms: milliseconds(longest),
    }
}

pub(super) fn watched(
    measured: &Measured,
    per_mb: impl Fn(Duration) -> Option<f64>,
) -> Vec<WatchedCost> {
    let players = measured.players.len() as f64;
    let cost = |watched: &Watched| {
        let cpu = watched
            .end
            .as_ref()
            .map(|end| end.cpu.saturating_sub(watched.start.cpu));
        let mut threads: Vec<ThreadCost> = watched
            .end
            .iter()
            .flat_map(|end| &end.threads)
            .map(|(id, thread)| {
                let before = watched.start.threads.get(id);
                let before = before.map_or(Duration::ZERO, |before| before.cpu);
                ThreadCost {
                    name: thread.name.clone(),
                    cpu_s: thread.cpu.saturating_sub(before).as_secs_f64(),
                }
            })
            .filter(|thread| thread.cpu_s > 0.0)
            .collect();
        threads.sort_by(|one, other| other.cpu_s.total_cmp(&one.cpu_s));
        let (before, start) = (watched.before.resident_bytes, watched.start.resident_bytes);
        WatchedCost {
            pid: watched.start.pid,
            name: watched.start.name.clone(),
            cpu_s: cpu.map(|cpu| cpu.as_secs_f64()),
            cpu_ms_per_mb: cpu.and_then(&per_mb),
            threads,
            resident_before_kb: before / 1024,
            resident_kb: start / 1024,
            resident_bytes_per_player: (players > 0.0)
                .then(|| (start as f64 - before as f64) / players),
        }
    };
    measured.watched.iter().map(cost).collect()
}
