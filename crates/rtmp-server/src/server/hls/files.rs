//! Segments and playlists in files, for another server that serves them, say.
//!
//! One thread writes all of them: a disk that is slow or full delays nobody else. What it
//! has no time for is missing on the disk.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hls::playlist::{Found, Resource};
use hls::segmenter::Container;
use jiff::Timestamp;
use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::config::{HlsFiles, HlsKeys};
use crate::hand_over::monotonic;
use crate::server::file_names;
use crate::stream::{Finished, HlsOutput, lock};
use crate::uri::encode_path;

/// The most segments that wait to be written.
const MAX_QUEUED: usize = 256;
/// Files with which nobody goes on after an upgrade are there for so long, as those of an ended
/// stream are by default (`hls_dispose`).
const FORMER_STAY: Duration = Duration::from_secs(120);
/// The server's end, and its upgrade, wait for the disk so long at most.
const MAX_FLUSH: Duration = Duration::from_secs(5);

/// What is told of a segment that has been written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) segment: Finished,
    /// The segment's file.
    pub(super) file: String,
    /// Its URI as `hls_entry_prefix` and the playlist's directory give it.
    pub(super) url: String,
    /// The playlist's file.
    pub(super) m3u8: String,
    /// The playlist below `hls_path`.
    pub(super) m3u8_url: String,
}

/// What the thread does.
enum Job {
    /// A segment is whole.
    Segment {
        files: Arc<StreamFiles>,
        output: Arc<HlsOutput>,
        segment: Finished,
        told: Box<dyn FnOnce(Written) + Send>,
    },
    /// The stream has ended, and all of its segments have been written.
    End(Arc<StreamFiles>, Arc<HlsOutput>),
    /// All files of a stream are removed.
    Remove(Arc<StreamFiles>),
    /// Everything before has been done.
    Done(oneshot::Sender<()>),
}

/// The thread that writes files.
#[derive(Debug, Default)]
pub(super) struct FileWriter {
    jobs: Mutex<Option<Sender<Job>>>,
    /// Segments that wait.
    queued: Arc<AtomicUsize>,
    /// The newest files of each stream, if they are to be removed at the server's end.
    newest: Mutex<HashMap<StreamKey, Arc<StreamFiles>>>,
    /// Those of streams that have ended, with the times when they are removed.
    ended: Mutex<Vec<(Instant, Arc<StreamFiles>)>>,
}

/// The files of one stream.
#[derive(Debug)]
pub(super) struct StreamFiles {
    key: Arc<StreamKey>,
    config: HlsFiles,
    keys: Option<HlsKeys>,
    container: Container,
    /// The playlist's name below `hls_path`.
    playlist: String,
    names: Mutex<Names>,
    /// All segments have been written.
    has_ended: AtomicBool,
    /// The files of the next packager of the stream: it writes the playlist now.
    successor: OnceLock<Arc<StreamFiles>>,
    /// They are removed at the server's end.
    is_removed_at_end: bool,
    has_warned: AtomicBool,
}

/// Names of files below `hls_path`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Names {
    segments: BTreeMap<u64, String>,
    initializations: BTreeMap<u64, String>,
    /// Below the directory of keys.
    keys: BTreeMap<u64, String>,
}

/// The files of one stream for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct FilesPart {
    /// Absent in what earlier versions have written.
    #[serde(default)]
    key: Option<StreamKey>,
    config: HlsFiles,
    keys: Option<HlsKeys>,
    names: Names,
    /// They stay if nobody goes on with them.
    #[serde(default)]
    stays: bool,
}

/// The files of a stream that has ended, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EndedFilesPart {
    files: FilesPart,
    /// The time when they are removed.
    #[serde(with = "monotonic")]
    until: Instant,
}

impl FilesPart {
    /// The files, to which no more are added.
    fn ended(self) -> Option<Arc<StreamFiles>> {
        let key = Arc::new(self.key.clone()?);
        let (config, keys) = (self.config.clone(), self.keys.clone());
        // Nothing is named any more.
        let is_removed = !self.stays;
        let files = StreamFiles::new(key, config, keys, Container::MpegTs, is_removed);
        files.take_over(self);
        Some(Arc::new(files))
    }

    /// True if files are written like this by these settings, too.
    pub(super) fn is_of(&self, config: &HlsFiles, keys: Option<&HlsKeys>) -> bool {
        self.config == *config && self.keys.as_ref() == keys
    }
}

