//! Players that watch all along.

use testbed::Cluster;

use super::WATCHED_EDGE;
use super::encoders::STREAMS;
use super::load::{Load, Protocol};

/// Players of each protocol and stream.
const PLAYERS: u32 = 2;

/// Players of each protocol at the edge that lives, and of RTMP at the origin.
pub(super) struct Watchers {
    steady: Vec<Load>,
    hls: Vec<Load>,
}

impl Watchers {
    pub(super) fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let (of_hls, others): (Vec<_>, Vec<_>) =
            Protocol::ALL.into_iter().partition(|it| it.is_hls());
        let mut steady = watch(cluster, &others)?;
        let constant = &STREAMS[0];
        let url = Protocol::Rtmp.url(cluster.origin().address(), constant.name);
        let host = cluster.client(0).host();
        steady.push(Load::watch(host, Protocol::Rtmp, &url, PLAYERS, true)?);
        Ok(Self {
            steady,
            hls: watch(cluster, &of_hls)?,
        })
    }

    /// The edge has been upgraded: the players of HLS give way to others, of which everything
    /// is expected again. Returns what did not hold.
    pub(super) fn renew_hls(&mut self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let of_hls = Protocol::ALL.into_iter().filter(|it| it.is_hls());
        let new = watch(cluster, &of_hls.collect::<Vec<_>>())?;
        let mut faults = Vec::new();
        for former in std::mem::replace(&mut self.hls, new) {
            faults.extend(former.end(true)?);
        }
        Ok(faults)
    }

    /// Faults: those that have ended before their time.
    pub(super) fn ended(&self) -> impl Iterator<Item = String> {
        let all = self.steady.iter().chain(&self.hls);
        all.filter_map(Load::has_ended)
    }

    /// Ends all; returns what did not hold. `upgraded`: the edge was, since the players of
    /// HLS have come.
    pub(super) fn end(self, upgraded: bool) -> anyhow::Result<Vec<String>> {
        let mut faults = Vec::new();
        for watcher in self.steady.into_iter().chain(self.hls) {
            faults.extend(watcher.end(upgraded)?);
        }
        Ok(faults)
    }
}

/// Players by each of `protocols` of each stream.
fn watch(cluster: &Cluster, protocols: &[Protocol]) -> anyhow::Result<Vec<Load>> {
    let edge = cluster.edge(WATCHED_EDGE).address();
    let host = cluster.client(0).host();
    let mut watchers = Vec::new();
    for stream in STREAMS {
        for &protocol in protocols {
            let url = protocol.url(edge, stream.name);
            let is_whole = stream.is_constant;
            watchers.push(Load::watch(host, protocol, &url, PLAYERS, is_whole)?);
        }
    }
    Ok(watchers)
}
