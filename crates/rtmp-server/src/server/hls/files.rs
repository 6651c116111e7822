//! Segments and playlists in files, for another server that serves them, say.
//!
//! One thread writes all of them: a disk that is slow or full delays nobody else. What it
//! has no time for is missing on the disk.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hls::playlist::{Found, Resource};
use hls::segmenter::Container;
use jiff::Timestamp;
use rtmp_proto::session::StreamKey;

use super::file_names;
use crate::config::HlsFiles;
use crate::stream::{Finished, HlsOutput, lock};

/// The most segments that wait to be written.
const MAX_QUEUED: usize = 256;

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
    Segment(Arc<StreamFiles>, Finished, Box<dyn FnOnce(Written) + Send>),
    /// The playlist has changed: the stream has ended.
    Playlist(Arc<StreamFiles>),
    /// All files of a stream are removed.
    Remove(Arc<StreamFiles>),
    /// Everything before has been done.
    Done(SyncSender<()>),
}

/// The thread that writes files.
#[derive(Debug, Default)]
pub(super) struct FileWriter {
    jobs: Mutex<Option<SyncSender<Job>>>,
    /// The newest files of each stream, if they are to be removed at the server's end.
    newest: Mutex<HashMap<StreamKey, Arc<StreamFiles>>>,
}

/// The files of one stream.
#[derive(Debug)]
pub(super) struct StreamFiles {
    key: Arc<StreamKey>,
    config: HlsFiles,
    output: Arc<HlsOutput>,
    /// The playlist's name below `hls_path`.
    playlist: String,
    names: Mutex<Names>,
    /// The last segment that has been written, or could not be.
    last: AtomicU64,
    /// Segments that could not be written.
    missed: AtomicU64,
    /// Another packager writes the playlist now.
    is_former: AtomicBool,
    /// They are removed at the server's end.
    is_removed_at_end: bool,
    has_warned: AtomicBool,
}

/// Names of files below `hls_path`.
#[derive(Debug, Default)]
struct Names {
    segments: BTreeMap<u64, String>,
    initializations: BTreeMap<u64, String>,
}

impl FileWriter {
    /// Queues `job`; false if there is no room.
    fn queue(&self, job: Job) -> bool {
        let mut jobs = lock(&self.jobs);
        if jobs.is_none() {
            let (sender, receiver) = sync_channel(MAX_QUEUED);
            let runtime = tokio::runtime::Handle::current();
            let thread = std::thread::Builder::new().name("hls-files".to_owned());
            let started = thread.spawn(move || {
                let _context = runtime.enter();
                run(&receiver);
            });
            if let Err(error) = started {
                log::warn!("no thread for the files of HLS: {error}");
                return false;
            }
            *jobs = Some(sender);
        }
        jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    /// The files of a stream whose packager begins. They take the place of former ones.
    pub(super) fn register(&self, files: &Arc<StreamFiles>) {
        let former = lock(&self.newest).insert((*files.key).clone(), files.clone());
        if let Some(former) = former {
            former.is_former.store(true, Ordering::Relaxed);
        }
    }

    /// Has the files of all streams removed that are to be.
    pub(super) fn remove_all(&self) {
        let all: Vec<_> = lock(&self.newest).drain().map(|(_, files)| files).collect();
        all.iter()
            .filter(|files| files.is_removed_at_end)
            .for_each(|files| self.remove(files));
    }

    /// Has a segment written, then the playlist; then `written` is told.
    pub(super) fn write(
        &self,
        files: &Arc<StreamFiles>,
        segment: Finished,
        written: impl FnOnce(Written) + Send + 'static,
    ) {
        let job = Job::Segment(files.clone(), segment, Box::new(written));
        if !self.queue(job) {
            files.miss("the disk is too slow");
        }
    }

    /// Has the playlist written.
    pub(super) fn write_playlist(&self, files: &Arc<StreamFiles>) {
        if !self.queue(Job::Playlist(files.clone())) {
            files.miss("the disk is too slow");
        }
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
        if !self.queue(Job::Remove(files.clone())) {
            files.miss("the disk is too slow");
        }
    }

    /// Waits until everything that is queued has been done.
    pub(super) async fn flush(&self) {
        let (sender, done) = sync_channel(1);
        let queued = match &*lock(&self.jobs) {
            Some(jobs) => jobs.try_send(Job::Done(sender)).is_ok(),
            None => false,
        };
        if queued {
            // An error means that the thread is gone.
            let _ = tokio::task::spawn_blocking(move || done.recv()).await;
        }
    }
}

fn run(jobs: &Receiver<Job>) {
    while let Ok(first) = jobs.recv() {
        // All segments that wait, then the playlists: those name all of them.
        let mut written = Vec::new();
        for job in std::iter::once(first).chain(jobs.try_iter().take(MAX_QUEUED)) {
            match job {
                Job::Segment(files, segment, told) => match files.write_segment(&segment) {
                    Ok(segment) => written.push((files, Some((segment, told)))),
                    Err(error) => {
                        files.miss(&error.to_string());
                        written.push((files, None));
                    }
                },
                Job::Playlist(files) => written.push((files, None)),
                Job::Remove(files) => {
                    written.retain(|(others, _)| !Arc::ptr_eq(others, &files));
                    files.remove_all();
                }
                // An error means that nobody waits any more.
                Job::Done(done) => drop(done.send(())),
            }
        }
        for (number, (files, _)) in written.iter().enumerate() {
            let later = &written[number + 1..];
            if later.iter().any(|(others, _)| Arc::ptr_eq(others, files)) {
                continue;
            }
            if let Err(error) = files.write_playlist() {
                files.miss(&error.to_string());
            }
            files.clean_up();
        }
        for (segment, told) in written.into_iter().filter_map(|(_, written)| written) {
            told(segment);
        }
    }
}

impl StreamFiles {
    /// The files of the stream `key`, whose segments are `output`.
    pub(super) fn new(
        key: Arc<StreamKey>,
        config: HlsFiles,
        output: Arc<HlsOutput>,
        is_removed_at_end: bool,
    ) -> Self {
        Self {
            playlist: file_names::of_stream(&config.m3u8_file, &key),
            key,
            config,
            output,
            names: Mutex::default(),
            last: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            is_former: AtomicBool::new(false),
            is_removed_at_end,
            has_warned: AtomicBool::new(false),
        }
    }

