//! A publisher's hold on a stream.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::headers::{Header, Headers};
use super::index::Part;
use super::timeline::{Placement, Timeline, Track};
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

/// What a batch does to the index once it has been written.
#[derive(Debug)]
enum Staged {
    Message {
        part: Part,
        timestamp: u64,
        length: u64,
        header: Option<Header>,
    },
    /// A publisher's codecs need not be the last one's.
    NewHeaders,
    ClearMetadata,
}

/// What whoever publishes a stream knows of its log's end.
#[derive(Debug)]
pub(super) struct Writer {
    end: u64,
    timeline: Timeline,
    /// Headers that came before a publisher's first new frame, which decides
    /// what time they are of and whether they are news.
    early: Headers,
    /// The publisher may be another source of the stream that was there.
    may_resume: bool,
    /// The last frame was one that the log has already.
    repeating: bool,
    encoded: Vec<u8>,
    staged: Vec<Staged>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            end: 0,
            timeline: Timeline::new(),
            early: Headers::default(),
            may_resume: false,
            repeating: false,
            encoded: Vec::new(),
            staged: Vec::new(),
        }
    }

    /// `replay`: the publisher is an origin that may begin with so much of the
    /// past.
    fn publisher_begins(&mut self, replay: Option<Duration>) {
        self.timeline.publisher_begins(replay.unwrap_or_default());
        self.may_resume = replay.is_some();
        self.early = Headers::default();
        self.repeating = false;
    }

    /// Encodes `message` for the log of `stream`, unless it is there already;
    /// whether it is media at all.
    fn stage(&mut self, message: &Message, stream: &Stream, now: Instant) -> bool {
        // An empty message says nothing, and would cost its chunk's header.
        let class = classify(message).filter(|_| !message.payload.is_empty());
        let Some(class) = class else {
            return false;
        };
        let frame = match class {
            MediaClass::Keyframe => Some((Part::Keyframe, Track::Video)),
            MediaClass::InterFrame | MediaClass::VideoOther => Some((Part::Video, Track::Video)),
            MediaClass::Audio => Some((Part::Audio, Track::Audio)),
            MediaClass::VideoSequenceHeader { .. }
            | MediaClass::VideoMetadata { .. }
            | MediaClass::AudioSequenceHeader { .. }
            | MediaClass::AudioChannels { .. }
            | MediaClass::Metadata
            | MediaClass::ClearMetadata
            | MediaClass::Data => None,
        };
        match frame {
            Some((part, track)) => self.stage_frame(message, class, part, track, stream, now),
            None => self.stage_other(message, class, stream),
        }
        true
    }

    fn stage_frame(
        &mut self,
        message: &Message,
        class: MediaClass,
        part: Part,
        track: Track,
        stream: &Stream,
        now: Instant,
    ) {
        if self.repeating
            && self.timeline.repeats_for_too_long(now)
            && stream.index().can_join_at(part, self.timeline.newest())
        {
            // Nothing but a beginning anew, from the same file, say.
            self.timeline.publisher_begins(Duration::ZERO);
            self.may_resume = false;
        }
        let mut same_stream = true;
        if self.timeline.is_fresh() {
            same_stream =
                self.may_resume && self.goes_on_with(message, class, (part, track), stream);
            if same_stream {
                self.timeline.resume(now);
            }
        }
        let placed = match self.timeline.place(now, track, message.timestamp) {
            Placement::At(time) => Some(time),
            Placement::Known => None,
            // A frame of another track may be of the same time.
            Placement::AtSeam(time) => {
                (!self.has(message, class, part, time, 0, stream)).then_some(time)
            }
        };
        self.repeating = placed.is_none();
        if let Some(timestamp) = placed {
            self.stage_early(timestamp, same_stream, stream);
            self.encode(message.clone(), class, part, timestamp, stream);
        }
    }

    fn stage_other(&mut self, message: &Message, class: MediaClass, stream: &Stream) {
        // Encoders stamp headers and metadata anyhow, mostly with 0: they
        // belong to what comes next.
        if class == MediaClass::ClearMetadata {
            self.early.clear_metadata();
            self.staged.push(Staged::ClearMetadata);
            return;
        }
        let message = for_players(message, class);
        let kept = Headers::keeps(class, &message);
        if kept && (self.repeating || self.timeline.is_fresh()) {
            self.early.set(Header::new(class, message));
        } else if !self.repeating {
            self.encode(message, class, Part::Always, self.timeline.newest(), stream);
        }
    }

    /// Whether `frame`, a publisher's first, belongs to the stream that the log
    /// ends with: an origin sends its newest group of pictures to whoever
    /// comes, and an edge whose connection broke comes again.
    ///
    /// What lies before the newest place to join at does not count: an origin
    /// does not begin there, but an encoder may that plays its file again.
    fn goes_on_with(
        &self,
        frame: &Message,
        class: MediaClass,
        (part, track): (Part, Track),
        stream: &Stream,
    ) -> bool {
        let join = stream.index().join_offset();
        let time = self.timeline.known_time(track, frame.timestamp);
        join.zip(time)
            .is_some_and(|(join, time)| self.has(frame, class, part, time, join, stream))
    }

    /// Whether the log has `frame` at `time`, in this place or a later one.
    fn has(
        &self,
        frame: &Message,
        class: MediaClass,
        part: Part,
        time: u64,
        from: u64,
        stream: &Stream,
    ) -> bool {
        let mut encoded = Vec::new();
        encode(frame.clone(), class, time, stream.chunk_size, &mut encoded);
        let mut places: Vec<_> = stream.index().at(part, time).collect();
        places.retain(|place| place.start >= from);
        places.into_iter().any(|place| {
            // What cannot be read is not known.
            let bytes = stream.log.copy(place.start, place.end);
            bytes.is_ok_and(|bytes| bytes == encoded)
        })
    }

    /// Stages the headers that were kept for this frame; where it goes on with
    /// the stream that was there, only those that are not in force.
    fn stage_early(&mut self, timestamp: u64, same_stream: bool, stream: &Stream) {
        // As for nearly every frame: the index, which the workers want, too, is
        // left alone.
        if same_stream && self.early.is_empty() {
            return;
        }
        let in_force = if same_stream {
            stream.index().headers()
        } else {
            self.staged.push(Staged::NewHeaders);
            Arc::default()
        };
        for header in std::mem::take(&mut self.early).since(0) {
            if !in_force.has(header) {
                let message = header.message(MESSAGE_STREAM);
                self.encode(message, header.class, Part::Always, timestamp, stream);
            }
        }
    }

    fn encode(
        &mut self,
        message: Message,
        class: MediaClass,
        part: Part,
        timestamp: u64,
        stream: &Stream,
    ) {
        let header = Headers::keeps_class(class).then(|| Header::new(class, message.clone()));
        let before = self.encoded.len();
        encode(
            message,
            class,
            timestamp,
            stream.chunk_size,
            &mut self.encoded,
        );
        self.staged.push(Staged::Message {
            part,
            timestamp,
            length: (self.encoded.len() - before) as u64,
            header,
        });
    }
}

