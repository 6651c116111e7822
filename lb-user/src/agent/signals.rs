//! The signals that the agent handles.
//!
//! They are blocked, and read when their turn comes (signalfd(2)): none is
//! lost, whatever the agent does meanwhile. What arrives while it becomes
//! another program waits for that (execve(2): the mask and what is pending stay),
//! which must therefore begin in the same way.
//!
//! Tools that know keepalived ask it for files by the signals that `keepalived
//! --signum` names, SIGUSR2 among them, which here means an upgrade, too.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::libc::{self, c_int};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Time within which SIGUSR1 and SIGUSR2 come from an exporter of keepalived's, which
/// requests its text files by one right after the other.
const EXPORTER_WINDOW: Duration = Duration::from_secs(1);

/// A request by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalRequest {
    /// SIGHUP: read the configuration again.
    Reload,
    /// A file that keepalived would write.
    File(KeepalivedFile),
    /// SIGUSR2: the file of counters, and an upgrade, unless [`UpgradeSignal`] tells
    /// that an exporter has sent it.
    StatsOrUpgrade,
    /// SIGTERM, SIGINT, SIGQUIT: the end.
    Stop(Signal),
    /// A signal without a meaning. By default it would end the process.
    Unknown(c_int),
}

/// A file that keepalived writes when a signal asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepalivedFile {
    /// `keepalived --signum=DATA`, SIGUSR1.
    Data,
    /// `keepalived --signum=STATS`, SIGUSR2; `STATS_CLEAR`, one less than
    /// SIGRTMAX.
    Stats,
    /// `keepalived --signum=JSON`, SIGRTMIN + 2.
    Json,
}

const STOPPING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

/// Signals that end a program by default, and mean nothing to us.
const WITHOUT_MEANING: [c_int; 5] = [
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGPWR,
];

fn handled() -> impl Iterator<Item = c_int> {
    let named = [libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2];
    let stopping = STOPPING.into_iter().map(|signal| signal as c_int);
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    named
        .into_iter()
        .chain(stopping)
        .chain(WITHOUT_MEANING)
        .chain(real_time)
}

fn request_of(number: c_int) -> SignalRequest {
    let stopping = STOPPING.into_iter().find(|stop| *stop as c_int == number);
    match number {
        libc::SIGHUP => SignalRequest::Reload,
        libc::SIGUSR1 => SignalRequest::File(KeepalivedFile::Data),
        libc::SIGUSR2 => SignalRequest::StatsOrUpgrade,
        _ if number == libc::SIGRTMIN() + 2 => SignalRequest::File(KeepalivedFile::Json),
        _ if number == libc::SIGRTMAX() - 1 => SignalRequest::File(KeepalivedFile::Stats),
        _ => stopping.map_or(SignalRequest::Unknown(number), SignalRequest::Stop),
    }
}

/// Decides whether SIGUSR2 means an upgrade. Alone it does; beside SIGUSR1 an exporter
/// of keepalived's has sent it, which does so again and again.
#[derive(Debug, Default)]
pub(super) struct UpgradeSignal {
    /// When SIGUSR1 came last.
    data_at: Option<Instant>,
    /// When the upgrade is due, unless SIGUSR1 comes before.
    due: Option<Instant>,
}

impl UpgradeSignal {
    /// SIGUSR1 has come.
    pub(super) fn on_data(&mut self, now: Instant) {
        self.data_at = Some(now);
        self.due = None;
    }

    /// SIGUSR2 has come.
    pub(super) fn on_stats(&mut self, now: Instant) {
        let is_exporter = self.data_at.is_some_and(|at| now < at + EXPORTER_WINDOW);
        if !is_exporter {
            self.due.get_or_insert(now + EXPORTER_WINDOW);
        }
    }

    /// When the upgrade is due, if it is.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// The upgrade begins.
    pub(super) fn clear(&mut self) {
        self.due = None;
    }
}

/// The agent's signals, blocked and read one after the other.
#[derive(Debug)]
pub(super) struct Signals {
    pending: AsyncFd<SignalFd>,
}

impl Signals {
    /// Takes the signals from their default effects. To be called before there
    /// is another thread: it must not take them, either, and inherits that from
    /// this one. (Programs that are started take them as ever:
    /// `std::process::Command` empties their masks.)
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn install() -> anyhow::Result<Self> {
        let install = || {
            let signals = set_of(handled());
            signals.thread_block()?;
            let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
            let pending = SignalFd::with_flags(&signals, flags)?;
            // SAFETY: it owns an open descriptor, which stays its own.
            let registered =
                unsafe { AsyncFd::register_with_interest(pending, Interest::READABLE) };
            Ok::<_, io::Error>(registered?)
        };
        let pending = install().context("cannot handle signals")?;
        Ok(Self { pending })
    }

    /// Waits for the next one. May be dropped without losing one.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) async fn next(&self) -> io::Result<SignalRequest> {
        let read = self.pending.async_io(Interest::READABLE, |pending| {
            let read = pending.read_signal()?;
            read.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        Ok(request_of(read.await?.ssi_signo.cast_signed()))
    }
}

/// A set with real-time signals, which `Signal` does not know.
fn set_of(numbers: impl Iterator<Item = c_int>) -> SigSet {
    let mut set = *SigSet::empty().as_ref();
    for number in numbers {
        // SAFETY: the set was initialised, and lives until the call returns.
        let result = unsafe { libc::sigaddset(&raw mut set, number) };
        debug_assert_eq!(result, 0, "{number} is a signal");
    }
    // SAFETY: the set was initialised.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_keepalived_names_ask_for_its_files() {
        // As `keepalived --signum` prints them.
        assert_eq!(request_of(36), SignalRequest::File(KeepalivedFile::Json));
        assert_eq!(request_of(10), SignalRequest::File(KeepalivedFile::Data));
        assert_eq!(request_of(12), SignalRequest::StatsOrUpgrade);
        assert_eq!(request_of(63), SignalRequest::File(KeepalivedFile::Stats));
        assert_eq!(request_of(1), SignalRequest::Reload);
        assert_eq!(request_of(15), SignalRequest::Stop(Signal::SIGTERM));
        assert_eq!(request_of(40), SignalRequest::Unknown(40));
    }

    #[test]
    fn sigusr2_upgrades_unless_sigusr1_comes_with_it() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut alone = UpgradeSignal::default();
        alone.on_stats(at(0));
        assert_eq!(alone.due(), Some(at(1000)));
        alone.clear();
        assert_eq!(alone.due(), None);

        let mut before = UpgradeSignal::default();
        before.on_stats(at(0));
        before.on_data(at(1));
        assert_eq!(before.due(), None);
        before.on_stats(at(900));
        assert_eq!(before.due(), None);
        before.on_stats(at(15_000));
        assert_eq!(before.due(), Some(at(16_000)));
    }
}
