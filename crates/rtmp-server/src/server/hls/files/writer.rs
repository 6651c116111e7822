//! The thread that writes and removes files: a disk that is slow or full delays nobody else.
//! What it has no time for is missing on the disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;
use tokio::sync::oneshot;

use super::{EndedFilesPart, FilesPart, StreamFiles, Written};
use crate::stream::{Finished, HlsOutput, lock};

/// The most segments that wait to be written.
const MAX_QUEUED: usize = 256;
/// Files with which nobody goes on after an upgrade are there for so long, as those of an ended
/// stream are by default (`hls_dispose`).
const FORMER_STAY: Duration = Duration::from_secs(120);
/// The server's end, and its upgrade, wait for the disk so long at most.
const MAX_FLUSH: Duration = Duration::from_secs(5);

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
pub(in crate::server::hls) struct FileWriter {
    jobs: Mutex<Option<Sender<Job>>>,
    /// Segments that wait.
    queued: Arc<AtomicUsize>,
    /// The newest files of each stream, if they are to be removed at the server's end.
    newest: Mutex<HashMap<StreamKey, Arc<StreamFiles>>>,
    /// Those of streams that have ended, with the times when they are removed.
    ended: Mutex<Vec<(Instant, Arc<StreamFiles>)>>,
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
    pub(in crate::server::hls) fn register(&self, files: &Arc<StreamFiles>) {
        let former = lock(&self.newest).insert((*files.key).clone(), files.clone());
        if let Some(former) = former {
            // Only the newest gets a successor: there is none yet.
            let _ = former.successor.set(files.clone());
        }
    }

    /// Has the files of all streams removed that are to be.
    pub(in crate::server::hls) fn remove_all(&self) {
        let all: Vec<_> = lock(&self.newest).drain().map(|(_, files)| files).collect();
        all.iter()
            .filter(|files| files.is_removed_at_end)
            .for_each(|files| self.remove(files));
    }

    /// Has a segment of `output` written, then the playlist; then `told` is.
    pub(in crate::server::hls) fn write(
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
    pub(in crate::server::hls) fn write_playlist(
        &self,
        files: &Arc<StreamFiles>,
        output: &Arc<HlsOutput>,
    ) {
        self.queue(Job::End(files.clone(), output.clone()));
    }

    /// Has all files of a stream that has ended removed at `until`, by a later program if need
    /// be.
    pub(in crate::server::hls) async fn remove_at(&self, until: Instant, files: &Arc<StreamFiles>) {
        lock(&self.ended).push((until, files.clone()));
        tokio::time::sleep_until(until.into()).await;
        lock(&self.ended).retain(|(_, ended)| !Arc::ptr_eq(ended, files));
        self.remove(files);
    }

    /// The files of streams that have ended, for the program that the process becomes.
    /// Nothing may be queued.
    pub(in crate::server::hls) fn part(&self) -> Vec<EndedFilesPart> {
        let ended = lock(&self.ended);
        let parts = ended.iter().map(|(until, files)| EndedFilesPart {
            files: files.part(),
            until: *until,
        });
        parts.collect()
    }

    /// Goes on with the files of a stream that has ended; the time when they are to be removed.
    pub(in crate::server::hls) fn take_over(
        &self,
        part: EndedFilesPart,
    ) -> Option<(Instant, Arc<StreamFiles>)> {
        let files = part.files.ended()?;
        self.register(&files);
        Some((part.until, files))
    }

    /// As [`Self::take_over`], of files with which nobody goes on. Players have the time to
    /// change to those that are made anew; `None` if they stay.
    pub(in crate::server::hls) fn take_over_former(
        &self,
        part: FilesPart,
    ) -> Option<(Instant, Arc<StreamFiles>)> {
        let until = Instant::now() + FORMER_STAY;
        let files = (!part.stays).then_some(part)?;
        self.take_over(EndedFilesPart { files, until })
    }

    /// Has all files of a stream removed.
    pub(in crate::server::hls) fn remove(&self, files: &Arc<StreamFiles>) {
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
    pub(in crate::server::hls) async fn flush(&self) {
        if !self.is_flushed_within(MAX_FLUSH).await {
            log::warn!("the disk is too slow: files of HLS are left behind");
        }
    }

    /// Waits until everything that is queued has been done. Returns false after `limit`.
    pub(in crate::server::hls) async fn is_flushed_within(&self, limit: Duration) -> bool {
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
