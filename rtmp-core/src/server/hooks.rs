//! `http_hooks`: asks a web server whether a client may do what it wants, and
//! tells it what clients have done, with the JSON that SRS sends.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::clients::Client;
use crate::config::HookUrl;
use crate::session::StreamKey;

/// A hook that has not answered by then has not allowed anything.
const TIMEOUT: Duration = Duration::from_secs(5);
/// No answer of a hook is longer, in bytes.
const MOST_ANSWER: usize = 64 * 1024;

/// Questions that are open at a time; what is beyond waits for its turn.
static ASKING: Semaphore = Semaphore::const_new(MOST_ASKING);
/// The same for what is only told.
static TELLING: Semaphore = Semaphore::const_new(MOST_TELLING);
/// Events that wait to be told; what is beyond is lost.
static UNTOLD: Semaphore = Semaphore::const_new(4_096);
const MOST_ASKING: usize = 256;
const MOST_TELLING: usize = 64;
/// Descriptors that hooks take at most.
pub(super) const MOST_SOCKETS: u64 = (MOST_ASKING + MOST_TELLING) as u64;

/// Why a hook has not allowed what it was asked about.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[error("cannot connect: {0}")]
    Unreachable(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("its answer cannot be read: {0}")]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
    #[error("it answers {status}: {body}")]
    Refused { status: u16, body: String },
}

/// What a hook is told about a client and a stream.
pub(super) fn event(action: &str, client: &Client, key: &StreamKey, more: Value) -> Value {
    let mut event = json!({
        "action": action,
        "client_id": client.id,
        "ip": client.peer.ip().to_string(),
        "vhost": key.vhost,
        "app": key.app,
        "stream": key.stream,
    });
    if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
        event.extend(more);
    }
    event
}

/// `c7 192.0.2.1: on_play`: what a log line about an event begins with.
fn subject(event: &Value) -> String {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    format!("c{} {}: {}", event["client_id"], text("ip"), text("action"))
}

/// Asks all of `urls`; whether each of them allows it: status 200 and the body
/// `0`, or JSON whose `code` is 0.
pub(super) async fn allow(urls: &[HookUrl], event: impl FnOnce() -> Value) -> bool {
    if urls.is_empty() {
        return true;
    }
    let event = event();
    for url in urls {
        if let Err(failure) = ask(url, &event).await {
            log::warn!(
                "{}: the hook http://{}{} does not allow it: {failure}",
                subject(&event),
                url.authority,
                url.path
            );
            return false;
        }
    }
    true
}

/// Tells all of `urls`, and does not wait for them.
pub(super) fn tell(urls: &[HookUrl], event: impl FnOnce() -> Value) {
    if urls.is_empty() {
        return;
    }
    let Ok(untold) = UNTOLD.try_acquire() else {
        log::warn!("the hooks are too slow: an event is not told");
        return;
    };
    let (urls, event) = (urls.to_vec(), event());
    tokio::spawn(async move {
        let _untold = untold;
        for url in &urls {
            if let Err(failure) = tell_one(url, &event).await {
                let HookUrl {
                    authority, path, ..
                } = url;
                log::warn!(
                    "{}: the hook http://{authority}{path}: {failure}",
                    subject(&event)
                );
            }
        }
    });
}

/// Asks one URL. Whoever asks waits: for its turn as well as for the answer.
async fn ask(url: &HookUrl, event: &Value) -> Result<(), Failure> {
    let asked = async {
        let _turn = ASKING.acquire().await;
        post(url, event).await
    };
    tokio::time::timeout(TIMEOUT, asked)
        .await
        .map_err(|_| Failure::Slow)?
}

/// Tells one URL, when its turn has come.
async fn tell_one(url: &HookUrl, event: &Value) -> Result<(), Failure> {
    let _turn = TELLING.acquire().await;
    tokio::time::timeout(TIMEOUT, post(url, event))
        .await
        .map_err(|_| Failure::Slow)?
}

async fn post(url: &HookUrl, event: &Value) -> Result<(), Failure> {
    let socket = TcpStream::connect(&url.authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    let request = Request::post(&url.path)
        .header(HOST, &url.authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(event.to_string())))
        .map_err(|error| Failure::Unreadable(error.into()))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MOST_ANSWER)
            .collect()
            .await;
        let body = body.map_err(Failure::Unreadable)?.to_bytes();
        Ok::<_, Failure>((status, String::from_utf8_lossy(&body).trim().to_owned()))
    };
    // The connection does its work while the answer is waited for.
    tokio::pin!(answer);
    let (status, body) = tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }?;
    let allowed =
        body == "0" || serde_json::from_str::<Value>(&body).is_ok_and(|answer| answer["code"] == 0);
    if status == 200 && allowed {
        Ok(())
    } else {
        let body = body.chars().take(80).collect();
        Err(Failure::Refused { status, body })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_web_server_that_does_not_answer_holds_few_sockets_and_no_endless_queue() {
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", web.local_addr().unwrap());
        let urls = [HookUrl::parse(&url).unwrap()];
        let room = UNTOLD.available_permits();
        for _ in 0..2 * room {
            tell(&urls, || json!({}));
        }
        assert_eq!(UNTOLD.available_permits(), 0, "the rest is lost");
        let mut told = Vec::new();
        while told.len() < MOST_TELLING {
            told.push(web.accept().await.unwrap());
        }
        assert_eq!(TELLING.available_permits(), 0, "the others wait");
        // Who asks has a turn all the same.
        let asked = tokio::spawn(async move { ask(&urls[0], &json!({})).await });
        while ASKING.available_permits() == MOST_ASKING {
            tokio::task::yield_now().await;
        }
        asked.abort();
    }
}
