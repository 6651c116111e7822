//! The cost of processes: of this one, and of servers on the same machine that
//! it is told to watch.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use nix::{
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
    time::{clock_getcpuclockid, clock_gettime},
    unistd::Pid,
};

/// CPU time spent, by where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the program.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl CpuTime {
    /// This process's, all threads together.
    pub fn of_self() -> Self {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// The calling thread's.
    pub fn of_thread() -> Self {
        Self::of(UsageWho::RUSAGE_THREAD)
    }

    fn of(who: UsageWho) -> Self {
        match getrusage(who) {
            Ok(usage) => Self {
                user: span(usage.user_time()),
                system: span(usage.system_time()),
            },
            Err(_) => Self::default(),
        }
    }

    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }

    /// The time spent after `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

fn span(time: TimeVal) -> Duration {
    Duration::from_micros(time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64)
}

/// A watched process at one moment.
#[derive(Debug, Clone)]
pub struct ProcessSample {
    /// Its process id.
    pub pid: u32,
    /// Its command's name.
    pub name: String,
    /// CPU time of all its threads, those that have ended included.
    pub cpu: Duration,
    /// Its threads by id.
    pub threads: BTreeMap<u32, ThreadSample>,
    /// Resident memory in bytes, without the shared memory files it maps.
    pub resident_bytes: u64,
}

/// A thread of a watched process.
#[derive(Debug, Clone)]
pub struct ThreadSample {
    /// Its name.
    pub name: String,
    /// Its CPU time.
    pub cpu: Duration,
}

impl ProcessSample {
    /// Looks at a process now. CPU times are exact to the nanosecond: those of
    /// `proc_pid_stat(5)` are cut off to hundredths of a second.
    ///
    /// # Errors
    /// If there is no such process.
    pub fn take(pid: u32) -> io::Result<Self> {
        let folder = format!("/proc/{pid}");
        let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
        let cpu = clock_gettime(clock)?.into();
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("{folder}/task"))? {
            let entry = entry?;
            // A thread may end between the listing and the look.
            if let (Ok(id), Ok(thread)) = (
                entry.file_name().to_string_lossy().parse(),
                ThreadSample::take(&entry.path()),
            ) {
                threads.insert(id, thread);
            }
        }
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let kilobytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let resident_bytes = (kilobytes("RssAnon:") + kilobytes("RssFile:")) * 1024;
        Ok(Self {
            pid,
            name: read_name(Path::new(&folder))?,
            cpu,
            threads,
            resident_bytes,
        })
    }
}

impl ThreadSample {
    /// From its folder in `/proc`: the first number of `schedstat` is the time
    /// on a CPU in nanoseconds (Linux, Documentation/scheduler/sched-stats).
    fn take(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join("schedstat"))?;
        let nanoseconds = text
            .split_whitespace()
            .next()
            .and_then(|first| first.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            name: read_name(folder)?,
            cpu: Duration::from_nanos(nanoseconds),
        })
    }
}

fn read_name(folder: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(folder.join("comm"))?
        .trim_end()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_watched() {
        let sample = ProcessSample::take(std::process::id()).unwrap();
        assert!(
            sample.resident_bytes > 100_000,
            "{} bytes",
            sample.resident_bytes
        );
        let main = &sample.threads[&std::process::id()];
        assert_eq!(main.name, sample.name);
        assert!(main.cpu > Duration::ZERO && sample.cpu > Duration::ZERO);
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(ProcessSample::take(u32::MAX).is_err());
    }
}
