//! Playlists, as text.

use std::time::Duration;

use bytes::Bytes;
use hls::playlist::{
    BadReload, Found, MediaPlaylist, Playlist, PlaylistSettings, Reload, Resource,
};
use hls::segmenter::{Container, Initialization, Output, Part, Resolution, SegmentEnd, Settings};

fn settings(container: Container, window: u64) -> PlaylistSettings {
    PlaylistSettings {
        segments: Settings {
            container,
            part_target: Duration::from_millis(500),
            fragment: Duration::from_secs(2),
            ..Settings::default()
        },
        window: Duration::from_secs(window),
        first_segment: 0,
    }
}

/// 2023-11-14T22:13:20Z.
const START_MS: i64 = 1_700_000_000_000;

/// A playlist that is told of parts of half a second, of 1,000 bytes each.
struct Teller {
    playlist: Playlist,
    container: Container,
    now_ms: Option<i64>,
}

impl Teller {
    fn new(container: Container, window: u64) -> Self {
        Self::with(settings(container, window))
    }

    fn with(settings: PlaylistSettings) -> Self {
        let mut teller = Teller {
            container: settings.segments.container,
            playlist: Playlist::new(settings),
            now_ms: None,
        };
        teller.push(Output::TargetDuration(Duration::from_secs(2)));
        teller.initialize("avc1.64001f,mp4a.40.2");
        teller
    }

    fn push(&mut self, output: Output) {
        self.playlist.push(&output, self.now_ms);
    }

    fn initialize(&mut self, codecs: &str) {
        self.push(Output::Initialization(Initialization {
            bytes: Bytes::copy_from_slice(codecs.as_bytes()),
            codecs: codecs.into(),
            resolution: Some(Resolution {
                width: 1280,
                height: 720,
            }),
        }));
    }

    fn parts(&mut self, count: usize) {
        for index in 0..count {
            if let Some(now_ms) = &mut self.now_ms {
                *now_ms += 500;
            }
            self.push(Output::Part(Part {
                bytes: Bytes::from_static(&[0; 1000]),
                duration: Duration::from_millis(500),
                independent: index == 0,
            }));
        }
    }

    fn segments(&mut self, count: usize) {
        for _ in 0..count {
            self.parts(4);
            self.push(Output::SegmentEnd(SegmentEnd {
                duration: Duration::from_secs(2),
                pictures: 60,
            }));
        }
    }

    fn text(&self, low_latency: bool, skip: bool) -> String {
        let container = self.container;
        let uri = move |resource: Resource| format!("{}?s=1", resource.name(container));
        let form = MediaPlaylist { low_latency, skip };
        self.playlist.media(form, &uri).expect("it is ready")
    }
}

#[test]
fn the_multivariant_playlist_says_what_a_player_needs() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(2);
    assert_eq!(
        teller.playlist.multivariant("live.m3u8?s=1").unwrap(),
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-STREAM-INF:BANDWIDTH=16000,AVERAGE-BANDWIDTH=16000,\
         CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=30.000\n\
         live.m3u8?s=1\n"
    );
}

#[test]
fn a_playlist_is_ready_when_it_lists_something() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    let ready = |teller: &Teller| [false, true].map(|form| teller.playlist.is_ready(form));
    assert_eq!(ready(&teller), [false, false]);
    teller.parts(1);
    assert_eq!(ready(&teller), [false, true]);
    teller.segments(1);
    assert_eq!(ready(&teller), [true, true]);
    let mut mpegts = Teller::new(Container::MpegTs, 60);
    mpegts.parts(1);
    assert_eq!(ready(&mpegts), [false, false]);
}

#[test]
fn a_classic_playlist_lists_whole_segments() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(2);
    teller.parts(1);
    assert_eq!(
        teller.text(false, false),
        "#EXTM3U\n\
         #EXT-X-VERSION:6\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-MAP:URI=\"init-0.mp4?s=1\"\n\
         #EXTINF:2.00000,\n\
         0.m4s?s=1\n\
         #EXTINF:2.00000,\n\
         1.m4s?s=1\n"
    );
}

#[test]
fn a_playlist_of_mpegts_has_no_map_and_no_parts() {
    let mut teller = Teller::new(Container::MpegTs, 60);
    teller.segments(1);
    teller.push(Output::Discontinuity);
    teller.initialize("avc1.64001f");
    teller.segments(1);
    teller.playlist.end();
    let expected = "#EXTM3U\n\
         #EXT-X-VERSION:3\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXTINF:2.00000,\n\
         0.ts?s=1\n\
         #EXT-X-DISCONTINUITY\n\
         #EXTINF:2.00000,\n\
         1.ts?s=1\n\
         #EXT-X-ENDLIST\n";
    assert_eq!(teller.text(false, false), expected);
    assert_eq!(teller.text(true, false), expected);
}

