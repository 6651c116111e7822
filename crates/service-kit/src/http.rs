//! An HTTP server that clients cannot hold up: who sends no request, or does not
//! take the answer, is dropped, and only so many are served at once.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// How patient a server is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Connections that are served at once; others wait unaccepted.
    pub connections: usize,
    /// How long a connection may be open without a whole request's header.
    pub header: Duration,
    /// How long a connection may be open.
    pub connection: Duration,
}

/// What serves operators and their monitoring well.
pub const PATIENCE: Patience = Patience {
    connections: 64,
    header: Duration::from_secs(10),
    connection: Duration::from_secs(120),
};

/// How long to wait after a connection could not be accepted: there are no
/// descriptors, perhaps.
const RECOVERY: Duration = Duration::from_secs(1);

/// Answers requests at `listener` until the future is dropped; connections that
/// are being answered end of themselves.
pub async fn serve(listener: TcpListener, router: Router, patience: Patience) {
    let places = Arc::new(Semaphore::new(patience.connections));
    loop {
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    answer(stream, router, patience).await;
                    drop(place);
                });
            }
            Err(error) => {
                log::warn!("HTTP: cannot accept a connection: {error}");
                sleep(RECOVERY).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router, patience: Patience) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.header)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(patience.connection, connection).await {
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

    async fn start(patience: Patience) -> std::net::SocketAddr {
        let router = Router::new().route("/", get(|| async { "here" }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, router, patience));
        address
    }

    /// Asks over a connection, and returns all that comes.
    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room_for_who_does() {
        let patience = Patience {
            connections: 2,
            header: Duration::from_millis(50),
            connection: Duration::from_secs(60),
        };
        let address = start(patience).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTT").await.unwrap();
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut third).await.ends_with("here"));
        for dropped in [&mut silent, &mut slow] {
            let mut rest = Vec::new();
            dropped.read_to_end(&mut rest).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nobody_stays_for_ever() {
        let patience = Patience {
            connections: 1,
            header: Duration::from_secs(60),
            connection: Duration::from_millis(50),
        };
        let address = start(patience).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}
