//! Shows the slate of a vhost to the players of a stream of which nothing comes.

mod part;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::sleep_until;
use tokio::sync::watch;

use super::Server;
use super::hooks::SwitchEvent;
use super::pace::{Pace, at};
use super::upgrade::{Participant, TaskParts};
use crate::config::{Config, Slate, Vhost};
use crate::stream::{
    AppendError, Candidate, Headers, Publication, Rank, Stream, StreamState, Switch, SwitchReason,
    TakenStream,
};
pub(super) use part::SlatePart;

/// Time for which a slate is shown after the last player has gone.
const LINGER: Duration = Duration::from_secs(10);
/// Time until a slate that could not be shown is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Sees to it that the slate is shown where a reload has configured one and somebody plays: no
/// publisher's end tells of those streams.
pub(super) fn sweep(server: &Arc<Server>) {
    let config = server.config();
    if !config.vhosts.values().any(|vhost| vhost.slate.is_some()) {
        return;
    }
    // What nobody plays is left to the registry, which forgets what no task holds.
    let now = Instant::now();
    let is_meant = |stream: &Stream| {
        *stream.subscriptions().borrow() > 0 && stream.without_media_for(now).is_some()
    };
    for stream in &server.registry.select(is_meant) {
        arm(server, stream);
    }
}

/// Sees to it that the slate is shown when nothing has come for long enough, and who is on air,
/// if anybody, has sent nothing yet: one that has, and is silent, is left to
/// `publish_normal_timeout`. Called whenever a publisher has ended: a stream that nobody has
/// published has no slate, whatever names players ask for.
pub(super) fn arm(server: &Arc<Server>, stream: &Arc<Stream>) {
    if slate(server, stream).is_some() && stream.has_begun() && stream.claim_slate() {
        tokio::spawn(SlateTask::new(server, stream).run(None));
    }
}

/// Sees to the slate of a stream that this process has had before, and goes on with it where
/// it was shown. Where the stream's log begins anew, its file does, too.
pub(super) fn resume(
    server: &Arc<Server>,
    TakenStream {
        stream, is_new_log, ..
    }: &TakenStream,
    showing: Option<Showing>,
) {
    let Some(mut showing) = showing else {
        return arm(server, stream);
    };
    if *is_new_log {
        showing.restart(Instant::now());
    }
    if stream.claim_slate() {
        tokio::spawn(SlateTask::new(server, stream).run(Some(showing)));
    }
}

/// The slate of a stream in the configuration in force: an edge gets it from its origin.
fn slate(server: &Server, stream: &Stream) -> Option<Slate> {
    let config = server.config();
    let vhost = config.vhost(&stream.key().vhost)?;
    vhost.slate.clone().filter(|_| vhost.upstream.is_none())
}

/// The task that shows the slate of one stream.
///
/// ```text
///          no media for slate_after, somebody plays
///  Waiting ───────────────────────────────────────────────▶ on air
///   │   ▲                                                      │
///   │   └── another publisher is on air, nobody plays, or ─────┘
///   │       the configuration has no slate any more
///   ▼
///  the stream has ended, nobody plays it for publish_return_timeout, or the configuration
///  has no slate: if it has one again, another task begins
/// ```
struct SlateTask {
    server: Arc<Server>,
    stream: Arc<Stream>,
    state: watch::Receiver<StreamState>,
    audience: watch::Receiver<usize>,
    config: watch::Receiver<Arc<Config>>,
    participant: Participant,
}

/// A slate that is on air, and what of its file comes next.
#[derive(Debug)]
pub(super) struct Showing {
    pub(super) publication: Publication,
    /// The [`SlateMedia::fingerprint`](crate::config::SlateMedia::fingerprint) of its file.
    fingerprint: u64,
    pace: Pace,
    /// Time at which the present turn of the file has begun, ms.
    turn_ms: u64,
    /// Number of the message that comes next.
    next: usize,
    /// The headers are in force since the first turn.
    has_headers: bool,
    /// Time since which nobody plays it.
    left_at: Option<Instant>,
}

impl Showing {
    /// `slate` is shown from `now` on.
    fn new(publication: Publication, slate: &Slate, now: Instant) -> Self {
        Self {
            publication,
            fingerprint: slate.media().fingerprint(),
            pace: Pace::new(now),
            turn_ms: 0,
            next: 0,
            has_headers: false,
            left_at: None,
        }
    }

    /// Another file, that of `slate`, begins at `now`.
    fn go_on_with(&mut self, slate: &Slate, now: Instant) {
        self.fingerprint = slate.media().fingerprint();
        self.publication.start_new_publication();
        self.restart(now);
    }

    /// The file begins at `now`: time goes on.
    fn restart(&mut self, now: Instant) {
        self.turn_ms = self.pace.elapsed_ms(now);
        self.next = 0;
        self.has_headers = false;
    }
}

impl SlateTask {
    fn new(server: &Arc<Server>, stream: &Arc<Stream>) -> Self {
        Self {
            server: server.clone(),
            stream: stream.clone(),
            state: stream.state(),
            audience: stream.subscriptions(),
            config: server.config.subscribe(),
            participant: server.safepoint.join(),
        }
    }

    async fn run(mut self, resumed: Option<Showing>) {
        if let Some(showing) = resumed {
            self.show(showing).await;
        }
        while let Some(slate) = self.wait().await {
            let candidate = Candidate {
                rank: Rank::Slate,
                client: None,
            };
            let now = Instant::now();
            // An error means that somebody has begun to send.
            if let Ok(publication) = self.stream.publish_as(candidate, now) {
                self.announce();
                self.show(Showing::new(publication, &slate, now)).await;
            }
        }
        self.stream.release_slate();
    }

