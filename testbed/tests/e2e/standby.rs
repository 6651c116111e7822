//! Two encoders for one stream: one is killed, one falls silent, and viewers stay.

use std::fs;

use anyhow::{Result, ensure};
use netbed::{Process, wait_for};
use nix::sys::signal::Signal;
use testbed::{Cluster, Source, Viewer};

use crate::on;

/// The number of lines of the origin's log that contain `text`.
fn said(cluster: &Cluster, text: &str) -> Result<usize> {
    let log = cluster.origin().host().directory().join("objs/origin.log");
    let log = fs::read_to_string(log)?;
    Ok(log.lines().filter(|line| line.contains(text)).count())
}

/// Starts an encoder beside the one on air, and waits until it could take its place.
fn push_beside(cluster: &Cluster) -> Result<Process> {
    const READY: &str = "a standby publisher may go on air";
    let before = said(cluster, READY)?;
    let encoder = cluster.push_as("livestream?backup=1", &Source::Generated)?;
    wait_for("the standby to have a keyframe", || {
        Ok(said(cluster, READY)? > before)
    })?;
    Ok(encoder)
}

/// All viewers go on, on the same connections, with rising times and nothing that a decoder
/// complains of.
fn ensure_served(viewers: &[Viewer]) -> Result<()> {
    for viewer in viewers {
        let frames = viewer.wait_for_more(75)?;
        frames.ensure_rising()?;
        let said = viewer.process().log();
        ensure!(said.is_empty(), "the viewer complains: {said}");
        let steps = frames.video.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = steps.max().unwrap_or_default();
        eprintln!(
            "{}: longest step between pictures: {longest} ms",
            viewer.process().name()
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root"]
fn viewers_stay_when_an_encoder_is_killed_or_falls_silent_beside_a_standby() {
    on(Cluster::builder().clients(3), |cluster| {
        let first = cluster.push(&Source::Generated)?;
        let url = cluster.viewing_url();
        let mut viewers = cluster
            .clients()
            .iter()
            .map(|client| client.pull(&url))
            .collect::<Result<Vec<_>>>()?;
        viewers.push(cluster.client(0).pull(&cluster.publishing_url())?);
        for viewer in &viewers {
            viewer.wait_for_more(25)?;
        }
        let second = push_beside(cluster)?;
        first.kill()?;
        ensure_served(&viewers)?;

        push_beside(cluster)?;
        second.signal(Signal::SIGSTOP)?;
        wait_for("the third encoder to be on air", || {
            Ok(said(cluster, "is silent")? == 1)
        })?;
        ensure_served(&viewers)
    });
}
