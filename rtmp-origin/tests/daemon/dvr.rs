//! Recordings when the process ends, by its own will or not, and on a full disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netbed::local::push;
use netbed::wait_for;
use nix::sys::signal::Signal;

use crate::{Origin, text};

fn recording_origin(directory: &str) -> Origin {
    recording(&format!("{directory}/[stream].flv"))
}

fn recording(path: &str) -> Origin {
    let dvr = format!("dvr {{ enabled on; dvr_path {path}; }}");
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
        .args("-nostdin -hide_banner -loglevel warning -f".split(' '))
        .arg(match path.to_string_lossy().contains(".mp4") {
            true => "mp4",
            false => "flv",
        })
        .arg("-i")
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

/// The number of pictures in the whole fragments of an MP4 file.
fn pictures_in_fragments(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let (mut pictures, mut pending) = (0, 0);
    while let Some((size, after)) = rest.split_first_chunk::<4>() {
        let size = u32::from_be_bytes(*size) as usize;
        let Some(boxed) = rest.get(..size) else {
            break;
        };
        match &after[..4] {
            // The first run is the video's: how many samples it has stands behind its flags.
            b"moof" => {
                let run = boxed.windows(4).position(|name| name == b"trun").unwrap();
                let count = boxed[run + 8..run + 12].try_into().unwrap();
                pending = u32::from_be_bytes(count) as usize;
            }
            b"mdat" => pictures += pending,
            _ => {}
        }
        rest = &rest[size..];
    }
    pictures
}

#[test]
fn a_file_of_a_server_that_is_killed_can_be_played_and_is_finished_by_the_next() {
    for (format, bytes) in [
        ("flv", 10_000),
        ("flv", 50_000),
        ("flv", 90_000),
        ("mp4", 20_000),
        ("mp4", 110_000),
    ] {
        let name = format!("livestream.{format}");
        let mut origin = recording(&format!("dvr/[stream].{format}"));
        let publisher = push(&origin.url());
        let unfinished = origin.path(&format!("dvr/{name}.tmp"));
        wait_for_bytes(&unfinished, bytes);
        origin.process.signal(Signal::SIGKILL);
        origin.process.end();
        drop(publisher);
        let (complaints, count) = decode(&unfinished);
        assert_eq!(complaints, "", "{format} {bytes}");
        let written = fs::read(&unfinished).unwrap();
        let whole = match format {
            "mp4" => pictures_in_fragments(&written),
            _ => pictures(&written),
        };
        assert!(whole > 0);
        assert_eq!(count, whole, "every picture");
        // A part of what comes next, as a crash of the machine may leave it.
        fs::write(&unfinished, [&written[..], &[0x09, 0, 1, 0, 7]].concat()).unwrap();
        let dvr = format!(
            "dvr {{ enabled on; dvr_path {}/dvr/[stream].{format}; }}",
            origin.directory.path().display()
        );
        let _next = Origin::start(&["--set", &dvr]);
        let file = origin.path(&format!("dvr/{name}"));
        wait_for("the finished file", || file.exists());
        assert!(!unfinished.exists());
        let (complaints, count) = decode(&file);
        assert_eq!(complaints, "", "{format} {bytes}");
        assert_eq!(count, whole, "{format} {bytes}");
        assert_eq!(fs::metadata(&file).unwrap().len(), written.len() as u64);
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

/// A small disk in a file, which can hang.
struct FrozenDisk {
    directory: PathBuf,
    is_frozen: bool,
}

impl FrozenDisk {
    /// `None` where there are no loop devices.
    fn mount(directory: &Path) -> Option<Self> {
        let image = directory.join("image");
        let disk = directory.join("disk");
        fs::create_dir(&disk).unwrap();
        fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
        let made = Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status();
        let mounted = Command::new("mount")
            .args(["-o", "loop"])
            .args([&image, &disk])
            .status();
        let is_mounted = made.is_ok_and(|it| it.success()) && mounted.is_ok_and(|it| it.success());
        is_mounted.then_some(Self {
            directory: disk,
            is_frozen: false,
        })
    }

    fn set_frozen(&mut self, is_frozen: bool) {
        let option = if is_frozen { "--freeze" } else { "--unfreeze" };
        let status = Command::new("fsfreeze")
            .arg(option)
            .arg(&self.directory)
            .status();
        assert!(status.unwrap().success());
        self.is_frozen = is_frozen;
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        if self.is_frozen {
            self.set_frozen(false);
        }
        let status = Command::new("umount")
            .arg("--lazy")
            .arg(&self.directory)
            .status();
        assert!(status.unwrap().success());
    }
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_hangs_costs_viewers_nothing_and_holds_up_neither_reload_nor_stop() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = FrozenDisk::mount(directory.path()) else {
        netbed::skip!("there are no loop devices");
    };
    let log = directory.path().join("log");
    let dvr = format!(
        "dvr {{ enabled on; dvr_path {}/[stream].[timestamp].mp4; }}",
        disk.directory.display()
    );
    let mut origin = Origin::start_with(&["--set", &dvr], |command| {
        command.stderr(fs::File::create(&log).unwrap());
    });
    let publisher = push(&origin.url());
    // Behind the origin, which cannot end while it hangs.
    let mut disk = disk;
    let recordings = disk.directory.clone();
    let bytes = || -> u64 {
        let entries = fs::read_dir(&recordings).unwrap().flatten();
        entries
            .filter_map(|it| it.metadata().ok())
            .filter(fs::Metadata::is_file)
            .map(|it| it.len())
            .sum()
    };
    wait_for("a recording", || bytes() > 20_000);
    disk.set_frozen(true);
    let before = bytes();
    let packets = crate::pull(&origin.url());
    assert!(
        packets.len() > 90,
        "viewers get the stream: {}",
        packets.len()
    );
    origin.process.signal(Signal::SIGHUP);
    let packets = crate::pull(&origin.url());
    assert!(packets.len() > 90, "after a reload, too: {}", packets.len());
    assert_eq!(bytes(), before, "it hangs");
    disk.set_frozen(false);
    let hung = bytes();
    wait_for("the recording to go on", || bytes() > hung + 50_000);
    disk.set_frozen(true);
    origin.process.signal(Signal::SIGTERM);
    // All is done, though the kernel lets no process go that waits for a disk.
    wait_for("the end", || {
        crate::read(&log).trim_end().ends_with("stopped")
    });
    assert!(crate::read(&log).contains("the disk is too slow"));
    disk.set_frozen(false);
    assert!(origin.process.end().success());
    drop(publisher);
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_hangs_stops_nobody_by_an_upgrade_and_the_file_goes_on_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let Some(disk) = FrozenDisk::mount(directory.path()) else {
        netbed::skip!("there are no loop devices");
    };
    let file = disk.directory.join("livestream.flv");
    let unfinished = disk.directory.join("livestream.flv.tmp");
    let dvr = format!(
        "dvr {{ enabled on; dvr_path {}/[stream].flv; }}",
        disk.directory.display()
    );
    let mut origin = Origin::start(&["--log-file", "origin.log", "--set", &dvr]);
    let publisher = push(&origin.url());
    // Behind the origin, which cannot end while it hangs.
    let mut disk = disk;
    wait_for_bytes(&unfinished, 20_000);
    disk.set_frozen(true);
    let log = origin.path("origin.log");
    wait_for("the recorder to hang", || waits_for_disk(&origin));
    origin.process.signal(Signal::SIGUSR2);
    wait_for("a refusal", || {
        crate::read(&log).contains("this program goes on: a disk does not answer")
    });
    let packets = crate::pull(&origin.url());
    assert!(
        packets.len() > 90,
        "viewers get the stream: {}",
        packets.len()
    );
    disk.set_frozen(false);
    let hung = fs::metadata(&unfinished).unwrap().len();
    wait_for_bytes(&unfinished, hung + 50_000);
    crate::upgrade::upgrade(&origin, 1);
    let before = fs::metadata(&unfinished).unwrap().len();
    wait_for_bytes(&unfinished, before + 50_000);
    drop(publisher);
    wait_for("the finished file", || file.exists());
    let (complaints, count) = decode(&file);
    assert_eq!(complaints, "");
    assert_eq!(count, pictures(&fs::read(&file).unwrap()));
    origin.process.signal(Signal::SIGTERM);
    assert!(origin.process.end().success());
}

/// True if a thread of its recorders waits for the disk.
fn waits_for_disk(origin: &Origin) -> bool {
    let threads = PathBuf::from(format!("/proc/{}/task", origin.process.0.id()));
    let threads = fs::read_dir(threads).unwrap().flatten();
    let mut states = threads.map(|it| crate::read(&it.path().join("status")));
    states.any(|it| it.starts_with("Name:\tdvr-") && it.contains("State:\tD"))
}
