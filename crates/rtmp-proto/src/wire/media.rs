//! What a stream's message means to whoever keeps and forwards the stream.

use super::message::audio::{AudioCodec, AudioContent, AudioHead};
use super::message::data::{self, DataKind};
use super::message::video::{VideoCodec, VideoContent, VideoHead};
use super::{Message, MessageType};

/// A media message's part in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
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
    /// Which audio channels there are, needed by every player that joins.
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

/// Whether a message is a picture.
#[must_use]
pub fn is_picture(message: &Message) -> bool {
    message.message_type == MessageType::VIDEO
        && matches!(
            classify(message),
            Some(MediaClass::Keyframe { .. } | MediaClass::InterFrame { .. })
        )
}

/// Classifies a message of a stream; `None` for messages that are not media,
/// and for audio and video too short to be anything (empty ones are sent by
/// some encoders, and are not worth passing on).
pub fn classify(message: &Message) -> Option<MediaClass> {
    Some(match message.message_type {
        MessageType::VIDEO => {
            let head = VideoHead::parse(&message.payload)?;
            let track = head.track;
            match head.content {
                VideoContent::SequenceHeader => MediaClass::VideoSequenceHeader { track },
                VideoContent::Metadata => MediaClass::VideoMetadata { track },
                VideoContent::Keyframe => MediaClass::Keyframe { track },
                VideoContent::InterFrame => MediaClass::InterFrame { track },
                VideoContent::Other => MediaClass::VideoOther,
            }
        }
        MessageType::AUDIO => {
            let head = AudioHead::parse(&message.payload)?;
            let track = head.track;
            match head.content {
                AudioContent::SequenceHeader => MediaClass::AudioSequenceHeader { track },
                AudioContent::ChannelConfiguration => MediaClass::AudioChannels { track },
                AudioContent::Frame | AudioContent::Other => MediaClass::Audio,
            }
        }
        MessageType::DATA_AMF0 | MessageType::DATA_AMF3 => match data::kind(message) {
            DataKind::Metadata => MediaClass::Metadata,
            DataKind::ClearMetadata => MediaClass::ClearMetadata,
            DataKind::Other => MediaClass::Data,
        },
        _ => return None,
    })
}

/// The coding of one track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Of sound.
    Audio(AudioCodec),
    /// Of pictures.
    Video(VideoCodec),
}

impl Codec {
    /// What a message of this type and payload is coded in, and of which track
    /// it is; `None` where it does not say.
    #[must_use]
    pub fn of(message_type: MessageType, payload: &[u8]) -> Option<(Self, u8)> {
        match message_type {
            MessageType::VIDEO => {
                let head = VideoHead::parse(payload)?;
                Some((Self::Video(head.codec?), head.track))
            }
            MessageType::AUDIO => {
                let head = AudioHead::parse(payload)?;
                Some((Self::Audio(head.codec?), head.track))
            }
            _ => None,
        }
    }

    /// Whether a decoder's configuration for one serves the other: FLV's
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
