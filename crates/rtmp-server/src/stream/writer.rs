//! What goes into a stream's log of what its publishers send, and how.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmp_proto::wire::media::{Codec, MediaClass, classify};
use rtmp_proto::wire::message::{Control, UserControl, data};
use rtmp_proto::wire::{Message, MessageType};

use super::encoding::{encode, for_log, for_players};
use super::headers::{Header, Headers};
use super::index::{Index, Part};
use super::pictures::{Picture, Pictures, Verdict};
use super::timeline::{PerTrack, Placement, Timeline, Track};
use super::{MESSAGE_STREAM, Stream};

/// A track without a frame for this long on the stream's timeline, ms, may be
/// none of the stream's any more: who joins can do without its headers.
const TRACK_SILENT_MS: u64 = 10_000;

/// The most bytes of data messages that wait for a publisher's first frame.
const MAX_EARLY_DATA_BYTES: usize = 64 * 1024;

/// Where a publication's messages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An encoder: each of its connections is a publication.
    Encoder,
    /// An origin that says where a publication begins, and has waited for the
    /// first keyframe itself: one of ours.
    MarkingOrigin,
    /// An origin that may go over to another publication without a word.
    SilentOrigin,
}

/// What a batch does to the index once it has been written.
#[derive(Debug)]
enum Staged {
    /// Another publication begins.
    Publication,
    Headers(Arc<Headers>),
    /// A video decoder's configuration of this time: pictures will come.
    PicturesExpected(u64),
    PictureWithheld,
    Message {
        part: Part,
        timestamp: u64,
        length: u64,
    },
}

/// How far the present publication has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its first frame has not come. That decides what time its headers are of
    /// and, where it `may_resume` the publication before, whether it is one.
    Beginning { may_resume: bool },
    /// The last frame was one that the log has already.
    Repeating,
    /// An origin that does not say where a publication begins has sent
    /// metadata, as publishers do first of all: the next frame decides.
    Preamble,
    /// Its messages are news.
    Flowing,
}

/// What came before the frame that decides what becomes of it.
#[derive(Debug, Default)]
struct Early {
    headers: Headers,
    data: Vec<Message>,
}

impl Early {
    fn is_empty(&self) -> bool {
        self.headers.is_empty() && self.data.is_empty()
    }

    /// Keeps a data message, unless there are too many.
    fn keep_data(&mut self, message: Message) {
        let kept = self.data.iter().map(|known| known.payload.len());
        if kept.sum::<usize>() + message.payload.len() <= MAX_EARLY_DATA_BYTES {
            self.data.push(message);
        }
    }
}

