//! A slate for the program that the process becomes.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Showing;
use crate::hand_over::{Blob, HandOverError};
use crate::server::pace::Pace;
use crate::stream::Stream;

/// A slate that is on air, for the program that the process becomes: it goes on at its next
/// message, if that has the same file.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::server) struct SlatePart {
    /// Id of the stream.
    stream: u64,
    publication: Blob,
    fingerprint: u64,
    pace: Pace,
    turn_ms: u64,
    next: usize,
    has_headers: bool,
    #[serde(with = "crate::hand_over::monotonic")]
    left_at: Option<Instant>,
}

impl Showing {
    /// The slate for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(super) fn part(&self) -> Result<SlatePart, HandOverError> {
        Ok(SlatePart {
            stream: self.publication.stream().id(),
            publication: self.publication.part()?,
            fingerprint: self.fingerprint,
            pace: self.pace.clone(),
            turn_ms: self.turn_ms,
            next: self.next,
            has_headers: self.has_headers,
            left_at: self.left_at,
        })
    }
}

impl SlatePart {
    /// Id of the stream.
    pub(in crate::server) fn stream_id(&self) -> u64 {
        self.stream
    }

    /// Goes on with the slate of `stream`, which this process has had before.
    ///
    /// # Errors
    /// It is of another form, or the stream does not know it.
    pub(in crate::server) fn take_over(
        self,
        stream: &Arc<Stream>,
    ) -> Result<Showing, HandOverError> {
        Ok(Showing {
            publication: stream.resume_publication(&self.publication)?,
            fingerprint: self.fingerprint,
            pace: self.pace,
            turn_ms: self.turn_ms,
            next: self.next,
            has_headers: self.has_headers,
            left_at: self.left_at,
        })
    }
}
