//! A stream that is published at an edge, on its way to the origin.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};
use rtmp_proto::wire::Limits;

use super::dial::{Dialled, End, request};
use super::route::Route;
use crate::config::Upstream;
use crate::server::via::Via;

/// Connects to the first origin that answers, and asks to publish there.
///
/// # Errors
/// The status for the publisher: the origin's own refusal, or that no origin
/// can be reached.
pub(crate) async fn begin(
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
    via: &Via,
    limits: &Limits,
) -> Result<Dialled, Status> {
    for address in &settings.origins {
        match publish_at(address, settings, key, parameters, via, limits).await {
            Ok(dialled) => return Ok(dialled),
            Err(End::Rejected(status)) => return Err(refusal(status)),
            Err(end) => log::warn!("{key} cannot be published at {address}: {end}"),
        }
    }
    Err(Status::error(
        code::PUBLISH_DENIED,
        "no origin can be reached",
    ))
}

/// A publisher understands refusals of its publish; the origin may have
/// refused our connection already.
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
    via: &Via,
    limits: &Limits,
) -> Result<Dialled, End> {
    let mut config = request(Purpose::Publish, address, settings, key, parameters);
    config.connect_properties.push(via.property());
    let mut route = Route::new(address, config);
    loop {
        match publish_by(&route, settings, limits).await {
            Ok(dialled) => return Ok(dialled),
            Err(end) => route.follow(end, key)?,
        }
    }
}

/// Publishes where the request has come to.
async fn publish_by(route: &Route, settings: &Upstream, limits: &Limits) -> Result<Dialled, End> {
    let patience = settings.connect_timeout;
    let config = route.request.clone();
    let mut dialled = Dialled::open(&route.address, config, limits, patience).await?;
    let mut events = Vec::new();
    let connected = |event: &ClientEvent| *event == ClientEvent::Connected;
    dialled.answer(&mut events, connected, patience).await?;
    // The origin may have to ask others whether it is allowed.
    let patience = settings.read_timeout;
    let accepted = |event: &ClientEvent| *event == ClientEvent::Publishing;
    dialled.answer(&mut events, accepted, patience).await?;
    Ok(dialled)
}
