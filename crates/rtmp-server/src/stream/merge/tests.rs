use std::time::{Duration, Instant};

use proptest::prelude::*;
use rtmp_proto::wire::{Message, MessageType};

use super::*;
use crate::hand_over::Blob;

const SETTINGS: MergeSettings = MergeSettings {
    standby_after: Duration::from_millis(500),
    keyframe_timeout: Duration::from_secs(8),
};

/// Pictures of a group.
const GROUP: u32 = 8;

fn message(message_type: MessageType, timestamp: u32, payload: Vec<u8>) -> MediaMessage {
    let message = Message {
        timestamp,
        message_type,
        stream_id: 1,
        payload: payload.into(),
    };
    message.into()
}

/// The picture number `number` of the encoder `encoder`, at 25 a second.
fn picture(encoder: u8, number: u32) -> MediaMessage {
    let first = if number.is_multiple_of(GROUP) {
        0x17
    } else {
        0x27
    };
    let mut payload = vec![first, 1, 0, 0, 0, encoder];
    payload.extend(number.to_be_bytes());
    message(MessageType::VIDEO, number * 40, payload)
}

/// Silence: all of it has the same bytes.
fn sound(timestamp: u32) -> MediaMessage {
    message(MessageType::AUDIO, timestamp, vec![0xaf, 1, 0x21])
}

fn headers() -> [MediaMessage; 3] {
    [
        message(
            MessageType::DATA_AMF0,
            0,
            b"\x02\0\x0aonMetaData\x05".to_vec(),
        ),
        message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 1, 2, 3]),
        message(MessageType::AUDIO, 0, vec![0xaf, 0, 0x12, 0x10]),
    ]
}

fn cue(timestamp: u32) -> MediaMessage {
    let mut payload = b"\x02\0\x07onCuePt\x02\0\x04".to_vec();
    payload.extend(timestamp.to_be_bytes());
    message(MessageType::DATA_AMF0, timestamp, payload)
}

/// What an encoder sends: headers, then pictures from `first` up to `end`, with sound and
/// now and then a cue point.
fn sent(encoder: u8, first: u32, end: u32) -> Vec<MediaMessage> {
    let mut messages = headers().to_vec();
    for number in first..end {
        messages.push(picture(encoder, number));
        messages.push(sound(number * 40 + 3));
        if number % 5 == 2 {
            messages.push(cue(number * 40 + 4));
        }
    }
    messages
}

/// The same messages on a clock that is ahead by `ahead` ms.
fn shifted(messages: &[MediaMessage], ahead: u32) -> Vec<MediaMessage> {
    let messages = messages.iter();
    messages
        .map(|it| it.at(it.message().timestamp.wrapping_add(ahead)))
        .collect()
}

/// Two legs, and what has gone on air.
struct Bed {
    merge: Merge,
    now: Instant,
    on_air: Vec<MediaMessage>,
    taken_over: Vec<usize>,
    begun: usize,
    new_publications: usize,
    /// Legs that were found to be late.
    late: Vec<usize>,
}

