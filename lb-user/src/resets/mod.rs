//! TCP resets for the viewers of a dead server.
//!
//! A player only receives: one whose server has died receives nothing, sends
//! nothing, and hangs until its own time-out. So each is sent a reset from the
//! virtual address, with the sequence number that it awaits, which is the only
//! one that its stack accepts (RFC 5961 §3.2): what it last acknowledged, as
//! the packet path has kept it.
//!
//! That number is wrong where the last acknowledgement was lost, or held back,
//! or is still on its way while the server goes on sending. So a second reset
//! follows a little further into the client's window. A client that has taken
//! the first knows nothing of the connection any more; another one asks back
//! with a challenge ACK that tells what it does await, and the packet path
//! answers that, like whatever else a client says to a server that is gone.

mod ask;
mod pace;
mod segment;
mod socket;

use std::iter;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use lb_dataplane::{ConntrackSnapshot, Orphan, RemovedServer};
use lb_model::ServiceKey;
use pace::Pace;
use socket::Sockets;

pub(crate) use ask::ask_clients;

/// Distance of the second reset from the first one, in bytes: more than a
/// client leaves unacknowledged, less than its window has room for.
const CHALLENGE_OFFSET: u32 = 16 * 1024;

/// Servers whose viewers are to be reset.
#[derive(Clone)]
pub struct Job {
    /// The tables in which their connections are found.
    pub snapshot: ConntrackSnapshot,
    /// The servers.
    pub removed: Vec<RemovedServer>,
    /// Viewers reset per second.
    pub rate: NonZeroU32,
    /// Services whose servers pass packets on to one another: a connection that another
    /// director has scheduled may be at a server that lives, and is left alone.
    pub second_chance: Vec<SocketAddr>,
}

/// A report on the viewers of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetReport {
    /// Its service.
    pub service: ServiceKey,
    /// The server.
    pub server: SocketAddr,
    /// Why its viewers are reset.
    pub cause: ResetCause,
    /// Viewers that were sent a reset, or asked for what they await.
    pub viewers: u64,
    /// Number of viewers that could not be, and why the last one could not.
    pub failed: Option<(u64, String)>,
    /// Time from when the server was given up until the last of them was sent.
    pub took: Duration,
}

/// Why viewers are reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetCause {
    /// Their server has died or was removed.
    ServerGone,
    /// Their server was the director that led, and another one leads now.
    DirectorGone,
}

impl ResetReport {
    fn new(service: ServiceKey, server: SocketAddr, cause: ResetCause) -> Self {
        Self {
            service,
            server,
            cause,
            viewers: 0,
            failed: None,
            took: Duration::ZERO,
        }
    }

    /// Counts a viewer.
    fn count(&mut self, sent: std::io::Result<()>) {
        match sent {
            Ok(()) => self.viewers += 1,
            Err(error) => {
                let before = self.failed.as_ref().map_or(0, |(count, _)| *count);
                self.failed = Some((before + 1, error.to_string()));
            }
        }
    }
}

/// A thread that resets viewers. It ends with this, at the latest when its work
/// is done.
#[derive(Debug)]
pub struct Resets {
    jobs: mpsc::Sender<(Instant, Job)>,
}

impl Resets {
    /// Starts the thread; it sends a report for each server, also without viewers.
    pub fn start(reports: UnboundedSender<ResetReport>) -> Self {
        let (jobs, incoming) = mpsc::channel();
        thread::spawn(move || work(&incoming, &reports));
        Self { jobs }
    }

    /// Has the viewers of some servers reset.
    pub fn start_job(&self, job: Job) {
        self.jobs
            .send((Instant::now(), job))
            .expect("the thread waits for jobs as long as there is a sender");
    }
}

fn work(jobs: &mpsc::Receiver<(Instant, Job)>, reports: &UnboundedSender<ResetReport>) {
    let mut sockets = Sockets::default();
    while let Ok(first) = jobs.recv() {
        // Servers that have gone meanwhile share a scan.
        let together: Vec<_> = iter::once(first).chain(jobs.try_iter()).collect();
        for report in reset_clients(&mut sockets, &together) {
            // The agent may be about to end.
            let _ = reports.send(report);
        }
    }
}

/// Does several jobs in one scan, each with when it was given. The tables and the rate
/// are those of the last one.
fn reset_clients(sockets: &mut Sockets, jobs: &[(Instant, Job)]) -> Vec<ResetReport> {
    let Some((_, last)) = jobs.last() else {
        return Vec::new();
    };
    let mut pace = Pace::new(last.rate, Instant::now());
    let each = jobs.iter().flat_map(|(given, job)| {
        let removed = job.removed.iter();
        removed.map(|removed| (*given, removed.clone()))
    });
    let (given, removed): (Vec<Instant>, Vec<RemovedServer>) = each.unzip();
    let mut all: Vec<ResetReport> = removed
        .iter()
        .map(|removed| {
            let service = ServiceKey {
                protocol: removed.protocol,
                address: removed.service,
            };
            ResetReport::new(service, removed.server, ResetCause::ServerGone)
        })
        .collect();
    let scanned = last.snapshot.for_each_orphan(&removed, |number, orphan| {
        if orphan.is_taken_over && last.second_chance.contains(&removed[number].service) {
            return;
        }
        let wait = pace.next(Instant::now());
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        let report = &mut all[number];
        report.count(send_resets(sockets, &orphan));
        report.took = given[number].elapsed();
    });
    if let Err(error) = scanned {
        log::error!("cannot find the viewers of a server that is gone: {error}");
    }
    all
}

/// Sends both resets of a connection.
fn send_resets(sockets: &mut Sockets, orphan: &Orphan) -> std::io::Result<()> {
    for offset in [0, CHALLENGE_OFFSET] {
        let sequence = orphan.awaited_sequence.wrapping_add(offset);
        let segment = segment::reset(orphan.service, orphan.client, sequence);
        sockets.send(orphan.client.ip(), &segment)?;
    }
    Ok(())
}
