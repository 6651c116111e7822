//! Messages of an encoder that there is not.

use rtmp_proto::wire::{Message, MessageType};

use crate::encoder::message;

/// x264's `avcC` of 320x180 and of 160x96.
const AVC_CONFIGS: [&str; 2] = [
    "01f4000dffe1001a67f4000d919681419f8dc044000003000400000300f03c50aa8001000568ce0f1920fff8f800",
    "01f4000bffe1001867f4000b9196828db0110000030001000003003c0f142aa001000568ce0f1920fff8f800",
];

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

pub(crate) fn video_header(config: usize, time_ms: u64) -> Message {
    let avcc = hex(AVC_CONFIGS[config % AVC_CONFIGS.len()]);
    let payload = [&[0x17, 0, 0, 0, 0][..], &avcc].concat();
    message(MessageType::VIDEO, time_ms, &payload)
}

/// A picture of one NAL unit, shown `composition_ms` after it is decoded.
pub(crate) fn picture(keyframe: bool, composition_ms: i32, size: usize, time_ms: u64) -> Message {
    let head = if keyframe { 0x17 } else { 0x27 };
    let [_, composition @ ..] = composition_ms.to_be_bytes();
    let unit = vec![if keyframe { 0x65 } else { 0x41 }; size + 1];
    let length = (unit.len() as u32).to_be_bytes();
    let payload = [&[head, 1][..], &composition, &length, &unit].concat();
    message(MessageType::VIDEO, time_ms, &payload)
}

/// AAC LC in stereo, at one of these rates.
pub(crate) fn audio_header(rate: u32, time_ms: u64) -> Message {
    let index: u16 = match rate {
        48_000 => 3,
        44_100 => 4,
        32_000 => 5,
        22_050 => 7,
        _ => 11,
    };
    let config = (2 << 11 | index << 7 | 2 << 3u16).to_be_bytes();
    let payload = [&[0xaf, 0][..], &config].concat();
    message(MessageType::AUDIO, time_ms, &payload)
}

pub(crate) fn sound(size: usize, time_ms: u64) -> Message {
    let payload = [&[0xaf, 1][..], &vec![0x21; size]].concat();
    message(MessageType::AUDIO, time_ms, &payload)
}

/// A stream whose pictures and sound come as an encoder sends them.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) seconds: u64,
    /// Pictures in 1,000 s; 0 without pictures.
    pub(crate) milli_fps: u64,
    /// Pictures from one keyframe to the next.
    pub(crate) group: u64,
    /// Samples per second; 0 without sound.
    pub(crate) rate: u32,
    /// Sound is sent so much later than pictures of its time.
    pub(crate) sound_delay_ms: u64,
}

impl Stream {
    pub(crate) fn messages(&self) -> Vec<Message> {
        let mut timed = Vec::new();
        if self.milli_fps > 0 {
            timed.push((0, video_header(0, 0)));
            let count = self.seconds * self.milli_fps / 1000;
            timed.extend((0..count).map(|index| {
                let time = index * 1_000_000 / self.milli_fps;
                (
                    time,
                    picture(index.is_multiple_of(self.group), 0, 1000, time),
                )
            }));
        }
        if self.rate > 0 {
            timed.push((0, audio_header(self.rate, 0)));
            let count = self.seconds * u64::from(self.rate) / 1024;
            timed.extend((0..count).map(|index| {
                let time = index * 1_024_000 / u64::from(self.rate);
                (time + self.sound_delay_ms, sound(200, time))
            }));
        }
        timed.sort_by_key(|(sent, _)| *sent);
        timed.into_iter().map(|(_, message)| message).collect()
    }
}
