//! One stream's recorder: copies tags of the stream's log into files.

mod part;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::file::RecordFile;
use super::format::Format;
use super::owner::{FilePublisher, Owner};
use super::recording::{Recording, RecordingState};
use crate::stream::{Cutter, LogTag, Stream, TagRead, TagReader, Verdict};
pub(in crate::server) use part::RecorderPart;

/// The most bytes that are read and written at once, but for a longer tag.
const MAX_READ_BYTES: u64 = 256 * 1024;
/// Bytes of the buffer that are kept between two turns.
const MAX_UNWRITTEN_KEPT: usize = 64 * 1024;
/// The most reads of one turn: the other recorders of the thread wait.
const MAX_READS: usize = 32;
/// What cannot be written is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A file that cannot be written for so long is finished as it is: its disk may be gone.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// What a turn of a recorder has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more to copy at once.
    Busy,
    /// All that has come is in the file, or has to wait.
    Idle,
    /// Nobody publishes any more, or it was told to stop: its last file is finished.
    Over,
}

/// A time in which files cannot be written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Outage {
    #[serde(with = "crate::hand_over::monotonic")]
    since: Instant,
    #[serde(with = "crate::hand_over::monotonic")]
    retry_at: Instant,
}

/// A file that is written, and who published when it began.
struct OpenFile {
    file: RecordFile,
    format: Format,
    publisher: FilePublisher,
}

/// Copies a stream into files.
///
/// What cannot be written waits in the stream's log, which lets go of it as for any player
/// that is too slow: then the recorder goes on at a keyframe.
pub(super) struct Recorder {
    stream: Arc<Stream>,
    recording: Arc<Recording>,
    reader: Option<TagReader>,
    cutter: Cutter,
    file: Option<OpenFile>,
    /// Tags for the file that are not written yet.
    unwritten: Vec<u8>,
    outage: Option<Outage>,
    /// The time of the present turn, for the names of files.
    wall: Timestamp,
    now: Instant,
    owner: Box<dyn Owner>,
}

impl Recorder {
    /// A recorder of `stream`. `from_now`: its publication begins with what comes next.
    pub(super) fn new(
        stream: Arc<Stream>,
        recording: Arc<Recording>,
        from_now: bool,
        owner: Box<dyn Owner>,
    ) -> Self {
        let cutter = Cutter::new(recording.settings.plan);
        let reader = TagReader::new(&stream, from_now);
        let mut recorder = Self {
            stream,
            recording,
            reader: None,
            cutter,
            file: None,
            unwritten: Vec::new(),
            outage: None,
            wall: Timestamp::UNIX_EPOCH,
            now: Instant::now(),
            owner,
        };
        match reader {
            Ok(reader) => recorder.reader = Some(reader),
            Err(error) => {
                recorder.fail(&error, Instant::now());
            }
        }
        recorder
    }

    /// The stream that it records.
    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Returns true if it may go now that a turn is [`Turn::Over`].
    pub(super) fn forget(&self) -> bool {
        self.owner.forget()
    }

    /// How it does.
    pub(super) fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// Copies what has come. `now` and `wall` are the present time.
    pub(super) fn turn(&mut self, now: Instant, wall: Timestamp) -> Turn {
        (self.now, self.wall) = (now, wall);
        // Before the log is read: what the publisher sent last is in it then.
        let is_over = self.recording.is_stopped() || !self.stream.has_encoder();
        if let Some(outage) = self.outage
            && now < outage.retry_at
            && !self.recording.is_stopped()
        {
            return Turn::Idle;
        }
        let mut progress = Ok(true);
        for _ in 0..MAX_READS {
            progress = self.step();
            if !matches!(progress, Ok(true)) {
                break;
            }
        }
        self.report();
        match progress {
            Ok(true) => Turn::Busy,
            Ok(false) if is_over => {
                self.finish_file();
                self.report();
                Turn::Over
            }
            Ok(false) => Turn::Idle,
            Err(error) => {
                let given_up = self.fail(&error, now);
                if self.recording.is_stopped() || (is_over && given_up) {
                    self.give_file_up();
                    self.report();
                    return Turn::Over;
                }
                Turn::Idle
            }
        }
    }

