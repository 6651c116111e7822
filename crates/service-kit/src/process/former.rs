//! Programs that the process has started before it became the program that it is now.

use std::fs;
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// Ends the children that the process has now, each with its process group, and waits for them in
/// a thread. To be called before it starts any of its own: after an exec, those that are there
/// are the former program's, which nobody else waits for. Without `CONFIG_PROC_CHILDREN` in the
/// kernel none are found (proc(5), `/proc/PID/task/TID/children`).
pub fn end_former_children() {
    end(children());
}

fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    let numbers = lists.flat_map(|list| {
        let numbers = list.split_whitespace().map(str::parse);
        numbers.collect::<Vec<_>>()
    });
    numbers.flatten().map(Pid::from_raw).collect()
}

fn end(children: Vec<Pid>) {
    if children.is_empty() {
        return;
    }
    for &child in &children {
        // An error means that it leads no group, or has ended: it is waited for all the same.
        let _ = killpg(child, Signal::SIGKILL);
    }
    // A thread that cannot be started leaves zombies, and nothing else.
    let _ = thread::Builder::new()
        .name("former-children".to_owned())
        .spawn(move || {
            for child in children {
                let _ = waitpid(child, None);
            }
        });
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    #[test]
    fn children_are_found_ended_and_waited_for() {
        let child = Command::new("sleep").arg("1000").process_group(0).spawn();
        let number = child.expect("sleep can be started").id();
        let child = Pid::from_raw(number.cast_signed());
        assert!(children().contains(&child));
        end(vec![child]);
        // A zombie still has its directory.
        while Path::new(&format!("/proc/{number}")).exists() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}
