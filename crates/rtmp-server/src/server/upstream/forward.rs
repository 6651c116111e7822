//! Forwarding of a publish at an edge to its origin.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};

use super::origin_connection::{Connector, OriginConnection, OriginError, request};
use super::redirect::RedirectChain;
use crate::config::{Origin, Upstream};
use crate::server::loop_guard::LoopGuard;
use crate::server::{EventKind, Server};

/// Connects to the first origin that answers, and asks to publish there.
///
/// # Errors
/// The status for the publisher: the origin's own refusal, or that no origin
/// can be reached.
pub(crate) async fn begin(
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    loop_guard: &LoopGuard,
) -> Result<OriginConnection, Status> {
    for origin in &settings.origins {
        match publish_at(origin, server, settings, key, parameters, loop_guard).await {
            Ok(connection) => return Ok(connection),
            Err(OriginError::Rejected(status)) => return Err(refusal(status)),
            Err(error) => {
                log::warn!("{key} cannot be published at {origin}: {error}");
                let text = format!("at {origin}: {error}");
                let events = server.events();
                events.record(EventKind::ForwardFailed, Some(key), None, text);
            }
        }
    }
    Err(Status::error(
        code::PUBLISH_DENIED,
        "no origin can be reached",
    ))
}

/// The refusal for the publisher. It understands refusals of its publish, and
/// the origin may have refused our `connect` already.
fn refusal(status: Status) -> Status {
    if status.code.starts_with("NetStream.Publish.") {
        status
    } else {
        Status::publish_denied(status.to_string())
    }
}

async fn publish_at(
    origin: &Origin,
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    loop_guard: &LoopGuard,
) -> Result<OriginConnection, OriginError> {
    let mut config = request(Purpose::Publish, origin, settings, key, parameters);
    config.connect_properties.push(loop_guard.property());
    let mut redirects = RedirectChain::new(origin, config);
    loop {
        match publish_via(&redirects, server, settings).await {
            Ok(connection) => return Ok(connection),
            Err(error) => redirects.follow(error, key)?,
        }
    }
}

/// Publishes at the end of the redirects so far.
async fn publish_via(
    redirects: &RedirectChain,
    server: &Server,
    settings: &Upstream,
) -> Result<OriginConnection, OriginError> {
    let connector = Connector::new(server, settings);
    let (limits, limit) = (&server.limits, settings.connect_timeout);
    let mut events = Vec::new();
    let connected = redirects.connect(&connector, limits, limit, &mut events);
    let mut connection = connected.await?;
    // Longer: the origin may have to ask its own origin, or a hook.
    let accepted = |event: &ClientEvent| *event == ClientEvent::Publishing;
    connection
        .answer(&mut events, accepted, settings.read_timeout)
        .await?;
    Ok(connection)
}
