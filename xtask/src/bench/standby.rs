//! The longest time for which viewers see no new picture when the publisher or an origin
//! fails and another takes its place. Messages are not gathered (`min_latency on`), as in the
//! deployment's files, unless it is asked for: gathering adds its own time.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use netbed::local::ffmpeg;
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
/// The same where the slate comes, and the publisher afterwards.
const AFTER_SLATE_SECONDS: u64 = 12;
/// Time without a publisher after which the slate comes, ms, and that after which the
/// publisher comes back, s.
const SLATE_AFTER_MS: u32 = 1_000;
const RETURN_SECONDS: u64 = 4;
/// Length of the slate's film, s. Were it the only source to the end of the measurement, it
/// would begin anew, and what has been seen is no new picture.
const SLATE_SECONDS: u64 = 8;
/// The goal for 99 of 100 viewers, ms.
const MAX_GAP_P99_MS: f64 = 700.0;
/// The same where two origins bring the same messages.
const MAX_ALIGNED_GAP_P99_MS: f64 = 150.0;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// What fails, and how [default: each way].
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

    /// `mw_latency` of the servers in ms; 0: `min_latency on`.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    mw_latency: u32,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/standby.json")]
    json: PathBuf,
}

/// What fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Fault {
    /// The publisher is killed: its connection ends.
    Kill,
    /// The publisher is stopped: its connection stays and brings nothing, as with a cable
    /// that is cut.
    Silence,
    /// One of two origins is killed, each of which has a publisher of its own; the edge pulls
    /// from one of them.
    Origin,
    /// The same; the edge pulls from both (`origin_redundancy 2`).
    Redundant,
    /// One of two servers is killed that bring the same messages; the edge pulls from both.
    Aligned,
    /// The publisher is killed, nobody takes its place until the slate does, and it comes back.
    Slate,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Kill,
        Self::Silence,
        Self::Origin,
        Self::Redundant,
        Self::Aligned,
        Self::Slate,
    ];

    fn signal(self) -> Signal {
        match self {
            Self::Silence => Signal::SIGSTOP,
            _ => Signal::SIGKILL,
        }
    }

    fn max_gap_ms(self) -> f64 {
        match self {
            Self::Aligned => MAX_ALIGNED_GAP_P99_MS,
            Self::Slate => MAX_GAP_P99_MS + f64::from(SLATE_AFTER_MS),
            _ => MAX_GAP_P99_MS,
        }
    }

    /// Seconds measured after it.
    fn after_seconds(self) -> u64 {
        match self {
            Self::Slate => AFTER_SLATE_SECONDS,
            _ => AFTER_SECONDS,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill -9 of the publisher",
            Self::Silence => "silence of the publisher (SIGSTOP)",
            Self::Origin => "kill -9 of the origin, another one is named",
            Self::Redundant => "kill -9 of one of two origins that differ",
            Self::Aligned => "kill -9 of one of two origins that are aligned",
            Self::Slate => "kill -9 of the publisher, a slate, and the publisher again",
        })
    }
}

/// Measures, prints the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start, or viewers were lost.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = options.setup.prepare(&PACKAGES)?;
    let faults = match options.faults.is_empty() {
        true => &Fault::ALL[..],
        false => &options.faults,
    };
    println!(
        "{}; {} viewers at an edge, a keyframe each second, mw_latency {}",
        options.setup, options.players, options.mw_latency
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
        goals.push(Goal::at_most(what, worst, fault.max_gap_ms()));
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

/// The servers and publishers of one run.
struct Cast<'a> {
    options: &'a Options,
    binaries: &'a Path,
    scratch: &'a Path,
    running: Running,
    /// The film that an origin shows while nobody publishes.
    slate: Option<PathBuf>,
    /// Port of the server to which the publisher comes back.
    returns_at: Option<u16>,
}

