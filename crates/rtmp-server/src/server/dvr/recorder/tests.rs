//! A recorder of a stream that somebody publishes, by made-up time.

mod day;
mod disk;
mod slate;
mod upgrade;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Message, MessageType};
use tempfile::TempDir;

use super::*;
use crate::config::{Dvr, DvrPlan};
use crate::server::dvr::recording::{Progress, Settings};
use crate::stream::{MediaMessage, Publication, Registry, StreamSettings, Wakers, lock};

const SECOND: Duration = Duration::from_secs(1);
/// Distance of pictures, ms.
const STEP: u32 = 500;
/// Pictures of a group.
const GROUP: u32 = 4;

/// A tag of a file: its kind, its timestamp, the first bytes of its payload.
type Tag = (u8, u32, [u8; 2]);

const METADATA: u8 = 18;
const VIDEO: u8 = 9;
const AUDIO: u8 = 8;
const CONFIGURATION: [u8; 2] = [0x17, 0];
const KEYFRAME: [u8; 2] = [0x17, 1];
const PICTURE: [u8; 2] = [0x27, 1];

/// A stream, its publisher, its recorder, and the files.
struct Scene {
    registry: Registry,
    stream: Arc<Stream>,
    publication: Option<Publication>,
    recorder: Recorder,
    directory: TempDir,
    told: Arc<Mutex<Vec<PathBuf>>>,
    now: Instant,
    wall: Timestamp,
}

struct TestOwner(Arc<Mutex<Vec<PathBuf>>>);

impl Owner for TestOwner {
    fn publisher(&self) -> FilePublisher {
        FilePublisher::default()
    }

    fn finished(&self, path: &Path, _: &FilePublisher) {
        lock(&self.0).push(path.to_owned());
    }

    fn forget(&self) -> bool {
        true
    }
}

fn message(message_type: MessageType, timestamp: u32, payload: &[u8]) -> Message {
    Message {
        timestamp,
        message_type,
        stream_id: 1,
        payload: payload.to_vec().into(),
    }
}

fn video(timestamp: u32, payload: &[u8]) -> Message {
    message(MessageType::VIDEO, timestamp, payload)
}

fn sound(timestamp: u32) -> Message {
    message(MessageType::AUDIO, timestamp, &[0xaf, 1, 7, 7])
}

/// What a publisher sends first; `configuration` tells one encoder from another.
fn headers(configuration: u8) -> Vec<Message> {
    let properties = vec![("width".to_owned(), Value::Number(320.0))];
    let metadata = ["onMetaData".into(), Value::EcmaArray(properties)];
    vec![
        data::message(0, 1, &metadata),
        video(0, &[0x17, 0, 0, 0, 0, configuration]),
        message(MessageType::AUDIO, 0, &[0xaf, 0, 0x11, 0x90]),
    ]
}

/// A picture and sound for each step of the times in `range`.
fn frames(range: std::ops::Range<u32>) -> Vec<Message> {
    let frame = |number: u32| {
        let head = match number.is_multiple_of(GROUP) {
            true => 0x17,
            false => 0x27,
        };
        let time = number * STEP;
        [video(time, &[head, 1, 0, 0, 0, 5]), sound(time + 20)]
    };
    range.flat_map(frame).collect()
}

