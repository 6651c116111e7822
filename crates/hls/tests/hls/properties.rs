//! Any stream: nothing panics, times rise, and the rules for parts and segments hold.

use std::collections::BTreeMap;
use std::time::Duration;

use hls::playlist::{Found, MediaPlaylist, Playlist, PlaylistSettings, Reload, Resource};
use hls::segmenter::{Container, Output, Segmenter, Settings};
use proptest::prelude::*;
use rtmp_proto::wire::{Message, MessageType};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::encoder::message;
use crate::packets::TransportReader;
use crate::stream::{check_rules, read_samples, segment, segments};
use crate::synthetic::{Stream, audio_header, picture, sound, video_header};

#[derive(Debug, Clone)]
enum Event {
    VideoHeader(usize),
    AudioHeader(u32),
    Picture(bool, i32, usize),
    Sound(usize),
    Garbage(u8, Vec<u8>),
    Later(u64),
    Jump(i64),
    Publication,
    Finish,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0usize..2).prop_map(Event::VideoHeader),
        1 => prop::sample::select(vec![48_000, 44_100, 8_000]).prop_map(Event::AudioHeader),
        12 => (prop::bool::weighted(0.1), -200..200i32, 0..40usize)
            .prop_map(|(key, composition, size)| Event::Picture(key, composition, size)),
        1 => (any::<bool>(), any::<i32>(), 0..40usize)
            .prop_map(|(key, composition, size)| Event::Picture(key, composition >> 8, size)),
        12 => (0..40usize).prop_map(Event::Sound),
        1 => (prop::sample::select(vec![8, 9, 18]), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(kind, bytes)| Event::Garbage(kind, bytes)),
        14 => (0..120u64).prop_map(Event::Later),
        1 => (-20_000..40_000i64).prop_map(Event::Jump),
        1 => Just(Event::Publication),
        1 => Just(Event::Finish),
    ]
}

/// `value`, written down and read.
pub(crate) fn handed_over<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let bytes = rmp_serde::to_vec_named(value).expect("it can be written");
    rmp_serde::from_slice(&bytes).expect("it can be read")
}

/// What a segmenter makes of these events, with the messages' times.
fn run(settings: &Settings, events: &[Event]) -> Vec<Output> {
    run_with(settings, events, |segmenter| segmenter)
}

/// The same, with what `between` gives back for the segmenter before each event.
fn run_with(
    settings: &Settings,
    events: &[Event],
    between: impl Fn(Segmenter) -> Segmenter,
) -> Vec<Output> {
    let mut segmenter = Segmenter::new(settings);
    let mut out = Vec::new();
    let mut now = 0u64;
    for event in events {
        segmenter = between(segmenter);
        let message = match event {
            Event::VideoHeader(config) => video_header(*config, now),
            Event::AudioHeader(rate) => audio_header(*rate, now),
            Event::Picture(key, composition, size) => picture(*key, *composition, *size, now),
            Event::Sound(size) => sound(*size, now),
            Event::Garbage(kind, bytes) => message(MessageType(*kind), now, bytes),
            Event::Later(ms) => {
                now += ms;
                continue;
            }
            Event::Jump(ms) => {
                now = now.saturating_add_signed(*ms);
                continue;
            }
            Event::Publication => {
                segmenter.begin_publication(&mut out);
                continue;
            }
            Event::Finish => {
                segmenter.finish(&mut out);
                continue;
            }
        };
        segmenter.push(&message, now, &mut out);
    }
    segmenter.finish(&mut out);
    out
}

fn settings(container: Container, fragment_ms: u64, part_ms: u64, wait: bool) -> Settings {
    Settings {
        container,
        part_target: Duration::from_millis(part_ms),
        fragment: Duration::from_millis(fragment_ms),
        wait_keyframe: wait,
        ..Settings::default()
    }
}

