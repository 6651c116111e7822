//! Join points of players that cannot begin at the newest keyframe.

use std::time::Duration;

use super::super::join::SOUND_FIRST_AFTER_MS;
use super::super::*;
use super::{LENGTH, index, pictures, retention};

#[test]
fn sound_that_comes_long_before_its_pictures_can_be_joined() {
    let mut index = index(60_000);
    index.announce_video(5_000);
    index.push(EntryKind::Audio, 5_000 + SOUND_FIRST_AFTER_MS, LENGTH);
    assert_eq!(index.join_offset(), None, "pictures may come yet");
    index.push(EntryKind::Audio, 5_001 + SOUND_FIRST_AFTER_MS, LENGTH);
    assert_eq!(index.join_offset(), Some(LENGTH));
}

#[test]
fn where_pictures_come_and_none_to_begin_with_sound_is_heard_at_once() {
    let mut index = index(60_000);
    index.announce_video(0);
    index.push(EntryKind::Audio, 10, LENGTH);
    assert_eq!(index.join_offset(), None);
    index.withhold_picture();
    index.push(EntryKind::Audio, 30, LENGTH);
    assert_eq!(index.join_offset(), Some(LENGTH));
    index.push(EntryKind::Unflagged, 40, LENGTH);
    index.push(EntryKind::Audio, 50, LENGTH);
    assert_eq!(index.join_offset(), Some(2 * LENGTH), "the picture");
}

#[test]
fn so_it_is_where_the_only_keyframe_is_kept_no_more() {
    let mut index = Index::new(retention(60_000, 1_000), 1);
    index.push(EntryKind::Keyframe, 0, LENGTH);
    for number in 1..=10 {
        index.push(EntryKind::Video, number * 40, LENGTH);
    }
    assert_eq!(index.join_offset(), None);
    index.push(EntryKind::Audio, 405, LENGTH);
    assert_eq!(index.join_offset(), Some(11 * LENGTH));
}

#[test]
fn an_unflagged_picture_is_for_those_who_cannot_begin_at_the_keyframe() {
    let mut index = Index::new(retention(60_000, 1_000), 1);
    index.push(EntryKind::Keyframe, 0, LENGTH);
    for number in 1..10 {
        index.push(EntryKind::Unflagged, number * 40, LENGTH);
    }
    let view = index.view(0, u64::MAX);
    assert_eq!(view.join_from(0).unwrap().offset, 0);
    assert_eq!(view.join_from(LENGTH).unwrap().offset, 9 * LENGTH);
    assert_eq!(view.newest_join(), Some(9 * LENGTH));
    index.push(EntryKind::Always, 400, LENGTH);
    let view = index.view(0, u64::MAX);
    assert_eq!(
        view.join.unwrap().offset,
        9 * LENGTH,
        "the keyframe is gone"
    );
    assert_eq!(view.later_join, None);
    index.push(EntryKind::Keyframe, 440, LENGTH);
    assert_eq!(index.join_offset(), Some(11 * LENGTH));
}

#[test]
fn so_it_is_for_all_where_the_group_since_the_keyframe_is_too_long() {
    let bounded = Retention {
        gop_cache_max_frames: 10,
        ..retention(60_000, u64::MAX)
    };
    let mut index = Index::new(bounded, 1);
    pictures(&mut index, 0..8, 100);
    index.push(EntryKind::Unflagged, 320, LENGTH);
    index.push(EntryKind::Audio, 330, LENGTH);
    assert_eq!(index.join_offset(), Some(0), "ten are allowed");
    index.push(EntryKind::Audio, 350, LENGTH);
    assert_eq!(index.join_offset(), Some(8 * LENGTH), "the later picture");
    assert!(!index.take_long_group(), "nobody is without pictures");
    // Its own group is counted from there on.
    (0..7).for_each(|number| index.push(EntryKind::Audio, 360 + number, LENGTH));
    assert_eq!(index.join_offset(), Some(8 * LENGTH));
    index.push(EntryKind::Audio, 370, LENGTH);
    assert_eq!(index.join_offset(), None);
    index.push(EntryKind::Audio, 390, LENGTH);
    assert_eq!(index.join_offset(), Some(19 * LENGTH), "sound at least");
}

#[test]
fn another_publication_leaves_nowhere_to_join() {
    let mut index = index(60_000);
    pictures(&mut index, 0..3, 3);
    index.begin_publication(false);
    let view = index.view(0, u64::MAX);
    assert_eq!((view.join, view.publication), (None, 3 * LENGTH));
    index.push(EntryKind::Audio, 130, LENGTH);
    assert_eq!(
        index.join_offset(),
        Some(3 * LENGTH),
        "without pictures yet"
    );
}

#[test]
fn data_ahead_of_the_frames_does_not_make_them_old() {
    let mut index = index(1_000);
    pictures(&mut index, 0..10, 10);
    index.push(EntryKind::Data, 12_000, LENGTH);
    index.push(EntryKind::Video, 400, LENGTH);
    let view = index.view(0, u64::MAX);
    assert_eq!((view.timestamp, view.keep_from), (400, 0));
    assert_eq!(index.first_at(380), 11 * LENGTH);
    index.remove_reader(0);
    pictures(&mut index, 50..60, 10);
    assert_eq!(index.trim(), 12 * LENGTH, "it goes with its neighbours");
}

#[test]
fn a_group_of_pictures_ends_with_its_publication() {
    let mut index = index(60_000);
    pictures(&mut index, 0..21, 10);
    assert_eq!(index.group(), Duration::from_millis(400));
    index.begin_publication(false);
    index.push(EntryKind::Keyframe, 90_000, LENGTH);
    assert_eq!(index.group(), Duration::ZERO);
}
