//! The requests of a client: connect, publish and play, and their answers.

use std::sync::Arc;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{
    ConnectRequest, ConnectSettings, Parameters, PlayRequest, PublishRequest, ServerEvent, Status,
    StreamKey,
};
use rtmp_proto::wire::amf0::Value;

use super::Connection;
use super::close::CloseReason;
use super::play::{Play, PlayOptions};
use super::publishing::{PublishState, PublishTarget, Publishing};
use super::role::ConnectionRole;
use super::waiting::Waiting;
use crate::config::{Action, Vhost};
use crate::server::EventKind;
use crate::server::admission::{Admitted, Asked, NoRoom, marks_backup};
use crate::server::client::{Activity, ClientUrls, StatsSnapshot};
use crate::server::hooks::{ClientEvent, StreamEvent};
use crate::server::loop_guard::LoopGuard;
use crate::server::overflow::refuse_by_rtmp;
use crate::server::peer::PeerKind;
use crate::server::player::ConnectInfo;
use crate::server::refusal::{Denial, RefusalReason, RefusedRequest};
use crate::server::upstream::{self, permission};
use crate::server::{dvr, forward, programs, turns};
use crate::stream::{Busy, Candidate, Rank, Stream};

impl Connection {
    /// Answers a request.
    pub(super) async fn handle_request(&mut self, request: ServerEvent) -> Result<(), CloseReason> {
        match request {
            ServerEvent::Connect(request) => self.connect(*request).await,
            ServerEvent::Publish(request) => {
                let stream_id = request.stream_id;
                let Err(refusal) = self.publish(*request).await else {
                    return Ok(());
                };
                let status = &refusal.status;
                self.session
                    .refuse_publish(stream_id, status, &mut self.out);
                self.refused(refusal)
            }
            ServerEvent::Play(request) => {
                let stream_id = request.stream_id;
                let Err(refusal) = self.play(request).await else {
                    return Ok(());
                };
                let status = &refusal.status;
                self.session.refuse_play(stream_id, status, &mut self.out);
                self.refused(refusal)
            }
            _ => Ok(()),
        }
    }

    /// A refusal ends the connection, unless something is published on it.
    fn refused(&self, refusal: RefusedRequest) -> Result<(), CloseReason> {
        if matches!(self.role, ConnectionRole::Publishing { .. }) {
            self.client.log_refusal(&refusal.status);
            return Ok(());
        }
        Err(CloseReason::Refused(refusal))
    }

    async fn connect(&mut self, request: ConnectRequest) -> Result<(), CloseReason> {
        let loop_guard = LoopGuard::from_connect(&request.object);
        let vhost = self.server.config().vhost(&request.vhost).cloned();
        let refusal = match (loop_guard.check(&self.server.id), vhost) {
            (Err(refusal), _) => Denial::new(RefusalReason::Other, refusal),
            (_, None) => {
                let text = format!("there is no vhost {} here", request.vhost);
                Denial::new(RefusalReason::Other, text)
            }
            (_, Some(vhost)) => {
                self.connect_info = ConnectInfo {
                    app: request.app.clone(),
                    page_url: request.page_url.as_str().into(),
                    tc_url: request.tc_url.as_str().into(),
                    parameters: request.parameters.clone(),
                    gop_cache: request.gop_cache,
                    peer: PeerKind::of(&request, &loop_guard),
                    loop_guard,
                    reconnects: request.reconnects,
                };
                let swf_url = request.object.get("swfUrl").and_then(Value::as_str);
                self.client.set_urls(ClientUrls {
                    tc_url: self.connect_info.tc_url.clone(),
                    page_url: self.connect_info.page_url.clone(),
                    swf_url: swf_url.unwrap_or_default().into(),
                    is_server: self.connect_info.peer.is_server(),
                    loop_guard: self.connect_info.loop_guard.clone(),
                });
                if self.may_connect(&vhost).await {
                    self.accept_connect(&request, vhost);
                    return Ok(());
                }
                Denial::by_hook()
            }
        };
        let refusal = refusal.with(Status::connect_rejected);
        self.session.refuse_connect(&refusal.status, &mut self.out);
        Err(CloseReason::Refused(refusal))
    }

    /// The loop guard for connections to our origins: the client's, and this server.
    fn loop_guard(&self) -> LoopGuard {
        self.connect_info.loop_guard.with(&self.server.id)
    }

    /// Returns true if `on_connect` of `vhost` lets the client in.
    async fn may_connect(&self, vhost: &Vhost) -> bool {
        let event = ClientEvent {
            action: "on_connect",
            client: &self.client,
            vhost,
            connect_info: &self.connect_info,
            totals: None,
        };
        let urls = &vhost.http_hooks.on_connect;
        self.server.hooks.authorize(urls, &event).await
    }

    fn accept_connect(&mut self, request: &ConnectRequest, vhost: Arc<Vhost>) {
        log::debug!(
            "{}: connect to {:?} ({:?})",
            self.client,
            request.tc_url,
            request.flash_ver
        );
        let settings = ConnectSettings {
            chunk_size: vhost.chunk_size,
            in_ack_size: vhost.in_ack_size,
            out_ack_size: vhost.out_ack_size,
        };
        self.session.accept_connect(&settings, &mut self.out);
        self.vhost = Some(vhost);
    }

