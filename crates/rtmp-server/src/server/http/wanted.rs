//! Whoever asks for a stream over HTTP: the stream that is meant, and the checks that a
//! player has to pass.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http_flv::answer::Hint;
use http_flv::request::Request;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{Parameters, StreamKey};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config::{Action, Vhost};
use crate::server::Server;
use crate::server::admission::{self, Admitted, Asked, NoRoom};
use crate::server::client::Client;
use crate::server::connection::waiting::PlayWait;
use crate::server::hooks::StreamEvent;
use crate::server::load::{Full, RETRY_AFTER_S};
use crate::server::loop_guard::LoopGuard;
use crate::server::overflow::http_location;
use crate::server::player::ConnectInfo;
use crate::server::refusal::{Denial, RefusalReason};
use crate::server::upstream::{self, permission};
use crate::stream::{Stream, Subscription};

/// The reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} ({status})")]
pub(in crate::server) struct Refusal {
    /// The status code.
    pub(in crate::server) status: u16,
    /// Text for the client and the log.
    pub(in crate::server) reason: Cow<'static, str>,
    /// What it counts as in metrics.
    pub(in crate::server) cause: RefusalReason,
    /// The place that the client is sent to instead, or the time after which it may ask again.
    pub(in crate::server) hint: Option<Hint>,
}

impl Refusal {
    pub(in crate::server) fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Denial::new(RefusalReason::Other, reason).with_http(status)
    }

    /// There is nothing by this name.
    pub(in crate::server) fn not_found(reason: impl Into<Cow<'static, str>>) -> Self {
        Denial::new(RefusalReason::NoStream, reason).with_http(404)
    }

    pub(in crate::server) fn nobody_publishes(key: &StreamKey) -> Self {
        Self::not_found(format!("nobody publishes {key}"))
    }

    pub(in crate::server) fn no_memory() -> Self {
        let reason = "no memory is left for this stream";
        Denial::new(RefusalReason::Memory, reason).with_http(503)
    }
}

impl Denial {
    /// The same over HTTP, with this status code.
    pub(in crate::server) fn with_http(self, status: u16) -> Refusal {
        Refusal {
            status,
            reason: self.text,
            cause: self.reason,
            hint: None,
        }
    }
}

/// A stream that was asked for.
#[derive(Debug, Clone)]
pub(in crate::server) struct Wanted {
    pub(in crate::server) vhost: Arc<Vhost>,
    pub(in crate::server) key: StreamKey,
    /// The path that its URL was signed for.
    pub(in crate::server) path: String,
    /// True if it was asked for by TLS.
    is_tls: bool,
    is_websocket: bool,
    pub(in crate::server) parameters: Parameters,
    /// What the request says of the client, as `connect` does in RTMP.
    pub(in crate::server) connect_info: ConnectInfo,
}

/// A [`Wanted`] for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct WantedPart {
    vhost: String,
    key: StreamKey,
    path: String,
    is_tls: bool,
    is_websocket: bool,
    parameters: Parameters,
    connect_info: ConnectInfo,
}

/// The vhost that `request` names by a parameter, or by its host.
pub(in crate::server) fn find_vhost(server: &Server, request: &Request) -> Option<Arc<Vhost>> {
    let query = Parameters(request.query.clone());
    let named = query.get("vhost").or_else(|| query.get("domain"));
    let requested = named.unwrap_or(&request.host);
    server.config().vhost(requested).cloned()
}

impl Wanted {
    /// The stream `app`/`name`, asked for with `request` over `connection`.
    pub(in crate::server) fn new(
        server: &Server,
        connection: &Client,
        vhost: Arc<Vhost>,
        place: (&str, &str),
        request: &Request,
    ) -> Result<Self, Refusal> {
        let (app, stream) = place;
        let key = StreamKey::at_path(&vhost.name, app, stream, &server.limits);
        let key = key.map_err(|error| Refusal::not_found(error.to_string()))?;
        let scheme = match connection.tls() {
            Some(_) => "https",
            None => "http",
        };
        let connect_info = ConnectInfo {
            app: key.app.clone(),
            page_url: request.page().into(),
            tc_url: format!("{scheme}://{}/{}", request.host, key.app).into(),
            ..ConnectInfo::default()
        };
        Ok(Self {
            vhost,
            key,
            path: request.path.clone(),
            is_tls: connection.tls().is_some(),
            is_websocket: request.websocket.is_some(),
            parameters: Parameters(request.query.clone()),
            connect_info,
        })
    }

    /// The same for the program that the process becomes.
    pub(in crate::server) fn part(&self) -> WantedPart {
        WantedPart {
            vhost: self.vhost.name.clone(),
            key: self.key.clone(),
            path: self.path.clone(),
            is_tls: self.is_tls,
            is_websocket: self.is_websocket,
            parameters: self.parameters.clone(),
            connect_info: self.connect_info.clone(),
        }
    }

    /// What was asked for before this process became this program; `None` if its vhost is
    /// no longer configured.
    pub(in crate::server) fn take_over(part: WantedPart, server: &Server) -> Option<Self> {
        Some(Self {
            vhost: server.config().vhost(&part.vhost)?.clone(),
            key: part.key,
            path: part.path,
            is_tls: part.is_tls,
            is_websocket: part.is_websocket,
            parameters: part.parameters,
            connect_info: part.connect_info,
        })
    }

    /// Refuses as [`Self::check_viewer`] does, and everybody during a drain.
    pub(in crate::server) fn check(&self, server: &Server, peer: IpAddr) -> Result<(), Refusal> {
        self.check_viewer(peer)?;
        if server.is_draining() {
            return Err(Denial::draining().with_http(503));
        }
        Ok(())
    }

