//! Where segments and parts begin, and what they begin with.

use std::time::Duration;

use hls::segmenter::{Container, LeftOutReason, Output, Segmenter, Settings};
use rtmp_proto::wire::{Message, MessageType};

use crate::encoder::message;
use crate::stream::{check_rules, read_samples, segment, segments};
use crate::synthetic::{audio_header, picture, sound, video_header};

pub(crate) fn settings(fragment: u64) -> Settings {
    Settings {
        part_target: Duration::from_millis(400),
        fragment: Duration::from_secs(fragment),
        ..Settings::default()
    }
}

/// Pictures at 25 per second in these milliseconds, a keyframe at each whole `group`.
pub(crate) fn pictures(from: u64, to: u64, group: u64) -> Vec<Message> {
    let times = (from..to).step_by(40);
    times
        .map(|time| picture(time % group == 0, 0, 100, time))
        .collect()
}

/// Sound of AAC at 48 kHz in these milliseconds.
pub(crate) fn sounds(from: u64, to: u64) -> Vec<Message> {
    let frames = (0..).map(|index| from + index * 64 / 3);
    frames
        .take_while(|time| *time < to)
        .map(|time| sound(50, time))
        .collect()
}

/// All messages, in the order of their times.
pub(crate) fn interleave(groups: &[&[Message]]) -> Vec<Message> {
    let mut all: Vec<Message> = groups.concat();
    all.sort_by_key(|message| message.timestamp);
    all
}

fn codecs(outputs: &[Output]) -> Vec<String> {
    let found = outputs.iter().filter_map(|output| match output {
        Output::Initialization(it) => Some(it.codecs.clone()),
        _ => None,
    });
    found.collect()
}

fn target(outputs: &[Output]) -> u64 {
    let found = outputs.iter().find_map(|output| match output {
        Output::TargetDuration(target) => Some(target.as_secs()),
        _ => None,
    });
    found.expect("a target duration")
}

fn lengths(outputs: &[Output]) -> Vec<f64> {
    let ends = segments(outputs).into_iter().filter_map(|it| it.end);
    ends.map(|end| end.duration.as_secs_f64()).collect()
}

const H264: &str = "avc1.f4000d";
const BOTH: &str = "avc1.f4000d,mp4a.40.2";

#[test]
fn segments_begin_at_keyframes_and_last_as_long_as_asked() {
    let stream = [&[video_header(0, 0)], &pictures(0, 20_000, 800)[..]].concat();
    let outputs = segment(&settings(2), &stream);
    check_rules(&settings(2), &outputs);
    assert_eq!(target(&outputs), 3, "2.4 s, with a margin");
    assert!(
        lengths(&outputs)
            .iter()
            .take(8)
            .all(|length| *length == 2.4)
    );
    for segment in segments(&outputs) {
        assert!(segment.parts[0].independent);
    }
}

#[test]
fn a_group_that_would_pass_the_target_ends_the_segment_before() {
    // Groups of 1.5 s: segments of 3 s, until one keyframe is late.
    let mut stream = vec![video_header(0, 0)];
    stream.extend(pictures(0, 12_000, 1520));
    let outputs = segment(&settings(2), &stream);
    check_rules(&settings(2), &outputs);
    assert_eq!(target(&outputs), 3);
    assert_eq!(lengths(&outputs)[..3], [3.04, 3.04, 3.04]);
}

/// An encoder with a keyframe every second gives way to its standby, whose newest group
/// follows after `pause` milliseconds, at any time `away` within a second of the first one's.
fn switched(away: u64, pause: u64) -> Vec<Message> {
    const SWITCH: u64 = 3_000;
    let (end, begin) = (SWITCH + away, SWITCH + away + pause);
    let before = pictures(0, end, 1_000);
    let after = pictures(0, 4_000, 1_000).into_iter().map(|mut picture| {
        picture.timestamp += u32::try_from(begin).unwrap();
        picture
    });
    interleave(&[
        &[video_header(0, 0), audio_header(48_000, 0)],
        &[before, after.collect()].concat(),
        &[sounds(0, end), sounds(begin, begin + 4_000)].concat(),
    ])
}

