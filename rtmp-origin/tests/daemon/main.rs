//! The origin as a process: configuration, signals, files, real ffmpeg.

mod drain;
mod dvr;
mod dvr_upgrade;
mod hooks;
mod ingest;
mod log_lines;
mod mistakes;
#[path = "../common/peer.rs"]
#[allow(dead_code, reason = "the other test program uses the rest")]
mod peer;
mod pid_file;
mod programs;
mod top;
mod upgrade;
mod upgrade_configuration;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use netbed::local::{ChildGuard, free_address, push};
use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// The deployment's configuration, as it is.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/origin.conf");

fn origin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_rtmp-origin"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An origin that listens, in a directory of its own.
struct Origin {
    process: ChildGuard,
    directory: TempDir,
    address: SocketAddr,
}

impl Origin {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, |_| {})
    }

    fn start_with(arguments: &[&str], adjust: impl FnOnce(&mut Command)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = origin();
        command
            .args(arguments)
            .args(["--listen", &address.to_string()])
            .current_dir(&directory)
            .stderr(Stdio::null());
        adjust(&mut command);
        let process = ChildGuard(command.spawn().unwrap());
        wait_for("a serving origin", || answers(address).is_ok());
        Self {
            process,
            directory,
            address,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn url(&self) -> String {
        format!("rtmp://{}/live/livestream", self.address)
    }
}

/// Checks that an RTMP server answers the first bytes of a handshake. An open port
/// alone may belong to a process that handles no signals yet.
fn answers(address: SocketAddr) -> std::io::Result<()> {
    const C0_C1: usize = 1 + 1536;
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(TIME_LIMIT))?;
    let mut hello = [0; C0_C1];
    hello[0] = 3;
    socket.write_all(&hello)?;
    socket.read_exact(&mut [0])
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Pulls a hundred packets; their kinds and times, as ffprobe tells them.
fn pull(url: &str) -> Vec<(String, i64)> {
    let output = Command::new("ffprobe")
        .args("-hide_banner -loglevel error -rw_timeout 20000000".split(' '))
        .args("-read_intervals %+#100 -show_entries packet=codec_type,dts".split(' '))
        .args(["-of", "csv=print_section=0", url])
        .output()
        .expect("ffprobe is needed for this test");
    let packets = text(&output.stdout);
    let packet = |line: &str| {
        let (stream, dts) = line.split_once(',')?;
        Some((
            stream.parse().ok()?,
            dts.trim_end_matches(',').parse().ok()?,
        ))
    };
    packets.lines().filter_map(packet).collect()
}

#[test]
fn the_example_configuration_runs_unchanged_and_serves_real_video() {
    let mut origin = Origin::start(&["-c", EXAMPLE]);
    let pid = read(&origin.path("objs/origin.pid"));
    assert_eq!(pid.trim(), origin.process.0.id().to_string());
    let _publisher = push(&origin.url());
    wait_for("a publisher", || {
        read(&origin.path("objs/origin.log")).contains("publish live/livestream")
    });
    let packets = pull(&origin.url());
    assert!(
        packets.iter().all(|packet| packet.0 != "subtitle"),
        "metadata taken for a subtitle"
    );
    for kind in ["video", "audio"] {
        let times: Vec<i64> = packets
            .iter()
            .filter(|packet| packet.0 == kind)
            .map(|packet| packet.1)
            .collect();
        assert!(times.len() > 10, "only {} packets of {kind}", times.len());
        assert!(
            times.is_sorted_by(|left, right| left < right),
            "times fall: {times:?}"
        );
    }
    origin.process.signal(Signal::SIGTERM);
    assert!(origin.process.end().success());
    assert!(
        !origin.path("objs/origin.pid").exists(),
        "the pid file is still there"
    );
    let log = read(&origin.path("objs/origin.log"));
    assert!(log.contains("played live/livestream"), "{log}");
    assert!(log.trim_end().ends_with("stopped"), "{log}");
}

#[test]
fn the_log_is_opened_anew_by_a_signal() {
    let origin = Origin::start(&["--log-file", "origin.log"]);
    std::fs::rename(origin.path("origin.log"), origin.path("old.log")).unwrap();
    origin.process.signal(Signal::SIGUSR1);
    wait_for("a new log", || {
        read(&origin.path("origin.log")).contains("log reopened")
    });
}

#[test]
fn signals_that_mean_nothing_end_nobody() {
    let origin = Origin::start(&["--log-file", "origin.log"]);
    let log = || read(&origin.path("origin.log"));
    let id = i32::try_from(origin.process.0.id()).unwrap();
    for number in [14, 26, 27, 29, 30, 34, 36, 63, 64] {
        // SAFETY: the call takes two numbers and touches no memory.
        assert_eq!(unsafe { nix::libc::kill(id, number) }, 0, "{number}");
        wait_for("a word", || {
            log().contains(&format!("signal {number} has no meaning here"))
        });
    }
    TcpStream::connect(origin.address).expect("it serves on");
}

#[test]
fn a_reload_takes_a_good_file_and_leaves_a_bad_one() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("x.conf");
    std::fs::write(&conf, "vhost __defaultVhost__ { gop_cache on; }").unwrap();
    let conf_name = conf.to_str().unwrap();
    let origin = Origin::start(&["-c", conf_name, "--log-file", "origin.log"]);
    let log = || read(&origin.path("origin.log"));
    std::fs::write(&conf, "vhost __defaultVhost__ { gop_cach on; }").unwrap();
    origin.process.signal(Signal::SIGHUP);
    wait_for("a complaint", || {
        log().contains("did you mean `gop_cache`?")
    });
    wait_for("a word", || log().contains("reload failed"));
    std::fs::write(
        &conf,
        "workers 1; vhost __defaultVhost__ { chunk_size 4096; }",
    )
    .unwrap();
    origin.process.signal(Signal::SIGHUP);
    wait_for("the reload", || log().contains("INFO  reloaded"));
    let log = log();
    assert!(
        log.contains("`workers` has changed: it takes effect at the next start"),
        "{log}"
    );
    assert!(log.contains("streams that are there keep theirs"), "{log}");
    TcpStream::connect(origin.address).expect("it does not listen any more");
}

#[test]
fn as_many_descriptors_as_may_be_are_allowed_and_more_at_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("x.conf");
    std::fs::write(&conf, "max_connections 10;").unwrap();
    let address = free_address();
    // A soft limit far below the hard one, as a shell has it.
    let child = Command::new("prlimit")
        .args(["--nofile=256:2000", env!("CARGO_BIN_EXE_rtmp-origin")])
        .args(["-c", "x.conf", "--log-file", "origin.log"])
        .args(["--listen", &address.to_string()])
        .current_dir(&directory)
        .spawn();
    let process = ChildGuard(child.expect("prlimit (util-linux) is needed for this test"));
    wait_for("a serving origin", || answers(address).is_ok());
    let limits = || {
        let limits = read(&PathBuf::from(format!("/proc/{}/limits", process.0.id())));
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"));
        let soft = line
            .unwrap()
            .split_whitespace()
            .nth(3)
            .unwrap()
            .parse::<u64>();
        soft.unwrap()
    };
    assert_eq!(limits(), 2_000);
    std::fs::write(&conf, "max_connections 20000;").unwrap();
    process.signal(Signal::SIGHUP);
    let log = || read(&directory.path().join("origin.log"));
    wait_for("the reload", || log().contains("INFO  reloaded"));
    // Root may go beyond the hard limit; whoever may not says so.
    let told = log().contains("only 2000 descriptors may be open");
    assert!(told || limits() > 60_000, "{} allowed: {}", limits(), log());
}
