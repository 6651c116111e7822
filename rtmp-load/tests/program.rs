//! The program as its callers see it.

use std::{
    fs::OpenOptions,
    process::{Command, Output, Stdio},
};

/// A run that ends at once with a report: nobody plays, nobody publishes.
fn report_to(stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rtmp-load"))
        .args("-n 0 -t 1 --settle 0 --json rtmp://127.0.0.1:1/live/s".split(' '))
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .unwrap()
}

#[test]
fn a_report_that_nobody_reads_to_its_end_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = report_to(writer.into());
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn a_report_that_cannot_be_written_is_a_failure_that_says_why() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = report_to(full.into());
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.starts_with("rtmp-load: the report cannot be written: No space left"),
        "{errors}"
    );
}
