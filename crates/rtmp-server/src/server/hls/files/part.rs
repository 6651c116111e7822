//! The files of streams for the program that the process becomes.

use std::sync::Arc;
use std::time::Instant;

use hls::segmenter::Container;
use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};

use super::{Names, StreamFiles};
use crate::config::{HlsFiles, HlsKeys};
use crate::hand_over::monotonic;
use crate::stream::lock;

/// The files of one stream for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::server::hls) struct FilesPart {
    /// Absent in what earlier versions have written.
    #[serde(default)]
    key: Option<StreamKey>,
    config: HlsFiles,
    keys: Option<HlsKeys>,
    names: Names,
    /// They stay if nobody goes on with them.
    #[serde(default)]
    pub(super) stays: bool,
}

/// The files of a stream that has ended, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server::hls) struct EndedFilesPart {
    pub(super) files: FilesPart,
    /// The time when they are removed.
    #[serde(with = "monotonic")]
    pub(super) until: Instant,
}

impl FilesPart {
    /// The files, to which no more are added.
    pub(super) fn ended(self) -> Option<Arc<StreamFiles>> {
        let key = Arc::new(self.key.clone()?);
        let (config, keys) = (self.config.clone(), self.keys.clone());
        // Nothing is named any more.
        let is_removed = !self.stays;
        let files = StreamFiles::new(key, config, keys, Container::MpegTs, is_removed);
        files.take_over(self);
        Some(Arc::new(files))
    }

    /// True if files are written like this by these settings, too.
    pub(in crate::server::hls) fn is_of(&self, config: &HlsFiles, keys: Option<&HlsKeys>) -> bool {
        self.config == *config && self.keys.as_ref() == keys
    }
}

impl StreamFiles {
    /// The files for the program that the process becomes. Nothing may be queued.
    pub(in crate::server::hls) fn part(&self) -> FilesPart {
        FilesPart {
            key: Some((*self.key).clone()),
            config: self.config.clone(),
            keys: self.keys.clone(),
            names: lock(&self.names).clone(),
            stays: !self.is_removed_at_end,
        }
    }

    /// Goes on with files that this process has written before.
    pub(in crate::server::hls) fn take_over(&self, part: FilesPart) {
        *lock(&self.names) = part.names;
    }
}