    /// Refuses a viewer whose address, page or signature does not allow it to play.
    pub(in crate::server) fn check_viewer(&self, peer: IpAddr) -> Result<(), Refusal> {
        let asked = Asked {
            action: Action::Play,
            key: &self.key,
            path: Some(&self.path),
            parameters: &self.parameters,
            page_url: &self.connect_info.page_url,
            peer,
        };
        let checked = asked.check(&self.vhost);
        checked.map_err(|denial| denial.with_http(403))
    }

    /// Refuses an address that may not play.
    pub(in crate::server) fn check_address(&self, peer: IpAddr) -> Result<(), Refusal> {
        let checked = admission::check_address(&self.vhost, Action::Play, peer);
        checked.map_err(|denial| denial.with_http(403))
    }

    /// Counts `client` for quotas and for what may be sent.
    fn find_room(
        &self,
        server: &Server,
        client: &Client,
        stream: &Stream,
    ) -> Result<Admitted, Refusal> {
        let admitted = server.admit(&self.vhost, stream, Action::Play, client.peer, false);
        admitted.map_err(|no_room| match no_room {
            NoRoom::Quota(exceeded) => {
                let status = exceeded.status();
                Denial::from(exceeded).with_http(status)
            }
            NoRoom::Capacity(full) => self.refuse_full(server, full),
        })
    }

    /// Sends the viewer elsewhere, or asks it to come again. Browsers follow no redirect of a
    /// WebSocket (Fetch, `WebSocket` handshake).
    fn refuse_full(&self, server: &Server, full: Full) -> Refusal {
        let (is_tls, vhost) = (self.is_tls, &self.vhost.name);
        let admission = &server.config().admission;
        let elsewhere = match self.is_websocket {
            true => None,
            false => http_location(admission, is_tls, vhost, &self.path, &self.parameters),
        };
        let (status, hint) = match elsewhere {
            Some(location) => (302, Hint::Location(location)),
            None => (503, Hint::RetryAfter(RETRY_AFTER_S)),
        };
        Refusal {
            hint: Some(hint),
            ..Denial::from(full).with_http(status)
        }
    }

    /// Asks hooks and origins if `client` may play, and has an edge pull the stream.
    pub(in crate::server) async fn admit(
        &self,
        server: &Arc<Server>,
        client: &Client,
    ) -> Result<Subscription, Refusal> {
        let Self {
            vhost,
            key,
            parameters,
            connect_info,
            ..
        } = self;
        let stream = server.stream(key, vhost);
        // From now on: whoever is dismissed while hooks are asked gives it back at once.
        client.hold(self.find_room(server, client, &stream)?);
        let event = StreamEvent {
            action: "on_play",
            client,
            connect_info,
            parameters,
            stream: &stream,
            ends_publication: false,
        };
        let hooks = &vhost.http_hooks;
        if !server.hooks.authorize(&hooks.on_play, &event).await {
            return Err(Denial::by_hook().with_http(403));
        }
        if let Some(settings) = vhost.upstream.as_ref().filter(|it| it.token_traverse) {
            let loop_guard = LoopGuard::default().with(&server.id);
            let asked =
                permission::request_play(server, settings, key, parameters, &loop_guard).await;
            asked.map_err(|refusal| {
                let event = StreamEvent {
                    action: "on_stop",
                    ..event
                };
                server.hooks.notify(&hooks.on_stop, &event);
                match refusal.code == code::PLAY_STREAM_NOT_FOUND {
                    true => Refusal::nobody_publishes(key),
                    false => Refusal::new(403, refusal.to_string()),
                }
            })?;
        }
        // Looked up again: nothing kept the stream from ending during the requests to
        // hooks and origins.
        let stream = server.stream(key, vhost);
        let subscription = stream.add_subscription();
        if let Some(settings) = &vhost.upstream {
            upstream::ensure_pull(server, &stream, settings, parameters);
        }
        Ok(subscription)
    }
}

/// The wait of a viewer for a stream that has nothing to play.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::server) struct StreamWait {
    #[serde(with = "crate::hand_over::monotonic")]
    begun: Instant,
    wait: PlayWait,
}

impl StreamWait {
    /// Begins to wait for `stream`.
    pub(in crate::server) fn new(stream: &Stream, vhost: &Vhost) -> Self {
        let begun = Instant::now();
        let wait = PlayWait::new(&stream.state().borrow(), vhost, begun);
        Self { begun, wait }
    }

    /// Waits until `stream` has something to play, as long as a player waits. It may be dropped
    /// unfinished and called again.
    ///
    /// # Errors
    /// The wait is over.
    pub(in crate::server) async fn until_live(
        &mut self,
        server: &Server,
        stream: &Stream,
        vhost: &Arc<Vhost>,
    ) -> Result<(), Refusal> {
        let mut states = stream.state();
        loop {
            let state = *states.borrow_and_update();
            if state.live {
                return Ok(());
            }
            if state.ended {
                return Err(Refusal::nobody_publishes(stream.key()));
            }
            let vhost = server.current_vhost(vhost.clone());
            self.wait = self.wait.after(&state, &vhost, Instant::now());
            let deadline = match self.wait {
                PlayWait::Until(until) => Some(until),
                PlayWait::ForPublisher => None,
                PlayWait::ForOrigins(_) => Some(self.begun + server.config().idle_timeout),
            };
            tokio::select! {
                biased;
                // An error cannot be: the sender lives as long as the stream.
                _ = states.changed() => {}
                () = service_kit::sleep_until(deadline) => {
                    return Err(Refusal::nobody_publishes(stream.key()));
                }
            }
        }
    }
}
