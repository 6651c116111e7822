//! One thread's event loop: the sockets of its publishers and players, and the
//! clock that starts them.

mod sockets;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollTimeout},
};

use crate::{
    clock::Instant,
    control::{Control, Phase},
    dialogue::Outboxes,
    options::Receiver,
    plan::PlayerPlan,
    player::{EndCause, Player},
    publisher::Publisher,
    slot::{Peer, Server, Slot, numbers},
    stats::Tally,
    usage::CpuTime,
};

/// One read takes at most this much; the kernel's receive buffer is rarely
/// fuller. Small enough to stay in the second-level cache.
const READ_BYTES: usize = 256 * 1024;
const EVENTS_PER_TURN: usize = 512;
/// The interval of checks for silence, and of publishing figures.
const SWEEP: Duration = Duration::from_millis(100);

/// The task of a thread.
pub(crate) struct Job {
    /// The server of the players.
    pub server: Server,
    /// The server of the publishers.
    pub publish_server: Server,
    /// The publishers' client address.
    pub publish_bind: Option<IpAddr>,
    /// Players and their plans.
    pub players: Vec<(PlayerPlan, Player)>,
    /// Publishers.
    pub publishers: Vec<Publisher>,
    /// The way in which players read.
    pub receiver: Receiver,
    /// True if the kernel is to acknowledge late what they receive.
    pub delayed_acks: bool,
    /// True if connections that end are made again.
    pub reconnect: bool,
    /// The time between attempts.
    pub reconnect_delay: Duration,
}

/// The figures of a thread, readable while it runs.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Bytes received by players.
    pub bytes: AtomicU64,
    /// Players started.
    pub started: AtomicU64,
    /// Players that play now.
    pub playing: AtomicU64,
    /// Connections of players that ended.
    pub ended: AtomicU64,
}

/// The result of a thread.
pub(crate) struct WorkerResult {
    /// Measurements of all its players.
    pub tally: Tally,
    /// Its players, with what each received in the measured window.
    pub players: Vec<(Player, u64)>,
    /// Its publishers.
    pub publishers: Vec<Publisher>,
    /// CPU time in the measured window.
    pub cpu: CpuTime,
    /// The longest time in the measured window from one wait to the next: what
    /// latencies may include of this program itself.
    pub longest_turn: Duration,
}

struct Worker {
    epoll: Epoll,
    buffer: Vec<u8>,
    slots: Vec<Slot>,
    /// The slots that are to begin or to be woken, by time; the slot's number
    /// breaks ties.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Slots of publishers are the first ones.
    publishers: usize,
    receiver: Receiver,
    delayed_acks: bool,
    reconnect: bool,
    reconnect_delay: Duration,
    control: Arc<Control>,
    gauges: Arc<Gauges>,
    tally: Tally,
    bytes: u64,
    cpu_before_window: CpuTime,
    longest_turn: Duration,
}

/// Runs until the control says stop.
///
/// # Errors
/// If the system has no event queue for us.
pub(crate) fn run(
    job: Job,
    control: Arc<Control>,
    gauges: Arc<Gauges>,
) -> io::Result<WorkerResult> {
    let mut worker = Worker {
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        buffer: vec![0; READ_BYTES],
        slots: Vec::with_capacity(job.publishers.len() + job.players.len()),
        timers: BinaryHeap::new(),
        publishers: job.publishers.len(),
        receiver: job.receiver,
        delayed_acks: job.delayed_acks,
        reconnect: job.reconnect,
        reconnect_delay: job.reconnect_delay,
        control,
        gauges,
        tally: Tally::default(),
        bytes: 0,
        cpu_before_window: CpuTime::of_thread(),
        longest_turn: Duration::ZERO,
    };
    let now = Instant::now();
    for publisher in job.publishers {
        worker.timers.push(Reverse((now, worker.slots.len())));
        let peer = Peer::Publisher(publisher);
        worker.slots.push(Slot::new(
            peer,
            job.publish_server.clone(),
            job.publish_bind,
        ));
    }
    let mut starts = Vec::with_capacity(job.players.len());
    for (plan, player) in job.players {
        starts.push((plan.starts, worker.slots.len()));
        worker.slots.push(Slot::new(
            Peer::Player(player),
            job.server.clone(),
            plan.bind,
        ));
    }
    worker.run(starts)?;
    Ok(worker.result())
}

