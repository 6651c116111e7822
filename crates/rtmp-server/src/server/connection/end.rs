//! Why connections end, what peers are told of it, and the log lines that say
//! so.

use std::io;
use std::sync::atomic::Ordering;

use log::Level;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{Status, StreamKey};

use super::{Connection, Engagement};
use crate::config::Vhost;
use crate::server::Server;
use crate::server::clients::{Client, StatsSnapshot};
use crate::server::hooks::ClientEvent;
use crate::server::player::ConnectInfo;
use crate::server::upstream::dial;
use crate::stream::AppendError;

/// What a client sends for its handshake: C0, C1 and C2 (RTMP 1.0 §5.2).
const HANDSHAKE_BYTES: u64 = 1 + 2 * 1536;

/// The code of what ends without being anybody's fault.
const FAILED: &str = "NetStream.Failed";
/// What those hear who are dismissed: by an operator, or as the server stops.
const DISMISSAL: &str = "the server ends the connection";

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the peer")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] rtmp_proto::session::SessionError),
    #[error("refused: {0}")]
    Refused(Status),
    #[error("limit exceeded: {0}")]
    TimedOut(&'static str),
    #[error("{0}")]
    Publishing(#[from] AppendError),
    #[error("the origin no longer takes it: {0}")]
    Forwarding(dial::End),
    #[error("{0}")]
    Misbehaved(String),
    #[error("no memory is left for its unfinished messages (`stream_memory`)")]
    NoMemory,
    #[error("took nothing for the send_timeout")]
    Stalled,
    #[error("the stream has ended")]
    StreamEnded,
    #[error("dismissed")]
    Dismissed,
}

impl Connection {
    /// Tells whoever publishes, or waits to play, why that comes to an end.
    pub(super) fn tell(&mut self, end: &End) {
        match &self.engagement {
            Engagement::Publishing { stream_id, .. } => {
                let status = match end {
                    End::Publishing(error @ AppendError::TakenOver) => {
                        Status::publish_bad_name(error.to_string())
                    }
                    End::Publishing(error) => Status::error(FAILED, error.to_string()),
                    End::TimedOut(limit) => {
                        Status::error(code::PUBLISH_IDLE, format!("nothing came for the {limit}"))
                    }
                    End::Dismissed => Status::error(FAILED, DISMISSAL),
                    End::NoMemory => Status::error(FAILED, end.to_string()),
                    _ => return,
                };
                self.session
                    .refuse_publish(*stream_id, &status, &mut self.out);
            }
            Engagement::Waiting { play, .. } if matches!(end, End::Dismissed) => {
                let status = Status::play_failed(DISMISSAL);
                self.session
                    .refuse_play(play.request.stream_id, &status, &mut self.out);
            }
            Engagement::None | Engagement::Waiting { .. } | Engagement::Playing(_) => {}
        }
    }

    /// The origin takes the stream no more: its publisher is told.
    pub(super) fn origin_lost(&mut self, end: dial::End) -> End {
        if let Engagement::Publishing {
            stream_id,
            superseded,
            ..
        } = &mut self.engagement
        {
            let status = match &end {
                dial::End::Rejected(status) => status.clone(),
                other => Status::error(FAILED, other.to_string()),
            };
            *superseded = status.code == code::PUBLISH_BAD_NAME;
            self.session
                .refuse_publish(*stream_id, &status, &mut self.out);
        }
        End::Forwarding(end)
    }

    /// Patience has ended.
    pub(super) fn expired(&mut self, limit: &'static str) -> End {
        if let Engagement::Waiting { play, .. } = &self.engagement {
            let key = play.subscription.stream().key();
            let status = Status::stream_not_found(format!("nobody publishes {key}"));
            self.session
                .refuse_play(play.request.stream_id, &status, &mut self.out);
            return End::Refused(status);
        }
        End::TimedOut(limit)
    }
}

/// The line that closes a play which began at `begun`.
pub(super) fn log_play(client: &Client, key: &StreamKey, begun: &StatsSnapshot, end: Option<&End>) {
    let why = end.map_or("ended by the player".to_owned(), ToString::to_string);
    let played = StatsSnapshot::of(client, std::time::Instant::now()).played_since(begun);
    log::info!("{client}: played {key}: {played}; {why}");
}

/// The line that closes a publish which began at `begun`.
pub(super) fn log_publish(client: &Client, key: &StreamKey, begun: &StatsSnapshot) {
    let published = StatsSnapshot::of(client, std::time::Instant::now()).published_since(begun);
    log::info!("{client}: published {key}: {published}");
}

/// The line that closes a connection; it is forgotten with it.
pub(super) fn log_end(
    server: &Server,
    client: &Client,
    vhost: Option<&Vhost>,
    connect_info: &ConnectInfo,
    end: &End,
) {
    let duration = client.age(std::time::Instant::now()).as_secs_f64();
    let received = client.received.load(Ordering::Relaxed);
    let sent = client.meter.bytes.load(Ordering::Relaxed);
    // Health checks connect and go, every few seconds.
    let probe = received < HANDSHAKE_BYTES && matches!(end, End::Closed | End::Lost(_));
    let level = if probe { Level::Debug } else { Level::Info };
    log::log!(
        level,
        "{client}: {end} ({duration:.1} s, {received} bytes in, {sent} out)"
    );
    if let Some(vhost) = vhost {
        let event = ClientEvent {
            action: "on_close",
            client,
            vhost,
            connect_info,
            totals: Some((sent, received)),
        };
        server.hooks.tell(&vhost.http_hooks.on_close, &event);
    }
    // A stop waits for the connections, then for what is to be told of them.
    server.clients.remove(client.id);
}
