//! What the RTMP servers cost and how fast they are.
//!
//! Every server runs alone on its core, the load and the publisher on another;
//! runs of the contenders alternate, and where there are several rounds the one
//! in the middle counts. Nothing is tuned for it: the servers run with their defaults
//! but for what the table says.

pub(crate) mod contender;
pub(crate) mod floor;
mod goals;
mod ingest;
pub(crate) mod measurement;
mod table;

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::goal::{self, Goal};
use super::process::cargo_build;
use super::setup::{Setup, write_json};
use contender::{Batching, Chunks, Contender, Surroundings};
use ingest::Ingest;
use measurement::{Figures, Generator, Load, Receiver, measure};

/// What is measured, and what measures.
const PACKAGES: [&str; 4] = ["rtmp-origin", "rtmp-edge", "rtmp-load", "xtask"];
const FRAMES_PER_SECOND: u64 = 30;
/// Above so many players the load generator looks at one in ten to the end.
const INSPECT_ALL_UP_TO: u32 = 1000;

/// For a p99 worth its name: 450 pictures.
const LATENCY_SECONDS: u32 = 15;
/// A load has settled after so many seconds.
const SETTLE_SECONDS: u32 = 2;
/// What a burst of joining players took is to be given back after so long.
const BURST_SETTLE_SECONDS: u32 = 60;
/// Players that join per second in a burst: as fast as the core lets them.
const BURST_RATE: u32 = 5_000;

/// Edges in a row in the section `chain`.
const MAX_CHAIN: u32 = 2;

/// What to measure, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Sections to run [default: cost, cores, join, latency, ingest; under five
    /// minutes].
    #[arg(value_enum)]
    sections: Vec<Section>,

    #[command(flatten)]
    setup: Setup,

    /// One round of short runs: for a first look, not for figures to quote.
    #[arg(long)]
    quick: bool,

    /// Rounds of the section `cost`, whose runs alternate; the one in the middle
    /// counts. The other sections are run once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Seconds measured in each run.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,

    /// Players in the sections `cost` and `cores`.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    players: u32,

    /// Folder of another build, such as the release before: its origin is measured in the
    /// sections `cost` and `scale`, too, in turns with ours.
    #[arg(long, value_name = "FOLDER")]
    before: Option<PathBuf>,

    /// Bits of audio per second; 0: none.
    #[arg(long, default_value_t = 0)]
    audio_bitrate: u64,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/rtmp.json")]
    json: PathBuf,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// CPU per delivered megabyte with 1,000 players, by batching.
    Cost,
    /// The same with fewer and more players.
    Scale,
    /// 200 streams of 5 players.
    Streams,
    /// Our server on both cores.
    Cores,
    /// At once, by how the players read: it is loopback's sender who pays for
    /// waking them.
    Receivers,
    /// Memory after all players have joined at once, and a minute later.
    Burst,
    /// From connect to the first keyframe.
    Join,
    /// From publisher through origin and edge to the player.
    Latency,
    /// The same through edges of edges, by batching.
    Chain,
    /// Reading a publisher's bytes, without sockets.
    Ingest,
}

/// What is to be run.
#[derive(Debug, Clone, Copy)]
struct Run {
    section: Section,
    contender: Contender,
    load: Load,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    section: Section,
    contender: Contender,
    load: Load,
    figures: Figures,
}

