//! Servers that keys in etcd name, over the JSON gateway of its version 3
//! (<https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/>).
//!
//! With a user, a token is asked for before each reading (`/v3/auth/authenticate`).
//!
//! Every value below a prefix is a server. All are read anew after each change; a key with
//! a lease goes with the lease.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use lb_wire::list;
use serde::Deserialize;
use serde_json::json;
use service_kit::with_causes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{ANSWER_TIME, Pauses, Reports, tls};
use lb_model::config::DiscoveredServer;

/// Length of the longest answer that is read.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Time after which the keys are read without a change: a connection may be dead without
/// anybody's saying so.
const READ_INTERVAL: Duration = Duration::from_secs(30);

/// A server of etcd, and what is read there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Server {
    /// `http` or `https`, host and port.
    pub(super) url: String,
    /// Beginning of the keys.
    pub(super) prefix: String,
    /// With `https`.
    pub(super) files: tls::Files,
    pub(super) credentials: Option<Credentials>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.name)
    }
}

/// Tells of the servers that the keys name, and of each change.
pub(super) async fn follow(server: Server, reports: Reports) {
    let mut pauses = Pauses::new();
    let keys = Keys::below(&server.prefix);
    loop {
        let read = timeout(ANSWER_TIME, async {
            let token = server.token().await?;
            let values = range(&server, token.as_deref(), &keys).await?;
            Ok((values, token))
        });
        let read = read.await.unwrap_or_else(|_| Err("no answer".to_owned()));
        match read {
            Ok(((servers, revision), token)) => {
                pauses.reset();
                let servers = servers.and_then(|servers| not_empty(servers, &server.prefix));
                if !reports.send(servers) {
                    return;
                }
                let changed = changed(&server, token.as_deref(), &keys, revision);
                if let Ok(Err(error)) = timeout(READ_INTERVAL, changed).await {
                    log::debug!("etcd {}: watching: {error}", server.url);
                    sleep(pauses.next()).await;
                }
            }
            Err(error) => {
                if !reports.send(Err(error)) {
                    return;
                }
                sleep(pauses.next()).await;
            }
        }
    }
}

#[derive(Deserialize)]
struct Authenticated {
    token: String,
}

impl Server {
    /// A token for the user; `None` without one. It is good for some minutes.
    async fn token(&self) -> Result<Option<String>, String> {
        let Some(Credentials { name, password }) = &self.credentials else {
            return Ok(None);
        };
        let body = json!({ "name": name, "password": password });
        let (response, _connection) = post(self, None, "/v3/auth/authenticate", &body).await?;
        let answer: Authenticated = parse(response).await?;
        Ok(Some(answer.token))
    }
}

/// The range of keys that begin with a prefix, in base 64.
struct Keys {
    first: String,
    end: String,
}

impl Keys {
    fn below(prefix: &str) -> Self {
        let mut end = prefix.as_bytes().to_vec();
        // The first key behind all that have the prefix; bytes of UTF-8 are never 255.
        match end.last_mut() {
            Some(last) => *last += 1,
            // `\0` for both: all keys.
            None => end.push(0),
        }
        let first = if prefix.is_empty() { "\0" } else { prefix };
        Self {
            first: BASE64.encode(first.as_bytes()),
            end: BASE64.encode(&end),
        }
    }
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct Header {
    /// 64 bits, which JSON has as a text.
    revision: String,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    value: String,
}

/// What the values say, and the revision that they are of.
type Values = (Result<Vec<DiscoveredServer>, String>, u64);

async fn range(server: &Server, token: Option<&str>, keys: &Keys) -> Result<Values, String> {
    let body = json!({ "key": keys.first, "range_end": keys.end });
    let (response, _connection) = post(server, token, "/v3/kv/range", &body).await?;
    let range: Range = parse(response).await?;
    let revision = range.header.revision.parse();
    let revision = revision.map_err(|_| "its answer has no revision".to_owned())?;
    let values = range.kvs.iter().map(discovered_server);
    Ok((values.collect(), revision))
}

async fn parse<T: for<'a> Deserialize<'a>>(response: Response<Incoming>) -> Result<T, String> {
    let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES);
    let answer = answer.collect().await;
    let answer = answer.map_err(|error| with_causes(error.as_ref()))?;
    serde_json::from_slice(&answer.to_bytes())
        .map_err(|error| format!("its answer is not understood: {error}"))
}

/// Keys that are all gone are as likely a mistake, or another cluster's.
fn not_empty(
    servers: Vec<DiscoveredServer>,
    prefix: &str,
) -> Result<Vec<DiscoveredServer>, String> {
    match servers.is_empty() {
        true => Err(format!("there are no keys below `{prefix}`")),
        false => Ok(servers),
    }
}

