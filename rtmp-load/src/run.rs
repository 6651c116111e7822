//! Conducts a run: publishers first, then the players one after the other, then
//! the measured window, then the report.

use std::{
    collections::HashMap,
    os::fd::AsFd,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use crate::{
    clock::{Calendar, Instant, boot_identity},
    control::{Control, Phase},
    options::Options,
    plan::{Plan, PlanError},
    player::{Player, Rules},
    progress::{Progress, Snapshot},
    publisher::Publisher,
    report::{Measured, Report, Watched},
    stats::Tally,
    usage::ProcessSample,
    worker::{self, Gauges, Job, WorkerResult},
};

/// The interval of checks on the run.
const TICK: Duration = Duration::from_millis(20);

/// A run that did not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was asked for wrongly, or the machine does not allow it.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A server did not take a stream.
    #[error("publishing failed: {0}")]
    Publishing(String),
    /// The system refused something that every run needs.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl From<nix::Error> for RunError {
    fn from(error: nix::Error) -> Self {
        Self::System(error.into())
    }
}

/// Runs what the options ask for.
///
/// # Errors
/// If the run did not take place; one that went badly is a report.
pub fn run(options: &Options) -> Result<Report, RunError> {
    let plan = Plan::new(options)?;
    let watched_before = watch(options)?;
    let coordinator = Coordinator::start(options, plan)?;
    let result = coordinator.conduct();
    let (results, coordinator) = coordinator.stop()?;
    let window = result?;
    let pairs = watched_before.into_iter().zip(window.watched);
    let watched = pairs
        .map(|(before, (start, end))| Watched { before, start, end })
        .collect();
    Ok(report(
        options,
        &coordinator,
        results,
        window.span,
        window.bytes,
        watched,
    ))
}

/// Observations of the measured window.
struct Window {
    /// Nothing where the run was over before it was to begin.
    span: Duration,
    bytes: u64,
    watched: Vec<(ProcessSample, Option<ProcessSample>)>,
}

struct Coordinator<'a> {
    options: &'a Options,
    rules: Arc<Rules>,
    control: Arc<Control>,
    gauges: Vec<Arc<Gauges>>,
    threads: Vec<thread::JoinHandle<std::io::Result<WorkerResult>>>,
    signals: SignalFd,
    publishers: u32,
    players: u64,
    ramp: Duration,
}

impl<'a> Coordinator<'a> {
    fn start(options: &'a Options, plan: Plan) -> Result<Self, RunError> {
        // Blocked before the threads begin, so that they inherit it and the
        // signals come to us alone.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

        let rules = Arc::new(Rules {
            boot: boot_identity(),
            stall: Duration::from_millis(options.stall_ms.into()),
            timestamp_gap: Duration::from_millis(options.gap_ms.into()),
            timeout: Duration::from_secs(options.timeout.into()),
            verify: options.verify,
            reconnect: options.reconnect,
            low_latency: !options.no_low_latency,
        });
        let mut coordinator = Self {
            options,
            rules: Arc::clone(&rules),
            control: Arc::new(Control::default()),
            gauges: Vec::new(),
            threads: Vec::new(),
            signals,
            publishers: plan.publishers.len() as u32,
            players: plan.players.len() as u64,
            ramp: plan.ramp(),
        };
        for (index, job) in jobs(options, &rules, plan).into_iter().enumerate() {
            let gauges = Arc::new(Gauges::default());
            coordinator.gauges.push(Arc::clone(&gauges));
            let control = Arc::clone(&coordinator.control);
            let thread = thread::Builder::new().name(format!("players-{index}"));
            coordinator
                .threads
                .push(thread.spawn(move || worker::run(job, control, gauges))?);
        }
        Ok(coordinator)
    }

    fn conduct(&self) -> Result<Window, RunError> {
        self.await_publishers()?;
        let lead = Duration::from_secs(self.options.lead.into());
        let progress = Progress::new(self.options.quiet, self.players);
        if self.publishers > 0 && self.pass(Some(lead), "publishing", &progress)? {
            return Err(RunError::Publishing("interrupted".to_owned()));
        }
        self.control.enter(Phase::Playing);
        let settle = Duration::from_secs(self.options.settle.into());
        let interrupted = self.pass(Some(self.ramp + settle), "starting", &progress)?;

        let start = Instant::now();
        let bytes = self.bytes();
        let watched = watch(self.options).unwrap_or_default();
        let mut span = Duration::ZERO;
        if !interrupted {
            self.control.enter(Phase::Measuring);
            let planned = match self.options.seconds {
                0 => None,
                seconds => Some(Duration::from_secs(seconds.into())),
            };
            self.pass(planned, "measuring", &progress)?;
            span = Instant::now().since(start);
        }
        let window = Window {
            span,
            bytes: if interrupted { 0 } else { self.bytes() - bytes },
            watched: watched
                .into_iter()
                .map(|start| {
                    let end = ProcessSample::take(start.pid).ok();
                    (start, end)
                })
                .collect(),
        };
        progress.clear();
        Ok(window)
    }

