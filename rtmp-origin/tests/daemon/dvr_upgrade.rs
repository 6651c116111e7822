//! Recordings when the origin becomes its program anew.

use std::fs;
use std::ops::Range;
use std::path::Path;

use netbed::wait_for;

use crate::peer::Peer;
use crate::upgrade::upgrade;
use crate::{Origin, read};

/// Pictures of a group.
const GROUP: u32 = 10;
/// Time from one picture to the next, ms.
const STEP_MS: u32 = 40;

/// Publishes pictures of these numbers, and waits until they have gone by.
fn send(publisher: &mut Peer, viewer: &mut Peer, numbers: Range<u32>) {
    for number in numbers {
        let is_keyframe = number.is_multiple_of(GROUP);
        let sent = publisher.send_picture(number * STEP_MS, is_keyframe, 2_000);
        sent.unwrap();
        assert_eq!(viewer.next_picture(), Some(number * STEP_MS));
    }
}

/// The times of the pictures of a finished FLV file, ms.
fn recorded(path: &Path) -> Vec<u32> {
    wait_for("a finished file", || path.exists());
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[13..];
    let mut times = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        if rest[0] == 9 {
            times.push(u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]));
        }
        rest = &rest[11 + length + 4..];
    }
    times
}

fn times_of(numbers: Range<u32>) -> Vec<u32> {
    numbers.map(|number| number * STEP_MS).collect()
}

fn files_of(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn a_recording_goes_on_in_its_file() {
    let origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        "dvr { enabled on; dvr_path dvr/[stream].flv; }",
    ]);
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    let mut viewer = Peer::play(origin.address, "livestream");
    send(&mut publisher, &mut viewer, 0..25);
    for times in 1..4 {
        upgrade(&origin, times);
        let begin = 25 * u32::try_from(times).unwrap();
        send(&mut publisher, &mut viewer, begin..begin + 25);
    }
    drop(publisher);
    let times = recorded(&origin.path("dvr/livestream.flv"));
    assert_eq!(times, times_of(0..100));
    assert_eq!(files_of(&origin.path("dvr")), 1);
    let log = read(&origin.path("origin.log"));
    assert_eq!(log.matches("recording to").count(), 1, "{log}");
}

#[test]
fn another_configuration_ends_the_file_and_begins_one_as_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("x.conf");
    let configure = |dvr: &str| {
        let text = format!("vhost __defaultVhost__ {{ min_latency on; {dvr} }}");
        fs::write(&conf, text).unwrap();
    };
    let dvr = |others: &str| configure(&format!("dvr {{ enabled on; time_jitter off; {others} }}"));
    dvr("dvr_path one/[stream].flv;");
    let origin = Origin::start(&["-c", conf.to_str().unwrap(), "--log-file", "origin.log"]);
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    let mut viewer = Peer::play(origin.address, "livestream");
    send(&mut publisher, &mut viewer, 0..25);

    // For how long files are kept is nothing that they begin anew for.
    dvr("dvr_path one/[stream].flv; dvr_keep 7d;");
    upgrade(&origin, 1);
    send(&mut publisher, &mut viewer, 25..45);
    dvr("dvr_path two/[stream].flv;");
    upgrade(&origin, 2);
    let first = recorded(&origin.path("one/livestream.flv"));
    wait_for("the second file", || files_of(&origin.path("two")) == 1);
    send(&mut publisher, &mut viewer, 45..65);
    configure("");
    upgrade(&origin, 3);
    let second = recorded(&origin.path("two/livestream.flv"));
    send(&mut publisher, &mut viewer, 65..85);

    let since_begin =
        |times: &[u32]| -> Vec<u32> { times.iter().map(|it| it - first[0]).collect() };
    assert_eq!(since_begin(&first), times_of(0..45));
    // It begins at the newest keyframe.
    assert_eq!(since_begin(&second), times_of(40..65));
    let files = ["one", "two"].map(|name| files_of(&origin.path(name)));
    assert_eq!(files, [1, 1]);
}
