//! Sessions: the requests of one viewer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::server::Server;
use crate::server::client::{Activity, Client, StatsSnapshot};
use crate::server::connection::close::CloseReason;
use crate::server::hooks::StreamEvent;
use crate::server::http::wanted::{Refusal, Wanted, WantedPart};
use crate::server::quotas::counted_address;
use crate::server::refusal::{Denial, RefusalReason};
use crate::stream::{Stream, Subscription, lock};

/// A viewer without a request for so many target durations is gone.
const IDLE_TARGETS: u32 = 2;
/// The least time without a request after which a viewer is gone.
const MIN_IDLE: Duration = Duration::from_secs(10);
/// The same where there has been nothing to play yet.
const MIN_WAITING_IDLE: Duration = Duration::from_secs(2);
/// The longest token that a client may bring, in bytes.
const MAX_TOKEN_BYTES: usize = 64;
/// So many sessions that have been dismissed are remembered, the newest.
const MAX_DISMISSED: usize = 65_536;

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

/// The sessions for the program that the process becomes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct SessionsPart {
    sessions: Vec<SessionPart>,
    /// Those that have been dismissed, the oldest first.
    dismissed: Vec<SessionId>,
}

/// A session that has been admitted.
#[derive(Debug, Serialize, Deserialize)]
struct SessionPart {
    id: SessionId,
    client: u64,
    wanted: WantedPart,
    /// Id of the stream that it plays.
    stream: u64,
    begun: StatsSnapshot,
}

/// The sessions of a server.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<Arc<SessionId>, Arc<Session>>,
    dismissed: Dismissed,
}

/// Sessions that have been dismissed. A token has no end of its own: no request with one of
/// theirs is answered, as long as there is room to remember it.
#[derive(Debug, Default)]
struct Dismissed {
    known: HashSet<Arc<SessionId>>,
    oldest_first: VecDeque<Arc<SessionId>>,
}

impl Dismissed {
    fn insert(&mut self, id: Arc<SessionId>) {
        if self.known.insert(id.clone()) {
            self.oldest_first.push_back(id);
        }
        if self.oldest_first.len() > MAX_DISMISSED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// What tells sessions apart. A token that others get to know is worth no session to them:
/// from another address, whoever brings it has to pass the checks again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SessionId {
    token: Box<str>,
    /// The viewer's [`counted_address`].
    address: IpAddr,
}

impl SessionId {
    fn new(token: &str, peer: SocketAddr) -> Self {
        Self {
            token: token.into(),
            address: counted_address(peer.ip()),
        }
    }
}

impl Table {
    /// The session `id`.
    ///
    /// # Errors
    /// It has been dismissed, or is another stream's.
    fn find(&self, id: &SessionId, wanted: &Wanted) -> Result<Option<&Arc<Session>>, Refusal> {
        if self.dismissed.known.contains(id) {
            return Err(SessionUse::dismissed());
        }
        let Some(session) = self.sessions.get(id) else {
            return Ok(None);
        };
        if session.wanted.key != wanted.key {
            return Err(Refusal::new(403, "hls_ctx is a session of another stream"));
        }
        Ok(Some(session))
    }

    /// The same with one more request.
    fn request(&self, id: &SessionId, wanted: &Wanted) -> Result<Option<RequestOf>, Refusal> {
        Ok(self.find(id, wanted)?.map(RequestOf::new))
    }
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

impl Sessions {
    /// The sessions for the program that the process becomes. Those that are not admitted yet
    /// begin anew.
    pub(super) fn part(&self) -> SessionsPart {
        let table = lock(&self.0);
        let sessions = table.sessions.iter().filter_map(|(id, session)| {
            let stream = session.subscription()?.stream().id();
            Some(SessionPart {
                id: (**id).clone(),
                client: session.client.id,
                wanted: session.wanted.part(),
                stream,
                begun: session.begun,
            })
        });
        let dismissed = table.dismissed.oldest_first.iter();
        SessionsPart {
            sessions: sessions.collect(),
            dismissed: dismissed.map(|id| (**id).clone()).collect(),
        }
    }

