//! A log for the program that the process becomes.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use super::file::{LogFile, LogFilePart};
use super::index::Index;
use super::{FlvFraming, Framing, Log, Readers};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited};
use crate::stream::memory::Holding;

/// The form of a log's bytes and of its index. A program that has another one cannot go on
/// with the log.
pub(crate) const LAYOUT: u32 = 1;

/// A log for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::stream) struct LogPart {
    layout: u32,
    framing: Framing,
    file: LogFilePart,
    index: Blob,
}

impl LogPart {
    /// What stands around each tag, in a log of FLV tags.
    pub(in crate::stream) fn flv_framing(&self) -> Option<FlvFraming> {
        match self.framing {
            Framing::Chunks(_) => None,
            Framing::Flv(framing) => Some(framing),
        }
    }

    /// The same as of a program whose logs have another layout.
    #[cfg(test)]
    pub(in crate::stream) fn of_another_layout(&mut self) {
        self.layout = LAYOUT + 1;
    }

    /// The index of the log, which `readers` will read.
    ///
    /// # Errors
    /// The log is of another layout.
    pub(in crate::stream) fn index(&self, readers: usize) -> Result<Index, HandOverError> {
        if self.layout != LAYOUT {
            let log = format!("log of layout {LAYOUT}: it has {}", self.layout);
            return Err(HandOverError::Missing(log));
        }
        let mut index: Index = self.index.read()?;
        index.set_readers(readers);
        Ok(index)
    }
}

impl Log {
    /// The log for the program that the process becomes. Nobody may write meanwhile.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(in crate::stream) fn part(
        &self,
        handed_over: &mut HandedOver,
    ) -> Result<LogPart, HandOverError> {
        Ok(LogPart {
            layout: LAYOUT,
            framing: self.framing,
            file: self.file.part(handed_over),
            index: Blob::of(&*self.index())?,
        })
    }

    /// Goes on with a log that this process has had before, which `readers` will read; its
    /// memory is `held`.
    ///
    /// # Errors
    /// It is of another layout, or its descriptor is missing.
    pub(in crate::stream) fn take_over(
        part: &LogPart,
        key: Arc<StreamKey>,
        readers: Arc<Readers>,
        held: Holding,
        inherited: &mut Inherited,
    ) -> Result<Self, HandOverError> {
        let index = part.index(readers.count())?;
        let kind = match part.framing {
            Framing::Chunks(_) => "rtmp",
            Framing::Flv(FlvFraming::Bare) => "flv",
            Framing::Flv(FlvFraming::WebSocket) => "ws-flv",
        };
        let name = format!("{kind}:{key}");
        let log = Self {
            file: LogFile::take_over(&part.file, &name, inherited)?,
            index: Mutex::new(index),
            framing: part.framing,
            held,
            readers,
            copying: Mutex::default(),
            abandoned: AtomicBool::new(false),
            key,
        };
        log.give_back(log.index());
        Ok(log)
    }
}
