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
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use super::Server;
use super::clients::Client;
use super::connection::close::CloseReason;
use super::http::close::log_end;
use crate::transport::Transport;
use exchange::answer;
use io::BufferedTransport;

/// The most requests of a connection at a time.
const MAX_STREAMS: u32 = 64;
/// The most bytes of a request's header fields.
const MAX_HEADER_BYTES: u32 = 8 * 1024;
/// The most streams that a peer may reset before they are answered (CVE-2023-44487), and
/// that we reset for its mistakes, until the connection ends.
const MAX_RESETS: usize = 32;
/// The most bytes of a stream that wait for the peer's window.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Interval of the pings that find out if a peer is there, and the time for its answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection until it ends.
pub(super) async fn serve(server: Arc<Server>, client: Arc<Client>, transport: Transport) {
    let requests = watch::Sender::new(0_usize);
    let service = {
        let (server, client, requests) = (server.clone(), client.clone(), requests.clone());
        service_fn(move |request| {
            let under_way = UnderWay::new(requests.clone());
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
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    tokio::pin!(connection);
    let mut ending = false;
    let reason = loop {
        let idle_timeout = server.config().idle_timeout;
        tokio::select! {
            biased;
            ended = &mut connection => break match ended {
                Ok(()) => CloseReason::Closed,
                Err(error) => CloseReason::Misbehaved(format!("HTTP/2: {error}")),
            },
            () = client.dismissal() => break CloseReason::Dismissed,
            () = idle(requests.subscribe(), idle_timeout) => {
                if ending {
                    break CloseReason::TimedOut("idle_timeout");
                }
                // The peer is told, and has the same time again to end it.
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    log_end(&server, &client, &reason);
}

/// Waits until there has been no request for `limit`.
async fn idle(mut requests: watch::Receiver<usize>, limit: Duration) {
    loop {
        // An error cannot be: the connection has the sender.
        let _ = requests.wait_for(|count| *count == 0).await;
        match tokio::time::timeout(limit, requests.wait_for(|count| *count > 0)).await {
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// Counts a request until its answer is sent, or given up.
#[derive(Debug)]
struct UnderWay(watch::Sender<usize>);

impl UnderWay {
    fn new(requests: watch::Sender<usize>) -> Self {
        requests.send_modify(|count| *count += 1);
        Self(requests)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
