//! HLS of a stream for the program that the process becomes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hls::encryption::Encryptor;
use hls::playlist::Playlist;
use hls::segmenter::Segmenter;
use serde::{Deserialize, Serialize};

use super::log::HlsLogPart;
use super::{HlsLog, HlsOutput, HlsSettings, Packager, StartedPackager};
use crate::hand_over::{Blob, HandOverError, HandedOver, Inherited, monotonic};
use crate::stream::{Stream, lock};

/// The form of [`HlsState`]. A program that has another one begins anew.
const LAYOUT: u32 = 1;

/// A packager and what it has made, for the program that the process becomes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HlsPart {
    layout: u32,
    log: HlsLogPart,
    state: Blob,
}

/// What a packager knows, written (`&T`) or read (`T`).
#[derive(Debug, Serialize, Deserialize)]
struct HlsState<H, P, S, E> {
    settings: H,
    first_segment: u64,
    playlist: P,
    segmenter: S,
    encryptor: E,
    lost: u64,
    #[serde(with = "monotonic")]
    begun: Instant,
    last_request_ms: u64,
}

impl Packager {
    /// The packager of `stream`, and what it has made, for the program that the process
    /// becomes; `None` if it has not been told of all that was published. Nobody may publish
    /// meanwhile, and its queue has to be empty.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(crate) fn part(
        &self,
        stream: &Stream,
        handed_over: &mut HandedOver,
    ) -> Result<Option<HlsPart>, HandOverError> {
        if !lock(&stream.writer).is_hls_complete() {
            return Ok(None);
        }
        let output = self.output();
        let published = lock(&output.published);
        Ok(Some(HlsPart {
            layout: LAYOUT,
            log: output.log.part(handed_over),
            state: Blob::of(&HlsState {
                settings: &output.settings,
                first_segment: output.first_segment,
                playlist: &published.playlist,
                segmenter: &self.segmenter,
                encryptor: &self.encryptor,
                lost: output.lost(),
                begun: output.begun,
                last_request_ms: output.last_request_ms.load(Ordering::Relaxed),
            })?,
        }))
    }
}

impl Stream {
    /// Goes on with a packager that this process has had before, if it has these settings.
    /// Nobody may publish yet.
    ///
    /// # Errors
    /// It is of another form, has other settings, or its log is missing.
    pub(crate) fn take_over_hls(
        &self,
        part: &HlsPart,
        mut settings: HlsSettings,
        inherited: &mut Inherited,
    ) -> Result<StartedPackager, HandOverError> {
        if part.layout != LAYOUT {
            let playlist = format!("playlist of layout {LAYOUT}: it has {}", part.layout);
            return Err(HandOverError::Missing(playlist));
        }
        let state: HlsState<HlsSettings, Playlist, Segmenter, Option<Encryptor>> =
            part.state.read()?;
        settings.segments.irregular = state.settings.segments.irregular;
        if settings != state.settings {
            let settings = "playlist by the settings of the vhost: they have changed".to_owned();
            return Err(HandOverError::Missing(settings));
        }
        let pool = self.logs.pool().clone();
        let log = HlsLog::take_over(&part.log, self.key(), pool, inherited)?;
        let mut output = HlsOutput::with_playlist(
            self.key(),
            settings,
            state.first_segment,
            state.playlist,
            log,
        );
        output.begun = state.begun;
        output.lost = state.lost.into();
        output.last_request_ms = state.last_request_ms.into();
        let output = Arc::new(output);
        let packager = Packager::resume(
            self.key().clone(),
            output.clone(),
            state.segmenter,
            state.encryptor,
        );
        let reader = lock(&self.writer).resume_hls();
        *lock(&self.hls) = Some(output);
        Ok(StartedPackager {
            packager,
            reader,
            finished: Vec::new(),
        })
    }
}
