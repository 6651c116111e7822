//! Mistakes: what is said, and with which exit status.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Output;

use netbed::local::free_address;

use crate::{EXAMPLE, origin, text};

#[test]
fn a_wrong_configuration_names_file_line_and_word_with_exit_status_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("x.conf"),
        "listen 1935;\nmax_conections 5;\n",
    )
    .unwrap();
    let Output { status, stderr, .. } = origin()
        .args(["-c", "x.conf"])
        .current_dir(&directory)
        .output()
        .unwrap();
    assert_eq!(status.code(), Some(2));
    assert_eq!(
        text(&stderr),
        "x.conf:2: unknown directive `max_conections` outside of a vhost, \
         did you mean `max_connections`?\n"
    );
}

#[test]
fn a_configuration_can_be_checked() {
    let good = origin().args(["-t", "-c", EXAMPLE]).output().unwrap();
    assert!(good.status.success(), "{}", text(&good.stderr));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let unread = origin().args(["-t", "-c", EXAMPLE]).stdout(full).output();
    assert!(unread.unwrap().status.success(), "though nobody reads it");
    let bad = origin()
        .args(["-t", "--mw-latency", "soon"])
        .output()
        .unwrap();
    assert_eq!(bad.status.code(), Some(2));
    assert!(
        text(&bad.stderr).starts_with("--mw-latency: "),
        "{}",
        text(&bad.stderr)
    );
}

#[test]
fn a_port_in_use_is_named_with_the_option_that_changes_it() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let Output { status, stderr, .. } = origin().args(["--listen", &address]).output().unwrap();
    assert_eq!(status.code(), Some(1));
    let message = text(&stderr);
    assert!(
        message.contains(&address) && message.contains("--listen"),
        "{message}"
    );
}

#[test]
fn a_log_or_pid_file_that_cannot_be_written_is_named_in_the_background_too() {
    for (option, word) in [("--log-file", "srs_log_file"), ("--pid", "pid file")] {
        for background in [false, true] {
            let address = free_address().to_string();
            let mut command = origin();
            command.args(["--listen", &address, option, "/proc/nowhere/x"]);
            if background {
                command.arg("--daemon");
            }
            let Output { status, stderr, .. } = command.output().unwrap();
            assert_eq!(
                status.code(),
                Some(1),
                "{option}, in the background: {background}"
            );
            let message = text(&stderr);
            assert!(
                message.contains("/proc/nowhere/x") && message.contains(word),
                "{message}"
            );
        }
    }
}