/// Measures, prints a table and the goals, and writes the JSON file.
///
/// # Errors
/// If something did not start; never because a figure is bad.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut options = options.clone();
    if options.quick {
        options.rounds = 1;
        options.seconds = options.seconds.min(2);
    }
    if options.sections.is_empty() {
        options.sections = vec![
            Section::Cost,
            Section::Cores,
            Section::Join,
            Section::Latency,
            Section::Ingest,
        ];
    }
    let binaries = options.setup.prepare(&PACKAGES)?;
    if options.sections.contains(&Section::Ingest) {
        let program = binaries.join(ingest::PROGRAM);
        if !options.setup.no_build {
            cargo_build(&["--package", "rtmp-proto", "--example", "ingest"])?;
        }
        if !program.exists() {
            bail!("{} is not there", program.display());
        }
    }
    let compared = [Section::Cost, Section::Scale];
    let compares = options.sections.iter().any(|it| compared.contains(it));
    if options.before.is_some() && !compares {
        bail!("--before: only the sections `cost` and `scale` compare two builds");
    }
    if let Some(origin) = options.before.as_ref().map(|it| it.join("rtmp-origin"))
        && !origin.exists()
    {
        bail!("--before: {} is not there", origin.display());
    }
    let scratch = tempfile::tempdir()?;
    let around = Surroundings {
        binaries,
        before: options.before.clone(),
        scratch: scratch.path().to_owned(),
        cores: options.setup.server_core.to_string(),
        realtime: options.setup.realtime,
        workers: 1,
        bits_per_second: options.setup.bitrate + options.audio_bitrate,
        frames_per_second: FRAMES_PER_SECOND,
    };
    let generator = Generator {
        cores: options.setup.load_core.to_string(),
        realtime: options.setup.realtime,
        threads: 1,
        video_bits_per_second: options.setup.bitrate,
        audio_bits_per_second: options.audio_bitrate,
    };
    let nginx = contender::nginx_is_installed();
    if !nginx {
        println!("nginx-rtmp is not installed (Debian: libnginx-mod-rtmp): not compared with");
    }
    println!(
        "{} at {FRAMES_PER_SECOND} pictures a second, {} kbit/s of audio; {} s measured in each \
         run, {} rounds of the section cost",
        options.setup,
        options.audio_bitrate / 1000,
        options.seconds,
        options.rounds
    );
    let rows = measure_all(&plan(&options, nginx), &options, &around, &generator)?;
    let ingest = match options.sections.contains(&Section::Ingest) {
        true => ingest::measure(&around)?,
        false => Vec::new(),
    };
    let goals = goals::of(&rows);
    if !rows.is_empty() {
        println!("{}", table::of(&rows));
        println!("{}", goal::table(&goals));
    }
    if !ingest.is_empty() {
        println!("{}", table::of_ingest(&ingest));
    }
    write_figures(&options, &rows, &goals, &ingest)
}

/// All runs of one round, in the order in which they alternate.
fn plan(options: &Options, nginx: bool) -> Vec<Run> {
    let mut runs = Vec::new();
    for section in &options.sections {
        let section = *section;
        let mut add = |contender, load| {
            runs.push(Run {
                section,
                contender,
                load,
            })
        };
        let batched = Batching::Milliseconds(350);
        match section {
            Section::Cost => {
                let load = load(options, options.players);
                for batching in [batched, Batching::Milliseconds(100), Batching::AtOnce] {
                    add(Contender::Floor(batching), load);
                    add(Contender::Origin(batching), load);
                    if options.before.is_some() {
                        add(Contender::Before(batching), load);
                    }
                }
                if nginx {
                    add(Contender::Nginx(Chunks::Default), load);
                    add(Contender::Nginx(Chunks::LikeOurs), load);
                }
            }
            Section::Scale => {
                let all = [100, 500, 2000, 5000];
                let counts = if options.quick { &all[..2] } else { &all[..] };
                for players in counts {
                    let load = load(options, *players);
                    add(Contender::Floor(batched), load);
                    add(Contender::Origin(batched), load);
                    if options.before.is_some() {
                        add(Contender::Before(batched), load);
                    }
                    if nginx {
                        add(Contender::Nginx(Chunks::Default), load);
                    }
                }
            }
            Section::Streams => {
                let load = Load {
                    streams: 200,
                    ..load(options, 1000)
                };
                add(Contender::Origin(batched), load);
                if nginx {
                    add(Contender::Nginx(Chunks::Default), load);
                }
            }
            Section::Cores => {
                for batching in [batched, Batching::AtOnce] {
                    add(Contender::Origin(batching), load(options, options.players));
                }
            }
            Section::Receivers => {
                for receiver in [Receiver::Epoll, Receiver::Coroutines] {
                    let load = Load {
                        receiver,
                        ..load(options, options.players)
                    };
                    add(Contender::Origin(Batching::AtOnce), load);
                    if nginx {
                        add(Contender::Nginx(Chunks::Default), load);
                        add(Contender::Nginx(Chunks::LikeOurs), load);
                    }
                }
            }
            Section::Burst => {
                let steady = Load {
                    start_rate: 100,
                    ..load(options, options.players)
                };
                let burst = Load {
                    start_rate: BURST_RATE,
                    ..steady
                };
                let later = Load {
                    settle: BURST_SETTLE_SECONDS,
                    ..burst
                };
                for load in [steady, burst, later] {
                    add(Contender::Origin(batched), load);
                }
            }
            Section::Join => {
                let load = Load {
                    start_rate: 50,
                    ..load(options, 200)
                };
                for batching in [batched, Batching::AtOnce] {
                    add(Contender::Origin(batching), load);
                }
                if nginx {
                    add(Contender::Nginx(Chunks::Default), load);
                }
            }
            Section::Latency => {
                let load = latency_load(options);
                add(Contender::Edges(Batching::AtOnce, 1), load);
                add(Contender::Origin(Batching::AtOnce), load);
                if nginx {
                    add(Contender::Nginx(Chunks::Default), load);
                }
            }
            Section::Chain => {
                let load = latency_load(options);
                for batching in [batched, Batching::Milliseconds(100), Batching::AtOnce] {
                    add(Contender::Origin(batching), load);
                    for edges in 1..=MAX_CHAIN {
                        add(Contender::Edges(batching, edges), load);
                    }
                }
            }
            // Has no server to run.
            Section::Ingest => {}
        }
    }
    runs
}

