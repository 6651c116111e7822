//! HTTP/1.1 connections: requests for HLS are answered one after another, a request for
//! HTTP-FLV or WebSocket-FLV makes the connection a player.
//!
//! ```text
//! accept ──▶ request head ──────────▶ HTTP-FLV: checks, wait ──▶ fan-out worker
//!               │   ▲   │                        │                      │
//!               │   │   └▶ HLS: answer ──┐       │ refusal              │
//!               │   └────────────────────┤       ▼                      ▼
//!               └────────────────────────┴──▶ graceful close ◀──────────┘
//! ```

pub(super) mod close;
mod part;
pub(super) mod response;
mod send;
pub(super) mod wanted;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes, BytesMut};
use http_flv::answer::Answers;
use http_flv::request::{self, MAX_HEAD_BYTES, Method, Request};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::Server;
use super::client::{Activity, Client};
use super::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT};
use super::hls;
use super::http_flv::Play;
use super::socket::close_gracefully;
use super::upgrade::{Participant, TaskParts};
use crate::stream::FlvLog;
use crate::transport::Transport;
use close::log_end;
pub(super) use part::HttpPart;
use response::Response;
use send::{ConnectionField, Delivery, Unsent};
use wanted::Refusal;

/// Bytes read at once.
const READ_SIZE: usize = 4 * 1024;

/// Reason why a connection ends before it plays.
#[derive(Debug)]
pub(super) enum NoStream {
    /// The answer to `HEAD` or `OPTIONS`.
    Answered(String),
    /// A refusal.
    Refused(Refusal),
    /// The connection ends without an answer.
    Ended(CloseReason),
}

impl From<Refusal> for NoStream {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CloseReason> for NoStream {
    fn from(reason: CloseReason) -> Self {
        Self::Ended(reason)
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
    let answer = answers(server).refusal(503, "too many connections", None, false);
    tokio::spawn(async move {
        let closing = close_gracefully(&mut socket, answer.as_bytes());
        let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
        drop(permit);
    });
}

pub(super) fn answers(server: &Server) -> Answers {
    let config = server.config();
    let http_server = config.http_server.as_ref();
    Answers {
        crossdomain: http_server.is_some_and(|it| it.crossdomain),
    }
}

/// A connection until it plays or ends.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    pub(super) client: Arc<Client>,
    pub(super) socket: Transport,
    /// Bytes that came and have not been parsed: further requests.
    input: BytesMut,
    /// The head of the request that is being answered.
    head: Bytes,
    /// The session that begins with it.
    new_token: hls::NewToken,
    /// A request for HLS has been answered.
    has_answered: bool,
    /// What is left of an answer that the program before has begun.
    unsent: Option<Unsent>,
    /// A play that waits for its stream since the program before.
    waiting: Option<Box<Play>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>, socket: Transport) -> Self {
        Self {
            server,
            client,
            socket,
            input: BytesMut::new(),
            head: Bytes::new(),
            new_token: hls::NewToken::default(),
            has_answered: false,
            unsent: None,
            waiting: None,
        }
    }

