//! The index: what it knows, keeps and gives back.

mod history;
mod joining;
mod retention;

use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::join::SOUND_ONLY_AFTER_MS;
use super::retention::ENTRIES_KEPT;
use super::*;

const LENGTH: u64 = 100;

fn retention(queue_length_ms: u64, max_bytes: u64) -> Retention {
    Retention {
        queue_length: Duration::from_millis(queue_length_ms),
        max_bytes,
        max_messages: usize::MAX,
        gop_cache_max_frames: 0,
    }
}

fn index(queue_length_ms: u64) -> Index {
    Index::new(retention(queue_length_ms, u64::MAX), 2)
}

/// Enters pictures every 40 ms with a keyframe each `gop` of them.
fn pictures(index: &mut Index, range: Range<u64>, gop: u64) {
    for number in range {
        let kind = if number % gop == 0 {
            EntryKind::Keyframe
        } else {
            EntryKind::Video
        };
        index.push(kind, number * 40, LENGTH);
    }
}

#[test]
fn a_player_joins_at_the_newest_keyframe_with_the_headers_of_that_place() {
    let mut index = index(10_000);
    pictures(&mut index, 0..60, 25);
    let join = index.view(0, u64::MAX).join.unwrap();
    assert_eq!((join.offset, join.timestamp), (50 * LENGTH, 2_000));
}

#[test]
fn before_the_first_keyframe_there_is_nowhere_to_join() {
    let mut index = index(10_000);
    index.push(EntryKind::Always, 0, LENGTH);
    index.push(EntryKind::Video, 0, LENGTH);
    index.push(EntryKind::Audio, 10, LENGTH);
    assert_eq!(index.view(0, u64::MAX).join, None);
}

#[test]
fn a_stream_of_sound_alone_can_be_joined_at_its_newest_frame() {
    let mut index = index(10_000);
    index.push(EntryKind::Audio, 0, LENGTH);
    index.push(EntryKind::Audio, 20, LENGTH);
    assert_eq!(index.view(0, u64::MAX).join.unwrap().offset, LENGTH);
}

#[test]
fn a_stream_whose_video_ended_becomes_one_of_sound() {
    let mut index = index(60_000);
    index.push(EntryKind::Keyframe, 0, LENGTH);
    index.push(EntryKind::Audio, SOUND_ONLY_AFTER_MS, LENGTH);
    assert_eq!(index.view(0, u64::MAX).join.unwrap().offset, 0);
    index.push(EntryKind::Audio, SOUND_ONLY_AFTER_MS + 1, LENGTH);
    assert_eq!(index.view(0, u64::MAX).join.unwrap().offset, 2 * LENGTH);
}

#[test]
fn pictures_far_behind_the_sound_are_as_new_as_the_sound() {
    let mut index = index(3_000);
    for number in 0..400 {
        index.push(EntryKind::Audio, 12_000 + number * 40, LENGTH);
        let kind = if number % 50 == 0 {
            EntryKind::Keyframe
        } else {
            EntryKind::Video
        };
        index.push(kind, number * 40, LENGTH);
    }
    let view = index.view(0, u64::MAX);
    let join = view.join.unwrap();
    assert_eq!(join.timestamp, 350 * 40, "not at some sound");
    // 3 s are 75 of each, and those of the very edge.
    assert_eq!(view.keep_from, view.end - 152 * LENGTH);
}

#[test]
fn what_lies_behind_the_queue_and_the_group_of_pictures_is_given_back() {
    let mut index = index(1_000);
    pictures(&mut index, 0..110, 50);
    // Newest 4360 ms: the queue begins at 3360 ms, picture 84; the group at 100.
    assert_eq!(index.trim(), 84 * LENGTH);
    // A long group is kept whole, though it is longer than the queue.
    pictures(&mut index, 110..149, 50);
    assert_eq!(index.trim(), 100 * LENGTH);
    assert_eq!(index.entries.len(), 49);
}