impl Scene {
    fn new(change: impl FnOnce(&mut Dvr)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut config = Dvr {
            enabled: true,
            path: format!("{}/[app]/[stream].flv", directory.path().display()),
            ..Dvr::default()
        };
        change(&mut config);
        let registry = Registry::new(Wakers::new(1).unwrap(), u64::MAX, Instant::now());
        let key = StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        let now = Instant::now();
        let stream = registry.obtain(&key, &StreamSettings::of_tests(), now);
        let publication = stream.publish(now).unwrap();
        let told = Arc::<Mutex<Vec<PathBuf>>>::default();
        let (key, settings) = (stream.key().clone(), Settings::of(&config));
        let recording = Recording::new(1, key, settings, Progress::default(), Arc::default());
        let owner = Box::new(TestOwner(told.clone()));
        let recorder = Recorder::new(stream.clone(), Arc::new(recording), true, owner);
        Self {
            registry,
            stream,
            publication: Some(publication),
            recorder,
            directory,
            told,
            now,
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    /// The plan `segment` with files of this length.
    fn segments(length: Duration) -> Self {
        Self::new(|config| {
            config.plan = DvrPlan::Segment;
            config.duration = length;
        })
    }

    fn publish(&mut self, messages: Vec<Message>) {
        let messages: Vec<_> = messages.into_iter().map(MediaMessage::from).collect();
        let publication = self.publication.as_mut().unwrap();
        publication.append(&messages, self.now).unwrap();
    }

    /// Turns of the recorder, until it has nothing to do.
    fn turn(&mut self) -> Turn {
        loop {
            let turn = self.recorder.turn(self.now, self.wall);
            if turn != Turn::Busy {
                return turn;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// The publisher goes, and the recorder ends.
    fn end(&mut self) {
        self.publication = None;
        assert_eq!(self.turn(), Turn::Over);
    }

    /// The tags of each finished file.
    fn files(&self) -> Vec<Vec<Tag>> {
        let told = lock(&self.told);
        told.iter()
            .map(|path| tags(&fs::read(path).unwrap()))
            .collect()
    }

    fn progress(&self) -> Progress {
        self.recorder.recording.progress()
    }
}

/// The tags of an FLV file, which is whole.
fn tags(bytes: &[u8]) -> Vec<Tag> {
    assert_eq!(&bytes[..4], b"FLV\x01");
    let mut rest = &bytes[13..];
    let mut tags = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
        let time = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
        tags.push((rest[0], time, [rest[11], rest[12]]));
        let (tag, after) = rest.split_at(11 + length);
        let (trailer, after) = after.split_at(4);
        assert_eq!(
            u32::from_be_bytes(trailer.try_into().unwrap()) as usize,
            tag.len()
        );
        rest = after;
    }
    tags
}

/// The pictures among `tags`.
fn pictures(tags: &[Tag]) -> Vec<(u32, [u8; 2])> {
    let pictures = tags
        .iter()
        .filter(|(kind, _, head)| *kind == VIDEO && head[1] == 1);
    pictures.map(|(_, time, head)| (*time, *head)).collect()
}

fn assert_begins_as_a_file_does(tags: &[Tag]) {
    let begin = [
        (METADATA, 0, [2, 0]),
        (VIDEO, 0, CONFIGURATION),
        (AUDIO, 0, [0xaf, 0]),
        (VIDEO, 0, KEYFRAME),
    ];
    assert_eq!(tags[..4], begin);
}

#[test]
fn a_recording_begins_with_headers_and_a_keyframe_at_0() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    // Pictures before the first keyframe are nothing that can be shown, nor is their sound.
    scene.publish(frames(10..14));
    scene.turn();
    let unfinished = scene.directory.path().join("live/s.flv.tmp");
    assert_eq!(
        scene.progress().file,
        Some(unfinished.display().to_string())
    );
    assert!(unfinished.exists());
    scene.publish(frames(14..16));
    scene.end();
    let [tags] = &scene.files()[..] else {
        panic!("one file: {:?}", scene.told)
    };
    assert_begins_as_a_file_does(tags);
    let times = [
        (0, KEYFRAME),
        (500, PICTURE),
        (1_000, PICTURE),
        (1_500, PICTURE),
    ];
    assert_eq!(pictures(tags), times);
    assert_eq!(tags.last(), Some(&(AUDIO, 1_520, [0xaf, 1])));
    let bytes = fs::read(scene.directory.path().join("live/s.flv")).unwrap();
    assert_eq!(scene.progress().bytes, bytes.len() as u64);
    assert!(!unfinished.exists());
}

#[test]
fn files_of_the_plan_segment_end_before_the_first_keyframe_after_their_length() {
    let mut scene = Scene::segments(3 * SECOND);
    scene.publish(headers(1));
    for number in 0..21 {
        scene.publish(frames(number..number + 1));
        scene.turn();
    }
    scene.end();
    let files = scene.files();
    // A group takes two seconds.
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [8, 8, 5]);
    files
        .iter()
        .for_each(|tags| assert_begins_as_a_file_does(tags));
    let sounds = files
        .iter()
        .flatten()
        .filter(|(kind, _, head)| *kind == AUDIO && head[1] == 1);
    assert_eq!(sounds.count(), 21);
}

#[test]
fn files_need_not_wait_for_a_keyframe() {
    let mut scene = Scene::new(|config| {
        config.plan = DvrPlan::Segment;
        config.duration = SECOND;
        config.wait_keyframe = false;
        config.starts_at_zero = false;
    });
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    scene.end();
    let files = scene.files();
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [2, 2, 2]);
    let first = pictures(&files[0])[0].0;
    let times: Vec<_> = files.iter().flat_map(|tags| pictures(tags)).collect();
    let times: Vec<_> = times.iter().map(|(time, _)| time - first).collect();
    assert_eq!(
        times,
        [0, 500, 1_000, 1_500, 2_000, 2_500],
        "the stream's times"
    );
}

#[test]
fn sound_alone_is_recorded_and_cut_at_any_frame() {
    let mut scene = Scene::segments(SECOND);
    scene.publish(headers(1).split_off(2));
    scene.publish((0..25).map(|number| sound(number * 100)).collect());
    scene.end();
    let counts: Vec<_> = scene.files().iter().map(Vec::len).collect();
    // Each has metadata and the configuration.
    assert_eq!(counts, [12, 12, 7]);
}

#[test]
fn sound_that_comes_long_after_the_pictures_keeps_its_distance() {
    let mut scene = Scene::segments(SECOND);
    scene.publish(headers(1));
    // Sound is a second behind, as of an encoder with look-ahead.
    for number in 0..8 {
        let frames = frames(number..number + 1).swap_remove(0);
        scene.publish(vec![frames, sound(number * STEP)]);
    }
    let late = (8..14).flat_map(|number| {
        let picture = frames(number..number + 1).swap_remove(0);
        [picture, sound((number - 2) * STEP + 1)]
    });
    scene.publish(late.collect());
    scene.end();
    let files = scene.files();
    let last = files.last().unwrap();
    assert_eq!(pictures(last)[0], (999, KEYFRAME));
    let sounds: Vec<_> = last
        .iter()
        .filter(|tag| tag.2 == [0xaf, 1])
        .map(|tag| tag.1)
        .collect();
    assert_eq!(sounds, [0, 500], "none is pushed together");
}

#[test]
fn a_day_is_cut_into_files_that_follow_one_another() {
    const HOURS: u32 = 24;
    let mut scene = Scene::segments(3_600 * SECOND);
    scene.publish(headers(1));
    // A group for each two seconds of the stream.
    let groups = HOURS * 1_800;
    for group in 0..groups {
        scene.publish(vec![video(group * 2_000, &[0x17, 1, 0, 0, 0, 5])]);
        if group.is_multiple_of(10) {
            scene.turn();
        }
    }
    scene.end();
    let files = scene.files();
    assert_eq!(files.len(), HOURS as usize);
    for tags in &files {
        let times: Vec<_> = pictures(tags).iter().map(|(time, _)| *time).collect();
        let expected: Vec<_> = (0..1_800).map(|number| number * 2_000).collect();
        assert_eq!(times, expected);
    }
    assert_eq!(scene.progress().skips, 0);
}

#[test]
fn a_recorder_that_missed_the_end_of_a_publication_begins_another_file() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.turn();
    for number in 4..90 {
        scene.publish(frames(number..number + 1));
    }
    scene.publication = None;
    scene.publication = Some(scene.stream.publish(scene.now).unwrap());
    scene.publish(headers(1));
    for number in 0..90 {
        scene.publish(frames(number..number + 1));
    }
    scene.end();
    let counts: Vec<_> = scene
        .files()
        .iter()
        .map(|tags| pictures(tags).len())
        .collect();
    assert_eq!(counts, [4, 2]);
}

