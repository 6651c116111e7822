//! Playlists: the multivariant one that begins a session, and the media playlist, once it
//! has what is asked for.

use std::sync::Arc;
use std::time::Duration;

use hls::playlist::{BadReload, Reload};
use http_flv::request::Method;
use tokio::time::Instant;

use super::asked::Asked;
use super::sessions::SessionUse;
use super::{check_head, packagers};
use crate::config::Vhost;
use crate::server::Server;
use crate::server::client::Client;
use crate::server::http::response::{Body, Response};
use crate::server::http::wanted::{Refusal, StreamWait};
use crate::stream::{HlsOutput, Queries, Stream};
use crate::uri::encode_segment;

/// A blocking reload takes so many target durations at most (RFC 8216bis §6.2.5.2).
const MAX_WAIT_TARGETS: u32 = 3;

/// Answers a request for a playlist.
pub(super) async fn answer(
    server: &Arc<Server>,
    connection: &Client,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let wanted = Box::new(asked.wanted(server, connection)?);
    let peer = connection.peer;
    if asked.request.method == Method::Head {
        check_head(server, peer, asked, &wanted)?;
        let stream = server.registry.find(&wanted.key);
        let live = stream.is_some_and(|stream| stream.state().borrow().live);
        return match live || wanted.vhost.upstream.is_some() {
            true => Ok(Response::playlist(Body::Empty)),
            false => Err(Refusal::nobody_publishes(&wanted.key)),
        };
    }
    let first_wait = wanted.vhost.play_wait_timeout;
    let settings = &wanted.vhost.hls;
    if !settings.ctx {
        wanted.check(server, peer.ip())?;
        let packagers = &server.hls.packagers;
        let subscription = packagers.subscribe(server, &wanted);
        let stream = subscription.stream().clone();
        let output = Box::pin(playable(server, &stream, &wanted.vhost)).await?;
        output.touch();
        packagers.keep(subscription);
        let query = asked.query(None);
        let queries = Queries {
            segments: &query,
            keys: &query,
        };
        let text = media(&output, first_wait, asked, None, queries).await?;
        let mut response = Response::playlist(text);
        response.stream = Some(stream);
        return Ok(response);
    }
    let sessions = &server.hls.sessions;
    let (token, is_new) = match &asked.token {
        Some(token) => (token.clone(), false),
        None => (asked.new_token()?.to_owned(), true),
    };
    let session = match is_new {
        true => sessions.begin(server, peer, &token, &wanted).await?,
        false => sessions.resume(server, peer, &token, &wanted).await?,
    };
    let output = match session.stream().hls() {
        Some(output) => output,
        // Boxed, as few wait for the first segment at a time.
        None => {
            let playable = Box::pin(playable(server, session.stream(), &wanted.vhost));
            tokio::select! {
                biased;
                () = SessionUse::ended(Some(&session)) => return Err(SessionUse::dismissed()),
                output = playable => output?,
            }
        }
    };
    output.touch();
    session.playing();
    let text = if is_new {
        let uri = format!("{}{}", encoded_name(asked), asked.query(Some(&token)));
        Box::pin(multivariant(&output, first_wait, &uri, &session)).await?
    } else {
        let query = asked.query(Some(&token));
        let queries = Queries {
            segments: if settings.ts_ctx { &query } else { "" },
            keys: &query,
        };
        media(&output, first_wait, asked, Some(&session), queries).await?
    };
    let mut response = Response::playlist(text);
    response.stream = Some(session.stream().clone());
    response.session = Some(session);
    Ok(response)
}

/// The playlist's own name, as a relative URI.
fn encoded_name(asked: &Asked) -> String {
    encode_segment(asked.playlist_name())
}

/// The segments of `stream`, once it has something to play.
async fn playable(
    server: &Arc<Server>,
    stream: &Arc<Stream>,
    vhost: &Arc<Vhost>,
) -> Result<Arc<HlsOutput>, Refusal> {
    // What has been made of a stream is served when it has ended, too.
    if stream.hls().is_none() {
        let mut wait = StreamWait::new(stream, vhost);
        wait.until_live(server, stream, vhost).await?;
    }
    packagers::obtain(server, stream, vhost).await
}

/// Time for which a request for what comes next waits.
pub(super) fn max_wait(output: &HlsOutput) -> Duration {
    output.target_duration() * MAX_WAIT_TARGETS
}

/// Waits until `found` gives something: `first_wait` at least while there is nothing to
/// play.
async fn wait_until<T>(
    output: &HlsOutput,
    first_wait: Duration,
    session: Option<&SessionUse>,
    mut found: impl FnMut() -> Result<Option<T>, Refusal>,
) -> Result<T, Refusal> {
    let mut changes = output.changes();
    let limit = match output.is_ready() {
        true => max_wait(output),
        false => max_wait(output).max(first_wait),
    };
    let deadline = Instant::now() + limit;
    loop {
        changes.borrow_and_update();
        if let Some(found) = found()? {
            return Ok(found);
        }
        if output.is_abandoned() {
            return Err(Refusal::new(503, "the segments are made anew: ask again"));
        }
        tokio::select! {
            biased;
            // An error cannot be: the sender is the output's.
            _ = changes.changed() => {}
            () = SessionUse::ended(session) => return Err(SessionUse::dismissed()),
            () = tokio::time::sleep_until(deadline) => {
                return Err(Refusal::new(503, "the stream does not go on"));
            }
        }
    }
}

async fn multivariant(
    output: &HlsOutput,
    first_wait: Duration,
    uri: &str,
    session: &SessionUse,
) -> Result<Body, Refusal> {
    let text = wait_until(output, first_wait, Some(session), || {
        Ok(output.multivariant(uri))
    })
    .await?;
    Ok(Body::Text(text.into()))
}

async fn media(
    output: &HlsOutput,
    first_wait: Duration,
    asked: &Asked,
    session: Option<&SessionUse>,
    queries: Queries<'_>,
) -> Result<Body, Refusal> {
    // A viewer of another server, whose segments have other numbers, gets what there is.
    let goes_on = session.is_none_or(|session| !session.is_first());
    let asks = match output.settings().low_latency && goes_on {
        true => asked.reload()?,
        false => Reload::default(),
    };
    let skip = asked.skips() && goes_on;
    let text = wait_until(output, first_wait, session, || match output.answers(asks) {
        Ok(true) => Ok(output.media(skip)),
        Ok(false) => Ok(None),
        Err(BadReload::PartWithoutSegment) => Err(Refusal::new(400, "_HLS_part without _HLS_msn")),
        Err(BadReload::TooFarAhead) => {
            Err(Refusal::new(400, "_HLS_msn or _HLS_part is too far ahead"))
        }
    });
    Ok(Body::Text(text.await?.fill(queries)))
}