/// Each track's samples begin where the one before ended, or later.
fn check_times(outputs: &[Output]) {
    let mut ends = BTreeMap::<[u8; 4], f64>::new();
    for (track, sample) in read_samples(outputs) {
        let seconds = |count: u64| count as f64 / track.timescale as f64;
        let begin = seconds(sample.dts);
        if let Some(end) = ends.insert(track.handler, begin + seconds(sample.duration)) {
            // A sample of the coarsest clock, where it changes.
            assert!(begin >= end - 1.0 / 8000.0, "{begin} s after {end} s");
        }
        assert!(sample.duration > 0);
        assert!(!sample.data.is_empty());
    }
}

/// Whatever comes: no part is longer than its target, and no segment than the playlist's.
fn check_bounds(settings: &Settings, outputs: &[Output]) {
    let target = outputs.iter().find_map(|output| match output {
        Output::TargetDuration(target) => Some(target.as_secs_f64()),
        _ => None,
    });
    for segment in segments(outputs) {
        assert!(!segment.parts.is_empty());
        for part in &segment.parts {
            assert!(part.duration <= settings.part_target);
        }
        let length = segment.end.expect("each segment ends").duration;
        assert!(
            length.as_secs_f64().round() <= target.unwrap(),
            "{length:?} {target:?}"
        );
    }
}

