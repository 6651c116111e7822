//! The pull of a stream from one origin, from look-up to end.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dial::{Dialled, End, request};
use crate::config::Upstream;
use crate::server::Server;
use crate::session::{ClientEvent, Parameters, Purpose};
use crate::stream::{Publication, Stream};
use crate::wire::Message;

/// What the pull learns of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The origin has accepted the connection, and is asked for the stream.
    Connected,
    /// The first media has come.
    Flowing,
    /// The connection has ended, or never came to be.
    Lost,
}

/// A connection to make.
pub(super) struct Origin {
    pub(super) address: String,
    pub(super) server: Arc<Server>,
    pub(super) stream: Arc<Stream>,
    pub(super) settings: Upstream,
    pub(super) parameters: Parameters,
}

impl Origin {
    /// Pulls until the connection ends, and says so to `events`.
    pub(super) async fn run(self, events: mpsc::Sender<Event>) {
        let Err(end) = self.pull(&events).await;
        let level = match end {
            // Nobody publishes, or nobody does any more.
            End::Rejected(_) | End::Ended => log::Level::Info,
            _ => log::Level::Warn,
        };
        log::log!(level, "{} from {}: {end}", self.stream.key(), self.address);
        // Nobody listens any more when the pull has ended meanwhile.
        let _ = events.send(Event::Lost).await;
    }

    async fn pull(&self, told: &mpsc::Sender<Event>) -> Result<Infallible, End> {
        let patience = self.settings.connect_timeout;
        let key = self.stream.key();
        let mut config = request(
            Purpose::Play,
            &self.address,
            &self.settings,
            key,
            &self.parameters,
        );
        // How players begin is for the last server on their way to say. It
        // needs a keyframe, whatever its origin gives players.
        config.gop_cache = Some(true);
        // The pull is for all who play here, whatever way they have come.
        config.connect_properties.push(self.server.id.property());
        let mut dialled =
            Dialled::open(&self.address, config, &self.server.limits, patience).await?;
        let mut events = Vec::new();
        let connected = |event: &ClientEvent| *event == ClientEvent::Connected;
        dialled.answer(&mut events, connected, patience).await?;
        // Nobody listens any more when the pull has ended meanwhile.
        let _ = told.send(Event::Connected).await;

        // Where nobody publishes yet, the origin may be silent for as long as
        // it lets players wait; it says so when it gives up.
        let mut publication: Option<Publication> = None;
        let mut batch: Vec<Message> = Vec::new();
        let silence = self.settings.read_timeout;
        loop {
            batch.extend(events.drain(..).filter_map(|event| match event {
                ClientEvent::Media(message) => Some(message),
                _ => None,
            }));
            if !batch.is_empty() {
                let now = std::time::Instant::now();
                let publication = match &mut publication {
                    Some(publication) => publication,
                    none => {
                        log::info!("{key} from {}: flows", self.address);
                        let _ = told.send(Event::Flowing).await;
                        none.insert(self.stream.relay(now)?)
                    }
                };
                publication.append(&batch, now)?;
                batch.clear();
            }
            let exchange = async {
                dialled.read(&mut events).await?;
                dialled.flush().await
            };
            let exchanged = timeout(silence, exchange).await;
            exchanged.map_err(|_| End::Silent(silence))??;
        }
    }
}
