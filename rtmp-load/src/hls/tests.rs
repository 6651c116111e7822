//! A player and a scripted server, on made-up time.

mod mp4_writer;
mod scene;

use proptest::prelude::*;

use super::*;
use crate::{
    player::{EndCause, Finished, Health, Player},
    stamp::Stamp,
    stats::Tally,
};
use scene::{INTERVAL_MS, PICTURES, Scene};

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
