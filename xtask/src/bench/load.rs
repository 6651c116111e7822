//! How full edges of several speeds become before the first viewer is refused, whether
//! anybody stalls by then, and how soon directors react to an edge that fills from elsewhere.
//!
//! Three edges in network namespaces, whose interfaces are shaped (tc-tbf(8)) to speeds as
//! 1 : 2 : 4; two directors that ask for their load; `rtmp-load` as publisher and viewers.
//! Beside what is measured stands what `cargo xtask plan` computes for the same numbers.

mod planned;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use netbed::{Host, INTERFACE, Process, wait_for};
use serde_json::{Value, json};
use testbed::{Cluster, Director, HTTP_API_PORT, RealServer, Server, program};

use super::goal::{self, Goal};
use super::setup::write_json;

/// Speed of the first edge, Mbit/s; the others have twice and four times as much.
const SPEED: u64 = 10;
/// That of all.
const CAPACITY: u64 = 7 * SPEED * 1_000_000;
/// Part of the capacity that viewers may take, in percent. Bursts of keyframes and what TCP
/// sends again have the rest.
const LIMIT_PERCENT: u32 = 98;
/// Rate at which a player is sent at most, kbit/s: more than twice a stream's of 200 kbit/s. All
/// players of a stream are sent what has come in `mw_latency` at the same time; with a keyframe
/// that is nearly half of each second's data, more than the shaper's queue holds.
const PACING_KBIT: u64 = 500;
/// Time that the shaper's queue holds, in ms.
const QUEUE_MS: u32 = 400;
/// Interval at which directors and edges are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Seconds that viewers are watched for after the first was refused.
const AFTER_SECONDS: u64 = 15;
/// Goals: the part of the capacity that is used at the first refusal, and the time in which
/// weights react.
const MIN_FILL: f64 = 0.95;
const MAX_REACTION_S: f64 = 2.0;

/// What to measure.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// Bits of video per second.
    #[arg(long, default_value_t = 200_000)]
    bitrate: u64,

    /// Viewers that come per second.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    start_rate: u32,

    /// Send to players as fast as the interface takes it (no `max_pacing_rate`).
    #[arg(long)]
    unpaced: bool,

    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE", default_value = "target/bench/load.json")]
    json: PathBuf,
}

/// What one look at the cluster shows.
struct Look {
    at: Instant,
    /// Bits per second that each edge says that it sends and will send.
    used: Vec<u64>,
    /// Weights of the edges, by director.
    weights: [Vec<u32>; 2],
    /// Viewers refused for want of capacity.
    refused: u64,
    /// Viewers of each edge.
    viewers: Vec<u64>,
    /// Packets that the director has sent to edges.
    packets: u64,
    /// Bytes that the origin has sent.
    origin_bytes: u64,
}

/// What filling the edges has shown.
struct Filled {
    /// At the first refusal: the part of all capacity that is used.
    part: f64,
    /// Viewers that stalled.
    stalled: f64,
    refused: u64,
    /// The most that weights of the two directors differ by when all is full, of 1,000.
    agreement: u32,
    /// Packets that the shapers have dropped.
    dropped: u64,
    /// Looks at the first refusal, and [`AFTER_SECONDS`] later.
    looks: [Look; 2],
}

/// Measures, prints the goals, and writes the JSON file. The programs are those beside this
/// one, or of `MILLRACE_BIN_DIR`.
///
/// # Errors
/// If something did not start, or viewers were lost.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let filled = fill(options)?;
    let reaction = react(options)?;
    println!(
        "weights of both directors differ by {} of 1000 at most when all is full",
        filled.agreement
    );
    println!("{} viewers were refused", filled.refused);
    println!("{} packets did not fit the shapers' queues", filled.dropped);
    let goals = [
        Goal::at_least(
            "part of all capacity used at the first refusal",
            filled.part,
            MIN_FILL,
        ),
        Goal::at_most("viewers that stalled", filled.stalled, 0.0),
        Goal::at_most(
            "seconds until weights react to a load",
            reaction,
            MAX_REACTION_S,
        ),
    ];
    println!("{}", goal::table(&goals));
    let mut planned = planned::while_full(options, &filled.looks);
    planned.extend(planned::death(options)?);
    println!("{}", planned::table(&planned));
    let goals: Vec<_> = goals.iter().map(Goal::to_json).collect();
    let document = json!({
        "speed_mbit": SPEED,
        "bitrate": options.bitrate,
        "start_rate": options.start_rate,
        "refused": filled.refused,
        "weights_differ_by": filled.agreement,
        "max_pacing_kbit": (!options.unpaced).then_some(PACING_KBIT),
        "packets_dropped": filled.dropped,
        "goals": goals,
        "planned": planned.iter().map(planned::Compared::to_json).collect::<Vec<_>>(),
    });
    write_json(&options.json, &document)
}

