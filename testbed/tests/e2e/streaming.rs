//! Video from the encoder to viewers, through every part of the deployment.

use netbed::wait_for;
use testbed::{Cluster, Source};

use crate::on;

#[test]
#[ignore = "needs root"]
fn every_viewer_decodes_video_and_audio_with_rising_timestamps() {
    on(Cluster::builder().clients(4), |cluster| {
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let viewers = cluster
            .clients()
            .iter()
            .map(|client| client.pull(&url))
            .collect::<Result<Vec<_>, _>>()?;
        for viewer in viewers {
            viewer.wait_for_more(75)?.ensure_rising()?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn viewers_behind_a_router_are_served_by_both_edges() {
    on(Cluster::builder().clients(0).outer_clients(2), |cluster| {
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let viewers = cluster
            .clients()
            .iter()
            .map(|client| client.pull(&url))
            .collect::<Result<Vec<_>, _>>()?;
        for viewer in viewers {
            viewer.wait_for_more(50)?.ensure_rising()?;
        }
        let mut edges = cluster
            .clients()
            .iter()
            .map(|client| cluster.edge_serving(client))
            .collect::<Result<Vec<_>, _>>()?;
        edges.sort_unstable();
        assert_eq!(edges, [Some(0), Some(1)]);
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn the_origin_serves_a_viewer_directly_too() {
    on(Cluster::builder().edges(1).clients(1), |cluster| {
        cluster.push(&Source::Generated)?;
        let viewer = cluster.client(0).pull(&cluster.publishing_url())?;
        viewer.wait_for_more(50)?.ensure_rising()
    });
}

#[test]
#[ignore = "needs root"]
fn viewers_stay_and_go_on_when_the_publisher_stops_and_returns() {
    on(Cluster::builder(), |cluster| {
        let encoder = cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let viewers = cluster
            .clients()
            .iter()
            .map(|client| client.pull(&url))
            .collect::<Result<Vec<_>, _>>()?;
        for viewer in &viewers {
            viewer.wait_for_more(25)?;
        }
        encoder.stop()?;
        wait_for("the origin to see the publisher go", || {
            let peers = cluster.origin().peers()?;
            Ok(!peers
                .iter()
                .any(|peer| peer.ip() == cluster.encoder().address()))
        })?;
        cluster.push(&Source::Generated)?;
        for viewer in &viewers {
            // The same ffmpeg on the same connection, on one rising timeline.
            viewer.wait_for_more(50)?.ensure_rising()?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root"]
fn each_edge_pulls_one_copy_from_the_origin_however_many_watch() {
    on(Cluster::builder().clients(6), |cluster| {
        cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let viewers = cluster
            .clients()
            .iter()
            .flat_map(|client| [client.pull(&url), client.pull(&url)])
            .collect::<Result<Vec<_>, _>>()?;
        for viewer in &viewers {
            viewer.wait_for_more(25)?;
        }
        let peers = cluster.origin().peers()?;
        for edge in cluster.edges() {
            let name = edge.host().name();
            assert!(
                edge.peers()?.len() >= 2,
                "{name} serves several of the twelve viewers"
            );
            let upstream = peers
                .iter()
                .filter(|peer| peer.ip() == edge.address())
                .count();
            assert_eq!(upstream, 1, "connections of {name} to the origin");
        }
        Ok(())
    });
}
