//! `HTTP_GET` and `SSL_GET`: the right pages come.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lb_wire::http::request as get;
pub use lb_wire::page::Page;
use lb_wire::page::Response;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::machine::ProbeOutcome;
use super::tcp::{self, Connection};
use super::tls;

/// A check of one or more pages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// The server's address; the time limit is also that of each page.
    pub connection: Connection,
    /// True if TLS is spoken; certificates are not verified, as keepalived does.
    pub tls: bool,
    /// True if TLS names the virtual host (`enable_sni`).
    pub server_name: bool,
    /// The pages; every one must be right.
    pub pages: Vec<Page>,
}

impl HealthCheck for HttpProbe {
    fn check(&self) -> BoxFuture<'_, ProbeOutcome> {
        Box::pin(check(self))
    }

    fn max_duration(&self) -> Duration {
        let pages = u32::try_from(self.pages.len()).unwrap_or(u32::MAX);
        self.connection.max_duration().saturating_mul(pages)
    }
}

impl fmt::Display for HttpProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.tls { "SSL_GET" } else { "HTTP_GET" };
        write!(f, "{name} {}", self.connection.to)
    }
}

/// Requests every page in turn.
async fn check(probe: &HttpProbe) -> ProbeOutcome {
    for page in &probe.pages {
        let limit = probe.connection.timeout;
        let stream = match tcp::connect(&probe.connection).await {
            Err(outcome) => return outcome,
            Ok(stream) => stream,
        };
        let mut response = Response::default();
        let outcome = timeout(limit, async {
            if probe.tls {
                let name = page.virtual_host.as_deref().filter(|_| probe.server_name);
                let stream = tls::connect(stream, name, probe.connection.to.ip()).await?;
                request(stream, page, probe, &mut response).await
            } else {
                request(stream, page, probe, &mut response).await
            }
        });
        let judgement = match outcome.await {
            Ok(Ok(())) => response.judge(page),
            Ok(Err(reason)) => Err(reason),
            // Its end is not awaited for its own sake: a live stream has none.
            Err(_) if response.has_head() && !page.needs_body() => response.judge(page),
            Err(_) => Err(format!("no answer within {} s", limit.as_secs_f64())),
        };
        if let Err(reason) = judgement {
            return ProbeOutcome::Failure(format!("{}: {reason}", page.path));
        }
    }
    ProbeOutcome::Success
}

/// Requests a page, and reads the response as far as it matters.
///
/// # Errors
/// The connection breaks before anything has come, or what comes is no response.
async fn request(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    page: &Page,
    probe: &HttpProbe,
    response: &mut Response,
) -> Result<(), String> {
    let address = probe.connection.to.to_string();
    let host = page.virtual_host.as_deref().unwrap_or(&address);
    let request = get(&page.path, host);
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| tcp::reason(&error))?;
    let mut some = vec![0; 16 * 1024];
    while !response.is_enough_for(page) {
        match stream.read(&mut some).await {
            Ok(0) => break,
            Ok(length) => response.take(&some[..length], page)?,
            // TLS servers often leave without taking leave; what came may do.
            Err(_) if response.has_begun() => break,
            Err(error) => return Err(tcp::reason(&error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        Page {
            path: "/x".to_owned(),
            virtual_host: None,
            status_codes: vec![(200, 299)],
            digest: None,
            regex: None,
        }
    }

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nhello\n";

    /// The outcome of a check of a server that answers so, and leaves the connection
    /// open.
    async fn checked(answer: &'static [u8], page: Page, timeout_ms: u64) -> ProbeOutcome {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a listener");
        let connection = Connection {
            to: listener.local_addr().expect("its address"),
            from: None,
            timeout: Duration::from_millis(timeout_ms),
        };
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let mut request = [0; 1024];
            let asked = stream.read(&mut request).await.expect("the request");
            assert_ne!(asked, 0, "the request");
            for part in answer.chunks(10) {
                stream.write_all(part).await.expect("written");
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        });
        check(&HttpProbe {
            connection,
            tls: false,
            server_name: false,
            pages: vec![page],
        })
        .await
    }

    #[tokio::test]
    async fn the_end_of_a_body_is_where_the_server_says_or_does_not_matter() {
        let hello = || Page {
            regex: Some(("^hello$".to_owned(), true)),
            ..page()
        };
        let late = ProbeOutcome::Failure("/x: no answer within 0.2 s".to_owned());
        let said = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let not_said = b"HTTP/1.1 200 OK\r\n\r\nhello";
        let wrong = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(checked(said, hello(), 60_000).await, ProbeOutcome::Success);
        assert_eq!(checked(not_said, hello(), 200).await, late);
        assert_eq!(
            checked(not_said, page(), 5_000).await,
            ProbeOutcome::Success
        );
        assert_eq!(checked(b"HTTP/1.1 200 OK\r\n", page(), 200).await, late);
        assert_eq!(
            checked(wrong, page(), 60_000).await,
            ProbeOutcome::Failure("/x: status 404".to_owned())
        );
    }

    #[tokio::test]
    async fn the_virtual_host_is_asked_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a listener");
        let to = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the check's connection");
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.expect("the request");
            stream.write_all(RESPONSE).await.expect("written");
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let connection = Connection {
            to,
            from: None,
            timeout: Duration::from_secs(5),
        };
        let page = Page {
            virtual_host: Some("www.example".to_owned()),
            ..page()
        };
        let probe = HttpProbe {
            connection,
            tls: false,
            server_name: false,
            pages: vec![page],
        };
        assert_eq!(check(&probe).await, ProbeOutcome::Success);
        let request = server.await.expect("the server has run");
        assert!(request.starts_with("GET /x HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nHost: www.example\r\n"), "{request}");
    }
}
