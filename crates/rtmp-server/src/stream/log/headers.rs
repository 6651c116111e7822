//! Messages that a player needs before its first picture: metadata and the
//! decoders' configurations.

use bytes::Bytes;
use rtmp_proto::wire::media::{MediaClass, MediaHead, TrackCodec};
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

use super::for_players;
use crate::stream::slate_mark;
use crate::stream::track::Track;

/// More tracks and kinds than this are nothing that an encoder sends.
const MAX_HEADERS: usize = 32;

/// The largest payload that is kept, in bytes. Configurations of decoders have
/// some hundred, metadata some thousand; larger ones are passed on to whoever
/// plays, and not kept for whoever joins.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The largest payloads that are kept together, in bytes: each joining player
/// gets a copy of its own.
const MAX_BYTES: usize = 128 * 1024;

/// One message that every joining player gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    /// Its part in the stream; the newest of each class is in force.
    pub class: MediaClass,
    /// The coding that it is for, where it names one.
    pub codec: Option<TrackCodec>,
    /// The form of its payload.
    pub message_type: MessageType,
    /// The message's payload.
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    pub payload: Bytes,
    /// Its place in the log.
    pub offset: u64,
}

impl Header {
    /// The header that `message` is, not in the log yet.
    ///
    /// Its payload is copied: it may be a small part of a large aggregate
    /// message, all of which would be kept with it.
    #[must_use]
    pub(crate) fn new(head: MediaHead, message: &Message) -> Self {
        Self {
            class: head.class,
            codec: head.codec,
            message_type: message.message_type,
            payload: Bytes::copy_from_slice(&message.payload),
            offset: 0,
        }
    }

    /// The track that it belongs to; `None`: the stream as a whole.
    #[must_use]
    pub(in crate::stream) fn track(&self) -> Option<Track> {
        match self.message_type {
            MessageType::AUDIO => Some(Track::Audio),
            MessageType::VIDEO => Some(Track::Video),
            _ => None,
        }
    }

    /// The meaning of its first bytes.
    #[must_use]
    pub(crate) fn head(&self) -> MediaHead {
        MediaHead {
            class: self.class,
            codec: self.codec,
        }
    }

    /// The header as a message on the message stream `stream_id`, of time 0.
    #[must_use]
    pub(crate) fn message(&self, stream_id: u32) -> Message {
        Message {
            timestamp: 0,
            message_type: self.message_type,
            stream_id,
            payload: self.payload.clone(),
        }
    }
}

/// The headers in force at some place of the log, metadata first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Headers {
    headers: Vec<Header>,
}

impl Headers {
    /// True if `message`, which is of `class`, is kept for joining players.
    #[must_use]
    pub(crate) fn keeps(class: MediaClass, message: &Message) -> bool {
        Self::keeps_class(class) && message.payload.len() <= MAX_HEADER_BYTES
    }

    /// True if messages of this class are for joining players at all.
    #[must_use]
    pub(crate) fn keeps_class(class: MediaClass) -> bool {
        match class {
            MediaClass::VideoSequenceHeader { .. }
            | MediaClass::VideoMetadata { .. }
            | MediaClass::AudioSequenceHeader { .. }
            | MediaClass::AudioChannels { .. }
            | MediaClass::Metadata => true,
            MediaClass::Keyframe { .. }
            | MediaClass::InterFrame { .. }
            | MediaClass::VideoOther
            | MediaClass::Audio
            | MediaClass::ClearMetadata
            | MediaClass::Data => false,
        }
    }

    /// Puts `header` in force in place of the last of its class. One that is
    /// too large takes the place all the same: what it replaces is void.
    pub(crate) fn set(&mut self, header: Header) {
        let place = self
            .headers
            .iter()
            .position(|known| known.class == header.class);
        if let Some(place) = place {
            self.headers.remove(place);
        }
        let others: usize = self.headers.iter().map(|known| known.payload.len()).sum();
        let length = header.payload.len();
        let fits = length <= MAX_HEADER_BYTES && others + length <= MAX_BYTES;
        if fits && self.headers.len() < MAX_HEADERS {
            let metadata = header.class == MediaClass::Metadata;
            let end = if metadata { 0 } else { self.headers.len() };
            self.headers.insert(place.unwrap_or(end), header);
        }
    }

    /// Follows a publisher's `message`, which is of `head`.
    pub(in crate::stream) fn follow(&mut self, head: MediaHead, message: &Message) {
        if head.class == MediaClass::ClearMetadata {
            self.clear_metadata();
        } else if Self::keeps(head.class, message) {
            self.set(Header::new(head, &for_players(message, head.class)));
        }
    }

    /// True if nothing is in force.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// Forgets the metadata.
    pub(crate) fn clear_metadata(&mut self) {
        self.headers
            .retain(|header| header.class != MediaClass::Metadata);
    }

    /// Forgets the configurations that are void now that frames of a track are
    /// of `codec`; true if there was one.
    pub(crate) fn keep_codec(&mut self, codec: TrackCodec) -> bool {
        let before = self.headers.len();
        self.headers
            .retain(|header| !header.codec.is_some_and(|own| codec.replaces(own)));
        self.headers.len() < before
    }

    /// Takes out what belongs to `track`.
    pub(in crate::stream) fn take_track(&mut self, track: Track) -> Vec<Header> {
        self.headers
            .extract_if(.., |header| header.track() == Some(track))
            .collect()
    }

    /// True if a header of `class` is in force.
    #[must_use]
    pub(crate) fn has_class(&self, class: MediaClass) -> bool {
        self.headers.iter().any(|known| known.class == class)
    }