impl Worker {
    fn run(&mut self, player_starts: Vec<(Duration, usize)>) -> io::Result<()> {
        let mut player_starts = Some(player_starts);
        let mut phase = Phase::Publishing;
        let mut next_sweep = Instant::now();
        let mut events = vec![EpollEvent::empty(); EVENTS_PER_TURN];
        loop {
            let timeout = self.timeout(Instant::now(), next_sweep);
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(error) => return Err(error.into()),
            };
            let turn_began = Instant::now();
            for event in &events[..count] {
                let (index, connection) = numbers(event.data());
                self.ready(index, connection, event.events());
            }
            self.send_due();
            self.fire_timers();
            self.gauges.bytes.store(self.bytes, Ordering::Relaxed);

            let now = Instant::now();
            if now >= next_sweep {
                next_sweep = now + SWEEP;
                self.sweep(now);
            }
            let phase_now = self.control.phase();
            if phase_now >= Phase::Playing
                && let Some(starts) = player_starts.take()
            {
                self.timers.extend(
                    starts
                        .into_iter()
                        .map(|(at, slot)| Reverse((now + at, slot))),
                );
            }
            if phase_now == Phase::Measuring && phase < Phase::Measuring {
                self.begin_measuring();
            } else {
                self.longest_turn = self.longest_turn.max(Instant::now().since(turn_began));
            }
            phase = phase_now;
            if phase == Phase::Over {
                self.sweep(now);
                return Ok(());
            }
        }
    }

    fn result(self) -> WorkerResult {
        let mut players = Vec::with_capacity(self.slots.len());
        let mut publishers = Vec::with_capacity(self.publishers);
        for slot in self.slots {
            match slot.peer {
                Peer::Player(player) => {
                    let in_window = player.bytes() - slot.bytes_before_window;
                    players.push((player, in_window));
                }
                Peer::Publisher(publisher) => publishers.push(publisher),
            }
        }
        WorkerResult {
            tally: self.tally,
            players,
            publishers,
            cpu: CpuTime::of_thread().since(self.cpu_before_window),
            longest_turn: self.longest_turn,
        }
    }

    /// Until something is to be done even if no socket is ready. Rounded up:
    /// waking before the time would only mean waiting again.
    fn timeout(&self, now: Instant, next_sweep: Instant) -> EpollTimeout {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let publishers = self.slots[..self.publishers]
            .iter()
            .filter_map(Slot::sends_at);
        let next = publishers.chain(timer).fold(next_sweep, Instant::min);
        let milliseconds = next.since(now).as_micros().div_ceil(1000);
        EpollTimeout::try_from(milliseconds as i32).unwrap_or(EpollTimeout::ZERO)
    }

    fn begin_measuring(&mut self) {
        self.tally.begin_window();
        self.longest_turn = Duration::ZERO;
        self.cpu_before_window = CpuTime::of_thread();
        for slot in &mut self.slots {
            if let Peer::Player(player) = &slot.peer {
                slot.bytes_before_window = player.bytes();
            }
        }
    }

    fn fire_timers(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, index))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            if self.slots[index].begun {
                self.wake(index, now);
            } else {
                self.start(index);
            }
        }
    }

    fn start(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let now = Instant::now();
        slot.begun = true;
        let begun = match &mut slot.peer {
            Peer::Player(player) => {
                self.gauges.started.fetch_add(1, Ordering::Relaxed);
                player.begin(now, &mut slot.outboxes)
            }
            Peer::Publisher(publisher) => publisher.begin(now, &mut slot.outboxes[0]),
        };
        let opened = begun.and_then(|()| self.open(index, 0));
        if let Err(cause) = opened.and_then(|()| self.serve(index)) {
            self.end(index, &cause);
        }
    }

    fn wake(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        // Timers of earlier dialogues, and those that another has replaced.
        if slot.wakes_at.is_none_or(|at| at > now) {
            return;
        }
        slot.wakes_at = None;
        if let Peer::Player(player) = &mut slot.peer {
            player.wake(now, &mut slot.outboxes);
        }
        if let Err(cause) = self.serve(index) {
            self.end(index, &cause);
        }
    }

    fn send_due(&mut self) {
        for index in 0..self.publishers {
            let now = Instant::now();
            let slot = &mut self.slots[index];
            let Peer::Publisher(publisher) = &mut slot.peer else {
                continue;
            };
            if slot.links[0].is_none() {
                continue;
            }
            if publisher.due_at().is_none_or(|at| at > now) {
                continue;
            }
            let sent = publisher.send_due(now, &mut slot.outboxes[0]);
            if let Err(cause) = sent.and_then(|()| self.flush(index, 0)) {
                self.end(index, &cause);
            }
        }
    }

    fn end(&mut self, index: usize, cause: &EndCause) {
        let slot = &mut self.slots[index];
        let now = Instant::now();
        slot.links = Default::default();
        slot.outboxes = Outboxes::default();
        slot.begun = false;
        slot.wakes_at = None;
        let wait = match &mut slot.peer {
            Peer::Player(player) => {
                let was_playing = player.is_playing();
                player.ended(now, cause, &mut self.tally);
                self.gauges.ended.fetch_add(1, Ordering::Relaxed);
                if was_playing {
                    Duration::ZERO
                } else {
                    self.reconnect_delay
                }
            }
            Peer::Publisher(publisher) => {
                publisher.ended(cause);
                self.control.publisher_ended(cause);
                self.reconnect_delay
            }
        };
        if self.reconnect {
            self.timers.push(Reverse((now + wait, index)));
        }
    }

    fn sweep(&mut self, now: Instant) {
        let mut playing = 0;
        for index in 0..self.slots.len() {
            let overdue = match &self.slots[index].peer {
                Peer::Player(player) => {
                    playing += u64::from(player.is_playing());
                    player.overdue(now)
                }
                Peer::Publisher(publisher) => publisher.overdue(now),
            };
            if let Some(cause) = overdue {
                self.end(index, &cause);
            }
        }
        self.gauges.playing.store(playing, Ordering::Relaxed);
    }
}
