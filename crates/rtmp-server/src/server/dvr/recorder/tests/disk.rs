//! A disk that is full, and directories that cannot be made.

use std::fs::{self, File, OpenOptions};

use super::*;

fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A recording of two pictures whose disk is full from then on; and the file that it had, to be
/// swapped back.
pub(super) fn on_a_full_disk() -> (Scene, File) {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..2));
    scene.turn();
    let mut disk = full_disk();
    scene.recorder.file.as_mut().unwrap().file.swap(&mut disk);
    (scene, disk)
}

#[test]
fn what_a_full_disk_does_not_take_is_written_later() {
    let (mut scene, mut disk) = on_a_full_disk();
    scene.publish(frames(2..4));
    assert_eq!(scene.turn(), Turn::Idle);
    let progress = scene.progress();
    assert_eq!(
        (progress.state, progress.failures),
        (RecordingState::Failing, 1)
    );
    scene.publish(frames(4..6));
    assert_eq!(scene.turn(), Turn::Idle, "not before the time");
    assert_eq!(scene.progress().failures, 1);
    scene.recorder.file.as_mut().unwrap().file.swap(&mut disk);
    scene.wait(RETRY_AFTER);
    scene.turn();
    assert_eq!(scene.progress().state, RecordingState::Recording);
    scene.end();
    let files = scene.files();
    assert_eq!(pictures(&files[0]).len(), 6, "none is missing");
    assert_eq!(scene.progress().skips, 0);
}

#[test]
fn a_file_whose_disk_stays_full_is_finished_as_it_is() {
    let (mut scene, _disk) = on_a_full_disk();
    for number in 2..14 {
        scene.publish(frames(number..number + 1));
        scene.turn();
        scene.wait(RETRY_AFTER);
    }
    assert_eq!(scene.progress().files, 1, "it was given up");
    // The next one has room.
    scene.publish(frames(16..18));
    scene.wait(RETRY_AFTER);
    scene.end();
    let files = scene.files();
    assert_eq!(pictures(&files[0]).len(), 2);
    assert_begins_as_a_file_does(&files[1]);
}

#[test]
fn a_directory_that_cannot_be_made_costs_nothing_but_time() {
    let mut scene = Scene::new(|_| {});
    let live = scene.directory.path().join("live");
    fs::write(&live, "a file is in the way").unwrap();
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    assert_eq!(scene.turn(), Turn::Idle);
    assert_eq!(scene.progress().state, RecordingState::Failing);
    fs::remove_file(&live).unwrap();
    scene.wait(RETRY_AFTER);
    scene.end();
    assert_eq!(pictures(&scene.files()[0]).len(), 4);
}
