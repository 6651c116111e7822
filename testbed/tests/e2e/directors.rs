//! Two directors: what viewers notice when one takes over from the other.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use netbed::{Host, INTERFACE, wait_for};
use testbed::{Builder, Client, Cluster, Source, VIP, Viewer};

use crate::on;

/// Edges, so that a guess at a viewer's edge would mostly be wrong.
const EDGES: u8 = 4;
const VIEWERS: u8 = 6;

/// Two of our directors with the deployment's file, but for what makes a change
/// of director pass unnoticed.
fn two_directors() -> Builder {
    Cluster::builder()
        .edges(EDGES)
        .clients(VIEWERS)
        .standby()
        .director_conf(|conf| {
            conf.replace("lb_algo rr", "lb_algo mh")
                .replace("priority 100", "priority 100\n    track_quorum -50")
        })
}

/// How a director can be cut off from the network.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// Somebody takes its interface down.
    Interface,
    /// The switch's end of its cable goes down: it loses the carrier.
    Carrier,
    /// The switch no longer passes its frames on: it sees nothing amiss.
    Silent,
    /// The switch passes none on between it and the edges: the viewers and the
    /// other director are there as before.
    FromEdges,
}

impl Cut {
    fn make(self, cluster: &Cluster, host: &Host) -> Result<()> {
        self.set(cluster, host, ["down", "down", "nomaster", "on"])
    }

    fn mend(self, cluster: &Cluster, host: &Host) -> Result<()> {
        self.set(cluster, host, ["up", "up", "master inside", "off"])
    }

    fn set(self, cluster: &Cluster, host: &Host, states: [&str; 4]) -> Result<()> {
        let [interface, carrier, silent, isolated] = states;
        let port = host.name();
        let output = match self {
            Self::Interface => host.sh(&format!("ip link set {INTERFACE} {interface}")),
            Self::Carrier => cluster
                .switch()
                .sh(&format!("ip link set {port} {carrier}")),
            Self::Silent => cluster.switch().sh(&format!("ip link set {port} {silent}")),
            // Isolated ports reach those alone that are not (bridge(8)).
            Self::FromEdges => {
                let edges = cluster.edges().iter().map(|edge| edge.host().name());
                let isolate = |port| format!("bridge link set dev {port} isolated {isolated}");
                return edges
                    .chain([port])
                    .try_for_each(|port| cluster.switch().sh(&isolate(port)).map(drop));
            }
        };
        output.map(drop)
    }
}

/// The viewers' TCP connections as the edges' kernels see them: on which edge,
/// from which address and port.
fn connections(cluster: &Cluster) -> Result<BTreeSet<(usize, SocketAddr)>> {
    let mut connections = BTreeSet::new();
    for (index, edge) in cluster.edges().iter().enumerate() {
        let peers = edge.peers()?.into_iter();
        let of_viewers = peers.filter(|peer| {
            let is_client = |client: &Client| peer.ip() == client.address();
            cluster.clients().iter().any(is_client)
        });
        connections.extend(of_viewers.map(|peer| (index, peer)));
    }
    Ok(connections)
}

/// One viewer per client, each with pictures before its eyes.
fn audience(cluster: &Cluster) -> Result<Vec<Viewer>> {
    cluster.push(&Source::Generated)?;
    let viewers = cluster
        .clients()
        .iter()
        .map(|client| client.pull(&cluster.viewing_url()))
        .collect::<Result<Vec<_>>>()?;
    for viewer in &viewers {
        viewer.wait_for_more(25)?;
    }
    Ok(viewers)
}

/// Waits until the network finds the VIP at a director.
fn wait_for_holder(cluster: &Cluster, host: &Host) -> Result<()> {
    let [a, b, c, d] = host.address().octets();
    // As the testbed gives them out.
    let mac = format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    wait_for(format_args!("{VIP} to be found on {}", host.name()), || {
        for client in cluster.clients() {
            let entry = client.host().sh(&format!("ip neigh show {VIP}"))?;
            if !entry.contains(&mac) {
                return Ok(false);
            }
        }
        host.has_address(VIP)
    })
}

