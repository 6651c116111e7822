//! Decides what goes into a stream's log of what its publishers send, and in
//! which form.

mod flv;
mod hls;
mod part;
mod pending;
mod staging;
mod tracks;

use std::io;
use std::time::{Duration, Instant};

use rtmp_proto::wire::media::{MediaClass, MediaHead, TrackCodec};
use rtmp_proto::wire::message::{Control, UserControl, data};
use rtmp_proto::wire::{Message, MessageType};
use serde::{Deserialize, Serialize};

use super::log::headers::{Header, Headers};
use super::log::index::EntryKind;
use super::log::{Framing, Log, MESSAGE_STREAM, for_log, for_players};
use super::media::MediaMessage;
use super::pictures::{Picture, Pictures, Verdict};
use super::timeline::{Placement, Timeline};
use super::track::Track;
use pending::Pending;
use staging::Staging;
use tracks::Tracks;

/// The origin of a publication's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// An encoder: each of its connections is a publication.
    Encoder,
    /// A slate.
    Slate,
    /// An origin that says where a publication begins, and has waited for the
    /// first keyframe itself: a server of ours.
    OriginWithPublicationMarks,
    /// An origin that may go over to another publication without a word.
    OriginWithoutPublicationMarks,
}

/// The phase of the present publication.
///
/// ```text
///                 the log has the frame
///            ┌─────────────────────────────▶ Repeating ─┐
/// Beginning ─┤                                  │ ▲     │ it has it not
///      ▲     └── it has it not ──▶ Flowing ◀────┼─┼─────┘
///      │                           │   ▲        │ │ it has the frame
///      │             metadata of a │   │ frame  │ │
///      │             silent origin ▼   │        │ │
///      │                          Preamble ─────┼─┘
///      └─ what is repeated lasts too long ──────┘
///
/// any phase ─ a publisher comes, or its origin says that another publication
/// begins ─▶ Beginning
/// any phase ─ a standby of the same headers takes over, not from a slate ─▶ Flowing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// The circumstances of the messages that one read has brought.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) log: &'a Log,
    pub(super) now: Instant,
    /// Time for which pictures are held back for want of a keyframe.
    pub(super) keyframe_timeout: Duration,
}

/// A log's end as whoever publishes the stream needs it.
///
/// For each batch: [`Writer::stage`] for each message, then, if anything
/// [has been staged](Writer::has_staged), [`Writer::commit`].
/// [`Writer::publisher_begins`] comes before the first of a publisher's.
#[derive(Debug)]
pub(super) struct Writer {
    timeline: Timeline,
    source: Source,
    phase: Phase,
    pending: Pending,
    tracks: Tracks,
    pictures: Pictures,
    staging: Staging,
    /// It has been logged of this publication that its groups are too long.
    warned_of_long_group: bool,
}

impl Writer {
    /// The writer of an empty log in chunks of `chunk_size` bytes.
    pub(super) fn new(chunk_size: u32) -> Self {
        Self {
            timeline: Timeline::new(),
            source: Source::Encoder,
            phase: Phase::Beginning { may_resume: false },
            pending: Pending::default(),
            tracks: Tracks::default(),
            pictures: Pictures::new(),
            staging: Staging::new(Framing::Chunks(chunk_size)),
            warned_of_long_group: false,
        }
    }

    /// A publisher comes; an origin may begin with `replay` of the past, and
    /// with the publication that was there.
    pub(super) fn publisher_begins(&mut self, source: Source, replay: Duration) {
        self.source = source;
        let may_resume = !matches!(source, Source::Encoder | Source::Slate);
        self.begin(replay, may_resume);
    }

    /// The publisher, an origin, goes over to another publication.
    pub(super) fn start_new_publication(&mut self) {
        self.begin(Duration::ZERO, false);
    }