/// What whoever publishes a stream knows of its log's end.
#[derive(Debug)]
pub(super) struct Writer {
    /// Where the log ends.
    pub(super) end: u64,
    timeline: Timeline,
    source: Source,
    phase: Phase,
    early: Early,
    /// The headers in force at the end of what is staged.
    headers: Headers,
    /// Headers of tracks that have been silent, or that another publication of
    /// a silent origin may not have: they come back with the next frame of
    /// their track.
    dormant: Headers,
    pictures: Pictures,
    /// What the newest frame of each kind was coded in, and its track's number.
    codecs: PerTrack<Option<(Codec, u8)>>,
    /// The newest time when the last frame or header of each kind came, ms.
    heard: PerTrack<u64>,
    /// It has been said of this publication that its groups are too long.
    told_of_long_group: bool,
    encoded: Vec<u8>,
    staged: Vec<Staged>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            end: 0,
            timeline: Timeline::new(),
            source: Source::Encoder,
            phase: Phase::Beginning { may_resume: false },
            early: Early::default(),
            headers: Headers::default(),
            dormant: Headers::default(),
            pictures: Pictures::new(),
            codecs: PerTrack::default(),
            heard: PerTrack::default(),
            told_of_long_group: false,
            encoded: Vec::new(),
            staged: Vec::new(),
        }
    }

    /// A publisher comes; an origin may begin with `replay` of the past, and
    /// with the publication that was there.
    pub(super) fn publisher_begins(&mut self, source: Source, replay: Duration) {
        self.source = source;
        let may_resume = source != Source::Encoder;
        self.begin(replay, may_resume);
    }

    /// The publisher, an origin, goes over to another publication.
    pub(super) fn start_new_publication(&mut self) {
        self.begin(Duration::ZERO, false);
    }

    fn begin(&mut self, replay: Duration, may_resume: bool) {
        self.timeline.publisher_begins(replay);
        self.phase = Phase::Beginning { may_resume };
        self.early = Early::default();
    }

    /// Encodes `message` for the log of `stream`, unless it is there already;
    /// whether it is media at all.
    pub(super) fn stage(&mut self, message: &Message, stream: &Stream, now: Instant) -> bool {
        // An empty message says nothing, and would cost its chunk's header.
        let class = classify(message).filter(|_| !message.payload.is_empty());
        let Some(class) = class else {
            return false;
        };
        match class {
            MediaClass::Keyframe { .. }
            | MediaClass::InterFrame { .. }
            | MediaClass::VideoOther => {
                self.stage_frame(message, class, Track::Video, stream, now);
            }
            MediaClass::Audio => self.stage_frame(message, class, Track::Audio, stream, now),
            MediaClass::ClearMetadata => self.clear_metadata(),
            MediaClass::Data => self.stage_data(message, stream),
            MediaClass::VideoSequenceHeader { .. }
            | MediaClass::VideoMetadata { .. }
            | MediaClass::AudioSequenceHeader { .. }
            | MediaClass::AudioChannels { .. }
            | MediaClass::Metadata => self.stage_header(message, class, stream),
        }
        true
    }

    fn stage_frame(
        &mut self,
        message: &Message,
        class: MediaClass,
        track: Track,
        stream: &Stream,
        now: Instant,
    ) {
        if self.phase == Phase::Repeating
            && self.timeline.repeats_for_too_long(now)
            && self.can_begin_with(class, stream)
        {
            // Nothing but a beginning anew, from the same file, say.
            self.timeline.publisher_begins(Duration::ZERO);
            self.phase = Phase::Beginning { may_resume: false };
        }
        let phase = self.phase;
        let is_another = match phase {
            Phase::Beginning { may_resume } => {
                let goes_on = may_resume && self.goes_on_with(message, class, track, stream);
                if goes_on {
                    self.timeline.resume(now);
                }
                !goes_on
            }
            Phase::Preamble if self.preamble_is_of_another(message) => {
                self.timeline.publisher_begins(Duration::ZERO);
                true
            }
            Phase::Preamble | Phase::Repeating | Phase::Flowing => false,
        };
        let timestamp = match self.timeline.place(now, track, message.timestamp) {
            Placement::At(time) => time,
            // A frame of another track may be of the same time.
            Placement::AtSeam(time) if !has(message, class, time, 0, stream) => time,
            Placement::Known | Placement::AtSeam(_) => {
                self.phase = Phase::Repeating;
                self.early.data.clear();
                return;
            }
        };
        self.phase = Phase::Flowing;
        if is_another {
            self.begin_publication(phase == Phase::Preamble, stream);
        }
        self.follow_tracks(message, track, timestamp, stream);
        self.stage_early(timestamp, stream);
        if let Some(part) = self.part(message, class, stream, now) {
            self.encode(message.clone(), class, part, timestamp, stream.chunk_size);
        }
    }

    /// Whether a player can join at a frame of `class` that comes now.
    fn can_begin_with(&self, class: MediaClass, stream: &Stream) -> bool {
        let part = match class {
            MediaClass::Keyframe { .. } => Part::Keyframe,
            MediaClass::Audio => Part::Audio,
            MediaClass::InterFrame { .. } if self.pictures.are_unflagged() => Part::Unflagged,
            _ => Part::Video,
        };
        stream.index().can_join_at(part, self.timeline.newest())
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
        track: Track,
        stream: &Stream,
    ) -> bool {
        let join = stream.index().join_offset();
        let time = self.timeline.known_time(track, frame.timestamp);
        join.zip(time)
            .is_some_and(|(join, time)| has(frame, class, time, join, stream))
    }

    /// Whether the metadata that came, with what came after it up to `frame`,
    /// begins another publication: with other decoders than before, or fewer.
    fn preamble_is_of_another(&self, frame: &Message) -> bool {
        let codec = Codec::of(frame.message_type, &frame.payload);
        let recoded = codec.is_some_and(|(codec, number)| {
            let known = self.codecs.of(Track::of(codec));
            known.is_some_and(|(known, of)| of == number && !known.is_same(codec))
        });
        recoded || self.early.headers.are_of_another_than(&self.headers)
    }

    /// Another publication begins with the next frame. `unmarked`: that is
    /// only what it looks like, so headers come back with frames that need them.
    fn begin_publication(&mut self, unmarked: bool, stream: &Stream) {
        let mut former = std::mem::take(&mut self.headers);
        former.clear_metadata();
        self.dormant = if unmarked { former } else { Headers::default() };
        self.pictures = Pictures::new();
        self.codecs = PerTrack::default();
        self.told_of_long_group = false;
        let newest = self.timeline.newest();
        self.heard = PerTrack {
            audio: newest,
            video: newest,
        };
        self.staged.push(Staged::Publication);
        if self.end > 0 {
            // So nginx-rtmp says it to its players; edges of ours listen.
            let begin = Control::UserControl(UserControl::StreamBegin(MESSAGE_STREAM));
            self.append(&begin.to_message(), Part::Always, newest, stream.chunk_size);
        }
    }

    /// Sees to it that the headers in force are those of the tracks that are
    /// there, as `frame` of `track` shows them.
    fn follow_tracks(&mut self, frame: &Message, track: Track, timestamp: u64, stream: &Stream) {
        let newest = self.timeline.newest();
        *self.heard.of_mut(track) = newest;
        if let Some((codec, number)) = Codec::of(frame.message_type, &frame.payload)
            && *self.codecs.of(track) != Some((codec, number))
        {
            *self.codecs.of_mut(track) = Some((codec, number));
            self.dormant.keep_codec(codec, number);
            if self.headers.keep_codec(codec, number) {
                self.stage_headers();
                if track == Track::Video {
                    self.pictures = Pictures::new();
                }
            }
        }
        if newest - *self.heard.of(track.other()) > TRACK_SILENT_MS {
            let silent = self.headers.take_track(track.other());
            if !silent.is_empty() {
                silent
                    .into_iter()
                    .for_each(|header| self.dormant.set(header));
                self.stage_headers();
            }
        }
        if self.dormant.is_empty() {
            return;
        }
        for header in self.dormant.take_track(track) {
            if !self.headers.has_class(header.class) && !self.early.headers.has_class(header.class)
            {
                let message = header.message(MESSAGE_STREAM);
                let (class, chunk_size) = (header.class, stream.chunk_size);
                self.encode(message, class, Part::Always, timestamp, chunk_size);
            }
        }
    }

    /// What `frame` is to players; `None`: nobody gets it.
    fn part(
        &mut self,
        frame: &Message,
        class: MediaClass,
        stream: &Stream,
        now: Instant,
    ) -> Option<Part> {
        let (picture, track) = match class {
            MediaClass::Keyframe { track } => (Picture::Keyframe, track),
            MediaClass::InterFrame { track } => (Picture::InterFrame, track),
            _ if frame.message_type == MessageType::VIDEO => (Picture::Nothing, 0),
            _ => return Some(Part::Audio),
        };
        let patience = match self.source {
            Source::Encoder | Source::SilentOrigin => stream.keyframe_timeout(),
            Source::MarkingOrigin => Duration::ZERO,
        };
        match self.pictures.take(picture, track, now, patience) {
            Verdict::Logged(part) => Some(part),
            Verdict::LoggedAtLast(part, waited) => {
                log::warn!(
                    "{}: no keyframe for {:.1} s: players begin without one, and may show \
                     broken pictures for a while; does the encoder flag its keyframes?",
                    stream.key,
                    waited.as_secs_f64()
                );
                Some(part)
            }
            Verdict::Withheld => {
                self.staged.push(Staged::PictureWithheld);
                None
            }
        }
    }

    /// Stages what was kept for a frame of the time `timestamp`, but for
    /// headers that are in force.
    fn stage_early(&mut self, timestamp: u64, stream: &Stream) {
        if self.early.is_empty() {
            return;
        }
        let Early { headers, data } = std::mem::take(&mut self.early);
        for header in headers.since(0) {
            if !self.headers.has(header) {
                let message = header.message(MESSAGE_STREAM);
                let (class, chunk_size) = (header.class, stream.chunk_size);
                self.encode(message, class, Part::Always, timestamp, chunk_size);
            }
        }
        for message in data {
            self.encode_data(message, stream.chunk_size);
        }
    }

    fn stage_header(&mut self, message: &Message, class: MediaClass, stream: &Stream) {
        let message = for_players(message, class);
        if class == MediaClass::Metadata
            && self.phase == Phase::Flowing
            && self.source == Source::SilentOrigin
        {
            self.phase = Phase::Preamble;
        }
        // Encoders stamp headers and metadata anyhow, mostly with 0: they
        // belong to what comes next.
        let waits = self.phase != Phase::Flowing;
        if waits && Headers::keeps(class, &message) {
            self.early.headers.set(Header::new(class, &message));
        } else if self.phase != Phase::Repeating {
            let newest = self.timeline.newest();
            self.encode(message, class, Part::Always, newest, stream.chunk_size);
        }
    }

    fn clear_metadata(&mut self) {
        self.early.headers.clear_metadata();
        self.headers.clear_metadata();
        self.stage_headers();
    }

    fn stage_data(&mut self, message: &Message, stream: &Stream) {
        let message = data::for_players(message);
        match self.phase {
            Phase::Beginning { .. } => self.early.keep_data(message),
            Phase::Repeating => {}
            Phase::Preamble | Phase::Flowing => self.encode_data(message, stream.chunk_size),
        }
    }

    fn encode_data(&mut self, message: Message, chunk_size: u32) {
        let timestamp = self.timeline.place_data(message.timestamp);
        self.encode(message, MediaClass::Data, Part::Data, timestamp, chunk_size);
    }

    fn encode(
        &mut self,
        message: Message,
        class: MediaClass,
        part: Part,
        timestamp: u64,
        chunk_size: u32,
    ) {
        if Headers::keeps_class(class) {
            let mut header = Header::new(class, &message);
            header.offset = self.end + self.encoded.len() as u64;
            if let Some(track) = header.track() {
                *self.heard.of_mut(track) = self.timeline.newest();
            }
            if let MediaClass::VideoSequenceHeader { .. } = class {
                self.staged.push(Staged::PicturesExpected(timestamp));
            }
            self.headers.set(header);
            self.stage_headers();
        }
        let message = for_log(message, class, timestamp);
        self.append(&message, part, timestamp, chunk_size);
    }

    fn append(&mut self, message: &Message, part: Part, timestamp: u64, chunk_size: u32) {
        let before = self.encoded.len();
        encode(message, chunk_size, &mut self.encoded);
        self.staged.push(Staged::Message {
            part,
            timestamp,
            length: (self.encoded.len() - before) as u64,
        });
    }

    fn stage_headers(&mut self) {
        let headers = Arc::new(self.headers.clone());
        self.staged.push(Staged::Headers(headers));
    }

    /// What is to be written at the log's end; `None`: nothing has changed.
    pub(super) fn staged(&self) -> Option<&[u8]> {
        (!self.staged.is_empty()).then_some(&self.encoded)
    }

    /// Whether the last frame was one that the log has already.
    pub(super) fn repeats(&self) -> bool {
        self.phase == Phase::Repeating
    }

    /// Whether the present publication has had no group that was too long: asked
    /// at each, it is said once.
    pub(super) fn is_first_long_group(&mut self) -> bool {
        !std::mem::replace(&mut self.told_of_long_group, true)
    }

    /// What was staged has been written: it is entered into `index`.
    pub(super) fn written(&mut self, index: &mut Index) {
        for staged in self.staged.drain(..) {
            match staged {
                Staged::Publication => index.begin_publication(),
                Staged::Headers(headers) => index.set_headers(headers),
                Staged::PicturesExpected(timestamp) => index.expect_pictures(timestamp),
                Staged::PictureWithheld => index.withhold_picture(),
                Staged::Message {
                    part,
                    timestamp,
                    length,
                } => index.push(part, timestamp, length),
            }
        }
        self.end = index.end();
        self.clear_encoded();
    }

    /// What was staged could not be written after what `index` knows.
    pub(super) fn not_written(&mut self, index: &Index) {
        self.staged.clear();
        self.clear_encoded();
        self.headers = Headers::clone(&index.headers());
    }

    fn clear_encoded(&mut self) {
        self.encoded.clear();
        self.encoded.shrink_to(MAX_ENCODED_KEPT);
    }
}

/// Bytes of the encoding buffer that are kept between two reads.
const MAX_ENCODED_KEPT: usize = 64 * 1024;

/// Whether the log has `frame` at `time`, in this place or a later one.
fn has(frame: &Message, class: MediaClass, time: u64, from: u64, stream: &Stream) -> bool {
    let frame = for_log(frame.clone(), class, time);
    let mut encoded = Vec::new();
    encode(&frame, stream.chunk_size, &mut encoded);
    let mut places: Vec<_> = stream.index().frames_at(time).collect();
    places.retain(|place| place.start >= from);
    places.into_iter().any(|place| {
        // What cannot be read is not known.
        let bytes = stream.log.copy(place.start, place.end);
        bytes.is_ok_and(|bytes| bytes == encoded)
    })
}
