//! A recorder goes on in another program.

use std::sync::mpsc;

use super::day::AVC;
use super::disk::on_a_full_disk;
use super::*;
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::server::dvr::recovery::{Recovered, recover};
use crate::server::dvr::threads::Threads;
use crate::stream::{RegistryPart, TakenStream};

/// What is handed over, as it is written and read again.
fn rewritten<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    Blob::of(value).unwrap().read().unwrap()
}

impl Scene {
    /// Has another program go on. As after an exec, nothing of the old one is dropped.
    fn upgrade(&mut self) {
        self.upgrade_to(|_| {}, |_| {}).unwrap();
    }

    /// The same with one that finds the parts of the streams and of the recorder as they are
    /// then.
    fn upgrade_to(
        &mut self,
        change_streams: impl FnOnce(&mut RegistryPart),
        change: impl FnOnce(&mut RecorderPart),
    ) -> Result<(), HandOverError> {
        let mut handed_over = HandedOver::default();
        let mut streams = rewritten(&self.registry.part(&mut handed_over).unwrap());
        change_streams(&mut streams);
        let publication = self.publication.take().unwrap();
        let publication_part = publication.part().unwrap();
        std::mem::forget(publication);
        let mut part = rewritten(&self.recorder.part(&mut handed_over).unwrap());
        change(&mut part);

        // SAFETY: what had them is forgotten.
        let mut inherited = unsafe { Inherited::adopt(handed_over.numbers()) };
        let registry = Registry::new(Wakers::new(1).unwrap(), u64::MAX, streams.epoch);
        let mut taken = registry.take_over(streams, |_| None, &mut inherited);
        let TakenStream {
            stream, is_new_log, ..
        } = taken.pop().unwrap();
        assert_eq!(part.stream_id(), stream.id());
        let recording = Arc::new(part.recording(&stream, Arc::default()));
        let owner = Box::new(TestOwner(self.told.clone()));
        let recorder = Recorder::take_over(
            &part,
            stream.clone(),
            is_new_log,
            recording,
            owner,
            &mut inherited,
        );
        let failure = match recorder {
            Ok(recorder) => {
                std::mem::forget(std::mem::replace(&mut self.recorder, recorder));
                Ok(())
            }
            // The old one is not to close what is closed.
            Err(error) => {
                std::mem::forget(self.recorder.file.take());
                Err(error)
            }
        };
        let publication = stream.resume_publication(&publication_part).unwrap();
        stream.end_publishers(stream.publisher_ids(), &[publication.id()]);
        self.publication = Some(publication);
        std::mem::forget(std::mem::replace(&mut self.registry, registry));
        std::mem::forget(std::mem::replace(&mut self.stream, stream));
        failure
    }

    /// The finished files, by their names.
    fn finished(&self) -> Vec<(String, Vec<u8>)> {
        let told = lock(&self.told);
        let file = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        };
        told.iter().map(file).collect()
    }
}

/// Pictures and sound that MP4 can have, too.
fn readable(range: std::ops::Range<u32>) -> Vec<Message> {
    let mut messages = frames(range);
    for picture in messages.iter_mut().step_by(2) {
        let mut payload = picture.payload.to_vec();
        payload.splice(5.., [0, 0, 0, 1, 0x65]);
        picture.payload = payload.into();
    }
    messages
}

/// Records four files, each publisher's message by itself; before each `before` is called.
fn record(extension: &str, mut before: impl FnMut(&mut Scene, usize)) -> Scene {
    let mut scene = Scene::segments(3 * SECOND);
    let settings = &scene.recorder.recording.settings;
    let settings = Settings {
        path: settings.path.replace("flv", extension),
        ..settings.clone()
    };
    let key = scene.stream.key().clone();
    let recording = Recording::new(1, key, settings, Progress::default(), Arc::default());
    let owner = Box::new(TestOwner(scene.told.clone()));
    scene.recorder = Recorder::new(scene.stream.clone(), Arc::new(recording), true, owner);
    let mut messages = headers(1);
    messages[1] = video(0, AVC);
    messages.extend(readable(0..28));
    for (number, message) in messages.into_iter().enumerate() {
        before(&mut scene, number);
        scene.publish(vec![message]);
    }
    scene.end();
    scene
}

#[test]
fn files_are_to_the_byte_those_of_one_program() {
    for extension in ["flv", "mp4"] {
        let of_one = record(extension, |scene, _| {
            scene.turn();
        });
        // Some have come that the recorder has not read; and a file is finished in between.
        let of_many = record(extension, |scene, number| {
            if number % 3 != 0 {
                scene.turn();
            }
            scene.upgrade();
        });
        let files = of_one.finished();
        assert_eq!(files.len(), 4);
        assert!(of_many.finished() == files, "{extension}");
        let [one, many] = [&of_one, &of_many].map(Scene::progress);
        assert_eq!(
            (one.bytes, one.files, one.skips, one.failures),
            (many.bytes, many.files, many.skips, many.failures)
        );
    }
}

#[test]
fn what_a_full_disk_has_not_taken_is_written_by_the_next_program() {
    let (mut scene, mut disk) = on_a_full_disk();
    scene.publish(frames(2..4));
    scene.turn();
    scene.upgrade();
    scene.turn();
    assert_eq!(scene.progress().state, RecordingState::Failing);
    scene.recorder.file.as_mut().unwrap().file.swap(&mut disk);
    // Times are written down to the microsecond or so.
    scene.wait(2 * RETRY_AFTER);
    scene.publish(frames(4..6));
    scene.end();
    let files = scene.files();
    assert_eq!(pictures(&files[0]).len(), 6, "none is missing");
    assert_eq!((scene.progress().skips, scene.progress().failures), (0, 1));
}

