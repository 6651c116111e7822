//! Servers that die, vanish and come back.

use anyhow::Result;
use testbed::{Cluster, HealthChecks, Server, Source};

use crate::on;

#[test]
#[ignore = "needs root"]
fn a_killed_edge_leaves_the_rotation_and_comes_back_when_it_serves_again() {
    on(Cluster::builder().clients(5), out_and_back);
}

#[test]
#[ignore = "needs root"]
fn the_deployments_own_files_take_a_killed_edge_out_and_back() {
    let builder = Cluster::builder()
        .clients(5)
        .health_checks(HealthChecks::Deployed);
    on(builder, out_and_back);
}

fn out_and_back(cluster: &Cluster) -> Result<()> {
    let director = cluster.director();
    cluster.push(&Source::Generated)?;
    let witness = cluster.client(0).pull(&cluster.viewing_url())?;
    witness.wait_for_more(25)?;
    let survivor = cluster
        .edge_serving(cluster.client(0))?
        .expect("it is served");
    let victim = cluster.edge(1 - survivor);

    victim.kill()?;
    director.wait_for_server(victim.address(), false)?;
    for newcomer in &cluster.clients()[1..3] {
        newcomer.pull(&cluster.viewing_url())?.wait_for_more(25)?;
        assert_eq!(
            cluster.edge_serving(newcomer)?,
            Some(survivor),
            "the dead edge serves nobody"
        );
    }

    victim.start()?;
    director.wait_for_server(victim.address(), true)?;
    for newcomer in &cluster.clients()[3..] {
        newcomer.pull(&cluster.viewing_url())?.wait_for_more(25)?;
    }
    assert_ne!(
        victim.peers()?,
        [],
        "two new viewers, one of them at the edge that is back"
    );
    // Who was at the other edge has noticed nothing of all this.
    witness.wait_for_more(25)?.ensure_rising()
}

#[test]
#[ignore = "needs root"]
fn a_viewer_of_a_killed_edge_is_served_by_the_other_when_it_reconnects() {
    on(Cluster::builder().clients(1), |cluster| {
        cluster.push(&Source::Generated)?;
        let client = cluster.client(0);
        let viewer = client.pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?;
        let edge = cluster.edge_serving(client)?.expect("it is served");

        cluster.edge(edge).kill()?;
        viewer.process().wait()?;
        cluster
            .director()
            .wait_for_server(cluster.edge(edge).address(), false)?;
        // Persistence does not hold it to a server that is gone.
        let again = client.pull(&cluster.viewing_url())?;
        again.wait_for_more(25)?.ensure_rising()?;
        assert_eq!(cluster.edge_serving(client)?, Some(1 - edge));
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn an_edge_cut_off_from_the_network_leaves_the_rotation_and_comes_back() {
    on(Cluster::builder().clients(3), |cluster| {
        cluster.push(&Source::Generated)?;
        let lost = cluster.edge(0);
        lost.host().cut_off()?;
        cluster.director().wait_for_server(lost.address(), false)?;
        let viewer = cluster.client(0).pull(&cluster.viewing_url())?;
        viewer.wait_for_more(25)?.ensure_rising()?;
        assert_eq!(cluster.edge_serving(cluster.client(0))?, Some(1));

        lost.host().reconnect()?;
        cluster.director().wait_for_server(lost.address(), true)?;
        for newcomer in &cluster.clients()[1..] {
            newcomer.pull(&cluster.viewing_url())?.wait_for_more(25)?;
        }
        assert_ne!(
            Server::peers(lost)?,
            [],
            "the edge that is back has viewers"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn viewers_stay_at_their_edges_and_go_on_when_the_origin_dies_and_returns() {
    on(Cluster::builder().without_balancer(), |cluster| {
        let encoder = cluster.push(&Source::Generated)?;
        let viewers = cluster
            .edges()
            .iter()
            .zip(cluster.clients())
            .map(|(edge, client)| {
                client.pull(&format!("rtmp://{}/live/livestream", edge.address()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for viewer in &viewers {
            viewer.wait_for_more(50)?;
        }
        cluster.origin().kill()?;
        encoder.wait()?;
        cluster.origin().start()?;
        // The encoder begins anew: the same pictures, with the same times.
        cluster.push(&Source::Generated)?;
        for viewer in &viewers {
            // The same ffmpeg on the same connection, on one rising timeline.
            viewer.wait_for_more(100)?.ensure_rising()?;
            assert!(viewer.process().is_running());
        }
        Ok(())
    });
}
