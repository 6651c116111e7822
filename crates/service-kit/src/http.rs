//! An HTTP server with limits: a client that sends no request, or does not read the
//! answer, is disconnected, and the number of connections is bounded. Where all places are
//! taken, those that are asked nothing give way to who comes.

use std::future::ready;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Limits of an HTTP server.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Maximum number of connections. Beyond it, a new one takes the place of the one that
    /// has been without a request for longest.
    pub connections: usize,
    /// Time for a whole request header, and for an answer while somebody waits for a place.
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
/// Time that a connection keeps its place without a request, though others wait for one: a
/// request that has been sent is read meanwhile.
const MIN_IDLE: Duration = Duration::from_millis(100);

/// A connection that has a place.
#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    claim: Arc<Claim>,
}

/// A connection's claim to its place: the time from which on it gives way to another.
#[derive(Debug)]
struct Claim(Mutex<Instant>);

impl Claim {
    /// The claim of a connection without a request.
    fn new() -> Self {
        Self(Mutex::new(Instant::now() + MIN_IDLE))
    }

    fn renew(&self, duration: Duration) {
        *self.lock() = Instant::now() + duration;
    }

    fn until(&self) -> Instant {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The places of a server.
struct Places {
    free: Arc<Semaphore>,
    taken: Vec<Connection>,
}

impl Places {
    fn new(connections: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(connections)),
            taken: Vec::new(),
        }
    }

    /// A free place. If there is none, that of the connection whose claim ends first, as
    /// soon as it has ended.
    async fn obtain(&mut self) -> OwnedSemaphorePermit {
        loop {
            self.taken.retain(|it| !it.task.is_finished());
            let first = self.taken.iter().map(|it| it.claim.until()).min();
            let until = first.unwrap_or_else(Instant::now);
            if let Ok(place) = timeout_at(until, self.free.clone().acquire_owned()).await {
                return place.expect("the semaphore is never closed");
            }
            let now = Instant::now();
            let ended = self.taken.iter().position(|it| it.claim.until() <= now);
            if let Some(position) = ended {
                log::debug!("HTTP: a connection without a request gives way to another");
                self.taken.swap_remove(position).task.abort();
                let place = self.free.clone().acquire_owned().await;
                return place.expect("the semaphore is never closed");
            }
        }
    }
}

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
    let mut places = Places::new(limits.connections);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let place = places.obtain().await;
                let claim = Arc::new(Claim::new());
                let (router, held) = (router.clone(), claim.clone());
                let accepted = accept(stream);
                let served = tokio::spawn(async move {
                    match timeout(limits.header_timeout, accepted).await {
                        Ok(Ok(stream)) => answer(stream, router, limits, &held).await,
                        Ok(Err(error)) => log::debug!("HTTP: {error}"),
                        Err(_) => log::debug!("HTTP: a handshake took too long"),
                    }
                    drop(place);
                });
                let task = served.abort_handle();
                places.taken.push(Connection { task, claim });
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
    claim: &Claim,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        claim.renew(limits.header_timeout);
        let answer = router.call(request);
        async {
            let answer = answer.await;
            claim.renew(MIN_IDLE);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
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

    /// Limits that nobody reaches in a test, with so many places.
    fn places(connections: usize) -> ConnectionLimits {
        ConnectionLimits {
            connections,
            header_timeout: Duration::from_secs(3_600),
            connection_timeout: Duration::from_secs(3_600),
        }
    }

    async fn start(limits: ConnectionLimits) -> std::net::SocketAddr {
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/never", get(std::future::pending::<()>));
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

    /// Waits until the server has ended a connection.
    async fn ended(stream: &mut TcpStream) {
        let mut rest = Vec::new();
        // Reset, where something that it sent has not been read.
        let _ = stream.read_to_end(&mut rest).await;
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room_for_who_does() {
        let address = start(places(2)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTT").await.unwrap();
        for _ in 0..3 {
            let mut other = TcpStream::connect(address).await.unwrap();
            assert!(request(&mut other).await.ends_with("here"));
        }
        // The slow one has kept the place that nobody needed.
        ended(&mut silent).await;
        slow.write_all(b"P/1.0\r\n\r\n").await.unwrap();
        let mut text = String::new();
        slow.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("here"), "{text}");
    }

    #[tokio::test]
    async fn who_is_being_answered_keeps_its_place_before_who_asks_nothing() {
        let address = start(places(2)).await;
        let mut asking = TcpStream::connect(address).await.unwrap();
        let never = b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
        asking.write_all(never).await.unwrap();
        for _ in 0..3 {
            let mut silent = TcpStream::connect(address).await.unwrap();
            let mut other = TcpStream::connect(address).await.unwrap();
            assert!(request(&mut other).await.ends_with("here"));
            let _next = TcpStream::connect(address).await.unwrap();
            ended(&mut silent).await;
        }
        let mut byte = [0];
        let still_open = asking.try_read(&mut byte).unwrap_err();
        assert_eq!(still_open.kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn who_sends_no_whole_request_does_not_stay() {
        let address = start(ConnectionLimits {
            header_timeout: Duration::from_millis(50),
            ..places(2)
        })
        .await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTT").await.unwrap();
        ended(&mut silent).await;
        ended(&mut slow).await;
    }

    #[tokio::test]
    async fn nobody_stays_for_ever() {
        let address = start(ConnectionLimits {
            connection_timeout: Duration::from_millis(50),
            ..places(1)
        })
        .await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        ended(&mut silent).await;
    }
}