    /// Ends all threads and takes what they leave.
    fn stop(mut self) -> Result<(Vec<WorkerResult>, Self), RunError> {
        self.control.enter(Phase::Over);
        let mut results = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            results.push(
                thread
                    .join()
                    .expect("a thread that panics ends the program")?,
            );
        }
        Ok((results, self))
    }

    fn await_publishers(&self) -> Result<(), RunError> {
        let deadline = Instant::now() + Duration::from_secs(self.options.timeout.into());
        while self.control.publishers_ready() < self.publishers {
            if let Some(error) = self.control.publisher_error()
                && !self.options.reconnect
            {
                return Err(RunError::Publishing(error));
            }
            if Instant::now() >= deadline {
                return Err(RunError::Publishing(format!(
                    "{} of {} streams were taken within {} s (--timeout)",
                    self.control.publishers_ready(),
                    self.publishers,
                    self.options.timeout
                )));
            }
            if self.sleep(TICK)? {
                return Err(RunError::Publishing("interrupted".to_owned()));
            }
        }
        Ok(())
    }

    /// Lets time pass, showing how things are; `true` if there is no point in
    /// more: interrupted, or no player is left.
    fn pass(
        &self,
        span: Option<Duration>,
        what: &'static str,
        progress: &Progress,
    ) -> Result<bool, RunError> {
        let began = Instant::now();
        loop {
            let elapsed = Instant::now().since(began);
            let remaining = span.map(|span| span.saturating_sub(elapsed));
            if remaining == Some(Duration::ZERO) {
                return Ok(false);
            }
            if self.sleep(remaining.unwrap_or(TICK).min(TICK))? || self.nobody_left() {
                return Ok(true);
            }
            progress.show(&Snapshot {
                what,
                elapsed,
                span,
                started: self.sum(|gauges| &gauges.started).min(self.players),
                playing: self.sum(|gauges| &gauges.playing),
                ended: self.sum(|gauges| &gauges.ended),
                bytes: self.bytes(),
            });
        }
    }

    /// `true` if a signal came.
    fn sleep(&self, span: Duration) -> Result<bool, RunError> {
        let mut descriptors = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let milliseconds = span.as_millis().clamp(1, 1000) as u16;
        match poll(&mut descriptors, PollTimeout::from(milliseconds)) {
            Err(nix::errno::Errno::EINTR) => Ok(false),
            result => Ok(result? > 0),
        }
    }

    fn nobody_left(&self) -> bool {
        let none_plays = match self.players {
            0 => self.control.publisher_error().is_some(),
            players => self.sum(|gauges| &gauges.ended) >= players,
        };
        none_plays && !self.options.reconnect
    }

    fn bytes(&self) -> u64 {
        self.sum(|gauges| &gauges.bytes)
    }

    fn sum(&self, gauge: impl Fn(&Gauges) -> &std::sync::atomic::AtomicU64) -> u64 {
        self.gauges
            .iter()
            .map(|gauges| gauge(gauges).load(Ordering::Relaxed))
            .sum()
    }
}

/// Deals players out to the threads in turn; the publishers go to the first.
fn jobs(options: &Options, rules: &Arc<Rules>, plan: Plan) -> Vec<Job> {
    let mut jobs: Vec<Job> = (0..options.threads)
        .map(|_| Job {
            server: plan.server.clone(),
            publish_server: plan.publish_server.clone(),
            publish_bind: plan.publish_bind,
            players: Vec::new(),
            publishers: Vec::new(),
            receiver: options.receiver,
            delayed_acks: options.delayed_acks,
            reconnect: options.reconnect,
            reconnect_delay: Duration::from_millis(options.reconnect_delay_ms.into()),
        })
        .collect();
    let count = jobs.len();
    for (index, plan) in plan.players.into_iter().enumerate() {
        let player = Player::new(Arc::clone(&plan.address), Arc::clone(rules), plan.inspects);
        jobs[index % count].players.push((plan, player));
    }
    // Differs between runs that follow or accompany each other.
    let run = crc32fast::hash(&Instant::now().as_nanos().to_ne_bytes()) ^ std::process::id();
    for (index, plan) in plan.publishers.into_iter().enumerate() {
        let id = run.wrapping_add(index as u32);
        let publisher = Publisher::new(plan.address, plan.source, rules.boot, id, rules.timeout);
        jobs[0].publishers.push(publisher);
    }
    jobs
}

fn watch(options: &Options) -> Result<Vec<ProcessSample>, PlanError> {
    let sample = |pid: &u32| ProcessSample::take(*pid).map_err(|_| PlanError::NoProcess(*pid));
    options.watch_pid.iter().map(sample).collect()
}

fn report(
    options: &Options,
    coordinator: &Coordinator<'_>,
    results: Vec<WorkerResult>,
    span: Duration,
    bytes: u64,
    watched: Vec<Watched>,
) -> Report {
    let now = Instant::now();
    let mut tally = Tally::default();
    let mut players = Vec::new();
    let mut publishers = Vec::new();
    let mut threads = Vec::new();
    for result in results {
        tally.merge(&result.tally);
        players.extend(result.players);
        publishers.extend(result.publishers.into_iter().map(Publisher::finish));
        threads.push((result.cpu, result.longest_turn));
    }
    let due: HashMap<u32, u32> = publishers
        .iter()
        .filter_map(|publisher| publisher.due.map(|due| (publisher.id, due)))
        .collect();
    let players = players
        .into_iter()
        .map(|(player, bytes)| {
            let finished = player.finish(now, |publisher| due.get(&publisher).copied(), &mut tally);
            (finished, bytes)
        })
        .collect();
    Report::new(
        options,
        &coordinator.rules,
        Measured {
            span,
            bytes,
            tally,
            players,
            publishers,
            threads,
            watched,
            calendar: Calendar::now(),
        },
    )
}
