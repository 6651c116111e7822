//! What a client asks for, and whether it gets it.

use std::sync::Arc;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{
    ConnectRequest, ConnectSettings, Parameters, PlayRequest, PublishRequest, ServerEvent, Status,
    StreamKey,
};

use super::end::End;
use super::handover::{Play, PlayOptions};
use super::{Connection, Engagement, Sink};
use crate::config::{Action, Vhost};
use crate::server::clients::{Activity, StatsSnapshot};
use crate::server::hooks::{ClientEvent, StreamEvent};
use crate::server::peer::PeerKind;
use crate::server::player::ConnectInfo;
use crate::server::upstream::{self, forward, permission};
use crate::server::via::Via;
use crate::stream::{Busy, Stream};

impl Connection {
    /// Answers a request.
    pub(super) async fn decide(&mut self, request: ServerEvent) -> Result<(), End> {
        match request {
            ServerEvent::Connect(request) => self.connect(*request).await,
            ServerEvent::Publish(request) => {
                let stream_id = request.stream_id;
                let Err(refusal) = self.publish(*request).await else {
                    return Ok(());
                };
                self.session
                    .refuse_publish(stream_id, &refusal, &mut self.out);
                self.refused(refusal)
            }
            ServerEvent::Play(request) => {
                let stream_id = request.stream_id;
                let Err(refusal) = self.play(request).await else {
                    return Ok(());
                };
                self.session.refuse_play(stream_id, &refusal, &mut self.out);
                self.refused(refusal)
            }
            _ => Ok(()),
        }
    }

    /// A refusal ends the connection, unless something is published on it.
    fn refused(&self, refusal: Status) -> Result<(), End> {
        if matches!(self.engagement, Engagement::Publishing { .. }) {
            self.client.log_refusal(&refusal);
            return Ok(());
        }
        Err(End::Refused(refusal))
    }

    async fn connect(&mut self, request: ConnectRequest) -> Result<(), End> {
        let via = Via::told_by(&request.object);
        let vhost = self.server.config().vhost(&request.vhost).cloned();
        let refusal = match (via.may_go_on_to(&self.server.id), vhost) {
            (Err(refusal), _) => refusal.to_owned(),
            (_, None) => format!("there is no vhost {} here", request.vhost),
            (_, Some(vhost)) => {
                self.connect_info = ConnectInfo {
                    app: request.app.clone(),
                    page_url: request.page_url.clone(),
                    tc_url: request.tc_url.clone(),
                    parameters: request.parameters.clone(),
                    gop_cache: request.gop_cache,
                    peer: PeerKind::of(&request, &via),
                    via,
                };
                if self.may_connect(&vhost).await {
                    self.accept_connect(&request, vhost);
                    return Ok(());
                }
                "not allowed".to_owned()
            }
        };
        let status = Status::connect_rejected(refusal);
        self.session.refuse_connect(&status, &mut self.out);
        Err(End::Refused(status))
    }

    /// What our origins are told of the way here.
    fn via(&self) -> Via {
        self.connect_info.via.and(&self.server.id)
    }