#[test]
fn a_low_latency_playlist_lists_parts_of_the_newest_segments() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.now_ms = Some(START_MS);
    teller.segments(4);
    teller.parts(2);
    assert_eq!(
        teller.text(true, false),
        "#EXTM3U\n\
         #EXT-X-VERSION:9\n\
         #EXT-X-INDEPENDENT-SEGMENTS\n\
         #EXT-X-TARGETDURATION:2\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.50000,CAN-SKIP-UNTIL=12.00000\n\
         #EXT-X-PART-INF:PART-TARGET=0.50000\n\
         #EXT-X-MEDIA-SEQUENCE:0\n\
         #EXT-X-MAP:URI=\"init-0.mp4?s=1\"\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n\
         #EXTINF:2.00000,\n\
         0.m4s?s=1\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:22.000Z\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"1.0.m4s?s=1\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"1.1.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"1.2.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"1.3.m4s?s=1\"\n\
         #EXTINF:2.00000,\n\
         1.m4s?s=1\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:24.000Z\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"2.0.m4s?s=1\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"2.1.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"2.2.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"2.3.m4s?s=1\"\n\
         #EXTINF:2.00000,\n\
         2.m4s?s=1\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:26.000Z\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"3.0.m4s?s=1\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"3.1.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"3.2.m4s?s=1\"\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"3.3.m4s?s=1\"\n\
         #EXTINF:2.00000,\n\
         3.m4s?s=1\n\
         #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:28.000Z\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"4.0.m4s?s=1\",INDEPENDENT=YES\n\
         #EXT-X-PART:DURATION=0.50000,URI=\"4.1.m4s?s=1\"\n\
         #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"4.2.m4s?s=1\"\n"
    );
}

#[test]
fn an_update_leaves_out_what_the_player_has() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(10);
    let text = teller.text(true, true);
    let skip =
        "#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n#EXTINF:2.00000,\n4.m4s?s=1\n";
    assert!(text.contains(skip), "{text}");
    assert!(!text.contains("EXT-X-MAP"), "{text}");
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"10.0.m4s?s=1\"\n";
    assert!(text.ends_with(hint), "{text}");
    // A window that is too short for updates: the player is told so, and gets all.
    let mut short = Teller::new(Container::Fmp4, 12);
    short.segments(10);
    let text = short.text(true, true);
    assert!(!text.contains("SKIP"), "{text}");
}

#[test]
fn old_segments_leave_the_window_and_are_kept_for_a_while() {
    let mut teller = Teller::new(Container::Fmp4, 6);
    teller.segments(1);
    teller.push(Output::Discontinuity);
    teller.initialize("avc1.42001f");
    teller.segments(4);
    let text = teller.text(false, false);
    let head = "#EXT-X-MEDIA-SEQUENCE:2\n\
                #EXT-X-DISCONTINUITY-SEQUENCE:1\n\
                #EXT-X-MAP:URI=\"init-1.mp4?s=1\"\n\
                #EXTINF:2.00000,\n\
                2.m4s?s=1\n";
    assert!(text.contains(head), "{text}");
    // A player that has an older playlist still finds what that lists.
    let first = teller.playlist.find(Resource::Segment(0));
    assert_eq!(first, Some(Found::Log(0..4000)));
    assert_eq!(teller.playlist.log_start(), 0);
    let initialization = Found::Bytes(Bytes::from_static(b"avc1.64001f,mp4a.40.2"));
    let found = teller.playlist.find(Resource::Initialization(0));
    assert_eq!(found, Some(initialization));
    teller.segments(4);
    assert_eq!(teller.playlist.find(Resource::Segment(0)), None);
    assert_eq!(teller.playlist.find(Resource::Initialization(0)), None);
    assert!(teller.playlist.log_start() > 0);
    // Four segments and the last one's successors: the log is bounded.
    assert_eq!(teller.playlist.log_start() % 4000, 0);
}

#[test]
fn segments_of_milliseconds_make_no_endless_playlist() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(1);
    for _ in 0..3000 {
        teller.push(Output::Part(Part {
            bytes: Bytes::from_static(b"x"),
            duration: Duration::from_millis(1),
            independent: true,
        }));
        teller.push(Output::SegmentEnd(SegmentEnd {
            duration: Duration::from_millis(1),
            pictures: 1,
        }));
    }
    assert_eq!(teller.text(false, false).matches("#EXTINF").count(), 500);
    assert_eq!(teller.playlist.find(Resource::Segment(2000)), None);
    // Nor do they say how fast the stream is.
    let text = teller.playlist.multivariant("live.m3u8").unwrap();
    assert!(text.contains("BANDWIDTH=16000,"), "{text}");
    assert!(text.contains("FRAME-RATE=30.000"), "{text}");
}

