//! An answer on its way: HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};
use http_flv::answer::{CORS_FIELDS, SERVER, phrase};
use http_flv::request::Request;
use service_kit::sleep_until;
use tokio::time::{Instant, timeout};

use super::Connection;
use super::response::{Body, Response};
use crate::server::client::Client;
use crate::server::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT};
use crate::server::hls::SessionUse;
use crate::server::upgrade::Participant;
use crate::stream::{HlsLog, Stream};
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
    /// The connection may have further requests.
    pub(super) keep_alive: bool,
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

/// What is left of an answer.
#[derive(Debug)]
pub(super) struct Unsent {
    /// The head, and a body that is no segment.
    pub(super) bytes: Bytes,
    /// The rest of the body.
    pub(super) segment: Option<(Arc<HlsLog>, Range<u64>)>,
    /// The stream for which bytes are counted.
    pub(super) stream: Option<Arc<Stream>>,
    /// The viewer by HLS for whom they are counted.
    pub(super) viewer: Option<Arc<Client>>,
    /// Its session does not end meanwhile for want of requests.
    pub(super) _session: Option<SessionUse>,
    /// The connection may have further requests.
    pub(super) keep_alive: bool,
}

impl Unsent {
    /// All of `response`.
    pub(super) fn new(response: Response, delivery: Delivery) -> Self {
        let mut bytes = head(&response, delivery).into_bytes();
        let mut segment = None;
        match response.body {
            Body::Log(log, range) if !delivery.head_only => segment = Some((log, range)),
            Body::Text(text) if !delivery.head_only => bytes.extend_from_slice(&text),
            Body::Empty | Body::Text(_) | Body::Log(..) => {}
        }
        Self {
            bytes: bytes.into(),
            segment,
            stream: response.stream,
            viewer: response.session.as_ref().map(|it| it.client().clone()),
            _session: response.session,
            keep_alive: delivery.keep_alive,
        }
    }

    fn is_empty(&self) -> bool {
        let segment = self.segment.as_ref();
        self.bytes.is_empty() && segment.is_none_or(|(_, range)| range.is_empty())
    }

    /// Sends what the connection takes; the bytes sent. With nothing left, waits until all is
    /// with the kernel. May be dropped: nothing is sent then.
    ///
    /// # Errors
    /// The connection is lost.
    async fn send(&self, socket: &mut Transport) -> io::Result<usize> {
        if self.is_empty() {
            socket.flush().await?;
            return Ok(0);
        }
        match &self.segment {
            None => poll_fn(|context| socket.poll_write(context, &self.bytes)).await,
            // The head goes with what follows. What is not sent at once, for whatever reason,
            // is sent as any other bytes.
            Some(_) if !self.bytes.is_empty() => match socket.write_more(&self.bytes) {
                Ok(sent @ 1..) => Ok(sent),
                _ => poll_fn(|context| socket.poll_write(context, &self.bytes)).await,
            },
            Some((log, range)) => {
                let sending = socket.send_file(
                    range.end - range.start,
                    |socket| log.send(socket, range.start, range.end),
                    |bytes| log.read(range.start, bytes),
                );
                sending.await
            }
        }
    }

    /// So many bytes have been sent.
    fn advance(&mut self, sent: usize) {
        if let Some(viewer) = &self.viewer {
            viewer.meter.bytes.fetch_add(sent as u64, Ordering::Relaxed);
        }
        if let Some(stream) = &self.stream {
            stream.count_sent(sent as u64);
        }
        match &mut self.segment {
            Some((_, range)) if self.bytes.is_empty() => range.start += sent as u64,
            _ => self.bytes.advance(sent),
        }
    }
}

impl Connection {
    /// Sends an answer, and counts its bytes. An upgrade may come in between.
    ///
    /// # Errors
    /// The connection is lost, takes nothing for `idle_timeout`, or is dismissed and does not
    /// take the rest soon.
    pub(super) async fn send(
        &mut self,
        mut unsent: Unsent,
        participant: &Participant,
    ) -> Result<(), CloseReason> {
        let limit = self.server.config().idle_timeout;
        let stalled = |_| CloseReason::Stalled("send_timeout");
        // Once it is dismissed: an answer that the client reads is not cut.
        let mut deadline = None;
        loop {
            let is_flushing = unsent.is_empty();
            let sent = tokio::select! {
                biased;
                () = participant.frozen() => None,
                () = self.client.dismissal(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + GRACEFUL_CLOSE_TIMEOUT);
                    continue;
                }
                () = sleep_until(deadline) => return Err(CloseReason::Dismissed),
                sent = timeout(limit, unsent.send(&mut self.socket)) => Some(sent),
            };
            match sent {
                None => self.park(participant, Some(&unsent)).await,
                Some(sent) => {
                    let sent = sent.map_err(stalled)??;
                    if is_flushing {
                        return match deadline {
                            None => Ok(()),
                            Some(_) => Err(CloseReason::Dismissed),
                        };
                    }
                    let bytes = &self.client.meter.bytes;
                    bytes.fetch_add(sent as u64, Ordering::Relaxed);
                    unsent.advance(sent);
                }
            }
        }
    }
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
