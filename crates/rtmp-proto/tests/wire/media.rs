//! The first bytes of audio and video, and what they mean for the stream.

use rtmp_proto::wire::media::{MediaClass, MediaHead};
use rtmp_proto::wire::message::FourCc;
use rtmp_proto::wire::message::audio::{AudioCodec, AudioContent, AudioHead};
use rtmp_proto::wire::message::video::{VideoCodec, VideoContent, VideoHead};

use crate::tools::{hex, message};

fn video(codec: Option<VideoCodec>, content: VideoContent, track: u8) -> Option<VideoHead> {
    Some(VideoHead {
        codec,
        content,
        track,
    })
}

fn audio(codec: Option<AudioCodec>, content: AudioContent, track: u8) -> Option<AudioHead> {
    Some(AudioHead {
        codec,
        content,
        track,
    })
}

#[test]
fn video_of_flvs_codecs() {
    use VideoContent::*;
    let avc = Some(VideoCodec::AVC);
    let hevc = Some(VideoCodec::HEVC);
    for (bytes, expected) in [
        ("17 00 000000 01640028", video(avc, SequenceHeader, 0)),
        ("17 01 000000 00000001", video(avc, Keyframe, 0)),
        ("27 01 000000 00000001", video(avc, InterFrame, 0)),
        ("37 01 000000 00000001", video(avc, InterFrame, 0)),
        ("47 01 000000 00000001", video(avc, Keyframe, 0)),
        ("17 02 000000", video(avc, Other, 0)),
        ("57 00", video(avc, Other, 0)),
        ("1c 00 000000 01", video(hevc, SequenceHeader, 0)),
        ("1c 01 000000 01", video(hevc, Keyframe, 0)),
        ("2c 01 000000 01", video(hevc, InterFrame, 0)),
        ("12 0000", video(Some(VideoCodec::Legacy(2)), Keyframe, 0)),
        ("22 0000", video(Some(VideoCodec::Legacy(2)), InterFrame, 0)),
        ("14", video(Some(VideoCodec::Legacy(4)), Keyframe, 0)),
        ("", None),
        ("17", None),
    ] {
        assert_eq!(VideoHead::parse(&hex(bytes)), expected, "{bytes}");
    }
}

#[test]
fn video_of_enhanced_rtmp() {
    use VideoContent::*;
    let code = |code: &[u8; 4]| Some(VideoCodec::FourCc(FourCc(*code)));
    let (hvc1, av01, vp09) = (code(b"hvc1"), code(b"av01"), code(b"vp09"));
    for (bytes, expected) in [
        ("90 68766331 01", video(hvc1, SequenceHeader, 0)),
        ("91 68766331 000000 01", video(hvc1, Keyframe, 0)),
        ("a1 68766331 000000 01", video(hvc1, InterFrame, 0)),
        ("93 68766331 01", video(hvc1, Keyframe, 0)),
        ("a3 68766331 01", video(hvc1, InterFrame, 0)),
        ("92 68766331", video(hvc1, Other, 0)),
        ("94 68766331 02", video(hvc1, Metadata, 0)),
        ("d4 68766331 02", video(hvc1, Metadata, 0)),
        ("90 61763031 81", video(av01, SequenceHeader, 0)),
        ("95 61763031 81", video(av01, SequenceHeader, 0)),
        ("91 61763031 0a", video(av01, Keyframe, 0)),
        ("90 76703039 01", video(vp09, SequenceHeader, 0)),
        ("a1 76703039 01", video(vp09, InterFrame, 0)),
        // A command: start of a seek. There is no FourCC after it.
        ("d0 00", video(None, Other, 0)),
        ("d1 01", video(None, Other, 0)),
    ] {
        assert_eq!(VideoHead::parse(&hex(bytes)), expected, "{bytes}");
    }
}