#[test]
fn where_a_standby_takes_over_segments_begin_with_keyframes_all_the_same() {
    for container in [Container::Fmp4, Container::MpegTs] {
        let settings = Settings {
            container,
            ..settings(1)
        };
        for away in (40..1_000).step_by(40) {
            for pause in [0, 40, 400, 600, 800, 1_000] {
                let outputs = segment(&settings, &switched(away, pause));
                if pause <= 400 {
                    // No picture lasts longer than a part.
                    check_rules(&settings, &outputs);
                }
                assert_eq!(target(&outputs), 1);
                assert!(lengths(&outputs).iter().all(|length| *length < 1.5));
                for (number, segment) in segments(&outputs).iter().enumerate() {
                    assert!(
                        segment.parts[0].independent,
                        "{container:?}, {away} ms, {pause} ms: segment {number}"
                    );
                }
            }
        }
    }
}

#[test]
fn rare_keyframes_make_segments_that_begin_without_one() {
    let stream = [&[video_header(0, 0)], &pictures(0, 60_000, 20_000)[..]].concat();
    let outputs = segment(&settings(2), &stream);
    check_rules(&settings(2), &outputs);
    // 2.1 times 2 s, rounded.
    assert_eq!(target(&outputs), 4);
    let segments = segments(&outputs);
    assert!(segments.len() >= 14, "{}", segments.len());
    let independent = segments.iter().filter(|it| it.parts[0].independent);
    assert_eq!(independent.count(), 3);
}

#[test]
fn without_wait_keyframe_segments_are_as_long_as_asked() {
    let settings = Settings {
        wait_keyframe: false,
        ..settings(2)
    };
    let stream = [&[video_header(0, 0)], &pictures(0, 20_000, 20_000)[..]].concat();
    let outputs = segment(&settings, &stream);
    check_rules(&settings, &outputs);
    assert!(lengths(&outputs).iter().all(|length| *length == 2.0));
}

#[test]
fn sound_that_comes_later_joins_at_the_next_keyframe() {
    let video = pictures(0, 10_000, 2000);
    let audio = [&[audio_header(48_000, 2900)], &sounds(2900, 10_000)[..]].concat();
    let outputs = segment(
        &settings(4),
        &interleave(&[&[video_header(0, 0)], &video, &audio]),
    );
    check_rules(&settings(4), &outputs);
    assert_eq!(codecs(&outputs), [H264, BOTH]);
    let segments = segments(&outputs);
    assert_eq!(
        segments[0].end.as_ref().unwrap().duration,
        Duration::from_secs(4)
    );
    assert!(segments[1].discontinuity && segments[1].parts[0].independent);
    assert!(!segments[2].discontinuity);
}

#[test]
fn pictures_that_come_later_begin_a_segment() {
    let audio = [&[audio_header(48_000, 0)], &sounds(0, 8000)[..]].concat();
    let video = [&[video_header(0, 3000)], &pictures(3000, 8000, 1000)[..]].concat();
    let outputs = segment(&settings(2), &interleave(&[&audio, &video]));
    assert_eq!(codecs(&outputs), ["mp4a.40.2", BOTH]);
    assert_eq!(lengths(&outputs)[..2], [2.005333333, 0.994666666]);
}

#[test]
fn sound_that_ends_leaves_the_tracks_and_returns() {
    let video = pictures(0, 20_000, 2000);
    let audio = interleave(&[
        &[audio_header(48_000, 0)],
        &sounds(0, 5000),
        &sounds(13_000, 20_000),
    ]);
    let outputs = segment(
        &settings(2),
        &interleave(&[&[video_header(0, 0)], &audio, &video]),
    );
    check_rules(&settings(2), &outputs);
    assert_eq!(codecs(&outputs), [BOTH, H264, BOTH]);
}

#[test]
fn a_changed_sequence_header_is_a_discontinuity_and_the_same_is_not() {
    let video = pictures(0, 9000, 1000);
    let headers = [
        video_header(0, 0),
        audio_header(48_000, 0),
        video_header(0, 2500),
        audio_header(48_000, 2500),
        video_header(1, 4999),
        audio_header(44_100, 6500),
    ];
    let audio = sounds(0, 9000);
    let outputs = segment(&settings(2), &interleave(&[&headers, &video, &audio]));
    let discontinuities: Vec<usize> = segments(&outputs)
        .iter()
        .enumerate()
        .filter(|(_, segment)| segment.discontinuity)
        .map(|(number, _)| number)
        .collect();
    // At 5 s, where the segment that began at 4 s ends early; at 7 s.
    assert_eq!(discontinuities, [3, 4]);
    assert_eq!(codecs(&outputs).len(), 3);
}

