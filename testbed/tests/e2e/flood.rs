//! A SYN flood, and people who watch meanwhile.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use netbed::wait_for;
use testbed::{Balancer, Cluster, Flood, Frames, GENERATED_FPS, RTMP_PORT, Source, VIP};

use crate::on;

const ATTACKER: &str = "attacker";

/// Connections with one packet seen that the director remembers, by default.
const HALF_OPEN: u64 = 1 << 16;

#[test]
#[ignore = "needs root"]
fn a_flood_of_syns_costs_viewers_nothing() {
    let attacker = Ipv4Addr::new(172, 16, 1, 66);
    on(
        Cluster::builder().clients(3).host(ATTACKER, attacker),
        |cluster| {
            cluster.push(&Source::Generated)?;
            let url = cluster.viewing_url();
            let mut viewers = Vec::new();
            for client in &cluster.clients()[..2] {
                let viewer = client.pull(&url)?;
                viewer.wait_for_more(1)?;
                viewers.push(viewer);
            }
            let edges = |cluster: &Cluster| -> Result<Vec<_>> {
                let clients = cluster.clients()[..2].iter();
                clients.map(|client| cluster.edge_serving(client)).collect()
            };
            let served_by = edges(cluster)?;

            let target = SocketAddrV4::new(VIP, RTMP_PORT);
            let flood = Flood::start(cluster.host(ATTACKER), target)?;
            wait_for("enough SYNs to fill the table twice", || {
                Ok(flood.sent() > 2 * HALF_OPEN)
            })?;
            for viewer in &viewers {
                viewer.wait_for_more(25)?;
            }
            // In the midst of it.
            let newcomer = cluster.client(2).pull(&url)?;
            newcomer.wait_for_more(25)?;
            let balancer = cluster.director().list()?;
            let sent = flood.stop()?;

            let service = &balancer.services[0];
            ensure!(
                service.counters.connections > 2 * HALF_OPEN,
                "of {sent} SYNs {} were scheduled",
                service.counters.connections
            );
            // An LRU table evicts before its very last place is taken.
            let half_open = total(&balancer, |server| server.inactive_connections);
            ensure!(
                half_open > HALF_OPEN / 2 && half_open <= HALF_OPEN,
                "{half_open} half-open connections are no full table"
            );
            let active = |balancer: &Balancer| total(balancer, |server| server.active_connections);
            assert_eq!(active(&balancer), 3, "the viewers' connections, no others");

            viewers.push(newcomer);
            for viewer in &viewers {
                let frames = viewer.wait_for_more(25)?;
                frames.ensure_rising()?;
                ensure_whole(&frames)?;
            }
            assert_eq!(edges(cluster)?, served_by, "everybody is where they were");
            assert_eq!(active(&cluster.director().list()?), 3);
            Ok(())
        },
    );
}

fn total(balancer: &Balancer, of: impl Fn(&testbed::RealServer) -> u64) -> u64 {
    balancer.services[0].servers.iter().map(of).sum()
}

/// That no picture is missing: a server that falls behind leaves some out.
fn ensure_whole(frames: &Frames) -> Result<()> {
    // Timestamps are whole milliseconds.
    let longest = i64::from(1000 / GENERATED_FPS) + 1;
    for pair in frames.video.windows(2) {
        ensure!(
            pair[1] - pair[0] <= longest,
            "no picture between {} ms and {} ms",
            pair[0],
            pair[1]
        );
    }
    Ok(())
}
