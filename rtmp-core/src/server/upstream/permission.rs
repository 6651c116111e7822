//! Whether an origin lets a viewer of an edge play, by the viewer's own
//! parameters.

use std::time::Duration;

use tokio::time::timeout;

use super::dial::{Dialled, End, request};
use crate::config::Upstream;
use crate::server::Server;
use crate::session::status::code;
use crate::session::{ClientEvent, Parameters, Purpose, Status, StreamKey};

/// Time for taking leave of an origin.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the origins in turn to play `key`, and lets go again. The first that
/// has the stream, or forbids it, decides.
///
/// # Errors
/// The status for the viewer: the origin's refusal, or that none can be asked.
pub(crate) async fn ask(
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
) -> Result<(), Status> {
    let mut refusal = Status::play_failed("no origin can be asked for permission");
    let first = super::first_origin(server, &key.vhost, settings);
    let (later, sooner) = settings.origins.split_at(first);
    for address in sooner.iter().chain(later) {
        match play_at(address, server, settings, key, parameters).await {
            Ok(()) => return Ok(()),
            Err(End::Rejected(status)) if status.code == code::PLAY_STREAM_NOT_FOUND => {
                refusal = status;
            }
            Err(End::Rejected(status)) if status.code.starts_with("NetStream.Play.") => {
                return Err(status);
            }
            Err(End::Rejected(status)) => return Err(Status::play_failed(status.to_string())),
            Err(end) => log::warn!("{address} cannot be asked who may play {key}: {end}"),
        }
    }
    Err(refusal)
}

async fn play_at(
    address: &str,
    server: &Server,
    settings: &Upstream,
    key: &StreamKey,
    parameters: &Parameters,
) -> Result<(), End> {
    let mut config = request(Purpose::Play, address, settings, key, parameters);
    // The answer is wanted, and nothing of the stream.
    config.gop_cache = Some(false);
    let patience = settings.connect_timeout;
    let mut dialled = Dialled::open(address, config, &server.limits, patience).await?;
    let answer = async {
        let mut events = Vec::new();
        while !events.iter().any(is_consent) {
            dialled.read(&mut events).await?;
            dialled.flush().await?;
        }
        Ok::<(), End>(())
    };
    // Where nobody publishes, the origin may let players wait.
    let patience = settings.read_timeout;
    timeout(patience, answer)
        .await
        .map_err(|_| End::Silent(patience))??;
    tokio::spawn(timeout(FAREWELL_TIMEOUT, dialled.close()));
    Ok(())
}

fn is_consent(event: &ClientEvent) -> bool {
    matches!(event, ClientEvent::Playing | ClientEvent::Media(_))
}
