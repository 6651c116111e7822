//! The end of a connection: its reason, the status that the peer gets, and the
//! closing log lines.

use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::Level;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{Status, StreamKey};

use crate::config::Vhost;
use crate::server::client::{Client, StatsSnapshot};
use crate::server::hooks::ClientEvent;
use crate::server::http::wanted::Refusal;
use crate::server::player::ConnectInfo;
use crate::server::refusal::{RefusalReason, RefusedRequest};
use crate::server::upstream::OriginError;
use crate::server::{EventKind, Server};
use crate::stream::AppendError;
use crate::stream::fanout::Reason;
use crate::transport::handshake::HandshakeError;

/// Time for a peer to take the last status and to close.
pub(in crate::server) const GRACEFUL_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a client's whole handshake: C0, C1 and C2 (RTMP 1.0 §5.2).
const HANDSHAKE_BYTES: u64 = 1 + 2 * 1536;

/// Status code of an end that is nobody's fault.
pub(super) const FAILED: &str = "NetStream.Failed";
/// Status text of a connection that an operator, or the server's stop, ends.
pub(super) const DISMISSED: &str = "the server ends the connection";

/// Reason why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum CloseReason {
    #[error("closed by the peer")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] rtmp_proto::session::SessionError),
    #[error("refused: {0}")]
    Refused(RefusedRequest),
    #[error("refused: {0}")]
    RefusedOverHttp(Refusal),
    #[error("answered")]
    Answered,
    #[error("{0}")]
    Tls(#[from] HandshakeError),
    #[error("requests for HLS answered")]
    AnsweredHls,
    #[error("timed out: {0}")]
    TimedOut(&'static str),
    #[error("{0}")]
    Publishing(#[from] AppendError),
    #[error("forwarding to the origin failed: {0}")]
    Forwarding(OriginError),
    #[error("{0}")]
    Misbehaved(String),
    #[error("no memory is left for its unfinished messages (`stream_memory`)")]
    NoMemory,
    #[error("no data accepted within the {0}")]
    Stalled(&'static str),
    #[error("the stream has ended")]
    StreamEnded,
    #[error("no memory is left for the stream's log of FLV tags")]
    LogLost,
    #[error("its TLS key is used up: it may connect again")]
    KeyExhausted,
    #[error("no request any more")]
    NoRequest,
    #[error("dismissed")]
    Dismissed,
}

impl From<Reason> for CloseReason {
    /// The end of a connection whose player has left its worker for good.
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Asked | Reason::Closed => Self::Closed,
            Reason::Broken(kind) => Self::Lost(kind.into()),
            Reason::Misbehaved(why) => Self::Misbehaved(why),
            Reason::Stalled => Self::Stalled("send_timeout"),
            Reason::StreamEnded | Reason::Complete => Self::StreamEnded,
            Reason::LogLost => Self::LogLost,
            Reason::KeyExhausted => Self::KeyExhausted,
            Reason::Dismissed => Self::Dismissed,
        }
    }
}

impl CloseReason {
    /// True if neither side has ended the connection in an orderly way.
    pub(in crate::server) fn is_failure(&self) -> bool {
        !matches!(
            self,
            Self::Closed
                | Self::Answered
                | Self::AnsweredHls
                | Self::NoRequest
                | Self::StreamEnded
                | Self::Dismissed
        )
    }

    /// The reason why the client was refused, if it was.
    pub(in crate::server) fn refusal(&self) -> Option<RefusalReason> {
        match self {
            Self::Refused(refused) => Some(refused.reason),
            Self::RefusedOverHttp(refusal) => Some(refusal.cause),
            Self::NoMemory | Self::Publishing(AppendError::NoMemory) => Some(RefusalReason::Memory),
            _ => None,
        }
    }

    /// The status for a publisher. `None` if it is gone, or has its status
    /// already.
    pub(super) fn publisher_status(&self) -> Option<Status> {
        Some(match self {
            Self::Publishing(error @ AppendError::TakenOver) => {
                Status::publish_bad_name(error.to_string())
            }
            Self::Publishing(error) => Status::error(FAILED, error.to_string()),
            Self::TimedOut(directive) => Status::error(
                code::PUBLISH_IDLE,
                format!("nothing came for the {directive}"),
            ),
            Self::Dismissed => Status::error(FAILED, DISMISSED),
            Self::NoMemory => Status::error(FAILED, self.to_string()),
            _ => return None,
        })
    }
}

/// Logs the end of a play that began at `begun`.
pub(in crate::server) fn log_play(
    client: &Client,
    key: &StreamKey,
    begun: &StatsSnapshot,
    reason: Option<&CloseReason>,
) {
    let why = reason.map_or("ended by the player".to_owned(), ToString::to_string);
    let played = StatsSnapshot::of(client, Instant::now()).played_since(begun);
    log::info!("{client}: played {key}: {played}; {why}");
}

/// Logs the end of a publish that began at `begun`.
pub(in crate::server) fn log_publish(
    server: &Server,
    client: &Client,
    key: &StreamKey,
    begun: &StatsSnapshot,
) {
    let published = StatsSnapshot::of(client, Instant::now()).published_since(begun);
    log::info!("{client}: published {key}: {published}");
    let ip = Some(client.peer.ip());
    let events = server.events();
    events.record(EventKind::Unpublish, Some(key), ip, published);
}

/// Logs the end of a connection with its totals.
pub(in crate::server) fn log_totals(client: &Client, reason: &CloseReason, level: Level) {
    let duration = client.age(Instant::now()).as_secs_f64();
    let received = client.received.load(Ordering::Relaxed);
    let sent = client.meter.bytes.load(Ordering::Relaxed);
    log::log!(
        level,
        "{client}: {reason} ({duration:.1} s, {received} bytes in, {sent} out)"
    );
}

/// Logs the end of a connection, notifies `on_close`, and forgets the client.
pub(super) fn log_close(
    server: &Server,
    client: &Client,
    vhost: Option<&Vhost>,
    connect_info: &ConnectInfo,
    reason: &CloseReason,
) {
    let received = client.received.load(Ordering::Relaxed);
    let sent = client.meter.bytes.load(Ordering::Relaxed);
    // Health checks connect and close every few seconds: not at `info`.
    let probe =
        received < HANDSHAKE_BYTES && matches!(reason, CloseReason::Closed | CloseReason::Lost(_));
    let level = if probe { Level::Debug } else { Level::Info };
    log_totals(client, reason, level);
    if let Some(vhost) = vhost {
        let event = ClientEvent {
            action: "on_close",
            client,
            vhost,
            connect_info,
            totals: Some((sent, received)),
        };
        server.hooks.notify(&vhost.http_hooks.on_close, &event);
    }
    // Last: a stop waits until no client is left, then for the queued hooks.
    server.count_end(client, reason);
    server.clients.remove(client.id, reason.is_failure());
}