#[test]
fn a_resource_is_there_or_later_or_never() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(1);
    let find = |teller: &Teller, resource| teller.playlist.find(resource);
    let part = |segment, part| Resource::Part { segment, part };
    assert_eq!(find(&teller, part(0, 2)), Some(Found::Log(2000..3000)));
    assert_eq!(find(&teller, part(0, 4)), None);
    assert_eq!(find(&teller, part(1, 0)), Some(Found::Later));
    assert_eq!(find(&teller, part(1, 1)), None);
    assert_eq!(find(&teller, Resource::Segment(1)), Some(Found::Later));
    assert_eq!(find(&teller, Resource::Segment(2)), None);
    teller.parts(1);
    assert_eq!(find(&teller, part(1, 0)), Some(Found::Log(4000..5000)));
    assert_eq!(find(&teller, part(1, 1)), Some(Found::Later));
    assert_eq!(find(&teller, part(2, 0)), None);
    teller.playlist.end();
    assert_eq!(find(&teller, part(1, 1)), None);
}

fn ask(teller: &Teller, segment: u64, part: impl Into<Option<u64>>) -> Result<bool, BadReload> {
    teller.playlist.answers(Reload {
        segment: Some(segment),
        part: part.into(),
    })
}

#[test]
fn a_reload_waits_for_what_it_asks_for() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(3);
    teller.parts(2);
    // The newest segment is 3, with two parts.
    assert_eq!(ask(&teller, 2, None), Ok(true));
    assert_eq!(ask(&teller, 2, 3), Ok(true));
    assert_eq!(ask(&teller, 3, 1), Ok(true));
    assert_eq!(ask(&teller, 3, 2), Ok(false));
    assert_eq!(ask(&teller, 3, None), Ok(false));
    assert_eq!(ask(&teller, 4, 0), Ok(false));
    assert_eq!(ask(&teller, 5, None), Ok(false));
    assert_eq!(ask(&teller, 6, None), Err(BadReload::TooFarAhead));
    // Three seconds of parts are six.
    assert_eq!(ask(&teller, 3, 7), Ok(false));
    assert_eq!(ask(&teller, 3, 8), Err(BadReload::TooFarAhead));
    // A part behind a segment's last is the next one's first.
    assert_eq!(ask(&teller, 2, 4), Ok(true));
    let nothing = Reload::default();
    assert_eq!(teller.playlist.answers(nothing), Ok(true));
    let part_only = Reload {
        segment: None,
        part: Some(0),
    };
    let error = teller.playlist.answers(part_only);
    assert_eq!(error, Err(BadReload::PartWithoutSegment));
    teller.playlist.end();
    assert_eq!(ask(&teller, 9, None), Ok(true));
}

/// A part that begins with no keyframe.
fn dependent() -> Output {
    Output::Part(Part {
        bytes: Bytes::from_static(b"x"),
        duration: Duration::from_millis(500),
        independent: false,
    })
}

#[test]
fn what_a_playlist_says_of_its_segments_does_not_come_and_go() {
    const TAG: &str = "#EXT-X-INDEPENDENT-SEGMENTS";
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.segments(1);
    assert!(teller.text(true, false).contains(TAG));
    assert!(!teller.playlist.has_broken_promise());
    // It keeps the word that another playlist has to take back.
    teller.push(dependent());
    assert!(teller.text(true, false).contains(TAG));
    assert!(teller.playlist.has_broken_promise());
    // Nothing is said where the first segment has no keyframe, or none is waited for.
    let mut teller = Teller::new(Container::Fmp4, 4);
    teller.push(dependent());
    teller.segments(9);
    assert!(!teller.text(true, false).contains(TAG));
    assert!(!teller.playlist.has_broken_promise());
    for change in [
        |segments: &mut Settings| segments.wait_keyframe = false,
        |segments: &mut Settings| segments.irregular = true,
    ] {
        let mut settings = settings(Container::Fmp4, 60);
        change(&mut settings.segments);
        let mut teller = Teller::with(settings);
        teller.segments(1);
        assert!(!teller.text(true, false).contains(TAG));
    }
}

#[test]
fn a_key_stands_before_the_segments_that_it_encrypts_and_not_before_the_map() {
    for container in [Container::MpegTs, Container::Fmp4] {
        let mut teller = Teller::new(container, 60);
        teller.push(Output::Key([7; 16]));
        teller.segments(2);
        teller.push(Output::Key([8; 16]));
        teller.segments(1);
        teller.initialize("avc1.640020");
        teller.segments(1);
        let text = teller.text(false, false);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("#EXT-X-KEY") || line.starts_with("#EXT-X-MAP"))
            .collect();
        let expected: &[&str] = match container {
            Container::MpegTs => &[
                "#EXT-X-KEY:METHOD=AES-128,URI=\"0.key?s=1\"",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"2.key?s=1\"",
            ],
            Container::Fmp4 => &[
                "#EXT-X-MAP:URI=\"init-0.mp4?s=1\"",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"0.key?s=1\"",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"2.key?s=1\"",
                "#EXT-X-KEY:METHOD=NONE",
                "#EXT-X-MAP:URI=\"init-1.mp4?s=1\"",
                "#EXT-X-KEY:METHOD=AES-128,URI=\"2.key?s=1\"",
            ],
        };
        assert_eq!(lines, expected, "{text}");
        let key = |number| teller.playlist.find(Resource::Key(number));
        assert_eq!(key(2), Some(Found::Bytes(Bytes::from(vec![8; 16]))));
        assert_eq!(key(1), None);
    }
}