    /// A publisher goes on air that has waited beside the last one. Its group begins with
    /// `headers` in force, and has frames of `codecs`. Where those are the ones in force
    /// here, the publication goes on, without headers; else another one begins, and so it does
    /// after a slate, here or at an origin: recordings are without that, and edges are to know
    /// that it has ended.
    pub(super) fn publisher_takes_over(
        &mut self,
        source: Source,
        headers: Headers,
        mut codecs: impl Iterator<Item = TrackCodec>,
    ) {
        let former = std::mem::replace(&mut self.source, source);
        self.timeline.publisher_takes_over();
        let goes_on = former != Source::Slate
            && !self.staging.headers().mark_slate()
            && self.staging.is_log_written()
            && headers.have_configurations_of(self.staging.headers())
            && !codecs.any(|codec| self.tracks.are_recoded(codec));
        self.phase = if goes_on {
            self.pictures = Pictures::new();
            Phase::Flowing
        } else {
            Phase::Beginning { may_resume: false }
        };
        self.pending = Pending {
            headers,
            data: Vec::new(),
        };
    }

    fn begin(&mut self, replay: Duration, may_resume: bool) {
        self.timeline.publisher_begins(replay);
        self.phase = Phase::Beginning { may_resume };
        self.pending = Pending::default();
    }

    /// Encodes `message` for the log, unless it is there already; false if it
    /// is no media at all.
    pub(super) fn stage(&mut self, message: &MediaMessage, batch: &Batch<'_>) -> bool {
        let Some(head) = message.head() else {
            return false;
        };
        let message = message.message();
        match head.class {
            MediaClass::Keyframe { .. }
            | MediaClass::InterFrame { .. }
            | MediaClass::VideoOther => self.stage_frame(message, head, Track::Video, batch),
            MediaClass::Audio => self.stage_frame(message, head, Track::Audio, batch),
            MediaClass::ClearMetadata => self.clear_metadata(),
            MediaClass::Data => self.stage_data(message),
            MediaClass::VideoSequenceHeader { .. }
            | MediaClass::VideoMetadata { .. }
            | MediaClass::AudioSequenceHeader { .. }
            | MediaClass::AudioChannels { .. }
            | MediaClass::Metadata => self.stage_header(message, head),
        }
        true
    }

    fn stage_frame(&mut self, message: &Message, head: MediaHead, track: Track, batch: &Batch<'_>) {
        let &Batch { log, now, .. } = batch;
        if self.phase == Phase::Repeating
            && self.timeline.repeats_for_too_long(now)
            && self.can_begin_with(head.class, log)
        {
            // An encoder that plays the same file again, say.
            self.timeline.publisher_begins(Duration::ZERO);
            self.phase = Phase::Beginning { may_resume: false };
        }
        let phase = self.phase;
        let is_another = match phase {
            Phase::Beginning { may_resume } => {
                let goes_on = may_resume && self.goes_on_with(message, head.class, track, log);
                if goes_on {
                    self.timeline.resume(now);
                }
                !goes_on
            }
            Phase::Preamble if self.preamble_is_of_another(head) => {
                self.timeline.publisher_begins(Duration::ZERO);
                true
            }
            Phase::Preamble | Phase::Repeating | Phase::Flowing => false,
        };
        let timestamp = match self.timeline.place(now, track, message.timestamp) {
            Placement::At(time) => time,
            // A frame of another track may be of the same time.
            Placement::AtResumption(time) if !log.has_frame(message, head.class, time, 0) => time,
            Placement::Known | Placement::AtResumption(_) => {
                self.phase = Phase::Repeating;
                self.pending.data.clear();
                return;
            }
        };
        self.phase = Phase::Flowing;
        if is_another {
            self.begin_publication(phase == Phase::Preamble);
        }
        self.follow_tracks(track, head.codec, timestamp);
        self.stage_pending(timestamp);
        if let Some(kind) = self.entry_kind(message, head.class, batch) {
            self.encode(message.clone(), head, kind, timestamp);
        }
    }