fn latency_load(options: &Options) -> Load {
    Load {
        seconds: options.seconds.max(LATENCY_SECONDS),
        ..load(options, 10)
    }
}

fn load(options: &Options, players: u32) -> Load {
    Load {
        players,
        streams: 1,
        start_rate: (players / 2).clamp(100, 1000),
        seconds: options.seconds,
        inspect_one_in: if players <= INSPECT_ALL_UP_TO { 1 } else { 10 },
        settle: SETTLE_SECONDS,
        receiver: Receiver::Epoll,
    }
}

fn measure_all(
    runs: &[Run],
    options: &Options,
    around: &Surroundings,
    generator: &Generator,
) -> anyhow::Result<Vec<Row>> {
    let mut figures = vec![Vec::new(); runs.len()];
    for round in 1..=options.rounds {
        for (index, run) in runs.iter().enumerate() {
            if round > 1 && run.section != Section::Cost {
                continue;
            }
            eprintln!(
                "round {round} of {}, run {} of {}: {}, {} players",
                options.rounds,
                index + 1,
                runs.len(),
                run.contender,
                run.load.players
            );
            let both;
            let around = match run.section {
                Section::Cores => {
                    let cores =
                        format!("{},{}", options.setup.server_core, options.setup.load_core);
                    both = Surroundings {
                        cores,
                        workers: 2,
                        ..around.clone()
                    };
                    &both
                }
                _ => around,
            };
            figures[index].push(measure(run.contender, &run.load, around, generator)?);
        }
    }
    let row = |(run, figures): (&Run, Vec<Figures>)| {
        let figures = Figures::median(figures)?;
        Some(Row {
            section: run.section,
            contender: run.contender,
            load: run.load,
            figures,
        })
    };
    Ok(runs.iter().zip(figures).filter_map(row).collect())
}

fn write_figures(
    options: &Options,
    rows: &[Row],
    goals: &[Goal],
    ingest: &[Ingest],
) -> anyhow::Result<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "section": format!("{:?}", row.section).to_lowercase(),
                "server": row.contender.to_string(),
                "players": row.load.players,
                "streams": row.load.streams,
                "start_rate": row.load.start_rate,
                "settle_seconds": row.load.settle,
                "receiver": row.load.receiver.name(),
                "figures": row.figures.to_json(),
            })
        })
        .collect();
    let document = json!({
        "server_core": options.setup.server_core,
        "load_core": options.setup.load_core,
        "realtime": options.setup.realtime,
        "video_bits_per_second": options.setup.bitrate,
        "audio_bits_per_second": options.audio_bitrate,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "runs": rows,
        "goals": goals.iter().map(Goal::to_json).collect::<Vec<_>>(),
        "ingest": ingest,
    });
    write_json(&options.json, &document)
}