impl Bed {
    fn new() -> Self {
        Self {
            merge: Merge::new(2),
            now: Instant::now(),
            on_air: Vec::new(),
            taken_over: Vec::new(),
            begun: 0,
            new_publications: 0,
            late: Vec::new(),
        }
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Begin => self.begun += 1,
                Output::NewPublication => self.new_publications += 1,
                Output::Take(message) => self.on_air.push(message),
                Output::TakeOver { leg, parts } => {
                    self.taken_over.push(leg);
                    let messages = parts.messages.into_iter();
                    self.on_air.extend(messages.map(|it| it.message));
                }
                Output::Late(leg) => self.late.push(leg),
                Output::Merged(_) | Output::Parted(_) => {}
            }
        }
    }

    fn send(&mut self, leg: usize, messages: &[MediaMessage]) {
        for message in messages {
            let mut outputs = Vec::new();
            self.merge
                .take(leg, message, self.now, &SETTINGS, &mut outputs);
            self.carry_out(outputs);
        }
    }

    /// Both legs send their next `count` pictures, 25 a second, each from its own on.
    fn run(&mut self, firsts: [u32; 2], count: u32) {
        for number in 0..count {
            self.pass(40);
            for leg in [0, 1] {
                self.send(leg, &[picture(0, firsts[leg] + number)]);
            }
        }
    }

    fn leave(&mut self, leg: usize) {
        let mut outputs = Vec::new();
        self.merge.leave(leg, self.now, &SETTINGS, &mut outputs);
        self.carry_out(outputs);
    }

    fn start_new_publication(&mut self, leg: usize) {
        let mut outputs = Vec::new();
        self.merge.start_new_publication(leg, &mut outputs);
        self.carry_out(outputs);
    }

    /// Another program goes on with it.
    fn hand_over(&mut self) {
        self.merge = Blob::of(&self.merge).unwrap().read().unwrap();
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    fn ensure_on_air(&self, expected: &[MediaMessage]) {
        let known = |messages: &[MediaMessage]| {
            let messages = messages.iter().map(MediaMessage::message);
            messages
                .map(|it| (it.message_type, it.timestamp, it.payload.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(known(&self.on_air), known(expected));
    }
}

/// Two legs that are aligned, up to the picture before `number`.
fn aligned(number: u32) -> Bed {
    let mut bed = Bed::new();
    bed.send(0, &sent(0, 0, number));
    bed.send(1, &sent(0, 0, number));
    assert!(bed.merge.is_aligned(0) && bed.merge.is_aligned(1));
    bed
}

#[test]
fn nothing_is_missed_or_repeated_when_either_leg_dies() {
    let all = sent(0, 0, 40);
    for dying in [0, 1] {
        let mut bed = aligned(20);
        let (dead, alive) = (&all[..61], &all[..57]);
        bed.send(dying, &dead[sent(0, 0, 20).len()..]);
        bed.leave(dying);
        bed.send(1 - dying, &alive[sent(0, 0, 20).len()..]);
        bed.send(1 - dying, &all[57..]);
        bed.ensure_on_air(&all);
        assert_eq!((bed.begun, bed.taken_over.len()), (1, 0));
        assert_eq!(bed.merge.leader(), Some(1 - dying));
    }
}

#[test]
fn a_leg_that_returns_is_recognised_by_the_group_that_it_begins_with() {
    let mut bed = aligned(20);
    bed.leave(0);
    bed.send(1, &sent(0, 20, 24)[3..]);
    // It has seen more meanwhile.
    bed.send(0, &sent(0, 24, 30));
    assert!(
        !bed.merge.is_aligned(0),
        "its group has not come on air yet"
    );
    bed.send(1, &sent(0, 24, 25)[3..]);
    assert!(bed.merge.is_aligned(0));
    bed.leave(1);
    bed.send(0, &sent(0, 30, 33)[3..]);
    bed.ensure_on_air(&sent(0, 0, 33));
}

#[test]
fn a_leg_whose_clock_is_another_is_put_on_the_clock_on_air() {
    let mut bed = Bed::new();
    bed.send(0, &sent(0, 0, 20));
    let ahead = u32::MAX - 300;
    bed.send(1, &shifted(&sent(0, 8, 22), ahead));
    assert!(bed.merge.is_aligned(1));
    bed.leave(0);
    bed.send(1, &shifted(&sent(0, 22, 30)[3..], ahead));
    bed.ensure_on_air(&sent(0, 0, 30));
}

#[test]
fn another_encoders_pictures_wait_until_the_first_one_ends() {
    let mut bed = Bed::new();
    for number in 0..20 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
        bed.send(1, &[picture(1, number)]);
    }
    assert!(!bed.merge.is_aligned(1));
    let first: Vec<_> = (0..20).map(|number| picture(0, number)).collect();
    bed.ensure_on_air(&first);
    bed.leave(0);
    assert_eq!(bed.taken_over, [1]);
    bed.send(1, &[picture(1, 20)]);
    let second = (16..21).map(|number| picture(1, number));
    let all: Vec<_> = first.into_iter().chain(second).collect();
    bed.ensure_on_air(&all);
}

#[test]
fn so_they_do_until_the_first_one_falls_silent_and_that_waits_then() {
    let mut bed = Bed::new();
    for number in 0..20 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
        bed.send(1, &[picture(1, number)]);
    }
    for number in 20..40 {
        bed.pass(40);
        bed.send(1, &[picture(1, number)]);
    }
    assert_eq!(bed.taken_over, [1]);
    let shown = bed.on_air.len();
    bed.send(0, &[picture(0, 20), picture(0, 21)]);
    assert_eq!(bed.on_air.len(), shown, "it is not on air any more");
    bed.leave(1);
    assert_eq!(bed.taken_over, [1], "it has no keyframe");
    bed.send(0, &[picture(0, 24)]);
    assert_eq!(bed.taken_over, [1, 0]);
}

#[test]
fn legs_of_one_picture_a_second_do_not_take_turns() {
    let mut bed = Bed::new();
    for number in 0..30 {
        // The second one is always late by 600 ms: longer than `standby_after`.
        bed.pass(400);
        bed.send(0, &[picture(0, number)]);
        bed.pass(600);
        bed.send(1, &[picture(1, number)]);
    }
    assert!(bed.taken_over.len() <= 2, "{:?}", bed.taken_over);
    let turns = bed.taken_over.len();
    for number in 30..60 {
        bed.pass(400);
        bed.send(0, &[picture(0, number)]);
        bed.pass(600);
        bed.send(1, &[picture(1, number)]);
    }
    assert_eq!(bed.taken_over.len(), turns);
}

/// The second leg is ten seconds behind the first one, and has been for four.
fn ten_seconds_apart() -> Bed {
    let mut bed = Bed::new();
    for number in 0..250 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
    }
    bed.run([250, 0], 100);
    assert!(!bed.merge.is_aligned(0) && !bed.merge.is_aligned(1));
    assert_eq!((bed.merge.leader(), &*bed.late), (Some(0), &[1][..]));
    assert_eq!(bed.on_air.len(), 350);
    bed
}