impl FileWriter {
    /// Queues `job`; false if there is no thread to do it.
    fn queue(&self, job: Job) -> bool {
        let mut jobs = lock(&self.jobs);
        if jobs.is_none() {
            let (sender, receiver) = channel();
            let runtime = tokio::runtime::Handle::current();
            let queued = self.queued.clone();
            let thread = std::thread::Builder::new().name("hls-files".to_owned());
            let started = thread.spawn(move || {
                let _context = runtime.enter();
                run(&receiver, &queued);
            });
            if let Err(error) = started {
                log::warn!("no thread for the files of HLS: {error}");
                return false;
            }
            *jobs = Some(sender);
        }
        jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }

    /// The files of a stream whose packager begins. They take the place of former ones.
    pub(super) fn register(&self, files: &Arc<StreamFiles>) {
        let former = lock(&self.newest).insert((*files.key).clone(), files.clone());
        if let Some(former) = former {
            // Only the newest gets a successor: there is none yet.
            let _ = former.successor.set(files.clone());
        }
    }

    /// Has the files of all streams removed that are to be.
    pub(super) fn remove_all(&self) {
        let all: Vec<_> = lock(&self.newest).drain().map(|(_, files)| files).collect();
        all.iter()
            .filter(|files| files.is_removed_at_end)
            .for_each(|files| self.remove(files));
    }

    /// Has a segment of `output` written, then the playlist; then `told` is.
    pub(super) fn write(
        &self,
        files: &Arc<StreamFiles>,
        output: &Arc<HlsOutput>,
        segment: Finished,
        told: impl FnOnce(Written) + Send + 'static,
    ) {
        let job = Job::Segment {
            files: files.clone(),
            output: output.clone(),
            segment,
            told: Box::new(told),
        };
        if self.queued.fetch_add(1, Ordering::Relaxed) >= MAX_QUEUED || !self.queue(job) {
            self.queued.fetch_sub(1, Ordering::Relaxed);
            files.miss("the disk is too slow");
        }
    }

    /// Has the playlist of `output` written, which has ended.
    pub(super) fn write_playlist(&self, files: &Arc<StreamFiles>, output: &Arc<HlsOutput>) {
        self.queue(Job::End(files.clone(), output.clone()));
    }

    /// Has all files of a stream that has ended removed at `until`, by a later program if need
    /// be.
    pub(super) async fn remove_at(&self, until: Instant, files: &Arc<StreamFiles>) {
        lock(&self.ended).push((until, files.clone()));
        tokio::time::sleep_until(until.into()).await;
        lock(&self.ended).retain(|(_, ended)| !Arc::ptr_eq(ended, files));
        self.remove(files);
    }

    /// The files of streams that have ended, for the program that the process becomes.
    /// Nothing may be queued.
    pub(super) fn part(&self) -> Vec<EndedFilesPart> {
        let ended = lock(&self.ended);
        let parts = ended.iter().map(|(until, files)| EndedFilesPart {
            files: files.part(),
            until: *until,
        });
        parts.collect()
    }

    /// Goes on with the files of a stream that has ended; the time when they are to be removed.
    pub(super) fn take_over(&self, part: EndedFilesPart) -> Option<(Instant, Arc<StreamFiles>)> {
        let files = part.files.ended()?;
        self.register(&files);
        Some((part.until, files))
    }

    /// As [`Self::take_over`], of files with which nobody goes on. Players have the time to
    /// change to those that are made anew; `None` if they stay.
    pub(super) fn take_over_former(&self, part: FilesPart) -> Option<(Instant, Arc<StreamFiles>)> {
        let until = Instant::now() + FORMER_STAY;
        let files = (!part.stays).then_some(part)?;
        self.take_over(EndedFilesPart { files, until })
    }

    /// Has all files of a stream removed.
    pub(super) fn remove(&self, files: &Arc<StreamFiles>) {
        let mut newest = lock(&self.newest);
        if newest
            .get(&files.key)
            .is_some_and(|it| Arc::ptr_eq(it, files))
        {
            newest.remove(&files.key);
        }
        drop(newest);
        self.queue(Job::Remove(files.clone()));
    }

    /// Waits until everything that is queued has been done, or the disk takes too long.
    pub(super) async fn flush(&self) {
        if !self.is_flushed_within(MAX_FLUSH).await {
            log::warn!("the disk is too slow: files of HLS are left behind");
        }
    }

    /// Waits until everything that is queued has been done. Returns false after `limit`.
    pub(super) async fn is_flushed_within(&self, limit: Duration) -> bool {
        let (sender, done) = oneshot::channel();
        let queued = match &*lock(&self.jobs) {
            Some(jobs) => jobs.send(Job::Done(sender)).is_ok(),
            None => false,
        };
        !queued || tokio::time::timeout(limit, done).await.is_ok()
    }
}

