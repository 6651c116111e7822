//! The pid file.

use std::io::Read;
use std::process::Stdio;

use netbed::local::{ChildGuard, free_address};
use netbed::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Origin, answers, origin, read};

#[test]
fn two_servers_do_not_share_a_pid_file_but_a_stale_one_is_taken() {
    let first = Origin::start(&["--pid", "origin.pid"]);
    let pid_file = first.path("origin.pid");
    let pid = first.process.0.id().to_string();
    let second = origin()
        .args(["--listen", &free_address().to_string()])
        .args(["--pid", "origin.pid"])
        .current_dir(&first.directory)
        .stderr(Stdio::piped())
        .spawn();
    let mut second = ChildGuard(second.unwrap());
    assert_eq!(second.end().code(), Some(1));
    let mut message = String::new();
    let mut errors = second.0.stderr.take().unwrap();
    errors.read_to_string(&mut message).unwrap();
    assert!(
        message.contains(&pid) && message.contains("--pid"),
        "{message}"
    );
    assert_eq!(read(&pid_file).trim(), pid, "it is the first one's still");

    let Origin {
        mut process,
        directory,
        ..
    } = first;
    process.signal(Signal::SIGKILL);
    process.end();
    assert_eq!(
        read(&pid_file).trim(),
        pid,
        "a killed process removes nothing"
    );
    std::fs::write(&pid_file, "4194304000000\n").unwrap();
    let path = pid_file.to_str().unwrap();
    let third = Origin::start(&["--pid", path]);
    assert_eq!(read(&pid_file), format!("{}\n", third.process.0.id()));
    drop(directory);
}

#[test]
fn in_the_background_it_writes_its_own_pid_and_stops_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let address = free_address();
    let pid_file = directory.path().join("origin.pid");
    let started = origin()
        .args(["--daemon", "--listen", &address.to_string()])
        .args(["--pid", "origin.pid", "--log-file", "origin.log"])
        .current_dir(&directory)
        .status();
    assert!(started.unwrap().success());
    wait_for("a serving origin", || answers(address).is_ok());
    let pid: i32 = read(&pid_file).trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_for("the end of the origin", || !pid_file.exists());
}