#[test]
fn wall_clock_times_go_on_from_segment_to_segment() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    teller.now_ms = Some(START_MS);
    teller.segments(1);
    // The next part is 100 ms late: a network's jitter is not the stream's.
    teller.now_ms = teller.now_ms.map(|now| now + 100);
    teller.segments(1);
    assert!(teller.text(false, false).contains("22:13:22.000Z"));
    // A pause is.
    teller.now_ms = teller.now_ms.map(|now| now + 10_000);
    teller.push(Output::Discontinuity);
    teller.segments(1);
    assert!(teller.text(false, false).contains("22:13:34.100Z"));
}

#[test]
fn segments_that_come_all_at_once_have_times_one_after_another() {
    let mut teller = Teller::new(Container::Fmp4, 60);
    for _ in 0..3 {
        teller.now_ms = Some(START_MS);
        teller.segments(1);
    }
    let text = teller.text(false, false);
    for time in ["22:13:20.000Z", "22:13:22.000Z", "22:13:24.000Z"] {
        assert!(text.contains(time), "no {time} in:\n{text}");
    }
}

#[test]
fn names_of_resources_are_read_as_they_are_written() {
    for container in [Container::Fmp4, Container::MpegTs] {
        for resource in [
            Resource::Initialization(3),
            Resource::Segment(0),
            Resource::Key(17),
            Resource::Part {
                segment: u64::MAX,
                part: 10,
            },
        ] {
            let name = resource.name(container);
            assert_eq!(Resource::parse(&name, container), Some(resource), "{name}");
        }
    }
    for name in [
        "",
        ".m4s",
        "1",
        "01.m4s",
        "+1.m4s",
        "1.2.3.m4s",
        "1..m4s",
        "init-.mp4",
        "init-1.m4s",
        "18446744073709551616.m4s",
        "1.ts",
    ] {
        assert_eq!(Resource::parse(name, Container::Fmp4), None, "{name}");
    }
}

#[test]
fn removed_segments_age_by_the_stream_and_not_by_their_parts() {
    let mut teller = Teller::new(Container::Fmp4, 6);
    // Pictures are far apart: a part has one, and counts as its target at most.
    for _ in 0..12 {
        teller.parts(1);
        teller.push(Output::SegmentEnd(SegmentEnd {
            duration: Duration::from_secs(2),
            pictures: 1,
        }));
    }
    assert_eq!(teller.playlist.find(Resource::Segment(0)), None);
}

#[test]
fn initializations_are_numbered_like_segments() {
    let mut playlist = Playlist::new(PlaylistSettings {
        first_segment: 1_000,
        ..settings(Container::Fmp4, 6)
    });
    playlist.push(
        &Output::Initialization(Initialization {
            bytes: Bytes::from_static(b"i"),
            codecs: "mp4a.40.2".into(),
            resolution: None,
        }),
        None,
    );
    assert_eq!(playlist.find(Resource::Initialization(0)), None);
    let found = playlist.find(Resource::Initialization(1_000));
    assert_eq!(found, Some(Found::Bytes(Bytes::from_static(b"i"))));
}

#[test]
fn a_playlist_up_to_a_segment_ends_when_it_has_all() {
    let mut teller = Teller::new(Container::MpegTs, 60);
    teller.segments(3);
    teller.playlist.end();
    let text = |newest| {
        let uri = |resource: Resource| resource.name(Container::MpegTs);
        let form = MediaPlaylist::default();
        teller.playlist.media_up_to(form, newest, &uri).unwrap()
    };
    assert!(text(1).ends_with("#EXTINF:2.00000,\n1.ts\n"), "{}", text(1));
    assert!(text(2).ends_with("2.ts\n#EXT-X-ENDLIST\n"), "{}", text(2));
}

#[test]
fn a_playlist_that_is_shortened_keeps_three_target_durations() {
    let mut teller = Teller::new(Container::MpegTs, 60);
    teller.segments(10);
    teller.playlist.shorten();
    let text = teller.text(false, false);
    assert_eq!(text.matches("#EXTINF").count(), 3, "{text}");
    assert_eq!(teller.playlist.listed_start(), 7 * 4 * 1000);
}