    /// Counts what could not be written, and logs it once.
    fn miss(&self, why: &str) {
        self.missed.fetch_add(1, Ordering::Relaxed);
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
        if !file_names::stays_below(name) {
            let message = format!("`{name}` is no name of a file below that directory");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.config.path.join(name))
    }

    /// The name of a segment, which it keeps.
    fn name(&self, names: &mut BTreeMap<u64, String>, number: u64, duration: Duration) -> String {
        let template = match self.output.container() {
            Container::MpegTs => &self.config.ts_file,
            Container::Fmp4 => &self.config.fmp4_file,
        };
        let name = names.entry(number).or_insert_with(|| {
            file_names::of_segment(template, &self.key, number, duration, Timestamp::now())
        });
        name.clone()
    }

    fn write_segment(&self, segment: &Finished) -> io::Result<Written> {
        let number = segment.number;
        self.last.store(number, Ordering::Relaxed);
        // Whether or not it can be written, the playlist names it.
        let mut names = lock(&self.names);
        let name = self.name(&mut names.segments, number, segment.duration);
        drop(names);
        let path = self.path(&name)?;
        let Some(Found::Log(range)) = self.output.find(Resource::Segment(number)) else {
            return Err(io::Error::other("the disk is too slow"));
        };
        let bytes = self.output.log().copy(range)?;
        write_file(&path, &bytes, "tmp")?;
        let url = file_names::uri(&name, &self.playlist, "");
        let directory = self.playlist.rsplit_once('/').map_or("", |(it, _)| it);
        let url = match &*self.config.entry_prefix {
            "" if directory.is_empty() => url,
            "" => format!("{directory}/{url}"),
            prefix => file_names::uri(&name, &self.playlist, prefix),
        };
        Ok(Written {
            segment: segment.clone(),
            file: path.display().to_string(),
            url,
            m3u8: self.config.path.join(&self.playlist).display().to_string(),
            m3u8_url: self.playlist.clone(),
        })
    }

    /// Writes the playlist, and the initialization sections that it names.
    fn write_playlist(&self) -> io::Result<()> {
        let (names, target) = (&self.names, self.output.target_duration());
        let new = Mutex::new(Vec::new());
        let listed = AtomicU64::new(0);
        let text = self.output.media_of_files(&|resource| {
            let name = match resource {
                Resource::Segment(number) => {
                    listed.fetch_max(number, Ordering::Relaxed);
                    let segments = &mut lock(names).segments;
                    self.name(segments, number, target)
                }
                Resource::Initialization(version) => {
                    let template = &self.config.init_file;
                    let name = file_names::of_initialization(template, &self.key, version);
                    if !lock(names).initializations.contains_key(&version) {
                        lock(&new).push((version, name.clone()));
                    }
                    name
                }
                Resource::Part { .. } => resource.name(self.output.container()),
            };
            file_names::uri(&name, &self.playlist, &self.config.entry_prefix)
        });
        let mut written = Ok(());
        for (version, name) in lock(&new).drain(..) {
            let found = self.output.find(Resource::Initialization(version));
            if let Some(Found::Bytes(bytes)) = found {
                let path = self.path(&name);
                written = path.and_then(|path| write_file(&path, &bytes, "tmp"));
                if written.is_ok() {
                    lock(names).initializations.insert(version, name);
                }
            }
        }
        written?;
        if listed.into_inner() > self.last.load(Ordering::Relaxed) {
            // That one is written next, and then the playlist.
            return Ok(());
        }
        match text {
            Some(text) => write_file(&self.path(&self.playlist)?, text.as_bytes(), "temp"),
            None => Ok(()),
        }
    }

    /// Removes the files of segments that players can no longer ask this server for either.
    fn clean_up(&self) {
        let mut names = lock(&self.names);
        let is_gone = |number| self.output.find(Resource::Segment(number)).is_none();
        let gone: Vec<_> = names
            .segments
            .extract_if(.., |&number, _| is_gone(number))
            .collect();
        drop(names);
        if self.config.cleanup {
            gone.iter().for_each(|(_, name)| self.remove(name));
        }
    }

    /// Removes all files.
    fn remove_all(&self) {
        let Names {
            segments,
            initializations,
        } = std::mem::take(&mut *lock(&self.names));
        let names = segments.values().chain(initializations.values());
        names.for_each(|name| self.remove(name));
        if !self.is_former.load(Ordering::Relaxed) {
            self.remove(&self.playlist);
        }
    }

    /// Removes a file; one that is not there is as good.
    fn remove(&self, name: &str) {
        if let Ok(path) = self.path(name) {
            let _ = std::fs::remove_file(path);
        }
    }
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
