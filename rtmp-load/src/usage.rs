//! What processes cost: this one, and servers on the same machine that it is
//! told to watch.

use std::{collections::BTreeMap, fs, io, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use nix::unistd::{SysconfVar, sysconf};

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

    /// What was spent after `earlier`.
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
    /// CPU time of all its threads.
    pub cpu: CpuTime,
    /// CPU time by thread id.
    pub threads: BTreeMap<u32, Duration>,
    /// Resident memory in bytes, without the shared memory files it maps.
    pub resident_bytes: u64,
}

impl ProcessSample {
    /// Looks at a process now (`/proc/PID/stat`, `proc_pid_stat(5)`).
    ///
    /// # Errors
    /// If there is no such process.
    pub fn take(pid: u32) -> io::Result<Self> {
        let (name, cpu) = read_stat(&format!("/proc/{pid}/stat"))?;
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = entry?.file_name().to_string_lossy().into_owned();
            // A thread may end between the listing and the look.
            if let (Ok(id), Ok((_, cpu))) = (
                thread.parse(),
                read_stat(&format!("/proc/{pid}/task/{thread}/stat")),
            ) {
                threads.insert(id, cpu.total());
            }
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kilobytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let resident_bytes = (kilobytes("RssAnon:") + kilobytes("RssFile:")) * 1024;
        Ok(Self {
            pid,
            name,
            cpu,
            threads,
            resident_bytes,
        })
    }
}

fn read_stat(path: &str) -> io::Result<(String, CpuTime)> {
    let text = fs::read_to_string(path)?;
    parse_stat(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{path} is not as proc_pid_stat(5) says"),
        )
    })
}

/// Name and CPU time of a `stat` line. The name stands in parentheses and may
/// itself hold some.
fn parse_stat(text: &str) -> Option<(String, CpuTime)> {
    let (before, after) = text.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((
        name.to_owned(),
        CpuTime {
            user: from_ticks(user),
            system: from_ticks(system),
        },
    ))
}

fn from_ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as u64;
    Duration::from_nanos(ticks * 1_000_000_000 / per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_times_stand_behind_a_name_that_may_hold_parentheses() {
        let line = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 200 0 0 20 0 1 0 5 6 7";
        let (name, cpu) = parse_stat(line).unwrap();
        assert_eq!(name, "a) b (c");
        assert_eq!(cpu.user / 3, cpu.system / 2);
        assert!(cpu.total() > Duration::ZERO);
    }

    #[test]
    fn this_process_can_be_watched() {
        let sample = ProcessSample::take(std::process::id()).unwrap();
        assert!(
            sample.resident_bytes > 100_000,
            "{} bytes",
            sample.resident_bytes
        );
        assert!(sample.threads.contains_key(&std::process::id()));
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(ProcessSample::take(u32::MAX).is_err());
    }
}
