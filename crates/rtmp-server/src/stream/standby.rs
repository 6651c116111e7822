//! What a publisher that waits has sent: its newest group of pictures.

use std::time::{Duration, Instant};

use rtmp_proto::wire::media::MediaClass;
use serde::{Deserialize, Serialize};

use super::MediaMessage;
use super::log::headers::Headers;

/// The most bytes of a group that are kept: two seconds of 100 Mbit/s.
const MAX_BYTES: usize = 32 << 20;
/// The most messages of a group that are kept.
const MAX_MESSAGES: usize = 16_384;

/// The phase of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    /// Nothing to begin at has come yet, or its group was too long: the next keyframe is
    /// awaited. Pictures have come since that time.
    Awaiting(#[serde(with = "crate::hand_over::monotonic")] Option<Instant>),
    /// It begins with a keyframe, or with sound where there are no pictures.
    Begun,
}

/// A message with the time at which it came.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Arrived {
    pub(super) message: MediaMessage,
    #[serde(with = "crate::hand_over::monotonic")]
    pub(super) at: Instant,
}

/// The parts of a [`StandbyGroup`].
#[derive(Debug)]
pub(super) struct Parts {
    /// The headers in force where it begins.
    pub(super) first_headers: Headers,
    pub(super) messages: Vec<Arrived>,
    /// The headers in force where it ends.
    pub(super) headers: Headers,
}

/// A publisher's newest group of pictures, with the headers that it needs, in a bounded
/// buffer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StandbyGroup {
    /// The newest headers.
    headers: Headers,
    /// Those in force where the group begins.
    first_headers: Headers,
    messages: Vec<Arrived>,
    payload_bytes: usize,
    phase: Phase,
    has_pictures: bool,
    warned_of_long_group: bool,
}

/// What a batch has brought to a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Brought {
    /// The group begins with a message of the batch.
    pub(super) begins: bool,
    /// It was too long and has been dropped, for the first time.
    pub(super) too_long: bool,
}

impl StandbyGroup {
    /// An empty group of a publisher that has `headers` in force.
    pub(super) fn new(headers: Headers) -> Self {
        Self {
            has_pictures: headers.have_video(),
            headers,
            first_headers: Headers::default(),
            messages: Vec::new(),
            payload_bytes: 0,
            phase: Phase::Awaiting(None),
            warned_of_long_group: false,
        }
    }

    /// True if it has a message to begin with.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Begun
    }

    /// The bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.payload_bytes + self.messages.capacity() * size_of::<Arrived>()
    }

    /// Its parts, for the log.
    pub(super) fn into_parts(self) -> Parts {
        let (first_headers, messages) = match self.phase {
            Phase::Begun => (self.first_headers, self.messages),
            Phase::Awaiting(_) => (self.headers.clone(), Vec::new()),
        };
        Parts {
            first_headers,
            messages,
            headers: self.headers,
        }
    }

    /// Takes what has come at `now`. Where pictures come without a keyframe for
    /// `keyframe_timeout`, each is taken for one.
    pub(super) fn take(
        &mut self,
        messages: &[MediaMessage],
        now: Instant,
        keyframe_timeout: Duration,
    ) -> Brought {
        let mut brought = Brought::default();
        for message in messages {
            let Some(head) = message.head() else { continue };
            let begins = match head.class {
                MediaClass::Keyframe { track: 0 } => true,
                MediaClass::InterFrame { .. } => self.is_unflagged(now, keyframe_timeout),
                MediaClass::Audio => !self.has_pictures,
                _ => false,
            };
            self.has_pictures |= message.is_picture();
            if begins {
                self.begin();
                brought.begins = true;
            }
            self.headers.follow(head, message.message());
            self.has_pictures |= matches!(head.class, MediaClass::VideoSequenceHeader { .. });
            if self.phase == Phase::Begun {
                brought.too_long |= self.keep(message.unshared(), now);
            }
        }
        brought
    }

    fn begin(&mut self) {
        self.messages.clear();
        self.payload_bytes = 0;
        self.first_headers = self.headers.clone();
        self.phase = Phase::Begun;
    }

    /// True if a picture that is no keyframe is to begin a group all the same.
    fn is_unflagged(&mut self, now: Instant, keyframe_timeout: Duration) -> bool {
        let Phase::Awaiting(since) = &mut self.phase else {
            return false;
        };
        let since = *since.get_or_insert(now);
        now.saturating_duration_since(since) >= keyframe_timeout
    }

    /// Keeps a message; true if the group has become too long, and that for the first time.
    fn keep(&mut self, message: MediaMessage, at: Instant) -> bool {
        self.payload_bytes += message.message().payload.len();
        self.messages.push(Arrived { message, at });
        if self.bytes() <= MAX_BYTES && self.messages.len() <= MAX_MESSAGES {
            return false;
        }
        self.messages = Vec::new();
        self.payload_bytes = 0;
        self.phase = Phase::Awaiting(None);
        !std::mem::replace(&mut self.warned_of_long_group, true)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtmp_proto::wire::{Message, MessageType};

    use super::*;

    fn take(group: &mut StandbyGroup, payload: Bytes) -> Brought {
        let message = Message {
            timestamp: 0,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload,
        };
        group.take(&[message.into()], Instant::now(), Duration::MAX)
    }

    #[test]
    fn a_group_keeps_no_memory_of_the_aggregates_that_its_messages_were_parts_of() {
        let mut group = StandbyGroup::new(Headers::default());
        let aggregate = Bytes::from([0x17, 1, 0, 0, 0].repeat(200));
        take(&mut group, aggregate.slice(..5));
        let kept = &group.messages[0].message.message().payload;
        assert_eq!(kept, &aggregate[..5]);
        let range = aggregate.as_ptr_range();
        assert!(!range.contains(&kept.as_ptr()));
    }

    #[test]
    fn a_group_of_tiny_messages_counts_what_each_of_them_costs() {
        let mut group = StandbyGroup::new(Headers::default());
        take(&mut group, Bytes::from_static(&[0x17, 1, 0, 0, 0]));
        for _ in 0..999 {
            take(&mut group, Bytes::from_static(&[0x27, 1, 0, 0, 0]));
        }
        assert!(group.bytes() >= 1_000 * (size_of::<Arrived>() + 5));
    }
}
