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

/// Edges.
const EDGES: u8 = 3;
/// The edge that is never killed, whose players watch all along.
const WATCHED_EDGE: usize = 0;
/// Time between the events of a round.
const PAUSE_SECONDS: std::ops::Range<f64> = 1.0..4.0;
/// Events of a round.
const EVENTS: usize = 5;
/// Players that watch all along, of each protocol and stream.
const WATCHERS: u32 = 2;
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
        .director_conf(|conf| {
            // The other director cannot know who was sent where, neither by `rr` nor by the
            // templates of persistence, which outlive the absence of an edge.
            conf.replace("lb_algo rr", "lb_algo mh")
                .replace("    persistence_timeout 50\n", "")
        })
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
    let watchers = watch(cluster)?;
    let mut resources = Resources::of(cluster)?;
    let mut faults = Vec::new();
    let (mut number, mut guests) = (0, 0);
    while Instant::now() < deadline && faults.is_empty() {
        number += 1;
        let round = make_round(cluster, &mut encoders, &mut rng, number)?;
        println!("round {number}: {}", round.events.join(", "));
        faults.extend(round.faults);
        guests += round.guests;
        faults.extend(watchers.iter().filter_map(Load::has_ended));
        resources.sample()?;
    }
    for watcher in watchers {
        faults.extend(watcher.end()?.faults);
    }
    faults.extend(encoders.end()?);
    println!("{}", resources.table());
    match number >= MIN_ROUNDS {
        true => faults.extend(resources.growth()),
        false => println!("too few rounds to compare resources"),
    }
    // Of a guest nothing is expected, since it may leave before it has begun to play.
    if guests == 0 {
        faults.push("no guest has seen a picture".to_owned());
    }
    ensure!(
        faults.is_empty(),
        "what did not hold:\n  {}",
        faults.join("\n  ")
    );
    println!("{number} rounds, {guests} guests; everything held");
    Ok(())
}

/// Players of each protocol at the edge that lives, and of RTMP at the origin.
fn watch(cluster: &Cluster) -> anyhow::Result<Vec<Load>> {
    let edge = cluster.edge(WATCHED_EDGE).address();
    let host = cluster.client(0).host();
    let mut watchers = Vec::new();
    for stream in encoders::STREAMS {
        for protocol in Protocol::ALL {
            let url = protocol.url(edge, stream.name);
            watchers.push(Load::watch(
                host,
                protocol,
                &url,
                WATCHERS,
                stream.is_constant,
            )?);
        }
    }
    let constant = &encoders::STREAMS[0];
    let url = Protocol::Rtmp.url(cluster.origin().address(), constant.name);
    watchers.push(Load::watch(host, Protocol::Rtmp, &url, WATCHERS, true)?);
    Ok(watchers)
}

/// What a round has brought.
struct Round {
    events: Vec<String>,
    faults: Vec<String>,
    /// Players of its party that had a picture.
    guests: u64,
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
        events.push(event.to_string());
    }
    let (mut faults, mut guests) = (Vec::new(), 0);
    for party in parties {
        let outcome = party.wait()?;
        faults.extend(outcome.faults);
        guests += outcome.playing;
    }
    Ok(Round {
        events,
        faults,
        guests,
    })
}
