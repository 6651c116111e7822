//! `http_hooks`: posts events to web servers, with the JSON that SRS sends. A
//! request ([`Hooks::authorize`]) asks if a client may do something; a notification
//! ([`Hooks::notify`]) says what a client has done.
//!
//! Notifications of a client arrive in the order in which they happened, and before
//! later requests about it; so do the ends and beginnings of a stream. Each web
//! server has limits of its own: a slow one delays only its own events.
//!
//! A hook's way: `authorize` or `notify` → `event` (the JSON) → `hook_server` (limits
//! and order) → `post` (one HTTP POST, and the meaning of the answer).

mod event;
mod hook_server;
mod notification;
mod post;
mod stats;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::line_limit::{LineLimit, PERIOD};
use super::tls::TlsClient;
use crate::config::{Config, HookUrl};
use crate::stream::lock;
use event::Event;
pub(super) use event::{
    ClientEvent, FileEvent, ForwardEvent, SegmentEvent, StreamEvent, SwitchEvent,
};
pub(crate) use event::{ServerIdentity, stream_url};
use hook_server::HookServer;
pub(in crate::server) use notification::NotificationPart;
use notification::{Condition, HasEncoder, Notification, Undelivered};
use post::HookClient;
pub(super) use post::HookError;
pub(super) use post::TIMEOUT;
use stats::AllHookStats;
pub(crate) use stats::HookStats;

/// The hooks of a server.
#[derive(Debug)]
pub(crate) struct Hooks {
    identity: ServerIdentity,
    /// By `host:port`.
    servers: Mutex<HashMap<String, Arc<HookServer>>>,
    client: Arc<HookClient>,
    stats: Arc<AllHookStats>,
    undelivered: Arc<Undelivered>,
    /// True while no notification may begin to be posted.
    held: watch::Sender<bool>,
    /// Of those that hooks do not let in.
    refusal_lines: LineLimit,
}

impl Hooks {
    /// The hooks of the server called `server_id`; without a name, a random one is
    /// used until its end.
    pub(super) fn new(server_id: Option<&str>, tls: Arc<TlsClient>) -> Self {
        let random = RandomState::new().hash_one("service_id");
        let service = format!("{random:016x}");
        Self {
            identity: ServerIdentity {
                server: server_id.unwrap_or(&service).to_owned(),
                service,
            },
            servers: Mutex::default(),
            client: Arc::new(HookClient::new(tls)),
            stats: Arc::default(),
            undelivered: Arc::default(),
            held: watch::Sender::new(false),
            refusal_lines: LineLimit::default(),
        }
    }

    /// The names by which this server is known.
    pub(crate) fn identity(&self) -> &ServerIdentity {
        &self.identity
    }

    /// Latencies and failures, by event.
    pub(crate) fn stats(&self) -> impl Iterator<Item = (&'static str, &HookStats)> {
        self.stats.iter()
    }

    /// The figures for the program that the process becomes, by event.
    pub(super) fn part(&self) -> HashMap<String, (Vec<u64>, u64, u64)> {
        self.stats.part()
    }

    /// Adds the figures that this process has had before.
    pub(super) fn take_over(&self, part: &HashMap<String, (Vec<u64>, u64, u64)>) {
        self.stats.take_over(part);
    }

    fn server(&self, url: &HookUrl) -> Arc<HookServer> {
        let mut servers = lock(&self.servers);
        servers.entry(url.authority.clone()).or_default().clone()
    }

    /// Sends a request to each of `urls` in turn. Returns true if each of them allows it.
    ///
    /// For each of them it waits [`TIMEOUT`] at most: for earlier notifications of the
    /// same client and stream, for a free place, and for the answer.
    pub(super) async fn authorize(&self, urls: &[HookUrl], event: &impl Event) -> bool {
        if urls.is_empty() {
            return true;
        }
        let body = event.body(&self.identity);
        for url in urls {
            let server = self.server(url);
            let begun = Instant::now();
            let request = async {
                server.wait_for_earlier(&event.ordering_keys()).await;
                let _turn = server.requests.acquire().await;
                self.client.post(url, &body).await
            };
            let answer = timeout(TIMEOUT, request)
                .await
                .unwrap_or(Err(HookError::Slow));
            self.stats.count(event.action(), begun, &answer);
            if let Err(error) = answer {
                if self.refusal_lines.admits(Instant::now()) {
                    log::warn!(
                        "{}: the hook {url} does not allow it: {error}",
                        event.name()
                    );
                }
                return false;
            }
        }
        true
    }

    /// Logs how many clients hooks have refused without a line of their own.
    pub(super) fn sweep(&self, now: Instant) {
        if let Some(count) = self.refusal_lines.take_left_out(now) {
            log::warn!(
                "hooks have not allowed {count} more requests within {} s",
                PERIOD.as_secs()
            );
        }
    }

    /// Asks `url` for something that it answers in JSON, within [`TIMEOUT`].
    ///
    /// # Errors
    /// There is no answer, or its `code` is not 0.
    pub(super) async fn ask(&self, url: &HookUrl, event: &impl Event) -> Result<Value, HookError> {
        let server = self.server(url);
        let begun = Instant::now();
        let body = event.body(&self.identity);
        let request = async {
            server.wait_for_earlier(&event.ordering_keys()).await;
            let _turn = server.requests.acquire().await;
            self.client.ask_json(url, &body).await
        };
        let answer = timeout(TIMEOUT, request)
            .await
            .unwrap_or(Err(HookError::Slow));
        self.stats.count(event.action(), begun, &answer);
        answer
    }

