//! What a scrape of `/metrics` costs with many players and streams, and whether the players
//! notice.
//!
//! Runs without and with scrapes alternate; of all rounds the one in the middle counts.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::goal::{self, Goal, align, show};
use super::process::{MAX_CONNECTIONS, end, free_port, pinned, spawn};
use super::setup::{Setup, load, write_json};

/// What is measured, and what measures.
const PACKAGES: [&str; 2] = ["rtmp-origin", "rtmp-load"];
/// Time that a scrape may take, in ms.
const MAX_SCRAPE_MS: f64 = 50.0;
/// Maximum length of an answer, in bytes.
const MAX_SCRAPE_BYTES: f64 = 1e6;
/// The most by which scrapes may lengthen the latency of one message in a hundred.
const MAX_LATENCY_RATIO: f64 = 1.1;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    setup: Setup,

    /// Rounds; the one in the middle counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds measured in each run.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Players.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    players: u32,

    /// Streams that they play.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,

    /// Pictures a second of each stream.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=240))]
    fps: u32,

    /// Milliseconds between two scrapes. Prometheus takes 15000 by itself.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    interval_ms: u64,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/scrape.json")]
    json: PathBuf,
}

/// One scrape.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scrape {
    ms: f64,
    bytes: usize,
}

/// What came of one run.
#[derive(Debug, Clone)]
struct Run {
    /// Of messages on their way to players, in ms.
    latency_p50: Option<f64>,
    latency_p99: Option<f64>,
    /// Scrapes while all players were there.
    scrapes: Vec<Scrape>,
}

impl Run {
    /// The duration that so many per cent of the scrapes do not exceed, in ms.
    fn scrape_ms(&self, per_cent: usize) -> Option<f64> {
        let mut sorted: Vec<f64> = self.scrapes.iter().map(|scrape| scrape.ms).collect();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() * per_cent).div_ceil(100).checked_sub(1)?;
        sorted.get(index).copied()
    }

    /// Length of the longest answer, in bytes.
    fn scrape_bytes(&self) -> Option<f64> {
        let longest = self.scrapes.iter().map(|scrape| scrape.bytes).max();
        longest.map(|bytes| bytes as f64)
    }
}

/// Measures, prints a table and the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start, or players were not served.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = options.setup.prepare(&PACKAGES)?;
    println!(
        "{}; {} players of {} streams with {} pictures a second; {} s measured in each of {} \
         rounds, scrapes every {} ms",
        options.setup,
        options.players,
        options.streams,
        options.fps,
        options.seconds,
        options.rounds,
        options.interval_ms
    );
    let (mut quiet, mut scraped) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}: without scrapes", options.rounds);
        quiet.push(measure(options, &binaries, false)?);
        eprintln!("round {round} of {}: with scrapes", options.rounds);
        scraped.push(measure(options, &binaries, true)?);
    }
    let goals = goals(&quiet, &scraped);
    println!("{}", table(&quiet, &scraped));
    println!("{}", goal::table(&goals));
    let runs = |runs: &[Run]| -> Vec<Value> { runs.iter().map(to_json).collect() };
    let document = json!({
        "players": options.players,
        "streams": options.streams,
        "pictures_per_second": options.fps,
        "video_bits_per_second": options.setup.bitrate,
        "interval_ms": options.interval_ms,
        "without": runs(&quiet),
        "with": runs(&scraped),
        "goals": goals.iter().map(Goal::to_json).collect::<Vec<_>>(),
    });
    write_json(&options.json, &document)
}

fn measure(options: &Options, binaries: &Path, with_scrapes: bool) -> anyhow::Result<Run> {
    let setup = &options.setup;
    let scratch = tempfile::tempdir()?;
    let (rtmp, api) = (free_port()?, free_port()?);
    let configuration = format!(
        "listen 127.0.0.1:{rtmp};\n\
         max_connections {MAX_CONNECTIONS};\n\
         workers 1;\n\
         srs_log_level warn;\n\
         handshake_timeout 60000;\n\
         connect_timeout 60000;\n\
         http_api {{ enabled on; listen 127.0.0.1:{api}; }}\n\
         vhost __defaultVhost__ {{ min_latency on; }}\n"
    );
    let file = scratch.path().join("origin.conf");
    fs::write(&file, configuration)?;
    let mut server = pinned(&setup.server_core.to_string(), setup.realtime);
    server.arg(binaries.join("rtmp-origin")).arg("-c").arg(file);
    let _server = Server(spawn(server, rtmp, scratch.path())?);
    let mut command = pinned(&setup.load_core.to_string(), setup.realtime);
    command.arg(binaries.join("rtmp-load"));
    command.args(["--json", "--quiet", "--publish", "generated"]);
    command.args(["--audio-bitrate", "0", "--settle", "6"]);
    command.args(["--bitrate", &setup.bitrate.to_string()]);
    command.args(["--fps", &options.fps.to_string()]);
    command.args(["--players", &options.players.to_string()]);
    command.args(["--streams", &options.streams.to_string()]);
    command.args(["--start-rate", "500"]);
    command.args(["--stall-ms", "10000", "--gap-ms", "10000"]);
    command.args(["--seconds", &options.seconds.to_string()]);
    command.arg(format!("rtmp://127.0.0.1:{rtmp}/live/s{{}}"));
    let is_over = AtomicBool::new(false);
    let (report, scrapes) = thread::scope(|scope| {
        let scraping = scope.spawn(|| match with_scrapes {
            true => scrape_until(&is_over, api, options),
            false => Ok(Vec::new()),
        });
        let report = load(command, "rtmp-origin");
        is_over.store(true, Ordering::Relaxed);
        let scrapes = scraping.join().expect("the scraping thread does not panic");
        anyhow::Ok((report?, scrapes?))
    })?;
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let playing = number("/players/playing").unwrap_or_default();
    if playing < f64::from(options.players) {
        bail!(
            "{playing} of {} players were playing at the end; connections ended: {}",
            options.players,
            report["connections"]["ended"]
        );
    }
    Ok(Run {
        latency_p50: number("/latency_ms/p50"),
        latency_p99: number("/latency_ms/p99"),
        scrapes,
    })
}

