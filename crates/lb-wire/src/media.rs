//! The media that show that a stream plays.

use rtmp_proto::wire::Message;
use rtmp_proto::wire::media::{MediaClass, MediaHead};

/// True if a message is a picture or sound. Metadata and sequence headers prove nothing:
/// a server has them of a stream whose publisher sends no more, too.
pub fn is_picture_or_sound(message: &Message) -> bool {
    MediaHead::parse(message)
        .is_some_and(|head| head.is_picture() || head.class == MediaClass::Audio)
}