#[test]
fn a_leg_that_is_seconds_late_waits_and_takes_over_at_once_when_the_other_dies() {
    for is_handed_over in [false, true] {
        let mut bed = ten_seconds_apart();
        if is_handed_over {
            bed.hand_over();
        }
        bed.leave(0);
        assert_eq!(bed.taken_over, [1]);
        let group: Vec<_> = (96..100).map(|number| picture(0, number)).collect();
        assert_eq!(bed.on_air.len(), 350 + group.len());
        bed.send(1, &[picture(0, 100)]);
        assert_eq!(bed.on_air.len(), 350 + group.len() + 1);
    }
}

#[test]
fn so_it_does_when_the_other_is_silent() {
    let mut bed = ten_seconds_apart();
    let mut number = 100;
    while bed.taken_over.is_empty() && number < 1_000 {
        bed.pass(40);
        bed.send(1, &[picture(0, number)]);
        number += 1;
    }
    assert_eq!(number, 100 + 13, "after `standby_after`");
}

#[test]
fn a_late_leg_that_catches_up_is_merged() {
    let mut bed = ten_seconds_apart();
    let missed = (100..340).map(|number| picture(0, number));
    bed.send(1, &missed.collect::<Vec<_>>());
    assert!(bed.merge.is_aligned(1));
    bed.leave(0);
    bed.send(
        1,
        &(340..360)
            .map(|number| picture(0, number))
            .collect::<Vec<_>>(),
    );
    bed.ensure_on_air(
        &(0..360)
            .map(|number| picture(0, number))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn an_encoder_that_begins_its_file_again_at_both_origins_is_shown_at_once() {
    for first in [0, 1] {
        let mut bed = Bed::new();
        bed.run([0, 0], 175);
        let shown = bed.on_air.len();
        bed.start_new_publication(first);
        bed.send(first, &sent(0, 0, 3));
        bed.start_new_publication(1 - first);
        bed.send(1 - first, &sent(0, 0, 2));
        bed.on_air.drain(..shown);
        bed.ensure_on_air(&sent(0, 0, 3));
        assert_eq!((bed.new_publications, bed.taken_over.len()), (1, 0));
    }
}

#[test]
fn one_that_does_so_at_one_origin_waits_there() {
    let mut bed = Bed::new();
    bed.run([0, 0], 175);
    assert!(bed.merge.is_aligned(1));
    bed.start_new_publication(1);
    bed.run([175, 0], 50);
    assert!(!bed.merge.is_aligned(1));
    assert_eq!(bed.on_air.len(), 175 + 50);
    // So does the other, and ends.
    bed.start_new_publication(0);
    let mut number = 50;
    while bed.taken_over.is_empty() && number < 1_000 {
        bed.pass(40);
        bed.send(1, &[picture(0, number)]);
        number += 1;
    }
    assert_eq!(number, 50 + 13, "after `standby_after`");
}

#[test]
fn a_leg_that_stalls_for_seconds_and_catches_up_stays_merged() {
    let mut bed = aligned(20);
    for number in 20..220 {
        bed.pass(40);
        bed.send(0, &sent(0, number, number + 1)[3..]);
    }
    let missed = sent(0, 20, 220);
    let (before, after) = missed[3..].split_at(300);
    bed.send(1, before);
    bed.leave(0);
    bed.send(1, after);
    bed.send(1, &sent(0, 220, 230)[3..]);
    assert_eq!((bed.taken_over.len(), bed.late.len()), (0, 0));
    bed.ensure_on_air(&sent(0, 0, 230));
}

#[test]
fn a_leg_that_begins_with_an_old_group_is_merged_at_the_end_of_it_whatever_its_clock() {
    for ahead in [0, u32::MAX - 300] {
        for is_alone in [false, true] {
            let mut bed = Bed::new();
            for number in 0..108 {
                bed.pass(40);
                bed.send(
                    0,
                    &sent(0, number, number + 1)[if number == 0 { 0 } else { 3 }..],
                );
            }
            let group = shifted(&sent(0, 24, 108), ahead);
            let (before, after) = group.split_at(40);
            bed.send(1, before);
            assert!(!bed.merge.is_aligned(1), "it is too old");
            if is_alone {
                bed.leave(0);
            }
            bed.send(1, after);
            assert_eq!(bed.merge.is_aligned(1), !is_alone);
            bed.leave(0);
            bed.send(1, &shifted(&sent(0, 108, 112)[3..], ahead));
            bed.ensure_on_air(&sent(0, 0, 112));
            assert_eq!((bed.taken_over.len(), bed.late.len()), (0, 0));
        }
    }
}

#[test]
fn a_leg_that_falls_seconds_behind_for_good_waits() {
    let mut bed = aligned(20);
    for number in 20..140 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
    }
    bed.run([140, 20], 12);
    assert!(bed.merge.is_aligned(1), "it may catch up");
    bed.run([152, 32], 20);
    assert!(!bed.merge.is_aligned(1));
    bed.leave(0);
    assert_eq!((&*bed.taken_over, &*bed.late), (&[1][..], &[1][..]));
}

#[test]
fn one_that_does_so_as_the_other_dies_takes_over_at_its_next_group() {
    let mut bed = aligned(20);
    for number in 20..140 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
    }
    bed.leave(0);
    let mut number = 20;
    while bed.taken_over.is_empty() && number < 1_000 {
        bed.pass(40);
        bed.send(1, &[picture(0, number)]);
        number += 1;
    }
    assert!(number <= 20 + 14 + GROUP, "{number}");
}

