//! One batch of messages, encoded and not yet written.

use std::io;
use std::sync::Arc;

use rtmp_proto::wire::Message;

use super::flv::FlvStaging;
use crate::stream::hls::Feed;
use crate::stream::log::headers::{Header, Headers};
use crate::stream::log::index::EntryKind;
use crate::stream::log::{Framing, Log};

/// Bytes of the encoding buffer that are kept between two batches.
const MAX_ENCODED_KEPT: usize = 64 * 1024;

/// A change of the index that follows once the batch has been written.
#[derive(Debug)]
enum Staged {
    /// Another publication begins, which may be a slate's.
    Publication {
        of_slate: bool,
    },
    Headers(Arc<Headers>),
    /// A video decoder's configuration of this time: pictures will come.
    VideoAnnounced(u64),
    PictureWithheld,
    Message {
        kind: EntryKind,
        timestamp: u64,
        length: u64,
    },
}

/// A batch that is written to the end of a log in one piece, and of the logs of FLV
/// tags that there are.
///
/// The index learns of it only after its bytes are in the file, in the order in
/// which it was staged; where they cannot be written to the log of chunks, all of it is
/// dropped.
#[derive(Debug)]
pub(super) struct Staging {
    /// The form of the messages in the log.
    framing: Framing,
    /// Offset at which the log ends, without the batch.
    end: u64,
    encoded: Vec<u8>,
    staged: Vec<Staged>,
    /// The headers in force at the end of the batch.
    headers: Headers,
    /// The logs of FLV tags that somebody needs, one for a framing.
    pub(super) flv: Vec<FlvStaging>,
    /// The queue to the packager of HLS, while there is one.
    pub(super) hls: Option<Feed>,
}

impl Staging {
    pub(super) fn new(framing: Framing) -> Self {
        Self {
            framing,
            end: 0,
            encoded: Vec::new(),
            staged: Vec::new(),
            headers: Headers::default(),
            flv: Vec::new(),
            hls: None,
        }
    }

    /// An empty batch for a log that ends at `end`, where `headers` are in force, and for the
    /// logs of `flv`.
    pub(super) fn resume(
        framing: Framing,
        end: u64,
        headers: Headers,
        flv: Vec<FlvStaging>,
    ) -> Self {
        Self {
            end,
            headers,
            flv,
            ..Self::new(framing)
        }
    }

    /// The headers in force at the end of the batch.
    pub(super) fn headers(&self) -> &Headers {
        &self.headers
    }

    /// True if the log has bytes already, apart from the batch.
    pub(super) fn is_log_written(&self) -> bool {
        self.end > 0
    }

    /// True if the log is to change.
    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Another publication begins with the next message; returns the headers
    /// of the one before. `of_slate`: it is a slate's.
    pub(super) fn begin_publication(&mut self, of_slate: bool) -> Headers {
        self.staged.push(Staged::Publication { of_slate });
        if let Some(hls) = &mut self.hls {
            hls.begin_publication();
        }
        std::mem::take(&mut self.headers)
    }

    /// Puts `header` in force, which is the next message.
    pub(super) fn set_header(&mut self, mut header: Header) {
        header.offset = self.end + self.encoded.len() as u64;
        self.headers.set(header);
        self.stage_headers();
    }

    /// Changes the headers in force; `change` returns false where it has not.
    pub(super) fn change_headers(&mut self, change: impl FnOnce(&mut Headers) -> bool) -> bool {
        let changed = change(&mut self.headers);
        if changed {
            self.stage_headers();
        }
        changed
    }

    fn stage_headers(&mut self) {
        let headers = Arc::new(self.headers.clone());
        self.staged.push(Staged::Headers(headers));
    }

    /// A video decoder's configuration of this time comes next.
    pub(super) fn announce_video(&mut self, timestamp: u64) {
        self.staged.push(Staged::VideoAnnounced(timestamp));
    }

    /// A picture has come that is not logged.
    pub(super) fn withhold_picture(&mut self) {
        self.staged.push(Staged::PictureWithheld);
    }

