//! HTTP/2 (RFC 9113), where TLS has agreed on it (ALPN).
//!
//! Each request is answered by a connection of its own that speaks HTTP/1.1 within this
//! process, over a pair of sockets: so whatever is served there is served here, by the same
//! code, and each viewer is one client. What the answer's body is comes out of the pair into
//! DATA frames, as fast as the peer's window allows.
//!
//! ```text
//! Transport ◀─▶ hyper ─┬─ stream 1 ─▶ Exchange ◀─ pair ─▶ HTTP/1.1 connection, player
//!                      └─ stream 3 ─▶ Exchange ◀─ pair ─▶ HTTP/1.1 connection, player
//! ```
//!
//! WebSockets are not among it: a browser opens a connection by HTTP/1.1 for each.

mod body;
mod exchange;
mod io;

use std::convert::Infallible;
use std::error::Error;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::Server;
use super::client::Client;
use super::connection::close::{CloseReason, GRACEFUL_CLOSE_TIMEOUT};
use super::http::close::log_end;
use crate::transport::Transport;
use exchange::answer;
use io::BufferedTransport;

/// The most requests of a connection at a time, and the most connections within this process
/// that serve them.
const MAX_STREAMS: u32 = 64;
/// The most bytes of a request's header fields.
const MAX_HEADER_BYTES: u32 = 8 * 1024;
/// The most streams that a peer may reset before they are answered (CVE-2023-44487), and
/// that we reset for its mistakes. Then it is told to open another connection.
const MAX_RESETS: usize = 32;
/// The most bytes of a stream that wait for the peer's window.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// The most bytes that a peer may send of a stream, and of all, before we have read them.
/// Requests have no body.
const STREAM_WINDOW: u32 = 16 * 1024;
const CONNECTION_WINDOW: u32 = 64 * 1024;
/// Interval of the pings that find out if a peer is there, and the time for its answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until it ends.
pub(super) async fn serve(server: Arc<Server>, client: Arc<Client>, transport: Transport) {
    client.set_http2();
    let requests = watch::Sender::new(Requests::default());
    let places = Arc::new(Semaphore::new(MAX_STREAMS as usize));
    let service = {
        let (server, client, requests) = (server.clone(), client.clone(), requests.clone());
        service_fn(move |request| {
            let under_way = UnderWay::new(requests.clone(), places.clone());
            let answer = answer(server.clone(), client.clone(), request, under_way);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let io = TokioIo::new(BufferedTransport::new(transport, client.clone()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut ending = false;
    let reason = loop {
        let idle_limit = || match ending {
            true => GRACEFUL_CLOSE_TIMEOUT,
            false => server.config().idle_timeout,
        };
        tokio::select! {
            biased;
            ended = &mut connection => break match ended {
                Ok(()) => CloseReason::Closed,
                Err(error) if is_key_exhausted(&error) => CloseReason::KeyExhausted,
                Err(error) => CloseReason::Misbehaved(format!("HTTP/2: {error}")),
            },
            () = client.dismissal() => {
                connection.as_mut().graceful_shutdown();
                dismiss_requests(&server, &client);
                // An error does not matter: the connection ends anyway.
                let _ = timeout(GRACEFUL_CLOSE_TIMEOUT, &mut connection).await;
                break CloseReason::Dismissed;
            }
            () = too_many_given_up(requests.subscribe()), if !ending => {
                log::info!("{client}: HTTP/2: too many requests were given up: it gets no more");
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = idle(requests.subscribe(), idle_limit) => {
                if ending {
                    break CloseReason::TimedOut("idle_timeout");
                }
                // The peer is told, and has a moment to end it.
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    log_end(&server, &client, &reason);
}

/// True if the connection's TLS key may encrypt no more.
fn is_key_exhausted(error: &hyper::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|it| it.kind() == ErrorKind::QuotaExceeded) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Ends the requests of the connection of `client`.
fn dismiss_requests(server: &Server, client: &Client) {
    let clients = server.clients.list();
    for request in clients.iter().filter(|it| it.carrier() == Some(client.id)) {
        server.dismiss(request.id);
    }
}

/// Waits until so many requests have been given up that no more are taken.
async fn too_many_given_up(mut requests: watch::Receiver<Requests>) {
    // An error cannot be: the connection has the sender.
    let _ = requests.wait_for(Requests::are_too_many_given_up).await;
}

/// Waits until there has been no request for `limit`.
async fn idle(mut requests: watch::Receiver<Requests>, limit: impl Fn() -> Duration) {
    loop {
        // An error cannot be: the connection has the sender.
        let _ = requests.wait_for(|it| it.under_way == 0).await;
        match timeout(limit(), requests.wait_for(|it| it.under_way > 0)).await {
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// The requests of a connection.
#[derive(Debug, Default)]
struct Requests {
    /// Number of those whose answers are not sent.
    under_way: usize,
    /// Number of those that the peer gave up before they were answered.
    given_up: usize,
}

impl Requests {
    fn are_too_many_given_up(&self) -> bool {
        self.given_up > MAX_RESETS
    }
}

/// Counts a request until its answer is sent, or given up.
#[derive(Debug)]
struct UnderWay {
    requests: watch::Sender<Requests>,
    places: Arc<Semaphore>,
    answered: bool,
}

impl UnderWay {
    fn new(requests: watch::Sender<Requests>, places: Arc<Semaphore>) -> Self {
        requests.send_modify(|it| it.under_way += 1);
        Self {
            requests,
            places,
            answered: false,
        }
    }

    fn are_too_many_given_up(&self) -> bool {
        self.requests.borrow().are_too_many_given_up()
    }

    /// A place for a connection within this process, once there is one.
    async fn place(&self) -> OwnedSemaphorePermit {
        let place = self.places.clone().acquire_owned().await;
        place.expect("nobody closes the semaphore")
    }

    /// The answer's head is there.
    fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.requests.send_modify(|it| {
            it.under_way -= 1;
            it.given_up += usize::from(!self.answered);
        });
    }
}