fn edge_conf(number: u8, conf: String) -> String {
    let speed = SPEED << number;
    format!("admission {{ capacity {speed}m; limit {LIMIT_PERCENT}%; reserve 250k; }}\n{conf}")
}

fn paced_edge_conf(number: u8, conf: String) -> String {
    let vhost = "vhost __defaultVhost__ {";
    let paced = format!("{vhost}\n    max_pacing_rate {PACING_KBIT};");
    edge_conf(number, conf.replace(vhost, &paced))
}

/// The cluster, with a publisher.
fn cluster(options: &Options) -> anyhow::Result<Cluster> {
    let cluster = Cluster::builder()
        .edges(3)
        .clients(2)
        .standby()
        .metrics()
        .edge_conf(if options.unpaced {
            edge_conf
        } else {
            paced_edge_conf
        })
        .director_conf(|conf| {
            let check = "LOAD_CHECK {\n            delay_loop 0.5\n        }\n        TCP_CHECK {";
            conf.replace("TCP_CHECK {", check)
                .replace("    persistence_timeout 50\n", "")
        })
        .start()?;
    for (edge, number) in cluster.edges().iter().zip(0..) {
        let speed = SPEED << number;
        edge.host().sh(&format!(
            "tc qdisc add dev {INTERFACE} root tbf rate {speed}mbit burst 64kb latency {QUEUE_MS}ms"
        ))?;
    }
    publish(&cluster, options)?;
    wait_for("both directors to share by the capacities", || {
        let expected = [143, 286, 571];
        let directors = [cluster.director(), cluster.standby()];
        let weights = directors.map(weights);
        Ok(weights
            .into_iter()
            .all(|it| it.is_ok_and(|it| it == expected)))
    })?;
    Ok(cluster)
}

fn publish(cluster: &Cluster, options: &Options) -> anyhow::Result<Process> {
    let publish = ["-n", "0", "--publish", "generated", "--audio-bitrate", "0"];
    let bitrate = options.bitrate.to_string();
    let publish = [&publish[..], &["--gop-seconds", "1", "--bitrate", &bitrate]].concat();
    start(
        cluster.encoder(),
        "publisher",
        &publish,
        &cluster.publishing_url(),
    )
}

fn start(host: &Host, name: &str, arguments: &[&str], url: &str) -> anyhow::Result<Process> {
    let mut command = Command::new(program("rtmp-load")?);
    command.args(arguments).args(["-t", "0", "--json"]).arg(url);
    host.spawn(name, command)
}

/// The weights of the edges; nothing for those that have none by their load.
fn weights(director: &Director) -> anyhow::Result<Vec<u32>> {
    let servers = servers(director)?.into_iter();
    Ok(servers.filter_map(|it| it.load?.weight).collect())
}

fn servers(director: &Director) -> anyhow::Result<Vec<RealServer>> {
    let service = director.list()?.services.into_iter().next();
    Ok(service.context("a service")?.servers)
}

fn look(cluster: &Cluster) -> anyhow::Result<Look> {
    let servers = servers(cluster.director())?;
    let used = servers.iter().filter_map(|it| Some(it.load.as_ref()?.used));
    let refused = cluster.edges().iter().map(refused);
    let viewers = cluster.edges().iter().map(|edge| viewers(cluster, edge));
    Ok(Look {
        at: Instant::now(),
        used: used.collect(),
        weights: [weights(cluster.director())?, weights(cluster.standby())?],
        refused: refused.sum::<anyhow::Result<u64>>()?,
        viewers: viewers.collect::<anyhow::Result<_>>()?,
        packets: servers.iter().map(|it| it.counters.packets).sum(),
        origin_bytes: cluster.origin().host().counters()?.tx_bytes,
    })
}

