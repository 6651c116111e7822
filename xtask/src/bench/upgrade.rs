//! How long players of all kinds see no new picture when an origin and an edge become
//! another program under them, ten times, and what memory that leaves behind. One stream is
//! published by `rtmp-load`, the other by ffmpeg.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{Table, presets};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::goal::{self, Goal, align, show};
use super::process::{MAX_CONNECTIONS, end, free_port, pinned, spawn};
use super::setup::{Setup, write_json};

/// What is measured, and what measures.
const PACKAGES: [&str; 3] = ["rtmp-origin", "rtmp-edge", "rtmp-load"];
/// The longest time for which everybody may stand still, in ms.
const MAX_STILL_MS: f64 = 200.0;
/// Players started per second.
const START_RATE: u32 = 300;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    setup: Setup,

    /// Players at the edge: a quarter of them by RTMP, by HTTP-FLV, by WebSocket-FLV and by HLS
    /// each, half of each kind play either stream. As many again would be the origin's.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(4..))]
    players: u32,

    /// Upgrades of each of the two servers.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    upgrades: u32,

    /// Seconds between two upgrades.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pause: u32,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/upgrade.json")]
    json: PathBuf,
}

/// A server that is upgraded.
struct Server {
    name: &'static str,
    program: PathBuf,
    child: Child,
    /// Times for which everybody has stood still, in ms.
    still_ms: Vec<f64>,
    memory_before: u64,
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Server {
    fn start(
        name: &'static str,
        options: &Options,
        binaries: &Path,
        scratch: &Path,
        (port, http): (u16, u16),
        vhost: &str,
    ) -> anyhow::Result<Self> {
        let configuration = format!(
            "listen 127.0.0.1:{port};\n\
             max_connections {MAX_CONNECTIONS};\n\
             workers 1;\n\
             srs_log_level warn;\n\
             handshake_timeout 60000;\n\
             connect_timeout 60000;\n\
             http_server {{ enabled on; listen 127.0.0.1:{http}; }}\n\
             vhost __defaultVhost__ {{ http_remux {{ enabled on; }} min_latency on; \
             hls {{ enabled on; hls_fragment 2; }} {vhost} }}\n"
        );
        let file = scratch.join(format!("{port}.conf"));
        fs::write(&file, configuration)?;
        let program = binaries.join(name);
        let setup = &options.setup;
        let mut command = pinned(&setup.server_core.to_string(), setup.realtime);
        command.arg(&program).arg("-c").arg(file);
        Ok(Self {
            name,
            program,
            child: spawn(command, port, scratch)?,
            still_ms: Vec::new(),
            memory_before: 0,
        })
    }

    fn upgrade(&mut self) -> anyhow::Result<()> {
        let output = Command::new(&self.program)
            .args(["upgrade", "--pid", &self.child.id().to_string()])
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{}: {error}", self.name);
        }
        let still = still_ms(&said).with_context(|| format!("{}: {said}", self.name))?;
        self.still_ms.push(still);
        Ok(())
    }

    /// Its memory, in kB.
    fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        kilobytes.context("no VmRSS")
    }

    fn longest_ms(&self) -> Option<f64> {
        self.still_ms.iter().copied().max_by(f64::total_cmp)
    }
}

/// The time for which everybody has stood still, as `upgrade` says it.
fn still_ms(said: &str) -> Option<f64> {
    let (_, after) = said.split_once("stood still for ")?;
    after.split_once(" ms")?.0.parse().ok()
}

/// A publisher, which is to outlive all upgrades.
struct Publisher {
    name: &'static str,
    child: Child,
}

impl Drop for Publisher {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Publisher {
    /// Our own, whose pictures are stamped.
    fn own(options: &Options, binaries: &Path, port: u16, stream: &str) -> anyhow::Result<Self> {
        let setup = &options.setup;
        let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
        command.arg(binaries.join("rtmp-load"));
        command.args(["--quiet", "--players", "0", "--seconds", "0"]);
        command.args(["--publish", "generated", "--bitrate"]);
        command.args([setup.bitrate.to_string(), url(port, stream)]);
        Self::start("rtmp-load", command)
    }