#[test]
fn another_publication_is_a_discontinuity_on_the_same_timeline() {
    let mut segmenter = Segmenter::new(&settings(2));
    let mut out = Vec::new();
    for start in [0, 10_000] {
        segmenter.begin_publication(&mut out);
        let video = pictures(start, start + 5000, 1000);
        for message in [&[video_header(0, start)], &video[..]].concat() {
            segmenter.push(&message, message.timestamp.into(), &mut out);
        }
    }
    segmenter.finish(&mut out);
    check_rules(&settings(2), &out);
    let segments = segments(&out);
    let discontinuities: Vec<bool> = segments.iter().map(|it| it.discontinuity).collect();
    assert_eq!(discontinuities, [false, false, false, true, false, false]);
    assert_eq!(codecs(&out), [H264], "the tracks are the same");
}

#[test]
fn a_stream_without_keyframes_is_shown_at_last() {
    let inter = (0..20_000)
        .step_by(40)
        .map(|time| picture(false, 0, 100, time));
    let messages: Vec<Message> = [video_header(0, 0)].into_iter().chain(inter).collect();
    let outputs = segment(&settings(2), &messages);
    assert_eq!(read_samples(&outputs).len(), 400, "after 4 s");
}

#[test]
fn what_has_no_place_is_said_once() {
    let left_out = |container: Container, payloads: &[(u8, &[u8])]| {
        let settings = Settings {
            container,
            ..settings(2)
        };
        let messages: Vec<Message> = (0..3)
            .flat_map(|round| payloads.iter().map(move |it| (round, it)))
            .map(|(round, (kind, payload))| message(MessageType(*kind), round * 40, payload))
            .collect();
        let outputs = segment(&settings, &messages);
        let found = outputs.into_iter().map(|output| match output {
            Output::LeftOut(it) => (it.reason, it.to_string()),
            other => panic!("{other:?}"),
        });
        found.collect::<Vec<_>>()
    };
    let opus = b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
    let speex: &[u8] = &[0xb2, 1, 2, 3];
    let h263: &[u8] = &[0x12, 0, 0];
    assert_eq!(left_out(Container::Fmp4, &[(8, opus)]), []);
    let found = left_out(Container::MpegTs, &[(8, opus), (8, speex), (9, h263)]);
    let reasons: Vec<LeftOutReason> = found.iter().map(|it| it.0).collect();
    let expected = [
        LeftOutReason::Container,
        LeftOutReason::Codec,
        LeftOutReason::Codec,
    ];
    assert_eq!(reasons, expected);
    assert_eq!(found[1].1, "Speex has no place in HLS segments");
    // A second track, and a sequence header that is cut off.
    let second: &[u8] = b"\x96\x01avc1\x01\x01\xf4\x00\x0d\xff";
    let broken: &[u8] = &[0x17, 0, 0, 0, 0, 1, 0xf4, 0, 0x0d];
    let found = left_out(Container::Fmp4, &[(9, broken), (9, second)]);
    let reasons: Vec<LeftOutReason> = found.iter().map(|it| it.0).collect();
    let expected = [LeftOutReason::SequenceHeader, LeftOutReason::AnotherTrack];
    assert_eq!(reasons, expected);
}

#[test]
fn samples_of_a_codec_that_is_left_out_are_in_no_track() {
    let opus = b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\x00\x00\x00\x00\x00";
    let settings = Settings {
        container: Container::MpegTs,
        ..settings(2)
    };
    let video = pictures(0, 8_000, 1_000);
    let aac = [&[audio_header(48_000, 0)], &sounds(0, 4_000)[..]].concat();
    let mut left_out = vec![message(MessageType::AUDIO, 4_000, opus)];
    left_out.extend((4_000..8_000).step_by(20).map(|time| {
        let frame = b"\x91Opus\xfc\xff\xfe";
        message(MessageType::AUDIO, time, frame)
    }));
    let messages = interleave(&[&[video_header(0, 0)], &video, &aac, &left_out]);
    let outputs = segment(&settings, &messages);
    assert_eq!(codecs(&outputs), [BOTH, H264]);
}

