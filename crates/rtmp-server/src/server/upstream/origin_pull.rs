//! The pull of a stream from one origin, from the look-up of its name to the end.

mod part;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientEvent, Parameters, Purpose, Status};
use rtmp_proto::wire::media::MediaClass;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::origin_connection::{Connector, OriginConnection, OriginError, request};
use super::redirect::RedirectChain;
use crate::config::{Origin, Upstream};
use crate::server::upgrade::{Participant, TaskParts};
use crate::server::{EventKind, Server};
use crate::stream::{
    ExpectedPublisher, LegPublication, MediaMessage, MergedRelay, Publication, Source, Stream,
    slate_mark,
};
pub(in crate::server) use part::PullPart;
pub(super) use part::ResumedPull;

/// Time within which a connection that shows a slate gives way.
const GIVE_WAY_TIMEOUT: Duration = Duration::from_secs(5);

/// Event of the connection, for the pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullEvent {
    /// The origin has accepted the connection, and is asked for the stream.
    Connected,
    /// The origin says if the stream has a publisher.
    PublisherAnnounced(bool),
    /// The first media has come.
    Flowing,
    /// What the origin sends is a slate, or no longer.
    Slate(bool),
    /// The connection has ended, or could not be made.
    Lost,
}

/// The pull of a stream from one origin.
pub(super) struct OriginPull {
    pub(super) address: Origin,
    /// What several origins bring at once, and the number of this one's part.
    pub(super) merged: Option<(Arc<MergedRelay>, usize)>,
    /// Another connection shows a slate: of what this origin sends only a programme counts,
    /// which then takes its place.
    pub(super) is_beside_slate: AtomicBool,
    pub(super) server: Arc<Server>,
    pub(super) stream: Arc<Stream>,
    pub(super) settings: Upstream,
    pub(super) parameters: Parameters,
}

impl OriginPull {
    /// Pulls until the connection ends, which is the last of the `events`; over `resumed`, if
    /// that is there.
    pub(super) async fn run(
        self,
        resumed: Option<Box<ResumedPull>>,
        events: mpsc::Sender<PullEvent>,
    ) {
        let Err(error) = match resumed {
            Some(resumed) => self.resume(*resumed, &events).await,
            None => self.pull(&events).await,
        };
        self.report_end(&error);
        // An error means that the pull has ended meanwhile.
        let _ = events.send(PullEvent::Lost).await;
    }

    fn report_end(&self, error: &OriginError) {
        if self.is_beside_slate() {
            // Normal, and it comes again and again.
            log::debug!("{} from {}: {error}", self.stream.key(), self.address);
            return;
        }
        let level = match error {
            // Normal: nobody publishes, or nobody does any more. If a silent origin
            // hangs instead, the next connection to it fails, with a warning.
            OriginError::Rejected(_) | OriginError::Ended | OriginError::Silent(_) => {
                log::Level::Info
            }
            _ => log::Level::Warn,
        };
        log::log!(
            level,
            "{} from {}: {error}",
            self.stream.key(),
            self.address
        );
        let text = format!("from {}: {error}", self.address);
        let (key, log) = (self.stream.key(), self.server.events());
        log.record(EventKind::PullFailed, Some(key), None, text);
    }

    fn is_beside_slate(&self) -> bool {
        self.is_beside_slate.load(Ordering::Relaxed)
    }

    async fn pull(&self, to_pull: &mpsc::Sender<PullEvent>) -> Result<Infallible, OriginError> {
        let key = self.stream.key();
        let mut config = request(
            Purpose::Play,
            &self.address,
            &self.settings,
            key,
            &self.parameters,
        );
        // The last server on the way of a player decides where it begins, for
        // which it needs the newest keyframe, whatever its origin's `gop_cache`.
        config.gop_cache = Some(true);
        // The pull is for all players here, so only this server is named.
        config.connect_properties.push(self.server.id.property());
        let mut redirects = RedirectChain::new(&self.address, config);
        loop {
            let Err(error) = self.pull_from(&redirects, to_pull).await;
            redirects.follow(error, key)?;
        }
    }

    /// Pulls from the end of the redirects so far.
    async fn pull_from(
        &self,
        redirects: &RedirectChain,
        to_pull: &mpsc::Sender<PullEvent>,
    ) -> Result<Infallible, OriginError> {
        let connect_timeout = self.settings.connect_timeout;
        let limits = &self.server.limits;
        let connector = Connector::new(&self.server, &self.settings);
        let mut events = Vec::new();
        let connected = redirects.connect(&connector, limits, connect_timeout, &mut events);
        let connection = connected.await?;
        // An error means that the pull has ended meanwhile.
        let _ = to_pull.send(PullEvent::Connected).await;

        let relay = Relay {
            origin: self,
            address: &redirects.address,
            source: connection.source(),
            participant: self.server.safepoint.join(),
            state: RelayState::Asked,
            is_slate: false,
            batch: Vec::new(),
        };
        self.relay(relay, connection, events, to_pull).await
    }

