//! The backend: a web server that says where a publication is to be forwarded to.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::backoff::Backoff;
use crate::config::{Destination, HookUrl, MAX_DESTINATIONS};
use crate::server::hooks::{ForwardEvent, HookError};
use crate::server::{EventKind, Server};
use crate::stream::Stream;

/// Reason why a backend has named no servers.
#[derive(Debug, thiserror::Error)]
enum BackendError {
    #[error("{0}")]
    Hook(#[from] HookError),
    #[error("its answer has no `data.urls`, a list of URLs")]
    NoUrls,
}

/// The question to a backend, and its answer.
pub(super) struct Backend {
    url: HookUrl,
    answer: watch::Receiver<Option<Vec<Destination>>>,
    _task: AbortOnDropHandle<()>,
}

impl Backend {
    /// Asks `url`, again and again until it answers.
    pub(super) fn ask(server: Arc<Server>, stream: Arc<Stream>, url: HookUrl) -> Self {
        let (sender, answer) = watch::channel(None);
        let asked = url.clone();
        let task = tokio::spawn(async move {
            let key = stream.key();
            let mut backoff = Backoff::new(RandomState::new().hash_one(key));
            let mut last = None;
            loop {
                match ask_once(&server, &stream, &asked).await {
                    Ok(destinations) => {
                        // An error means that nobody wants to know any more.
                        let _ = sender.send(Some(destinations));
                        return;
                    }
                    Err(error) => {
                        let text = format!("the backend {asked} is asked again: {error}");
                        let events = server.events();
                        events.record(EventKind::ForwardFailed, Some(key), None, &text);
                        // The same again is no news.
                        if last.as_ref() != Some(&text) {
                            log::warn!("{key}: {text}");
                            last = Some(text);
                        }
                    }
                }
                sleep(backoff.after(Duration::ZERO)).await;
            }
        });
        Self {
            url,
            answer,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The URL that is asked.
    pub(super) fn url(&self) -> &HookUrl {
        &self.url
    }

    /// The servers that it has named, once it has.
    pub(super) fn destinations(&self) -> Option<Vec<Destination>> {
        self.answer.borrow().clone()
    }

    /// Waits for the answer; for ever once it has come.
    pub(super) async fn answered(backend: &mut Option<Self>) {
        if let Some(backend) = backend
            && backend.answer.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

async fn ask_once(
    server: &Server,
    stream: &Arc<Stream>,
    url: &HookUrl,
) -> Result<Vec<Destination>, BackendError> {
    let publisher = server.clients.publisher(stream.key());
    let event = ForwardEvent {
        publisher: publisher.as_deref(),
        parameters: &stream.parameters(),
        stream,
    };
    let answer = server.hooks.ask(url, &event).await?;
    let urls = read(&answer).ok_or(BackendError::NoUrls)?;
    let mut destinations = Vec::new();
    let key = stream.key();
    for (number, url) in urls.into_iter().enumerate() {
        match Destination::parse(url) {
            // Not the URL itself, which may have a secret.
            None => log::warn!("{key}: URL {number} of the backend is no rtmp:// or rtmps:// one"),
            Some(destination) if destinations.contains(&destination) => {}
            Some(_) if destinations.len() == MAX_DESTINATIONS => {
                log::warn!("{key}: the backend names more than {MAX_DESTINATIONS} servers");
                break;
            }
            Some(destination) => destinations.push(destination),
        }
    }
    Ok(destinations)
}

/// The URLs of `{"code":0,"data":{"urls":[…]}}`, as SRS reads it; without `data` there are
/// none.
fn read(answer: &Value) -> Option<Vec<&str>> {
    match &answer["data"] {
        Value::Null => Some(Vec::new()),
        data => data["urls"].as_array()?.iter().map(Value::as_str).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_read_as_srs_reads_it() {
        let urls = |answer| read(&answer).map(|urls| urls.join(" "));
        let answer = json!({"code": 0, "data": {"urls": ["rtmp://a/b/c", "rtmp://d/e/f"]}});
        assert_eq!(urls(answer).unwrap(), "rtmp://a/b/c rtmp://d/e/f");
        assert_eq!(urls(json!({"code": 0, "data": {"urls": []}})).unwrap(), "");
        assert_eq!(urls(json!({"code": 0, "data": null})).unwrap(), "");
        for wrong in [
            json!({"code": 0, "data": {}}),
            json!({"code": 0, "data": {"urls": "rtmp://a/b/c"}}),
            json!({"code": 0, "data": {"urls": [1]}}),
        ] {
            assert_eq!(urls(wrong.clone()), None, "{wrong}");
        }
    }
}
