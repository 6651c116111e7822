//! Frames of RTP as messages of RTMP.
//!
//! Pictures in H.264 are FLV's (Adobe FLV 10.1 §E.4.3), those in H.265 Enhanced RTMP's
//! (v2, *Enhanced Video*), sound in AAC is FLV's (§E.4.2), and so is G.711.

use bytes::{BufMut as _, Bytes, BytesMut};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Message, MessageType};

use super::decode_order::DecodeOrder;

/// The coding of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoCoding {
    /// H.264 (RFC 6184).
    H264,
    /// H.265 (RFC 7798).
    H265,
}

impl VideoCoding {
    /// The coding of this name in an SDP (RFC 6184 §8.1, RFC 7798 §7.1).
    pub fn named(encoding: &str) -> Option<Self> {
        match () {
            () if encoding.eq_ignore_ascii_case("h264") => Some(Self::H264),
            () if encoding.eq_ignore_ascii_case("h265") => Some(Self::H265),
            () => None,
        }
    }
}

/// The coding of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SoundCoding {
    /// AAC (RFC 3640).
    Aac,
    /// G.711, A-law (RFC 3551 §4.5.14).
    G711A,
    /// G.711, µ-law (RFC 3551 §4.5.14).
    G711U,
}

impl SoundCoding {
    /// The coding of this name in an SDP (RFC 3640 §4.1, RFC 3551 §6).
    pub fn named(encoding: &str) -> Option<Self> {
        match &*encoding.to_ascii_lowercase() {
            "mpeg4-generic" => Some(Self::Aac),
            "pcma" => Some(Self::G711A),
            "pcmu" => Some(Self::G711U),
            _ => None,
        }
    }

    /// True for what few players can take.
    pub fn is_g711(self) -> bool {
        self != Self::Aac
    }

    /// The first byte of its messages: format, rate, size, channels. Of AAC the rate and the
    /// channels do not count; of G.711 the rate is always 8 kHz.
    fn head(self) -> u8 {
        match self {
            Self::Aac => 0xaf,
            Self::G711A => 0x72,
            Self::G711U => 0x82,
        }
    }
}

/// The timestamp of a message: it wraps.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "timestamps wrap at 2³²"
)]
fn timestamp(ms: i64) -> u32 {
    ms as u32
}

fn message(message_type: MessageType, ms: i64, payload: BytesMut) -> Message {
    Message {
        timestamp: timestamp(ms),
        message_type,
        stream_id: 0,
        payload: payload.freeze(),
    }
}

/// `onMetaData`: some players wait for the size of the pictures.
pub(super) fn metadata(coding: VideoCoding, (width, height): (u32, u32)) -> Message {
    let codec: Value = match coding {
        VideoCoding::H264 => 7.0.into(),
        // Enhanced RTMP v2, *Metadata Frame*: the FourCC as a number.
        VideoCoding::H265 => f64::from(u32::from_be_bytes(*b"hvc1")).into(),
    };
    let properties: [(&str, Value); 3] = [
        ("width", f64::from(width).into()),
        ("height", f64::from(height).into()),
        ("videocodecid", codec),
    ];
    let properties = properties.map(|(name, value)| (name.to_owned(), value));
    let values = ["onMetaData".into(), Value::EcmaArray(properties.into())];
    data::message(0, 0, &values)
}

/// A track of pictures.
#[derive(Debug)]
pub struct VideoTrack {
    coding: VideoCoding,
    order: DecodeOrder,
    /// The decoder's configuration.
    header: Bytes,
    /// It is to be sent before the next picture.
    is_header_due: bool,
}

impl VideoTrack {
    /// A track of which nothing has come.
    pub fn new(coding: VideoCoding) -> Self {
        Self {
            coding,
            order: DecodeOrder::default(),
            header: Bytes::new(),
            is_header_due: false,
        }
    }

    /// Its coding.
    pub fn coding(&self) -> VideoCoding {
        self.coding
    }

    /// True if a decoder's configuration is known.
    pub fn has_header(&self) -> bool {
        !self.header.is_empty()
    }