#[test]
fn a_leg_that_parts_waits_and_is_recognised_again() {
    let mut bed = aligned(20);
    // The first one's origin goes over to another encoder, and back.
    bed.send(1, &sent(0, 20, 22)[3..]);
    bed.send(0, &[picture(9, 20), picture(9, 21)]);
    assert!(!bed.merge.is_aligned(0));
    bed.send(1, &sent(0, 22, 30)[3..]);
    bed.send(0, &sent(0, 22, 30)[3..]);
    assert!(bed.merge.is_aligned(0));
    bed.ensure_on_air(&sent(0, 0, 30));
}

#[test]
fn a_publication_that_begins_at_both_origins_begins_once() {
    let mut bed = aligned(20);
    let shown = bed.on_air.len();
    bed.start_new_publication(0);
    bed.send(0, &sent(5, 0, 3));
    bed.start_new_publication(1);
    bed.send(1, &sent(5, 0, 2));
    bed.leave(1);
    bed.send(0, &sent(5, 3, 6)[3..]);
    assert_eq!((bed.new_publications, bed.taken_over.len()), (1, 0));
    bed.on_air.drain(..shown);
    bed.ensure_on_air(&sent(5, 0, 6));
}

#[test]
fn a_publication_of_one_leg_alone_begins_at_once() {
    let mut bed = Bed::new();
    bed.send(0, &sent(0, 0, 4));
    bed.start_new_publication(0);
    bed.send(0, &sent(1, 0, 4));
    assert_eq!(bed.new_publications, 1);
    assert_eq!(bed.on_air.len(), 2 * sent(0, 0, 4).len());
}