#[test]
fn nothing_is_given_back_that_a_worker_may_still_read() {
    let mut index = index(1_000);
    pictures(&mut index, 0..20, 10);
    let view = index.view(1, 300);
    assert_eq!(view.keep_from, 0);
    pictures(&mut index, 20..200, 10);
    assert_eq!(index.trim(), 0);
    let view = index.view(1, 1_234);
    assert_eq!(view.keep_from, 174 * LENGTH);
    assert_eq!(index.trim(), 1_234);
    assert_eq!(index.boundary(1_234), 1_300);
    index.remove_reader(1);
    assert_eq!(index.trim(), 174 * LENGTH);
}

#[test]
fn a_publisher_whose_clock_stands_still_cannot_fill_the_memory() {
    let mut index = Index::new(retention(10_000, 1_000), 1);
    index.push(EntryKind::Keyframe, 0, LENGTH);
    for _ in 0..100 {
        index.push(EntryKind::Video, 0, LENGTH);
    }
    let view = index.view(0, u64::MAX);
    assert_eq!(view.join, None);
    assert_eq!(view.keep_from, view.end - 1_000);
    assert_eq!(index.trim(), view.end - 1_000);
    assert_eq!(index.entries.len(), 10);
}

#[test]
fn a_publisher_whose_clock_stands_still_is_kept_for_the_queue_length_all_the_same() {
    let mut index = index(1_000);
    for number in 0..200 {
        index.set_now(5_000 + number * 40);
        let kind = if number % 10 == 0 {
            EntryKind::Keyframe
        } else {
            EntryKind::Video
        };
        index.push(kind, 0, LENGTH);
    }
    // The newest came at 12,960 ms; picture 174 a second before.
    assert_eq!(index.view(0, u64::MAX).keep_from, 174 * LENGTH);
}

#[test]
fn who_joins_is_not_sent_a_group_of_more_messages_than_allowed() {
    let bounded = Retention {
        gop_cache_max_frames: 10,
        ..retention(10_000, u64::MAX)
    };
    let mut index = Index::new(bounded, 1);
    pictures(&mut index, 0..10, 100);
    assert_eq!(index.join_offset(), Some(0), "ten are allowed");
    pictures(&mut index, 10..11, 100);
    assert_eq!(index.join_offset(), None, "eleven are not");
    pictures(&mut index, 100..110, 100);
    assert_eq!(index.join_offset(), Some(11 * LENGTH), "the next group is");
}

#[test]
fn a_publisher_of_tiny_messages_cannot_fill_the_memory() {
    let max_messages = 5_000;
    let bounded = Retention {
        max_messages,
        ..retention(10_000, u64::MAX)
    };
    let mut index = Index::new(bounded, 1);
    index.push(EntryKind::Keyframe, 0, LENGTH);
    for _ in 0..100_000 {
        index.push(EntryKind::Always, 0, 1);
        index.trim();
        assert!(index.entries.len() <= max_messages + 1);
    }
    assert_eq!(index.view(0, u64::MAX).join, None);
    index.remove_reader(0);
    // What they have taken is given back once they are history.
    pictures(&mut index, 1..1_000, 25);
    index.trim();
    assert_eq!(index.entries.len(), 251);
    assert!(index.entries.capacity() <= 4 * ENTRIES_KEPT);
}

#[test]
fn who_joins_at_sound_gets_pictures_from_a_keyframe() {
    let mut index = index(60_000);
    index.push(EntryKind::Audio, 0, LENGTH);
    let join = index.view(0, u64::MAX).join.unwrap();
    assert_eq!(join.kind, EntryKind::Audio, "its pictures may begin later");
    index.push(EntryKind::Keyframe, 40, LENGTH);
    let join = index.view(0, u64::MAX).join.unwrap();
    assert_eq!(join.kind, EntryKind::Keyframe);
    index.push(EntryKind::Audio, 41 + SOUND_ONLY_AFTER_MS, LENGTH);
    let join = index.view(0, u64::MAX).join.unwrap();
    assert_eq!((join.offset, join.kind), (2 * LENGTH, EntryKind::Audio));
}

