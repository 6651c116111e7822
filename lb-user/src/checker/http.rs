//! `HTTP_GET` and `SSL_GET`: does a page come, and is it the right one?

use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::machine::Outcome;
use super::tcp::{self, Connection};
use super::tls;

/// The longest response that is read.
const RESPONSE_LIMIT_BYTES: u64 = 4 << 20;

/// Header fields of a response that are understood.
const MOST_HEADERS: usize = 100;

/// A check of one or more pages.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HttpProbe {
    /// Where to connect; its time is also that of each page.
    pub connection: Connection,
    /// Whether TLS is spoken; certificates are not verified, as keepalived does.
    pub tls: bool,
    /// Whether TLS asks for the virtual host by name (`enable_sni`).
    pub server_name: bool,
    /// The pages; every one must be right.
    pub pages: Vec<Page>,
}

/// A page, and what is right about it.
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

/// Asks for every page in turn.
pub async fn check(probe: &HttpProbe) -> Outcome {
    for page in &probe.pages {
        let limit = probe.connection.timeout;
        let outcome = match tcp::connect(&probe.connection).await {
            Err(outcome) => return outcome,
            Ok(stream) => timeout(limit, async {
                if probe.tls {
                    let name = page.virtual_host.as_deref().filter(|_| probe.server_name);
                    let stream = tls::connect(stream, name, probe.connection.to.ip()).await?;
                    ask(stream, page, probe).await
                } else {
                    ask(stream, page, probe).await
                }
            }),
        };
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Outcome::Failure(format!("{}: {reason}", page.path)),
            Err(_) => {
                let limit = limit.as_secs_f64();
                return Outcome::Failure(format!("{}: no answer within {limit} s", page.path));
            }
        }
    }
    Outcome::Success
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    page: &Page,
    probe: &HttpProbe,
) -> Result<(), String> {
    let address = probe.connection.to.to_string();
    let host = page.virtual_host.as_deref().unwrap_or(&address);
    // HTTP/1.0: the body comes in one piece and ends with the connection.
    let request = format!(
        "GET {} HTTP/1.0\r\nUser-Agent: Millrace\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        page.path
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|error| tcp::reason(&error))?;
    let mut response = Vec::new();
    let read = (&mut stream)
        .take(RESPONSE_LIMIT_BYTES)
        .read_to_end(&mut response)
        .await;
    match read {
        Ok(_) => judge(&response, page),
        // TLS servers often leave without taking leave; what came may do.
        Err(_) if !response.is_empty() => judge(&response, page),
        Err(error) => Err(tcp::reason(&error)),
    }
}

/// Whether a response is right.
fn judge(response: &[u8], page: &Page) -> Result<(), String> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let (status, start) = match head.parse(response) {
        Ok(httparse::Status::Complete(length)) => (head.code.unwrap_or_default(), length),
        Ok(httparse::Status::Partial) => return Err("the answer breaks off".to_owned()),
        Err(error) => return Err(format!("the answer is not HTTP: {error}")),
    };
    if !page
        .status_codes
        .iter()
        .any(|(low, high)| (*low..=*high).contains(&status))
    {
        return Err(format!("status {status}"));
    }
    let body = &response[start..];
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
            assert_eq!(judge(response, &page), expected, "{what}");
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
        assert_eq!(check(&probe).await, Outcome::Success);
        let request = server.await.expect("the server has run");
        assert!(request.starts_with("GET /x HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nHost: www.example\r\n"), "{request}");
    }
}
