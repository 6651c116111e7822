//! An HTTP server with limits: a client that sends no request, or does not read the
//! answer, is disconnected, and the number of connections is bounded.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Limits of an HTTP server.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum number of connections; further ones wait unaccepted.
    pub connections: usize,
    /// Time for a whole request header.
    pub header_timeout: Duration,
    /// Time that a connection may be open.
    pub connection_timeout: Duration,
}

/// Limits for operators and their monitoring.
pub const DEFAULT_LIMITS: ConnectionLimits = ConnectionLimits {
    connections: 64,
    header_timeout: Duration::from_secs(10),
    connection_timeout: Duration::from_secs(120),
};

/// Pause after an accept has failed, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `router` at `listener` until the future is dropped. Connections that are
/// open then are served to their end.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits) {
    serve_over(listener, router, limits, |stream| ready(Ok(stream))).await;
}

/// [`serve`] over what `accept` makes of each connection, within `header_timeout`: TLS.
pub async fn serve_over<A, F, S>(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    accept: A,
) where
    A: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    loop {
        let permit = permits.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                let accepted = accept(stream);
                tokio::spawn(async move {
                    match timeout(limits.header_timeout, accepted).await {
                        Ok(Ok(stream)) => answer(stream, router, limits).await,
                        Ok(Err(error)) => log::debug!("HTTP: {error}"),
                        Err(_) => log::debug!("HTTP: a handshake took too long"),
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("HTTP: cannot accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: ConnectionLimits,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.connection_timeout, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::debug!("HTTP: {error}"),
        Err(_) => log::debug!("HTTP: a connection was open for too long"),
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(limits: ConnectionLimits) -> std::net::SocketAddr {
        let router = Router::new().route("/", get(|| async { "here" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, limits));
        address
    }

    /// Sends a request, and returns the whole answer.
    async fn request(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room_for_who_does() {
        let limits = ConnectionLimits {
            connections: 2,
            header_timeout: Duration::from_millis(50),
            connection_timeout: Duration::from_secs(60),
        };
        let address = start(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTT").await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(request(&mut third).await.ends_with("here"));
        for dropped in [&mut silent, &mut slow] {
            let mut rest = Vec::new();
            dropped.read_to_end(&mut rest).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nobody_stays_for_ever() {
        let limits = ConnectionLimits {
            connections: 1,
            header_timeout: Duration::from_secs(60),
            connection_timeout: Duration::from_millis(50),
        };
        let address = start(limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