/// What players get of `message`.
fn for_players(message: &Message, class: MediaClass) -> Message {
    if is_data(class) {
        data::for_players(message)
    } else {
        message.clone()
    }
}

/// Appends `message` in chunks, as of the stream's time `timestamp`.
fn encode(
    mut message: Message,
    class: MediaClass,
    timestamp: u64,
    chunk_size: u32,
    encoded: &mut Vec<u8>,
) {
    message.timestamp = wire_timestamp(class, timestamp);
    message.stream_id = MESSAGE_STREAM;
    let chunk_stream = csid::for_message(message.message_type, MESSAGE_STREAM);
    encode_message(&message, chunk_size, chunk_stream, encoded);
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
        self.begin(now, None)
    }

    /// Becomes the stream's publisher on behalf of an origin, which sends its
    /// newest group of pictures first. What the stream had already of it is
    /// left out where the timestamps go on.
    ///
    /// # Errors
    /// As [`Stream::publish`].
    pub fn relay(self: &Arc<Self>, now: Instant) -> Result<Publication, Busy> {
        let group = self.index().group();
        self.begin(now, Some(group))
    }

    fn begin(
        self: &Arc<Self>,
        now: Instant,
        replay: Option<Duration>,
    ) -> Result<Publication, Busy> {
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
        self.cut_off.store(false, Ordering::Relaxed);
        lock(&self.writer).publisher_begins(replay);
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

    /// Nobody listens to the publisher until `time`: until then it is not
    /// taken for silent.
    pub fn is_not_heard_until(&self, time: Instant) {
        let mut presence = lock(&self.stream.presence);
        if presence.generation == self.generation {
            presence.last_sign = time;
        }
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
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            if writer.stage(message, stream, now) {
                count += 1;
                bytes += message.payload.len() as u64;
            }
        }
        stream.totals.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        stream
            .totals
            .messages_in
            .fetch_add(count, Ordering::Relaxed);
        if writer.staged.is_empty() {
            return Ok(());
        }
        let written = stream.log.write(writer.end, &writer.encoded);
        writer.encoded.clear();
        writer.encoded.shrink_to(ENCODED_KEPT);
        if let Err(error) = written {
            writer.staged.clear();
            return Err(error.into());
        }
        let mut index = lock(&stream.index);
        for staged in writer.staged.drain(..) {
            match staged {
                Staged::NewHeaders => index.clear_headers(),
                Staged::ClearMetadata => index.clear_metadata(),
                Staged::Message {
                    part,
                    timestamp,
                    length,
                    header,
                } => {
                    if let Some(header) = header {
                        let offset = index.end();
                        index.set_header(Header { offset, ..header });
                    }
                    index.push(part, timestamp, length);
                }
            }
        }
        writer.end = index.end();
        let unneeded = index.trim();
        drop(index);
        if let Err(error) = stream.log.release(unneeded) {
            log::warn!(
                "{}: memory of the log cannot be given back: {error}",
                stream.key
            );
        }
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
