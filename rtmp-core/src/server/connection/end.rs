//! Why connections end, and the log lines that say so.

use std::io;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::config::Vhost;
use crate::server::Server;
use crate::server::clients::Client;
use crate::server::hooks;
use crate::server::upstream::dial;
use crate::session::{Status, StreamKey};
use crate::stream::AppendError;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("closed by the peer")]
    Closed,
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    #[error("{0}")]
    Session(#[from] crate::session::SessionError),
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
    #[error("took nothing for the send_timeout")]
    Stalled,
    #[error("the stream has ended")]
    StreamOver,
    #[error("dismissed")]
    Dismissed,
}

/// The line that closes a play.
pub(super) fn log_play(client: &Client, key: &StreamKey, end: Option<&End>) {
    let why = end.map_or("ended by the player".to_owned(), ToString::to_string);
    let duration = client.age(std::time::Instant::now()).as_secs_f64();
    let bytes = client.meter.bytes.load(Ordering::Relaxed);
    let pictures = client.meter.pictures.load(Ordering::Relaxed);
    let skips = client.meter.skips.load(Ordering::Relaxed);
    log::info!(
        "{client}: played {key}: {duration:.1} s, {bytes} bytes, {pictures} frames, \
         {skips} skips; {why}"
    );
}

/// The line that closes a connection; it is forgotten with it.
pub(super) fn log_end(server: &Server, client: &Client, vhost: Option<&Vhost>, end: &End) {
    let duration = client.age(std::time::Instant::now()).as_secs_f64();
    let received = client.received.load(Ordering::Relaxed);
    let sent = client.meter.bytes.load(Ordering::Relaxed);
    log::info!("{client}: {end} ({duration:.1} s, {received} bytes in, {sent} out)");
    server.clients.remove(client.id);
    if let Some(vhost) = vhost {
        let key = StreamKey {
            vhost: vhost.name.clone(),
            app: String::new(),
            stream: String::new(),
        };
        let totals = json!({ "send_bytes": sent, "recv_bytes": received });
        let event = || hooks::event("on_close", client, &key, totals);
        hooks::tell(&vhost.http_hooks.on_close, event);
    }
}
