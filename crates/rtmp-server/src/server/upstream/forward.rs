//! Forwarding of a publish at an edge to its origin.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};
use rtmp_proto::wire::Limits;

use super::origin_connection::{OriginConnection, OriginError, request};
use super::redirect::RedirectChain;
use crate::config::Upstream;
use crate::server::loop_guard::LoopGuard;

/// Connects to the first origin that answers, and asks to publish there.
///
/// # Errors
/// The status for the publisher: the origin's own refusal, or that no origin
/// can be reached.
pub(crate) async fn begin(
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    loop_guard: &LoopGuard,
    limits: &Limits,
) -> Result<OriginConnection, Status> {
    for address in &settings.origins {
        match publish_at(address, settings, key, parameters, loop_guard, limits).await {
            Ok(connection) => return Ok(connection),
            Err(OriginError::Rejected(status)) => return Err(refusal(status)),
            Err(error) => log::warn!("{key} cannot be published at {address}: {error}"),
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
    address: &str,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    loop_guard: &LoopGuard,
    limits: &Limits,
) -> Result<OriginConnection, OriginError> {
    let mut config = request(Purpose::Publish, address, settings, key, parameters);
    config.connect_properties.push(loop_guard.property());
    let mut redirects = RedirectChain::new(address, config);
    loop {
        match publish_via(&redirects, settings, limits).await {
            Ok(connection) => return Ok(connection),
            Err(error) => redirects.follow(error, key)?,
        }
    }
}

/// Publishes at the end of the redirects so far.
async fn publish_via(
    redirects: &RedirectChain,
    settings: &Upstream,
    limits: &Limits,
) -> Result<OriginConnection, OriginError> {
    let connect_timeout = settings.connect_timeout;
    let config = redirects.request.clone();
    let mut connection =
        OriginConnection::open(&redirects.address, config, limits, connect_timeout).await?;
    let mut events = Vec::new();
    let connected = |event: &ClientEvent| *event == ClientEvent::Connected;
    connection
        .answer(&mut events, connected, connect_timeout)
        .await?;
    // Longer: the origin may have to ask its own origin, or a hook.
    let accepted = |event: &ClientEvent| *event == ClientEvent::Publishing;
    connection
        .answer(&mut events, accepted, settings.read_timeout)
        .await?;
    Ok(connection)
}
