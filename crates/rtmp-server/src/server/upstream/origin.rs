//! The pull of a stream from one origin, from look-up to end.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::dial::{Dialled, End, request};
use super::route::Route;
use crate::config::Upstream;
use crate::server::Server;
use crate::stream::{ExpectedPublisher, MediaMessage, Publication, Source, Stream, lock};

/// What the pull learns of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The origin has accepted the connection, and is asked for the stream.
    Connected,
    /// The origin says whether the stream has a publisher.
    Announced(bool),
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
            // Nobody publishes, or nobody does any more. Should a silent origin
            // hang instead, the next connection to it tells.
            End::Rejected(_) | End::Ended | End::Silent(_) => log::Level::Info,
            _ => log::Level::Warn,
        };
        log::log!(level, "{} from {}: {end}", self.stream.key(), self.address);
        // Nobody listens any more when the pull has ended meanwhile.
        let _ = events.send(Event::Lost).await;
    }

    async fn pull(&self, told: &mpsc::Sender<Event>) -> Result<Infallible, End> {
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
        let mut route = Route::new(&self.address, config);
        loop {
            let Err(end) = self.pull_from(&route, told).await;
            route.follow(end, key)?;
        }
    }

    /// Pulls from where the request has come to.
    async fn pull_from(
        &self,
        route: &Route,
        told: &mpsc::Sender<Event>,
    ) -> Result<Infallible, End> {
        let patience = self.settings.connect_timeout;
        let Route {
            address, request, ..
        } = route;
        let limits = &self.server.limits;
        let mut dialled = Dialled::open(address, request.clone(), limits, patience).await?;
        let mut events = Vec::new();
        let connected = |event: &ClientEvent| *event == ClientEvent::Connected;
        dialled.answer(&mut events, connected, patience).await?;
        // Nobody listens any more when the pull has ended meanwhile.
        let _ = told.send(Event::Connected).await;

        // Where nobody publishes yet, the origin may be silent for as long as
        // it lets players wait; it says so when it gives up.
        let mut relay = Relay {
            origin: self,
            address,
            source: dialled.source(),
            expected: None,
            publication: None,
            batch: Vec::new(),
        };
        loop {
            relay.take(&mut events, told).await?;
            let silence = self.silence(relay.expected.is_some());
            let exchange = async {
                dialled.read(&mut events).await?;
                dialled.flush().await
            };
            let exchanged = timeout(silence, exchange).await;
            exchanged.map_err(|_| End::Silent(silence))??;
        }
    }

    /// Has the next pull of a stream of this vhost begin with this origin.
    fn remember(&self) {
        let vhost = self.stream.key().vhost.clone();
        lock(&self.server.good_origins).insert(vhost, self.address.clone());
    }

    /// How long the origin may be silent; `expected`: it waits itself, for a
    /// publisher that has sent nothing yet.
    fn silence(&self, expected: bool) -> Duration {
        let silence = self.settings.read_timeout;
        let config = self.server.config();
        match config.vhost(&self.stream.key().vhost) {
            // The origin's own patience is not known here, but most likely it
            // is of the same size.
            Some(vhost) if expected => silence + vhost.publish_1stpkt_timeout,
            _ => silence,
        }
    }
}

/// Whether a stream has a publisher, where `status` is an origin's word on it: our
/// origins say so to edges that wait, Flash Media Server (and nginx-rtmp with
/// `publish_notify`) to whoever plays.
pub(super) fn announced(status: &Status) -> Option<bool> {
    match &*status.code {
        code::PLAY_PUBLISH_NOTIFY => Some(true),
        code::PLAY_UNPUBLISH_NOTIFY => Some(false),
        _ => None,
    }
}

/// What an origin sends, on its way into the stream.
struct Relay<'a> {
    origin: &'a Origin,
    address: &'a str,
    source: Source,
    /// Before the first media: the publisher that the origin has told of.
    expected: Option<ExpectedPublisher>,
    /// None before the first media.
    publication: Option<Publication>,
    batch: Vec<MediaMessage>,
}

impl Relay<'_> {
    /// Takes what the origin has sent; `told` hears of the first media, and
    /// before of publishers.
    async fn take(
        &mut self,
        events: &mut Vec<ClientEvent>,
        told: &mpsc::Sender<Event>,
    ) -> Result<(), End> {
        for event in events.drain(..) {
            match event {
                ClientEvent::Media(message) => self.batch.push(message.into()),
                ClientEvent::StreamBegin => self.start_new_publication(told).await?,
                ClientEvent::Status(status) => {
                    if let Some(has_publisher) = announced(&status) {
                        self.start_new_publication(told).await?;
                        self.expect(has_publisher, told).await;
                    }
                }
                _ => {}
            }
        }
        self.append(told).await
    }

    /// Another publication begins, in the middle of the stream.
    async fn start_new_publication(&mut self, told: &mpsc::Sender<Event>) -> Result<(), End> {
        self.append(told).await?;
        if let Some(publication) = &mut self.publication {
            publication.start_new_publication();
        }
        Ok(())
    }

    /// The origin has a publisher, or has none any more, whose media are to come.
    async fn expect(&mut self, has_publisher: bool, told: &mpsc::Sender<Event>) {
        if self.publication.is_none() {
            self.expected = has_publisher.then(|| self.origin.stream.expect_publisher());
            // Nobody listens any more when the pull has ended meanwhile.
            let _ = told.send(Event::Announced(has_publisher)).await;
        }
    }

    async fn append(&mut self, told: &mpsc::Sender<Event>) -> Result<(), End> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let now = std::time::Instant::now();
        let publication = match &mut self.publication {
            Some(publication) => publication,
            none => {
                log::info!("{} from {}: flows", self.origin.stream.key(), self.address);
                // Before anybody plays it: who has had a frame may ask at once
                // for another stream.
                self.origin.remember();
                // Nobody listens any more when the pull has ended meanwhile.
                let _ = told.send(Event::Flowing).await;
                none.insert(self.origin.stream.relay(self.source, now)?)
            }
        };
        publication.append(&self.batch, now)?;
        self.batch.clear();
        self.expected = None;
        Ok(())
    }
}