    /// Takes what the origin sends, and what it has sent already, into the stream.
    async fn relay(
        &self,
        mut relay: Relay<'_>,
        mut connection: OriginConnection,
        mut events: Vec<ClientEvent>,
        to_pull: &mpsc::Sender<PullEvent>,
    ) -> Result<Infallible, OriginError> {
        if relay.participant.is_frozen() {
            // What has come already is not written down: it is asked for anew.
            relay.participant.park(|_| Ok(())).await;
        }
        loop {
            relay.take(&mut events, to_pull).await?;
            if relay.participant.is_frozen() {
                let write = |parts: &mut TaskParts| relay.write_down(&connection, parts);
                relay.participant.park(write).await;
            }
            // While nobody publishes, the origin may be silent for its own
            // `play_wait_timeout`; it refuses the play at the end of it.
            let read_timeout = self.read_timeout(&relay.state);
            let exchange = async {
                connection.read(&mut events).await?;
                connection.flush().await
            };
            tokio::select! {
                biased;
                () = relay.participant.frozen() => {}
                exchanged = timeout(read_timeout, exchange) => {
                    exchanged.map_err(|_| OriginError::Silent(read_timeout))??;
                }
            }
        }
    }

    /// Goes on with a connection to the origin that this process has had before.
    async fn resume(
        &self,
        resumed: ResumedPull,
        to_pull: &mpsc::Sender<PullEvent>,
    ) -> Result<Infallible, OriginError> {
        let mut relay = Relay {
            origin: self,
            address: &resumed.address,
            source: resumed.connection.source(),
            participant: self.server.safepoint.join(),
            state: resumed.state,
            is_slate: false,
            batch: Vec::new(),
        };
        relay.note_slate(resumed.is_slate, to_pull).await;
        let connection = resumed.connection;
        self.relay(relay, connection, Vec::new(), to_pull).await
    }

    /// Time for which the origin may be silent.
    fn read_timeout(&self, state: &RelayState) -> Duration {
        let read_timeout = self.settings.read_timeout;
        let config = self.server.config();
        match (state, config.vhost(&self.stream.key().vhost)) {
            // The origin waits itself, for a publisher that has sent nothing
            // yet. Its own limit is not known here; ours is most likely alike.
            (RelayState::PublisherExpected(_), Some(vhost)) => {
                read_timeout + vhost.publish_1stpkt_timeout
            }
            _ => read_timeout,
        }
    }
}

/// Returns true or false if `status` says that a stream has a publisher, or has
/// none. Our origins send it to edges that wait, Flash Media Server (and nginx-rtmp
/// with `publish_notify`) to every player.
pub(in crate::server) fn announces_publisher(status: &Status) -> Option<bool> {
    match &*status.code {
        code::PLAY_PUBLISH_NOTIFY => Some(true),
        code::PLAY_UNPUBLISH_NOTIFY => Some(false),
        _ => None,
    }
}

/// State of the media of one connection to an origin.
///
/// ```text
/// Asked ◀──publisher announced, or gone──▶ PublisherExpected
///   │                                            │
///   └────────────── first media ─────────────────┴──▶ Publishing
/// ```
enum RelayState {
    /// Nothing has come yet.
    Asked,
    /// The origin has a publisher that has sent nothing yet.
    PublisherExpected(#[expect(dead_code, reason = "held for its drop")] ExpectedPublisher),
    /// Media flows into the stream.
    Publishing(Outlet),
}

/// The place that a connection's media go to.
enum Outlet {
    /// The stream: this is its only connection.
    Stream(Publication),
    /// The stream, where another connection has not brought the same before.
    Leg(LegPublication),
}

/// Takes what an origin sends into the stream.
struct Relay<'a> {
    origin: &'a OriginPull,
    address: &'a Origin,
    source: Source,
    participant: Participant,
    state: RelayState,
    /// What the origin sends is a slate.
    is_slate: bool,
    batch: Vec<MediaMessage>,
}

