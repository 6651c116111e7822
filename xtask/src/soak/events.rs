//! What happens to the programs of a cluster.

use std::fmt;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use netbed::wait_for;
use nix::sys::signal::Signal;
use testbed::{Cluster, Director, Server, VIP};

use super::EDGES;
use super::encoders::Encoders;

/// How long a killed edge is away.
const AWAY: Duration = Duration::from_secs(3);

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A server reads its file again.
    Reload(Place),
    /// A server becomes the installed program.
    Upgrade(Place),
    /// A director reads its file again.
    ReloadDirector(Half),
    /// A director becomes the installed program.
    UpgradeDirector(Half),
    /// The master of the two directors ends, the other takes over, and it comes back.
    ChangeMaster,
    /// An edge is killed, and comes back.
    KillEdge(usize),
    /// One of two publishers of a stream is killed, and comes back.
    KillEncoder(usize),
}

/// A director of the two: the first is the master while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    First,
    Second,
}

impl Half {
    fn choose(rng: &mut Rng) -> Self {
        match rng.bool() {
            true => Self::First,
            false => Self::Second,
        }
    }

    fn of(self, cluster: &Cluster) -> &Director {
        match self {
            Self::First => cluster.director(),
            Self::Second => cluster.standby(),
        }
    }
}

impl fmt::Display for Half {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "director 1",
            Self::Second => "director 2",
        })
    }
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
            Self::Upgrade(place) => write!(f, "{place} upgraded"),
            Self::ReloadDirector(half) => write!(f, "{half} reloaded"),
            Self::UpgradeDirector(half) => write!(f, "{half} upgraded"),
            Self::ChangeMaster => f.write_str("director 1 away for a while"),
            Self::KillEdge(index) => write!(f, "edge {} killed", index + 1),
            Self::KillEncoder(index) => write!(f, "encoder {} killed", index + 1),
        }
    }
}

impl Event {
    /// Any event. With `may_kill` an edge may be killed, but never the first; without, the
    /// master may change: the other director sends connections where this one has sent them
    /// only while both have the same servers.
    pub(super) fn choose(rng: &mut Rng, may_kill: bool) -> Self {
        match rng.usize(..8) {
            0 => Self::Reload(Place::choose(rng)),
            1 | 2 => Self::Upgrade(Place::choose(rng)),
            3 => Self::ReloadDirector(Half::choose(rng)),
            4 => Self::UpgradeDirector(Half::choose(rng)),
            5 | 6 => Self::KillEncoder(rng.usize(..2)),
            _ if may_kill => Self::KillEdge(rng.usize(super::WATCHED_EDGE + 1..usize::from(EDGES))),
            _ => Self::ChangeMaster,
        }
    }

    /// Has it happen, and waits until what was killed is back.
    pub(super) fn happen(self, cluster: &Cluster, encoders: &mut Encoders) -> anyhow::Result<()> {
        match self {
            Self::Reload(place) => place.of(cluster).process()?.signal(Signal::SIGHUP),
            Self::Upgrade(place) => place.of(cluster).upgrade(),
            Self::ReloadDirector(half) => half.of(cluster).order(&["reload"]).map(drop),
            Self::UpgradeDirector(half) => half.of(cluster).order(&["upgrade"]).map(drop),
            Self::ChangeMaster => change_master(cluster),
            Self::KillEncoder(index) => encoders.kill_one(cluster, index),
            Self::KillEdge(index) => {
                let edge = cluster.edge(index);
                edge.kill()?;
                thread::sleep(AWAY);
                edge.start()?;
                cluster.director().wait_until_ready()?;
                cluster.standby().wait_until_able().map(drop)
            }
        }
    }
}

fn change_master(cluster: &Cluster) -> anyhow::Result<()> {
    let (first, second) = (cluster.director(), cluster.standby());
    first.stop()?;
    wait_for_master(second)?;
    first.start()?;
    wait_for_master(first)?;
    // It is a standby again, with all servers, before anything else happens.
    second.wait_until_able().map(drop)
}

fn wait_for_master(director: &Director) -> anyhow::Result<()> {
    let host = director.host();
    wait_for(format_args!("{VIP} on {}", host.name()), || {
        host.has_address(VIP)
    })?;
    director.wait_until_ready().map(drop)
}