    /// Appends a message of the stream's time `timestamp`.
    pub(super) fn append(&mut self, message: &Message, kind: EntryKind, timestamp: u64) {
        let before = self.encoded.len();
        self.framing.encode(message, &mut self.encoded);
        if let Some(hls) = &mut self.hls {
            hls.append(message, timestamp);
        }
        for flv in &mut self.flv {
            flv.append(message);
        }
        self.staged.push(Staged::Message {
            kind,
            timestamp,
            length: (self.encoded.len() - before) as u64,
        });
    }

    /// Writes the batch to the end of `log` and enters it into the index, at
    /// `now_ms` on the server's clock. True if a join point was given up
    /// because its group is too long.
    ///
    /// # Errors
    /// The log cannot be written; the batch is dropped.
    pub(super) fn commit(&mut self, log: &Log, now_ms: u64) -> io::Result<bool> {
        if let Err(error) = self.write(log) {
            self.staged.clear();
            self.clear_encoded();
            if let Some(hls) = &mut self.hls {
                hls.discard();
            }
            self.headers = Headers::clone(&log.index().headers());
            return Err(error);
        }
        for flv in &self.flv {
            self.enter_flv(flv, now_ms);
        }
        let mut index = log.index();
        index.set_now(now_ms);
        for staged in self.staged.drain(..) {
            match staged {
                Staged::Publication { of_slate } => index.begin_publication(of_slate),
                Staged::Headers(headers) => index.set_headers(headers),
                Staged::VideoAnnounced(timestamp) => index.announce_video(timestamp),
                Staged::PictureWithheld => index.withhold_picture(),
                Staged::Message {
                    kind,
                    timestamp,
                    length,
                } => index.push(kind, timestamp, length),
            }
        }
        self.end = index.end();
        self.clear_encoded();
        let gave_up_long_group = index.take_long_group();
        log.give_back(index);
        let headers = &self.headers;
        self.hls.take_if(|hls| !hls.commit(headers));
        Ok(gave_up_long_group)
    }

    /// Writes the bytes of the batch. A log of FLV tags that cannot be written is
    /// abandoned: its players leave, the stream goes on without them. Where the log of
    /// chunks cannot be written, what is in the other is not entered, and the next batch
    /// takes its place.
    fn write(&mut self, log: &Log) -> io::Result<()> {
        if self.encoded.is_empty() {
            return Ok(());
        }
        self.flv.retain(|flv| match flv.write() {
            Ok(()) => true,
            Err(error) => {
                log::warn!(
                    "{}: the log of FLV tags cannot be written, its players are let go: {error}",
                    log.key()
                );
                flv.log().abandon();
                false
            }
        });
        log.file().write(self.end, &self.encoded)
    }

    /// Enters the batch into the index of a log of FLV tags.
    fn enter_flv(&self, flv: &FlvStaging, now_ms: u64) {
        let mut index = flv.log().index();
        let mut lengths = flv.lengths.iter();
        index.set_now(now_ms);
        // Where in the log of chunks the next message lies.
        let mut position = self.end;
        for staged in &self.staged {
            match staged {
                Staged::Publication { of_slate } => index.begin_publication(*of_slate),
                Staged::Headers(headers) => {
                    let (known, end) = (index.headers(), index.end());
                    let placed = headers.placed(|header| match header.offset == position {
                        // It is the next message.
                        true => end,
                        false => known.offset_of(header.class),
                    });
                    index.set_headers(Arc::new(placed));
                }
                Staged::VideoAnnounced(timestamp) => index.announce_video(*timestamp),
                Staged::PictureWithheld => index.withhold_picture(),
                Staged::Message {
                    kind,
                    timestamp,
                    length,
                } => {
                    if let Some(&length @ 1..) = lengths.next() {
                        index.push(*kind, *timestamp, length);
                    }
                    position += length;
                }
            }
        }
        flv.log().give_back(index);
    }

    fn clear_encoded(&mut self) {
        let flv = self.flv.iter_mut().map(|flv| {
            flv.lengths.clear();
            &mut flv.encoded
        });
        for encoded in flv.chain([&mut self.encoded]) {
            encoded.clear();
            encoded.shrink_to(MAX_ENCODED_KEPT);
        }
    }
}
