//! What `cargo xtask plan` computes, beside what the test bed shows for the same numbers.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use comfy_table::Table;
use netbed::wait_for;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{Cluster, Server};

use super::{LIMIT_PERCENT, Look, Options, SPEED, publish, servers, start};
use crate::plan::model::Demand;

/// Viewers of a cluster that loses one of three edges.
const VIEWERS: u64 = 90;
/// Time for the pictures of players that have come back.
const PICTURES: Duration = Duration::from_secs(3);

/// A figure, computed and measured.
pub(super) struct Compared {
    what: String,
    planned: f64,
    measured: f64,
}

impl Compared {
    pub(super) fn to_json(&self) -> Value {
        json!({ "what": self.what, "planned": self.planned, "measured": self.measured })
    }
}

/// Figures, and what is measured as a part of what is planned.
pub(super) fn table(all: &[Compared]) -> Table {
    let mut table =
        crate::plan::new_table(["by `cargo xtask plan`", "planned", "measured", "ratio"]);
    for Compared {
        what,
        planned,
        measured,
    } in all
    {
        let ratio = format!("{:.2}", measured / planned);
        let [planned, measured] = [planned, measured].map(|it| format!("{it:.2}"));
        table.add_row([what.clone(), planned, measured, ratio]);
    }
    crate::plan::align(table)
}

fn demand(options: &Options, viewers: u64, link: u64) -> Demand {
    Demand {
        viewers,
        bit_rate: options.bitrate as f64,
        streams: 1,
        link: link as f64,
        cores: 1,
        load: f64::from(LIMIT_PERCENT) / 100.0,
        min_latency: false,
        detection: 0.0,
    }
}

/// Viewers of each edge when the first one is refused, and what origin and director carry
/// from then on, when nobody comes who is let in.
pub(super) fn while_full(options: &Options, [first, last]: &[Look; 2]) -> Vec<Compared> {
    let edges = first.viewers.iter().zip(0..).map(|(viewers, number)| {
        let speed = SPEED << number;
        Compared {
            what: format!("viewers of an edge of {speed} Mbit/s when the first is refused"),
            planned: demand(options, 1, speed * 1_000_000).edge_capacity().0 as f64,
            measured: *viewers as f64,
        }
    });
    let seconds = (last.at - first.at).as_secs_f64();
    let viewers: u64 = last.viewers.iter().sum();
    let demand = demand(options, 1, SPEED * 1_000_000);
    let bits = (last.origin_bytes - first.origin_bytes) as f64 * 8.0;
    let packets = (last.packets - first.packets) as f64;
    let further = [
        Compared {
            what: "kbit/s from the origin to each edge".to_owned(),
            planned: demand.wire_rate() / 1e3,
            measured: bits / seconds / first.viewers.len() as f64 / 1e3,
        },
        Compared {
            what: "packets/s at the director of each viewer".to_owned(),
            planned: demand.acks_per_viewer(),
            measured: packets / seconds / viewers as f64,
        },
    ];
    edges.chain(further).collect()
}

/// One of three equal edges loses its cable: the viewers it had, and the seconds until all play
/// again.
///
/// # Errors
/// Something did not start, or viewers did not come back.
pub(super) fn death(options: &Options) -> anyhow::Result<[Compared; 2]> {
    let cluster = Cluster::builder()
        .edges(3)
        .clients(1)
        .director_conf(|conf| conf.replace("    persistence_timeout 50\n", ""))
        .start()?;
    publish(&cluster, options)?;
    let count = VIEWERS.to_string();
    let arguments = [
        "-n",
        &count,
        "--start-rate",
        "30",
        "--reconnect",
        "--timeout",
        "600",
    ];
    let client = cluster.client(0).host();
    let players = start(client, "players", &arguments, &cluster.viewing_url())?;
    let viewers = |edge: &Server| super::viewers(&cluster, edge);
    let wait_for_viewers = |edges: &[Server], sentence: &str| {
        wait_for(sentence, || {
            ensure!(
                players.is_running(),
                "viewers have ended: {}",
                players.log()
            );
            let each = edges.iter().map(viewers);
            Ok(each.sum::<anyhow::Result<u64>>()? == VIEWERS)
        })
    };
    wait_for_viewers(cluster.edges(), "all viewers to be served")?;
    thread::sleep(PICTURES);
    let [rest @ .., lost] = cluster.edges() else {
        anyhow::bail!("no edges");
    };
    let had = viewers(lost)?;
    let begun = SystemTime::now();
    lost.host().cut_off()?;
    wait_for("the director to notice", || {
        let servers = servers(cluster.director())?;
        Ok(servers.iter().filter(|it| it.is_up()).count() == rest.len())
    })?;
    let detection = begun.elapsed()?.as_secs_f64();
    wait_for_viewers(rest, "all viewers to be served by the others")?;
    thread::sleep(PICTURES);
    players.signal(Signal::SIGINT)?;
    players.wait()?;
    let log = players.log();
    let report: Value = serde_json::from_str(&log[log.find('{').context("a report")?..])?;
    let connections = &report["connections"];
    let unresolved = connections["unresolved_outages"].as_u64();
    ensure!(
        unresolved == Some(0),
        "viewers have no pictures: {connections}"
    );
    let resumed_ms = connections["last_resumed_unix_ms"].as_u64();
    let resumed = Duration::from_millis(resumed_ms.context("nobody has come back")?);
    let measured = resumed.saturating_sub(begun.duration_since(UNIX_EPOCH)?);

    // Links of which 0.98 carries half of the viewers: two edges, and one to spare.
    let demand = Demand {
        detection,
        ..demand(options, VIEWERS, 0)
    };
    let link = demand.wire_rate() * (VIEWERS as f64 / 2.0 + 0.5) / demand.load;
    let demand = Demand { link, ..demand };
    let plan = demand.plan()?;
    let death = plan.deaths(&demand).into_iter().next().context("a death")?;
    println!("the director noticed the death of an edge after {detection:.2} s");
    Ok([
        Compared {
            what: "viewers of one of three edges, which are lost when it dies".to_owned(),
            planned: death.viewers,
            measured: had as f64,
        },
        Compared {
            what: "seconds until they play again, of which the detection is measured".to_owned(),
            planned: death.seconds.context("a time")?,
            measured: measured.as_secs_f64(),
        },
    ])
}
