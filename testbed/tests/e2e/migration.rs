//! The steps of docs/migrating.md: one machine after the other, and back.
//!
//! nginx-rtmp stands for a server of another program. keepalived holds the VIP and serves
//! nobody, since the kernel may have no ip_vs.

use anyhow::{Result, bail};
use netbed::{start_keepalived, wait_for};
use testbed::{Client, Cluster, ServerKind, Source, VIP, Viewer, virtual_router_conf};

use crate::on;

/// A viewer of the VIP with pictures before its eyes.
fn watch(cluster: &Cluster, client: &Client) -> Result<Viewer> {
    let viewer = client.pull(&cluster.viewing_url())?;
    viewer.wait_for_more(25)?.ensure_rising()?;
    Ok(viewer)
}

#[test]
#[ignore = "needs root"]
fn a_director_s_machine_changes_from_keepalived_to_ours_and_back() {
    on(
        Cluster::builder().clients(1).without_balancer(),
        |cluster| {
            cluster.push(&Source::Generated)?;
            let ours = cluster.director();
            let conf = virtual_router_conf("MASTER", 100);
            for _ in 0..2 {
                let keepalived = start_keepalived(ours.host(), &conf)?;
                wait_for("keepalived to lead", || ours.host().has_address(VIP))?;
                keepalived.stop()?;
                ours.start()?;
                ours.wait_until_ready()?;
                watch(cluster, cluster.client(0))?.stop()?;
                ours.stop()?;
                assert!(!ours.host().has_address(VIP)?, "nothing is in the way");
            }
            Ok(())
        },
    );
}

/// An edge changes its program twice while a viewer of the other one goes on.
#[test]
#[ignore = "needs root"]
fn an_edge_behind_our_director_changes_its_program_and_back() {
    on(Cluster::builder().clients(6), |cluster| {
        cluster.push(&Source::Generated)?;
        let (director, edge) = (cluster.director(), cluster.edge(0));
        let address = edge.address().to_string();
        // `rr` deals each pair of addresses out to both edges.
        let mut pairs = cluster.clients().chunks(2);
        let mut pair_of_viewers = || -> Result<[Viewer; 2]> {
            let pair = pairs.next().expect("there are three pairs");
            let viewers = [watch(cluster, &pair[0])?, watch(cluster, &pair[1])?];
            match [&pair[0], &pair[1]].map(|client| cluster.edge_serving(client)) {
                [Ok(Some(0)), Ok(Some(1))] => Ok(viewers),
                [Ok(Some(1)), Ok(Some(0))] => {
                    let [other, of_edge] = viewers;
                    Ok([of_edge, other])
                }
                served => bail!("each edge is to serve one: {served:?}"),
            }
        };
        let [mut of_edge, of_other] = pair_of_viewers()?;
        for kind in [ServerKind::NginxRtmp, ServerKind::Millrace] {
            director.order(&["drain", &address, "--drop-templates"])?;
            edge.stop()?;
            of_edge.process().wait()?;
            edge.start_as(kind)?;
            director.order(&["undrain", &address])?;
            director.wait_for_server(edge.address(), true)?;
            [of_edge, _] = pair_of_viewers()?;
        }
        of_other.wait_for_more(25)?.ensure_without_gap()
    });
}

/// The viewers' edge keeps them while its origin is exchanged for one of another program.
#[test]
#[ignore = "needs root"]
fn an_origin_behind_our_edges_changes_its_program_and_back() {
    on(Cluster::builder().clients(1), |cluster| {
        let origin = cluster.origin();
        let mut encoder = cluster.push(&Source::Generated)?;
        let viewer = watch(cluster, cluster.client(0))?;
        for kind in [ServerKind::NginxRtmp, ServerKind::Millrace] {
            origin.stop()?;
            encoder.wait()?;
            origin.start_as(kind)?;
            encoder = cluster.push(&Source::Generated)?;
            viewer.wait_for_more(50)?.ensure_rising()?;
        }
        Ok(())
    });
}
