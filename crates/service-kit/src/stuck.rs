//! Threads that wait for a device which does not answer.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Interval at which threads are looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A thread that waits for a device, such as a disk (`D` in proc_pid_status(5)), or for the
/// program behind a file system of FUSE, which shows in the place where it waits alone.
#[derive(Debug, PartialEq, Eq)]
struct Waiting {
    name: String,
    id: u64,
    /// Number of times that it has been taken off a processor: the same number is the same wait.
    switches: [u64; 2],
}

/// The name of a thread of this process that has waited for a device ever since the call, for
/// `limit`; `None` as soon as there is none.
///
/// The kernel may end no such thread: an `execve` would wait as long as that, with all other
/// threads ended (Linux, `de_thread` in `fs/exec.c`).
pub async fn stuck_thread(limit: Duration) -> Option<String> {
    let until = Instant::now() + limit;
    let mut waiting = waiting_threads();
    while let Some(thread) = waiting.first() {
        if Instant::now() >= until {
            return Some(thread.name.clone());
        }
        sleep(POLL_INTERVAL).await;
        let still = waiting_threads();
        waiting.retain(|thread| still.contains(thread));
    }
    None
}

fn waiting_threads() -> Vec<Waiting> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    // One that has ended meanwhile waits for nothing.
    let threads = threads.flatten().filter_map(|it| waiting(&it.path()));
    threads.collect()
}

/// The thread at this place of `/proc`, if it waits.
fn waiting(thread: &Path) -> Option<Waiting> {
    let read = |name| fs::read_to_string(thread.join(name));
    // proc_pid_wchan(5); a kernel may not tell.
    let place = read("wchan").unwrap_or_default();
    Waiting::parse(&read("status").ok()?, &place)
}

impl Waiting {
    /// `status` and `wchan` of a thread.
    fn parse(status: &str, place: &str) -> Option<Self> {
        let value = |name: &str| {
            let mut lines = status.lines();
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(str::trim)
        };
        let number = |name| value(name)?.parse().ok();
        // A request to FUSE can be interrupted until it is read, and by a kill no more then.
        let is_fuse = place == "request_wait_answer" || place.contains("fuse");
        let waits = value("State")?.starts_with('D') || is_fuse;
        waits.then_some(Self {
            name: value("Name")?.to_owned(),
            id: number("Pid")?,
            switches: [
                number("voluntary_ctxt_switches")?,
                number("nonvoluntary_ctxt_switches")?,
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_waits_for_a_disk_is_known_by_its_state() {
        let status = |state: &str| {
            format!(
                "Name:\tdvr-1\nUmask:\t0022\nState:\t{state}\nTgid:\t4711\nPid:\t4712\n\
                 voluntary_ctxt_switches:\t22\nnonvoluntary_ctxt_switches:\t7\n"
            )
        };
        let expected = Waiting {
            name: "dvr-1".to_owned(),
            id: 4712,
            switches: [22, 7],
        };
        let parse = |state: &str, place| Waiting::parse(&status(state), place);
        assert_eq!(parse("D (disk sleep)", "io_schedule"), Some(expected));
        assert!(parse("S (sleeping)", "request_wait_answer").is_some());
        for (state, place) in [("S (sleeping)", "futex_wait_queue"), ("R (running)", "0")] {
            assert_eq!(parse(state, place), None, "{state}");
        }
    }

    #[test]
    fn the_kernel_tells_of_threads_what_is_looked_for() {
        let status = fs::read_to_string("/proc/thread-self/status").expect("a thread");
        let state = status.lines().find(|line| line.starts_with("State:"));
        let waits = status.replace(state.expect("a state"), "State:\tD (disk sleep)");
        assert!(Waiting::parse(&waits, "0").is_some(), "{status}");
    }
}
