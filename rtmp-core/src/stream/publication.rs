//! A publisher's hold on a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::file::LogFile;
use super::headers::{Header, Headers};
use super::index::Part;
use super::timeline::{Timeline, Track};
use super::{MESSAGE_STREAM, Standing, Stream, lock};
use crate::wire::Message;
use crate::wire::chunk::{csid, encode_message};
use crate::wire::media::{MediaClass, classify};
use crate::wire::message::data;

/// A publisher that has been silent for this long may be pushed aside by
/// another: its connection is most likely dead, and the encoder is back.
const TAKEOVER_SILENCE: Duration = Duration::from_secs(2);

/// The stream has a publisher that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream has a publisher already")]
pub struct Busy;

/// Why a publisher's messages were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another publisher has taken the stream over after a silence.
    #[error("another publisher has taken the stream over")]
    TakenOver,
    /// The stream has ended for good.
    #[error("the stream has ended")]
    Over,
    /// The log cannot be written: no memory.
    #[error("the stream's log cannot be written: {0}")]
    Log(#[from] io::Error),
}

/// A message that is encoded and waits for its batch to be written.
#[derive(Debug)]
struct Staged {
    part: Part,
    timestamp: u64,
    length: usize,
    header: Option<Header>,
    clears_metadata: bool,
}

/// The writing end of a stream's log.
#[derive(Debug)]
pub(super) struct Writer {
    file: LogFile,
    end: u64,
    timeline: Timeline,
    encoded: Vec<u8>,
    staged: Vec<Staged>,
}

impl Writer {
    pub(super) fn new(file: LogFile) -> Self {
        Self {
            file,
            end: 0,
            timeline: Timeline::new(),
            encoded: Vec::new(),
            staged: Vec::new(),
        }
    }

    pub(super) fn memory(&self) -> io::Result<u64> {
        self.file.memory()
    }

    /// Encodes `message` for the log; returns whether it belongs there.
    fn stage(&mut self, message: &Message, chunk_size: u32, now: Instant) -> bool {
        let Some(class) = classify(message) else {
            return false;
        };
        let (part, track) = match class {
            MediaClass::Keyframe => (Part::Keyframe, Some(Track::Video)),
            MediaClass::InterFrame | MediaClass::VideoOther => (Part::Video, Some(Track::Video)),
            MediaClass::Audio => (Part::Audio, Some(Track::Audio)),
            MediaClass::VideoSequenceHeader { .. }
            | MediaClass::VideoMetadata { .. }
            | MediaClass::AudioSequenceHeader { .. }
            | MediaClass::AudioChannels { .. }
            | MediaClass::Metadata
            | MediaClass::ClearMetadata
            | MediaClass::Data => (Part::Always, None),
        };
        if class == MediaClass::ClearMetadata {
            self.staged.push(Staged {
                part,
                timestamp: self.timeline.newest(),
                length: 0,
                header: None,
                clears_metadata: true,
            });
            return true;
        }
        // Encoders stamp headers and metadata anyhow, mostly with 0: they
        // belong to what comes next.
        let timestamp = match track {
            Some(track) => self.timeline.place(now, track, message.timestamp),
            None => self.timeline.newest(),
        };
        let mut message = if is_data(class) {
            data::for_players(message)
        } else {
            message.clone()
        };
        message.timestamp = wire_timestamp(class, timestamp);
        message.stream_id = MESSAGE_STREAM;
        let chunk_stream = csid::for_message(message.message_type, MESSAGE_STREAM);
        let before = self.encoded.len();
        encode_message(&message, chunk_size, chunk_stream, &mut self.encoded);
        let header = Headers::keeps(class).then(|| Header {
            class,
            message_type: message.message_type,
            payload: message.payload,
            offset: 0,
        });
        let length = self.encoded.len() - before;
        self.staged.push(Staged {
            part,
            timestamp,
            length,
            header,
            clears_metadata: false,
        });
        true
    }
}

fn is_data(class: MediaClass) -> bool {
    matches!(class, MediaClass::Metadata | MediaClass::Data)
}

