//! Sessions: the requests of one viewer.

mod table;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::server::Server;
use crate::server::client::{Activity, Client, StatsSnapshot};
use crate::server::connection::close::CloseReason;
use crate::server::hooks::StreamEvent;
use crate::server::http::wanted::{Refusal, Wanted};
use crate::stream::{Stream, Subscription, lock};
pub(super) use table::{Sessions, SessionsPart};

/// A viewer without a request for so many target durations is gone.
const IDLE_TARGETS: u32 = 2;
/// The least time without a request after which a viewer is gone.
const MIN_IDLE: Duration = Duration::from_secs(10);
/// The same where there has been nothing to play yet.
const MIN_WAITING_IDLE: Duration = Duration::from_secs(2);

/// A token that nobody can guess.
///
/// # Errors
/// The system gives no random bytes.
pub(super) fn new_token() -> Result<String, Refusal> {
    let mut token = [0; 16];
    let random = rustls::crypto::ring::default_provider().secure_random;
    let filled = random.fill(&mut token);
    filled.map_err(|_| Refusal::new(503, "the system gives no random bytes"))?;
    Ok(format!("{:032x}", u128::from_be_bytes(token)))
}

/// The requests of one viewer.
///
/// ```text
/// begin, resume ──▶ admission ──▶ playing ── no request for a while ──▶ removed
///                       │            │                                    ▲
///                       │ refused    └─ dismissed: its token is refused ──┤
///                       └─────────────────────────────────────────────────┘
/// ```
#[derive(Debug)]
struct Session {
    client: Arc<Client>,
    wanted: Wanted,
    /// If the viewer may play, which is asked once.
    admission: OnceCell<Result<Subscription, Refusal>>,
    begun: StatsSnapshot,
    /// Requests that are being answered.
    requests: AtomicUsize,
    last_request: Mutex<Instant>,
    /// Set when it has been dismissed.
    ended: CancellationToken,
    /// Hooks have been told of the end.
    has_stopped: AtomicBool,
}

/// A request of a session that is being answered. The session does not end meanwhile for
/// want of requests.
#[derive(Debug)]
pub(in crate::server) struct SessionUse {
    session: RequestOf,
    stream: Arc<Stream>,
    /// The session has begun with this request.
    is_first: bool,
}

/// The same before the session is admitted.
#[derive(Debug)]
struct RequestOf(Arc<Session>);

impl RequestOf {
    fn new(session: &Arc<Session>) -> Self {
        session.requests.fetch_add(1, Ordering::Relaxed);
        Self(session.clone())
    }

    /// Asks hooks and origins if the viewer may play: once for all requests, of which several
    /// may come at a time where the viewer comes from another server. They are asked to the
    /// end even if the viewer goes, so that hooks are told of the end of what they allow.
    async fn admit(&self, server: &Arc<Server>) -> Result<Arc<Stream>, Refusal> {
        let (server, request) = (server.clone(), Self::new(&self.0));
        let task = tokio::spawn(async move {
            let _in_progress = server.safepoint.begin_request().await;
            let asked = || request.wanted.admit(&server, &request.client);
            request.admission.get_or_init(asked).await;
            if request.ended.is_cancelled() {
                request.notify_stop(&server);
                // It may have got its part of the quotas after its end.
                request.client.set_activity(Activity::Idle);
            }
        });
        // A task that has panicked has set nothing.
        let _ = task.await;
        self.admitted()
    }

    /// The stream, if the viewer may play it.
    fn admitted(&self) -> Result<Arc<Stream>, Refusal> {
        match self.admission.get() {
            Some(Ok(subscription)) => Ok(subscription.stream().clone()),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::new(500, "the server has failed")),
        }
    }
}

impl std::ops::Deref for RequestOf {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl Drop for RequestOf {
    fn drop(&mut self) {
        *lock(&self.0.last_request) = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SessionUse {
    /// One more request of the session, which has several answers under way.
    pub(in crate::server) fn again(&self) -> Self {
        Self {
            session: RequestOf::new(&self.session.0),
            stream: self.stream.clone(),
            is_first: false,
        }
    }

    /// The stream that it plays.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// True if the session has begun with this request.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// The viewer, for whom bytes are counted.
    pub(in crate::server) fn client(&self) -> &Arc<Client> {
        &self.session.client
    }

    /// Waits until the session is dismissed; for ever without one.
    pub(super) async fn ended(this: Option<&Self>) {
        match this {
            Some(this) => this.session.ended.cancelled().await,
            None => std::future::pending().await,
        }
    }

    /// The answer to requests of a session that has been dismissed.
    pub(super) fn dismissed() -> Refusal {
        Refusal::new(403, "the server has ended the session")
    }

    /// There is something to play.
    pub(super) fn playing(&self) {
        let client = &self.session.client;
        if let Activity::Playing(_) = client.activity() {
            return;
        }
        let key = self.stream.key();
        log::info!("{client}: play {key} by HLS");
        client.set_activity(Activity::Playing(key.clone()));
    }
}

impl Session {
    /// The stream, once the viewer may play it.
    fn subscription(&self) -> Option<&Subscription> {
        self.admission.get()?.as_ref().ok()
    }

    /// The target duration of the playlist, as long as there is one.
    fn target_duration(&self) -> Duration {
        let output = self.subscription().and_then(|it| it.stream().hls());
        output.map_or(Duration::ZERO, |output| output.target_duration())
    }

    /// True if the viewer is gone.
    fn is_idle(&self, now: Instant) -> bool {
        let silence = now.saturating_duration_since(*lock(&self.last_request));
        if self.requests.load(Ordering::Relaxed) > 0 {
            return false;
        }
        match self.client.activity() {
            // The playlist is asked last: few sessions come so far.
            Activity::Playing(_) => {
                silence >= MIN_IDLE && silence >= self.target_duration() * IDLE_TARGETS
            }
            // Who goes before there is something to play has no place to come back to. After
            // an upgrade, its request is answered again.
            _ => silence >= MIN_WAITING_IDLE,
        }
    }

    /// Ends the session: hooks are told, and the log.
    fn end(&self, server: &Server, reason: &CloseReason) {
        let client = &self.client;
        self.notify_stop(server);
        if let Some(subscription) = self.subscription() {
            let stream = subscription.stream();
            let played = StatsSnapshot::of(client, Instant::now()).delivered_since(&self.begun);
            log::info!(
                "{client}: played {} by HLS: {played}; {reason}",
                stream.key()
            );
        }
        client.set_activity(Activity::Idle);
        server.clients.remove(client.id, false);
    }

    /// Tells hooks, once, of the end of a viewer that they have let in.
    fn notify_stop(&self, server: &Server) {
        let Some(subscription) = self.subscription() else {
            return;
        };
        if self.has_stopped.swap(true, Ordering::SeqCst) {
            return;
        }
        let vhost = server.current_vhost(self.wanted.vhost.clone());
        let event = StreamEvent {
            action: "on_stop",
            client: &self.client,
            connect_info: &self.wanted.connect_info,
            parameters: &self.wanted.parameters,
            stream: subscription.stream(),
            ends_publication: false,
        };
        server.hooks.notify(&vhost.http_hooks.on_stop, &event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ() {
        let (one, other) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.len(), 32);
    }
}