    /// Sets the decoder's configuration: an `AVCDecoderConfigurationRecord` or an
    /// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15). Returns true if it is another
    /// than before.
    pub fn set_header(&mut self, header: &[u8]) -> bool {
        let is_new = self.header != header;
        if is_new {
            self.header = Bytes::copy_from_slice(header);
            self.is_header_due = true;
        }
        is_new
    }

    /// The messages of a picture, whose units have their lengths before them in four bytes.
    /// Without a decoder's configuration nobody could show it: it is left out.
    pub fn picture(&mut self, is_keyframe: bool, shown_ms: i64, units: &[u8]) -> Vec<Message> {
        let decoded_ms = self.order.decoded_at(shown_ms);
        if !self.has_header() || units.is_empty() {
            return Vec::new();
        }
        let mut messages = Vec::new();
        if std::mem::take(&mut self.is_header_due) {
            messages.push(self.header_message(decoded_ms));
        }
        let mut payload = BytesMut::with_capacity(units.len() + 8);
        self.put_head(is_keyframe, shown_ms - decoded_ms, &mut payload);
        payload.put_slice(units);
        messages.push(message(MessageType::VIDEO, decoded_ms, payload));
        messages
    }

    fn header_message(&self, ms: i64) -> Message {
        let mut payload = BytesMut::with_capacity(self.header.len() + 5);
        match self.coding {
            VideoCoding::H264 => payload.put_slice(&[0x17, 0, 0, 0, 0]),
            VideoCoding::H265 => payload.put_slice(b"\x90hvc1"),
        }
        payload.put_slice(&self.header);
        message(MessageType::VIDEO, ms, payload)
    }

    /// What stands before a picture that is shown `composition_ms` after it is decoded.
    fn put_head(&self, is_keyframe: bool, composition_ms: i64, payload: &mut BytesMut) {
        let frame_type: u8 = if is_keyframe { 0x10 } else { 0x20 };
        #[expect(clippy::cast_possible_truncation, reason = "at most 10 s")]
        let [_, composition @ ..] = (composition_ms as i32).to_be_bytes();
        match (self.coding, composition_ms) {
            (VideoCoding::H264, _) => {
                payload.put_slice(&[frame_type | 7, 1]);
                payload.put_slice(&composition);
            }
            // Coded frames whose composition time is 0 need none (`CodedFramesX`).
            (VideoCoding::H265, 0) => {
                payload.put_u8(0x80 | frame_type | 3);
                payload.put_slice(b"hvc1");
            }
            (VideoCoding::H265, _) => {
                payload.put_u8(0x80 | frame_type | 1);
                payload.put_slice(b"hvc1");
                payload.put_slice(&composition);
            }
        }
    }
}

/// A track of sound.
#[derive(Debug)]
pub struct SoundTrack {
    coding: SoundCoding,
    /// The decoder's configuration has been sent, if there is one.
    has_header: bool,
    header: Bytes,
}

impl SoundTrack {
    /// A track of which nothing has come.
    pub fn new(coding: SoundCoding) -> Self {
        Self {
            coding,
            has_header: coding.is_g711(),
            header: Bytes::new(),
        }
    }

    /// True if its decoder's configuration is still to be sent.
    pub fn needs_header(&self) -> bool {
        !self.has_header
    }

    /// Sets the decoder's configuration: an `AudioSpecificConfig` (ISO/IEC 14496-3).
    pub fn set_header(&mut self, header: &[u8]) {
        self.header = Bytes::copy_from_slice(header);
    }

    /// The messages of a frame.
    pub fn frame(&mut self, ms: i64, data: &[u8]) -> Vec<Message> {
        // A negative one would be just before the wrap.
        let ms = ms.max(0);
        let mut messages = Vec::new();
        if self.needs_header() {
            if self.header.is_empty() {
                return messages;
            }
            self.has_header = true;
            let mut payload = BytesMut::with_capacity(self.header.len() + 2);
            payload.put_slice(&[self.coding.head(), 0]);
            payload.put_slice(&self.header);
            messages.push(message(MessageType::AUDIO, ms, payload));
        }
        let mut payload = BytesMut::with_capacity(data.len() + 2);
        payload.put_u8(self.coding.head());
        if self.coding == SoundCoding::Aac {
            payload.put_u8(1);
        }
        payload.put_slice(data);
        messages.push(message(MessageType::AUDIO, ms, payload));
        messages
    }
}

