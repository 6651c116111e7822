//! A recorder for the program that the process becomes.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{OpenFile, Outage, Recorder};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::server::dvr::file::{RecordFile, RecordFilePart};
use crate::server::dvr::format::Format;
use crate::server::dvr::owner::{FilePublisherPart, Owner};
use crate::server::dvr::recording::{DvrTotals, Progress, Recording, Settings};
use crate::stream::{Cutter, Stream, TagReader, TagReaderPart};

/// The form of [`State`]. A program that has another one leaves the file to the keeper, as after
/// a crash, and begins another.
const LAYOUT: u32 = 1;

/// A recorder between two turns, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct RecorderPart {
    layout: u32,
    /// Id of the stream.
    stream: u64,
    settings: Settings,
    is_stopped: bool,
    progress: Progress,
    reader: Option<TagReaderPart>,
    file: Option<RecordFilePart>,
    state: Blob,
}

/// What a recorder knows besides, written (`&T`) or read (`T`).
#[derive(Debug, Serialize, Deserialize)]
struct State<C, F> {
    cutter: C,
    /// Of the file that is written, if one is.
    format: Option<F>,
    publisher: Option<FilePublisherPart>,
    unwritten: Blob,
    outage: Option<Outage>,
}

impl RecorderPart {
    /// The same as of a program that writes another form.
    #[cfg(test)]
    pub(super) fn of_another_layout(&mut self) {
        self.layout += 1;
    }

    /// Id of the stream.
    pub(in crate::server) fn stream_id(&self) -> u64 {
        self.stream
    }

    /// The recording of `stream` goes on, by the settings that it began with.
    pub(in crate::server::dvr) fn recording(
        &self,
        stream: &Stream,
        totals: Arc<DvrTotals>,
    ) -> Recording {
        let (key, settings) = (stream.key().clone(), self.settings.clone());
        let progress = self.progress.clone();
        let recording = Recording::new(stream.id(), key, settings, progress, totals);
        if self.is_stopped {
            recording.stop();
        }
        recording
    }
}

impl Recorder {
    /// The recorder for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(in crate::server::dvr) fn part(
        &self,
        handed_over: &mut HandedOver,
    ) -> Result<RecorderPart, HandOverError> {
        let file = self.file.as_ref();
        let state = Blob::of(&State {
            cutter: &self.cutter,
            format: file.map(|it| &it.format),
            publisher: file.map(|it| it.publisher.part()),
            unwritten: Blob::from(self.unwritten.clone()),
            outage: self.outage,
        })?;
        Ok(RecorderPart {
            layout: LAYOUT,
            stream: self.stream.id(),
            settings: self.recording.settings.clone(),
            is_stopped: self.recording.is_stopped(),
            progress: self.recording.progress(),
            reader: self.reader.as_ref().and_then(TagReader::part),
            file: file.map(|it| it.file.part(handed_over)),
            state,
        })
    }

    /// Goes on with a recorder of `stream`. `is_new_log`: the stream's log begins anew, and the
    /// file goes on at the next keyframe.
    ///
    /// # Errors
    /// It is of another form, or a descriptor is missing. Its file is closed then.
    pub(in crate::server::dvr) fn take_over(
        part: &RecorderPart,
        stream: Arc<Stream>,
        is_new_log: bool,
        recording: Arc<Recording>,
        owner: Box<dyn Owner>,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let file = part.file.as_ref();
        let file = file.map(|it| RecordFile::take_over(it, inherited));
        let file = file.transpose()?;
        if part.layout != LAYOUT {
            let text = format!("recording of layout {LAYOUT}: it has {}", part.layout);
            return Err(HandOverError::Missing(text));
        }
        let state: State<Cutter, Format> = part.state.read()?;
        let file = match (file, state.format, state.publisher) {
            (Some(file), Some(format), Some(publisher)) => Some(OpenFile {
                file,
                format,
                publisher: publisher.into(),
            }),
            _ => None,
        };
        let reader = part.reader.filter(|_| !is_new_log);
        Ok(Self {
            reader: reader.and_then(|it| TagReader::take_over(&stream, it)),
            stream,
            recording,
            cutter: state.cutter,
            file,
            unwritten: state.unwritten.as_bytes().to_vec(),
            outage: state.outage,
            wall: Timestamp::UNIX_EPOCH,
            now: Instant::now(),
            owner,
        })
    }
}