    /// Whether `on_connect` of `vhost` lets the client in.
    async fn may_connect(&self, vhost: &Vhost) -> bool {
        let event = ClientEvent {
            action: "on_connect",
            client: &self.client,
            vhost,
            connect_info: &self.connect_info,
            totals: None,
        };
        let urls = &vhost.http_hooks.on_connect;
        self.server.hooks.allow(urls, &event).await
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

    /// What a publish and a play have to pass alike: the vhost that serves
    /// them, and the stream's name there.
    async fn admit(
        &mut self,
        key: StreamKey,
        action: Action,
    ) -> Result<(Arc<Vhost>, StreamKey), &'static str> {
        let vhost = self.server.config().vhost(&key.vhost).cloned();
        let vhost = vhost.ok_or("there is no such vhost here")?;
        if !vhost.security.permits(action, self.client.peer.ip()) {
            return Err("not allowed from this address");
        }
        if !vhost.referers.permit(action, &self.connect_info.page_url) {
            return Err("not allowed from this page");
        }
        if self.server.is_draining() {
            return Err("the server is about to stop");
        }
        if let Engagement::Waiting { play, .. } = &self.engagement {
            // It waits on another message stream: one thing at a time.
            let stopped = Status::notice(code::PLAY_STOP, "Stopped playing stream.");
            self.session
                .refuse_play(play.request.stream_id, &stopped, &mut self.out);
            self.disengage();
        }
        if !matches!(self.engagement, Engagement::None) {
            return Err("this connection is engaged already");
        }
        if !self.client.may_ask(std::time::Instant::now()) {
            return Err("this connection asks for too many streams at once");
        }
        let connected = self.vhost.as_ref().map(|vhost| &vhost.name);
        if connected != Some(&vhost.name) && !self.may_connect(&vhost).await {
            return Err("not allowed");
        }
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..key
        };
        Ok((vhost, key))
    }

    async fn publish(&mut self, request: PublishRequest) -> Result<(), Status> {
        let PublishRequest {
            stream_id,
            key,
            parameters,
            ..
        } = request;
        let (vhost, key) = self
            .admit(key, Action::Publish)
            .await
            .map_err(Status::publish_denied)?;
        let stream = self.server.stream(&key, &vhost);
        // Whoever waits for it waits for the decision, too.
        let expectation = stream.expect_publisher();
        if vhost.upstream.is_none() {
            self.may_begin(&stream)?;
        }
        let event = StreamEvent {
            action: "on_publish",
            ..self.stream_event(&stream, &parameters)
        };
        let urls = &vhost.http_hooks.on_publish;
        if !self.server.hooks.allow(urls, &event).await {
            return Err(Status::publish_denied("not allowed"));
        }
        let sink = self.sink(&vhost, &stream, &parameters).await;
        let sink = sink.inspect_err(|refusal| {
            // Where the stream has another publisher, the show goes on.
            if refusal.code != code::PUBLISH_BAD_NAME {
                let event = StreamEvent {
                    action: "on_unpublish",
                    ..event
                };
                let urls = &vhost.http_hooks.on_unpublish;
                self.server.hooks.tell(urls, &event);
            }
        })?;
        drop(expectation);
        log::info!("{}: publish {key}", self.client);
        self.session.accept_publish(stream_id, &mut self.out);
        let activity = Activity::Publishing(stream.key().clone());
        self.client.set_activity(activity);
        self.vhost = Some(vhost);
        self.engagement = Engagement::Publishing {
            stream_id,
            stream,
            parameters,
            sink,
            begun: StatsSnapshot::of(&self.client, std::time::Instant::now()),
            first: true,
            superseded: false,
        };
        Ok(())
    }

    /// Whether a publication of `stream` may begin here; hooks are not asked
    /// about one that may not.
    fn may_begin(&self, stream: &Arc<Stream>) -> Result<(), Status> {
        let now = std::time::Instant::now();
        if stream.is_busy(now) {
            return Err(busy(stream.key()));
        }
        if !self.server.registry.logs().has_room(now) {
            return Err(Status::publish_denied(
                "no memory is left for one more stream (`stream_memory`)",
            ));
        }
        Ok(())
    }

    /// Where what is published goes: to the origin, or to the stream's log.
    async fn sink(
        &self,
        vhost: &Vhost,
        stream: &Arc<Stream>,
        parameters: &Parameters,
    ) -> Result<Sink, Status> {
        let key = stream.key();
        if let Some(upstream) = &vhost.upstream {
            let parameters = self.connect_info.parameters(parameters);
            let limits = &self.server.limits;
            let dialled = forward::begin(upstream, key, parameters, &self.via(), limits).await?;
            return Ok(Sink::Origin(Box::new(dialled)));
        }
        let state = stream.state();
        let publication = stream.publish(std::time::Instant::now());
        let publication = publication.map_err(|_| busy(key))?;
        Ok(Sink::Log {
            publication,
            state,
            batch: Vec::new(),
        })
    }

    async fn play(&mut self, request: Box<PlayRequest>) -> Result<(), Status> {
        let (vhost, key) = self
            .admit(request.key.clone(), Action::Play)
            .await
            .map_err(Status::play_failed)?;
        let stream = self.server.stream(&key, &vhost);
        let event = StreamEvent {
            action: "on_play",
            ..self.stream_event(&stream, &request.parameters)
        };
        let urls = &vhost.http_hooks.on_play;
        if !self.server.hooks.allow(urls, &event).await {
            return Err(Status::play_failed("not allowed"));
        }
        let parameters = self.connect_info.parameters(&request.parameters).clone();
        if let Some(settings) = vhost.upstream.as_ref().filter(|it| it.token_traverse) {
            let asked =
                permission::ask(&self.server, settings, &key, &parameters, &self.via()).await;
            asked.inspect_err(|_| {
                let event = StreamEvent {
                    action: "on_stop",
                    ..event
                };
                self.server.hooks.tell(&vhost.http_hooks.on_stop, &event);
            })?;
        }
        // Nobody has held it as one who wants it: it may have ended meanwhile.
        let stream = self.server.stream(&key, &vhost);
        let play = Play {
            request,
            subscription: stream.add_subscription(),
            options: PlayOptions::default(),
        };
        if let Some(settings) = &vhost.upstream {
            upstream::ensure(&self.server, &stream, settings, &parameters);
        }
        self.vhost = Some(vhost.clone());
        self.wait(play, &vhost);
        Ok(())
    }

    pub(super) fn accept_play(&mut self, play: Play) {
        self.session
            .accept_play(play.request.stream_id, &mut self.out);
        self.engagement = Engagement::Playing(play);
    }
}

/// What a publisher hears whose stream has another one.
fn busy(key: &StreamKey) -> Status {
    Status::publish_bad_name(format!("{key}: {Busy}"))
}
