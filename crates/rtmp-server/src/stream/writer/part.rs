//! A writer for the program that the process becomes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flv::FlvStaging;
use super::staging::Staging;
use super::{Phase, Pictures, Source, Timeline, Tracks, Writer};
use crate::hand_over::{Blob, HandOverError};
use crate::stream::log::headers::Headers;
use crate::stream::log::{Framing, Log};
use crate::stream::writer::pending::Pending;

/// A writer, written (`&T`) or read (`T`).
#[derive(Serialize, Deserialize)]
struct WriterPart<T, K, I, P> {
    timeline: T,
    source: Source,
    phase: Phase,
    pending: P,
    tracks: K,
    pictures: I,
    headers: Headers,
    warned_of_long_group: bool,
}

impl Writer {
    /// The writer, but for its logs. Nothing may be staged.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(in crate::stream) fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&WriterPart {
            timeline: &self.timeline,
            source: self.source,
            phase: self.phase,
            pending: &self.pending,
            tracks: &self.tracks,
            pictures: &self.pictures,
            headers: self.staging.headers().clone(),
            warned_of_long_group: self.warned_of_long_group,
        })
    }

    /// Goes on with a writer that this process has had before, and its logs.
    ///
    /// # Errors
    /// It is of another form.
    pub(in crate::stream) fn take_over(
        part: &Blob,
        chunks: &Log,
        flv: Vec<Arc<Log>>,
    ) -> Result<Self, HandOverError> {
        let part: WriterPart<Timeline, Tracks, Pictures, Pending> = part.read()?;
        let flv = flv.into_iter().map(FlvStaging::new).collect();
        let end = chunks.index().end();
        Ok(Self {
            timeline: part.timeline,
            source: part.source,
            phase: part.phase,
            pending: part.pending,
            tracks: part.tracks,
            pictures: part.pictures,
            staging: Staging::resume(chunks.framing(), end, part.headers, flv),
            warned_of_long_group: part.warned_of_long_group,
        })
    }

    /// Goes on with the timeline of a writer that this process has had before, and with a log
    /// of its own: the publication begins anew at the next keyframe, with the headers that
    /// are in force.
    ///
    /// # Errors
    /// It is of another form.
    pub(in crate::stream) fn begin_anew(
        part: &Blob,
        framing: Framing,
    ) -> Result<Self, HandOverError> {
        let part: WriterPart<Timeline, Tracks, Pictures, Pending> = part.read()?;
        let mut headers = part.headers;
        for header in part.pending.headers.since(0) {
            headers.set(header.clone());
        }
        Ok(Self {
            timeline: part.timeline,
            source: part.source,
            phase: Phase::Beginning { may_resume: false },
            pending: Pending {
                headers,
                data: part.pending.data,
            },
            tracks: part.tracks,
            pictures: Pictures::new(),
            staging: Staging::new(framing),
            warned_of_long_group: false,
        })
    }
}
