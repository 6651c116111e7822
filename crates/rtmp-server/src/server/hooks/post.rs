//! One POST to a hook, and the meaning of its answer.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, http::request};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::HookUrl;
use crate::server::tls::TlsClient;

/// Time limit of a hook, from the request for a place to the answer. No answer is a
/// refusal.
pub(in crate::server) const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a hook's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Reason why a hook has not allowed an event.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum HookError {
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[error("cannot connect: {0}")]
    Unreachable(#[from] std::io::Error),
    #[error("no TLS connection: {0}")]
    Tls(std::io::Error),
    #[error("cannot use TLS: {0}")]
    NoTls(String),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no request can be made of its URL: {0}")]
    Unusable(Box<dyn std::error::Error + Send + Sync>),
    #[error("it answers {status}: {body}")]
    Refused { status: u16, body: String },
}

/// The HTTP client that posts events.
#[derive(Debug)]
pub(super) struct HookClient {
    tls: Arc<TlsClient>,
}

impl HookClient {
    pub(super) fn new(tls: Arc<TlsClient>) -> Self {
        Self { tls }
    }

    /// Posts `event` to `url`. It is allowed by status 200 or 201 and the body
    /// `0`, or JSON whose `code` is 0.
    pub(super) async fn post(&self, url: &HookUrl, event: &Value) -> Result<(), HookError> {
        self.post_for(url, event, is_success).await?;
        Ok(())
    }

    /// Posts `event` to `url`, and returns the JSON of the answer, whose `code` is 0.
    pub(super) async fn ask_json(&self, url: &HookUrl, event: &Value) -> Result<Value, HookError> {
        let is_json = |status, body: &str| is_success(status, body) && body != "0";
        let body = self.post_for(url, event, is_json).await?;
        // It has been read as such already.
        Ok(serde_json::from_str(body.trim()).unwrap_or_default())
    }

    /// Posts `event` to `url`, and returns the body of an answer that `is_good`.
    async fn post_for(
        &self,
        url: &HookUrl,
        event: &Value,
        is_good: impl Fn(u16, &str) -> bool,
    ) -> Result<String, HookError> {
        let request = Request::post(&url.path).header(CONTENT_TYPE, "application/json");
        let event = Full::new(Bytes::from(event.to_string()));
        let (status, body) = self.ask(url, request, event, MAX_ANSWER).await?;
        let body = String::from_utf8_lossy(&body);
        if is_good(status, body.trim()) {
            return Ok(body.into_owned());
        }
        let body = body.trim().chars().take(80).collect();
        Err(HookError::Refused { status, body })
    }

    /// Fetches `url`, and reads up to `read_bytes` of the answer's body.
    pub(super) async fn fetch(&self, url: &HookUrl, read_bytes: u32) -> Result<(), HookError> {
        let read_bytes = usize::try_from(read_bytes).unwrap_or(usize::MAX);
        let request = Request::get(&url.path);
        self.ask(url, request, Full::default(), read_bytes).await?;
        Ok(())
    }

    /// The status of the answer to `request`, and of its body about `max_bytes` at most.
    async fn ask(
        &self,
        url: &HookUrl,
        request: request::Builder,
        body: Full<Bytes>,
        max_bytes: usize,
    ) -> Result<(u16, Vec<u8>), HookError> {
        let request = request.header(HOST, &url.authority).body(body);
        let request = request.map_err(|error| HookError::Unusable(error.into()))?;
        let socket = TcpStream::connect(&url.authority).await?;
        if !url.tls {
            return exchange(socket, request, max_bytes).await;
        }
        let connector = self.tls.connector(None).map_err(HookError::NoTls)?;
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|error| HookError::NoTls(error.to_string()))?;
        let stream = connector.connect(name, socket).await;
        exchange(stream.map_err(HookError::Tls)?, request, max_bytes).await
    }
}

/// Sends `request`, and reads the answer, of its body about `max_bytes` at most.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<(u16, Vec<u8>), HookError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut begun = Vec::new();
        while begun.len() < max_bytes
            && let Some(frame) = body.frame().await
        {
            if let Ok(bytes) = frame?.into_data() {
                begun.extend_from_slice(&bytes);
            }
        }
        Ok::<_, HookError>((status, begun))
    };
    // hyper's connection must be polled while the answer is waited for.
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// Returns true if an answer allows the event (`SrsHttpHooks::do_post`).
fn is_success(status: u16, body: &str) -> bool {
    let code_0 = || serde_json::from_str::<Value>(body).is_ok_and(|answer| answer["code"] == 0);
    matches!(status, 200 | 201) && (body == "0" || code_0())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_mean_to_srs() {
        for (status, body, yes) in [
            (200, "0", true),
            (201, "0", true),
            (200, "{\"code\":0}", true),
            (200, "{\n  \"code\": 0,\n  \"data\": null\n}", true),
            (200, "", false),
            (200, "1", false),
            (200, "00", false),
            (200, "OK", false),
            (200, "{}", false),
            (200, "{\"code\":1}", false),
            (200, "{\"code\":\"0\"}", false),
            (200, "[0]", false),
            (204, "0", false),
            (403, "0", false),
            (500, "{\"code\":0}", false),
        ] {
            assert_eq!(is_success(status, body), yes, "{status} {body:?}");
        }
    }
}
