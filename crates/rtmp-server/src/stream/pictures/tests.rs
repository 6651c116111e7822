//! Decisions about pictures.

use super::*;
use Picture::{InterFrame, Keyframe, Nothing};
use Verdict::{Logged, LoggedAtLast, Withheld};

const TIMEOUT: Duration = Duration::from_secs(8);

struct Encoder {
    pictures: Pictures,
    now: Instant,
}

impl Encoder {
    fn new() -> Self {
        Self {
            pictures: Pictures::new(),
            now: Instant::now(),
        }
    }

    /// Sends a picture, `seconds` after the one before.
    fn send(&mut self, seconds: u64, picture: Picture, track: u8) -> Verdict {
        self.now += Duration::from_secs(seconds);
        self.pictures.take(picture, track, self.now, TIMEOUT)
    }
}

#[test]
fn pictures_before_the_first_keyframe_go_to_nobody() {
    let mut encoder = Encoder::new();
    for picture in [Nothing, InterFrame, InterFrame, Nothing] {
        assert_eq!(encoder.send(1, picture, 0), Withheld);
    }
    assert_eq!(encoder.send(1, Keyframe, 0), Logged(EntryKind::Keyframe));
    assert_eq!(encoder.send(1, InterFrame, 0), Logged(EntryKind::Video));
    assert_eq!(encoder.send(1, Nothing, 0), Logged(EntryKind::Video));
}

#[test]
fn a_stream_without_keyframes_is_complained_of_once_and_shown() {
    let mut encoder = Encoder::new();
    assert_eq!(encoder.send(1, InterFrame, 0), Withheld);
    assert_eq!(encoder.send(7, InterFrame, 0), Withheld);
    let waited = LoggedAtLast(EntryKind::Unflagged, TIMEOUT);
    assert_eq!(encoder.send(1, InterFrame, 0), waited);
    assert_eq!(encoder.send(1, InterFrame, 0), Logged(EntryKind::Unflagged));
    assert_eq!(encoder.send(60, Keyframe, 0), Logged(EntryKind::Keyframe));
    assert_eq!(encoder.send(29, InterFrame, 0), Logged(EntryKind::Video));
    assert_eq!(encoder.send(1, InterFrame, 0), Logged(EntryKind::Unflagged));
}

#[test]
fn so_is_one_that_had_a_single_keyframe_long_ago() {
    let mut encoder = Encoder::new();
    encoder.send(0, Keyframe, 0);
    assert_eq!(encoder.send(29, InterFrame, 0), Logged(EntryKind::Video));
    let waited = LoggedAtLast(EntryKind::Unflagged, MAX_GROUP);
    assert_eq!(encoder.send(1, InterFrame, 0), waited);
    assert_eq!(encoder.send(1, InterFrame, 0), Logged(EntryKind::Unflagged));
}

#[test]
fn without_patience_a_picture_is_shown_at_once() {
    let mut pictures = Pictures::new();
    let shown = pictures.take(InterFrame, 0, Instant::now(), Duration::ZERO);
    assert_eq!(shown, Logged(EntryKind::Unflagged));
}

#[test]
fn groups_begin_at_the_keyframes_of_the_lowest_track() {
    let mut encoder = Encoder::new();
    assert_eq!(encoder.send(0, Keyframe, 2), Logged(EntryKind::Keyframe));
    assert_eq!(encoder.send(0, Keyframe, 3), Logged(EntryKind::Video));
    assert_eq!(encoder.send(0, InterFrame, 2), Logged(EntryKind::Video));
    assert_eq!(encoder.send(0, Keyframe, 1), Logged(EntryKind::Keyframe));
    assert_eq!(encoder.send(1, Keyframe, 2), Logged(EntryKind::Video));
    // Track 1 is sent no more.
    assert_eq!(encoder.send(9, Keyframe, 2), Logged(EntryKind::Keyframe));
}
