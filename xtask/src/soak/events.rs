//! What happens to the programs of a cluster.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use testbed::{Cluster, Server};

use super::EDGES;
use super::encoders::Encoders;

/// How long a killed edge is away.
const AWAY: Duration = Duration::from_secs(3);

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A server reads its file again.
    Reload(Place),
    ReloadDirector,
    /// The director becomes the installed program.
    UpgradeDirector,
    /// An edge is killed, and comes back.
    KillEdge(usize),
    /// One of two publishers of a stream is killed, and comes back.
    KillEncoder(usize),
}

/// A server of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Origin,
    Edge(usize),
}

impl Place {
    fn choose(rng: &mut Rng) -> Self {
        match rng.usize(..=usize::from(EDGES)) {
            0 => Self::Origin,
            edge => Self::Edge(edge - 1),
        }
    }

    fn of(self, cluster: &Cluster) -> &Server {
        match self {
            Self::Origin => cluster.origin(),
            Self::Edge(index) => cluster.edge(index),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin => f.write_str("origin"),
            Self::Edge(index) => write!(f, "edge {}", index + 1),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload(place) => write!(f, "{place} reloaded"),
            Self::ReloadDirector => f.write_str("director reloaded"),
            Self::UpgradeDirector => f.write_str("director upgraded"),
            Self::KillEdge(index) => write!(f, "edge {} killed", index + 1),
            Self::KillEncoder(index) => write!(f, "encoder {} killed", index + 1),
        }
    }
}

impl Event {
    /// Any event; an edge is killed only with `may_kill`, and never the first.
    pub(super) fn choose(rng: &mut Rng, may_kill: bool) -> Self {
        match rng.usize(..if may_kill { 7 } else { 5 }) {
            0 | 1 => Self::Reload(Place::choose(rng)),
            2 => Self::ReloadDirector,
            3 => Self::UpgradeDirector,
            4 => Self::KillEncoder(rng.usize(..2)),
            _ => Self::KillEdge(rng.usize(1..usize::from(EDGES))),
        }
    }

    /// Has it happen, and waits until what was killed is back.
    pub(super) fn happen(self, cluster: &Cluster, encoders: &mut Encoders) -> anyhow::Result<()> {
        match self {
            Self::Reload(place) => place.of(cluster).process()?.signal(Signal::SIGHUP),
            Self::ReloadDirector => cluster.director().order(&["reload"]).map(drop),
            Self::UpgradeDirector => cluster.director().order(&["upgrade"]).map(drop),
            Self::KillEncoder(index) => encoders.kill_one(cluster, index),
            Self::KillEdge(index) => {
                let edge = cluster.edge(index);
                edge.kill()?;
                thread::sleep(AWAY);
                edge.start()?;
                cluster.director().wait_for_server(edge.address(), true)
            }
        }
    }
}