#[cfg(test)]
mod tests {
    use rtmp_proto::wire::media::{MediaClass, MediaHead};
    use rtmp_proto::wire::message::video::VideoHead;

    use super::*;

    /// Class, timestamp, composition time and data of pictures.
    fn read(messages: &[Message]) -> Vec<(MediaClass, u32, i32, Vec<u8>)> {
        let read = |message: &Message| {
            let head = MediaHead::parse(message).expect("media");
            let (_, body) = VideoHead::parse_with_body(&message.payload).expect("video");
            let data = body.data.to_vec();
            (head.class, message.timestamp, body.composition_ms, data)
        };
        messages.iter().map(read).collect()
    }

    const TRACK: u8 = 0;
    const HEADER: MediaClass = MediaClass::VideoSequenceHeader { track: TRACK };
    const KEYFRAME: MediaClass = MediaClass::Keyframe { track: TRACK };
    const INTER: MediaClass = MediaClass::InterFrame { track: TRACK };

    #[test]
    fn pictures_follow_their_decoders_configuration() {
        for (coding, codec) in [(VideoCoding::H264, "H264"), (VideoCoding::H265, "H265")] {
            let mut track = VideoTrack::new(coding);
            assert!(track.picture(true, 0, b"lost").is_empty());
            assert!(track.set_header(b"config") && !track.set_header(b"config"));
            let mut messages = track.picture(true, 40, b"key");
            messages.extend(track.picture(false, 80, b"inter"));
            let head = MediaHead::parse(&messages[0]).expect("media");
            let rtmp_proto::wire::media::Codec::Video(found) = head.codec.expect("a codec").codec
            else {
                panic!("no video");
            };
            assert_eq!(found.name(), codec);
            // H.264's configuration has the place of a composition time before it.
            assert_eq!(
                read(&messages),
                [
                    (HEADER, 40, 0, b"config".to_vec()),
                    (KEYFRAME, 40, 0, b"key".to_vec()),
                    (INTER, 80, 0, b"inter".to_vec()),
                ]
            );
            assert!(track.set_header(b"other"));
            let classes: Vec<_> = read(&track.picture(true, 120, b"key"))
                .into_iter()
                .map(|(class, ..)| class)
                .collect();
            assert_eq!(classes, [HEADER, KEYFRAME]);
        }
    }

    #[test]
    fn reordered_pictures_have_composition_times() {
        for coding in [VideoCoding::H264, VideoCoding::H265] {
            let mut track = VideoTrack::new(coding);
            track.set_header(b"config");
            let shown = [0, 120, 40, 80, 240, 160, 200];
            let messages: Vec<_> = shown
                .iter()
                .flat_map(|&shown| track.picture(false, shown, b"x"))
                .skip(1)
                .collect();
            let times: Vec<_> = read(&messages)
                .into_iter()
                .map(|(_, decoded, composition, _)| i64::from(decoded) + i64::from(composition))
                .collect();
            assert_eq!(times, shown);
            assert!(messages.is_sorted_by_key(|it| it.timestamp));
        }
    }

    #[test]
    fn sound_follows_its_decoders_configuration() {
        let mut track = SoundTrack::new(SoundCoding::Aac);
        assert!(track.frame(0, b"lost").is_empty());
        track.set_header(&[0x12, 0x10]);
        let messages = track.frame(20, b"sound");
        let payloads: Vec<_> = messages.iter().map(|it| &*it.payload).collect();
        assert_eq!(payloads, [&[0xaf, 0, 0x12, 0x10][..], b"\xaf\x01sound"]);
        assert!(!track.needs_header());
        assert_eq!(track.frame(40, b"more").len(), 1);
    }

    #[test]
    fn g711_needs_no_configuration() {
        for (name, head) in [("PCMA", 0x72), ("pcmu", 0x82)] {
            let coding = SoundCoding::named(name).expect("known");
            let messages = SoundTrack::new(coding).frame(20, b"x");
            assert_eq!(messages[0].payload, [&[head][..], b"x"].concat());
        }
        assert_eq!(SoundCoding::named("G722"), None);
        assert_eq!(VideoCoding::named("JPEG"), None);
    }
}