#[test]
fn with_logs_of_another_form_the_file_goes_on_at_a_keyframe() {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..6));
    scene.turn();
    let of_another_form = |streams: &mut RegistryPart| {
        let streams = streams.streams.iter_mut();
        streams.for_each(|it| it.of_another_layout());
    };
    scene.upgrade_to(of_another_form, |_| {}).unwrap();
    scene.turn();
    scene.publish(frames(6..10));
    scene.end();
    let files = scene.files();
    assert_eq!(files.len(), 1);
    let times: Vec<_> = pictures(&files[0]).iter().map(|it| it.0 / STEP).collect();
    assert_eq!(times, [0, 1, 2, 3, 4, 5, 8, 9]);
}

/// A recording of four pictures, with the name of its file, and the one that this will have.
fn with_a_file() -> (Scene, PathBuf, PathBuf) {
    let mut scene = Scene::new(|_| {});
    scene.publish(headers(1));
    scene.publish(frames(0..4));
    scene.turn();
    let unfinished = PathBuf::from(scene.progress().file.unwrap());
    let path = unfinished.with_extension("");
    (scene, unfinished, path)
}

#[test]
fn a_recorder_of_another_form_leaves_its_file_to_the_keeper() {
    let (mut scene, unfinished, path) = with_a_file();
    let left_alone = recover(&unfinished, &path).unwrap();
    assert_eq!(left_alone, Recovered::LeftAlone, "it is locked");
    let error = scene.upgrade_to(|_| {}, RecorderPart::of_another_layout);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("recording of layout"), "{error}");
    let recovered = recover(&unfinished, &path).unwrap();
    assert_eq!(recovered, Recovered::Finished(path.clone()));
    assert_eq!(pictures(&tags(&fs::read(&path).unwrap())).len(), 4);
}

#[test]
fn a_file_keeps_its_lock_while_the_program_changes() {
    let (mut scene, unfinished, path) = with_a_file();
    scene.upgrade();
    assert_eq!(recover(&unfinished, &path).unwrap(), Recovered::LeftAlone);
    scene.end();
    assert_eq!(scene.finished().len(), 1);
}

/// Has its recorder wait, as a disk that is slow to make a file does.
struct SlowOwner {
    owner: TestOwner,
    waits: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

impl Owner for SlowOwner {
    fn publisher(&self) -> FilePublisher {
        self.waits.send(()).unwrap();
        self.go_on.recv().unwrap();
        self.owner.publisher()
    }

    fn finished(&self, path: &Path, publisher: &FilePublisher) {
        self.owner.finished(path, publisher);
    }

    fn forget(&self) -> bool {
        self.owner.forget()
    }
}

/// A recorder whose disk is slow when the first file has begun, until `go_on` is told.
struct SlowScene {
    scene: Scene,
    /// Told when it begins to wait.
    is_waiting: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl SlowScene {
    /// It publishes four pictures.
    fn on(threads: &Threads) -> Self {
        let mut scene = Scene::new(|_| {});
        let (waits, is_waiting) = mpsc::channel();
        let (go_on, told) = mpsc::channel();
        let owner = SlowOwner {
            owner: TestOwner(scene.told.clone()),
            waits,
            go_on: told,
        };
        scene.run_on(threads, Box::new(owner));
        scene.publish(headers(1));
        scene.publish(frames(0..4));
        is_waiting.recv_timeout(netbed::TIME_LIMIT).unwrap();
        Self {
            scene,
            is_waiting,
            go_on,
        }
    }
}

impl Scene {
    /// Has a thread record the stream as well.
    fn run_on(&self, threads: &Threads, owner: Box<dyn Owner>) {
        let recording = self.recorder.recording.clone();
        let recorder = Recorder::new(self.stream.clone(), recording, true, owner);
        threads.run(recorder).unwrap();
    }
}

#[tokio::test]
async fn a_recorder_whose_disk_is_slow_is_left_out_and_goes_on() {
    let threads = Threads::default();
    let SlowScene {
        mut scene,
        go_on,
        is_waiting: _is_waiting,
    } = SlowScene::on(&threads);
    let paused = threads.pause(Duration::from_millis(50)).await;
    assert!(paused.is_late && paused.written.parts.is_empty());
    // The upgrade has failed meanwhile, or not.
    drop(paused);
    go_on.send(()).unwrap();

    let paused = threads.pause(netbed::TIME_LIMIT).await;
    assert!(!paused.is_late);
    assert_eq!(paused.written.parts.len(), 1);
    assert_eq!(paused.written.handed_over.numbers().len(), 1);
    scene.publication.take();
    drop(paused);
    netbed::wait_for("the end of the file", || !lock(&scene.told).is_empty());
    assert_eq!(pictures(&scene.files()[0]).len(), 4);
}

#[tokio::test]
async fn a_slow_disk_does_not_delay_recordings_to_another() {
    let threads = Threads::default();
    let slow = SlowScene::on(&threads);
    let mut other = Scene::new(|_| {});
    // They would share a thread, were it not for their directories.
    assert_eq!(slow.scene.stream.id(), other.stream.id());
    other.run_on(&threads, Box::new(TestOwner(other.told.clone())));
    other.publish(headers(1));
    other.publish(frames(0..4));
    other.publication.take();
    netbed::wait_for("the end of the file", || !lock(&other.told).is_empty());
    assert_eq!(pictures(&other.files()[0]).len(), 4);
    slow.go_on.send(()).unwrap();
}
