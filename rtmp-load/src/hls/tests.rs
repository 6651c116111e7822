//! A player and a scripted server, on made-up time.

mod mp4_writer;

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::{
    player::{EndCause, Finished, Health, Player},
    stamp::Stamp,
    stats::Tally,
};

/// Pictures of a part, and their distance.
const PICTURES: u32 = 10;
const INTERVAL_MS: u32 = 33;
const PART_MS: u32 = PICTURES * INTERVAL_MS;
/// Parts of a segment.
const PARTS: u64 = 3;

fn rules() -> Rules {
    Rules {
        boot: 7,
        stall: Duration::from_millis(500),
        timestamp_gap: Duration::from_secs(1),
        timeout: Duration::from_secs(10),
        verify: true,
        reconnect: false,
        low_latency: true,
    }
}

/// A stream whose part with this number, from 0, ends at `(number + 1) × 330` ms.
struct Scene {
    player: Player,
    tally: Tally,
    out: Outboxes,
    began: Instant,
    now: Instant,
    /// Parts that the server has.
    parts: u64,
    /// The number of the first segment in the playlist.
    first: u64,
    /// Added to the numbers of segments, once their server has begun anew.
    added: u64,
    low_latency: bool,
    /// The part that was asked for before it is there.
    blocked: Option<String>,
}

impl Scene {
    fn new(rules: Rules, inspects: bool) -> Self {
        let address = StreamAddress::parse("http://host/live/s.m3u8?token=1").unwrap();
        let began = Instant::from_nanos(1_000_000_000);
        let mut scene = Self {
            player: Player::new(Arc::new(address), Arc::new(rules), inspects),
            tally: Tally::default(),
            out: Outboxes::default(),
            began,
            now: began,
            parts: 0,
            first: 0,
            added: 0,
            low_latency: true,
            blocked: None,
        };
        scene.has(7);
        scene.player.begin(scene.now, &mut scene.out).unwrap();
        scene.player.connected(scene.now, &mut scene.tally);
        scene
    }

    /// The server has so many parts from now on.
    fn has(&mut self, parts: u64) {
        self.parts = parts;
        self.now = self.began + Duration::from_millis(parts * u64::from(PART_MS));
    }

    /// The targets of the requests that were made since this was last asked.
    fn requests(&mut self, connection: usize) -> Vec<String> {
        let sent = std::mem::take(&mut self.out[connection]);
        let text = String::from_utf8(sent).unwrap();
        text.lines()
            .filter_map(|line| Some(line.strip_prefix("GET ")?.split(' ').next()?.to_owned()))
            .collect()
    }