/// Ends a server when the run is over.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Scrapes again and again; of those with all players, what they took.
fn scrape_until(is_over: &AtomicBool, port: u16, options: &Options) -> anyhow::Result<Vec<Scrape>> {
    let mut scrapes = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(options.interval_ms));
        let (scrape, body) = scrape(port).context("scraping rtmp-origin")?;
        if players(&body) >= options.players {
            scrapes.push(scrape);
        }
    }
    Ok(scrapes)
}

/// One scrape, and what was answered.
fn scrape(port: u16) -> anyhow::Result<(Scrape, String)> {
    let begun = Instant::now();
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let ms = begun.elapsed().as_secs_f64() * 1_000.0;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if !head.starts_with("HTTP/1.0 200 ") {
        bail!("{head}");
    }
    let bytes = body.len();
    Ok((Scrape { ms, bytes }, body.to_owned()))
}

/// Number of players that an answer tells of.
fn players(body: &str) -> u32 {
    let workers = body
        .lines()
        .filter(|line| line.starts_with("millrace_worker_players{"));
    let counts = workers.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
    counts.sum()
}

/// What the issue asks for.
fn goals(quiet: &[Run], scraped: &[Run]) -> Vec<Goal> {
    let ratios = quiet.iter().zip(scraped);
    let ratios =
        ratios.filter_map(|(quiet, scraped)| Some(scraped.latency_p99? / quiet.latency_p99?));
    vec![
        Goal::at_most(
            "ms that a scrape takes",
            median(scraped.iter().filter_map(|run| run.scrape_ms(50))),
            MAX_SCRAPE_MS,
        ),
        Goal::at_most(
            "bytes of an answer",
            median(scraped.iter().filter_map(Run::scrape_bytes)),
            MAX_SCRAPE_BYTES,
        ),
        Goal::at_most(
            "latency of messages, p99: with scrapes / without",
            median(ratios),
            MAX_LATENCY_RATIO,
        ),
    ]
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

/// Each round, for people.
fn table(quiet: &[Run], scraped: &[Run]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "run",
        "latency p50, ms",
        "p99",
        "scrapes",
        "scrape p50, ms",
        "p95",
        "bytes",
    ]);
    for (name, runs) in [("without scrapes", quiet), ("with scrapes", scraped)] {
        for run in runs {
            table.add_row([
                name.to_owned(),
                show(run.latency_p50, 2),
                show(run.latency_p99, 2),
                run.scrapes.len().to_string(),
                show(run.scrape_ms(50), 1),
                show(run.scrape_ms(95), 1),
                show(run.scrape_bytes(), 0),
            ]);
        }
    }
    align(&mut table, 1);
    table
}

fn to_json(run: &Run) -> Value {
    json!({
        "latency_p50_ms": run.latency_p50,
        "latency_p99_ms": run.latency_p99,
        "scrape_ms": run.scrapes.iter().map(|it| it.ms).collect::<Vec<_>>(),
        "scrape_bytes": run.scrape_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(latency_p99: f64, scrapes: &[(f64, usize)]) -> Run {
        Run {
            latency_p50: Some(1.0),
            latency_p99: Some(latency_p99),
            scrapes: scrapes
                .iter()
                .map(|&(ms, bytes)| Scrape { ms, bytes })
                .collect(),
        }
    }

    #[test]
    fn goals_are_of_the_middle_round() {
        let quiet = [run(10.0, &[]), run(10.0, &[]), run(10.0, &[])];
        let scraped = [
            run(10.5, &[(20.0, 500), (30.0, 600), (90.0, 600)]),
            run(30.0, &[(60.0, 2_000_000)]),
            run(10.0, &[(10.0, 700)]),
        ];
        let goals = goals(&quiet, &scraped);
        let measured: Vec<_> = goals.iter().map(|goal| goal.measured).collect();
        assert_eq!(measured, [Some(30.0), Some(700.0), Some(1.05)]);
        assert!(goals.iter().all(Goal::is_reached));
    }

    #[test]
    fn the_players_of_all_workers_are_counted() {
        let body = "# TYPE millrace_worker_players gauge\n\
                    millrace_worker_players{worker=\"0\"} 7\n\
                    millrace_worker_players{worker=\"1\"} 5\n\
                    millrace_players_halted{reason=\"pause\"} 3\n";
        assert_eq!(players(body), 12);
    }
}