/// Viewers of the first client that an edge serves.
fn viewers(cluster: &Cluster, edge: &Server) -> anyhow::Result<u64> {
    let client = IpAddr::from(cluster.client(0).address());
    let peers = edge.peers()?.into_iter();
    Ok(peers.filter(|peer| peer.ip() == client).count() as u64)
}

/// Viewers that an edge has refused for want of capacity.
fn refused(edge: &Server) -> anyhow::Result<u64> {
    let url = format!("http://{}:{HTTP_API_PORT}/metrics", edge.address());
    let metrics = edge.host().sh(&format!("curl -sS {url}"))?;
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("millrace_refusals_total{reason=\"capacity\"} "));
    let count = line.with_context(|| format!("no count of refusals in {metrics}"))?;
    Ok(count.parse()?)
}

/// Packets that the shaper of an edge has dropped.
fn dropped(edge: &Server) -> anyhow::Result<u64> {
    let shown = edge
        .host()
        .sh(&format!("tc -s qdisc show dev {INTERFACE} root"))?;
    let (_, dropped) = shown
        .split_once("dropped ")
        .with_context(|| format!("no count of drops in {shown}"))?;
    let digits: String = dropped.chars().take_while(char::is_ascii_digit).collect();
    Ok(digits.parse()?)
}

/// Viewers come until they are refused.
fn fill(options: &Options) -> anyhow::Result<Filled> {
    let cluster = cluster(options)?;
    let viewers = (CAPACITY / options.bitrate).to_string();
    let rate = options.start_rate.to_string();
    let players = [
        "-n",
        &viewers,
        "--start-rate",
        &rate,
        "--timeout",
        "600",
        "--quiet",
    ];
    let client = cluster.client(0).host();
    let players = start(client, "players", &players, &cluster.viewing_url())?;
    let (mut filled, mut agreement): (Option<(f64, Look)>, _) = (None, 0);
    loop {
        ensure!(
            players.is_running(),
            "viewers have ended: {}",
            players.log()
        );
        let seen = look(&cluster)?;
        let used: u64 = seen.used.iter().sum();
        let part = used as f64 / CAPACITY as f64;
        match &filled {
            None if seen.refused > 0 => {
                println!(
                    "the first is refused at {:.1} % of all capacity; edges have {:?} bit/s, \
                     weights are {:?}",
                    part * 100.0,
                    seen.used,
                    seen.weights
                );
                filled = Some((part, seen));
            }
            Some((_, first)) if first.at.elapsed() > Duration::from_secs(AFTER_SECONDS) => {
                let [one, other] = &seen.weights;
                let differences = one
                    .iter()
                    .zip(other)
                    .map(|(one, other)| one.abs_diff(*other));
                agreement = agreement.max(differences.max().unwrap_or(u32::MAX));
                players.signal(nix::sys::signal::Signal::SIGINT)?;
                players.wait()?;
                let log = players.log();
                let report = &log[log.find('{').context("a report")?..];
                let report: Value = serde_json::from_str(report).context("a report in JSON")?;
                let stalled = report["stalls"]["players"].as_f64().context("stalls")?;
                let (part, first) = filled.context("a first refusal")?;
                println!("{}", report["stalls"]);
                let dropped = cluster.edges().iter().map(dropped);
                let dropped = dropped.sum::<anyhow::Result<u64>>()?;
                return Ok(Filled {
                    part,
                    stalled,
                    refused: seen.refused,
                    agreement,
                    dropped,
                    looks: [first, seen],
                });
            }
            _ => {}
        }
        thread::sleep(LOOK);
    }
}

/// Viewers come to the last edge by its own address. The seconds until its weight falls.
fn react(options: &Options) -> anyhow::Result<f64> {
    let cluster = cluster(options)?;
    let edge = cluster.edge(2);
    let viewers = SPEED * 4 * 1_000_000 / 2 / options.bitrate;
    let players = [
        "-n",
        &viewers.to_string(),
        "--start-rate",
        "1000",
        "--quiet",
    ];
    let url = format!("rtmp://{}/live/livestream", edge.address());
    let begun = Instant::now();
    let players = start(cluster.client(1).host(), "direct", &players, &url)?;
    wait_for("the weight of an edge that fills to fall", || {
        ensure!(
            players.is_running(),
            "viewers have ended: {}",
            players.log()
        );
        let weights = weights(cluster.director())?;
        Ok(weights.get(2).is_some_and(|weight| *weight < 551))
    })?;
    Ok(begun.elapsed().as_secs_f64())
}