    /// Notifies all of `urls`, without waiting for them.
    pub(super) fn notify(&self, urls: &[HookUrl], event: &impl Event) {
        for url in urls {
            let still_ended = event
                .ended()
                .cloned()
                .map(|stream| Box::new(move || !stream.has_encoder()) as Condition);
            self.send(Notification {
                url: url.clone(),
                name: event.name(),
                action: event.action().to_owned(),
                body: event.body(&self.identity),
                ordering_keys: event.ordering_keys(),
                still_ended,
            });
        }
    }

    /// Has notifications wait that are not being posted yet.
    pub(super) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Has them go on.
    pub(super) fn go_on(&self) {
        self.held.send_replace(false);
    }

    /// The notifications that are not delivered, for the program that the process becomes,
    /// the oldest first. Those whose answer has not come are among them; the others wait from
    /// now on, until [`Hooks::go_on`]: else both programs would post them.
    pub(super) fn hold_undelivered(&self) -> Vec<NotificationPart> {
        self.hold();
        self.undelivered.parts()
    }

    /// Goes on with those that the program before has not delivered. `has_encoder` tells, when
    /// the turn of one has come, whether somebody publishes a stream.
    pub(super) fn resume(
        &self,
        parts: Vec<NotificationPart>,
        has_encoder: impl Fn(&StreamKey) -> bool + Send + Sync + 'static,
    ) {
        let has_encoder: HasEncoder = Arc::new(has_encoder);
        for part in parts {
            match part.resume(&has_encoder) {
                Ok(notification) => self.send(notification),
                Err(lost) => log::warn!("upgrade: {lost}"),
            }
        }
    }

    fn send(&self, notification: Notification) {
        let server = self.server(&notification.url);
        let Some(queued) = server.enqueue(&notification.ordering_keys) else {
            let (name, url) = (&notification.name, &notification.url);
            log::warn!("{name}: the hook {url} is too slow: the event is lost");
            return;
        };
        let entry = self.undelivered.add(notification);
        let (client, stats) = (self.client.clone(), self.stats.clone());
        let mut held = self.held.subscribe();
        tokio::spawn(async move {
            let turn = queued.turn().await;
            // An error is the server's end: what is left is posted.
            let _ = held.wait_for(|held| !held).await;
            let notification = entry.notification();
            if !notification.is_still_true() {
                return;
            }
            let begun = Instant::now();
            let (name, url) = (&notification.name, &notification.url);
            let posted = timeout(TIMEOUT, client.post(url, &notification.body)).await;
            let answer = posted.unwrap_or(Err(HookError::Slow));
            stats.count(&notification.action, begun, &answer);
            if let Err(error) = answer {
                log::warn!("{name}: the hook {url}: {error}");
            }
            drop(entry);
            // Now the next event of the same client or stream may go.
            drop(turn);
        });
    }

    /// Fetches each of `urls` for a segment of HLS, whose variables it fills in, or the
    /// segment's own URL if that has a host; reads `read_bytes` of the answer. As in SRS
    /// (`on_hls_notify`), a CDN fetches what it is asked for, and the answer does not matter.
    pub(super) fn fetch(&self, urls: &[HookUrl], event: &SegmentEvent<'_>, read_bytes: u32) {
        for url in urls {
            let Some(url) = event.notified_url(url, &self.identity) else {
                log::warn!("{}: {} is no URL to fetch", event.name(), event.url);
                continue;
            };
            let Some(queued) = self.server(&url).enqueue(&event.ordering_keys()) else {
                log::warn!("{}: {url} is too slow: it is not fetched", event.name());
                continue;
            };
            let (client, name) = (self.client.clone(), event.name());
            tokio::spawn(async move {
                let _turn = queued.turn().await;
                let fetched = timeout(TIMEOUT, client.fetch(&url, read_bytes)).await;
                if let Err(error) = fetched.unwrap_or(Err(HookError::Slow)) {
                    log::info!("{name}: {url}: {error}");
                }
            });
        }
    }

    /// Waits until all notifications so far are delivered. Returns false after `limit`.
    pub(super) async fn flush(&self, limit: Duration) -> bool {
        let servers: Vec<_> = lock(&self.servers).values().cloned().collect();
        let flushed = async {
            for server in servers {
                server.flush().await;
            }
        };
        timeout(limit, flushed).await.is_ok()
    }
}

/// Maximum number of sockets of the hooks of `config`.
pub(crate) fn max_sockets(config: &Config) -> u64 {
    let urls = config.vhosts.values().flat_map(|vhost| {
        let hooks = vhost.http_hooks.all();
        hooks.chain(&vhost.forward.backend)
    });
    let mut servers: Vec<_> = urls.map(|url| &url.authority).collect();
    servers.sort();
    servers.dedup();
    servers.len() as u64 * hook_server::MAX_SOCKETS
}

#[cfg(test)]
mod tests {
    use super::hook_server::OrderingKey;
    use super::*;

    #[test]
    fn a_web_server_that_does_not_answer_takes_nothing_from_another() {
        let hooks = Hooks::new(None, Arc::default());
        let server = |url| hooks.server(&HookUrl::parse(url).unwrap());
        let client = [OrderingKey::Client(1)];
        let mut queued = Vec::new();
        while let Some(event) = server("http://slow/on_play").enqueue(&client) {
            queued.push(event);
        }
        assert!(server("http://slow/on_stop").enqueue(&client).is_none());
        assert!(server("http://other/").enqueue(&client).is_some());
    }
}