#[test]
fn sound_alone_is_merged_by_its_times() {
    let sounds = |from: u32, end: u32| (from..end).map(|number| sound(number * 20));
    let mut bed = Bed::new();
    bed.send(0, &sounds(0, 50).collect::<Vec<_>>());
    bed.send(1, &sounds(40, 60).collect::<Vec<_>>());
    bed.leave(0);
    bed.send(1, &sounds(60, 70).collect::<Vec<_>>());
    bed.ensure_on_air(&sounds(0, 70).collect::<Vec<_>>());
}

#[test]
fn when_all_have_gone_the_next_one_begins_anew() {
    let mut bed = aligned(4);
    bed.leave(0);
    bed.leave(1);
    assert!(bed.merge.is_over());
    bed.send(1, &sent(1, 0, 2));
    assert_eq!(bed.begun, 2);
}

#[test]
fn another_program_goes_on_with_a_leg_that_waits() {
    let mut bed = Bed::new();
    for number in 0..12 {
        bed.send(0, &[picture(0, number)]);
        bed.send(1, &[picture(1, number)]);
    }
    bed.hand_over();
    bed.leave(0);
    bed.send(1, &[picture(1, 12)]);
    let first = (0..12).map(|number| picture(0, number));
    let second = (8..13).map(|number| picture(1, number));
    bed.ensure_on_air(&first.chain(second).collect::<Vec<_>>());
    assert_eq!(bed.merge.leader(), Some(1));
}

#[test]
fn that_nobody_listens_for_a_while_is_no_silence() {
    let mut bed = Bed::new();
    for number in 0..20 {
        bed.pass(40);
        bed.send(0, &[picture(0, number)]);
        bed.send(1, &[picture(1, number)]);
    }
    bed.pass(3_000);
    bed.hand_over();
    bed.merge.excuse_silence(bed.now);
    bed.send(1, &[picture(1, 20)]);
    assert_eq!(bed.taken_over, [0; 0], "the first one has not been heard");
    bed.send(0, &[picture(0, 20)]);
    let first: Vec<_> = (0..21).map(|number| picture(0, number)).collect();
    bed.ensure_on_air(&first);
}

#[test]
fn the_marks_of_a_stream_are_written_in_thirteen_bytes_each() {
    let mut bed = Bed::new();
    bed.send(0, &sent(0, 0, 4_000));
    let written = Blob::of(&bed.merge).unwrap().as_bytes().len();
    // 2,048 pictures, as many pieces of sound, and 800 cue points.
    let marks = 13 * (2 * 2_048 + 800);
    assert!((marks..marks + 2_000).contains(&written), "{written} bytes");
}

#[test]
fn the_pictures_that_a_leg_brings_first_are_counted() {
    let mut bed = aligned(8);
    bed.send(1, &[picture(0, 8), picture(0, 9)]);
    bed.send(0, &[picture(0, 8), picture(0, 9), picture(0, 10)]);
    let firsts = [0, 1].map(|leg| bed.merge.pictures_first(leg));
    assert_eq!(firsts, [8 + 1, 2]);
    assert_eq!(bed.merge.leader(), Some(0));
}

/// The first `count` pictures of a slate, whose metadata say what it is.
fn slate(count: u32) -> Vec<MediaMessage> {
    let pictures = (0..count).map(|number| picture(9, number));
    let metadata = MediaMessage::from(slate_mark::metadata(None));
    [metadata].into_iter().chain(pictures).collect()
}

