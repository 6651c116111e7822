//! The origin as a process: configuration, signals, files, real ffmpeg.

mod dvr;
mod hooks;
mod ingest;
mod programs;
mod top;

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use netbed::local::{ChildGuard, ffmpeg, free_address, push};
use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
fn a_drain_waits_for_viewers_and_takes_nobody_new() {
    let mut origin = Origin::start(&["--log-file", "origin.log", "--min-latency", "on"]);
    let _publisher = push(&origin.url());
    let viewer = ffmpeg()
        .args(["-i", &origin.url(), "-f", "null", "-"])
        .stderr(Stdio::null())
        .spawn();
    let viewer = ChildGuard(viewer.unwrap());
    let log = || read(&origin.path("origin.log"));
    wait_for("a viewer", || log().contains("play live/livestream"));
    origin.process.signal(Signal::SIGQUIT);
    wait_for("the drain", || log().contains("draining"));
    wait_for("a closed port", || {
        TcpStream::connect(origin.address).is_err()
    });
    assert!(
        origin.process.0.try_wait().unwrap().is_none(),
        "it did not wait for its viewer"
    );
    drop(viewer);
    assert!(origin.process.end().success());
}

#[test]
fn http_flv_is_served_and_drained_like_rtmp() {
    let http = free_address();
    let http_server = format!("http_server {{ enabled on; listen {http}; }}");
    let arguments = ["--log-file", "origin.log", "--min-latency", "on"];
    let served = ["--set", &http_server, "--set", "http_remux { enabled on; }"];
    let mut origin = Origin::start(&[&arguments[..], &served].concat());
    let _publisher = push(&origin.url());
    let url = format!("http://{http}/live/livestream.flv");
    let packets = pull(&url);
    assert_eq!(packets.len(), 100, "{packets:?}");
    assert!(packets.iter().all(|packet| packet.0 != "subtitle"));
    let viewer = ffmpeg()
        .args(["-i", &url, "-f", "null", "-"])
        .stderr(Stdio::null())
        .spawn();
    let viewer = ChildGuard(viewer.unwrap());
    let log = || read(&origin.path("origin.log"));
    wait_for("both players", || {
        log().matches("play live/livestream by HTTP-FLV").count() == 2
    });
    wait_for("the end of the first", || {
        log().contains("played live/livestream: ")
    });
    origin.process.signal(Signal::SIGQUIT);
    wait_for("a closed port", || TcpStream::connect(http).is_err());
    assert!(
        origin.process.0.try_wait().unwrap().is_none(),
        "it did not wait for its viewer"
    );
    drop(viewer);
    assert!(origin.process.end().success());
}

/// The answer to a GET over a connection that stays; its head and its body.
fn get(connection: &mut TcpStream, target: &str) -> (String, String) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    connection.write_all(request.as_bytes()).unwrap();
    let mut input = Vec::new();
    loop {
        let mut bytes = [0; 4_096];
        let count = connection.read(&mut bytes).unwrap();
        assert!(count > 0, "no answer to {target}");
        input.extend_from_slice(&bytes[..count]);
        let text = String::from_utf8_lossy(&input).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split("Content-Length: ").nth(1).expect("a length");
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if body.len() == length {
            return (head.to_owned(), body.to_owned());
        }
    }
}

#[test]
fn a_drain_lets_viewers_by_hls_go_on_and_takes_nobody_new() {
    for low_latency in ["", "hls_low_latency on; hls_part 200;"] {
        let http = free_address();
        let http_server = format!("http_server {{ enabled on; listen {http}; }}");
        let hls = format!("hls {{ enabled on; hls_fragment 1; {low_latency} }}");
        let mut origin = Origin::start(&[
            "--log-file",
            "origin.log",
            "--min-latency",
            "on",
            "--set",
            &http_server,
            "--set",
            &hls,
        ]);
        let _publisher = push(&origin.url());
        let mut viewer = TcpStream::connect(http).unwrap();
        viewer.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let mut other = TcpStream::connect(http).unwrap();
        other.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let begin = "/live/livestream.m3u8";
        let (head, multivariant) = get(&mut viewer, begin);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let media = format!("/live/{}", multivariant.lines().last().unwrap());
        get(&mut viewer, &media);
        // It accepts the other connection before the port is closed.
        let (head, _) = get(&mut other, "/live/livestream-1.key");
        assert!(head.starts_with("HTTP/1.1 40"), "{head}");
        origin.process.signal(Signal::SIGQUIT);
        wait_for("a closed port", || TcpStream::connect(http).is_err());
        let sequence = |playlist: &str| {
            let line = playlist
                .lines()
                .find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
            let first: u64 = line.unwrap().parse().unwrap();
            first + playlist.matches("#EXTINF").count() as u64
        };
        let (_, before) = get(&mut viewer, &media);
        wait_for("the playlist to go on", || {
            let (head, later) = get(&mut viewer, &media);
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            sequence(&later) > sequence(&before)
        });
        let (head, _) = get(&mut other, begin);
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert!(
            origin.process.0.try_wait().unwrap().is_none(),
            "it did not wait for its viewer"
        );
        // The session ends some time after its last request, and the drain with it.
        drop((viewer, other));
        assert!(origin.process.end().success());
        let log = read(&origin.path("origin.log"));
        assert!(log.contains("played live/livestream by HLS"), "{log}");
        assert!(log.contains("no request any more"), "{log}");
    }
}