    /// Makes the checks that publish and play have in common. Returns the vhost
    /// that serves the request, and the stream's name there.
    async fn check_request(
        &mut self,
        key: StreamKey,
        parameters: &Parameters,
        action: Action,
    ) -> Result<(Arc<Vhost>, StreamKey), Denial> {
        let vhost = self.server.config().vhost(&key.vhost).cloned();
        let other = |text| Denial::new(RefusalReason::Other, text);
        let vhost = vhost.ok_or_else(|| other("there is no such vhost here"))?;
        let asked = Asked {
            action,
            key: &key,
            path: None,
            parameters: self.connect_info.parameters(parameters),
            page_url: &self.connect_info.page_url,
            peer: self.client.peer.ip(),
        };
        asked.check(&vhost)?;
        if self.server.is_draining() {
            return Err(Denial::draining());
        }
        if let ConnectionRole::Waiting(Waiting { play, .. }) = &self.role {
            // It waits on another message stream: a connection plays or publishes
            // one stream at a time.
            let stopped = Status::notice(code::PLAY_STOP, "Stopped playing stream.");
            self.session
                .refuse_play(play.request.stream_id, &stopped, &mut self.out);
            self.end_role();
        }
        if !matches!(self.role, ConnectionRole::Idle) {
            return Err(other("this connection publishes a stream already"));
        }
        if !self.client.may_request_stream(std::time::Instant::now()) {
            return Err(other("this connection asks for too many streams at once"));
        }
        let connected = self.vhost.as_ref().map(|vhost| &vhost.name);
        if connected != Some(&vhost.name) && !self.may_connect(&vhost).await {
            return Err(Denial::by_hook());
        }
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..key
        };
        Ok((vhost, key))
    }

    /// Counts the client for the quotas of `vhost`, and for what may be sent.
    ///
    /// # Errors
    /// There is no room for it.
    fn admit(
        &self,
        vhost: &Vhost,
        stream: &Stream,
        action: Action,
        parameters: &Parameters,
    ) -> Result<Admitted, RefusedRequest> {
        let is_relay = self.connect_info.peer.is_server();
        let peer = self.client.peer;
        let admitted = self.server.admit(vhost, stream, action, peer, is_relay);
        admitted.map_err(|no_room| match (no_room, action) {
            (NoRoom::Quota(exceeded), Action::Publish) => {
                Denial::from(exceeded).with(Status::publish_denied)
            }
            (NoRoom::Quota(exceeded), Action::Play) => {
                Denial::from(exceeded).with(Status::play_failed)
            }
            (NoRoom::Capacity(full), Action::Publish) => {
                Denial::from(full).with(Status::publish_denied)
            }
            (NoRoom::Capacity(full), Action::Play) => {
                let admission = &self.server.config().admission;
                let is_tls = self.client.tls().is_some();
                refuse_by_rtmp(full, admission, is_tls, stream.key(), parameters)
            }
        })
    }

    async fn publish(&mut self, request: PublishRequest) -> Result<(), RefusedRequest> {
        let PublishRequest {
            stream_id,
            key,
            parameters,
            ..
        } = request;
        let (vhost, key) = self
            .check_request(key, &parameters, Action::Publish)
            .await
            .map_err(|denial| denial.with(Status::publish_denied))?;
        let stream = self.server.stream(&key, &vhost);
        let admitted = self.admit(&vhost, &stream, Action::Publish, &parameters)?;
        // Players that wait for the stream wait for the decision, too.
        let expectation = stream.expect_publisher();
        let rank = rank(self.connect_info.parameters(&parameters));
        if vhost.upstream.is_none() {
            self.check_can_publish(&stream, rank)?;
        }
        let event = StreamEvent {
            action: "on_publish",
            ..self.stream_event(&stream, &parameters)
        };
        let urls = &vhost.http_hooks.on_publish;
        if !self.server.hooks.authorize(urls, &event).await {
            return Err(Denial::by_hook().with(Status::publish_denied));
        }
        let target = self
            .publish_target(&vhost, &stream, &parameters, rank)
            .await;
        let target = target.inspect_err(|refusal| {
            // If the stream has another publisher, it goes on: no notification of an end.
            if refusal.status.code != code::PUBLISH_BAD_NAME {
                let event = StreamEvent {
                    action: "on_unpublish",
                    ..event
                };
                let urls = &vhost.http_hooks.on_unpublish;
                self.server.hooks.notify(urls, &event);
            }
        })?;
        drop(expectation);
        let activity = match &target {
            PublishTarget::Log { publication, .. } => turns::activity(publication),
            PublishTarget::Origin(_) => Activity::Publishing(stream.key().clone()),
        };
        let is_on_air = matches!(activity, Activity::Publishing(_));
        let beside = if is_on_air { "" } else { "as a standby" };
        log::info!("{}: publish {key} {beside}", self.client);
        let (events, ip) = (self.server.events(), self.client.peer.ip());
        events.record(EventKind::Publish, Some(&key), Some(ip), beside);
        self.session.accept_publish(stream_id, &mut self.out);
        self.client.set_activity(activity);
        self.client.hold(admitted);
        dvr::begin(&self.server, &stream, &vhost).await;
        forward::begin(&self.server, &stream, &vhost);
        let asked = self.connect_info.parameters(&parameters);
        programs::published::begin(
            &self.server,
            &stream,
            &vhost,
            &self.client,
            asked,
            is_on_air,
        );
        self.vhost = Some(vhost);
        self.role = ConnectionRole::Publishing(Publishing {
            stream_id,
            stream,
            parameters,
            target,
            is_on_air,
            begun: StatsSnapshot::of(&self.client, std::time::Instant::now()),
            state: PublishState::AwaitingMedia,
        });
        Ok(())
    }

    /// Returns the refusal if a publication of `stream` cannot begin here. Hooks
    /// get no request for such a one.
    fn check_can_publish(&self, stream: &Arc<Stream>, rank: Rank) -> Result<(), RefusedRequest> {
        let now = std::time::Instant::now();
        if let Some(reason) = stream.refusal(rank, now) {
            return Err(busy(stream.key(), reason));
        }
        if !self.server.registry.logs().has_room(now) {
            let text = "no memory is left for one more stream (`stream_memory`)";
            return Err(Denial::new(RefusalReason::Memory, text).with(Status::publish_denied));
        }
        Ok(())
    }

    /// Begins the publication: at the origin of an edge, else in the stream's log.
    async fn publish_target(
        &self,
        vhost: &Vhost,
        stream: &Arc<Stream>,
        parameters: &Parameters,
        rank: Rank,
    ) -> Result<PublishTarget, RefusedRequest> {
        let key = stream.key();
        if let Some(upstream) = &vhost.upstream {
            let parameters = self.connect_info.parameters(parameters);
            let server = &self.server;
            let loop_guard = self.loop_guard();
            let begun =
                upstream::forward::begin(server, upstream, key, parameters, &loop_guard).await;
            let connection = begun.map_err(RefusedRequest::by_origin)?;
            return Ok(PublishTarget::Origin(Box::new(connection)));
        }
        let stream_state = stream.state();
        let candidate = Candidate {
            rank,
            client: Some(self.client.id),
        };
        let publication = stream.publish_as(candidate, std::time::Instant::now());
        let publication = publication.map_err(|reason| busy(key, reason))?;
        if publication.is_on_air() {
            stream.set_parameters(self.connect_info.parameters(parameters));
        }
        Ok(PublishTarget::Log {
            publication,
            stream_state,
            batch: Vec::new(),
        })
    }

    async fn play(&mut self, request: Box<PlayRequest>) -> Result<(), RefusedRequest> {
        let (vhost, key) = self
            .check_request(request.key.clone(), &request.parameters, Action::Play)
            .await
            .map_err(|denial| denial.with(Status::play_failed))?;
        let stream = self.server.stream(&key, &vhost);
        let parameters = self.connect_info.parameters(&request.parameters).clone();
        let admitted = self.admit(&vhost, &stream, Action::Play, &parameters)?;
        let event = StreamEvent {
            action: "on_play",
            ..self.stream_event(&stream, &request.parameters)
        };
        let urls = &vhost.http_hooks.on_play;
        if !self.server.hooks.authorize(urls, &event).await {
            return Err(Denial::by_hook().with(Status::play_failed));
        }
        if let Some(settings) = vhost.upstream.as_ref().filter(|it| it.token_traverse) {
            let asked = permission::request_play(
                &self.server,
                settings,
                &key,
                &parameters,
                &self.loop_guard(),
            )
            .await;
            asked.map_err(|refusal| {
                let event = StreamEvent {
                    action: "on_stop",
                    ..event
                };
                self.server.hooks.notify(&vhost.http_hooks.on_stop, &event);
                RefusedRequest::by_origin(refusal)
            })?;
        }
        // Looked up again: nothing kept the stream from ending during the
        // requests to hooks and origins.
        let stream = self.server.stream(&key, &vhost);
        let play = Play {
            request,
            subscription: stream.add_subscription(),
            options: PlayOptions::default(),
        };
        if let Some(settings) = &vhost.upstream {
            upstream::ensure_pull(&self.server, &stream, settings, &parameters);
        }
        self.vhost = Some(vhost.clone());
        self.client.hold(admitted);
        self.play_or_wait(play, &vhost);
        Ok(())
    }
}

/// The status for a publisher whose stream has another one.
fn busy(key: &StreamKey, reason: Busy) -> RefusedRequest {
    let text = format!("{key}: {reason}");
    Denial::new(RefusalReason::Busy, text).with(Status::publish_bad_name)
}

/// The rank of a publisher with these parameters.
fn rank(parameters: &Parameters) -> Rank {
    match marks_backup(parameters) {
        true => Rank::Backup,
        false => Rank::Primary,
    }
}
