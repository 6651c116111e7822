//! Recordings when the process ends, by its own will or not, and on a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netbed::local::push;
use netbed::wait_for;
use nix::sys::signal::Signal;

use crate::{Origin, text};

fn recording_origin(directory: &str) -> Origin {
    let dvr = format!("dvr {{ enabled on; dvr_path {directory}/[stream].flv; }}");
    Origin::start(&["--set", &dvr])
}

/// Waits until a file has this many bytes.
fn wait_for_bytes(path: &Path, bytes: u64) {
    wait_for("bytes of a recording", || {
        fs::metadata(path).is_ok_and(|it| it.len() >= bytes)
    });
}

/// What ffmpeg complains of when it decodes all of a file, and the number of pictures that
/// it finds.
fn decode(path: &Path) -> (String, usize) {
    let output = Command::new("ffmpeg")
        .args("-nostdin -hide_banner -loglevel warning -f flv -i".split(' '))
        .arg(path)
        .args("-map 0:v -f framecrc -".split(' '))
        .output()
        .expect("ffmpeg is needed for this test");
    let lines = text(&output.stdout);
    let pictures = lines.lines().filter(|line| !line.starts_with('#')).count();
    (text(&output.stderr), pictures)
}

/// The number of whole pictures that an FLV file has, up to a tag that is not whole.
fn pictures(bytes: &[u8]) -> usize {
    let mut rest = &bytes[13..];
    let mut pictures = 0;
    while rest.len() >= 11 {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let Some(after) = rest.get(11 + length + 4..) else {
            break;
        };
        pictures += usize::from(rest[0] == 9 && rest[12] == 1);
        rest = after;
    }
    pictures
}

#[test]
fn a_server_that_stops_finishes_its_files() {
    let mut origin = recording_origin("dvr");
    let _publisher = push(&origin.url());
    let unfinished = origin.path("dvr/livestream.flv.tmp");
    wait_for_bytes(&unfinished, 20_000);
    origin.process.signal(Signal::SIGTERM);
    assert!(origin.process.end().success());
    let file = origin.path("dvr/livestream.flv");
    assert!(file.exists() && !unfinished.exists());
    let (complaints, count) = decode(&file);
    assert_eq!(complaints, "");
    assert_eq!(count, pictures(&fs::read(&file).unwrap()));
}

#[test]
fn a_file_of_a_server_that_is_killed_can_be_played() {
    for bytes in [10_000, 50_000, 90_000] {
        let mut origin = recording_origin("dvr");
        let _publisher = push(&origin.url());
        let unfinished = origin.path("dvr/livestream.flv.tmp");
        wait_for_bytes(&unfinished, bytes);
        origin.process.signal(Signal::SIGKILL);
        origin.process.end();
        let (complaints, count) = decode(&unfinished);
        assert_eq!(complaints, "");
        let whole = pictures(&fs::read(&unfinished).unwrap());
        assert!(whole > 0);
        assert_eq!(count, whole, "every picture");
    }
}

/// A small disk in memory; it is taken away with this.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: PathBuf, options: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        disk.run(&["mount", "-t", "tmpfs", "-o", options, "tmpfs"]);
        disk
    }

    fn run(&self, command: &[&str]) {
        let status = Command::new(command[0])
            .args(&command[1..])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success(), "{command:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the server may have a file open there.
        self.run(&["umount", "--lazy"]);
    }
}

#[test]
#[ignore = "needs root"]
fn a_full_disk_costs_viewers_nothing_and_the_recording_goes_on_with_room() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::mount(directory.path().join("disk"), "size=64k");
    let origin = recording_origin(disk.0.to_str().unwrap());
    let _publisher = push(&origin.url());
    let unfinished = disk.0.join("livestream.flv.tmp");
    wait_for_bytes(&unfinished, 60_000);
    // Of what comes now nothing fits.
    let packets = crate::pull(&origin.url());
    assert!(
        packets.len() > 90,
        "viewers get the stream: {}",
        packets.len()
    );
    assert!(fs::metadata(&unfinished).unwrap().len() <= 64 << 10);
    disk.run(&["mount", "-o", "remount,size=16m"]);
    wait_for_bytes(&unfinished, 150_000);
    let mut origin = origin;
    origin.process.signal(Signal::SIGTERM);
    assert!(origin.process.end().success());
    let (complaints, count) = decode(&disk.0.join("livestream.flv"));
    assert_eq!(complaints, "");
    assert!(count > 0);
}