#[test]
fn a_filter_keeps_runs_of_messages() {
    let mut index = index(10_000);
    for kind in [
        EntryKind::Keyframe,
        EntryKind::Audio,
        EntryKind::Audio,
        EntryKind::Video,
        EntryKind::Always,
    ] {
        index.push(kind, 0, LENGTH);
    }
    let end = index.end();
    let mut sound = Filter {
        audio: true,
        video: VideoFilter::None,
        ..Filter::EVERYTHING
    };
    assert_eq!(index.kept(0, end, &mut sound), 100..300);
    assert_eq!(index.kept(300, end, &mut sound), 400..500);
    assert_eq!(index.kept(500, end, &mut sound), 500..500);
    let mut everything = Filter::EVERYTHING;
    assert_eq!(index.kept(0, end, &mut everything), 0..500);
}

#[test]
fn pictures_wanted_again_begin_with_a_keyframe() {
    let mut index = index(10_000);
    for kind in [
        EntryKind::Video,
        EntryKind::Audio,
        EntryKind::Keyframe,
        EntryKind::Video,
    ] {
        index.push(kind, 0, LENGTH);
    }
    let mut filter = Filter {
        audio: true,
        video: VideoFilter::FromKeyframe,
        ..Filter::EVERYTHING
    };
    assert_eq!(index.kept(0, 400, &mut filter), 100..400);
    assert_eq!(filter, Filter::EVERYTHING);
}

#[test]
fn pictures_are_counted_by_place() {
    let mut index = index(10_000);
    for kind in [
        EntryKind::Always,
        EntryKind::Keyframe,
        EntryKind::Audio,
        EntryKind::Video,
    ] {
        index.push(kind, 0, LENGTH);
    }
    let counts = [0, 100, 200, 300, 400].map(|offset| index.pictures_before(offset));
    assert_eq!(counts, [0, 0, 1, 1, 2]);
}

proptest! {
    /// Whatever is published and however slow the workers are: what may be
    /// read is never given back, and what nobody needs is.
    #[test]
    fn holes_lie_below_everything_readable(
        messages in proptest::collection::vec((0..7u8, 0..200u64, 1..500u64), 1..300),
        looks in proptest::collection::vec((0..300usize, 0..2usize, 0..100u64), 0..40),
    ) {
        let mut index = Index::new(retention(2_000, 20_000), 2);
        let mut readable: [Option<u64>; 2] = [None, None];
        let mut time = 0;
        for (number, (kind, step, length)) in messages.into_iter().enumerate() {
            time += step;
            match kind {
                0 => index.push(EntryKind::Audio, time, length),
                1 => index.push(EntryKind::Keyframe, time, length),
                2 => index.push(EntryKind::Video, time, length),
                3 => index.push(EntryKind::Always, time, length),
                4 => index.push(EntryKind::Unflagged, time, length),
                5 => index.push(EntryKind::Data, time + 300, length),
                _ => index.begin_publication(false),
            }
            for &(_, worker, back) in looks.iter().filter(|look| look.0 == number) {
                let floor = index.trim();
                let low = floor.max(index.end().saturating_sub(back));
                let view = index.view(worker, low);
                let join = view.join_from(0).map(|join| join.offset);
                let lowest = low.min(join.unwrap_or(view.keep_from));
                readable[worker] = Some(lowest);
            }
            let released = index.trim();
            for lowest in readable.into_iter().flatten() {
                prop_assert!(released <= lowest, "released {released}, read from {lowest}");
            }
            prop_assert!(index.boundary(released) >= released);
        }
        index.remove_reader(0);
        index.remove_reader(1);
        let released = index.trim();
        prop_assert!(index.end() - released <= 20_000);
    }
}