#[test]
fn video_of_several_tracks() {
    use VideoContent::*;
    let hvc1 = Some(VideoCodec::FourCc(FourCc(*b"hvc1")));
    for (bytes, expected) in [
        // One track, number 2: sequence start, then coded frames.
        ("96 00 68766331 02 01", video(hvc1, SequenceHeader, 2)),
        ("96 01 68766331 02 000000 01", video(hvc1, Keyframe, 2)),
        ("a6 03 68766331 02 01", video(hvc1, InterFrame, 2)),
        // Many tracks of one codec; the first is number 0.
        ("96 11 68766331 00 000001 01", video(hvc1, Keyframe, 0)),
        // Many tracks, many codecs.
        ("96 21 68766331 01 000001 01", video(None, Keyframe, 1)),
        ("96", None),
        ("96 00", None),
        ("96 00 68766331", None),
        ("96 21 687663", None),
    ] {
        assert_eq!(VideoHead::parse(&hex(bytes)), expected, "{bytes}");
    }
}

#[test]
fn modifiers_are_passed_over() {
    let hvc1 = Some(VideoCodec::FourCc(FourCc(*b"hvc1")));
    let keyframe = video(hvc1, VideoContent::Keyframe, 0);
    // A nanosecond offset (3 bytes), then coded frames.
    let one = "97 02 00000f 01 68766331 000000 01";
    // Two modifiers.
    let two = "97 02 00000f 07 00 aa 03 68766331 01";
    // One of 257 bytes, whose size takes three bytes.
    let long = format!("97 ff 0100 {} 01 68766331", "aa".repeat(257));
    for bytes in [one, two, &long] {
        assert_eq!(VideoHead::parse(&hex(bytes)), keyframe, "{bytes}");
    }
    // Many, each promising more than there is.
    for bytes in [
        "97",
        "97 02",
        "97 02 00000f",
        "97 ff",
        "97 ff ffff",
        "97 00 aa 07",
    ] {
        assert_eq!(VideoHead::parse(&hex(bytes)), None, "{bytes}");
    }
}

#[test]
fn audio_of_flvs_codecs() {
    use AudioContent::*;
    let aac = Some(AudioCodec::AAC);
    for (bytes, expected) in [
        ("af 00 1210", audio(aac, SequenceHeader, 0)),
        ("af 01 21", audio(aac, Frame, 0)),
        ("2f ff", audio(Some(AudioCodec::Legacy(2)), Frame, 0)),
        ("72", audio(Some(AudioCodec::Legacy(7)), Frame, 0)),
        ("b2 00", audio(Some(AudioCodec::Legacy(11)), Frame, 0)),
        ("", None),
        ("af", None),
    ] {
        assert_eq!(AudioHead::parse(&hex(bytes)), expected, "{bytes}");
    }
}

#[test]
fn audio_of_enhanced_rtmp() {
    use AudioContent::*;
    let code = |code: &[u8; 4]| Some(AudioCodec::FourCc(FourCc(*code)));
    let (opus, flac) = (code(b"Opus"), code(b"fLaC"));
    for (bytes, expected) in [
        ("90 4f707573 4f70", audio(opus, SequenceHeader, 0)),
        ("91 4f707573 01", audio(opus, Frame, 0)),
        ("92 4f707573", audio(opus, Other, 0)),
        ("94 4f707573 01 02", audio(opus, ChannelConfiguration, 0)),
        ("90 664c6143 00", audio(flac, SequenceHeader, 0)),
        ("95 00 4f707573 03 4f70", audio(opus, SequenceHeader, 3)),
        ("95 21 4f707573 03 000001 01", audio(None, Frame, 3)),
        ("97 02 00000f 01 4f707573 01", audio(opus, Frame, 0)),
    ] {
        assert_eq!(AudioHead::parse(&hex(bytes)), expected, "{bytes}");
    }
}

#[test]
fn codecs_have_names_for_people() {
    for (codec, name) in [
        (VideoCodec::AVC, "H264"),
        (VideoCodec::HEVC, "H265"),
        (VideoCodec::FourCc(FourCc(*b"hvc1")), "H265"),
        (VideoCodec::FourCc(FourCc(*b"av01")), "AV1"),
        (VideoCodec::FourCc(FourCc(*b"vp09")), "VP9"),
        (
            VideoCodec::FourCc(FourCc([0, b'"', 0xff, b'x'])),
            "\\x00\\\"\\xffx",
        ),
        (VideoCodec::Legacy(9), "codec 9"),
    ] {
        assert_eq!(codec.name(), name);
    }
    assert_eq!(AudioCodec::AAC.name(), "AAC");
    assert_eq!(AudioCodec::FourCc(FourCc(*b"Opus")).name(), "Opus");
}