fn discovered_server(given: &KeyValue) -> Result<DiscoveredServer, String> {
    let text = |base64: &str| {
        let bytes = BASE64.decode(base64.as_bytes()).ok()?;
        String::from_utf8(bytes).ok()
    };
    let key = text(&given.key).unwrap_or_else(|| given.key.clone());
    let value = text(&given.value).ok_or_else(|| format!("{key}: its value is no text"))?;
    list::parse_one(&value).map_err(|error| format!("{key}: {error}"))
}

#[derive(Deserialize)]
struct Notice {
    result: Option<Notification>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Notification {
    #[serde(default)]
    events: Vec<serde_json::Value>,
    /// The watch has ended: for one, the revision has been compacted away.
    #[serde(default)]
    canceled: bool,
}

/// Returns after a change that is later than `revision`.
async fn changed(
    server: &Server,
    token: Option<&str>,
    keys: &Keys,
    revision: u64,
) -> Result<(), String> {
    let request = json!({ "create_request": {
        "key": keys.first,
        "range_end": keys.end,
        "start_revision": (revision + 1).to_string(),
    } });
    let (response, _connection) = post(server, token, "/v3/watch", &request).await?;
    let mut body = response.into_body();
    let mut received = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| with_causes(&error))?;
        received.extend_from_slice(frame.data_ref().map_or(&[], Bytes::as_ref));
        if received.len() > MAX_ANSWER_BYTES {
            return Err("a notice is too long".to_owned());
        }
        // Each notice is a line.
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let notice: Notice = serde_json::from_slice(&line)
                .map_err(|error| format!("a notice is not understood: {error}"))?;
            if let Some(error) = notice.error {
                return Err(error.to_string());
            }
            if notice
                .result
                .is_some_and(|it| it.canceled || !it.events.is_empty())
            {
                return Ok(());
            }
        }
    }
    Err("the server has ended the connection".to_owned())
}

/// Sends a request; the connection lives as long as the handle that comes with the answer.
async fn post(
    server: &Server,
    token: Option<&str>,
    path: &str,
    body: &serde_json::Value,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), String> {
    let url = &server.url;
    let uri: Uri = format!("{url}{path}")
        .parse()
        .map_err(|_| format!("{url} is no URL"))?;
    let authority = uri
        .authority()
        .ok_or_else(|| format!("{url} names no host"))?;
    const PORT: u16 = 2379;
    let host = authority.host().trim_matches(['[', ']']);
    let address = (host, authority.port_u16().unwrap_or(PORT));
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let stream: Box<dyn Stream> = match uri.scheme_str() {
        Some("https") => Box::new(tls::connect(stream, host, &server.files).await?),
        _ => Box::new(stream),
    };
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| with_causes(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // What ends it, the answer's reader is told.
        let _ = connection.await;
    }));
    let mut request = Request::post(uri.path())
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, token);
    }
    let request = request
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| with_causes(&error))?;
    if response.status() != StatusCode::OK {
        let status = response.status();
        let hint = match server.credentials {
            None => "",
            Some(_) => "; its user, password and rights?",
        };
        return Err(format!("the answer to {path} is {status}{hint}"));
    }
    Ok((response, connection))
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(base64: &str) -> String {
        let bytes = BASE64.decode(base64.as_bytes()).expect("base 64");
        String::from_utf8(bytes).expect("a text")
    }

    #[test]
    fn a_prefix_is_a_range_of_keys() {
        let keys = Keys::below("/edges/");
        let range = (decoded(&keys.first), decoded(&keys.end));
        assert_eq!(range, ("/edges/".to_owned(), "/edges0".to_owned()));
        let all = Keys::below("");
        let range = (decoded(&all.first), decoded(&all.end));
        assert_eq!(range, ("\0".to_owned(), "\0".to_owned()));
    }

    #[test]
    fn a_value_is_a_server_or_an_error_that_names_its_key() {
        let pair = |key: &str, value: &str| KeyValue {
            key: BASE64.encode(key.as_bytes()),
            value: BASE64.encode(value.as_bytes()),
        };
        let found = discovered_server(&pair("/edges/a", "10.0.0.1 1935 weight 3\n"));
        let found = found.expect("a server");
        assert_eq!((found.port, found.weight), (Some(1935), Some(3)));
        let error = discovered_server(&pair("/edges/b", "x")).expect_err("no server");
        assert_eq!(error, "/edges/b: `x` is no address");
    }

    #[test]
    fn a_prefix_without_keys_is_an_error() {
        let error = not_empty(Vec::new(), "/edges/").expect_err("no keys");
        assert_eq!(error, "there are no keys below `/edges/`");
        let found = discovered_server(&KeyValue {
            key: BASE64.encode(b"/edges/a"),
            value: BASE64.encode(b"10.0.0.1"),
        });
        let found = vec![found.expect("a server")];
        assert_eq!(not_empty(found.clone(), "/edges/"), Ok(found));
    }
}