#[test]
fn another_configuration_of_the_video_begins_a_file_and_the_same_one_does_not() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    scene.publish(headers(1));
    scene.publish(frames(6..10));
    scene.publish(headers(2));
    scene.publish(frames(12..14));
    scene.end();
    let files = scene.files();
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [10, 2]);
    files
        .iter()
        .for_each(|tags| assert_begins_as_a_file_does(tags));
    let repeated = files[0].iter().filter(|tag| tag.2 == CONFIGURATION);
    assert_eq!(repeated.count(), 1);
}

#[test]
fn each_publication_has_files_of_its_own() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.turn();
    // The encoder is back before the recorder has looked.
    scene.publication = None;
    scene.publication = Some(scene.stream.publish(scene.now).unwrap());
    scene.publish(headers(1));
    scene.publish(frames(0..2));
    scene.end();
    let files = scene.files();
    let counts: Vec<_> = files.iter().map(|tags| pictures(tags).len()).collect();
    assert_eq!(counts, [4, 2]);
    files
        .iter()
        .for_each(|tags| assert_begins_as_a_file_does(tags));
}

#[test]
fn a_recording_that_begins_late_begins_at_the_newest_keyframe() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    let recording = scene.recorder.recording.clone();
    let owner = Box::new(TestOwner(scene.told.clone()));
    scene.recorder = Recorder::new(scene.stream.clone(), recording, false, owner);
    scene.turn();
    scene.publish(frames(6..7));
    scene.end();
    let files = scene.files();
    assert_begins_as_a_file_does(&files[0]);
    assert_eq!(pictures(&files[0]).len(), 3);
}

#[test]
fn a_recorder_that_is_too_slow_goes_on_at_a_keyframe() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.turn();
    // More than `queue_length`: the log lets go of it, and takes no more memory.
    for number in 4..90 {
        scene.publish(frames(number..number + 1));
    }
    scene.end();
    assert_eq!(scene.progress().skips, 1);
    let files = scene.files();
    let pictures = pictures(&files[0]);
    assert_eq!(pictures.len(), 6, "{pictures:?}");
    assert_eq!(pictures[4], (88 * STEP, KEYFRAME));
}

#[test]
fn a_recorder_that_is_stopped_finishes_its_file() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..2));
    scene.turn();
    scene.publish(frames(2..4));
    scene.recorder.recording.stop();
    assert_eq!(scene.turn(), Turn::Over);
    assert_eq!(pictures(&scene.files()[0]).len(), 4);
    assert!(scene.stream.is_published());
}

#[test]
fn a_stream_ends_though_it_was_recorded() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..2));
    scene.end();
    let Scene {
        registry,
        stream,
        recorder,
        ..
    } = scene;
    drop((stream, recorder));
    registry.sweep(Instant::now() + SECOND, |_| Duration::ZERO);
    assert_eq!(registry.list().len(), 0);
}