/// Lets one director take over, and holds the viewers to it that each goes on
/// to watch, by the very connection that it had.
fn nobody_reconnects(
    cluster: &Cluster,
    viewers: &[Viewer],
    successor: &Host,
    change: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let before = connections(cluster)?;
    assert_eq!(
        before.len(),
        viewers.len(),
        "one connection each: {before:?}"
    );
    change()?;
    wait_for_holder(cluster, successor)?;
    for viewer in viewers {
        viewer.wait_for_more(50)?.ensure_rising()?;
    }
    assert_eq!(connections(cluster)?, before, "the same connections");
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn viewers_keep_their_connections_when_a_director_is_stopped_and_when_it_returns() {
    on(two_directors(), |cluster| {
        let viewers = audience(cluster)?;
        let (first, second) = (cluster.director(), cluster.standby());
        nobody_reconnects(cluster, &viewers, second.host(), || first.stop())?;
        let taken_over = second.list()?.services[0].counters.connections;
        assert_eq!(
            taken_over,
            u64::from(VIEWERS),
            "all of them, in their middle"
        );
        nobody_reconnects(cluster, &viewers, first.host(), || first.start())
    });
}

#[test]
#[ignore = "needs root"]
fn viewers_keep_their_connections_when_a_director_is_cut_off_and_when_it_is_back() {
    on(two_directors(), |cluster| {
        let viewers = audience(cluster)?;
        let (first, second) = (cluster.director().host(), cluster.standby().host());
        for cut in [Cut::Interface, Cut::Carrier, Cut::Silent] {
            println!("{cut:?}");
            nobody_reconnects(cluster, &viewers, second, || cut.make(cluster, first))?;
            nobody_reconnects(cluster, &viewers, first, || cut.mend(cluster, first))?;
        }
        Ok(())
    });
}

/// All its servers are gone, as it sees them. It must not tell their viewers so.
#[test]
#[ignore = "needs root"]
fn viewers_keep_their_connections_when_a_director_is_cut_off_from_the_edges_alone() {
    on(two_directors(), |cluster| {
        let viewers = audience(cluster)?;
        let (first, second) = (cluster.director().host(), cluster.standby().host());
        let cut = Cut::FromEdges;
        nobody_reconnects(cluster, &viewers, second, || cut.make(cluster, first))?;
        for edge in cluster.edges() {
            cluster.director().wait_for_server(edge.address(), false)?;
        }
        nobody_reconnects(cluster, &viewers, first, || cut.mend(cluster, first))
    });
}

#[test]
#[ignore = "needs root"]
fn viewers_keep_their_connections_when_a_directors_machine_dies() {
    on(two_directors(), |cluster| {
        let viewers = audience(cluster)?;
        let (first, second) = (cluster.director(), cluster.standby());
        nobody_reconnects(cluster, &viewers, second.host(), || {
            Cut::Carrier.make(cluster, first.host())?;
            first.kill()
        })
    });
}

/// With `rr` the second director cannot know who was sent where. A viewer must
/// learn that at once, rather than wait for its own time-out.
#[test]
#[ignore = "needs root"]
fn with_the_deployments_scheduler_viewers_are_reset_and_served_when_they_return() {
    on(Cluster::builder().clients(2).standby(), |cluster| {
        let viewers = audience(cluster)?;
        cluster.director().stop()?;
        for viewer in &viewers {
            viewer.process().wait()?;
        }
        wait_for_holder(cluster, cluster.standby().host())?;
        for client in cluster.clients() {
            let again = client.pull(&cluster.viewing_url())?;
            again.wait_for_more(25)?.ensure_rising()?;
        }
        Ok(())
    });
}

/// keepalived's director; without ip_vs in the kernel it holds the VIP, and
/// serves nobody.
mod beside_keepalived {
    use netbed::start_keepalived;
    use testbed::{STANDBY, virtual_router_conf};

    use super::*;

    fn one_of_each() -> Builder {
        Cluster::builder().clients(1).host("director-2", STANDBY)
    }

    /// Makes the client's kernel know where the VIP is, so that it shows what
    /// the announcements change.
    fn introduce(cluster: &Cluster) -> Result<()> {
        let client = cluster.client(0).host();
        // Nobody may answer the ping; the address is resolved all the same.
        client.output({
            let mut ping = std::process::Command::new("ping");
            ping.args(["-c", "1", "-W", "1", &VIP.to_string()]);
            ping
        })?;
        let entry = client.sh(&format!("ip neigh show {VIP}"))?;
        ensure!(entry.contains("lladdr"), "nobody has the VIP: {entry}");
        Ok(())
    }

    /// Waits until a viewer is served: right after a cut our director may not
    /// have seen its servers again yet.
    fn watch(cluster: &Cluster) -> Result<()> {
        wait_for("a viewer to be served", || {
            let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
            let frames = viewer.wait_for_more(25);
            viewer.stop()?;
            match frames {
                Ok(frames) => frames.ensure_rising().map(|()| true),
                Err(_) => Ok(false),
            }
        })
    }

    #[test]
    #[ignore = "needs root"]
    fn our_director_hands_the_vip_to_keepalived_and_takes_it_back() {
        on(one_of_each(), |cluster| {
            cluster.push(&Source::Generated)?;
            let (ours, theirs) = (cluster.director(), cluster.host("director-2"));
            // Lest a master that was cut off in silence never knows.
            let keepalived_conf = virtual_router_conf("BACKUP", 90)
                .replace("priority 90", "priority 90\n    higher_prio_send_advert");
            start_keepalived(theirs, &keepalived_conf)?;
            watch(cluster)?;

            ours.stop()?;
            wait_for_holder(cluster, theirs)?;
            ours.start()?;
            wait_for_holder(cluster, ours.host())?;
            watch(cluster)?;

            for cut in [Cut::Interface, Cut::Carrier, Cut::Silent] {
                println!("{cut:?}");
                cut.make(cluster, ours.host())?;
                wait_for_holder(cluster, theirs)?;
                cut.mend(cluster, ours.host())?;
                wait_for_holder(cluster, ours.host())?;
                watch(cluster)?;
            }
            Ok(())
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn keepalived_hands_the_vip_to_our_director_and_takes_it_back() {
        on(one_of_each().without_balancer(), |cluster| {
            cluster.push(&Source::Generated)?;
            let (ours, theirs) = (cluster.director(), cluster.host("director-2"));
            let keepalived_conf = virtual_router_conf("MASTER", 110);
            let keepalived = start_keepalived(theirs, &keepalived_conf)?;
            wait_for("keepalived to lead", || theirs.has_address(VIP))?;
            ours.start()?;
            ours.wait_until_able()?;
            introduce(cluster)?;

            keepalived.stop()?;
            wait_for_holder(cluster, ours.host())?;
            watch(cluster)?;
            start_keepalived(theirs, &keepalived_conf)?;
            wait_for_holder(cluster, theirs)?;

            for cut in [Cut::Interface, Cut::Carrier, Cut::Silent] {
                println!("{cut:?}");
                cut.make(cluster, theirs)?;
                wait_for_holder(cluster, ours.host())?;
                watch(cluster)?;
                cut.mend(cluster, theirs)?;
                wait_for_holder(cluster, theirs)?;
            }
            Ok(())
        });
    }
}

/// Prints for how long viewers saw no new picture. Run it by itself, on a quiet
/// machine:
/// `cargo test -p testbed --test e2e what_a_change_of_director_costs -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn what_a_change_of_director_costs_a_viewer() {
    on(two_directors(), measure_changes);
}

/// The same with an advert each 0.1 s, which VRRP version 3 has.
#[test]
#[ignore = "a measurement"]
fn what_a_change_of_director_costs_a_viewer_with_quick_adverts() {
    let builder = two_directors().director_conf(|conf| {
        let (before, rest) = conf.split_once("    authentication {").expect("a password");
        let (_, after) = rest.split_once("    }\n").expect("its end");
        format!("{before}{after}")
            .replace("advert_int 1", "version 3\n    advert_int 0.1")
            .replace("lb_algo rr", "lb_algo mh")
            .replace("priority 100", "priority 100\n    track_quorum -50")
    });
    on(builder, measure_changes);
}

fn measure_changes(cluster: &Cluster) -> Result<()> {
    let viewers = audience(cluster)?;
    let (first, second) = (cluster.director(), cluster.standby());
    println!("pictures come every 40 ms; the longest time without one:");
    let show = |what: &str, gaps: Vec<Duration>| println!("{what}: {gaps:.1?}");
    show("nothing happens", gaps(&viewers, || Ok(()))?);
    let change = || wait_for_holder(cluster, second.host());
    let stopped = gaps(&viewers, || first.stop().and_then(|()| change()))?;
    show("the master is stopped", stopped);
    let back = || wait_for_holder(cluster, first.host());
    let returned = gaps(&viewers, || first.start().and_then(|()| back()))?;
    show("it returns", returned);
    for cut in [Cut::Carrier, Cut::Silent] {
        let lost = gaps(&viewers, || {
            cut.make(cluster, first.host()).and_then(|()| change())
        })?;
        show(&format!("it is cut off ({cut:?})"), lost);
        let mended = gaps(&viewers, || {
            cut.mend(cluster, first.host()).and_then(|()| back())
        })?;
        show("it is back", mended);
    }
    Ok(())
}

/// The longest time without a new picture of each viewer, until five seconds
/// after `change`.
fn gaps(viewers: &[Viewer], change: impl FnOnce() -> Result<()>) -> Result<Vec<Duration>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watched: Vec<_> = viewers
            .iter()
            .map(|viewer| scope.spawn(|| longest_gap(viewer, &over)))
            .collect();
        let changed = change();
        thread::sleep(Duration::from_secs(5));
        over.store(true, Ordering::Relaxed);
        let gaps = watched
            .into_iter()
            .map(|watched| watched.join().expect("watching does not panic"));
        let gaps = gaps.collect::<Result<Vec<_>>>();
        changed.and(gaps)
    })
}

fn longest_gap(viewer: &Viewer, over: &AtomicBool) -> Result<Duration> {
    let mut seen = viewer.frames()?.video.len();
    let mut last = Instant::now();
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        ensure!(viewer.process().is_running(), "the viewer has ended");
        let now = viewer.frames()?.video.len();
        if now > seen {
            (seen, last) = (now, Instant::now());
        }
        longest = longest.max(last.elapsed());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(longest)
}
