//! HLS and low-latency HLS: requests for playlists, parts and segments, and the sessions
//! that make one viewer of them.
//!
//! A request's way: [`Asked::parse`] → [`answer`] → `sessions` (who asks, and may they?) →
//! `packagers` (the stream's segments, made from the first request on) → the playlist, once
//! it has what is asked for, or a range of the log of segments.

mod asked;
mod files;
mod packagers;
mod part;
mod playlists;
mod sessions;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use hls::playlist::{Found, Resource};
use hls::segmenter::Container;
use http_flv::request::Method;

use super::client::Client;
use super::http::response::{Body, Response};
use super::http::wanted::{Refusal, Wanted};
use super::line_limit::{self, LineLimit};
use super::{EventKind, Server};
use crate::stream::HlsOutput;
use asked::Target;
pub(super) use asked::{Asked, NewToken};
use files::FileWriter;
use packagers::Packagers;
pub(super) use part::HlsServerPart;
pub(super) use sessions::SessionUse;
use sessions::Sessions;

/// What a server knows of HLS.
#[derive(Debug, Default)]
pub(super) struct Hls {
    sessions: Sessions,
    packagers: Packagers,
    files: FileWriter,
    /// Of requests that are refused.
    refusal_lines: LineLimit,
}

/// Answers `asked`, which came over `connection`, once there is an answer.
pub(super) async fn answer(
    server: Arc<Server>,
    connection: Arc<Client>,
    asked: Box<Asked>,
) -> Response {
    if asked.request.method == Method::Options {
        return Response::options();
    }
    let answered = match asked.target {
        Target::Playlist => playlists::answer(&server, &connection, &asked).await,
        Target::Resource(resource) => answer_resource(&server, &connection, &asked, resource).await,
    };
    answered.unwrap_or_else(|refusal| {
        server.refusals.count(refusal.cause);
        let ip = Some(connection.peer.ip());
        server.events.record(EventKind::Refused, None, ip, &refusal);
        if server.hls.refusal_lines.admits(Instant::now()) {
            log::info!("{connection}: HLS of {}: refused: {refusal}", asked.name());
        }
        Response::refusal(refusal.status, &refusal.reason, refusal.hint.as_ref())
    })
}

/// Text of a refusal for want of a session.
const NO_SESSION: &str = "the session is missing: segments are asked for as playlists name them";

/// A segment, a part, an initialization section or a key.
async fn answer_resource(
    server: &Arc<Server>,
    connection: &Client,
    asked: &Asked,
    resource: Resource,
) -> Result<Response, Refusal> {
    let wanted = Box::new(asked.wanted(server, connection)?);
    let peer = connection.peer;
    let settings = &wanted.vhost.hls;
    let head_only = asked.request.method == Method::Head;
    let session = match (&asked.token, settings.ctx && settings.ts_ctx) {
        (Some(_), _) if settings.ctx && head_only => {
            check_head(server, peer, asked, &wanted)?;
            None
        }
        (Some(token), _) if settings.ctx => Some(
            server
                .hls
                .sessions
                .resume(server, peer, token, &wanted)
                .await?,
        ),
        (None, _) if settings.ctx && matches!(resource, Resource::Key(_)) => {
            return Err(Refusal::new(403, NO_SESSION));
        }
        (_, false) if settings.ctx => {
            wanted.check_address(peer.ip())?;
            None
        }
        (_, false) => {
            wanted.check_viewer(peer.ip())?;
            None
        }
        (_, true) => return Err(Refusal::new(403, NO_SESSION)),
    };
    let (stream, output) = match &session {
        Some(session) => {
            let stream = session.stream().clone();
            let output = packagers::obtain(server, &stream, &wanted.vhost).await?;
            (stream, output)
        }
        None => {
            let known = server.hls.packagers.find(server, &wanted.key);
            known.ok_or_else(|| Refusal::nobody_publishes(&wanted.key))?
        }
    };
    drop(wanted);
    let found = if head_only {
        output.find(resource)
    } else {
        output.touch();
        wait_for(&output, resource, session.as_ref()).await
    };
    let body = match found.ok_or_else(|| Refusal::not_found("there is no such segment"))? {
        Found::Bytes(bytes) => Body::Text(bytes),
        Found::Log(range) => Body::Log(output.log().clone(), range),
        Found::Later => return Err(Refusal::new(503, "the segment is not there yet")),
    };
    let kind = match output.container() {
        Container::Fmp4 => "video/mp4",
        Container::MpegTs => "video/mp2t",
    };
    // Six target durations, as Apple recommends.
    let max_age_s = 6 * output.target_duration().as_secs();
    let mut response = match resource {
        Resource::Key(_) => Response::secret(body),
        _ => Response::media(kind, max_age_s, body, asked.request.range),
    };
    response.session = session;
    response.stream = Some(stream);
    Ok(response)
}

/// Checks a request for a head, whose client does not play: hooks are not asked, and no
/// session begins.
fn check_head(
    server: &Server,
    peer: SocketAddr,
    asked: &Asked,
    wanted: &Wanted,
) -> Result<(), Refusal> {
    let token = asked.token.as_deref().filter(|_| wanted.vhost.hls.ctx);
    let is_known = token.map(|token| server.hls.sessions.is_known(peer, token, wanted));
    match is_known.transpose()? {
        Some(true) => wanted.check_address(peer.ip()),
        _ => wanted.check(server, peer.ip()),
    }
}

/// Waits for a part that the playlist announces, three target durations at most.
async fn wait_for(
    output: &HlsOutput,
    resource: Resource,
    session: Option<&SessionUse>,
) -> Option<Found> {
    let mut changes = output.changes();
    let deadline = tokio::time::Instant::now() + playlists::max_wait(output);
    loop {
        changes.borrow_and_update();
        let found = output.find(resource);
        if found != Some(Found::Later) || output.is_abandoned() {
            return found;
        }
        tokio::select! {
            biased;
            changed = changes.changed() => changed.ok()?,
            () = SessionUse::ended(session) => return None,
            () = tokio::time::sleep_until(deadline) => return found,
        }
    }
}

impl Hls {
    /// Ends sessions and packagers that nobody uses any more, and starts the packagers
    /// whose segments are written to files.
    pub(super) fn sweep(&self, server: &Arc<Server>) {
        self.sessions.sweep(server);
        self.packagers.sweep(server);
        if let Some(count) = self.refusal_lines.take_left_out(Instant::now()) {
            let seconds = line_limit::PERIOD.as_secs();
            log::info!("HLS: {count} more requests were refused within {seconds} s");
        }
    }

    /// Requests of the sessions of these viewers, whom answers under way go to.
    pub(super) fn use_again(&self, viewers: &HashSet<u64>) -> HashMap<u64, SessionUse> {
        self.sessions.use_again(viewers)
    }

    /// Ends the session of the client with this id, if it is one's.
    pub(super) fn dismiss(&self, server: &Server, id: u64) {
        self.sessions.dismiss(server, |client| client == id);
    }

    /// Removes the files of streams, unless they are to stay, as SRS does at its end.
    pub(super) async fn remove_files(&self) {
        self.files.remove_all();
        self.flush_files().await;
    }

    /// Waits until the files are written that are to be, or the disk takes too long.
    pub(super) async fn flush_files(&self) {
        self.files.flush().await;
    }

    /// Ends all sessions.
    pub(super) fn dismiss_all(&self, server: &Server) {
        self.sessions.dismiss(server, |_| true);
    }
}