    /// True if these are what another publication than that of `former` begins
    /// with: another decoder's configuration is among them; or, with other
    /// metadata, there are not as many.
    #[must_use]
    pub(crate) fn are_of_another_than(&self, former: &Self) -> bool {
        let configurations = |headers: &Self| {
            let headers = headers.headers.iter();
            headers.filter(|header| header.track().is_some()).count()
        };
        let (now, before) = (configurations(self), configurations(former));
        let fewer = (1..before).contains(&now);
        self.headers.iter().any(|header| {
            let decides = header.track().is_some() || fewer;
            decides && !former.has(header)
        })
    }

    /// True if the decoders' configurations among these are the very ones of `others`.
    #[must_use]
    pub(crate) fn have_configurations_of(&self, others: &Self) -> bool {
        let all_in = |headers: &Self, others: &Self| {
            let mut headers = headers.headers.iter();
            headers.all(|header| header.track().is_none() || others.has(header))
        };
        all_in(self, others) && all_in(others, self)
    }

    /// True if a decoder's configuration for pictures is among them.
    #[must_use]
    pub(in crate::stream) fn have_video(&self) -> bool {
        let is_video =
            |header: &Header| matches!(header.class, MediaClass::VideoSequenceHeader { .. });
        self.headers.iter().any(is_video)
    }

    /// True if what they belong to is a slate, here or at the origin: its metadata say so.
    #[must_use]
    pub(in crate::stream) fn mark_slate(&self) -> bool {
        let mut headers = self.headers.iter();
        headers.any(|header| {
            header.class == MediaClass::Metadata && slate_mark::is_in(&header.payload)
        })
    }

    /// True if `header` is in force, wherever it stands.
    #[must_use]
    pub(crate) fn has(&self, header: &Header) -> bool {
        self.headers.iter().any(|known| {
            known.class == header.class
                && known.message_type == header.message_type
                && known.payload == header.payload
        })
    }

    /// The same headers for another log, where each has the place that `place`
    /// says.
    pub(crate) fn placed(&self, place: impl Fn(&Header) -> u64) -> Self {
        let mut placed = self.clone();
        for header in &mut placed.headers {
            header.offset = place(header);
        }
        placed
    }

    /// Offset of the header of `class`; 0 if there is none.
    #[must_use]
    pub(crate) fn offset_of(&self, class: MediaClass) -> u64 {
        let mut headers = self.headers.iter();
        headers
            .find(|header| header.class == class)
            .map_or(0, |header| header.offset)
    }

    /// The headers that a player lacks that has seen the log up to `seen`.
    pub(crate) fn since(&self, seen: u64) -> impl Iterator<Item = &Header> {
        self.headers
            .iter()
            .filter(move |header| header.offset >= seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(class: MediaClass, offset: u64) -> Header {
        Header {
            class,
            codec: None,
            message_type: MessageType::VIDEO,
            payload: Bytes::new(),
            offset,
        }
    }

    fn classes(headers: &Headers, seen: u64) -> Vec<MediaClass> {
        headers.since(seen).map(|header| header.class).collect()
    }

    #[test]
    fn metadata_comes_first_and_the_newest_of_each_class_counts() {
        let video = MediaClass::VideoSequenceHeader { track: 0 };
        let mut headers = Headers::default();
        headers.set(header(video, 10));
        headers.set(header(MediaClass::Metadata, 20));
        headers.set(header(video, 30));
        assert_eq!(classes(&headers, 0), [MediaClass::Metadata, video]);
        assert_eq!(classes(&headers, 25), [video]);
        headers.clear_metadata();
        assert_eq!(classes(&headers, 0), [video]);
    }

    #[test]
    fn an_encoder_cannot_make_the_headers_grow_without_end() {
        let mut headers = Headers::default();
        for track in 0..=255 {
            headers.set(header(MediaClass::AudioSequenceHeader { track }, 0));
        }
        assert_eq!(headers.since(0).count(), MAX_HEADERS);
    }

    #[test]
    fn a_header_keeps_no_memory_of_the_message_that_it_was_a_part_of() {
        let aggregate = Bytes::from(vec![7; 1_000]);
        let message = Message {
            timestamp: 0,
            message_type: MessageType::VIDEO,
            stream_id: 1,
            payload: aggregate.slice(10..20),
        };
        let head = MediaHead {
            class: MediaClass::Metadata,
            codec: None,
        };
        let header = Header::new(head, &message);
        assert_eq!(header.payload, message.payload);
        let kept = header.payload.as_ptr_range();
        assert!(!aggregate.as_ptr_range().contains(&kept.start));
    }

    #[test]
    fn headers_are_bounded_one_by_one_and_together() {
        let large = |class, length| Header {
            payload: vec![7; length].into(),
            ..header(class, 0)
        };
        let video = MediaClass::VideoSequenceHeader { track: 0 };
        let mut headers = Headers::default();
        headers.set(large(video, MAX_HEADER_BYTES));
        assert_eq!(classes(&headers, 0), [video]);
        headers.set(large(video, MAX_HEADER_BYTES + 1));
        assert_eq!(classes(&headers, 0), [], "the small one is void");
        for track in 0..10 {
            let class = MediaClass::AudioSequenceHeader { track };
            headers.set(large(class, MAX_HEADER_BYTES));
        }
        let kept = headers.since(0).map(|header| header.payload.len());
        assert_eq!(kept.sum::<usize>(), MAX_BYTES);
    }
}
