//! What viewers cost by their protocol.
//!
//! Every server runs alone on its core, viewers and publisher on another. The
//! runs of a round alternate; a ratio is that of two runs of one round, and of
//! all rounds the one in the middle counts.

mod contender;
mod table;

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    goal::{self, Goal},
    process::{NGINX, NGINX_RTMP, pinned},
    rtmp::{contender::Batching, measurement::Figures},
    setup::{Setup, load, write_json},
};
use contender::{Contender, Running, Surroundings};

/// What is measured, and what measures.
const PACKAGES: [&str; 2] = ["rtmp-origin", "rtmp-load"];
const GATHERED: Batching = Batching::Milliseconds(350);
/// Seconds that a stream is published before the first viewer of HLS: its
/// playlists are full by then.
const HLS_LEAD_SECONDS: u32 = 12;
/// Viewers of HLS get all of a segment at once: whole seconds of several
/// segments are measured.
const MIN_HLS_SECONDS: u32 = 10;
/// Less than this share of the pictures is no service: the run is no figure.
const MIN_DELIVERED: f64 = 0.999;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Sections to run [default: all].
    #[arg(value_enum)]
    sections: Vec<Section>,

    #[command(flatten)]
    setup: Setup,

    /// Rounds; the one in the middle counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds measured in each run; at least 10 in those of HLS.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Viewers of the section `flv`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    players: u32,

    /// Viewers of the section `hls`.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    hls_players: u32,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/viewers.json")]
    json: PathBuf,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// RTMP, HTTP-FLV and WebSocket-FLV, gathered and at once.
    Flv,
    /// HTTP-FLV over TLS, beside the same without.
    Tls,
    /// HLS and Low-Latency HLS, beside nginx.
    Hls,
}

/// A contender with its figures, a set for each round.
pub(crate) struct Row {
    contender: Contender,
    rounds: Vec<Figures>,
}

impl Row {
    /// The figures of the middle round, by what it cost.
    fn median(&self) -> Option<Figures> {
        Figures::median(self.rounds.clone())
    }
}

/// Measures, prints a table and the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start, or served so badly that its figures mean
/// nothing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let binaries = options.setup.prepare(&PACKAGES)?;
    let scratch = tempfile::tempdir()?;
    let around = Surroundings {
        binaries,
        scratch: scratch.path().to_owned(),
        server_core: options.setup.server_core,
        load_core: options.setup.load_core,
        realtime: options.setup.realtime,
    };
    let mut rows: Vec<Row> = plan(options)
        .into_iter()
        .map(|contender| Row {
            contender,
            rounds: Vec::new(),
        })
        .collect();
    println!(
        "{} at 30 pictures a second; {} viewers, {} of HLS; {} s measured in each of {} rounds",
        options.setup, options.players, options.hls_players, options.seconds, options.rounds
    );
    for round in 1..=options.rounds {
        for row in &mut rows {
            eprintln!("round {round} of {}: {}", options.rounds, row.contender);
            row.rounds.push(measure(row.contender, options, &around)?);
        }
    }
    let goals = goals(&rows);
    println!("{}", table::of(&rows));
    println!("{}", goal::table(&goals));
    write_figures(options, &rows, &goals)
}

/// All runs of one round, in the order in which they alternate.
fn plan(options: &Options) -> Vec<Contender> {
    let has = |path: &str| std::path::Path::new(path).exists();
    let asked = |section| options.sections.is_empty() || options.sections.contains(&section);
    let mut plan = Vec::new();
    if asked(Section::Flv) {
        for batching in [GATHERED, Batching::AtOnce] {
            plan.push(Contender::Rtmp(batching));
            plan.push(Contender::HttpFlv(batching));
            plan.push(Contender::WebSocketFlv(batching));
        }
        if has(NGINX) && has(NGINX_RTMP) {
            plan.push(Contender::NginxRtmp);
        }
    }
    if asked(Section::Tls) {
        for batching in [GATHERED, Batching::AtOnce] {
            let plain = Contender::HttpFlv(batching);
            if !plan.contains(&plain) {
                plan.push(plain);
            }
            plan.push(Contender::HttpsFlv(batching));
        }
    }
    if asked(Section::Hls) {
        plan.extend([Contender::Hls, Contender::LowLatencyHls]);
        if has(NGINX) {
            plan.push(Contender::NginxFiles);
        }
    }
    plan
}

fn measure(
    contender: Contender,
    options: &Options,
    around: &Surroundings,
) -> anyhow::Result<Figures> {
    let running = Running::start(contender, around)?;
    let (players, seconds) = match contender.is_hls() {
        true => (options.hls_players, options.seconds.max(MIN_HLS_SECONDS)),
        false => (options.players, options.seconds),
    };
    let mut command = pinned(&around.load_core.to_string(), around.realtime);
    command.arg(around.binaries.join("rtmp-load"));
    command.args(["--json", "--quiet", "--publish", "generated"]);
    command.args(["--audio-bitrate", "0", "--settle", "2"]);
    // On loopback, the sender's core pays for acknowledgements that come at once: what they
    // cost says nothing about the protocol.
    command.arg("--delayed-acks");
    command.args(["--bitrate", &options.setup.bitrate.to_string()]);
    command.args(["--players", &players.to_string()]);
    command.args(["--start-rate", &(players / 2).max(1).to_string()]);
    command.args(["--seconds", &seconds.to_string()]);
    command.args(["--watch-pid", &running.server_pid.to_string()]);
    command.args(["--publish-url", &running.publish_url]);
    if contender.is_hls() {
        command.args(["--lead", &HLS_LEAD_SECONDS.to_string()]);
    }
    if contender != Contender::LowLatencyHls {
        command.arg("--no-low-latency");
    }
    command.arg(&running.play_url);
    let report = load(command, contender)?;
    check(contender, players, &report)?;
    Figures::of(report).with_context(|| format!("{contender}: a figure is missing in the report"))
}