#[test]
fn sequence_headers_that_no_box_holds_are_broken() {
    // Channels that Opus's streams do not have, and a header without an end.
    let mapping =
        b"\x90OpusOpusHead\x01\x03\x38\x01\x80\xbb\x00\x00\x00\x00\x01\x01\x00\x07\x08\x09";
    let long = [&[0xaf, 0, 0x11, 0x90][..], &[0; 70_000]].concat();
    for payload in [&mapping[..], &long] {
        let header = message(MessageType::AUDIO, 0, payload);
        let outputs = segment(&settings(2), &[header, sound(8, 10), sound(8, 30)]);
        let [Output::LeftOut(left_out)] = &outputs[..] else {
            panic!("{outputs:?}");
        };
        assert_eq!(left_out.reason, LeftOutReason::SequenceHeader);
    }
}

#[test]
fn pictures_that_freeze_do_not_shorten_segments() {
    // Four seconds without a picture, then regular ones; then sound alone.
    let video = interleave(&[&pictures(0, 8000, 2000), &pictures(12_000, 20_000, 2000)]);
    let audio = sounds(0, 30_000);
    let headers = [video_header(0, 0), audio_header(48_000, 0)];
    let outputs = segment(&settings(5), &interleave(&[&headers, &video, &audio]));
    check_rules(&settings(5), &outputs);
    let lengths = lengths(&outputs);
    assert!(
        lengths[..lengths.len() - 1]
            .iter()
            .all(|length| *length > 1.9),
        "{lengths:?}"
    );
}

#[test]
fn odd_pictures_do_no_harm() {
    let mut messages = vec![video_header(0, 0)];
    for (index, composition) in [0, -500, 8_388_607, -8_388_608, 80].into_iter().enumerate() {
        messages.push(picture(index == 0, composition, 10, index as u64 * 40));
        // Without a body; cut off within the composition time.
        messages.push(message(MessageType::VIDEO, 50, &[0x27, 1, 0, 0, 0]));
        messages.push(message(MessageType::VIDEO, 50, &[0x27, 1, 0]));
        messages.push(message(MessageType::AUDIO, 50, &[0xaf, 1]));
    }
    let outputs = segment(&settings(2), &messages);
    let compositions: Vec<i64> = read_samples(&outputs)
        .iter()
        .map(|it| it.1.composition)
        .collect();
    assert_eq!(compositions, [0, -45_000, 900_000, -900_000, 7200]);
}

#[test]
fn a_flood_of_samples_of_one_time_is_given_out() {
    let mut segmenter = Segmenter::new(&settings(2));
    let mut out = Vec::new();
    segmenter.push(&video_header(0, 0), 0, &mut out);
    segmenter.push(&audio_header(48_000, 0), 0, &mut out);
    let mut pushed = 0;
    let mut given = 0;
    for index in 0..40 {
        for message in [picture(index == 0, 0, 1 << 20, 0), sound(1 << 20, 0)] {
            pushed += message.payload.len();
            segmenter.push(&message, 0, &mut out);
        }
        let parts = out.drain(..).filter_map(|output| match output {
            Output::Part(part) => Some(part.bytes.len()),
            _ => None,
        });
        given += parts.sum::<usize>();
        assert!(pushed < given + (12 << 20), "{pushed} {given}");
    }
}

#[test]
fn the_target_duration_is_as_long_as_asked_whatever_the_first_group() {
    let stream = [&[video_header(0, 0)], &pictures(0, 20_000, 1_000)[..]].concat();
    let with = |min_target, irregular| {
        let settings = Settings {
            min_target: Duration::from_secs(min_target),
            irregular,
            ..settings(2)
        };
        let outputs = segment(&settings, &stream);
        check_rules(&settings, &outputs);
        target(&outputs)
    };
    assert_eq!(with(0, false), 2);
    assert_eq!(with(3, false), 3);
    // Longer than `max_fragments` allows segments to be.
    assert_eq!(with(6, false), 6);
    assert_eq!(with(0, true), 4, "2.1 times 2 s");
}
