//! The meaning of a stream's message to whoever keeps and forwards the stream.

use serde::{Deserialize, Serialize};

use super::message::audio::{AudioCodec, AudioContent, AudioHead};
use super::message::data::{self, DataKind};
use super::message::video::{VideoCodec, VideoContent, VideoHead};
use super::{Message, MessageType};

/// A media message's part in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum MediaClass {
    /// A video decoder's configuration, needed by every player that joins;
    /// each track has its own.
    VideoSequenceHeader {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// Colour information and the like, needed by every player that joins.
    VideoMetadata {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// A picture that needs no others. A player can join at the first track's:
    /// there a group of pictures begins.
    Keyframe {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// A picture that needs others.
    InterFrame {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// Video with nothing to decode (end of sequence, commands).
    VideoOther,
    /// An audio decoder's configuration, needed by every player that joins;
    /// each track has its own.
    AudioSequenceHeader {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// The audio channels that there are, needed by every player that joins.
    AudioChannels {
        /// The track; 0 where there is but one.
        track: u8,
    },
    /// Sound.
    Audio,
    /// `onMetaData`, needed by every player that joins.
    Metadata,
    /// The metadata kept so far is void; nothing for players.
    ClearMetadata,
    /// Another data message.
    Data,
}

/// The meaning of the first bytes of a stream's message.
///
/// Whoever forwards a stream needs this in several places: it is read once,
/// when the message arrives, and handed on with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MediaHead {
    /// The message's part in its stream.
    pub class: MediaClass,
    /// The coding of audio and video that names one.
    pub codec: Option<TrackCodec>,
}

impl MediaHead {
    /// Looks at the first bytes of a message's payload; `None` for messages
    /// that are not media, and for audio and video too short to be anything
    /// (empty ones are sent by some encoders, and are not worth passing on).
    #[must_use]
    pub fn parse(message: &Message) -> Option<MediaHead> {
        match message.message_type {
            MessageType::VIDEO => VideoHead::parse(&message.payload).map(Self::of_video),
            MessageType::AUDIO => AudioHead::parse(&message.payload).map(Self::of_audio),
            MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => Some(MediaHead {
                class: match data::kind(message) {
                    DataKind::Metadata => MediaClass::Metadata,
                    DataKind::ClearMetadata => MediaClass::ClearMetadata,
                    DataKind::Other => MediaClass::Data,
                },
                codec: None,
            }),
            _ => None,
        }
    }

    fn of_video(head: VideoHead) -> MediaHead {
        let track = head.track;
        let codec = |codec| TrackCodec {
            codec: Codec::Video(codec),
            track,
        };
        MediaHead {
            class: match head.content {
                VideoContent::SequenceHeader => MediaClass::VideoSequenceHeader { track },
                VideoContent::Metadata => MediaClass::VideoMetadata { track },
                VideoContent::Keyframe => MediaClass::Keyframe { track },
                VideoContent::InterFrame => MediaClass::InterFrame { track },
                VideoContent::Other => MediaClass::VideoOther,
            },
            codec: head.codec.map(codec),
        }
    }

    fn of_audio(head: AudioHead) -> MediaHead {
        let track = head.track;
        let codec = |codec| TrackCodec {
            codec: Codec::Audio(codec),
            track,
        };
        MediaHead {
            class: match head.content {
                AudioContent::SequenceHeader => MediaClass::AudioSequenceHeader { track },
                AudioContent::ChannelConfiguration => MediaClass::AudioChannels { track },
                AudioContent::Frame | AudioContent::Other => MediaClass::Audio,
            },
            codec: head.codec.map(codec),
        }
    }

    /// True if the message is a picture.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        matches!(
            self.class,
            MediaClass::Keyframe { .. } | MediaClass::InterFrame { .. }
        )
    }
}

/// The coding of one track, and the track's number: 0 where there is but one of
/// its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrackCodec {
    /// The coding.
    pub codec: Codec,
    /// The track.
    pub track: u8,
}

impl TrackCodec {
    /// True if this is another coding of the same track: a decoder's
    /// configuration for one is of no use for the other.
    #[must_use]
    pub fn replaces(self, other: Self) -> bool {
        let one_kind = matches!(
            (self.codec, other.codec),
            (Codec::Audio(_), Codec::Audio(_)) | (Codec::Video(_), Codec::Video(_))
        );
        one_kind && self.track == other.track && !self.codec.is_same(other.codec)
    }
}

/// The coding of one track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Codec {
    /// Of sound.
    Audio(AudioCodec),
    /// Of pictures.
    Video(VideoCodec),
}

impl Codec {
    /// True if a decoder's configuration for one serves the other: FLV's
    /// numbers and Enhanced RTMP's FourCCs may name the same codec.
    #[must_use]
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Audio(one), Self::Audio(other)) => one == other || one.name() == other.name(),
            (Self::Video(one), Self::Video(other)) => one == other || one.name() == other.name(),
            (Self::Audio(_), Self::Video(_)) | (Self::Video(_), Self::Audio(_)) => false,
        }
    }
}