fn run(jobs: &Receiver<Job>, queued: &AtomicUsize) {
    while let Ok(first) = jobs.recv() {
        // All segments that wait, then the playlists: those name all of them.
        let mut changed: Vec<(Arc<StreamFiles>, Arc<HlsOutput>)> = Vec::new();
        let mut written = Vec::new();
        let mut done = None;
        for job in std::iter::once(first).chain(jobs.try_iter().take(MAX_QUEUED)) {
            match job {
                Job::Segment {
                    files,
                    output,
                    segment,
                    told,
                } => {
                    queued.fetch_sub(1, Ordering::Relaxed);
                    match files.write_segment(&output, &segment) {
                        Ok(segment) => written.push((segment, told)),
                        Err(error) => files.miss(&error.to_string()),
                    }
                    changed.push((files, output));
                }
                Job::End(files, output) => {
                    files.has_ended.store(true, Ordering::Relaxed);
                    changed.push((files, output));
                }
                Job::Remove(files) => {
                    changed.retain(|(others, _)| !Arc::ptr_eq(others, &files));
                    files.remove_all();
                }
                Job::Done(sender) => done = Some(sender),
            }
        }
        for (number, (files, output)) in changed.iter().enumerate() {
            let later = &changed[number + 1..];
            if later.iter().any(|(others, _)| Arc::ptr_eq(others, files)) {
                continue;
            }
            if let Err(error) = files.write_playlist(output) {
                files.miss(&error.to_string());
            }
            files.clean_up(output);
        }
        for (segment, told) in written {
            told(segment);
        }
        // An error means that nobody waits any more.
        done.map(|done| done.send(()));
    }
}

impl StreamFiles {
    /// The files of the stream `key`, whose segments are `output`.
    pub(super) fn new(
        key: Arc<StreamKey>,
        config: HlsFiles,
        keys: Option<HlsKeys>,
        container: Container,
        is_removed_at_end: bool,
    ) -> Self {
        Self {
            playlist: file_names::of_stream(&config.m3u8_file, &key),
            key,
            config,
            keys,
            container,
            names: Mutex::default(),
            has_ended: AtomicBool::new(false),
            successor: OnceLock::new(),
            is_removed_at_end,
            has_warned: AtomicBool::new(false),
        }
    }

    /// The files for the program that the process becomes. Nothing may be queued.
    pub(super) fn part(&self) -> FilesPart {
        FilesPart {
            key: Some((*self.key).clone()),
            config: self.config.clone(),
            keys: self.keys.clone(),
            names: lock(&self.names).clone(),
            stays: !self.is_removed_at_end,
        }
    }

    /// Goes on with files that this process has written before.
    pub(super) fn take_over(&self, part: FilesPart) {
        *lock(&self.names) = part.names;
    }