    /// Serves the connection until it plays or ends.
    pub(super) async fn run(mut self: Box<Self>) {
        let mut head_only = false;
        let participant = self.server.safepoint.join();
        let ended = match self.answer(&mut head_only, &participant).await {
            Ok((play, log)) => {
                play.hand_to_worker(log, *self);
                return;
            }
            Err(no_stream) => no_stream,
        };
        drop(participant);
        self.client.set_activity(Activity::Idle);
        let answers = answers(&self.server);
        let (out, reason) = match ended {
            NoStream::Answered(answer) => (answer, CloseReason::Answered),
            NoStream::Refused(refusal) => {
                let Refusal {
                    status,
                    reason,
                    hint,
                    ..
                } = &refusal;
                let answer = answers.refusal(*status, reason, hint.as_ref(), head_only);
                (answer, CloseReason::RefusedOverHttp(refusal))
            }
            // The viewer's session has the line in the log.
            NoStream::Ended(CloseReason::Closed | CloseReason::Lost(_)) if self.has_answered => {
                (String::new(), CloseReason::AnsweredHls)
            }
            NoStream::Ended(reason) => (String::new(), reason),
        };
        let sent = &self.client.meter.bytes;
        sent.fetch_add(out.len() as u64, Ordering::Relaxed);
        if !out.is_empty() || matches!(reason, CloseReason::AnsweredHls) {
            let closing = close_gracefully(&mut self.socket, out.as_bytes());
            let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, closing).await;
        }
        log_end(&self.server, &self.client, &reason);
    }

    /// Answers requests for HLS until another comes. Returns the play that it asks for once
    /// there is something to play, with the log to play.
    async fn answer(
        &mut self,
        head_only: &mut bool,
        participant: &Participant,
    ) -> Result<(Box<Play>, FlvLog), NoStream> {
        let mut play = match self.waiting.take() {
            Some(play) => play,
            None => {
                let request = self.answer_requests(participant).await?;
                *head_only = request.method == Method::Head;
                if request.method == Method::Options {
                    return Err(NoStream::Answered(answers(&self.server).options()));
                }
                // Whichever program goes on answers the request.
                let mut asked = Box::pin(self.request_play(request));
                let write = |parts: &mut TaskParts| self.write_down(parts, None, None);
                participant.follow(asked.as_mut(), write).await?
            }
        };
        let waited = Box::pin(self.wait(&mut play, participant)).await;
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

    /// Answers requests for HLS until another comes, which is returned.
    async fn answer_requests(
        &mut self,
        participant: &Participant,
    ) -> Result<Box<Request>, NoStream> {
        let mut keep_alive = true;
        if let Some(unsent) = self.unsent.take() {
            keep_alive = unsent.keep_alive;
            Box::pin(self.send(unsent, participant)).await?;
        }
        while keep_alive {
            let request = self.read_head(participant).await?;
            keep_alive = request.keep_alive;
            match hls::Asked::parse(&self.server, request) {
                // Boxed: what waits makes a large future, and few connections wait at a
                // time for anything but a request.
                Ok(asked) => Box::pin(self.answer_hls(asked, participant)).await?,
                Err(other) => return Ok(other),
            }
        }
        Err(NoStream::Ended(CloseReason::AnsweredHls))
    }

    /// Answers a request for HLS, once there is an answer.
    async fn answer_hls(
        &mut self,
        asked: Box<hls::Asked>,
        participant: &Participant,
    ) -> Result<(), CloseReason> {
        let delivery = Delivery {
            head_only: asked.request.method == Method::Head,
            connection: ConnectionField::of_answer_to(&asked.request),
            crossdomain: answers(&self.server).crossdomain,
            keep_alive: asked.request.keep_alive,
        };
        let response = {
            let (server, client) = (self.server.clone(), self.client.clone());
            // Boxed, and gone when it is answered: those that wait for what comes next are
            // most of all.
            let asked = asked.beginning(self.new_token.clone());
            let answer = Box::pin(hls::answer(server, client, asked));
            self.while_connected(answer, participant).await?
        };
        self.has_answered = true;
        self.head = Bytes::new();
        self.new_token = hls::NewToken::default();
        self.send(Unsent::new(response, delivery), participant)
            .await
    }

    /// Waits for an answer while the client is there. What it sends meanwhile is kept, as
    /// much as a head may have.
    async fn while_connected(
        &mut self,
        mut answer: Pin<Box<impl Future<Output = Response>>>,
        participant: &Participant,
    ) -> Result<Response, CloseReason> {
        let client = self.client.clone();
        loop {
            let room = self.input.len() < MAX_HEAD_BYTES;
            tokio::select! {
                biased;
                // Whichever program goes on answers the request.
                () = participant.frozen() => self.park(participant, None).await,
                response = &mut answer => return Ok(response),
                () = client.dismissal() => return Err(CloseReason::Dismissed),
                read = self.read(), if room => read?,
            }
        }
    }

    /// Reads a request's head: the first one within `handshake_timeout`, others within that
    /// time after their first byte, which may take `idle_timeout`.
    async fn read_head(&mut self, participant: &Participant) -> Result<Box<Request>, NoStream> {
        let config = self.server.config();
        let mut directive = "handshake_timeout";
        let mut deadline = Instant::now() + config.handshake_timeout;
        let mut idle = self.has_answered && self.input.is_empty();
        if idle {
            directive = "idle_timeout";
            deadline = Instant::now() + config.idle_timeout;
        }
        let mut parsed = 0;
        loop {
            if idle && !self.input.is_empty() {
                idle = false;
                directive = "handshake_timeout";
                deadline = Instant::now() + config.handshake_timeout;
            }
            // A head ends with a line: one that comes byte by byte is not parsed for each.
            // The first bytes tell what is no HTTP.
            let may_end = parsed == 0 || self.input[parsed..].contains(&b'\n');
            if may_end || self.input.len() >= MAX_HEAD_BYTES {
                match request::parse(&self.input) {
                    Ok(Some(request)) => {
                        self.head = Bytes::copy_from_slice(&self.input[..request.head_bytes]);
                        self.input.advance(request.head_bytes);
                        return Ok(Box::new(request));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        return Err(Refusal::new(error.status(), error.to_string()).into());
                    }
                }
            }
            parsed = self.input.len();
            let client = self.client.clone();
            tokio::select! {
                biased;
                () = participant.frozen() => self.park(participant, None).await,
                () = client.dismissal() => {
                    return Err(NoStream::Ended(CloseReason::Dismissed));
                }
                read = self.read() => read?,
                () = tokio::time::sleep_until(deadline) => {
                    if self.input.is_empty() {
                        return Err(NoStream::Ended(CloseReason::TimedOut(directive)));
                    }
                    let reason = "no whole request within the handshake_timeout";
                    return Err(Refusal::new(408, reason).into());
                }
            }
        }
    }

    /// Reads what comes to the end of the input.
    pub(super) async fn read(&mut self) -> Result<(), CloseReason> {
        let Self { socket, input, .. } = self;
        let read = poll_fn(|context| {
            let read = socket.poll_read(context, READ_SIZE, input);
            if read.is_pending() && input.is_empty() {
                // Most connections wait most of the time: they hold no buffer meanwhile.
                *input = BytesMut::new();
            }
            read
        });
        match read.await? {
            0 => Err(CloseReason::Closed),
            count => {
                let received = &self.client.received;
                received.fetch_add(count as u64, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Reads and ignores what comes.
    pub(super) async fn read_and_ignore(&mut self) -> Result<(), CloseReason> {
        self.read().await?;
        self.input.clear();
        Ok(())
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

    /// Size in bytes of what `answer` returns.
    fn size_of_answer<F>(_: fn(Arc<Server>, Arc<Client>, Box<hls::Asked>) -> F) -> usize {
        size_of::<F>()
    }

    /// Viewers of low-latency HLS have a request that waits most of the time.
    #[test]
    fn a_request_that_waits_is_small() {
        let size = size_of_answer(hls::answer);
        assert!(size <= 1_024, "{size} bytes");
    }
}
