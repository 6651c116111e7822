//! `http_hooks`: asks a web server whether a client may do what it wants, and
//! tells it what clients have done, with the JSON that SRS sends.
//!
//! What is told of a client arrives in the order in which it happened, and
//! before what is asked about it later; so do the ends and beginnings of a
//! stream. Each web server has quotas of its own, so that a slow one holds up
//! nobody but those whose events it is to hear.

mod backend;
mod event;
mod post;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use crate::config::{Config, HookUrl};
use crate::stream::lock;
use backend::{Backend, Subject};
pub(super) use event::{ClientEvent, StreamEvent};
use post::{Failure, Poster};

/// A hook that has not answered by then has not allowed anything.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The hooks of a server.
#[derive(Debug)]
pub struct Hooks {
    identity: Identity,
    /// By `host:port`.
    backends: Mutex<HashMap<String, Arc<Backend>>>,
    poster: Arc<Poster>,
}

impl Hooks {
    /// The hooks of the server called `server_id`; without a name, it is known
    /// until its end by one that is drawn.
    pub(super) fn new(server_id: Option<&str>) -> Self {
        let random = RandomState::new().hash_one("service_id");
        let service = format!("{random:016x}");
        Self {
            identity: Identity {
                server: server_id.unwrap_or(&service).to_owned(),
                service,
            },
            backends: Mutex::default(),
            poster: Arc::default(),
        }
    }

    fn backend(&self, url: &HookUrl) -> Arc<Backend> {
        let mut backends = lock(&self.backends);
        backends.entry(url.authority.clone()).or_default().clone()
    }

    /// Asks all of `urls` in turn; whether each of them allows it.
    ///
    /// Whoever asks waits for what is still to be told of the same client and
    /// stream, for its turn and for the answer, for five seconds in all.
    pub(super) async fn allow(&self, urls: &[HookUrl], event: &impl Event) -> bool {
        if urls.is_empty() {
            return true;
        }
        let body = event.body(&self.identity);
        for url in urls {
            let backend = self.backend(url);
            let asked = async {
                backend.told_of(&event.subjects()).await;
                let _turn = backend.asking.acquire().await;
                self.poster.post(url, &body).await
            };
            let answer = timeout(TIMEOUT, asked).await.unwrap_or(Err(Failure::Slow));
            if let Err(failure) = answer {
                log::warn!(
                    "{}: the hook {url} does not allow it: {failure}",
                    event.name()
                );
                return false;
            }
        }
        true
    }

    /// Tells all of `urls`, and does not wait for them.
    pub(super) fn tell(&self, urls: &[HookUrl], event: &impl Event) {
        for url in urls {
            let backend = self.backend(url);
            let Some(place) = backend.enqueue(&event.subjects()) else {
                log::warn!(
                    "{}: the hook {url} is too slow: it is not told",
                    event.name()
                );
                continue;
            };
            let (poster, url) = (self.poster.clone(), url.clone());
            let (name, body) = (event.name(), event.body(&self.identity));
            let still_true = event.condition();
            tokio::spawn(async move {
                let turn = place.turn().await;
                if !still_true() {
                    return;
                }
                let told = timeout(TIMEOUT, poster.post(&url, &body)).await;
                if let Err(failure) = told.unwrap_or(Err(Failure::Slow)) {
                    log::warn!("{name}: the hook {url}: {failure}");
                }
                drop(turn);
            });
        }
    }

    /// Waits until all that is to be told has been, for as long as a hook may
    /// take to answer.
    pub(super) async fn all_told(&self) {
        let backends: Vec<_> = lock(&self.backends).values().cloned().collect();
        let told = async {
            for backend in backends {
                backend.all_told().await;
            }
        };
        if timeout(TIMEOUT, told).await.is_err() {
            log::warn!("the hooks are too slow: not all that has happened is told");
        }
    }
}

/// Who asks and tells.
#[derive(Debug)]
pub(super) struct Identity {
    /// Of the server, from one run to the next if it is configured.
    server: String,
    /// Of this run.
    service: String,
}

/// What a hook is asked about or told.
pub(super) trait Event {
    /// `c7 192.0.2.1: on_play`: what a log line about it begins with.
    fn name(&self) -> String;

    /// Whose other events it must not overtake.
    fn subjects(&self) -> Vec<Subject>;

    /// The JSON of it, from the server `from`.
    fn body(&self, from: &Identity) -> Value;

    /// Whether it is true still when its turn to be told has come.
    fn condition(&self) -> impl FnOnce() -> bool + Send + 'static;
}

/// Descriptors that the hooks of `config` take at most.
pub(super) fn sockets(config: &Config) -> u64 {
    let hooks = config.vhosts.values().map(|vhost| &vhost.http_hooks);
    let mut backends: Vec<_> = hooks
        .flat_map(|hooks| hooks.all())
        .map(|url| &url.authority)
        .collect();
    backends.sort();
    backends.dedup();
    backends.len() as u64 * backend::MAX_SOCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_server_that_does_not_answer_takes_nothing_from_another() {
        let hooks = Hooks::new(None);
        let backend = |url| hooks.backend(&HookUrl::parse(url).unwrap());
        let client = [Subject::Client(1)];
        let mut places = Vec::new();
        while let Some(place) = backend("http://slow/on_play").enqueue(&client) {
            places.push(place);
        }
        assert!(backend("http://slow/on_stop").enqueue(&client).is_none());
        assert!(backend("http://other/").enqueue(&client).is_some());
    }
}
