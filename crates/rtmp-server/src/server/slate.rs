//! Shows the slate of a vhost to the players of a stream that nobody publishes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::sleep_until;
use tokio::sync::watch;

use super::Server;
use super::hooks::SwitchEvent;
use super::pace::{Pace, at};
use crate::config::{Slate, Vhost};
use crate::stream::{
    AppendError, Candidate, Headers, Publication, Rank, Stream, StreamState, Switch, SwitchReason,
};

/// Time for which a slate is shown after the last player has gone.
const LINGER: Duration = Duration::from_secs(10);
/// Time until a slate that could not be shown is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Sees to it that the slate is shown when nobody has published `stream` for long enough.
/// Called whenever a publisher has ended: a stream that nobody has published has no slate,
/// whatever names players ask for.
pub(super) fn arm(server: &Arc<Server>, stream: &Arc<Stream>) {
    let vhost = server.config().vhost(&stream.key().vhost).cloned();
    let has_slate = vhost.is_some_and(|vhost| vhost.slate.is_some());
    if has_slate && stream.has_begun() && stream.claim_slate() {
        let task = SlateTask {
            server: server.clone(),
            stream: stream.clone(),
            state: stream.state(),
            audience: stream.subscriptions(),
        };
        tokio::spawn(task.run());
    }
}

/// The task that shows the slate of one stream.
///
/// ```text
///          nobody publishes for slate_after, somebody plays
///  Waiting ───────────────────────────────────────────────▶ on air
///   │   ▲                                                      │
///   │   └── another publisher is on air, nobody plays, or ─────┘
///   │       the configuration has another slate or none
///   ▼
///  the stream has ended, or nobody plays it for publish_return_timeout
/// ```
struct SlateTask {
    server: Arc<Server>,
    stream: Arc<Stream>,
    state: watch::Receiver<StreamState>,
    audience: watch::Receiver<usize>,
}

impl SlateTask {
    async fn run(mut self) {
        while let Some(slate) = self.wait().await {
            let candidate = Candidate {
                rank: Rank::Slate,
                client: None,
            };
            // An error means that somebody has begun to publish.
            if let Ok(publication) = self.stream.publish_as(candidate, Instant::now()) {
                self.announce();
                match self.show(&slate, publication).await {
                    Ok(()) | Err(AppendError::Ended) => {}
                    Err(error) => {
                        log::warn!("{}: the slate ends: {error}", self.stream.key());
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            }
        }
        self.stream.release_slate();
    }

    fn vhost(&self) -> Option<Arc<Vhost>> {
        let config = self.server.config();
        config.vhost(&self.stream.key().vhost).cloned()
    }

    /// True if the configuration in force has this slate: a reload reads its file anew.
    fn is_configured(&self, slate: &Slate) -> bool {
        let vhost = self.vhost();
        vhost.is_some_and(|vhost| vhost.slate.as_ref() == Some(slate))
    }

    fn has_audience(&mut self) -> bool {
        *self.audience.borrow_and_update() > 0
    }

    /// Waits until the slate is to be shown; `None`: the stream needs it no more.
    async fn wait(&mut self) -> Option<Slate> {
        loop {
            let vhost = self.vhost()?;
            let slate = vhost.slate.clone()?;
            if self.state.borrow_and_update().ended {
                return None;
            }
            let has_audience = self.has_audience();
            let now = Instant::now();
            let absence = self.stream.unpublished_for(now);
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
                // Errors cannot be: the senders are the stream's, which we hold.
                _ = self.state.changed() => {}
                _ = self.audience.changed() => {}
                () = sleep_until(deadline) => {}
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
            "{}: the slate goes on air: nobody publishes it",
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
    /// it, or it is no longer the configuration's.
    ///
    /// # Errors
    /// It cannot be published, such as for want of memory.
    async fn show(
        &mut self,
        slate: &Slate,
        mut publication: Publication,
    ) -> Result<(), AppendError> {
        let media = slate.media().clone();
        let mut config = self.server.config();
        let mut pace = Pace::new(Instant::now());
        let mut left_at = None;
        for turn in 0_u64.. {
            let base_ms = turn * u64::from(media.duration_ms);
            for message in &media.messages {
                let is_header = message
                    .head()
                    .is_some_and(|head| Headers::keeps_class(head.class));
                // In force since the first turn.
                if is_header && turn > 0 {
                    continue;
                }
                let time_ms = base_ms + u64::from(message.message().timestamp);
                let due = pace.due(time_ms);
                self.pass_time(due, &publication).await;
                let now = Instant::now();
                pace.pass(due, now);
                let newest = self.server.config();
                if !Arc::ptr_eq(&newest, &config) {
                    if !self.is_configured(slate) {
                        log::info!("{}: the slate ends: it is another now", self.stream.key());
                        return Ok(());
                    }
                    config = newest;
                }
                if self.has_audience() {
                    left_at = None;
                } else if now.saturating_duration_since(*left_at.get_or_insert(now)) >= LINGER {
                    log::info!("{}: the slate ends: nobody plays it", self.stream.key());
                    return Ok(());
                }
                let message = at(message, time_ms);
                match publication.append(&[message], now) {
                    Err(AppendError::TakenOver) => return Ok(()),
                    appended => appended?,
                }
            }
        }
        Ok(())
    }

    /// Waits until `due`, or until another publisher is on air.
    async fn pass_time(&mut self, due: Instant, publication: &Publication) {
        let on_air = |state: &StreamState| publication.holds_air(state);
        let another = async {
            // An error cannot be: the sender is the stream's, which we hold.
            let _ = self.state.wait_for(|state| !on_air(state)).await;
        };
        tokio::select! {
            () = sleep_until(Some(due)) => {}
            () = another => {}
        }
    }
}