    /// Shows the slate until it ends, and waits if that is an error.
    async fn show(&mut self, mut showing: Showing) {
        let shown = self.try_show(&mut showing).await;
        drop(showing);
        match shown {
            Ok(()) | Err(AppendError::Ended) => {}
            Err(error) => {
                log::warn!("{}: the slate ends: {error}", self.stream.key());
                let pause = pin!(tokio::time::sleep(RETRY_PAUSE));
                self.participant.follow(pause, |_| Ok(())).await;
            }
        }
    }

    fn vhost(&self) -> Option<Arc<Vhost>> {
        let config = self.server.config();
        config.vhost(&self.stream.key().vhost).cloned()
    }

    /// The slate of the configuration in force, with which `showing` goes on: a reload reads its
    /// file anew. If that is another one, it begins.
    fn follow_configuration(&self, showing: &mut Showing) -> Option<Slate> {
        let key = self.stream.key();
        let Some(slate) = slate(&self.server, &self.stream) else {
            log::info!("{key}: the slate ends: the configuration has none");
            return None;
        };
        if showing.fingerprint != slate.media().fingerprint() {
            log::info!("{key}: the slate is another now");
            showing.go_on_with(&slate, Instant::now());
        }
        Some(slate)
    }

    fn has_audience(&mut self) -> bool {
        *self.audience.borrow_and_update() > 0
    }

    /// Waits until the slate is to be shown; `None`: the stream needs it no more.
    async fn wait(&mut self) -> Option<Slate> {
        loop {
            if self.participant.is_frozen() {
                self.participant.park(|_| Ok(())).await;
            }
            self.config.borrow_and_update();
            let vhost = self.vhost()?;
            let slate = slate(&self.server, &self.stream)?;
            if self.state.borrow_and_update().ended {
                return None;
            }
            let has_audience = self.has_audience();
            let now = Instant::now();
            let absence = self.stream.without_media_for(now);
            let limit = match has_audience {
                true => vhost.slate_after,
                false => vhost.publish_return_timeout,
            };
            match absence {
                Some(absence) if absence >= limit && has_audience => return Some(slate),
                Some(absence) if absence >= limit => return None,
                _ => {}
            }
            let deadline = absence.map(|absence| now + (limit - absence));
            tokio::select! {
                // Errors cannot be: the senders are the stream's and the server's, which we
                // hold.
                _ = self.state.changed() => {}
                _ = self.audience.changed() => {}
                _ = self.config.changed() => {}
                () = sleep_until(deadline) => {}
                () = self.participant.frozen() => {}
            }
        }
    }

    fn announce(&self) {
        let switch = Switch {
            to: 0,
            from_client: None,
            to_client: None,
            reason: SwitchReason::Slate,
        };
        log::info!(
            "{}: the slate goes on air: nobody sends anything",
            self.stream.key()
        );
        self.server.switches.count(switch.reason);
        if let Some(vhost) = self.vhost() {
            let event = SwitchEvent {
                switch,
                publisher: None,
                parameters: &self.stream.parameters(),
                stream: &self.stream,
            };
            let urls = &vhost.http_hooks.on_switch;
            self.server.hooks.notify(urls, &event);
        }
    }

    /// Publishes the slate, again and again, until another publisher is on air, nobody plays
    /// it, or the configuration has none.
    ///
    /// # Errors
    /// It cannot be published, such as for want of memory.
    async fn try_show(&mut self, showing: &mut Showing) -> Result<(), AppendError> {
        let mut config = self.server.config();
        let Some(mut slate) = self.follow_configuration(showing) else {
            return Ok(());
        };
        loop {
            let media = slate.media();
            let Some(message) = media.messages.get(showing.next) else {
                showing.turn_ms += u64::from(media.duration_ms);
                showing.next = 0;
                showing.has_headers = true;
                continue;
            };
            let is_header = message
                .head()
                .is_some_and(|head| Headers::keeps_class(head.class));
            if is_header && showing.has_headers {
                showing.next += 1;
                continue;
            }
            let time_ms = showing.turn_ms + u64::from(message.message().timestamp);
            let due = showing.pace.due(time_ms);
            self.pass_time(due, showing).await;
            let now = Instant::now();
            showing.pace.pass(due, now);
            let newest = self.server.config();
            if !Arc::ptr_eq(&newest, &config) {
                config = newest;
                match self.follow_configuration(showing) {
                    Some(newest) => slate = newest,
                    None => return Ok(()),
                }
                continue;
            }
            if self.has_audience() {
                showing.left_at = None;
            } else if now.saturating_duration_since(*showing.left_at.get_or_insert(now)) >= LINGER {
                log::info!("{}: the slate ends: nobody plays it", self.stream.key());
                return Ok(());
            }
            let message = at(message, time_ms);
            match showing.publication.append(&[message], now) {
                Err(AppendError::TakenOver) => return Ok(()),
                appended => appended?,
            }
            showing.next += 1;
        }
    }

    /// Waits until `due`, or until another publisher is on air.
    async fn pass_time(&mut self, due: Instant, showing: &Showing) {
        let state = &mut self.state;
        let passed = pin!(async {
            let on_air = |state: &StreamState| showing.publication.holds_air(state);
            tokio::select! {
                () = sleep_until(Some(due)) => {}
                // An error cannot be: the sender is the stream's, which we hold.
                _ = state.wait_for(|state| !on_air(state)) => {}
            }
        });
        let write = |parts: &mut TaskParts| {
            parts.slates.push(showing.part()?);
            Ok(())
        };
        self.participant.follow(passed, write).await;
    }
}
