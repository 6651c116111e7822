//! An answer on its way: HTTP/1.1.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_flv::answer::{CORS_FIELDS, SERVER, phrase};
use tokio::time::timeout;

use super::response::{Body, Response};
use crate::server::client::Client;
use crate::server::connection::close::CloseReason;
use crate::server::hls::SessionUse;
use crate::transport::Transport;

/// The way in which an answer is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delivery {
    /// The request was `HEAD`: the body is left out.
    pub(super) head_only: bool,
    /// Further requests may follow.
    pub(super) keep_alive: bool,
    /// Pages of any site may read it.
    pub(super) crossdomain: bool,
    /// Time for which the peer may take nothing.
    pub(super) send_timeout: Duration,
}

/// Sends `response` over `socket`, and counts its bytes for `client` and the session.
///
/// # Errors
/// The connection is lost, or takes nothing.
pub(super) async fn send(
    socket: &mut Transport,
    client: &Client,
    response: Response,
    delivery: Delivery,
) -> Result<(), CloseReason> {
    let mut out = head(&response, delivery).into_bytes();
    let count = |bytes: u64| {
        let session = response.session.as_ref().map(SessionUse::client);
        for counted in [Some(client), session].into_iter().flatten() {
            counted.meter.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    };
    let body = match response.body {
        _ if delivery.head_only => Body::Empty,
        ref body => body.clone(),
    };
    let limit = delivery.send_timeout;
    let stalled = |_| CloseReason::Stalled("send_timeout");
    match body {
        Body::Empty => {}
        Body::Text(text) => out.extend_from_slice(&text),
        Body::Log(log, range) => {
            // What is not sent at once, for whatever reason, is sent below.
            let sent = socket.write_more(&out).unwrap_or(0);
            let rest = &out[sent..];
            if !rest.is_empty() {
                timeout(limit, socket.write_all(rest))
                    .await
                    .map_err(stalled)??;
            }
            count(out.len() as u64);
            let mut position = range.start;
            while position < range.end {
                let sending = socket.send_file(
                    range.end - position,
                    |socket| log.send(socket, position, range.end),
                    |bytes| log.read(position, bytes),
                );
                let sent = timeout(limit, sending).await.map_err(stalled)?? as u64;
                count(sent);
                position += sent;
            }
            timeout(limit, socket.flush()).await.map_err(stalled)??;
            return Ok(());
        }
    }
    timeout(limit, socket.write_all(&out))
        .await
        .map_err(stalled)??;
    count(out.len() as u64);
    Ok(())
}

/// The head of `response`.
fn head(response: &Response, delivery: Delivery) -> String {
    let status = response.status;
    let mut head = format!(
        "HTTP/1.1 {status} {}\r\nServer: {SERVER}\r\n",
        phrase(status)
    );
    let cors = CORS_FIELDS.iter().filter(|_| delivery.crossdomain);
    let fields = response
        .fields
        .iter()
        .map(|(name, value)| (*name, &**value));
    for (name, value) in fields.chain(cors.copied()) {
        head.extend([name, ": ", value, "\r\n"]);
    }
    // The length of a playlist is not known to `HEAD`, which does not have it made.
    let is_unknown = delivery.head_only && matches!(response.body, Body::Empty);
    if status != 204 && !is_unknown {
        head.push_str(&format!("Content-Length: {}\r\n", response.body.length()));
    }
    if !delivery.keep_alive {
        head.push_str("Connection: close\r\n");
    }
    head.push_str("\r\n");
    head
}