#[test]
fn messages_are_classified_for_those_who_keep_the_stream() {
    use MediaClass::*;
    for (type_id, bytes, expected) in [
        (9, "17 00 000000 01", Some(VideoSequenceHeader { track: 0 })),
        (
            9,
            "96 00 68766331 02 01",
            Some(VideoSequenceHeader { track: 2 }),
        ),
        (9, "94 68766331 02", Some(VideoMetadata { track: 0 })),
        (9, "17 01 000000 01", Some(Keyframe { track: 0 })),
        (9, "27 01 000000 01", Some(InterFrame { track: 0 })),
        (
            9,
            "96 01 68766331 02 000000 01",
            Some(Keyframe { track: 2 }),
        ),
        (9, "17 02 000000", Some(VideoOther)),
        (9, "", None),
        (8, "af 00 1210", Some(AudioSequenceHeader { track: 0 })),
        (8, "94 4f707573 01 02", Some(AudioChannels { track: 0 })),
        (8, "af 01 21", Some(Audio)),
        (8, "", None),
        (18, "02 000a 6f6e4d65746144617461", Some(Metadata)),
        (
            18,
            "02 000f 40636c656172446174614672616d65",
            Some(ClearMetadata),
        ),
        (18, "02 0001 61", Some(Data)),
        (18, "", Some(Data)),
        (20, "02 0001 61", None),
        (1, "00000080", None),
    ] {
        let head = MediaHead::parse(&message(0, type_id, 1, &hex(bytes)));
        let class = head.map(|head| head.class);
        assert_eq!(class, expected, "type {type_id}, {bytes}");
    }
}

#[test]
fn what_follows_a_videos_head() {
    for (bytes, composition_ms, data) in [
        ("17 00 000000 0164", 0, "0164"),
        ("27 01 000050 aabb", 80, "aabb"),
        ("27 01 fffff0 aabb", -16, "aabb"),
        ("27 01 0000", 0, ""),
        ("12 aabb", 0, "aabb"),
        ("90 68766331 0102", 0, "0102"),
        ("91 68766331 000021 aa", 33, "aa"),
        ("91 61766331 fffffe aa", -2, "aa"),
        ("93 68766331 aa", 0, "aa"),
        ("91 61763031 0a0b", 0, "0a0b"),
        ("91 68766331 00", 0, ""),
        // Modifiers before the packet type: a nanosecond offset of three bytes.
        ("a7 02 000001 01 61763031 0a", 0, "0a"),
        // One track; then two tracks of one codec, of which the first is taken.
        ("96 01 61763031 05 0a", 0, "0a"),
        ("96 11 61763031 00 000002 0a0b 01 000001 0c", 0, "0a0b"),
        ("96 11 61763031 00 000009 0a0b", 0, ""),
        ("96 21 61763031 00 000001 0a 76703039 01 000001 0c", 0, "0a"),
    ] {
        let payload = hex(bytes);
        let (_, body) = VideoHead::parse_with_body(&payload).expect(bytes);
        assert_eq!(body.composition_ms, composition_ms, "{bytes}");
        assert_eq!(body.data, hex(data), "{bytes}");
    }
}

#[test]
fn what_follows_an_audios_head() {
    for (bytes, data) in [
        ("af 00 1210", "1210"),
        ("af 01 2100", "2100"),
        ("2f fffb", "fffb"),
        ("90 4f707573 4f70", "4f70"),
        ("91 4f707573 fc", "fc"),
        ("91 4f707573", ""),
        ("95 11 4f707573 00 000001 fc 01 000001 fd", "fc"),
    ] {
        let payload = hex(bytes);
        let (_, body) = AudioHead::parse_with_body(&payload).expect(bytes);
        assert_eq!(body, hex(data), "{bytes}");
    }
}