    /// ffmpeg, which publishes what it plays from another server: so its pictures are stamped,
    /// too.
    fn ffmpeg(options: &Options, from: u16, to: u16, stream: &str) -> anyhow::Result<Self> {
        let setup = &options.setup;
        let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
        command.args(["ffmpeg", "-hide_banner", "-loglevel", "error", "-i"]);
        command.args([&url(from, stream), "-c", "copy", "-f", "flv"]);
        command.arg(url(to, stream));
        Self::start("ffmpeg", command)
    }

    fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        Ok(Self { name, child })
    }

    fn has_ended(&mut self) -> anyhow::Result<bool> {
        let status = self.child.try_wait()?;
        if let Some(status) = status {
            eprintln!("the publisher {} has ended: {status}", self.name);
        }
        Ok(status.is_some())
    }
}

fn url(port: u16, stream: &str) -> String {
    format!("rtmp://127.0.0.1:{port}/live/{stream}")
}

/// Players from one process.
struct Players {
    kind: &'static str,
    child: Child,
}

impl Players {
    fn start(
        kind: &'static str,
        options: &Options,
        binaries: &Path,
        number: u32,
        url: &str,
    ) -> anyhow::Result<Self> {
        let setup = &options.setup;
        let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
        command
            .arg(binaries.join("rtmp-load"))
            .args(["--json", "--quiet", "--seconds", "0", "--timeout", "60"])
            .args(["--start-rate", &START_RATE.to_string()])
            .args(["--players", &number.to_string()])
            .args(["--streams", "2"])
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = command.spawn().context("starting rtmp-load")?;
        Ok(Self { kind, child })
    }

    fn finish(self) -> anyhow::Result<(&'static str, Value)> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), Signal::SIGINT)?;
        let output = self.child.wait_with_output()?;
        let report = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{}: no report", self.kind))?;
        Ok((self.kind, report))
    }
}

/// Measures, prints a table and the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start, or an upgrade failed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = options.setup.prepare(&PACKAGES)?;
    println!(
        "{}; {} players at an edge, {} upgrades of it and of its origin; load average {}",
        options.setup,
        options.players,
        options.upgrades,
        fs::read_to_string("/proc/loadavg")?.trim()
    );
    let scratch = tempfile::tempdir()?;
    let scratch = scratch.path();
    let (at_origin, at_edge) = ((free_port()?, free_port()?), (free_port()?, free_port()?));
    let upstream = format!("mode remote; origin 127.0.0.1:{};", at_origin.0);
    let mut origin = Server::start("rtmp-origin", options, &binaries, scratch, at_origin, "")?;
    let mut edge = Server::start("rtmp-edge", options, &binaries, scratch, at_edge, &upstream)?;
    // Not upgraded: what ffmpeg plays comes from there.
    let at_studio = (free_port()?, free_port()?);
    let _studio = Server::start("rtmp-origin", options, &binaries, scratch, at_studio, "")?;
    let mut publishers = vec![
        Publisher::own(options, &binaries, at_origin.0, "s1")?,
        Publisher::own(options, &binaries, at_studio.0, "s2")?,
    ];
    thread::sleep(Duration::from_secs(1));
    let by_ffmpeg = Publisher::ffmpeg(options, at_studio.0, at_origin.0, "s2")?;
    publishers.push(by_ffmpeg);
    // ffmpeg looks at its source before it publishes.
    thread::sleep(Duration::from_secs(8));
    let quarter = options.players / 4;
    let http = |scheme, file| format!("{scheme}://127.0.0.1:{}/live/{file}", at_edge.1);
    let kinds = [
        ("RTMP", options.players - 3 * quarter, url(at_edge.0, "s{}")),
        ("HTTP-FLV", quarter, http("http", "s{}.flv")),
        ("WebSocket-FLV", quarter, http("ws", "s{}.flv")),
        ("HLS", quarter, http("http", "s{}.m3u8")),
    ];
    let mut players = Vec::new();
    for (kind, number, url) in kinds {
        players.push(Players::start(kind, options, &binaries, number, &url)?);
    }
    let starting = options.players / START_RATE + 5;
    thread::sleep(Duration::from_secs(starting.into()));
    for server in [&mut origin, &mut edge] {
        server.memory_before = server.memory()?;
    }
    for _ in 0..options.upgrades {
        for server in [&mut origin, &mut edge] {
            server.upgrade()?;
            thread::sleep(Duration::from_secs(options.pause.into()));
        }
    }
    let memory_after = [origin.memory()?, edge.memory()?];
    let mut ended = 0;
    for publisher in &mut publishers {
        ended += u32::from(publisher.has_ended()?);
    }
    let reports = players.into_iter().map(Players::finish);
    let reports: Vec<_> = reports.collect::<anyhow::Result<_>>()?;
    let goals = goals(&[&origin, &edge], &reports, options.players, ended);
    println!("{}", table(&reports));
    for (server, after) in [&origin, &edge].into_iter().zip(memory_after) {
        println!(
            "{}: stood still for {:?} ms; memory {} kB before, {after} kB after",
            server.name, server.still_ms, server.memory_before
        );
    }
    println!("{}", goal::table(&goals));
    let server = |server: &Server, after: u64| {
        json!({
            "stood_still_ms": server.still_ms,
            "memory_before_kb": server.memory_before,
            "memory_after_kb": after,
        })
    };
    let document = json!({
        "players": options.players,
        "upgrades": options.upgrades,
        "video_bits_per_second": options.setup.bitrate,
        "origin": server(&origin, memory_after[0]),
        "edge": server(&edge, memory_after[1]),
        "reports": reports.iter().map(|(kind, report)| json!({ *kind: report })).collect::<Vec<_>>(),
        "goals": goals.iter().map(Goal::to_json).collect::<Vec<_>>(),
    });
    write_json(&options.json, &document)
}