    /// Brings the headers in force in line with a frame of `track` that comes at
    /// `timestamp`.
    fn follow_tracks(&mut self, track: Track, codec: Option<TrackCodec>, timestamp: u64) {
        let newest = self.timeline.newest();
        let recoded = self.tracks.follow(track, codec, newest, &mut self.staging);
        if recoded && track == Track::Video {
            self.pictures = Pictures::new();
        }
        for header in self.tracks.take_dormant(track) {
            let class = header.class;
            if !self.staging.headers().has_class(class) && !self.pending.headers.has_class(class) {
                let message = header.message(MESSAGE_STREAM);
                self.encode(message, header.head(), EntryKind::Always, timestamp);
            }
        }
    }

    /// True if a player can join at a frame of `class` that comes now.
    fn can_begin_with(&self, class: MediaClass, log: &Log) -> bool {
        let kind = match class {
            MediaClass::Keyframe { .. } => EntryKind::Keyframe,
            MediaClass::Audio => EntryKind::Audio,
            MediaClass::InterFrame { .. } if self.pictures.are_unflagged() => EntryKind::Unflagged,
            _ => EntryKind::Video,
        };
        log.index().can_join_at(kind, self.timeline.newest())
    }

    /// True if `frame`, a publisher's first, belongs to the stream that the log
    /// ends with: an origin sends its newest group of pictures to whoever
    /// comes, and an edge whose connection broke comes again.
    ///
    /// The log before the newest place to join at does not count: an origin
    /// does not begin there, but an encoder may that plays its file again.
    fn goes_on_with(&self, frame: &Message, class: MediaClass, track: Track, log: &Log) -> bool {
        let join = log.index().join_offset();
        let time = self.timeline.known_time(track, frame.timestamp);
        join.zip(time)
            .is_some_and(|(join, time)| log.has_frame(frame, class, time, join))
    }

    /// True if the metadata that came, with what came after it up to a frame of
    /// `head`, begins another publication: with other decoders than before, or
    /// fewer.
    fn preamble_is_of_another(&self, head: MediaHead) -> bool {
        let recoded = head
            .codec
            .is_some_and(|codec| self.tracks.are_recoded(codec));
        let pending = &self.pending.headers;
        recoded || pending.are_of_another_than(self.staging.headers())
    }

    /// Another publication begins with the next frame. `unmarked`: that is
    /// only what it looks like, so headers come back with frames that need them.
    fn begin_publication(&mut self, unmarked: bool) {
        let newest = self.timeline.newest();
        let of_slate = self.source == Source::Slate;
        let mut former = self.staging.begin_publication(of_slate);
        former.clear_metadata();
        let dormant = if unmarked { former } else { Headers::default() };
        self.tracks = Tracks::new(newest, dormant);
        self.pictures = Pictures::new();
        self.warned_of_long_group = false;
        if self.staging.is_log_written() {
            // nginx-rtmp tells its players so, and edges of ours take it for the
            // beginning of a publication.
            let begin = Control::UserControl(UserControl::StreamBegin(MESSAGE_STREAM));
            self.staging
                .append(&begin.to_message(), EntryKind::Always, newest);
        }
    }

    /// The kind of entry that `frame` becomes; `None`: nobody gets it.
    fn entry_kind(
        &mut self,
        frame: &Message,
        class: MediaClass,
        batch: &Batch<'_>,
    ) -> Option<EntryKind> {
        let (picture, track) = match class {
            MediaClass::Keyframe { track } => (Picture::Keyframe, track),
            MediaClass::InterFrame { track } => (Picture::InterFrame, track),
            _ if frame.message_type == MessageType::VIDEO => (Picture::Nothing, 0),
            _ => return Some(EntryKind::Audio),
        };
        let timeout = match self.source {
            Source::Encoder | Source::Slate | Source::OriginWithoutPublicationMarks => {
                batch.keyframe_timeout
            }
            Source::OriginWithPublicationMarks => Duration::ZERO,
        };
        match self.pictures.take(picture, track, batch.now, timeout) {
            Verdict::Logged(kind) => Some(kind),
            Verdict::LoggedAtLast(kind, waited) => {
                log::warn!(
                    "{}: no keyframe for {:.1} s: players begin without one, and may show \
                     broken pictures for a while; does the encoder flag its keyframes?",
                    batch.log.key(),
                    waited.as_secs_f64()
                );
                Some(kind)
            }
            Verdict::Withheld => {
                self.staging.withhold_picture();
                None
            }
        }
    }