#[test]
fn a_drain_ends_when_its_time_is_over_though_viewers_stay() {
    let mut origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        "drain_timeout 0.5",
    ]);
    let _publisher = push(&origin.url());
    let viewer = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error"])
        .args(["-i", &origin.url(), "-f", "null", "-"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut viewer = ChildGuard(viewer.unwrap());
    let file = origin.path("origin.log");
    let log = || read(&file);
    wait_for("a viewer", || log().contains("play live/livestream"));
    assert!(viewer.0.try_wait().unwrap().is_none(), "it has left");
    origin.process.signal(Signal::SIGQUIT);
    assert!(origin.process.end().success());
    let log = log();
    assert!(log.contains("viewers may finish for 500ms"), "{log}");
    assert!(log.contains("played live/livestream"), "{log}");
    assert!(log.contains("frames, 0 skips; dismissed"), "{log}");
    viewer.end();
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

/// Text of a web server and of a client that looks like a log line.
const FORGED: &str = "no\n2026-01-01T00:00:00.000Z INFO  c9 192.0.2.1:5: publish live/forged";

/// The URL of a web server that answers each request with [`FORGED`].
fn forging_web_server() -> String {
    let web = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", web.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in web.incoming() {
            let mut socket = socket.unwrap();
            let mut asked = Vec::new();
            // The question is a JSON object, the last of which is its brace.
            while asked.last() != Some(&b'}') {
                let mut part = [0; 4096];
                let count = socket.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..count]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                FORGED.len()
            );
            socket.write_all((head + FORGED).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn what_others_say_makes_no_lines_in_the_log() {
    let hook = format!(
        "http_hooks {{ enabled on; on_publish {}; }}",
        forging_web_server()
    );
    let arguments = [
        "--log-file",
        "origin.log",
        "--log-level",
        "debug",
        "--set",
        &hook,
    ];
    let mut origin = Origin::start(&arguments);
    let tc_url = format!("rtmp://{}/live{FORGED}", origin.address);
    let pushed = ffmpeg()
        .args("-f lavfi -i sine=duration=1 -c:a aac -f flv -rtmp_tcurl".split(' '))
        .args([&tc_url, &origin.url()])
        .stderr(Stdio::null())
        .status();
    assert!(!pushed.unwrap().success(), "it was let in");
    origin.process.signal(Signal::SIGTERM);
    origin.process.end();
    let log = read(&origin.path("origin.log"));
    let told = |line: &&str| line.contains("publish live/forged");
    assert_eq!(log.lines().filter(told).count(), 2, "{log}");
    // It says whom the web server was asked about.
    assert!(
        log.contains(" 127.0.0.1: on_publish: the hook http://127.0.0.1:"),
        "{log}"
    );
    let forged = |line: &str| line.starts_with("2026-01-01");
    assert!(!log.lines().any(forged), "{log}");
}

#[test]
fn probes_of_the_port_are_not_worth_a_line_but_rust_log_shows_them() {
    for (rust_log, shown) in [(None, false), (Some("rtmp_server=debug"), true)] {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let mut command = origin();
        command.args(["--listen", &address.to_string(), "--log-file", "origin.log"]);
        if let Some(rust_log) = rust_log {
            command.env("RUST_LOG", rust_log);
        }
        let mut process = ChildGuard(command.current_dir(&directory).spawn().unwrap());
        wait_for("a serving origin", || answers(address).is_ok());
        drop(TcpStream::connect(address).unwrap());
        let log = || read(&directory.path().join("origin.log"));
        let told = || log().contains("closed by the peer");
        if shown {
            wait_for("a line about the probe", told);
        } else {
            // One that came later has been served: the probe had its time.
            wait_for("another answer", || answers(address).is_ok());
        }
        process.signal(Signal::SIGTERM);
        process.end();
        assert_eq!(told(), shown, "{}", log());
    }
}
