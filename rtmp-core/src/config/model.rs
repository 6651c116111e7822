//! What a configuration means: the servers read only these types.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::security::Security;

/// The vhost that takes whatever no other vhost claims.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// RTMP's registered port (IANA `macromedia-fcs`).
pub const DEFAULT_PORT: u16 = 1935;

/// A server's whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Where RTMP connections are taken.
    pub listen: Vec<SocketAddr>,
    /// Connections beyond this number are accepted and closed.
    pub max_connections: u32,
    /// File that holds our process id while we run.
    pub pid: Option<PathBuf>,
    /// Where log lines go, and which.
    pub log: Log,
    /// Where the HTTP API answers; `None` where it is off.
    pub http_api: Option<SocketAddr>,
    /// Fan-out threads; `None` for one per core that we may use.
    pub workers: Option<usize>,
    /// How long a drain (SIGQUIT) lets viewers finish.
    pub drain_timeout: Duration,
    /// The vhosts by name.
    pub vhosts: BTreeMap<String, Arc<Vhost>>,
}

impl Config {
    /// The vhost that serves `name`: its own, else the default one, else none.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        self.vhosts
            .get(name)
            .or_else(|| self.vhosts.get(DEFAULT_VHOST))
            .filter(|vhost| vhost.enabled)
    }
}

/// Where log lines go, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// `srs_log_tank`: `file`, `console`, or unset.
    pub tank: Option<LogTank>,
    /// The least severe level that is written.
    pub level: String,
    /// The file of the tank `file`.
    pub file: Option<PathBuf>,
}

/// The two places a log can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTank {
    /// Standard error.
    Console,
    /// The file of `srs_log_file`.
    File,
}

impl Log {
    /// The file to write to, or `None` for standard error.
    #[must_use]
    pub fn destination(&self) -> Option<&PathBuf> {
        match self.tank {
            Some(LogTank::Console) => None,
            Some(LogTank::File) | None => self.file.as_ref(),
        }
    }
}

/// The settings of one vhost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vhost {
    /// Its name, which is part of every key of its streams.
    pub name: String,
    /// Whether it is served at all.
    pub enabled: bool,
    /// Largest chunk that we send, in bytes.
    pub chunk_size: u32,
    /// Bytes after which the peer should acknowledge what we sent.
    pub out_ack_size: u32,
    /// Bytes after which we acknowledge what the peer sent; 0 leaves it to
    /// the peer's own Window Acknowledgement Size.
    pub in_ack_size: u32,
    /// Whether a player starts at the newest keyframe rather than the next.
    pub gop_cache: bool,
    /// A player further behind than this is moved on to a keyframe.
    pub queue_length: Duration,
    /// Whether messages are sent as soon as they are in the log.
    pub min_latency: bool,
    /// How long messages are gathered otherwise.
    pub mw_latency: Duration,
    /// How long a publisher's input is gathered before it is read.
    pub mr: Option<Duration>,
    /// Whether players' sockets keep `TCP_NODELAY` while they play.
    pub tcp_nodelay: bool,
    /// How long a publisher may take to its first message.
    pub publish_1stpkt_timeout: Duration,
    /// How long a publisher may be silent later.
    pub publish_normal_timeout: Duration,
    /// How long a stream without publisher is kept for the publisher's return.
    pub publish_return_timeout: Duration,
    /// How long a player waits for a stream that is not there.
    pub play_wait_timeout: Duration,
    /// How long a player may take nothing of what we send.
    pub send_timeout: Duration,
    /// Who may publish and play.
    pub security: Security,
    /// Where an edge pulls from; `None` at an origin.
    pub upstream: Option<Upstream>,
}

impl Vhost {
    /// How long a message may wait in the log for others to be sent with.
    #[must_use]
    pub fn flush_after(&self) -> Duration {
        if self.min_latency {
            Duration::ZERO
        } else {
            self.mw_latency
        }
    }
}

/// An edge's upstream side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// The origins as `host:port`, tried in turn.
    pub origins: Vec<String>,
    /// The vhost to ask for upstream, where it is not the viewer's.
    pub vhost: Option<String>,
    /// Whether the viewer's parameters travel upstream.
    pub token_traverse: bool,
    /// How long one connection attempt, with handshake and commands, may take.
    pub connect_timeout: Duration,
    /// How long a connected origin may be silent.
    pub read_timeout: Duration,
    /// How long an upstream connection is kept after the last player.
    pub linger: Duration,
}