    fn send(&mut self, connection: usize, bytes: &[u8]) -> Result<(), EndCause> {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let discardable = self.player.discardable(connection).min(bytes.len());
            if discardable > 0 {
                bytes = &bytes[discardable..];
                let (out, tally) = (&mut self.out, &mut self.tally);
                self.player
                    .discard(self.now, connection, discardable, out, tally)?;
                continue;
            }
            let (some, rest) = bytes.split_at(bytes.len().min(97));
            bytes = rest;
            let (out, tally) = (&mut self.out, &mut self.tally);
            self.player
                .receive(self.now, connection, some, out, tally)?;
        }
        Ok(())
    }

    fn answer(&mut self, connection: usize, body: &[u8]) -> Result<(), EndCause> {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(connection, &bytes)
    }

    /// Answers the playlist's request.
    fn playlist(&mut self) -> Result<(), EndCause> {
        let text = self.text();
        self.answer(PLAYLISTS, text.as_bytes())
    }

    /// Answers all requests for media whose part is there; returns them.
    fn media(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            let asked = self.requests(MEDIA).pop();
            let Some(request) = self.blocked.take().or(asked) else {
                return all;
            };
            let Some(body) = self.body(&request) else {
                self.blocked = Some(request);
                return all;
            };
            all.push(request);
            self.answer(MEDIA, &body).unwrap();
        }
    }

    /// `SEGMENT.PART` or `SEGMENT.m4s`, if it is there.
    fn body(&self, request: &str) -> Option<Vec<u8>> {
        if request == "/live/init.mp4" {
            return Some(mp4_writer::initialization());
        }
        let name = request.strip_prefix("/live/").expect("in the folder");
        let (segment, part) = name.split_once('.').expect("segment.part");
        let first = (segment.parse::<u64>().unwrap() - self.added) * PARTS;
        let numbers = match part.parse::<u64>() {
            Ok(part) => first + part..first + part + 1,
            Err(_) => first..first + PARTS,
        };
        (numbers.end <= self.parts).then(|| numbers.flat_map(|number| self.part(number)).collect())
    }

    /// A part: its first picture is a keyframe where it begins a segment.
    fn part(&self, number: u64) -> Vec<u8> {
        let pictures: Vec<Vec<u8>> = (0..PICTURES)
            .map(|index| {
                let sequence = number as u32 * PICTURES + index;
                let slice = b"\0\0\0\x02\x65\xff";
                let stamp = Stamp {
                    boot: 7,
                    publisher: 1,
                    sequence,
                    sent_at: self.began + Duration::from_millis((sequence * INTERVAL_MS).into()),
                    checksum: crc32fast::hash(slice),
                };
                let nal = stamp.to_nal();
                [&(nal.len() as u32).to_be_bytes()[..], &nal, slice].concat()
            })
            .collect();
        let at_ms = number as u32 * PART_MS;
        mp4_writer::fragment(at_ms, INTERVAL_MS, number.is_multiple_of(PARTS), &pictures)
    }

    fn text(&self) -> String {
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n".to_owned();
        if self.low_latency {
            text.push_str(
                "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.99\n\
                 #EXT-X-PART-INF:PART-TARGET=0.33\n",
            );
        }
        writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", self.first + self.added).unwrap();
        text.push_str("#EXT-X-MAP:URI=\"init.mp4\"\n");
        for number in self.first * PARTS..self.parts {
            let (segment, part) = (number / PARTS + self.added, number % PARTS);
            if self.low_latency {
                let independent = if part == 0 { ",INDEPENDENT=YES" } else { "" };
                writeln!(
                    text,
                    "#EXT-X-PART:DURATION=0.33,URI=\"{segment}.{part}\"{independent}"
                )
                .unwrap();
            }
            if part + 1 == PARTS {
                writeln!(text, "#EXTINF:0.99,\n{segment}.m4s").unwrap();
            }
        }
        if self.low_latency {
            let (segment, part) = (self.parts / PARTS + self.added, self.parts % PARTS);
            writeln!(
                text,
                "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{segment}.{part}\""
            )
            .unwrap();
        }
        text
    }

    /// Plays until the server has so many parts, each announced when it is
    /// there.
    fn play_until(&mut self, parts: u64) {
        for parts in self.parts + 1..=parts {
            self.has(parts);
            self.media();
            self.playlist().unwrap();
            self.media();
        }
    }

    fn finish(self) -> (Finished, Tally) {
        let mut tally = self.tally;
        let finished = self.player.finish(self.now, |_| None, &mut tally);
        (finished, tally)
    }
}

#[test]
fn a_player_begins_at_the_part_hold_back_and_follows_the_parts() {
    let mut scene = Scene::new(rules(), true);
    assert_eq!(scene.requests(PLAYLISTS), ["/live/s.m3u8?token=1"]);
    scene.playlist().unwrap();
    assert_eq!(
        scene.requests(PLAYLISTS),
        ["/live/s.m3u8?token=1&_HLS_msn=2&_HLS_part=1"]
    );
    // It ends at 2.31 s, so playing begins at 1.32 s: the keyframe before is at 0.99 s.
    assert_eq!(
        scene.media(),
        [
            "/live/init.mp4",
            "/live/1.0",
            "/live/1.1",
            "/live/1.2",
            "/live/2.0"
        ]
    );
    assert_eq!(
        scene.blocked.as_deref(),
        Some("/live/2.1"),
        "the hinted part"
    );
    scene.play_until(30);
    let (finished, tally) = scene.finish();
    assert_eq!(finished.health(&rules(), 1.0), Health::Healthy);
    let frames = &finished.record.frames;
    assert_eq!((frames.lost, frames.repeated, frames.corrupt), (0, 0, 0));
    assert!(frames.received > 200, "{frames:?}");
    assert_eq!(finished.record.stalls, 0);
    assert!(finished.record.low_latency);
    assert!(finished.record.oddities.is_empty(), "{finished:?}");
    let behind = tally.behind.summary().unwrap();
    assert!((behind.p50 - 990.0).abs() < 40.0, "{behind:?}");
    let latency = tally.latency.summary().unwrap();
    assert!(latency.max <= 331.0, "{latency:?}");
}