    /// Goes on with sessions that this process has had before; the ids of their clients.
    pub(super) fn take_over(
        &self,
        server: &Server,
        part: SessionsPart,
        streams: &HashMap<u64, Arc<Stream>>,
    ) -> Vec<u64> {
        let now = Instant::now();
        let mut clients = Vec::new();
        let mut table = lock(&self.0);
        for id in part.dismissed {
            table.dismissed.insert(Arc::new(id));
        }
        for part in part.sessions {
            let taken = || {
                Some((
                    server.clients.find(part.client)?,
                    Wanted::take_over(part.wanted, server)?,
                    streams.get(&part.stream)?,
                ))
            };
            // It begins anew with the next request, if there is one.
            let Some((client, wanted, stream)) = taken() else {
                continue;
            };
            clients.push(client.id);
            let session = Session {
                begun: part.begun,
                client,
                wanted,
                admission: OnceCell::new_with(Some(Ok(stream.add_subscription()))),
                has_stopped: AtomicBool::new(false),
                requests: AtomicUsize::new(0),
                // Nobody has listened meanwhile.
                last_request: Mutex::new(now),
                ended: CancellationToken::new(),
            };
            table.sessions.insert(Arc::new(part.id), Arc::new(session));
        }
        clients
    }

    /// Requests of the sessions of these viewers, which are admitted.
    pub(super) fn use_again(&self, viewers: &HashSet<u64>) -> HashMap<u64, SessionUse> {
        if viewers.is_empty() {
            return HashMap::new();
        }
        let table = lock(&self.0);
        let sessions = table.sessions.values();
        let meant = sessions.filter(|session| viewers.contains(&session.client.id));
        let uses = meant.filter_map(|session| {
            let again = SessionUse {
                stream: session.subscription()?.stream().clone(),
                session: RequestOf::new(session),
                is_first: false,
            };
            Some((session.client.id, again))
        });
        uses.collect()
    }

    /// A new session by this token, or the one that there is.
    ///
    /// # Errors
    /// The viewer may not play.
    pub(super) async fn begin(
        &self,
        server: &Arc<Server>,
        peer: SocketAddr,
        token: &str,
        wanted: &Wanted,
    ) -> Result<SessionUse, Refusal> {
        let id = SessionId::new(token, peer);
        let known = lock(&self.0).request(&id, wanted)?;
        let is_first = known.is_none();
        let session = match known {
            Some(session) => session,
            None => {
                wanted.check(server, peer.ip())?;
                self.insert(server, peer, id.clone(), wanted)?
            }
        };
        let admitted = match session.admission.get() {
            Some(_) => session.admitted(),
            // Boxed, as a session is admitted once.
            None => Box::pin(session.admit(server)).await,
        };
        let stream = match admitted {
            Ok(stream) => stream,
            Err(refusal) => {
                self.remove_refused(server, &id, &session);
                return Err(refusal);
            }
        };
        Ok(SessionUse {
            session,
            stream,
            is_first,
        })
    }

    /// The session by the token that a client has brought; a new one, by the same checks, if
    /// it is not known here: it may be another server's, or have ended.
    ///
    /// # Errors
    /// The viewer may not play, or has been dismissed.
    pub(super) async fn resume(
        &self,
        server: &Arc<Server>,
        peer: SocketAddr,
        token: &str,
        wanted: &Wanted,
    ) -> Result<SessionUse, Refusal> {
        let is_token = token.len() <= MAX_TOKEN_BYTES
            && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_token {
            return Err(Refusal::new(400, "hls_ctx is no session of this server"));
        }
        wanted.check_address(peer.ip())?;
        self.begin(server, peer, token, wanted).await
    }

