//! An answer on its way: HTTP/1.1.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_flv::answer::{CORS_FIELDS, SERVER, phrase};
use http_flv::request::Request;
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
    /// What the answer says of the connection.
    pub(super) connection: ConnectionField,
    /// Pages of any site may read it.
    pub(super) crossdomain: bool,
    /// Time for which the peer may take nothing.
    pub(super) send_timeout: Duration,
}

/// `Connection` of an answer (RFC 9112 §9.3, §9.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionField {
    /// It stays, as it does in HTTP/1.1 where nobody says otherwise.
    Absent,
    /// It stays: a client of HTTP/1.0 asked for that, and waits for the word.
    KeepAlive,
    /// It ends.
    Close,
}

impl ConnectionField {
    pub(super) fn of_answer_to(request: &Request) -> Self {
        match (request.keep_alive, request.is_version_1_0) {
            (false, _) => Self::Close,
            (true, true) => Self::KeepAlive,
            (true, false) => Self::Absent,
        }
    }
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
        if let Some(stream) = &response.stream {
            stream.count_sent(bytes);
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
    head.push_str(match delivery.connection {
        ConnectionField::Absent => "",
        ConnectionField::KeepAlive => "Connection: keep-alive\r\n",
        ConnectionField::Close => "Connection: close\r\n",
    });
    head.push_str("\r\n");
    head
}
