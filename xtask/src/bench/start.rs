//! `cargo xtask bench start`: from the start of each program to "ready", as systemd hears it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use netbed::{Host, Process};
use testbed::{Cluster, source_root};

use super::goal::{self, Goal};
use super::process::build;

/// What each start is to take at most, in milliseconds.
const BOUND_MS: f64 = 100.0;

/// How long a program may take until it is given up.
const MAX_START: Duration = Duration::from_secs(10);

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often each program is started.
    #[arg(long, default_value_t = 21)]
    times: usize,
    /// Give the programs precedence over all else on the machine (SCHED_FIFO), so that other
    /// programs disturb less.
    #[arg(long)]
    realtime: bool,
    /// Measure the release build that is there instead of building it.
    #[arg(long)]
    no_build: bool,
}

/// Measures and prints; needs root.
///
/// # Errors
/// If that was not possible.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.times > 0, "--times: at least 1");
    let programs = build(options.no_build, &["lb-user", "rtmp-edge", "rtmp-origin"])?;
    let cluster = Cluster::builder().network_only().edges(2).start()?;
    let examples = source_root().join("examples");
    let command = |program: &str, arguments: &[&str], conf: &str| {
        let program = programs.join(program);
        let mut command = if options.realtime {
            let mut command = Command::new("chrt");
            command.args(["--fifo", "1"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.args(arguments).arg("-c").arg(examples.join(conf));
        command
    };
    let mut goals = Vec::new();
    for (program, arguments, conf, host) in [
        (
            "lb-user",
            &["run"][..],
            "keepalived.conf",
            cluster.director().host(),
        ),
        ("rtmp-edge", &[], "edge.conf", cluster.edge(0).host()),
        ("rtmp-origin", &[], "origin.conf", cluster.origin().host()),
    ] {
        let mut times = Vec::new();
        for _ in 0..options.times {
            let (process, time) = start(host, program, command(program, arguments, conf))?;
            times.push(time.as_secs_f64() * 1000.0);
            process.stop()?;
        }
        times.sort_by(f64::total_cmp);
        let what = |which: &str| format!("{program}: start to ready, {which}, ms");
        goals.push(Goal::at_most(
            what("median"),
            times[times.len() / 2],
            BOUND_MS,
        ));
        goals.push(Goal::at_most(
            what("longest"),
            times[times.len() - 1],
            BOUND_MS,
        ));
    }
    println!("{}", goal::table(&goals));
    Ok(())
}

/// Starts a program and waits until it is ready; how long that took.
fn start(host: &Host, name: &str, mut command: Command) -> anyhow::Result<(Process, Duration)> {
    let socket = host.directory().join("notify");
    let listener = listen(&socket)?;
    let begin = Instant::now();
    command.env("NOTIFY_SOCKET", &socket);
    let process = host.spawn(name, command)?;
    let mut message = [0; 4096];
    loop {
        let length = match listener.recv(&mut message) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                bail!("{name} does not get ready:\n{}", process.log_tail())
            }
            Err(error) => return Err(error).context("cannot hear what the program says"),
        };
        let text = String::from_utf8_lossy(&message[..length]);
        if text.lines().any(|line| line == "READY=1") {
            return Ok((process, begin.elapsed()));
        }
    }
}

fn listen(socket: &Path) -> anyhow::Result<UnixDatagram> {
    if socket.exists() {
        std::fs::remove_file(socket).context("cannot remove the former socket")?;
    }
    let listener = UnixDatagram::bind(socket).context("cannot make a socket")?;
    listener.set_read_timeout(Some(MAX_START))?;
    Ok(listener)
}