    /// True if a session by `token` plays what is wanted; it gets no request by that.
    ///
    /// # Errors
    /// It has been dismissed, or is another stream's.
    pub(super) fn is_known(
        &self,
        peer: SocketAddr,
        token: &str,
        wanted: &Wanted,
    ) -> Result<bool, Refusal> {
        let table = lock(&self.0);
        let known = table.find(&SessionId::new(token, peer), wanted)?;
        Ok(known.is_some())
    }

    fn insert(
        &self,
        server: &Server,
        peer: SocketAddr,
        id: SessionId,
        wanted: &Wanted,
    ) -> Result<RequestOf, Refusal> {
        let mut table = lock(&self.0);
        // Another request of the same viewer may have been faster.
        if let Some(request) = table.request(&id, wanted)? {
            return Ok(request);
        }
        let now = Instant::now();
        let limits = server.connection_limits();
        let client = server.clients.add_session(peer, limits, now);
        let client = client.map_err(|limit| {
            let reason = format!("too many viewers: {limit}");
            Denial::new(RefusalReason::MaxConnections, reason).with_http(503)
        })?;
        client.set_activity(Activity::Waiting(Arc::new(wanted.key.clone())));
        let session = Arc::new(Session {
            begun: StatsSnapshot::of(&client, now),
            client,
            wanted: wanted.clone(),
            admission: OnceCell::new(),
            has_stopped: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            last_request: Mutex::new(now),
            ended: CancellationToken::new(),
        });
        let request = RequestOf::new(&session);
        table.sessions.insert(Arc::new(id), session);
        Ok(request)
    }

    /// Removes a session that may not play.
    fn remove_refused(&self, server: &Server, id: &SessionId, session: &RequestOf) {
        server.clients.remove(session.client.id, false);
        let sessions = &mut lock(&self.0).sessions;
        // Another session may have taken the token meanwhile.
        if sessions
            .get(id)
            .is_some_and(|it| Arc::ptr_eq(it, &session.0))
        {
            sessions.remove(id);
        }
    }

    /// Ends sessions without requests.
    pub(super) fn sweep(&self, server: &Server) {
        let now = Instant::now();
        let gone: Vec<_> = {
            let sessions = &mut lock(&self.0).sessions;
            let gone = sessions.extract_if(|_, session| session.is_idle(now));
            gone.map(|(_, session)| session).collect()
        };
        for session in gone {
            let subscription = session.subscription();
            let ended = subscription.is_some_and(|it| it.stream().has_ended());
            let reason = match ended {
                true => CloseReason::StreamEnded,
                false => CloseReason::NoRequest,
            };
            session.end(server, &reason);
        }
    }

    /// Ends the sessions of those clients, whose tokens are worth nothing from then on.
    pub(super) fn dismiss(&self, server: &Server, is_meant: impl Fn(u64) -> bool) {
        let meant: Vec<_> = {
            let Table {
                sessions,
                dismissed,
            } = &mut *lock(&self.0);
            let meant = sessions.extract_if(|_, session| is_meant(session.client.id));
            let meant = meant.map(|(id, session)| {
                dismissed.insert(id);
                session
            });
            meant.collect()
        };
        for session in meant {
            session.ended.cancel();
            session.end(server, &CloseReason::Dismissed);
        }
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

    #[test]
    fn the_newest_sessions_that_were_dismissed_are_remembered() {
        let mut dismissed = Dismissed::default();
        let id = |number: usize| {
            let peer = "192.0.2.1:5".parse().unwrap();
            SessionId::new(&number.to_string(), peer)
        };
        for number in 0..=MAX_DISMISSED {
            dismissed.insert(Arc::new(id(number)));
            dismissed.insert(Arc::new(id(number)));
        }
        assert_eq!(dismissed.known.len(), MAX_DISMISSED);
        assert_eq!(dismissed.oldest_first.len(), MAX_DISMISSED);
        assert!(!dismissed.known.contains(&id(0)));
        assert!(dismissed.known.contains(&id(1)));
    }
}
