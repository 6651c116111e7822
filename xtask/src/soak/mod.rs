//! `cargo xtask soak`: a small cluster on which everything happens at once, for hours.
//!
//! Viewers of each protocol watch all along while publishers and other viewers come and go,
//! programs are reloaded, upgraded and killed, an encoder gives way to its standby, and one
//! director to the other. What must hold is checked all along: no picture of a publisher that
//! lives is lost or comes twice, no connection ends without a reason, times rise, and memory,
//! descriptors and threads stay.

mod encoders;
mod events;
mod load;
mod resources;
mod watchers;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use fastrand::Rng;
use testbed::Cluster;

use encoders::Encoders;
use events::Event;
use load::{Load, Protocol};
use resources::Resources;
use watchers::Watchers;

/// Edges.
const EDGES: u8 = 3;
/// The edge that is never killed, whose players watch all along.
const WATCHED_EDGE: usize = 0;
/// Time between the events of a round.
const PAUSE_SECONDS: std::ops::Range<f64> = 1.0..4.0;
/// Events of a round.
const EVENTS: usize = 5;
/// Players of one party that comes and goes, and the seconds that it stays.
const GUESTS: std::ops::RangeInclusive<u32> = 1..=6;
const STAY_SECONDS: std::ops::RangeInclusive<u32> = 4..=12;
/// Rounds that must have been made for resources to be compared.
const MIN_ROUNDS: u32 = 6;

/// Run a cluster on which everything happens at once, and check what must hold all along.
///
/// It needs root, and uses the programs beside this one, or those of MILLRACE_BIN_DIR.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long.
    #[arg(long, default_value_t = 120.0)]
    minutes: f64,
    /// What happens, and when, follows from this number; another one each time unless said.
    #[arg(long)]
    seed: Option<u64>,
}

/// Soaks a cluster.
///
/// # Errors
/// Something did not start, or something that must hold did not.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{} minutes, --seed {seed}", arguments.minutes);
    let cluster = Cluster::builder()
        .edges(EDGES)
        .clients(4)
        .standby()
        // With `rr` the other director cannot know who was sent where.
        .director_conf(|conf| conf.replace("lb_algo rr", "lb_algo mh"))
        // Players and servers may stand still for as long, all of them with the machine.
        .origin_conf(|conf| conf.replace("queue_length    10;", "queue_length    120;"))
        .edge_conf(|_, conf| {
            conf.replace("hls_window 10;", "hls_window 120;").replace(
                "mode            remote;",
                "mode            remote;\n    queue_length    120;",
            )
        })
        .browsers()
        .metrics()
        .start()?;
    let outcome = soak(&cluster, arguments.minutes, Rng::with_seed(seed));
    if outcome.is_err() {
        println!("{}", cluster.logs());
    }
    outcome.with_context(|| format!("--seed {seed}"))
}

fn soak(cluster: &Cluster, minutes: f64, mut rng: Rng) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs_f64(minutes * 60.0);
    let mut encoders = Encoders::start(cluster)?;
    let mut watchers = Watchers::start(cluster)?;
    let mut resources = Resources::of(cluster)?;
    let mut faults = Vec::new();
    let mut number = 0;
    // The edge was upgraded since its players of HLS came.
    let mut upgraded = false;
    while Instant::now() < deadline && faults.is_empty() {
        number += 1;
        let round = make_round(cluster, &mut encoders, &mut rng, number)?;
        let events: Vec<String> = round.events.iter().map(Event::to_string).collect();
        println!("round {number}: {}", events.join(", "));
        faults.extend(round.faults);
        faults.extend(watchers.ended());
        resources.sample()?;
        let is_upgraded = |event: &Event| event.upgraded_edge() == Some(WATCHED_EDGE);
        upgraded = round.events.iter().any(is_upgraded);
        if upgraded && Instant::now() < deadline {
            faults.extend(watchers.renew_hls(cluster)?);
            upgraded = false;
        }
    }
    faults.extend(watchers.end(upgraded)?);
    faults.extend(encoders.end()?);
    println!("{}", resources.table());
    if number >= MIN_ROUNDS {
        faults.extend(resources.growth());
    }
    ensure!(
        faults.is_empty(),
        "what did not hold:\n  {}",
        faults.join("\n  ")
    );
    println!("{number} rounds; everything held");
    Ok(())
}

/// What a round has brought.
struct Round {
    events: Vec<Event>,
    faults: Vec<String>,
}

/// A party of publishers and players comes, things happen, and the party goes.
fn make_round(
    cluster: &Cluster,
    encoders: &mut Encoders,
    rng: &mut Rng,
    number: u32,
) -> anyhow::Result<Round> {
    // Where an edge is killed, its players lose their connections, and come back.
    let has_kill = number.is_multiple_of(3);
    let mut parties = Vec::new();
    for (index, client) in cluster.clients().iter().enumerate().skip(1) {
        let protocol = Protocol::ALL[rng.usize(..Protocol::ALL.len())];
        let stream = format!("party-{number}-{index}");
        let publisher = encoders::publish(cluster, client.host(), &stream, "party")?;
        let url = protocol.url(testbed::VIP, &stream);
        let players = rng.u32(GUESTS);
        let seconds = rng.u32(STAY_SECONDS);
        parties.push(Load::party(
            client.host(),
            publisher,
            (protocol, &url),
            (players, seconds),
            has_kill,
        )?);
    }
    let mut events = Vec::new();
    for _ in 0..EVENTS {
        thread::sleep(Duration::from_secs_f64(
            PAUSE_SECONDS.start + rng.f64() * (PAUSE_SECONDS.end - PAUSE_SECONDS.start),
        ));
        let event = Event::choose(rng, has_kill);
        event
            .happen(cluster, encoders)
            .with_context(|| format!("round {number}: {event}"))?;
        events.push(event);
    }
    let has_upgrade = events.iter().any(|event| event.upgraded_edge().is_some());
    let mut faults = Vec::new();
    for party in parties {
        faults.extend(party.wait(has_upgrade)?);
    }
    Ok(Round { events, faults })
}
