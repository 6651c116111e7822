//! `token_traverse`: the permission requests of an edge to its origins, one for each
//! viewer, with the viewer's own parameters.

use std::time::Duration;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};
use rtmp_proto::wire::Limits;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::origin_connection::{Connector, OriginError, request};
use super::origin_pull::announces_publisher;
use super::pull::ANSWER_TIMEOUT;
use super::redirect::RedirectChain;
use crate::config::{Origin, Upstream};
use crate::server::Server;
use crate::server::loop_guard::LoopGuard;

/// Time for closing a connection to an origin.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends a permission request for `key` to the origins in turn: a play whose
/// connection is closed again. The
/// first that has the stream, or forbids it, decides. One that lets the viewer wait
/// does not delay the next, and may decide later.
///
/// # Errors
/// The status for the viewer: the origin's refusal, or that none can be asked.
pub(crate) async fn request_play(
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    loop_guard: &LoopGuard,
) -> Result<(), Status> {
    let mut refusal = Status::play_failed("no origin can be asked for permission");
    let first = server.first_origin(&key.vhost, settings);
    let mut origins = settings.origins.clone();
    origins.rotate_left(first);
    let mut origins = origins.into_iter();
    let mut requests = JoinSet::new();
    loop {
        if let Some(address) = origins.next() {
            requests.spawn(
                PermissionRequest::new(&address, server, settings, key, parameters, loop_guard)
                    .send(),
            );
        }
        let more = origins.len() > 0;
        let answer = tokio::select! {
            answer = requests.join_next() => answer,
            () = sleep(ANSWER_TIMEOUT), if more => continue,
        };
        match answer {
            Some(Ok(Ok(()))) => return Ok(()),
            Some(Ok(Err(Some(status)))) if status.code == code::PLAY_STREAM_NOT_FOUND => {
                refusal = status;
            }
            Some(Ok(Err(Some(status)))) => return Err(status),
            Some(Ok(Err(None)) | Err(_)) => {}
            None => return Err(refusal),
        }
    }
}

/// The request to one origin.
struct PermissionRequest {
    key: StreamKey,
    redirects: RedirectChain,
    connector: Connector,
    limits: Limits,
    connect_timeout: Duration,
    read_timeout: Duration,
}

impl PermissionRequest {
    fn new(
        origin: &Origin,
        server: &Server,
        settings: &Upstream,
        key: &StreamKey,
        parameters: &Parameters,
        loop_guard: &LoopGuard,
    ) -> Self {
        let mut config = request(Purpose::Play, origin, settings, key, parameters);
        // Only the answer matters: no media is wanted.
        config.gop_cache = Some(false);
        config.connect_properties.push(loop_guard.property());
        Self {
            key: key.clone(),
            redirects: RedirectChain::new(origin, config),
            connector: Connector::new(server, settings),
            limits: server.limits,
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.read_timeout,
        }
    }

    /// Sends it, following redirects.
    ///
    /// # Errors
    /// The origin's refusal; `None` if it cannot be asked.
    async fn send(mut self) -> Result<(), Option<Status>> {
        loop {
            let Err(error) = self.play().await else {
                return Ok(());
            };
            match self.redirects.follow(error, &self.key) {
                Ok(()) => {}
                Err(OriginError::Rejected(status))
                    if status.code.starts_with("NetStream.Play.") =>
                {
                    return Err(Some(status));
                }
                Err(OriginError::Rejected(status)) => {
                    return Err(Some(Status::play_failed(status.to_string())));
                }
                Err(error) => {
                    let (address, key) = (&self.redirects.address, &self.key);
                    log::warn!(
                        "{key}: the origin {address} cannot be asked for permission: {error}"
                    );
                    return Err(None);
                }
            }
        }
    }

    async fn play(&self) -> Result<(), OriginError> {
        let (connector, limits, limit) = (&self.connector, &self.limits, self.connect_timeout);
        let mut events = Vec::new();
        let connected = self
            .redirects
            .connect(connector, limits, limit, &mut events);
        let mut connection = connected.await?;
        match connection
            .answer(&mut events, is_permission, self.read_timeout)
            .await
        {
            // The origin lets players wait, and nobody has come to publish.
            Err(OriginError::Slow(_)) => {
                let status = Status::stream_not_found(format!("nobody publishes {}", self.key));
                return Err(OriginError::Rejected(status));
            }
            answered => answered?,
        }
        tokio::spawn(timeout(CLOSE_TIMEOUT, connection.close()));
        Ok(())
    }
}

/// Returns true if `event` says that the viewer may play. So does an origin that
/// would let it wait for a publisher's first picture.
fn is_permission(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Playing | ClientEvent::Media(_) => true,
        ClientEvent::Status(status) => announces_publisher(status) == Some(true),
        _ => false,
    }
}
