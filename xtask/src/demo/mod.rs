//! `cargo xtask demo`: the deployment at work, with an edge that dies half-way.

mod browser;
mod scene;
mod screen;
mod summary;
mod viewer;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use testbed::{Browser, Cluster, HealthChecks, Source};

use scene::Scene;
use screen::Screen;
use summary::Summary;

/// How often the table is drawn anew.
const FRAME: Duration = Duration::from_secs(1);

/// Below this, the deployment's own checks (up to 15 s until a dead server is
/// out of rotation, 6 s until it is back) would not fit into the time.
const ROOM_FOR_DEPLOYED_CHECKS: u64 = 50;

/// Show the whole deployment at work on this machine, in network namespaces.
///
/// Pushes a stream to the origin, lets viewers from different addresses pull it
/// through the VIP, kills an edge, shows how its viewers recover, and brings it
/// back. Needs root. Exit status 0 only if every viewer really decoded video
/// and audio with rising timestamps throughout, and the edge left the rotation
/// and returned. With a browser, its pages must have played on, too.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    scripts/demo.sh\n  \
    scripts/demo.sh --viewers 12 --seconds 90\n  \
    scripts/demo.sh --input film.flv --keep\n  \
    scripts/demo.sh --browser\n  \
    scripts/demo.sh --json | jq .passed")]
pub(crate) struct Arguments {
    /// How long the demo lasts, in seconds
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(20..=3600))]
    seconds: u64,

    /// How many viewers watch from the beginning, each from its own address
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(u8).range(1..=60))]
    viewers: u8,

    /// How many edges serve them
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u8).range(2..=8))]
    edges: u8,

    /// Push this file (H.264/AAC in FLV or MP4), over and over, instead of a
    /// generated picture
    #[arg(long, value_name = "FILE", value_parser = readable_file)]
    input: Option<PathBuf>,

    /// Show Chromium without a window, too: the page of examples/player plays the
    /// stream from the VIP, and connects again by itself when its edge is killed
    #[arg(long)]
    browser: bool,

    /// Leave the cluster running at the end and say how to look around
    #[arg(long)]
    keep: bool,

    /// Print the summary as JSON on standard output, everything else on
    /// standard error
    #[arg(long)]
    json: bool,
}

fn readable_file(path: &str) -> Result<PathBuf, String> {
    match File::open(path) {
        Ok(_) => Ok(path.into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the demo.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let checks = if arguments.seconds >= ROOM_FOR_DEPLOYED_CHECKS {
        HealthChecks::Deployed
    } else {
        HealthChecks::Quick
    };
    if arguments.browser {
        Browser::ensure_installed()?;
    }
    let clients = arguments.viewers + scene::NEWCOMERS + u8::from(arguments.browser);
    let mut screen = Screen::new(arguments.json);
    screen.say(&format!(
        "starting a director, an origin, {} edges and {clients} clients in network namespaces ...",
        arguments.edges,
    ));
    let started = Instant::now();
    let mut builder = Cluster::builder()
        .edges(arguments.edges)
        .clients(clients)
        .health_checks(checks);
    if arguments.browser {
        builder = builder.browsers();
    }
    let cluster = builder.start()?;
    screen.say(&format!(
        "they are up after {:.1} s",
        started.elapsed().as_secs_f32()
    ));
    if checks == HealthChecks::Quick {
        screen.say(&format!(
            "below {ROOM_FOR_DEPLOYED_CHECKS} s the servers are checked each second, \
             not each 6 s as deployed"
        ));
    }
    let source = match (&arguments.input, arguments.browser) {
        (Some(file), _) => Source::File(file.clone()),
        (None, true) => Source::Stamped,
        (None, false) => Source::Generated,
    };
    let encoder = cluster.push(&source)?;
    screen.say(&format!("pushing to   {}", cluster.publishing_url()));
    screen.say(&format!("pulling from {}", cluster.viewing_url()));

    let length = Duration::from_secs(arguments.seconds);
    let mut scene = Scene::open(&cluster, encoder, arguments.viewers, length, checks)?;
    let browser = match cluster.clients().last() {
        Some(client) if arguments.browser => Some((client, client.browser()?)),
        _ => None,
    };
    if let Some((client, browser)) = &browser {
        scene.show_browser(client, browser)?;
    }
    while scene.elapsed() < length {
        let drawn = Instant::now();
        scene.play()?;
        screen.draw(&scene.picture()?);
        thread::sleep(FRAME.saturating_sub(drawn.elapsed()));
    }
    let summary = Summary::of(&scene)?;
    screen.finish();
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        screen.say(&summary.to_string());
    }
    if arguments.keep {
        drop(scene);
        let kept = cluster.keep()?;
        screen.say(&kept.to_string());
    }
    Ok(if summary.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
