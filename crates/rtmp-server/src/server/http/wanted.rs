//! Whoever asks for a stream over HTTP: the stream that is meant, and the checks that a
//! player has to pass.

use std::net::IpAddr;
use std::sync::Arc;

use http_flv::request::Request;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{AppName, Parameters, StreamKey};
use tokio::time::Instant;

use crate::config::{Action, Vhost};
use crate::server::Server;
use crate::server::admission::{Asked, WRONG_ADDRESS};
use crate::server::client::Client;
use crate::server::connection::waiting::PlayWait;
use crate::server::counters::{BY_HOOK, DRAINING};
use crate::server::hooks::StreamEvent;
use crate::server::loop_guard::LoopGuard;
use crate::server::player::ConnectInfo;
use crate::server::upstream::{self, permission};
use crate::stream::{Stream, Subscription};

/// The reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Refusal {
    /// The status code.
    pub(in crate::server) status: u16,
    /// Text for the client and the log.
    pub(in crate::server) reason: String,
}

impl Refusal {
    pub(in crate::server) fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }

    pub(in crate::server) fn nobody_publishes(key: &StreamKey) -> Self {
        Self::new(404, format!("nobody publishes {key}"))
    }
}

/// A stream that was asked for.
#[derive(Debug, Clone)]
pub(in crate::server) struct Wanted {
    pub(in crate::server) vhost: Arc<Vhost>,
    pub(in crate::server) key: StreamKey,
    /// The path that its URL was signed for.
    pub(in crate::server) path: String,
    pub(in crate::server) parameters: Parameters,
    /// What the request says of the client, as `connect` does in RTMP.
    pub(in crate::server) connect_info: ConnectInfo,
}

/// The vhost that `request` names, and the name: a parameter, or the host.
pub(in crate::server) fn find_vhost(
    server: &Server,
    request: &Request,
) -> Option<(Arc<Vhost>, String)> {
    let query = Parameters(request.query.clone());
    let named = query.get("vhost").or_else(|| query.get("domain"));
    let requested = named.unwrap_or(&request.host);
    let vhost = server.config().vhost(requested).cloned()?;
    Some((vhost, requested.to_owned()))
}

impl Wanted {
    /// The stream `app`/`name`, asked for with `request` over `connection`.
    pub(in crate::server) fn new(
        server: &Server,
        connection: &Client,
        (vhost, requested): (Arc<Vhost>, String),
        place: (&str, &str),
        request: &Request,
    ) -> Result<Self, Refusal> {
        let app_name = AppName {
            vhost: requested,
            app: place.0.to_owned(),
            parameters: Parameters::default(),
        };
        let name = app_name.stream(&format!("{}?{}", place.1, request.query), &server.limits);
        let name = name.map_err(|error| Refusal::new(404, error.to_string()))?;
        // In RTMP a query may lengthen the name (`x?vhost=v/y`). Here the path alone names
        // the stream: a signature may be the path's.
        if name.key.app != app_name.app || name.key.stream != place.1 {
            return Err(Refusal::new(404, "no stream is served at this path"));
        }
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..name.key
        };
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
            parameters: name.parameters,
            connect_info,
        })
    }

    /// Refuses as [`Self::check_viewer`] does, and everybody during a drain.
    pub(in crate::server) fn check(&self, server: &Server, peer: IpAddr) -> Result<(), Refusal> {
        self.check_viewer(peer)?;
        if server.is_draining() {
            return Err(Refusal::new(503, DRAINING));
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
        checked.map_err(|reason| Refusal::new(403, reason.into_owned()))
    }

    /// Refuses an address that may not play.
    pub(in crate::server) fn check_address(&self, peer: IpAddr) -> Result<(), Refusal> {
        match self.vhost.security.permits(Action::Play, peer) {
            true => Ok(()),
            false => Err(Refusal::new(403, WRONG_ADDRESS)),
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
        let peer = client.peer.ip();
        let permit = server
            .quotas
            .acquire(vhost, stream.key(), Action::Play, peer);
        let permit = permit.map_err(|it| Refusal::new(it.status(), it.to_string()))?;
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
            return Err(Refusal::new(403, BY_HOOK));
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
        client.hold(permit);
        if let Some(settings) = &vhost.upstream {
            upstream::ensure_pull(server, &stream, settings, parameters);
        }
        Ok(subscription)
    }
}

/// Waits until `stream` has something to play, as long as a player waits.
pub(in crate::server) async fn wait_until_live(
    server: &Server,
    stream: &Stream,
    vhost: &Arc<Vhost>,
) -> Result<(), Refusal> {
    let mut vhost = vhost.clone();
    let mut states = stream.state();
    let mut state = *states.borrow_and_update();
    let begun = Instant::now();
    let mut wait = PlayWait::new(&state, &vhost, begun);
    loop {
        if state.live {
            return Ok(());
        }
        if state.ended {
            return Err(Refusal::nobody_publishes(stream.key()));
        }
        let deadline = match wait {
            PlayWait::Until(until) => Some(until),
            PlayWait::ForPublisher => None,
            PlayWait::ForOrigins(_) => Some(begun + server.config().idle_timeout),
        };
        tokio::select! {
            biased;
            // An error cannot be: the sender lives as long as the stream.
            _ = states.changed() => {
                state = *states.borrow_and_update();
                vhost = server.current_vhost(vhost);
                wait = wait.after(&state, &vhost, Instant::now());
            }
            () = service_kit::sleep_until(deadline) => {
                return Err(Refusal::nobody_publishes(stream.key()));
            }
        }
    }
}
