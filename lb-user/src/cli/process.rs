//! Another process, which may have ended.

use std::fs;

/// A process, known from any later one with the same number. What it executes
/// may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunningProcess {
    id: i32,
    /// In clock ticks since the machine was started.
    start: u64,
}

impl RunningProcess {
    /// The one that has this number now, if it can be seen.
    pub(super) fn with_id(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let start = start_of_living(&stat)?;
        Some(Self { id, start })
    }

    /// True while it has not ended.
    pub(super) fn lives(self) -> bool {
        Self::with_id(self.id) == Some(self)
    }
}

/// When a process was started, of which this is `/proc/pid/stat`
/// (proc_pid_stat(5)); `None` if it has ended, and waits to be waited for.
fn start_of_living(stat: &str) -> Option<u64> {
    // Its name, in parentheses, may have any characters.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    // Field 22; the state was field 3.
    fields.nth(22 - 4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended_whether_or_not_it_is_waited_for() {
        let mut cat = Command::new("cat");
        let mut cat = cat.stdin(Stdio::piped()).spawn().expect("there is cat");
        let id = cat.id().try_into().expect("a number");
        let process = RunningProcess::with_id(id).expect("it lives");
        assert!(process.lives());
        drop(cat.stdin.take());
        while process.lives() {
            std::thread::yield_now();
        }
        assert_eq!(RunningProcess::with_id(id), None, "a zombie");
        assert!(cat.wait().expect("ours").success());
        assert!(!process.lives());
    }

    #[test]
    fn a_name_may_look_like_what_stands_behind_it() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(start_of_living(&format!("5 (a) Z (b) S {rest}")), Some(777));
        assert_eq!(start_of_living(&format!("5 (a) Z {rest}")), None);
        assert_eq!(start_of_living("5 (a) S 1 2"), None);
    }
}
