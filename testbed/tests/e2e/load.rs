//! Edges of different capacities: shares that follow their load, and an end to it.

use std::process::Command;

use anyhow::{Result, ensure};
use netbed::{Process, wait_for};
use testbed::{Cluster, program};

use crate::on;

/// Bits of video per second of a viewer, as a publisher's option and as a number; a bit more
/// on the wire.
const BITRATE: &str = "200k";
const VIEWER_BITS: u64 = 240_000;
/// More viewers than there is room for at the three edges together.
const VIEWERS: u32 = 90;

/// Three edges of 2, 4 and 8 Mbit/s behind two directors that ask for their load.
fn edges_of_three_sizes() -> testbed::Builder {
    Cluster::builder()
        .edges(3)
        .clients(1)
        .standby()
        .metrics()
        .edge_conf(|number, conf| {
            let capacity = 2 << number;
            format!("admission {{ capacity {capacity}m; reserve 250k; }}\n{conf}")
        })
        .director_conf(|conf| {
            let check = "LOAD_CHECK {\n            delay_loop 0.5\n        }\n        TCP_CHECK {";
            conf.replace("TCP_CHECK {", check)
                .replace("    persistence_timeout 50\n", "")
        })
}

/// The weights that each director gives the edges; `None` where one gives none.
fn weights(cluster: &Cluster) -> Result<[Option<Vec<u32>>; 2]> {
    let of = |director: &testbed::Director| {
        let listed = director.list()?;
        let servers = listed.services[0].servers.iter();
        let weights = servers.map(|server| server.load.as_ref()?.weight);
        anyhow::Ok(weights.collect::<Option<Vec<u32>>>())
    };
    Ok([of(cluster.director())?, of(cluster.standby())?])
}

fn start(host: &netbed::Host, name: &str, arguments: &[&str], url: &str) -> Result<Process> {
    let mut command = Command::new(program("rtmp-load")?);
    command.args(arguments).args(["-t", "0", "--json"]).arg(url);
    host.spawn(name, command)
}

#[test]
#[ignore = "needs root"]
fn edges_are_filled_by_their_capacity_and_one_viewer_too_many_is_refused() {
    on(edges_of_three_sizes(), |cluster| {
        wait_for("both directors to share by the capacities", || {
            let expected = Some(vec![143, 286, 571]);
            Ok(weights(cluster)? == [expected.clone(), expected])
        })?;
        let publish = ["-n", "0", "--publish", "generated", "--audio-bitrate", "0"];
        let publish = [&publish[..], &["--bitrate", BITRATE]].concat();
        start(
            cluster.encoder(),
            "publisher",
            &publish,
            &cluster.publishing_url(),
        )?;
        let players = [
            "-n",
            &VIEWERS.to_string(),
            "--start-rate",
            "10",
            "--timeout",
            "600",
        ];
        let client = cluster.client(0).host();
        let players = start(client, "players", &players, &cluster.viewing_url())?;

        wait_for("every edge to have no room for one more", || {
            ensure!(players.is_running(), "they have ended: {}", players.log());
            let listed = cluster.director().list()?;
            let mut servers = listed.services[0].servers.iter();
            Ok(servers.all(|server| {
                let load = server.load.as_ref();
                load.is_some_and(|load| {
                    let limit = load.limit.unwrap_or(u64::MAX);
                    load.used + VIEWER_BITS > limit && load.used <= limit + VIEWER_BITS
                })
            }))
        })?;
        // Each has the viewers that its capacity is for, and none gave way to another.
        let mut present = Vec::new();
        for edge in cluster.edges() {
            let peers = edge.peers()?.into_iter();
            let viewers = peers.filter(|peer| peer.ip() == cluster.client(0).address());
            present.push(viewers.count() as u64);
        }
        for (number, viewers) in present.iter().enumerate() {
            let room = (2_000_000 << number) * 95 / 100;
            ensure!(
                viewers * 200_000 <= room,
                "edge {number} has {viewers} viewers: {present:?}"
            );
            ensure!(
                (viewers + 1) * VIEWER_BITS > room,
                "edge {number} has room beside {viewers}: {present:?}"
            );
        }
        ensure!(present.iter().sum::<u64>() < VIEWERS.into(), "{present:?}");
        Ok(())
    });
}