/// What a message of the stream's time `timestamp` is stamped with.
///
/// Metadata always with 0, as SRS does: ffmpeg takes metadata of any other
/// time for a subtitle, and shows a stream that is not there.
pub(super) fn wire_timestamp(class: MediaClass, timestamp: u64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "RTMP's timestamps wrap at 2³²"
    )]
    let wrapped = timestamp as u32;
    if class == MediaClass::Metadata {
        0
    } else {
        wrapped
    }
}

/// The right to append to a stream; dropped, the stream has no publisher.
#[derive(Debug)]
pub struct Publication {
    stream: Arc<Stream>,
    generation: u64,
}

impl Stream {
    /// Becomes the stream's publisher.
    ///
    /// # Errors
    /// [`Busy`] if there is one that has not been silent for two seconds.
    pub fn publish(self: &Arc<Self>, now: Instant) -> Result<Publication, Busy> {
        let mut presence = lock(&self.presence);
        let silence = now.saturating_duration_since(presence.last_sign);
        if presence.present && silence < TAKEOVER_SILENCE {
            return Err(Busy);
        }
        presence.generation += 1;
        presence.present = true;
        presence.last_sign = now;
        let generation = presence.generation;
        drop(presence);
        lock(&self.writer).timeline.publisher_begins();
        // Its codecs need not be the last one's.
        lock(&self.index).clear_headers();
        self.totals.publishers.fetch_add(1, Ordering::Relaxed);
        self.standing
            .send_modify(|standing| standing.generation = generation);
        Ok(Publication {
            stream: self.clone(),
            generation,
        })
    }
}

impl Publication {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Whether `standing` still is this publisher's.
    #[must_use]
    pub fn holds(&self, standing: &Standing) -> bool {
        standing.generation == self.generation && !standing.over
    }

    /// Appends what one read from the publisher brought, in one write, and
    /// tells the players' workers. Messages that are no media are left out.
    ///
    /// # Errors
    /// The stream is no longer this publisher's, or the log cannot be written.
    pub fn append(&mut self, messages: &[Message], now: Instant) -> Result<(), AppendError> {
        let stream = &*self.stream;
        let mut writer = lock(&stream.writer);
        let writer = &mut *writer;
        {
            let mut presence = lock(&stream.presence);
            if presence.generation != self.generation {
                return Err(AppendError::TakenOver);
            }
            presence.last_sign = now;
        }
        if stream.is_over() {
            return Err(AppendError::Over);
        }
        let mut bytes = 0;
        for message in messages {
            if writer.stage(message, stream.chunk_size, now) {
                bytes += message.payload.len() as u64;
            }
        }
        let staged = writer.staged.len() as u64;
        if staged == 0 {
            return Ok(());
        }
        let written = writer.file.write(writer.end, &writer.encoded);
        writer.encoded.clear();
        writer.encoded.shrink_to(ENCODED_KEPT);
        if let Err(error) = written {
            writer.staged.clear();
            return Err(error.into());
        }
        let mut index = lock(&stream.index);
        for Staged {
            part,
            timestamp,
            length,
            header,
            clears_metadata,
        } in writer.staged.drain(..)
        {
            if clears_metadata {
                index.clear_metadata();
                continue;
            }
            if let Some(header) = header {
                let offset = index.end();
                index.set_header(Header { offset, ..header });
            }
            index.push(part, timestamp, length as u64);
        }
        writer.end = index.end();
        let unneeded = index.trim();
        drop(index);
        if let Err(error) = writer.file.release(unneeded) {
            log::warn!(
                "{}: memory of the log cannot be given back: {error}",
                stream.key
            );
        }
        stream.totals.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        stream
            .totals
            .messages_in
            .fetch_add(staged, Ordering::Relaxed);
        if !stream.standing.borrow().live {
            stream.standing.send_modify(|standing| standing.live = true);
        }
        stream.tell_workers();
        Ok(())
    }
}

/// Bytes of the encoding buffer that are kept between two reads.
const ENCODED_KEPT: usize = 256 * 1024;

impl Drop for Publication {
    fn drop(&mut self) {
        let mut presence = lock(&self.stream.presence);
        if presence.generation != self.generation {
            return;
        }
        presence.present = false;
        presence.last_sign = Instant::now();
        drop(presence);
        self.stream
            .standing
            .send_modify(|standing| standing.live = false);
    }
}
