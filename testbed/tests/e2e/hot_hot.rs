//! Edges that pull from two origins at once, one of which dies.

use std::fs;

use anyhow::{Result, ensure};
use netbed::wait_for;
use testbed::{Cluster, Server, Source, Viewer};

use crate::on;

/// The number of lines of an edge's log that contain `text`.
fn said(edge: &Server, text: &str) -> Result<usize> {
    let log = edge.host().directory().join("objs/edge.log");
    let log = fs::read_to_string(log).unwrap_or_default();
    Ok(log.lines().filter(|line| line.contains(text)).count())
}

/// One viewer at each edge.
fn watch(cluster: &Cluster) -> Result<Vec<Viewer>> {
    let edges = cluster.edges().iter().zip(cluster.clients());
    edges
        .map(|(edge, client)| client.pull(&format!("rtmp://{}/live/livestream", edge.address())))
        .collect()
}

/// The decoder of `viewer` has nothing to complain of.
fn ensure_decodes(viewer: &Viewer) -> Result<()> {
    let said = viewer.process().log();
    ensure!(said.is_empty(), "the viewer complains: {said}");
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn viewers_get_each_picture_once_when_one_of_two_origins_is_killed() {
    on(
        Cluster::builder().without_balancer().second_origin(),
        |cluster| {
            let _encoder = cluster.push_to_both(&Source::Generated)?;
            let viewers = watch(cluster)?;
            for edge in cluster.edges() {
                wait_for("the edge to merge what both origins bring", || {
                    Ok(said(edge, "brings the same messages")? > 0)
                })?;
            }
            for viewer in &viewers {
                viewer.wait_for_more(50)?;
            }
            for origin in [cluster.origin(), cluster.second_origin()] {
                let dies = origin.address() == cluster.origin().address();
                if dies {
                    origin.kill()?;
                }
                for viewer in &viewers {
                    viewer.wait_for_more(75)?.ensure_without_gap()?;
                    ensure_decodes(viewer)?;
                }
            }
            Ok(())
        },
    );
}

#[test]
#[ignore = "needs root"]
fn of_two_encoders_that_differ_the_other_goes_on_at_a_keyframe() {
    on(
        Cluster::builder().without_balancer().second_origin(),
        |cluster| {
            let _first = cluster.push(&Source::Generated)?;
            let viewers = watch(cluster)?;
            for viewer in &viewers {
                viewer.wait_for_more(10)?;
            }
            let _second = cluster.push_to_second(&Source::Stamped)?;
            for edge in cluster.edges() {
                wait_for("the edge to be served by both origins", || {
                    Ok(said(edge, ": flows")? == 2)
                })?;
            }
            for viewer in &viewers {
                viewer.wait_for_more(50)?.ensure_without_gap()?;
            }
            cluster.origin().kill()?;
            for edge in cluster.edges() {
                wait_for("the edge to go over to the second origin", || {
                    Ok(said(edge, "goes on air")? == 1)
                })?;
            }
            for viewer in &viewers {
                viewer.wait_for_more(75)?.ensure_rising()?;
                ensure_decodes(viewer)?;
            }
            Ok(())
        },
    );
}
