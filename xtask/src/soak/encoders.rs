//! The publishers that are there all along: one that lives, and two of which each may be
//! killed, since the other takes its place.

use anyhow::Context as _;
use netbed::{Host, Process};
use testbed::Cluster;

use super::load::{BITRATE, Protocol, TIMEOUT, rtmp_load};

/// A stream that is there all along.
pub(super) struct Stream {
    pub(super) name: &'static str,
    /// One publisher sends it from the beginning to the end.
    pub(super) is_constant: bool,
}

pub(super) const STREAMS: [Stream; 2] = [
    Stream {
        name: "constant",
        is_constant: true,
    },
    Stream {
        name: "switched",
        is_constant: false,
    },
];

/// The publishers.
pub(super) struct Encoders {
    constant: Process,
    /// Of the other stream: one on air, and its standby.
    pair: [Process; 2],
}

impl Encoders {
    pub(super) fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let [constant, switched] = STREAMS;
        let publish = |stream: &str, name| publish(cluster, cluster.encoder(), stream, name);
        let constant = publish(constant.name, "constant")?;
        let first = publish(switched.name, "first")?;
        wait_for_publishers(cluster, 2)?;
        let second = publish(&format!("{}?backup=1", switched.name), "second")?;
        wait_for_publishers(cluster, 3)?;
        Ok(Self {
            constant,
            pair: [first, second],
        })
    }

    /// Kills one of the pair; it comes back as the other's standby.
    pub(super) fn kill_one(&mut self, cluster: &Cluster, index: usize) -> anyhow::Result<()> {
        self.pair[index].kill()?;
        let name = format!("{}?backup=1", STREAMS[1].name);
        let encoder = cluster.encoder();
        self.pair[index] = publish(cluster, encoder, &name, ["first", "second"][index])?;
        wait_for_publishers(cluster, 3)
    }

    /// Ends all; returns what did not hold: one that had ended before.
    pub(super) fn end(self) -> anyhow::Result<Vec<String>> {
        let mut faults = Vec::new();
        for process in [&self.constant].into_iter().chain(&self.pair) {
            if let Some(status) = process.exit_status() {
                faults.push(format!("{} has ended ({status})", process.name()));
            }
            process.kill()?;
        }
        Ok(faults)
    }
}

/// A publisher on `host`, until it is killed.
pub(super) fn publish(
    cluster: &Cluster,
    host: &Host,
    stream: &str,
    name: &str,
) -> anyhow::Result<Process> {
    let mut command = rtmp_load()?;
    command.args(["--quiet", "-n", "0", "-t", "0", "--publish", "generated"]);
    command.args(["--bitrate", BITRATE, "--gop-seconds", "1"]);
    command.args(["--timeout", TIMEOUT]);
    command.arg(Protocol::Rtmp.url(cluster.origin().address(), stream));
    host.spawn(&format!("encoder-{name}"), command)
}

/// Waits until the origin has so many connections of the encoder's machine.
fn wait_for_publishers(cluster: &Cluster, publishers: usize) -> anyhow::Result<()> {
    let encoder = cluster.encoder().address();
    netbed::wait_for("the publishers' connections", || {
        let peers = cluster.origin().peers()?;
        let there = peers.iter().filter(|peer| peer.ip() == encoder).count();
        anyhow::Ok((there >= publishers).then_some(()))
    })
    .context("an encoder does not publish")
}