    /// Copies the next tags; false if there are none.
    fn step(&mut self) -> io::Result<bool> {
        self.flush()?;
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(TagReader::new(&self.stream, false)?),
        };
        match reader.read(MAX_READ_BYTES)? {
            TagRead::Nothing => return Ok(false),
            TagRead::Tags(tags) => self.take(&tags)?,
            TagRead::Publication => {
                self.finish_file();
                self.cutter.begin_publication();
            }
            TagRead::Join(headers) => {
                if headers
                    .iter()
                    .any(|tag| self.cutter.judge(tag) == Verdict::End)
                {
                    self.finish_file();
                }
                for tag in &headers {
                    self.take_tag(tag)?;
                }
                self.cutter.note_gap();
            }
            TagRead::Lost => self.count_skip(),
            TagRead::Abandoned => {
                self.reader = None;
                self.finish_file();
                self.count_skip();
            }
        }
        Ok(true)
    }

    /// Copies `tags`, which the log has one after the other.
    fn take(&mut self, tags: &[LogTag]) -> io::Result<()> {
        for tag in tags {
            self.take_tag(tag)?;
            if let Some(reader) = &mut self.reader {
                reader.advance(tag);
            }
        }
        self.flush()
    }

    fn take_tag(&mut self, tag: &LogTag) -> io::Result<()> {
        let verdict = self.cutter.judge(tag);
        match verdict {
            Verdict::Discard => self.cutter.note(tag, verdict),
            Verdict::Append => {
                self.cutter.note(tag, verdict);
                self.append(tag, false);
            }
            Verdict::End => {
                self.flush()?;
                self.finish_file();
                self.cutter.note(tag, verdict);
            }
            Verdict::Begin => {
                self.flush()?;
                self.finish_file_before(tag);
                self.begin_file().inspect_err(|_| {
                    self.cutter.end_file();
                })?;
                self.append(tag, true);
            }
        }
        Ok(())
    }

    /// Appends `tag`, with its time in the file, to what is to be written; it `is_first` of the
    /// file.
    fn append(&mut self, tag: &LogTag, is_first: bool) {
        let Some(file) = &mut self.file else {
            return;
        };
        let format = &mut file.format;
        format.append(tag, &self.cutter, is_first, &mut self.unwritten);
        if let Format::Mp4(mp4) = format {
            for left_out in mp4.take_left_out() {
                log::warn!(
                    "{}: not in the MP4 recording: {left_out}",
                    self.stream.key()
                );
            }
        }
    }

    /// Writes what is to be written.
    fn flush(&mut self) -> io::Result<()> {
        let Some(OpenFile { file, .. }) = &mut self.file else {
            self.unwritten.clear();
            return Ok(());
        };
        if self.unwritten.is_empty() {
            return self.begin_next_file();
        }
        file.append(&self.unwritten)?;
        self.count_bytes(self.unwritten.len());
        self.unwritten.clear();
        self.unwritten.shrink_to(MAX_UNWRITTEN_KEPT);
        self.recover();
        self.begin_next_file()
    }

    /// Begins the file that takes the place of the present one, if one is to.
    fn begin_next_file(&mut self) -> io::Result<()> {
        let Some(beginning) = self.file.as_ref().and_then(|it| it.format.next_file()) else {
            return Ok(());
        };
        let key = self.stream.key();
        let path = &self.recording.settings.path;
        let publisher = self.owner.publisher();
        let mut file = RecordFile::create(path, key, self.came(), &[])?;
        if let Err(error) = file.append(beginning) {
            file.remove();
            return Err(error);
        }
        log::info!("{key}: recording to {}", file.unfinished().display());
        self.count_bytes(beginning.len());
        if let Some(mut former) = self.file.take() {
            let duration = self.cutter.duration();
            self.close(former.file, &former.format, duration, &former.publisher);
            former.format.begin_next_file();
            self.file = Some(OpenFile {
                file,
                format: former.format,
                publisher,
            });
        }
        Ok(())
    }

    /// The time at which what comes next came to the server: a disk may have let it wait.
    fn came(&self) -> Timestamp {
        let reader = self.reader.as_ref();
        let ms = reader.map_or(0, |it| it.came_ms(&self.stream, self.now));
        // One beyond jiff's calendar cannot be.
        self.wall
            .checked_add(SignedDuration::from_millis(ms))
            .unwrap_or(self.wall)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let settings = &self.recording.settings;
        let (format, beginning) =
            Format::begin(settings.format(), self.stream.media(), &self.cutter);
        let key = self.stream.key();
        // Before the file is there: whoever sees it may end the publisher.
        let publisher = self.owner.publisher();
        let file = RecordFile::create(&settings.path, key, self.came(), &beginning)?;
        log::info!("{key}: recording to {}", file.unfinished().display());
        self.count_bytes(beginning.len());
        self.file = Some(OpenFile {
            file,
            format,
            publisher,
        });
        Ok(())
    }

    /// Finishes the present file, all of which is written, as the next begins with `tag`.
    fn finish_file_before(&mut self, tag: &LogTag) {
        let duration = self.cutter.duration();
        self.finish_file_of(duration);
        self.cutter.note(tag, Verdict::Begin);
    }

    /// Finishes the present file, all of which is written.
    fn finish_file(&mut self) {
        let duration = self.cutter.duration();
        self.cutter.end_file();
        self.finish_file_of(duration);
    }

    fn finish_file_of(&mut self, duration: Duration) {
        let Some(mut file) = self.file.take() else {
            return;
        };
        let mut rest = Vec::new();
        file.format.finish(&mut rest);
        match file.file.append(&rest) {
            Ok(()) => self.count_bytes(rest.len()),
            Err(error) => {
                self.count_failure();
                let name = file.file.unfinished().display();
                log::warn!("{}: the end of {name} is lost: {error}", self.stream.key());
            }
        }
        self.close(file.file, &file.format, duration, &file.publisher);
    }

    /// Finishes `file`, all of which is written.
    fn close(
        &mut self,
        file: RecordFile,
        format: &Format,
        duration: Duration,
        publisher: &FilePublisher,
    ) {
        let key = self.stream.key();
        let (unfinished, bytes) = (file.unfinished().to_owned(), file.length());
        if !file.has_media() {
            file.remove();
            return;
        }
        let patches = format.patches(duration, bytes);
        match file.finish(&patches) {
            Ok(path) => {
                let seconds = duration.as_secs_f64();
                let name = path.display();
                log::info!("{key}: recorded {name}: {seconds:.1} s, {bytes} bytes");
                self.recording.totals.files.fetch_add(1, Ordering::Relaxed);
                self.recording.update(|progress| progress.files += 1);
                self.owner.finished(&path, publisher);
            }
            Err(error) => {
                self.count_failure();
                let name = unfinished.display();
                log::warn!("{key}: the recording {name} keeps this name: {error}");
            }
        }
    }

    /// Finishes the present file without what could not be written.
    fn give_file_up(&mut self) {
        self.unwritten.clear();
        let duration = self.cutter.duration();
        self.cutter.end_file();
        if let Some(OpenFile {
            file,
            format,
            publisher,
        }) = self.file.take()
        {
            self.close(file, &format, duration, &publisher);
        }
    }

    /// Notes that a file cannot be written; true if that has been so for long, and the
    /// present one is given up.
    fn fail(&mut self, error: &io::Error, now: Instant) -> bool {
        self.count_failure();
        let key = self.stream.key();
        let since = self.outage.map_or(now, |outage| outage.since);
        if self.outage.is_none() {
            let path = &self.recording.settings.path;
            log::warn!(
                "{key}: the recording ({path}) stands still: {error}; tried again every \
                 {RETRY_AFTER:?}, viewers are not affected"
            );
        }
        self.outage = Some(Outage {
            since,
            retry_at: now + RETRY_AFTER,
        });
        self.recording
            .update(|progress| progress.state = RecordingState::Failing);
        let given_up = now.saturating_duration_since(since) >= GIVE_UP_AFTER;
        if given_up && self.file.is_some() {
            self.count_skip();
            self.give_file_up();
        }
        given_up
    }

    /// Something has been written.
    fn recover(&mut self) {
        if let Some(outage) = self.outage.take() {
            let key = self.stream.key();
            let seconds = outage.since.elapsed().as_secs_f64();
            log::info!("{key}: the recording goes on after {seconds:.1} s");
        }
    }

    fn report(&self) {
        let file = self.file.as_ref().map(|it| &it.file);
        let name = file.map(|file| file.unfinished().display().to_string());
        let state = match (self.outage, file) {
            (Some(_), _) => RecordingState::Failing,
            (None, Some(_)) => RecordingState::Recording,
            (None, None) => RecordingState::Waiting,
        };
        self.recording.update(|progress| {
            progress.state = state;
            progress.file = name;
            progress.duration = self.cutter.duration();
        });
    }

    fn count_bytes(&self, bytes: usize) {
        let bytes = bytes as u64;
        let total = &self.recording.totals.bytes;
        total.fetch_add(bytes, Ordering::Relaxed);
        self.recording.update(|progress| progress.bytes += bytes);
    }

    fn count_skip(&self) {
        let total = &self.recording.totals.skips;
        total.fetch_add(1, Ordering::Relaxed);
        self.recording.update(|progress| progress.skips += 1);
        let key = self.stream.key();
        log::warn!("{key}: the recording is too slow, and goes on at a keyframe");
    }

    fn count_failure(&self) {
        let total = &self.recording.totals.failures;
        total.fetch_add(1, Ordering::Relaxed);
        self.recording.update(|progress| progress.failures += 1);
    }
}

#[cfg(test)]
mod tests;
