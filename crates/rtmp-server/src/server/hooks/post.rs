//! One POST to a hook, and the meaning of its answer.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::HookUrl;
use crate::server::tls::TlsClient;

/// Time limit of a hook, from the request for a place to the answer. No answer is a
/// refusal.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a hook's answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Reason why a hook has not allowed an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
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
    #[error("its answer cannot be read: {0}")]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
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
        let socket = TcpStream::connect(&url.authority).await?;
        if !url.tls {
            return exchange(socket, url, event).await;
        }
        let connector = self.tls.connector(None).map_err(HookError::NoTls)?;
        let name = ServerName::try_from(url.host().to_owned());
        let name = name.map_err(|error| HookError::NoTls(error.to_string()))?;
        let stream = connector.connect(name, socket).await;
        exchange(stream.map_err(HookError::Tls)?, url, event).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &HookUrl,
    event: &Value,
) -> Result<(), HookError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(&url.path)
        .header(HOST, &url.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(event.to_string())))
        .map_err(|error| HookError::Unreadable(error.into()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(HookError::Unreadable)?.to_bytes();
        Ok::<_, HookError>((status, String::from_utf8_lossy(&body).trim().to_owned()))
    };
    // hyper's connection must be polled while the answer is waited for.
    tokio::pin!(answer);
    let (status, body) = tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }?;
    if is_success(status, &body) {
        Ok(())
    } else {
        let body = body.chars().take(80).collect();
        Err(HookError::Refused { status, body })
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