    /// Stages what was kept for a frame of the time `timestamp`, but for
    /// headers that are in force.
    fn stage_pending(&mut self, timestamp: u64) {
        if self.pending.is_empty() {
            return;
        }
        let Pending { headers, data } = std::mem::take(&mut self.pending);
        for header in headers.since(0) {
            if !self.staging.headers().has(header) {
                let message = header.message(MESSAGE_STREAM);
                self.encode(message, header.head(), EntryKind::Always, timestamp);
            }
        }
        for message in data {
            self.encode_data(message);
        }
    }

    fn stage_header(&mut self, message: &Message, head: MediaHead) {
        let message = for_players(message, head.class);
        if head.class == MediaClass::Metadata
            && self.phase == Phase::Flowing
            && self.source == Source::OriginWithoutPublicationMarks
        {
            self.phase = Phase::Preamble;
        }
        // Encoders stamp headers and metadata anyhow, mostly with 0: they
        // belong to what comes next.
        // Those of a standby wait for its first frame, too: a newer one takes the place.
        let waits = self.phase != Phase::Flowing || !self.pending.headers.is_empty();
        if waits && Headers::keeps(head.class, &message) {
            self.pending.headers.set(Header::new(head, &message));
        } else if self.phase != Phase::Repeating {
            let newest = self.timeline.newest();
            self.encode(message, head, EntryKind::Always, newest);
        }
    }

    fn clear_metadata(&mut self) {
        self.pending.headers.clear_metadata();
        self.staging.change_headers(|headers| {
            headers.clear_metadata();
            true
        });
    }

    fn stage_data(&mut self, message: &Message) {
        let message = data::for_players(message);
        match self.phase {
            Phase::Beginning { .. } => self.pending.keep_data(message),
            Phase::Repeating => {}
            Phase::Preamble | Phase::Flowing => self.encode_data(message),
        }
    }

    fn encode_data(&mut self, message: Message) {
        let timestamp = self.timeline.place_data(message.timestamp);
        let message = for_log(message, MediaClass::Data, timestamp);
        self.staging.append(&message, EntryKind::Data, timestamp);
    }

    /// Stages a message, and puts it in force if it is a header.
    fn encode(&mut self, message: Message, head: MediaHead, mut kind: EntryKind, timestamp: u64) {
        if Headers::keeps_class(head.class) {
            let header = Header::new(head, &message);
            if let Some(track) = header.track() {
                kind = EntryKind::Header(track);
                self.tracks.note(track, self.timeline.newest());
            }
            if let MediaClass::VideoSequenceHeader { .. } = head.class {
                self.staging.announce_video(timestamp);
            }
            self.staging.set_header(header);
        }
        let message = for_log(message, head.class, timestamp);
        self.staging.append(&message, kind, timestamp);
    }

    /// True if the log is to change.
    pub(super) fn has_staged(&self) -> bool {
        self.staging.has_staged()
    }

    /// True if the last frame was one that the log has already.
    pub(super) fn repeats(&self) -> bool {
        self.phase == Phase::Repeating
    }

    /// Writes what has been staged to the end of `log`, at `now_ms` on the
    /// server's clock.
    ///
    /// # Errors
    /// The log cannot be written; what has been staged is dropped.
    pub(super) fn commit(&mut self, log: &Log, now_ms: u64) -> io::Result<()> {
        let has_long_group = self.staging.commit(log, now_ms)?;
        if has_long_group && !std::mem::replace(&mut self.warned_of_long_group, true) {
            log::warn!(
                "{}: no keyframe for longer than gop_cache_max_frames: until the next one, \
                 who joins gets no pictures",
                log.key()
            );
        }
        Ok(())
    }
}
