//! Whether an origin lets a viewer of an edge play, by the viewer's own
//! parameters.

use std::time::Duration;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};
use rtmp_proto::wire::Limits;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dial::{Dialled, End, request};
use super::origin::announced;
use super::pull::ANSWER_PATIENCE;
use super::route::Route;
use crate::config::Upstream;
use crate::server::Server;
use crate::server::via::Via;

/// Time for taking leave of an origin.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the origins in turn to play `key`, and lets go again. The first that
/// has the stream, or forbids it, decides. One that lets the viewer wait does
/// not hold up the next, and may decide later.
///
/// # Errors
/// The status for the viewer: the origin's refusal, or that none can be asked.
pub(crate) async fn ask(
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    via: &Via,
) -> Result<(), Status> {
    let mut refusal = Status::play_failed("no origin can be asked for permission");
    let first = super::first_origin(server, &key.vhost, settings);
    let mut untried = settings.origins.clone();
    untried.rotate_left(first);
    let mut untried = untried.into_iter();
    let mut asked = JoinSet::new();
    loop {
        if let Some(address) = untried.next() {
            asked.spawn(Question::new(&address, server, settings, key, parameters, via).ask());
        }
        let others = untried.len() > 0;
        let answer = tokio::select! {
            answer = asked.join_next() => answer,
            () = sleep(ANSWER_PATIENCE), if others => continue,
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

/// What one origin is asked.
struct Question {
    key: StreamKey,
    route: Route,
    limits: Limits,
    connect_timeout: Duration,
    read_timeout: Duration,
}

impl Question {
    fn new(
        address: &str,
        server: &Server,
        settings: &Upstream,
        key: &StreamKey,
        parameters: &Parameters,
        via: &Via,
    ) -> Self {
        let mut config = request(Purpose::Play, address, settings, key, parameters);
        // The answer is wanted, and nothing of the stream.
        config.gop_cache = Some(false);
        config.connect_properties.push(via.property());
        Self {
            key: key.clone(),
            route: Route::new(address, config),
            limits: server.limits,
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.read_timeout,
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// The origin's refusal; none if it cannot be asked.
    async fn ask(mut self) -> Result<(), Option<Status>> {
        loop {
            let Err(end) = self.play().await else {
                return Ok(());
            };
            match self.route.follow(end, &self.key) {
                Ok(()) => {}
                Err(End::Rejected(status)) if status.code.starts_with("NetStream.Play.") => {
                    return Err(Some(status));
                }
                Err(End::Rejected(status)) => {
                    return Err(Some(Status::play_failed(status.to_string())));
                }
                Err(end) => {
                    let (address, key) = (&self.route.address, &self.key);
                    log::warn!("{address} cannot be asked who may play {key}: {end}");
                    return Err(None);
                }
            }
        }
    }

    async fn play(&self) -> Result<(), End> {
        let patience = self.connect_timeout;
        let Route {
            address, request, ..
        } = &self.route;
        let mut dialled = Dialled::open(address, request.clone(), &self.limits, patience).await?;
        let mut events = Vec::new();
        let connected = |event: &ClientEvent| *event == ClientEvent::Connected;
        dialled.answer(&mut events, connected, patience).await?;
        match dialled
            .answer(&mut events, is_consent, self.read_timeout)
            .await
        {
            // The origin lets players wait, and nobody has come to publish.
            Err(End::Slow(_)) => {
                let status = Status::stream_not_found(format!("nobody publishes {}", self.key));
                return Err(End::Rejected(status));
            }
            answered => answered?,
        }
        tokio::spawn(timeout(FAREWELL_TIMEOUT, dialled.close()));
        Ok(())
    }
}

/// A viewer whom the origin would let wait for a publisher's first picture may
/// play, too.
fn is_consent(event: &ClientEvent) -> bool {
    match event {
        ClientEvent::Playing | ClientEvent::Media(_) => true,
        ClientEvent::Status(status) => announced(status) == Some(true),
        _ => false,
    }
}
