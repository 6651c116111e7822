//! All sessions of a server, by their tokens.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::{RequestOf, Session, SessionUse};
use crate::server::Server;
use crate::server::client::{Activity, StatsSnapshot};
use crate::server::connection::close::CloseReason;
use crate::server::http::wanted::{Refusal, Wanted, WantedPart};
use crate::server::quotas::counted_address;
use crate::server::refusal::{Denial, RefusalReason};
use crate::stream::{Stream, lock};

/// The longest token that a client may bring, in bytes.
const MAX_TOKEN_BYTES: usize = 64;
/// So many sessions that have been dismissed are remembered, the newest.
const MAX_DISMISSED: usize = 65_536;

/// The sessions for the program that the process becomes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::server::hls) struct SessionsPart {
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
pub(in crate::server::hls) struct Sessions(Mutex<Table>);

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

impl Sessions {
    /// The sessions for the program that the process becomes. Those that are not admitted yet
    /// begin anew.
    pub(in crate::server::hls) fn part(&self) -> SessionsPart {
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
    pub(in crate::server::hls) fn take_over(
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
    pub(in crate::server::hls) fn use_again(
        &self,
        viewers: &HashSet<u64>,
    ) -> HashMap<u64, SessionUse> {
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
    pub(in crate::server::hls) async fn begin(
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
    pub(in crate::server::hls) async fn resume(
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
    pub(in crate::server::hls) fn is_known(
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
    pub(in crate::server::hls) fn sweep(&self, server: &Server) {
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
    pub(in crate::server::hls) fn dismiss(&self, server: &Server, is_meant: impl Fn(u64) -> bool) {
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
