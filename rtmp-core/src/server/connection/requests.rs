//! What a client asks for, and whether it gets it.

use std::sync::Arc;

use tokio::time::Instant;

use super::end::End;
use super::{Connection, Engagement, Sink};
use crate::config::{Action, Vhost};
use crate::server::clients::Activity;
use crate::server::upstream::{self, forward};
use crate::session::{
    ConnectRequest, ConnectSettings, PlayRequest, PublishRequest, Status, StreamKey,
};
use crate::stream::{MESSAGE_STREAM, Seat};

impl Connection {
    pub(super) fn connect(&mut self, request: &ConnectRequest) -> Result<(), End> {
        let Some(vhost) = self.server.config().vhost(&request.vhost).cloned() else {
            let status =
                Status::connect_rejected(format!("there is no vhost {} here", request.vhost));
            self.session.refuse_connect(&status, &mut self.out);
            return Err(End::Refused(status));
        };
        log::debug!(
            "{}: connect to {} ({})",
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
        Ok(())
    }

    /// The vhost that serves a request, and the stream's name there.
    fn resolve(&self, key: StreamKey) -> Option<(Arc<Vhost>, StreamKey)> {
        let vhost = self.server.config().vhost(&key.vhost).cloned()?;
        let key = StreamKey {
            vhost: vhost.name.clone(),
            ..key
        };
        Some((vhost, key))
    }

    /// Decides about a publish; at an edge the origin does, see
    /// [`Connection::forward`].
    pub(super) fn publish(&mut self, request: Box<PublishRequest>) -> Result<(), End> {
        let stream_id = request.stream_id;
        match self.publish_decision(request) {
            Ok(()) => Ok(()),
            Err(refusal) => self.refuse_publish(stream_id, refusal),
        }
    }

    fn publish_decision(&mut self, mut request: Box<PublishRequest>) -> Result<(), Status> {
        let Some((vhost, key)) = self.resolve(request.key.clone()) else {
            return Err(Status::publish_denied("there is no such vhost here"));
        };
        if !vhost
            .security
            .permits(Action::Publish, self.client.peer.ip())
        {
            return Err(Status::publish_denied("this address may not publish here"));
        }
        if self.server.is_draining() {
            return Err(Status::publish_denied("the server is about to stop"));
        }
        if !matches!(self.engagement, Engagement::None) {
            return Err(Status::publish_denied("this connection is engaged already"));
        }
        if vhost.upstream.is_some() {
            request.key = key;
            self.vhost = Some(vhost);
            self.engagement = Engagement::Asking(request);
            return Ok(());
        }
        let stream = self.server.stream(&key, &vhost).map_err(|error| {
            log::error!("{}: no log for {key}: {error}", self.client);
            Status::publish_denied("the server has no room for a stream")
        })?;
        let standing = stream.standing();
        let publication = stream
            .publish(std::time::Instant::now())
            .map_err(|busy| Status::publish_bad_name(format!("{key}: {busy}")))?;
        let sink = Sink::Log {
            publication,
            standing,
            batch: Vec::new(),
        };
        self.vhost = Some(vhost);
        self.accept_publish(request.stream_id, key, sink);
        Ok(())
    }

    fn accept_publish(&mut self, stream_id: u32, key: StreamKey, sink: Sink) {
        log::info!("{}: publish {key}", self.client);
        self.session.accept_publish(stream_id, &mut self.out);
        let key = Arc::new(key);
        self.client.set_activity(Activity::Publishing(key.clone()));
        self.engagement = Engagement::Publishing {
            stream_id,
            key,
            sink,
            first: true,
        };
    }

    fn refuse_publish(&mut self, stream_id: u32, refusal: Status) -> Result<(), End> {
        self.session
            .refuse_publish(stream_id, &refusal, &mut self.out);
        Err(End::Refused(refusal))
    }

    /// Asks the origin whether the stream may be published there, and gives
    /// its answer to the publisher.
    pub(super) async fn forward(&mut self, request: Box<PublishRequest>) -> Result<(), End> {
        let PublishRequest {
            stream_id,
            key,
            parameters,
            ..
        } = *request;
        let upstream = self.vhost.as_ref().and_then(|vhost| vhost.upstream.clone());
        let Some(upstream) = upstream else {
            return Ok(());
        };
        match forward::begin(&upstream, &key, &parameters, &self.server.limits).await {
            Ok(dialled) => {
                self.accept_publish(stream_id, key, Sink::Origin(Box::new(dialled)));
                Ok(())
            }
            Err(refusal) => self.refuse_publish(stream_id, refusal),
        }
    }

    pub(super) fn play(&mut self, request: Box<PlayRequest>) -> Result<(), End> {
        let stream_id = request.stream_id;
        match self.play_decision(request) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.session.refuse_play(stream_id, &refusal, &mut self.out);
                Err(End::Refused(refusal))
            }
        }
    }

    fn play_decision(&mut self, request: Box<PlayRequest>) -> Result<(), Status> {
        let Some((vhost, key)) = self.resolve(request.key.clone()) else {
            return Err(Status::play_failed("there is no such vhost here"));
        };
        if !vhost.security.permits(Action::Play, self.client.peer.ip()) {
            return Err(Status::play_failed("this address may not play here"));
        }
        if self.server.is_draining() {
            return Err(Status::play_failed("the server is about to stop"));
        }
        if request.stream_id != MESSAGE_STREAM {
            // The log is encoded for that one.
            return Err(Status::play_failed(
                "one stream can be played per connection",
            ));
        }
        if matches!(self.engagement, Engagement::Waiting { .. }) {
            self.disengage();
        }
        if !matches!(self.engagement, Engagement::None) {
            return Err(Status::play_failed("this connection is engaged already"));
        }
        let stream = self.server.stream(&key, &vhost).map_err(|error| {
            log::error!("{}: no log for {key}: {error}", self.client);
            Status::play_failed("the server has no room for a stream")
        })?;
        let seat = stream.take_seat();
        let standing = stream.standing();
        if let Some(settings) = &vhost.upstream {
            upstream::ensure(&self.server, &stream, settings, &request.parameters);
        }
        let live = standing.borrow().live;
        let until = Instant::now() + vhost.play_wait_timeout;
        self.vhost = Some(vhost);
        if live {
            self.accept_play(request, seat);
        } else {
            self.client
                .set_activity(Activity::Waiting(stream.key().clone()));
            self.session.defer_play(request.stream_id);
            self.engagement = Engagement::Waiting {
                request,
                seat,
                standing,
                until,
            };
        }
        Ok(())
    }

    pub(super) fn accept_play(&mut self, request: Box<PlayRequest>, seat: Seat) {
        self.session.accept_play(request.stream_id, &mut self.out);
        self.engagement = Engagement::Playing { request, seat };
    }
}