/// A playlist takes all outputs, knows where each part lies, and can be rendered after each.
fn check_playlist(settings: &Settings, outputs: &[Output]) {
    let mut playlist = Playlist::new(PlaylistSettings {
        segments: settings.clone(),
        window: Duration::from_secs(4),
        first_segment: 7,
    });
    let mut log = Vec::new();
    let uri = |resource: Resource| resource.name(settings.container);
    for output in outputs {
        if let Output::Part(part) = output {
            log.extend_from_slice(&part.bytes);
        }
        playlist.push(output, Some(1_700_000_000_000));
        if let Output::Part(part) = output {
            let newest = playlist.newest().expect("a part");
            let Some(Found::Log(range)) = playlist.find(newest) else {
                panic!("{newest:?}");
            };
            assert_eq!(log[range.start as usize..range.end as usize], part.bytes);
            assert!(playlist.log_start() <= range.start);
        }
        for (low_latency, skip) in [(false, false), (true, false), (true, true)] {
            let form = MediaPlaylist { low_latency, skip };
            let ready = playlist.is_ready(low_latency);
            assert_eq!(playlist.media(form, &uri).is_some(), ready);
        }
        let next = playlist.next_segment();
        for segment in next.saturating_sub(3)..next + 3 {
            for part in [None, Some(0), Some(5)] {
                let segment = Some(segment);
                let _ = playlist.answers(Reload { segment, part });
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_segmenter_and_its_playlist_go_on_where_they_are_read(
        events in prop::collection::vec(event(), 0..120),
        is_mpegts in any::<bool>(),
    ) {
        let container = if is_mpegts { Container::MpegTs } else { Container::Fmp4 };
        let settings = settings(container, 1_000, 200, true);
        let outputs = run(&settings, &events);
        prop_assert_eq!(&run_with(&settings, &events, |it| handed_over(&it)), &outputs);
        let new = || Playlist::new(PlaylistSettings {
            segments: settings.clone(),
            window: Duration::from_secs(4),
            first_segment: 7,
        });
        let (mut one, mut other) = (new(), new());
        let form = MediaPlaylist { low_latency: !is_mpegts, skip: false };
        let uri = |resource: Resource| resource.name(container);
        for output in &outputs {
            one.push(output, Some(1_700_000_000_000));
            other = handed_over(&other);
            other.push(output, Some(1_700_000_000_000));
            prop_assert_eq!(other.media(form, &uri), one.media(form, &uri));
        }
    }

    #[test]
    fn any_messages_make_whole_segments(
        events in prop::collection::vec(event(), 0..400),
        fragment in 300..3000u64,
        part in 100..1000u64,
        wait in any::<bool>(),
    ) {
        let fmp4 = settings(Container::Fmp4, fragment.max(part), part, wait);
        let outputs = run(&fmp4, &events);
        check_times(&outputs);
        check_bounds(&fmp4, &outputs);
        check_playlist(&fmp4, &outputs);
        let mpegts = settings(Container::MpegTs, fragment.max(part), part, wait);
        let outputs = run(&mpegts, &events);
        let mut reader = TransportReader::default();
        for segment in segments(&outputs) {
            reader.read(&segment.bytes());
        }
        check_bounds(&mpegts, &outputs);
        check_playlist(&mpegts, &outputs);
    }

    #[test]
    fn regular_streams_keep_the_rules(
        milli_fps in 24_000..60_000u64,
        group in 1..300u64,
        rate in prop::sample::select(vec![0, 48_000, 44_100, 32_000]),
        sound_delay_ms in 0..200u64,
        fragment in 500..6000u64,
        part in 350..500u64,
    ) {
        let stream = Stream { seconds: 25, milli_fps, group, rate, sound_delay_ms };
        check_stream(&stream, fragment, part);
    }

    #[test]
    fn sound_keeps_the_rules_for_rare_pictures(
        milli_fps in 300..20_000u64,
        group in 1..10u64,
        rate in prop::sample::select(vec![48_000, 44_100, 32_000]),
        sound_delay_ms in 0..200u64,
        part in 350..500u64,
    ) {
        let stream = Stream { seconds: 25, milli_fps, group, rate, sound_delay_ms };
        check_stream(&stream, 4000, part);
    }

    #[test]
    fn sound_alone_keeps_the_rules(
        rate in prop::sample::select(vec![48_000, 44_100, 32_000]),
        fragment in 500..6000u64,
        part in 300..500u64,
    ) {
        let stream = Stream { seconds: 25, milli_fps: 0, group: 1, rate, sound_delay_ms: 0 };
        check_stream(&stream, fragment, part);
    }
}

fn check_stream(stream: &Stream, fragment: u64, part: u64) {
    let settings = settings(Container::Fmp4, fragment.max(part), part, true);
    let messages: Vec<Message> = stream.messages();
    let outputs = segment(&settings, &messages);
    check_rules(&settings, &outputs);
    check_times(&outputs);
    let discontinuity = outputs.contains(&Output::Discontinuity);
    assert!(!discontinuity);
    let frames = messages
        .iter()
        .filter(|message| message.payload[1] == 1)
        .count();
    let lost = frames - read_samples(&outputs).len();
    // Sound that is sent before the first keyframe.
    assert!(lost <= 1, "{lost} frames are missing");
}

#[test]
fn sound_ends_segments_where_pictures_and_keyframes_are_rare() {
    let stream = Stream {
        seconds: 25,
        milli_fps: 802,
        group: 9,
        rate: 44_100,
        sound_delay_ms: 104,
    };
    check_stream(&stream, 4000, 366);
}

#[test]
fn the_first_segments_grow_as_a_player_has_more_to_play() {
    let cases: [(u64, &[f64]); 2] = [
        (25_000, &[2.0, 2.0, 4.0, 8.0, 10.0, 10.0]),
        (0, &[1.0, 1.0, 2.0, 4.0, 8.0, 10.0]),
    ];
    for (milli_fps, expected) in cases {
        let stream = Stream {
            seconds: 60,
            milli_fps,
            group: 50,
            rate: 48_000,
            sound_delay_ms: 0,
        };
        let settings = Settings {
            fragment: Duration::from_secs(10),
            short_first: true,
            ..Settings::default()
        };
        let outputs = segment(&settings, &stream.messages());
        check_rules(&settings, &outputs);
        let segments = segments(&outputs);
        let lengths = segments
            .iter()
            .map(|it| it.end.as_ref().unwrap().duration.as_secs_f64());
        let lengths: Vec<_> = lengths.take(expected.len()).collect();
        for (length, expected) in lengths.iter().zip(expected) {
            assert!((length - expected).abs() < 0.2, "{milli_fps}: {lengths:?}");
        }
    }
}