impl Relay<'_> {
    /// Takes what the origin has sent. `to_pull` gets an event for the first
    /// media, and before it for publishers.
    async fn take(
        &mut self,
        events: &mut Vec<ClientEvent>,
        to_pull: &mpsc::Sender<PullEvent>,
    ) -> Result<(), OriginError> {
        for event in events.drain(..) {
            match event {
                ClientEvent::Media(message) => {
                    let message = MediaMessage::from(message);
                    if is_of(&message, |class| class == MediaClass::Metadata) {
                        let is_slate = slate_mark::is_in(&message.message().payload);
                        self.note_slate(is_slate, to_pull).await;
                    }
                    self.batch.push(message);
                }
                ClientEvent::StreamBegin => self.start_new_publication(to_pull).await?,
                ClientEvent::Status(status) => {
                    if let Some(has_publisher) = announces_publisher(&status) {
                        self.start_new_publication(to_pull).await?;
                        self.expect(has_publisher, to_pull).await;
                    }
                }
                _ => {}
            }
        }
        self.append(to_pull).await
    }

    /// Another publication begins within the stream.
    async fn start_new_publication(
        &mut self,
        to_pull: &mpsc::Sender<PullEvent>,
    ) -> Result<(), OriginError> {
        self.append(to_pull).await?;
        self.note_slate(false, to_pull).await;
        match &mut self.state {
            RelayState::Publishing(Outlet::Stream(publication)) => {
                publication.start_new_publication();
            }
            RelayState::Publishing(Outlet::Leg(leg)) => {
                leg.start_new_publication(Instant::now())?;
            }
            RelayState::Asked | RelayState::PublisherExpected(_) => {}
        }
        Ok(())
    }

    /// What the origin sends next is a slate, or is none.
    async fn note_slate(&mut self, is_slate: bool, to_pull: &mpsc::Sender<PullEvent>) {
        if self.is_slate != is_slate {
            self.is_slate = is_slate;
            // An error means that the pull has ended meanwhile.
            let _ = to_pull.send(PullEvent::Slate(is_slate)).await;
        }
    }

    /// The origin has a publisher whose media are to come, or has none any more.
    async fn expect(&mut self, has_publisher: bool, to_pull: &mpsc::Sender<PullEvent>) {
        if !matches!(self.state, RelayState::Publishing(_)) {
            self.state = if has_publisher {
                RelayState::PublisherExpected(self.origin.stream.expect_publisher())
            } else {
                RelayState::Asked
            };
            // An error means that the pull has ended meanwhile.
            let _ = to_pull
                .send(PullEvent::PublisherAnnounced(has_publisher))
                .await;
        }
    }

    async fn append(&mut self, to_pull: &mpsc::Sender<PullEvent>) -> Result<(), OriginError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if let RelayState::Publishing(outlet) = &mut self.state {
            outlet.append(&self.batch, Instant::now())?;
            self.report();
        } else if self.origin.is_beside_slate() && self.is_slate {
            // Viewers have one already.
        } else if self.origin.is_beside_slate() && !self.batch.iter().any(is_frame) {
            // The metadata may be among what comes next.
            return Ok(());
        } else {
            self.begin(to_pull).await?;
        }
        self.batch.clear();
        Ok(())
    }

    /// The first media have come.
    async fn begin(&mut self, to_pull: &mpsc::Sender<PullEvent>) -> Result<(), OriginError> {
        let origin = self.origin;
        let key = origin.stream.key();
        log::info!("{key} from {}: flows", self.address);
        let events = origin.server.events();
        let text = format!("from {}", self.address);
        events.record(EventKind::Pull, Some(key), None, text);
        // Before anybody plays it: a player that has had a frame may ask at
        // once for another stream, which begins with this origin.
        let vhost = &origin.stream.key().vhost;
        origin.server.set_first_origin(vhost, &origin.address);
        // An error means that the pull has ended meanwhile.
        let _ = to_pull.send(PullEvent::Flowing).await;
        let _expected = origin.stream.expect_publisher();
        if origin.is_beside_slate.swap(false, Ordering::Relaxed) {
            self.wait_for_slate_to_end().await;
        }
        let now = Instant::now();
        let mut outlet = match &origin.merged {
            None => Outlet::Stream(origin.stream.relay(self.source, now)?),
            Some((merged, leg)) => Outlet::Leg(merged.join(*leg, self.source)),
        };
        outlet.append(&self.batch, now)?;
        // An expectation ends only here: in between, the stream would seem to
        // have no publisher, and players would begin to time their wait.
        self.state = RelayState::Publishing(outlet);
        self.report();
        Ok(())
    }

    /// The pull, which has been told that media flow here, ends the connection that shows the
    /// slate. If it does not, the stream is busy.
    async fn wait_for_slate_to_end(&self) {
        let mut state = self.origin.stream.state();
        let ended = async { state.wait_for(|state| !state.present).await.is_ok() };
        let ended = pin!(timeout(GIVE_WAY_TIMEOUT, ended));
        let _ = self.participant.follow(ended, |_| Ok(())).await;
    }

    /// Logs what has become of the legs of the stream.
    fn report(&self) {
        let RelayState::Publishing(Outlet::Leg(leg)) = &self.state else {
            return;
        };
        for (leg, change) in leg.take_changes() {
            let origin = self
                .origin
                .server
                .pulls()
                .origin(self.origin.stream.id(), leg);
            let text = format!("from {origin}: {}", change.description());
            log::info!("{} {text}", self.origin.stream.key());
            let events = self.origin.server.events();
            events.record(EventKind::Pull, Some(self.origin.stream.key()), None, text);
        }
    }
}

/// True if the message is of a class that is `wanted`.
fn is_of(message: &MediaMessage, wanted: impl Fn(MediaClass) -> bool) -> bool {
    message.head().is_some_and(|head| wanted(head.class))
}

/// True if it is a picture or sound.
fn is_frame(message: &MediaMessage) -> bool {
    message.is_picture() || is_of(message, |class| class == MediaClass::Audio)
}

impl Outlet {
    /// Takes what one read has brought.
    fn append(&mut self, messages: &[MediaMessage], now: Instant) -> Result<(), OriginError> {
        match self {
            Self::Stream(publication) => publication.append(messages, now)?,
            Self::Leg(leg) => leg.append(messages, now)?,
        }
        Ok(())
    }
}