#[test]
fn a_player_without_low_latency_keeps_three_target_durations() {
    let rules = Rules {
        low_latency: false,
        ..rules()
    };
    let mut scene = Scene::new(rules.clone(), true);
    scene.low_latency = false;
    scene.has(15);
    scene.playlist().unwrap();
    assert_eq!(
        scene.media(),
        [
            "/live/init.mp4",
            "/live/1.m4s",
            "/live/2.m4s",
            "/live/3.m4s",
            "/live/4.m4s"
        ]
    );
    for parts in 16..40 {
        scene.has(parts);
        scene.requests(PLAYLISTS);
        let (now, out) = (scene.now, &mut scene.out);
        if scene.player.wakes_at().is_some_and(|at| at <= now) {
            scene.player.wake(now, out);
            assert_eq!(scene.requests(PLAYLISTS), ["/live/s.m3u8?token=1"]);
            scene.playlist().unwrap();
            scene.media();
        }
    }
    let (finished, tally) = scene.finish();
    assert_eq!(finished.health(&rules, 1.0), Health::Healthy);
    assert_eq!(finished.record.frames.lost, 0);
    let behind = tally.behind.summary().unwrap();
    assert!((behind.p50 - 3000.0).abs() < 50.0, "{behind:?}");
}

#[test]
fn a_player_that_only_counts_is_judged_by_durations() {
    let mut scene = Scene::new(rules(), false);
    scene.playlist().unwrap();
    scene.play_until(20);
    let before = scene.player.bytes();
    scene.play_until(21);
    assert!(scene.player.bytes() > before);
    assert!(scene.tally.answers > 20);
    let (finished, _) = scene.finish();
    assert!(finished.record.messages < 60, "{finished:?}");
    assert_eq!(finished.health(&rules(), 1.0), Health::Healthy);
}

#[test]
fn a_part_that_lacks_its_pictures_is_lost() {
    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    scene.media();
    scene.has(8);
    assert_eq!(scene.blocked.take().as_deref(), Some("/live/2.1"));
    // A fragment without samples.
    let empty = mp4_writer::fragment(0, INTERVAL_MS, false, &[]);
    scene.answer(MEDIA, &empty).unwrap();
    scene.playlist().unwrap();
    scene.play_until(12);
    let (finished, _) = scene.finish();
    assert_eq!(finished.record.frames.lost, u64::from(PICTURES));
    assert_eq!(finished.health(&rules(), 0.99), Health::Starved);
}

#[test]
fn a_segment_that_comes_again_is_repeated() {
    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    scene.media();
    scene.has(8);
    assert_eq!(scene.blocked.take().as_deref(), Some("/live/2.1"));
    let again = scene.part(6);
    scene.answer(MEDIA, &again).unwrap();
    let (finished, _) = scene.finish();
    assert_eq!(finished.record.frames.repeated, u64::from(PICTURES));
    assert_eq!(finished.record.video.reordered, 1);
}

#[test]
fn a_player_that_falls_out_of_the_window_begins_again_with_other_times() {
    let mut scene = Scene::new(rules(), true);
    scene.low_latency = false;
    scene.has(15);
    scene.playlist().unwrap();
    scene.media();
    // The segments are made anew, with greater numbers.
    scene.added = 100;
    scene.has(18);
    let (now, out) = (scene.now, &mut scene.out);
    scene.player.wake(now, out);
    scene.playlist().unwrap();
    assert_eq!(scene.media()[0], "/live/102.m4s", "the hold-back again");
    let (finished, _) = scene.finish();
    let record = &finished.record;
    assert_eq!(record.oddities.len(), 1, "{:?}", record.oddities);
    assert_eq!((record.video.reordered, record.audio.reordered), (0, 0));
    assert!(record.frames.repeated > 0 && record.frames.lost == 0);
}

