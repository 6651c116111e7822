//! The play of a stream that a URL names.

use std::time::Duration;

use rtmp_proto::session::{ClientConfig, ClientEvent, Parameters, Purpose, StreamKey};

use super::origin_connection::{Connector, OriginConnection, OriginError};
use super::redirect::RedirectChain;
use crate::config::Origin;
use crate::server::Server;

/// Connects to a server, asks for a stream and follows redirects; each step may take
/// `limit`. `name` is the stream's name here, for the log.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(in crate::server) async fn play(
    server: &Server,
    (origin, source, parameters): &(Origin, StreamKey, Parameters),
    name: &StreamKey,
    limit: Duration,
    events: &mut Vec<ClientEvent>,
) -> Result<OriginConnection, OriginError> {
    let vhost = match &*source.vhost {
        vhost if vhost == origin.host() => Parameters::default(),
        vhost => Parameters(format!("vhost={vhost}")),
    };
    let app = format!("{}{vhost}", source.app);
    let tc_url = format!("{}/{app}", origin.url());
    let stream = format!("{}{}", source.stream, parameters.without_vhost());
    let mut config = ClientConfig::new(Purpose::Play, &tc_url, &app, &stream);
    config.gop_cache = Some(true);
    // A server that is asked for its own stream refuses.
    config.connect_properties.push(server.id.property());
    let mut redirects = RedirectChain::new(origin, config);
    let connector = Connector::trusting_the_system(server);
    loop {
        match redirects
            .connect(&connector, &server.limits, limit, events)
            .await
        {
            Ok(connection) => return Ok(connection),
            Err(error) => redirects.follow(error, name)?,
        }
    }
}
