//! A connection that publishes: into a stream's log, or on to an edge's origin.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use rtmp_proto::session::status::code;
use rtmp_proto::session::{Parameters, Status};
use rtmp_proto::wire::Message;
use serde::{Deserialize, Serialize};
use service_kit::sleep_until;
use tokio::sync::watch;

use super::close::{CloseReason, FAILED};
use crate::server::client::{Client, StatsSnapshot};
use crate::server::upstream::{OriginConnection, OriginError};
use crate::stream::{MediaMessage, Publication, Stream, StreamState};

/// State of a publish.
///
/// ```text
/// AwaitingMedia ──first message──▶ Receiving
///       │                              │
///       └──────── BadName from the origin ──▶ Superseded
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PublishState {
    /// Accepted, and nothing has come yet: `publish_1stpkt_timeout` holds.
    AwaitingMedia,
    /// Media has come: `publish_normal_timeout` holds.
    Receiving,
    /// The origin has another publisher of this stream. Hooks do not hear of the
    /// end: the stream goes on.
    Superseded,
}

/// A publish that has been accepted.
pub(super) struct Publishing {
    /// The message stream that it publishes on.
    pub(super) stream_id: u32,
    /// The stream; at an edge, the one that its own viewers play.
    pub(super) stream: Arc<Stream>,
    /// Parameters behind the stream's name.
    pub(super) parameters: Parameters,
    pub(super) target: PublishTarget,
    /// It is on air, as far as has been made known; false for a standby.
    pub(super) is_on_air: bool,
    /// Counters of the connection when this publish began.
    pub(super) begun: StatsSnapshot,
    pub(super) state: PublishState,
}

/// Destination of a publisher's messages.
pub(super) enum PublishTarget {
    /// The stream's log.
    Log {
        publication: Publication,
        stream_state: watch::Receiver<StreamState>,
        /// Messages of the present read, which are appended together.
        batch: Vec<MediaMessage>,
    },
    /// The origin of this edge.
    Origin(Box<OriginConnection>),
}

/// Event at the far end of a publish, or of a stream that is waited for.
pub(super) enum StreamChange {
    /// The state of the stream has changed.
    State,
    /// The origin that the stream is forwarded to has sent something, or the
    /// connection to it has failed.
    Origin(Result<(), OriginError>),
}

impl Publishing {
    /// Waits for an event of the stream or the origin. It may be dropped
    /// unfinished.
    pub(super) async fn next_event(&mut self) -> StreamChange {
        match &mut self.target {
            PublishTarget::Log {
                publication,
                stream_state,
                ..
            } => {
                let deadline = publication.deadline(Instant::now());
                tokio::select! {
                    // An error cannot be: the sender lives as long as the stream,
                    // which we hold.
                    _ = stream_state.changed() => {}
                    () = sleep_until(deadline) => {}
                }
                StreamChange::State
            }
            PublishTarget::Origin(origin) => {
                // The session answers what needs an answer; only an end
                // concerns the publisher.
                StreamChange::Origin(origin.read(&mut Vec::new()).await)
            }
        }
    }

    /// Does what the stream's state asks for. Returns an error if the publication no
    /// longer holds its stream.
    pub(super) fn follow_stream(&mut self) -> Result<(), CloseReason> {
        let PublishTarget::Log {
            publication,
            stream_state,
            ..
        } = &mut self.target
        else {
            return Ok(());
        };
        stream_state.mark_unchanged();
        Ok(publication.follow(Instant::now())?)
    }

    /// Takes a message that `client` has sent, if it belongs to this publish.
    pub(super) fn receive(&mut self, message: Message, client: &Client) {
        if message.stream_id != self.stream_id {
            return;
        }
        if self.state == PublishState::AwaitingMedia {
            self.state = PublishState::Receiving;
        }
        client.messages_received.fetch_add(1, Ordering::Relaxed);
        let media = MediaMessage::from(message);
        if media.is_picture() {
            client.pictures_received.fetch_add(1, Ordering::Relaxed);
        }
        match &mut self.target {
            PublishTarget::Log { batch, .. } => batch.push(media),
            PublishTarget::Origin(origin) => {
                // If the origin takes no more, the next read from it says why.
                let _ = origin.publish(media.message());
            }
        }
    }

    /// Appends the messages of the present read to the stream's log. `is_unfinished`: part of
    /// another message has come.
    pub(super) fn append_batch(&mut self, is_unfinished: bool) -> Result<(), CloseReason> {
        let PublishTarget::Log {
            publication, batch, ..
        } = &mut self.target
        else {
            return Ok(());
        };
        if batch.is_empty() {
            if is_unfinished {
                // A large picture on a slow way is no silence.
                publication.note_arrival(Instant::now());
            }
            return Ok(());
        }
        let appended = publication.append(batch, Instant::now());
        batch.clear();
        Ok(appended?)
    }

    /// Memory in bytes that is held for what the origin has not taken yet, or by a standby.
    pub(super) fn held_bytes(&self) -> usize {
        match &self.target {
            PublishTarget::Log { publication, .. } => publication.held_bytes(),
            PublishTarget::Origin(origin) => origin.unsent_bytes(),
        }
    }

    /// Returns the status for the publisher whose origin no longer takes the
    /// stream: the origin's own, or one that says why.
    pub(super) fn on_origin_lost(&mut self, error: &OriginError) -> Status {
        let status = match error {
            OriginError::Rejected(status) => status.clone(),
            other => Status::error(FAILED, other.to_string()),
        };
        if status.code == code::PUBLISH_BAD_NAME {
            self.state = PublishState::Superseded;
        }
        status
    }
}