#[test]
fn a_playlist_that_goes_backwards_ends_the_player() {
    for (parts, first, expected) in [
        (
            3,
            1,
            "it ends at segment 1, part 0, after it had ended at segment 2",
        ),
        (9, 0, "EXT-X-MEDIA-SEQUENCE 0 after 1"),
    ] {
        let mut scene = Scene::new(rules(), true);
        scene.first = 1;
        scene.low_latency = false;
        scene.playlist().unwrap();
        let at = scene.player.wakes_at().unwrap();
        scene.player.wake(at, &mut scene.out);
        (scene.parts, scene.first) = (parts, first);
        let error = scene.playlist().unwrap_err().to_string();
        let expected = if parts == 6 {
            "ends at segment 1"
        } else {
            expected
        };
        assert!(error.contains("backwards"), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_blocking_reload_that_does_not_block_ends_the_player() {
    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    let error = scene.playlist().unwrap_err().to_string();
    assert!(error.contains("blocking reload"), "{error}");
}

#[test]
fn a_content_length_that_lies_ends_the_player() {
    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    let body = mp4_writer::initialization();
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let short = [head(body.len() - 1).as_bytes(), &body].concat();
    let error = scene.send(MEDIA, &short).unwrap_err().to_string();
    assert!(error.contains("ends within a box"), "{error}");

    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    let long = [head(body.len() + 1).as_bytes(), &body].concat();
    scene.send(MEDIA, &long).unwrap();
    let (now, out) = (scene.now, &mut scene.out);
    let closed = scene.player.closed(now, MEDIA, out, &mut scene.tally);
    let error = closed.unwrap_err().to_string();
    assert!(error.contains("1 bytes of the answer"), "{error}");

    let mut scene = Scene::new(rules(), true);
    let text = scene.text();
    let text = text.as_bytes();
    let long = [head(text.len()).as_bytes(), text, b"more"].concat();
    scene.low_latency = false;
    let error = scene.send(PLAYLISTS, &long).unwrap_err().to_string();
    assert!(error.contains("no HTTP"), "{error}");
}

#[test]
fn a_buffer_that_runs_dry_is_a_stall() {
    let mut scene = Scene::new(rules(), true);
    scene.playlist().unwrap();
    scene.media();
    scene.play_until(12);
    // Three seconds without a part, of which nearly one is in the buffer.
    scene.began = scene.began + Duration::from_secs(3);
    scene.play_until(20);
    let (finished, _) = scene.finish();
    assert_eq!(finished.record.stalls, 1);
    let longest = finished.record.longest_stall.as_millis();
    assert!((2300..=2700).contains(&longest), "{longest} ms");
}

#[test]
fn a_stream_that_has_no_playlist_yet_is_asked_for_again() {
    let mut scene = Scene::new(rules(), true);
    scene.requests(PLAYLISTS);
    let none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    scene.send(PLAYLISTS, none).unwrap();
    let at = scene.player.wakes_at().unwrap();
    assert_eq!(at, scene.now + RETRY);
    scene.player.wake(at, &mut scene.out);
    assert_eq!(scene.requests(PLAYLISTS), ["/live/s.m3u8?token=1"]);
    scene.now = scene.now + Duration::from_secs(20);
    let error = scene.send(PLAYLISTS, none).unwrap_err().to_string();
    assert_eq!(error, "the playlist refused: 404 Not Found");
}

#[test]
fn a_connection_that_a_server_closes_between_answers_is_opened_again() {
    let mut scene = Scene::new(rules(), true);
    scene.requests(PLAYLISTS);
    let text = scene.text();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    );
    scene.send(PLAYLISTS, answer.as_bytes()).unwrap();
    assert!(
        scene.requests(PLAYLISTS).is_empty(),
        "it waits for the close"
    );
    let (now, out) = (scene.now, &mut scene.out);
    scene
        .player
        .closed(now, PLAYLISTS, out, &mut scene.tally)
        .unwrap();
    let again = "/live/s.m3u8?token=1&_HLS_msn=2&_HLS_part=1";
    assert_eq!(scene.requests(PLAYLISTS), [again]);
    // A new connection that brings nothing is the end.
    let (now, out) = (scene.now, &mut scene.out);
    let closed = scene.player.closed(now, PLAYLISTS, out, &mut scene.tally);
    let error = closed.unwrap_err().to_string();
    assert!(error.contains("the head of the answer"), "{error}");
}

#[test]
fn a_multivariant_playlist_leads_to_its_first_variant() {
    let mut scene = Scene::new(rules(), true);
    scene.requests(PLAYLISTS);
    let text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\ns.m3u8?hls_ctx=2\n";
    scene.answer(PLAYLISTS, text.as_bytes()).unwrap();
    assert_eq!(scene.requests(PLAYLISTS), ["/live/s.m3u8?hls_ctx=2"]);
}

proptest! {
    #[test]
    fn a_segment_with_changed_bytes_ends_the_player_at_worst(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        step in 1_usize..400,
    ) {
        let scene = Scene::new(rules(), true);
        let mut bytes = [mp4_writer::initialization(), scene.part(0)].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut demuxer = Demuxer::new(true);
        let read = bytes.chunks(step).try_for_each(|bytes| demuxer.read(bytes, &mut |_| {}));
        let _ = read.and_then(|()| demuxer.end(&mut |_| {}));
    }

    #[test]
    fn a_playlist_with_changed_words_is_read_or_refused(
        at in any::<prop::sample::Index>(),
        word in "[0-9]{1,20}|-1|x|\"|,|",
    ) {
        let mut scene = Scene::new(rules(), true);
        let text = scene.text();
        let numbers: Vec<_> = text
            .match_indices(|character: char| character.is_ascii_digit())
            .map(|(at, _)| at)
            .collect();
        let at = numbers[at.index(numbers.len())];
        let text = format!("{}{word}{}", &text[..at], &text[at + 1..]);
        let _ = scene.answer(PLAYLISTS, text.as_bytes());
    }
}