fn number(report: &Value, path: &str) -> Option<f64> {
    report.pointer(path).and_then(Value::as_f64)
}

fn goals(servers: &[&Server], reports: &[(&str, Value)], players: u32, ended: u32) -> Vec<Goal> {
    let sum = |path: &str| -> Option<f64> {
        reports.iter().map(|(_, report)| number(report, path)).sum()
    };
    let still = servers.iter().filter_map(|server| server.longest_ms());
    vec![
        Goal::at_most(
            "ms for which everybody stands still, the longest",
            still.max_by(f64::total_cmp),
            MAX_STILL_MS,
        ),
        Goal::at_most("publishers that have ended", Some(ended.into()), 0.0),
        Goal::at_most("pictures lost", sum("/frames/lost"), 0.0),
        Goal::at_most("pictures repeated", sum("/frames/repeated"), 0.0),
        Goal::at_least(
            "players at the end",
            sum("/players/playing"),
            players.into(),
        ),
        Goal::at_most(
            "connections made",
            sum("/connections/attempts"),
            players.into(),
        ),
    ]
}

/// Each kind of players, for people.
fn table(reports: &[(&str, Value)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "players by",
        "playing",
        "pictures",
        "lost",
        "repeated",
        "longest without a picture, ms: p50",
        "max",
    ]);
    for (kind, report) in reports {
        let show = |path: &str, digits| show(number(report, path), digits);
        table.add_row([
            (*kind).to_owned(),
            show("/players/playing", 0),
            show("/frames/received", 0),
            show("/frames/lost", 0),
            show("/frames/repeated", 0),
            show("/picture_gap_ms/p50", 0),
            show("/picture_gap_ms/max", 0),
        ]);
    }
    align(&mut table, 1);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_what_the_command_says() {
        let said = "rtmp-edge 0.1.0 goes on in place of 0.1.0 with 9 connections; everybody has \
                    stood still for 42 ms\n";
        assert_eq!(still_ms(said), Some(42.0));
        assert_eq!(still_ms("no"), None);
    }
}
