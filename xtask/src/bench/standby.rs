//! The longest time for which viewers see no new picture when the publisher fails and a
//! standby takes its place. Messages are not gathered (`min_latency on`), as in the
//! deployment's files: gathering would add its own time.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{
    goal::{self, Goal},
    process::{MAX_CONNECTIONS, end, free_port, pinned, spawn},
    setup::{Setup, load, write_json},
};

/// What is measured, and what measures.
const PACKAGES: [&str; 3] = ["rtmp-origin", "rtmp-edge", "rtmp-load"];
/// Seconds in which the viewers come, and in which they settle.
const START_SECONDS: u64 = 2;
const SETTLE_SECONDS: u64 = 2;
/// Seconds measured before the publisher fails, and after that.
const BEFORE_SECONDS: u64 = 3;
const AFTER_SECONDS: u64 = 5;
/// The goal for 99 of 100 viewers, ms.
const MAX_GAP_P99_MS: f64 = 700.0;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// How the publisher fails [default: each way].
    #[arg(value_enum)]
    faults: Vec<Fault>,

    #[command(flatten)]
    setup: Setup,

    /// Viewers, by RTMP at an edge.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    players: u32,

    /// Rounds; the worst counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/standby.json")]
    json: PathBuf,
}

/// How the publisher fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// It is killed: its connection ends.
    Kill,
    /// It is stopped: its connection stays and brings nothing, as with a cable that is cut.
    Silence,
}

impl Fault {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::SIGKILL,
            Self::Silence => Signal::SIGSTOP,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9 of the publisher",
            Self::Silence => "silence of the publisher (SIGSTOP)",
        })
    }
}

/// Measures, prints the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start, or viewers were lost.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = options.setup.prepare(&PACKAGES)?;
    let each = [Fault::Kill, Fault::Silence];
    let faults = match options.faults.is_empty() {
        true => &each[..],
        false => &options.faults,
    };
    println!(
        "{}; {} viewers at an edge, a keyframe each second",
        options.setup, options.players
    );
    let (mut goals, mut figures) = (Vec::new(), Vec::new());
    for &fault in faults {
        let mut worst = None;
        for round in 1..=options.rounds {
            let gap = measure(fault, options, &binaries)?;
            let (p50, p99) = (number(&gap, "/p50")?, number(&gap, "/p99")?);
            println!(
                "{fault}, round {round}: no new picture for {p50:.0} ms (p50), {p99:.0} ms (p99)"
            );
            worst = Some(p99.max(worst.unwrap_or_default()));
            figures.push(json!({ "fault": fault.to_string(), "picture_gap_ms": gap }));
        }
        let what = format!("{fault}: ms without a new picture, p99");
        goals.push(Goal::at_most(what, worst, MAX_GAP_P99_MS));
    }
    println!("{}", goal::table(&goals));
    let goals: Vec<_> = goals.iter().map(Goal::to_json).collect();
    let document = json!({ "players": options.players, "runs": figures, "goals": goals });
    write_json(&options.json, &document)
}

fn number(report: &Value, path: &str) -> anyhow::Result<f64> {
    let number = report.pointer(path).and_then(Value::as_f64);
    number.with_context(|| format!("{path} is missing in the report"))
}

/// Processes that end with it.
struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that is stopped ends when it goes on.
            let _ = kill(pid(child), Signal::SIGCONT);
            end(child);
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// One run: the longest times without a new picture, over all viewers.
fn measure(fault: Fault, options: &Options, binaries: &Path) -> anyhow::Result<Value> {
    let scratch = tempfile::tempdir()?;
    let setup = &options.setup;
    let (origin, edge) = (free_port()?, free_port()?);
    let mut running = Running(Vec::new());
    for (program, port, directives) in [
        ("rtmp-origin", origin, String::new()),
        (
            "rtmp-edge",
            edge,
            format!("mode remote; origin 127.0.0.1:{origin};"),
        ),
    ] {
        let configuration = format!(
            "listen 127.0.0.1:{port}; max_connections {MAX_CONNECTIONS}; srs_log_level warn;\n\
             vhost __defaultVhost__ {{ min_latency on; {directives} }}\n"
        );
        let file = scratch.path().join(format!("{program}.conf"));
        fs::write(&file, configuration)?;
        let mut command = pinned(&setup.server_core.to_string(), setup.realtime);
        command.arg(binaries.join(program)).arg("-c").arg(file);
        running.0.push(spawn(command, port, scratch.path())?);
    }
    let url = format!("rtmp://127.0.0.1:{origin}/live/s");
    let publisher = publish(&url, setup, binaries)?;
    let to_fail = pid(&publisher);
    running.0.push(publisher);
    thread::sleep(Duration::from_secs(1));
    let standby = publish(&format!("{url}?backup=1"), setup, binaries)?;
    running.0.push(standby);

    let failing = thread::spawn(move || {
        thread::sleep(Duration::from_secs(
            START_SECONDS + SETTLE_SECONDS + BEFORE_SECONDS,
        ));
        kill(to_fail, fault.signal())
    });
    let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
    command.arg(binaries.join("rtmp-load"));
    let start_rate = u64::from(options.players).div_ceil(START_SECONDS);
    command.args(["--json", "--quiet"]);
    command.args(["--players", &options.players.to_string()]);
    command.args(["--start-rate", &start_rate.to_string()]);
    command.args(["--settle", &SETTLE_SECONDS.to_string()]);
    let seconds = BEFORE_SECONDS + AFTER_SECONDS;
    command.args(["--seconds", &seconds.to_string()]);
    command.arg(format!("rtmp://127.0.0.1:{edge}/live/s"));
    let report = load(command, fault)?;
    let failed = failing.join();
    failed
        .ok()
        .context("the thread that ends the publisher has panicked")?
        .context("the publisher could not be ended: it had ended before")?;
    check(options.players, &report)?;
    let gap = report.get("picture_gap_ms").cloned();
    gap.context("the report has no picture_gap_ms")
}

/// A publisher of a generated stream with a keyframe each second.
fn publish(url: &str, setup: &Setup, binaries: &Path) -> anyhow::Result<Child> {
    let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
    command.arg(binaries.join("rtmp-load"));
    command.args(["--quiet", "--players", "0", "--seconds", "0"]);
    command.args(["--publish", "generated", "--gop-seconds", "1"]);
    command.args(["--bitrate", &setup.bitrate.to_string()]);
    command.arg(url).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().context("starting a publisher")
}

/// A run in which viewers were lost, or times fell, is a fault and no figure.
fn check(players: u32, report: &Value) -> anyhow::Result<()> {
    let playing = number(report, "/players/playing")?;
    let reordered = number(report, "/timestamps/reordered")?;
    let ended = &report["connections"]["ended"];
    let lost = ended.as_object().is_some_and(|ended| !ended.is_empty());
    if playing < f64::from(players) || lost || reordered > 0.0 {
        bail!(
            "{playing} of {players} viewers were playing at the end, {reordered} times fell; \
             connections ended: {ended}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_in_which_viewers_are_lost_or_times_fall_is_no_measurement() {
        let report = |playing: u32, reordered: u32, ended: Value| {
            json!({
                "players": { "playing": playing },
                "timestamps": { "reordered": reordered },
                "connections": { "ended": ended },
            })
        };
        assert!(check(5, &report(5, 0, json!({}))).is_ok());
        for bad in [
            report(4, 0, json!({})),
            report(5, 1, json!({})),
            report(5, 0, json!({ "closed": 1 })),
            json!({}),
        ] {
            assert!(check(5, &bad).is_err(), "{bad}");
        }
    }
}
