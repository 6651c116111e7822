//! A slate is on air while nobody publishes.

use super::*;
use crate::stream::{Candidate, Rank};

impl Scene {
    /// Another publisher comes.
    fn come(&self, rank: Rank) -> Option<Publication> {
        let candidate = Candidate { rank, client: None };
        Some(self.stream.publish_as(candidate, self.now).unwrap())
    }
}

/// An encoder whose configuration is `configuration` comes while a slate is on air whose
/// configuration is 1, or `before` it, and has sent nothing until then. `from_now`: its
/// recorder begins with it, not some time later.
fn assert_records_no_slate(configuration: u8, from_now: bool, before: bool) {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.end();
    let early = before.then(|| scene.come(Rank::Primary)).flatten();
    scene.publication = scene.come(Rank::Slate);
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    let encoder = early.or_else(|| scene.come(Rank::Primary));
    let recording = scene.recorder.recording.clone();
    let owner = Box::new(TestOwner(scene.told.clone()));
    scene.recorder = Recorder::new(scene.stream.clone(), recording, from_now, owner);
    // The encoder has sent nothing yet.
    scene.publish(frames(6..10));
    assert_eq!(scene.turn(), Turn::Idle);
    scene.publish(frames(10..13));
    assert_eq!(scene.turn(), Turn::Idle);
    assert_eq!(scene.progress().file, None);
    let slate = std::mem::replace(&mut scene.publication, encoder);
    scene.publish(headers(configuration));
    scene.publish(frames(8..11));
    drop(slate);
    scene.end();
    let files = scene.files();
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [4, 3], "{configuration} {from_now} {before}");
    assert_begins_as_a_file_does(&files[1]);
}

#[test]
fn a_slate_is_in_no_recording() {
    for configuration in [1, 2] {
        for from_now in [true, false] {
            assert_records_no_slate(configuration, from_now, false);
            assert_records_no_slate(configuration, from_now, true);
        }
    }
}

#[test]
fn a_recorder_that_is_behind_leaves_a_slate_out() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.publication = None;
    scene.publication = scene.come(Rank::Slate);
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    scene.end();
    let files = scene.files();
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [4]);
}
