//! A balancer that is killed, started again and upgraded while people watch.

use anyhow::{Context, Result, ensure};
use netbed::{INTERFACE, wait_for};
use testbed::{Cluster, Source, VIP, Viewer};

use crate::life_cycle::start_confined;
use crate::on;

/// Three seconds of video, which come however the balancer is.
const WHILE: usize = 75;

/// The number of the program that is attached.
fn attached(cluster: &Cluster) -> Result<Option<String>> {
    let shown = cluster
        .director()
        .host()
        .sh(&format!("ip -details link show {INTERFACE}"))?;
    let mut words = shown.split_whitespace();
    if words.find(|word| word.starts_with("prog/xdp")).is_none() {
        return Ok(None);
    }
    words.find(|word| *word == "id");
    Ok(words.next().map(str::to_owned))
}

/// Which edge serves each of the clients.
fn served(cluster: &Cluster) -> Result<Vec<Option<usize>>> {
    let clients = cluster.clients().iter();
    clients.map(|client| cluster.edge_serving(client)).collect()
}

fn all_go_on(viewers: &[Viewer]) -> Result<()> {
    for viewer in viewers {
        viewer.wait_for_more(WHILE)?.ensure_without_gap()?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn nobody_notices_a_balancer_that_is_killed_started_again_and_upgraded() {
    on(Cluster::builder().clients(3), |cluster| {
        let director = cluster.director();
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let mut viewers = Vec::new();
        for client in &cluster.clients()[..2] {
            let viewer = client.pull(&url)?;
            viewer.wait_for_more(25)?;
            viewers.push(viewer);
        }
        let edges = served(cluster)?;
        assert_eq!(edges.iter().flatten().count(), 2, "{edges:?}");
        let before = director.list()?;
        let first = attached(cluster)?.context("XDP is attached")?;

        director.kill()?;
        all_go_on(&viewers)?;
        assert_eq!(attached(cluster)?, Some(first.clone()), "XDP goes on");
        assert!(director.host().has_address(VIP)?, "and so does the VIP");
        // Who comes now is served, and an address keeps its edge.
        let again = cluster.client(0).pull(&url)?;
        again.wait_for_more(25)?;
        assert_eq!(served(cluster)?, edges);
        viewers.push(again);

        director.start()?;
        director.wait_until_ready()?;
        let log = director.process()?.log();
        assert!(log.contains("is adopted"), "{log}");
        let second = attached(cluster)?.context("XDP is attached")?;
        assert_ne!(second, first, "the program is replaced");
        let after = director.list()?;
        let connections = |list: &testbed::Balancer| list.services[0].counters.connections;
        assert_eq!(connections(&after), connections(&before) + 1);
        let live = |list: &testbed::Balancer| -> Vec<(u64, u64)> {
            let servers = list.services[0].servers.iter();
            servers
                .map(|server| (server.active_connections, server.persistent_clients))
                .collect()
        };
        let total: u64 = live(&after).iter().map(|(active, _)| active).sum();
        assert_eq!(total, 3, "{:?}", live(&after));
        let clients: u64 = live(&after).iter().map(|(_, clients)| clients).sum();
        assert_eq!(clients, 2, "{:?}", live(&after));
        all_go_on(&viewers)?;

        let pid = director.process()?.pid();
        director.order(&["drain", &cluster.edge(0).address().to_string()])?;
        director.order(&["upgrade"])?;
        wait_for("another program", || {
            Ok(attached(cluster)?.filter(|now| *now != second))
        })?;
        assert!(director.process()?.is_running(), "process {pid} goes on");
        let list = director.list()?;
        let drained = list.server(cluster.edge(0).address());
        assert_eq!(drained.context("listed")?.state, "quiesced");
        all_go_on(&viewers)?;
        let same = |now: &[Option<usize>]| now[..2] == edges[..2];
        assert!(same(&served(cluster)?), "every viewer is where it was");
        let newcomer = cluster.client(2).pull(&url)?;
        newcomer.wait_for_more(25)?;
        assert_eq!(
            cluster.edge_serving(cluster.client(2))?,
            Some(1),
            "drained still"
        );
        Ok(())
    });
}

/// What a balancer leaves where only balancers write.
fn remains(cluster: &Cluster) -> Result<String> {
    let host = cluster.director().host();
    // The kernel's own `maps.debug` and `progs.debug` are in every bpffs.
    let pinned = host.sh("find /sys/fs/bpf -mindepth 1 -not -name *.debug")?;
    let files = host.sh("find /run -path */lb-user*")?;
    Ok(pinned + &files)
}

#[test]
#[ignore = "needs root"]
fn the_stop_command_removes_what_a_killed_balancer_has_left() {
    on(Cluster::builder(), |cluster| {
        let director = cluster.director();
        director.kill()?;
        assert!(attached(cluster)?.is_some());
        assert!(
            remains(cluster)?.contains("/FLOWS"),
            "{}",
            remains(cluster)?
        );

        director.order(&["stop"])?;
        assert_eq!(attached(cluster)?, None, "XDP is detached");
        assert!(!director.host().has_address(VIP)?, "the VIP is gone");
        assert_eq!(remains(cluster)?, "", "nothing is left");

        director.start()?;
        director.wait_until_ready()?;
        director.order(&["stop"])?;
        director.process()?.wait()?;
        assert_eq!(attached(cluster)?, None);
        assert!(!director.host().has_address(VIP)?);
        assert_eq!(remains(cluster)?, "");
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn a_balancer_that_is_cut_off_from_its_rights_to_mount_still_adopts() {
    on(Cluster::builder(), |cluster| {
        let director = cluster.director();
        director.kill()?;
        let balancer = start_confined(director)?;
        let log = balancer.log();
        assert!(log.contains("is adopted"), "{log}");
        director.order(&["upgrade"])?;
        wait_for("the upgraded balancer to be ready", || {
            ensure!(balancer.is_running(), "it has ended:\n{}", balancer.log());
            Ok(director.list().is_ok_and(|list| list.is_ready()))
        })?;
        balancer.stop()?;
        assert_eq!(remains(cluster)?, "", "it could undo all that it did");
        Ok(())
    });
}
