//! The fuzz targets of `rtsp-media`. Called by `cargo fuzz` and, with the corpus that is kept
//! in the repository, by a plain test of `rtsp-media`.

use std::num::NonZeroU32;

use retina::codec::{CodecItem, Depacketizer, FrameFormat};
use retina::rtcp::{PacketRef, ReceivedCompoundPacket};
use retina::rtp::PacketMeta;
use retina::testutil::DepacketizeBuf;
use retina::{PacketContext, Timestamp};
use rtmp_proto::wire::MessageType;
use rtmp_proto::wire::media::MediaHead;
use rtsp_media::{Alignment, Track, Tracks};

/// RTP's packets of a track, whose parameters the description gives: what comes of them is
/// media, and its times do not fall.
pub fn rtp_packets(data: &[u8]) {
    let Some((&coding, data)) = data.split_first() else {
        return;
    };
    let (media, encoding, rate) = match coding % 4 {
        0 => ("video", "h264", 90_000),
        1 => ("video", "h265", 90_000),
        2 => ("audio", "mpeg4-generic", 48_000),
        _ => ("audio", "pcma", 8_000),
    };
    // `a=fmtp` is text, the rest of its line.
    let line = data.iter().position(|byte| *byte == b'\n');
    let (parameters, mut rest) = data.split_at(line.map_or(data.len(), |at| at + 1));
    let parameters = String::from_utf8_lossy(parameters);
    let parameters = Some(parameters.trim()).filter(|text| !text.is_empty());
    let Ok(mut packets) = Depacketizer::new(media, encoding, rate, None, parameters) else {
        return;
    };
    packets.set_frame_format(FrameFormat::MP4);
    let mut tracks = Tracks::default();
    assert!(tracks.add(0, media, encoding, true));
    let mut buffer = DepacketizeBuf::new(1 << 16);
    let rate = NonZeroU32::new(rate).expect("it is not 0");
    let (mut time, mut sequence_number, mut newest) = (0_i64, 0_u16, 0);
    while let [flags, a, b, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        // Within nine seconds: what is further away is none of the same order.
        let step = i64::from(i16::from_be_bytes([*a, *b]));
        time = (time + step).clamp(0, i64::from(rate.get()) * 9);
        let loss = u16::from(flags >> 1 & 1);
        sequence_number = sequence_number.wrapping_add(1 + loss);
        let meta = PacketMeta {
            ctx: PacketContext::dummy(),
            stream_id: 0,
            timestamp: Timestamp::new(time, rate, 0).expect("it is small"),
            sequence_number,
            ssrc: 0,
            mark: flags & 1 != 0,
            loss,
        };
        // The session is over.
        if buffer.push(&mut packets, meta, payload).is_err() {
            return;
        }
        while let Some(item) = packets.pull() {
            let messages = match item {
                Ok(CodecItem::VideoFrame(frame)) => tracks.picture(&frame, packets.parameters()),
                Ok(CodecItem::AudioFrame(frame)) => tracks.sound(&frame, packets.parameters()),
                Ok(_) => Ok(Vec::new()),
                Err(_) => return,
            };
            // No jump: the times are within nine seconds.
            let messages = messages.expect("one stream");
            for message in messages {
                if message.message_type == MessageType::DATA_AMF0 {
                    continue;
                }
                let head = MediaHead::parse(&message);
                assert!(head.is_some(), "{message:?}");
                if media == "video" {
                    assert!(message.timestamp >= newest, "{message:?}");
                    newest = message.timestamp;
                }
            }
        }
    }
}

/// Reports of senders (RTCP) of two tracks: no track is ever moved back, and none for good.
pub fn rtcp_reports(data: &[u8]) {
    let mut alignment = Alignment::default();
    let rate = NonZeroU32::new(90_000).expect("it is not 0");
    let mut rest = data;
    let mut before = [0; 2];
    while let [flags, a, b, c, length, after @ ..] = rest {
        let (packet, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        if !is_compound(packet) {
            continue;
        }
        let time = i64::from(i32::from_be_bytes([0, *a, *b, *c])) << (flags >> 2 & 31);
        let time = Timestamp::new(time, rate, 0).filter(|_| flags & 2 != 0);
        let track = match flags & 1 {
            0 => Track::Pictures,
            _ => Track::Sound,
        };
        let change = alignment.report(track, &ReceivedCompoundPacket::dummy(time, packet));
        let shifts = [Track::Pictures, Track::Sound].map(|track| alignment.time(track, 0));
        assert_eq!(change.is_some(), shifts != before);
        for (shift, before) in shifts.into_iter().zip(before) {
            assert!((before..=3_000).contains(&shift), "{shifts:?}");
        }
        before = shifts;
    }
}

/// True for packets that `retina` hands on: it refuses others before.
fn is_compound(mut packet: &[u8]) -> bool {
    loop {
        match PacketRef::parse(packet) {
            Ok((_, [])) => return true,
            Ok((first, rest)) if !first.has_padding() => packet = rest,
            _ => return false,
        }
    }
}