    /// Logs, once, that something could not be written.
    fn miss(&self, why: &str) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{}: HLS cannot be written below {}: {why}; viewers of this server are not \
                 affected",
                self.key,
                self.config.path.display()
            );
        }
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        path_below(&self.config.path, name)
    }

    /// The file of a key by its name.
    fn key_path(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.keys.as_ref().and_then(|keys| keys.path.as_ref());
        path_below(directory.unwrap_or(&self.config.path), name)
    }

    /// The name of a segment, which it keeps.
    fn name(&self, names: &mut BTreeMap<u64, String>, number: u64, duration: Duration) -> String {
        let template = match self.container {
            Container::MpegTs => &self.config.ts_file,
            Container::Fmp4 => &self.config.fmp4_file,
        };
        let name = names.entry(number).or_insert_with(|| {
            file_names::of_segment(template, &self.key, number, duration, Timestamp::now())
        });
        name.clone()
    }

    fn write_segment(&self, output: &HlsOutput, segment: &Finished) -> io::Result<Written> {
        let number = segment.number;
        // Whether or not it can be written, the playlist names it.
        let mut names = lock(&self.names);
        let name = self.name(&mut names.segments, number, segment.duration);
        drop(names);
        let path = self.path(&name)?;
        let Some(Found::Log(range)) = output.find(Resource::Segment(number)) else {
            return Err(io::Error::other("the disk is too slow"));
        };
        let bytes = output.log().copy(range)?;
        write_file(&path, &bytes, "tmp")?;
        let url = file_names::uri(&name, &self.playlist, "");
        let directory = self.playlist.rsplit_once('/').map_or("", |(it, _)| it);
        let url = match &*self.config.entry_prefix {
            "" if directory.is_empty() => url,
            "" => format!("{}/{url}", encode_path(directory)),
            prefix => file_names::uri(&name, &self.playlist, prefix),
        };
        Ok(Written {
            segment: segment.clone(),
            file: path.display().to_string(),
            url,
            m3u8: self.config.path.join(&self.playlist).display().to_string(),
            m3u8_url: encode_path(&self.playlist),
        })
    }

    /// Writes the playlist, and the initialization sections that it names.
    fn write_playlist(&self, output: &HlsOutput) -> io::Result<()> {
        if self.successor.get().is_some() {
            return Ok(());
        }
        let (names, target) = (&self.names, output.target_duration());
        let new = Mutex::new(Vec::new());
        let new_keys = Mutex::new(Vec::new());
        let newest = match self.has_ended.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => lock(names)
                .segments
                .keys()
                .next_back()
                .copied()
                .unwrap_or(0),
        };
        let text = output.media_of_files(newest, &|resource| {
            let name = match resource {
                Resource::Segment(number) => {
                    let segments = &mut lock(names).segments;
                    self.name(segments, number, target)
                }
                Resource::Initialization(version) => {
                    let template = &self.config.init_file;
                    let number = version.saturating_sub(output.first_segment());
                    let name = file_names::of_initialization(template, &self.key, number);
                    if !lock(names).initializations.contains_key(&version) {
                        lock(&new).push((version, name.clone()));
                    }
                    name
                }
                Resource::Key(number) => {
                    let Some(keys) = &self.keys else {
                        return String::new();
                    };
                    let name = file_names::of_stream(&keys.file, &self.key);
                    let name = name.replace("[seq]", &number.to_string());
                    if !lock(names).keys.contains_key(&number) {
                        lock(&new_keys).push((number, name.clone()));
                    }
                    return match &keys.url {
                        Some(url) => {
                            let name = encode_path(&name);
                            format!("{}/{name}", url.trim_end_matches('/'))
                        }
                        None => file_names::uri(&name, &self.playlist, ""),
                    };
                }
                Resource::Part { .. } => resource.name(self.container),
            };
            file_names::uri(&name, &self.playlist, &self.config.entry_prefix)
        });
        let mut written = Ok(());
        for (version, name) in lock(&new).drain(..) {
            let found = output.find(Resource::Initialization(version));
            if let Some(Found::Bytes(bytes)) = found {
                let path = self.path(&name);
                written = path.and_then(|path| write_file(&path, &bytes, "tmp"));
                if written.is_ok() {
                    lock(names).initializations.insert(version, name);
                }
            }
        }
        written?;
        for (number, name) in lock(&new_keys).drain(..) {
            if let Some(Found::Bytes(key)) = output.find(Resource::Key(number)) {
                write_file(&self.key_path(&name)?, &key, "tmp")?;
                lock(names).keys.insert(number, name);
            }
        }
        match text {
            Some(text) => write_file(&self.path(&self.playlist)?, text.as_bytes(), "temp"),
            None => Ok(()),
        }
    }

    /// Removes the files of segments that players can no longer ask this server for either.
    fn clean_up(&self, output: &HlsOutput) {
        let mut names = lock(&self.names);
        let is_gone = |number| output.find(Resource::Segment(number)).is_none();
        let gone: Vec<_> = names
            .segments
            .extract_if(.., |&number, _| is_gone(number))
            .collect();
        let is_gone = |number| output.find(Resource::Key(number)).is_none();
        let keys: Vec<_> = names
            .keys
            .extract_if(.., |&number, _| is_gone(number))
            .collect();
        drop(names);
        if self.config.cleanup {
            gone.iter().for_each(|(_, name)| self.remove(name));
            keys.iter().for_each(|(_, name)| self.remove_key(name));
        }
    }

    /// Removes all files.
    fn remove_all(&self) {
        let Names {
            segments,
            initializations,
            keys,
        } = std::mem::take(&mut *lock(&self.names));
        let names = segments.values().chain(initializations.values());
        names.for_each(|name| self.remove(name));
        keys.values().for_each(|name| self.remove_key(name));
        self.remove(&self.playlist);
    }

    /// Removes the file of a key. Another packager has none of the same name: its segments
    /// have other numbers.
    fn remove_key(&self, name: &str) {
        if let Ok(path) = self.key_path(name) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// Removes a file, unless it is another packager's now; one that is not there is as good.
    fn remove(&self, name: &str) {
        let mut successors = std::iter::successors(self.successor.get(), |it| it.successor.get());
        let is_taken = successors.any(|it| it.config.path == self.config.path && it.has(name));
        if let (Ok(path), false) = (self.path(name), is_taken) {
            let _ = std::fs::remove_file(path);
        }
    }

    /// True if one of them has this name.
    fn has(&self, name: &str) -> bool {
        let names = lock(&self.names);
        let mut others = names
            .segments
            .values()
            .chain(names.initializations.values());
        name == self.playlist || others.any(|other| other == name)
    }
}