#[test]
fn a_slate_waits_for_seconds_of_silence_and_gives_way_to_a_programme_at_its_keyframe() {
    let mut bed = aligned(20);
    bed.start_new_publication(0);
    bed.send(0, &slate(1));
    let mut number = 1;
    while bed.taken_over.is_empty() && number < 1_000 {
        bed.pass(40);
        bed.send(0, &[picture(9, number)]);
        number += 1;
    }
    assert_eq!(number, 1 + 75, "after three seconds");
    bed.hand_over();
    bed.send(1, &sent(0, 21, 24)[3..]);
    assert_eq!(bed.taken_over, [0], "there is no keyframe");
    bed.send(1, &[picture(0, 24)]);
    assert_eq!(bed.taken_over, [0, 1]);
    bed.send(0, &[picture(9, number)]);
    let newest = bed.on_air.last().unwrap().message();
    assert_eq!(newest.payload, picture(0, 24).message().payload);
}

#[test]
fn an_encoder_that_comes_back_at_one_of_two_origins_takes_the_place_of_the_slates() {
    for leg in [0, 1] {
        let mut bed = aligned(20);
        for leg in [0, 1] {
            bed.start_new_publication(leg);
        }
        bed.pass(3_000);
        for leg in [0, 1] {
            bed.send(leg, &slate(20));
        }
        let shown = bed.on_air.last().unwrap().message();
        assert_eq!(shown.payload[5], 9);
        bed.start_new_publication(leg);
        bed.send(leg, &sent(5, 0, 3));
        bed.send(1 - leg, &[picture(9, 20), picture(9, 21)]);
        let is_slate = |it: &&MediaMessage| it.is_picture() && it.message().payload[5] == 9;
        let after = bed.on_air.iter().rev().take_while(|it| !is_slate(it));
        let pictures = after.filter(|it| it.is_picture());
        assert_eq!(pictures.count(), 3, "and no more of a slate");
    }
}

#[test]
fn a_slate_takes_over_at_once_when_nothing_else_is_left() {
    let mut bed = aligned(20);
    bed.start_new_publication(0);
    bed.send(0, &slate(1));
    bed.leave(1);
    assert_eq!(bed.taken_over, [0]);
}

proptest! {
    /// Whatever the order in which two legs bring the same messages, and wherever each of
    /// them begins, each message goes on air once and in order, though one dies, and other
    /// programs go on with both.
    #[test]
    fn any_interleaving_gives_each_message_once_and_in_order(
        turns in proptest::collection::vec((any::<bool>(), 1_usize..40), 0..120),
        first_group in 0_u32..2,
        second_group in 0_u32..2,
        ahead in prop_oneof![Just(0), any::<u32>()],
        death in 0_usize..120,
        dying in 0_usize..2,
        handed_over in proptest::collection::vec(0_usize..120, 0..4),
    ) {
        let begin = [first_group * GROUP, second_group * GROUP];
        let all = begin.map(|begin| sent(0, begin, 200));
        let mut left = [all[0].clone(), shifted(&all[1], ahead)];
        let mut bed = Bed::new();
        // The first leg is on air before the other comes, and its first group is whole.
        let on_air: Vec<_> = left[0].drain(..3 + 2 * GROUP as usize).collect();
        bed.send(0, &on_air);
        for (turn, (second, count)) in turns.into_iter().enumerate() {
            if turn == death && bed.merge.is_aligned(dying) {
                bed.leave(dying);
                left[dying].clear();
            }
            if handed_over.contains(&turn) {
                bed.hand_over();
            }
            let leg = usize::from(second);
            let count = count.min(left[leg].len());
            let messages: Vec<_> = left[leg].drain(..count).collect();
            bed.send(leg, &messages);
        }
        for leg in [0, 1] {
            let messages = std::mem::take(&mut left[leg]);
            bed.send(leg, &messages);
        }
        prop_assert_eq!((bed.begun, bed.taken_over.len()), (1, 0));
        bed.ensure_on_air(&all[0]);
    }
}
