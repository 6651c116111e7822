//! HTTP-FLV and WebSocket-FLV: a request is answered with a stream, or refused.
//!
//! ```text
//! accept ──▶ request head ──▶ checks, hooks ──▶ wait for the stream ──▶ fan-out worker
//!                 │                 │                    │                    │
//!                 └────── refusal ──┴────────────────────┘                    ▼
//!                            └───────────────────────────────────▶ graceful close
//! ```

mod close;
mod play;
mod player;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use http_flv::answer::Answers;
use http_flv::request::{self, MAX_HEAD_BYTES, Method, Request};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Server;
use super::clients::{Activity, Client};
use super::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT};
use super::socket::close_gracefully;
use crate::stream::FlvLog;
use crate::transport::Transport;
pub(super) use close::log_end;
use play::Play;
pub(super) use player::FlvPlayer;

/// Bytes read at once.
const READ_SIZE: usize = 4 * 1024;

/// Reason why no stream is sent.
#[derive(Debug)]
enum NoStream {
    /// The answer to `HEAD` or `OPTIONS`.
    Answered(String),
    /// A refusal with this status and text.
    Refused(u16, String),
    /// The connection ends without an answer.
    Ended(CloseReason),
}

impl From<(u16, &str)> for NoStream {
    fn from((status, reason): (u16, &str)) -> Self {
        Self::Refused(status, reason.to_owned())
    }
}

/// The most clients at a time that are told that `max_connections` is reached. Others are
/// closed without an answer: these connections are beyond the limit.
static REFUSALS: Semaphore = Semaphore::const_new(64);

/// Tells a client that `max_connections` is reached, and closes the connection.
pub(super) fn refuse(server: &Server, mut socket: Transport) {
    let Ok(permit) = REFUSALS.try_acquire() else {
        return;
    };
    let answer = answers(server).refusal(503, "too many connections", false);
    tokio::spawn(async move {
        let closing = close_gracefully(&mut socket, answer.as_bytes());
        let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
        drop(permit);
    });
}

fn answers(server: &Server) -> Answers {
    let config = server.config();
    let http_server = config.http_server.as_ref();
    Answers {
        crossdomain: http_server.is_some_and(|it| it.crossdomain),
    }
}

/// A connection until it plays or ends.
pub(super) struct Connection {
    server: Arc<Server>,
    client: Arc<Client>,
    socket: Transport,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>, socket: Transport) -> Self {
        Self {
            server,
            client,
            socket,
        }
    }

    /// Serves the connection until it plays or ends.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut head_only = false;
        let ended = match self.answer(&mut head_only).await {
            Ok((play, log)) => {
                play.hand_to_worker(log, *self);
                return;
            }
            Err(no_stream) => no_stream,
        };
        self.client.set_activity(Activity::Idle);
        let answers = answers(&self.server);
        let (out, reason) = match ended {
            NoStream::Answered(answer) => (answer, CloseReason::Answered),
            NoStream::Refused(status, reason) => {
                let answer = answers.refusal(status, &reason, head_only);
                (answer, CloseReason::RefusedOverHttp(status, reason))
            }
            NoStream::Ended(reason) => (String::new(), reason),
        };
        if !out.is_empty() {
            let sent = &self.client.meter.bytes;
            sent.fetch_add(out.len() as u64, Ordering::Relaxed);
            let closing = close_gracefully(&mut self.socket, out.as_bytes());
            let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
        }
        log_end(&self.server, &self.client, &reason);
    }

    /// Reads the request, and returns the play that it asks for once there is something
    /// to play, with the log to play.
    async fn answer(&mut self, head_only: &mut bool) -> Result<(Box<Play>, FlvLog), NoStream> {
        let request = self.read_head().await?;
        *head_only = request.method == Method::Head;
        if request.method == Method::Options {
            return Err(NoStream::Answered(answers(&self.server).options()));
        }
        // Boxed: requests to web servers and origins make a large future, and few
        // connections wait for one at a time.
        let mut play = Box::pin(self.request_play(request)).await?;
        let waited = self.wait(&mut play).await;
        let log = match waited {
            Ok(()) => play.flv_log().await,
            Err(no_stream) => Err(no_stream),
        };
        match log {
            Ok(log) => Ok((play, log)),
            Err(no_stream) => {
                play.notify_stop(self);
                Err(no_stream)
            }
        }
    }

    /// Reads the request's head, within `handshake_timeout`.
    async fn read_head(&mut self) -> Result<Request, NoStream> {
        let deadline = Instant::now() + self.server.config().handshake_timeout;
        let mut head = BytesMut::new();
        let mut parsed = 0;
        loop {
            // A head ends with a line: one that comes byte by byte is not parsed for each.
            // The first bytes tell what is no HTTP.
            let may_end = parsed == 0 || head[parsed..].contains(&b'\n');
            if may_end || head.len() >= MAX_HEAD_BYTES {
                match request::parse(&head) {
                    Ok(Some(request)) => return Ok(request),
                    Ok(None) => {}
                    Err(error) => return Err(NoStream::Refused(error.status(), error.to_string())),
                }
            }
            parsed = head.len();
            tokio::select! {
                biased;
                () = self.client.dismissal() => {
                    return Err(NoStream::Ended(CloseReason::Dismissed));
                }
                read = read(&mut self.socket, &self.client, &mut head) => read?,
                () = tokio::time::sleep_until(deadline) => {
                    if head.is_empty() {
                        let reason = CloseReason::TimedOut("handshake_timeout");
                        return Err(NoStream::Ended(reason));
                    }
                    return Err((408, "no whole request within the handshake_timeout").into());
                }
            }
        }
    }
}

/// Reads what comes from `client` to the end of `input`.
async fn read(
    socket: &mut Transport,
    client: &Client,
    input: &mut BytesMut,
) -> Result<(), NoStream> {
    match socket.read(READ_SIZE, input).await {
        Ok(0) => Err(NoStream::Ended(CloseReason::Closed)),
        Ok(count) => {
            client.received.fetch_add(count as u64, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(NoStream::Ended(CloseReason::Lost(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size in bytes of the task that runs `future`.
    fn size_of_task<F>(_: fn(Box<Connection>) -> F) -> usize {
        size_of::<F>()
    }

    /// As for RTMP: thousands join within a second.
    #[test]
    fn a_connections_task_is_small() {
        let size = size_of_task(Connection::run);
        assert!(size <= 1_024, "{size} bytes");
    }
}