/// The path of the file `name` below `directory`.
fn path_below(directory: &Path, name: &str) -> io::Result<PathBuf> {
    if !file_names::stays_below(name) {
        let message = format!("`{name}` is no name of a file below that directory");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(directory.join(name))
}

/// Writes a file beside its place, and renames it: readers get all of it, or nothing.
fn write_file(path: &Path, bytes: &[u8], suffix: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{suffix}"));
    let beside = PathBuf::from(beside);
    let written = std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        // A part of a file is of no use, and takes room on a disk that is full.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_over::Blob;

    fn files(path: &Path) -> Arc<StreamFiles> {
        let key = StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        };
        let config = HlsFiles {
            path: path.to_owned(),
            m3u8_file: "[stream].m3u8".to_owned(),
            ts_file: "[stream]-[seq].ts".to_owned(),
            fmp4_file: "[stream]-[seq].m4s".to_owned(),
            init_file: "[stream]-init.mp4".to_owned(),
            entry_prefix: String::new(),
            cleanup: true,
        };
        Arc::new(StreamFiles::new(
            Arc::new(key),
            config,
            None,
            Container::Fmp4,
            true,
        ))
    }

    #[test]
    fn files_that_another_packager_has_written_stay() {
        let directory = tempfile::tempdir().unwrap();
        let (former, next) = (files(directory.path()), files(directory.path()));
        let writer = FileWriter::default();
        for (files, number) in [(&former, 1), (&next, 2)] {
            writer.register(files);
            let mut names = lock(&files.names);
            let segment = format!("s-{number}.m4s");
            for name in ["s.m3u8", "s-init.mp4", &segment] {
                std::fs::write(directory.path().join(name), "").unwrap();
            }
            names
                .initializations
                .insert(number, "s-init.mp4".to_owned());
            names.segments.insert(number, segment);
        }
        former.remove_all();
        let there = |name| directory.path().join(name).exists();
        assert!(!there("s-1.m4s"));
        assert!(there("s-2.m4s") && there("s-init.mp4") && there("s.m3u8"));
        next.remove_all();
        assert!(is_empty(directory.path()));
    }

    fn is_empty(directory: &Path) -> bool {
        std::fs::read_dir(directory).unwrap().next().is_none()
    }

    /// Files of which a segment and the playlist are there.
    fn written(directory: &Path) -> Arc<StreamFiles> {
        let files = files(directory);
        for name in ["s.m3u8", "s-1.m4s"] {
            std::fs::write(directory.join(name), "").unwrap();
        }
        lock(&files.names).segments.insert(1, "s-1.m4s".to_owned());
        files
    }

    #[tokio::test]
    async fn the_next_program_removes_what_this_one_would_have_removed() {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = (FileWriter::default(), FileWriter::default());
        let files = written(directory.path());
        let until = Instant::now() + Duration::from_secs(3600);
        let dropped = tokio::time::timeout(Duration::ZERO, before.remove_at(until, &files));
        dropped.await.unwrap_err();
        let part = Blob::of(&before.part()).unwrap();
        let mut parts: Vec<EndedFilesPart> = part.read().unwrap();
        let (then, files) = after.take_over(parts.remove(0)).unwrap();
        assert!(then > Instant::now() + Duration::from_secs(3500));
        after.remove_at(Instant::now(), &files).await;
        after.flush().await;
        assert!(is_empty(directory.path()));
        assert!(after.part().is_empty());
    }

    #[tokio::test]
    async fn files_that_nobody_goes_on_with_are_removed_later_unless_they_are_to_stay() {
        let directory = tempfile::tempdir().unwrap();
        let writer = FileWriter::default();
        let part = Blob::of(&written(directory.path()).part()).unwrap();
        let part: FilesPart = part.read().unwrap();
        let staying = FilesPart {
            stays: true,
            ..part.clone()
        };
        assert!(writer.take_over_former(staying).is_none());
        let (until, files) = writer.take_over_former(part).unwrap();
        assert!(until > Instant::now() + Duration::from_secs(100));
        writer.remove_at(Instant::now(), &files).await;
        writer.flush().await;
        assert!(is_empty(directory.path()));
    }
}