impl Cast<'_> {
    /// Starts an origin, or an edge of these `origins`; its port.
    fn serve(&mut self, origins: &[u16], redundancy: u32) -> anyhow::Result<u16> {
        let port = free_port()?;
        let (program, directives) = match origins {
            [] => ("rtmp-origin", self.slate_directives()),
            origins => {
                let origins = origins.iter().map(|port| format!(" 127.0.0.1:{port}"));
                let origins: String = origins.collect();
                let redundancy = format!("origin_redundancy {redundancy};");
                (
                    "rtmp-edge",
                    format!("mode remote; origin{origins}; {redundancy}"),
                )
            }
        };
        let gathering = match self.options.mw_latency {
            0 => "min_latency on;".to_owned(),
            latency => format!("mw_latency {latency};"),
        };
        let configuration = format!(
            "listen 127.0.0.1:{port}; max_connections {MAX_CONNECTIONS}; srs_log_level warn;\n\
             vhost __defaultVhost__ {{ {gathering} {directives} }}\n"
        );
        let file = self.scratch.join(format!("{port}.conf"));
        fs::write(&file, configuration)?;
        let setup = &self.options.setup;
        let mut command = pinned(&setup.server_core.to_string(), setup.realtime);
        command.arg(self.binaries.join(program)).arg("-c").arg(file);
        let server = spawn(command, port, self.scratch)?;
        self.running.0.push(server);
        Ok(port)
    }

    fn slate_directives(&self) -> String {
        self.slate.as_ref().map_or(String::new(), |film| {
            let film = film.display();
            format!("publish {{ slate {film}; slate_after {SLATE_AFTER_MS}; }}")
        })
    }

    /// Has ffmpeg write down what the server at `port` sends: its pictures have our publisher's
    /// stamps, by which viewers know them.
    fn film(&self, port: u16) -> anyhow::Result<PathBuf> {
        let film = self.scratch.join("slate.flv");
        let mut command = ffmpeg();
        command.args(["-i", &format!("rtmp://127.0.0.1:{port}/live/s")]);
        command.args(["-t", &SLATE_SECONDS.to_string(), "-c", "copy"]);
        let status = command.arg(&film).status();
        match status.context("starting ffmpeg")?.success() {
            true => Ok(film),
            false => bail!("ffmpeg could not write {}", film.display()),
        }
    }

    /// Starts a publisher at the server at `port`, and gives it time to send a group.
    fn publish(&mut self, port: u16, parameters: &str) -> anyhow::Result<()> {
        let url = format!("rtmp://127.0.0.1:{port}/live/s{parameters}");
        let publisher = publish(&url, &self.options.setup, self.binaries)?;
        self.running.0.push(publisher);
        thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Starts all; the edge's port, and the number of the program that is to fail.
    fn enter(&mut self, fault: Fault) -> anyhow::Result<(u16, usize)> {
        match fault {
            Fault::Kill | Fault::Silence => {
                let origin = self.serve(&[], 1)?;
                let edge = self.serve(&[origin], 1)?;
                self.publish(origin, "")?;
                self.publish(origin, "?backup=1")?;
                Ok((edge, 2))
            }
            Fault::Origin | Fault::Redundant => {
                let origins = [self.serve(&[], 1)?, self.serve(&[], 1)?];
                for origin in origins {
                    self.publish(origin, "")?;
                }
                let redundancy = if fault == Fault::Origin { 1 } else { 2 };
                Ok((self.serve(&origins, redundancy)?, 0))
            }
            Fault::Aligned => {
                let origin = self.serve(&[], 1)?;
                self.publish(origin, "")?;
                let between = [self.serve(&[origin], 1)?, self.serve(&[origin], 1)?];
                Ok((self.serve(&between, 2)?, 2))
            }
            Fault::Slate => {
                let studio = self.serve(&[], 1)?;
                self.publish(studio, "")?;
                self.slate = Some(self.film(studio)?);
                let origin = self.serve(&[], 1)?;
                let edge = self.serve(&[origin], 1)?;
                self.publish(origin, "")?;
                self.returns_at = Some(origin);
                Ok((edge, 4))
            }
        }
    }
}

/// One run: the longest times without a new picture, over all viewers.
fn measure(fault: Fault, options: &Options, binaries: &Path) -> anyhow::Result<Value> {
    let scratch = tempfile::tempdir()?;
    let setup = &options.setup;
    let mut cast = Cast {
        options,
        binaries,
        scratch: scratch.path(),
        running: Running(Vec::new()),
        slate: None,
        returns_at: None,
    };
    let (edge, number) = cast.enter(fault)?;
    let to_fail = pid(&cast.running.0[number]);

    let returns_at = cast.returns_at;
    let (setup_of_return, binaries_of_return) = (setup.clone(), binaries.to_owned());
    let failing = thread::spawn(move || -> anyhow::Result<Running> {
        thread::sleep(Duration::from_secs(
            START_SECONDS + SETTLE_SECONDS + BEFORE_SECONDS,
        ));
        kill(to_fail, fault.signal())
            .context("the program could not be ended: it had ended before")?;
        let Some(port) = returns_at else {
            return Ok(Running(Vec::new()));
        };
        thread::sleep(Duration::from_secs(RETURN_SECONDS));
        let url = format!("rtmp://127.0.0.1:{port}/live/s");
        let publisher = publish(&url, &setup_of_return, &binaries_of_return)?;
        Ok(Running(vec![publisher]))
    });
    let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
    command.arg(binaries.join("rtmp-load"));
    let start_rate = u64::from(options.players).div_ceil(START_SECONDS);
    command.args(["--json", "--quiet"]);
    command.args(["--players", &options.players.to_string()]);
    command.args(["--start-rate", &start_rate.to_string()]);
    command.args(["--settle", &SETTLE_SECONDS.to_string()]);
    let seconds = BEFORE_SECONDS + fault.after_seconds();
    command.args(["--seconds", &seconds.to_string()]);
    command.arg(format!("rtmp://127.0.0.1:{edge}/live/s"));
    let report = load(command, fault)?;
    let failed = failing.join();
    let mut returned = failed
        .ok()
        .context("the thread that ends the program has panicked")??;
    for publisher in &mut returned.0 {
        let ended = publisher.try_wait()?;
        ensure!(ended.is_none(), "the publisher that came back has ended");
    }
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
