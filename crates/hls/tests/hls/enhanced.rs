//! Codecs that ffmpeg's FLV does not carry: out of its fragmented MP4, into Enhanced RTMP's
//! messages.

use std::fs;
use std::path::Path;

use rtmp_proto::wire::{Message, MessageType};

use crate::encoder::message;

/// What makes ffmpeg write a file that [`read_mp4`] reads.
pub(crate) const FRAGMENTED: &str =
    "-movflags frag_keyframe+empty_moov+delay_moov+default_base_moof -f mp4";

#[derive(Debug, Default)]
struct Track {
    id: u32,
    timescale: u64,
    is_video: bool,
    entry: [u8; 4],
    config: Vec<u8>,
}

/// The boxes within some bytes.
fn boxes(mut bytes: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 8 {
        let size = u32_at(bytes, 0) as usize;
        found.push((bytes[4..8].try_into().unwrap(), &bytes[8..size]));
        bytes = &bytes[size..];
    }
    found
}

fn child<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> &'a [u8] {
    path.iter().fold(bytes, |bytes, kind| {
        let mut all = boxes(bytes).into_iter();
        all.find(|(found, _)| found == *kind).expect("a box").1
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The samples of a fragmented MP4 of ffmpeg's as messages of Enhanced RTMP, sequence
/// headers first, in the order of their times.
pub(crate) fn read_mp4(file: &Path) -> Vec<Message> {
    let bytes = fs::read(file).expect("a file");
    let mut tracks = Vec::new();
    let mut messages = Vec::new();
    let mut start = 0;
    for (kind, content) in boxes(&bytes) {
        match &kind {
            b"moov" => {
                let traks = boxes(content).into_iter();
                tracks.extend(
                    traks
                        .filter(|(kind, _)| kind == b"trak")
                        .map(|it| read_trak(it.1)),
                );
                messages.extend(tracks.iter().map(sequence_header));
            }
            b"moof" => {
                let trafs = boxes(content).into_iter();
                for (_, traf) in trafs.filter(|(kind, _)| kind == b"traf") {
                    read_traf(&bytes[start..], traf, &tracks, &mut messages);
                }
            }
            _ => {}
        }
        start += content.len() + 8;
    }
    messages.sort_by_key(|message| message.timestamp);
    messages
}

fn read_trak(trak: &[u8]) -> Track {
    let mdhd = child(trak, &[b"mdia", b"mdhd"]);
    let stsd = child(trak, &[b"mdia", b"minf", b"stbl", b"stsd"]);
    let is_video = &child(trak, &[b"mdia", b"hdlr"])[8..12] == b"vide";
    let (entry, body) = boxes(&stsd[8..])[0];
    let config = boxes(&body[if is_video { 78 } else { 28 }..])[0].1;
    Track {
        id: u32_at(child(trak, &[b"tkhd"]), 12),
        timescale: u32_at(mdhd, 12).into(),
        is_video,
        entry,
        config: config.to_vec(),
    }
}

fn sequence_header(track: &Track) -> Message {
    if track.is_video {
        let payload = [&[0x90], &track.entry[..], &track.config].concat();
        return message(MessageType::VIDEO, 0, &payload);
    }
    let config = match &track.entry {
        b"Opus" => opus_head(&track.config),
        _ => Vec::new(),
    };
    let payload = [&[0x90], &track.entry[..], &config].concat();
    message(MessageType::AUDIO, 0, &payload)
}

/// RFC 7845's header, of the same fields in the other byte order.
fn opus_head(dops: &[u8]) -> Vec<u8> {
    let mut head = b"OpusHead".to_vec();
    head.extend_from_slice(&[1, dops[1]]);
    head.extend(dops[2..4].iter().rev());
    head.extend(dops[4..8].iter().rev());
    head.extend(dops[8..10].iter().rev());
    head.extend_from_slice(&dops[10..]);
    head
}

fn read_traf(file: &[u8], traf: &[u8], tracks: &[Track], messages: &mut Vec<Message>) {
    let tfhd = child(traf, &[b"tfhd"]);
    let track = tracks
        .iter()
        .find(|track| track.id == u32_at(tfhd, 4))
        .unwrap();
    let mut defaults = [0; 3];
    let mut at = 8;
    let flags = u32_at(tfhd, 0);
    for (index, bit) in [0x8, 0x10, 0x20].into_iter().enumerate() {
        if flags & bit != 0 {
            defaults[index] = u32_at(tfhd, at);
            at += 4;
        }
    }
    let tfdt = child(traf, &[b"tfdt"]);
    let mut dts = u64::from(u32_at(tfdt, 4)) << 32 | u64::from(u32_at(tfdt, 8));
    let trun = child(traf, &[b"trun"]);
    let flags = u32_at(trun, 0);
    let mut data = u32_at(trun, 8) as usize;
    let mut at = 12;
    let mut field = |present: bool, default: u32| {
        let value = if present { u32_at(trun, at) } else { default };
        at += if present { 4 } else { 0 };
        value
    };
    let first_flags = (flags & 4 != 0).then(|| field(true, 0));
    for index in 0..u32_at(trun, 4) {
        let duration = field(flags & 0x100 != 0, defaults[0]);
        let size = field(flags & 0x200 != 0, defaults[1]) as usize;
        let own = field(flags & 0x400 != 0, defaults[2]);
        let composition = field(flags & 0x800 != 0, 0).cast_signed();
        let sample_flags = first_flags.filter(|_| index == 0).unwrap_or(own);
        let sample = &file[data..data + size];
        let ms = |ticks: i64| {
            (ticks * 1000 + track.timescale as i64 / 2).div_euclid(track.timescale as i64)
        };
        let time = ms(dts as i64) as u64;
        let mut payload = Vec::new();
        if track.is_video {
            let key = if sample_flags & 0x1_0000 == 0 { 1 } else { 2 };
            payload.push(0x80 | key << 4 | 1);
            payload.extend_from_slice(&track.entry);
            if [b"hvc1", b"avc1"].contains(&&track.entry) {
                let composition = ms(composition.into()) as i32;
                payload.extend_from_slice(&composition.to_be_bytes()[1..]);
            }
        } else {
            payload.push(0x91);
            payload.extend_from_slice(&track.entry);
        }
        payload.extend_from_slice(sample);
        let kind = if track.is_video {
            MessageType::VIDEO
        } else {
            MessageType::AUDIO
        };
        messages.push(message(kind, time, &payload));
        data += size;
        dts += u64::from(duration);
    }
}
