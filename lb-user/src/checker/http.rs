//! `HTTP_GET` and `SSL_GET`: the right pages come.

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::health_check::HealthCheck;
use super::http_message::{self, Head};
use super::machine::ProbeOutcome;
use super::tcp::{self, Connection};
use super::tls;

/// Length of the longest body that is read where it matters, and where it does not: a
/// server that is left too soon may take that for a mistake, and a live stream has no end.
const MAX_BODY_BYTES: usize = 4 << 20;
const MAX_UNUSED_BODY_BYTES: usize = 64 * 1024;

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

/// A page, and the conditions for it to be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Page {
    /// Path with query.
    pub path: String,
    /// Value of the `Host` field.
    pub virtual_host: Option<String>,
    /// Ranges of status codes, ends included.
    pub status_codes: Vec<(u16, u16)>,
    /// MD5 of the body, in hexadecimal digits (genhash(1)).
    pub digest: Option<String>,
    /// A regular expression to look for in the body, and whether finding it is
    /// right.
    pub regex: Option<(String, bool)>,
}

impl Page {
    /// True if more than the status matters.
    fn needs_body(&self) -> bool {
        self.digest.is_some() || self.regex.is_some()
    }
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
            Err(_) if response.head.is_some() && !page.needs_body() => response.judge(page),
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
    let request = http_message::request(&page.path, host);
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

/// A response, as far as it has come.
#[derive(Debug, Default)]
struct Response {
    /// The header, while it is not whole; then the body, if that matters.
    bytes: Vec<u8>,
    head: Option<Head>,
    body_bytes: usize,
}

impl Response {
    fn has_begun(&self) -> bool {
        self.head.is_some() || !self.bytes.is_empty()
    }

    fn is_enough_for(&self, page: &Page) -> bool {
        let most = match page.needs_body() {
            true => MAX_BODY_BYTES,
            false => MAX_UNUSED_BODY_BYTES,
        };
        self.head.as_ref().is_some_and(|head| {
            let length = head.content_length.unwrap_or(usize::MAX);
            self.body_bytes >= length.min(most)
        })
    }

    /// # Errors
    /// It is none.
    fn take(&mut self, bytes: &[u8], page: &Page) -> Result<(), String> {
        self.bytes.extend(bytes);
        self.body_bytes += bytes.len();
        if self.head.is_none()
            && let Some((head, length)) = Head::parse(&self.bytes)?
        {
            self.bytes.drain(..length);
            self.body_bytes = self.bytes.len();
            self.head = Some(head);
        }
        if self.head.is_some() && !page.needs_body() {
            self.bytes.clear();
        }
        Ok(())
    }

    /// # Errors
    /// Why it is not right.
    fn judge(&self, page: &Page) -> Result<(), String> {
        let Some(head) = &self.head else {
            return Err("the answer breaks off".to_owned());
        };
        let (status, body) = (head.status, &self.bytes);
        if !page
            .status_codes
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&status))
        {
            return Err(format!("status {status}"));
        }
        if let Some(expected) = &page.digest {
            let digest: String = Md5::digest(body)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if !digest.eq_ignore_ascii_case(expected) {
                return Err(format!("digest {digest}, expected {expected}"));
            }
        }
        if let Some((pattern, right)) = &page.regex {
            let regex = regex::bytes::Regex::new(pattern).map_err(|error| error.to_string())?;
            if regex.is_match(body) != *right {
                let found = if *right { "not found" } else { "found" };
                return Err(format!("`{pattern}` {found}"));
            }
        }
        Ok(())
    }
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

    #[test]
    fn a_page_is_judged_by_status_digest_and_content() {
        // md5sum of "hello\n"
        let digest = "b1946ac92492d2347c6235b4d2611184";
        let with_digest = |digest: &str| Page {
            digest: Some(digest.to_owned()),
            ..page()
        };
        let with_regex = |pattern: &str, right| Page {
            regex: Some((pattern.to_owned(), right)),
            ..page()
        };
        let moved = b"HTTP/1.1 301 Moved\r\n\r\n".as_slice();
        let table = [
            ("200 is right by default", RESPONSE, page(), None),
            ("301 is not", moved, page(), Some("status 301")),
            (
                "unless it is listed",
                moved,
                Page {
                    status_codes: vec![(301, 301)],
                    ..page()
                },
                None,
            ),
            ("the right digest", RESPONSE, with_digest(digest), None),
            (
                "the wrong digest",
                RESPONSE,
                with_digest("00"),
                Some("digest b1946ac92492d2347c6235b4d2611184, expected 00"),
            ),
            (
                "text that is there",
                RESPONSE,
                with_regex("h.llo", true),
                None,
            ),
            (
                "text that is not",
                RESPONSE,
                with_regex("bye", true),
                Some("`bye` not found"),
            ),
            (
                "text that must not be",
                RESPONSE,
                with_regex("(?i)HELLO", false),
                Some("`(?i)HELLO` found"),
            ),
            (
                "an answer cut short",
                b"HTTP/1.1 200 O".as_slice(),
                page(),
                Some("the answer breaks off"),
            ),
            (
                "another protocol",
                b"SSH-2.0-OpenSSH\r\n".as_slice(),
                page(),
                Some("the answer is not HTTP: invalid HTTP version"),
            ),
        ];
        for (what, response, page, expected) in table {
            let expected = expected.map_or(Ok(()), |reason| Err(reason.to_owned()));
            let mut taken = Response::default();
            let judgement = taken.take(response, &page);
            let judgement = judgement.and_then(|()| taken.judge(&page));
            assert_eq!(judgement, expected, "{what}");
        }
    }

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

    #[test]
    fn no_response_takes_much_memory() {
        let mut endless_head = Response::default();
        let mut taken = endless_head.take(b"HTTP/1.1 200 OK\r\n", &page());
        for _ in 0..http_message::MAX_HEAD_BYTES {
            taken = taken.and_then(|()| endless_head.take(b"A: b\r\n", &page()));
        }
        assert!(taken.is_err());
        let searched = Page {
            regex: Some(("0*".to_owned(), true)),
            ..page()
        };
        for (page, most) in [(page(), 0), (searched, MAX_BODY_BYTES)] {
            let mut endless_body = Response::default();
            let first = endless_body.take(b"HTTP/1.1 200 OK\r\n\r\n", &page);
            first.expect("it is right");
            while !endless_body.is_enough_for(&page) {
                endless_body.take(&[0; 1000], &page).expect("it is right");
                assert!(endless_body.bytes.len() < most + 1000);
            }
            assert_eq!(endless_body.judge(&page), Ok(()));
        }
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
