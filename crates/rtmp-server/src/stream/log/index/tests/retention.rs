//! The order in which groups go when memory is short.

use super::super::*;
use super::{LENGTH, retention};

/// Three groups of ten pictures, one each 40 ms; the last has eleven.
fn three_groups() -> Index {
    let mut index = Index::new(retention(10_000, u64::MAX), 1);
    for number in 0..31 {
        let first = number % 10 == 0 && number < 30;
        let kind = if first {
            EntryKind::Keyframe
        } else {
            EntryKind::Video
        };
        index.set_now(1_000 + number * 40);
        index.push(kind, number * 40, LENGTH);
    }
    index
}

#[test]
fn the_oldest_group_goes_first_and_the_newest_by_halves() {
    let mut index = three_groups();
    let mut steps = Vec::new();
    while let Some(oldest) = index.oldest_group() {
        let view = index.view(0, u64::MAX);
        let join = view.join.map(|join| join.offset / LENGTH);
        steps.push((
            view.keep_from / LENGTH,
            oldest.arrived,
            oldest.is_newest,
            join,
        ));
        index.give_up_oldest();
    }
    assert_eq!(
        steps,
        [
            (0, 1_000, false, Some(20)),
            (10, 1_400, false, Some(20)),
            (20, 1_800, true, Some(20)),
            (26, 2_040, true, None),
            (29, 2_160, true, None),
            (30, 2_200, true, None),
        ]
    );
    index.remove_reader(0);
    assert_eq!(index.trim(), index.end(), "all of it can be given back");
}

#[test]
fn a_stream_that_gave_up_its_newest_group_is_joined_at_the_next() {
    let mut index = three_groups();
    for _ in 0..3 {
        index.give_up_oldest();
    }
    assert_eq!(index.join_offset(), None);
    let offset = index.end();
    index.push(EntryKind::Keyframe, 1_240, LENGTH);
    assert_eq!(index.join_offset(), Some(offset));
}

#[test]
fn what_is_kept_counts_with_what_is_noted_about_it() {
    let mut index = three_groups();
    let noted = index.entry_bytes();
    assert!(noted >= 31 * size_of::<Entry>() as u64);
    assert_eq!(index.kept_bytes(), 31 * LENGTH + noted);
    index.give_up_oldest();
    assert_eq!(index.kept_bytes(), 21 * LENGTH + noted);
}