/// A server that serves some viewers badly has no cost that could be compared.
fn check(contender: Contender, players: u32, report: &Value) -> anyhow::Result<()> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let playing = number("/players/playing").unwrap_or_default();
    let delivered = number("/frames/delivered").unwrap_or_default();
    if playing < f64::from(players) || delivered < MIN_DELIVERED {
        bail!(
            "{contender}: {playing} of {players} viewers were playing at the end, {:.3} % of the \
             pictures were delivered; connections ended: {}",
            delivered * 100.0,
            report["connections"]["ended"]
        );
    }
    Ok(())
}

/// What issue and design ask for, as far as it was measured.
fn goals(rows: &[Row]) -> Vec<Goal> {
    let mut goals = Vec::new();
    for batching in [GATHERED, Batching::AtOnce] {
        let rtmp = Contender::Rtmp(batching);
        let websocket = if batching == GATHERED { 1.15 } else { 1.1 };
        for (contender, bound) in [
            (Contender::HttpFlv(batching), 1.1),
            (Contender::WebSocketFlv(batching), websocket),
        ] {
            goals.extend(ratio(
                rows,
                "CPU per MB",
                contender,
                rtmp,
                bound,
                |figures| figures.cpu_ms_per_mb,
            ));
            goals.extend(ratio(
                rows,
                "bytes per player",
                contender,
                rtmp,
                1.1,
                |figures| figures.bytes_per_player,
            ));
            let row = rows.iter().find(|row| row.contender == contender);
            if let Some(figures) = row.and_then(Row::median) {
                let what = format!("{contender}: ms to the first keyframe, p99");
                goals.push(Goal::at_most(what, figures.keyframe_p99, 20.0));
            }
        }
    }
    for contender in [Contender::Hls, Contender::LowLatencyHls] {
        goals.extend(ratio(
            rows,
            "CPU per MB",
            contender,
            Contender::NginxFiles,
            1.2,
            |figures| figures.cpu_ms_per_mb,
        ));
    }
    goals
}

/// The ratio of two contenders in the middle of all rounds.
fn ratio(
    rows: &[Row],
    what: &str,
    one: Contender,
    other: Contender,
    bound: f64,
    figure: impl Fn(&Figures) -> f64,
) -> Option<Goal> {
    let of = |contender| rows.iter().find(|row| row.contender == contender);
    let ratio = median_ratio(of(one)?, of(other)?, figure)?;
    Some(Goal::at_most(
        format!("{what}: {one} / {other}"),
        ratio,
        bound,
    ))
}

fn median_ratio(one: &Row, other: &Row, figure: impl Fn(&Figures) -> f64) -> Option<f64> {
    let pairs = one.rounds.iter().zip(&other.rounds);
    let mut ratios: Vec<f64> = pairs
        .map(|(one, other)| figure(one) / figure(other))
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

fn write_figures(options: &Options, rows: &[Row], goals: &[Goal]) -> anyhow::Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "viewers": row.contender.to_string(),
                "rounds": row.rounds.iter().map(Figures::to_json).collect::<Vec<_>>(),
            })
        })
        .collect();
    let document = json!({
        "server_core": options.setup.server_core,
        "load_core": options.setup.load_core,
        "realtime": options.setup.realtime,
        "video_bits_per_second": options.setup.bitrate,
        "players": options.players,
        "hls_players": options.hls_players,
        "seconds": options.seconds,
        "runs": rows,
        "goals": goals.iter().map(Goal::to_json).collect::<Vec<_>>(),
    });
    write_json(&options.json, &document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rtmp::measurement::tests::report_of;

    fn row(contender: Contender, costs: &[f64]) -> Row {
        let figures = |cost: &f64| Figures::of(report_of(*cost)).expect("the report is complete");
        Row {
            contender,
            rounds: costs.iter().map(figures).collect(),
        }
    }

    #[test]
    fn a_ratio_is_that_of_the_middle_round() {
        let rows = [
            row(Contender::Rtmp(GATHERED), &[1.0, 2.0, 4.0]),
            row(Contender::HttpFlv(GATHERED), &[1.2, 2.1, 8.0]),
        ];
        let goals = goals(&rows);
        let cost = &goals[0];
        assert!(cost.what.starts_with("CPU per MB: HTTP-FLV"), "{cost:?}");
        assert!((cost.measured.unwrap() - 1.2).abs() < 1e-9, "{cost:?}");
        assert!(!cost.is_reached());
    }

    #[test]
    fn a_run_whose_viewers_lack_pictures_is_no_measurement() {
        let report = |delivered: f64, playing: u32| json!({ "players": { "playing": playing }, "frames": { "delivered": delivered } });
        assert!(check(Contender::Hls, 5, &report(1.0, 5)).is_ok());
        for bad in [report(0.99, 5), report(1.0, 4), json!({})] {
            assert!(check(Contender::Hls, 5, &bad).is_err(), "{bad}");
        }
    }
}
