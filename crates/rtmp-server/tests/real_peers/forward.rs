//! Forwards to nginx-rtmp.

use std::path::Path;
use std::process::Command;

use netbed::local::free_address;
use netbed::wait_for;

use crate::common::nginx::nginx_at;
use crate::common::program::{Program, require_ffmpeg};
use crate::http_flv::decoded;
use crate::origin::Origin;

/// The pictures of the files in `directory`, once there is a whole one of them. nginx names
/// them by the time.
fn recorded(directory: &Path) -> usize {
    wait_for("a recording by nginx", || {
        let files = std::fs::read_dir(directory).ok()?.flatten();
        let bytes = |file: &std::fs::DirEntry| file.metadata().map_or(0, |it| it.len());
        files
            .into_iter()
            .any(|file| bytes(&file) > 30_000)
            .then_some(())
    });
    let files = std::fs::read_dir(directory).unwrap().flatten();
    files
        .map(|file| decoded(&["-f", "flv"], file.path().to_str().unwrap()))
        .sum()
}

#[test]
fn nginx_that_dies_and_returns_is_sent_the_stream_again() {
    require_ffmpeg();
    let address = free_address();
    let origin = Origin::with(&format!("forward {{ enabled on; destination {address}; }}"));
    let _publisher = Program::start(
        Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-re"])
            .args(["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"])
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-g", "10"])
            .args(["-f", "flv", &origin.url("live/s")]),
    );
    for _ in 0..2 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().display();
        let _nginx = nginx_at(
            address,
            &format!("record all; record_path {path}; record_unique on;"),
        );
        assert!(recorded(directory.path()) > 10);
    }
}
