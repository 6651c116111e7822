//! Which messages lie where in a stream's log. No bytes, no I/O, no clock.

mod giving_up;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::headers::Headers;
pub use giving_up::OldestGroup;

/// Without video for this long on the stream's timeline, ms, a stream counts
/// as sound only, where a player can join at any message.
const SOUND_ONLY_AFTER_MS: u64 = 10_000;

/// The same where no picture has come yet, ms: encoders send sound and
/// pictures soon after each other, and an edge's origin may hold pictures back.
const SOUND_FIRST_AFTER_MS: u64 = 1_000;

/// Messages that there is always room for.
const ENTRIES_KEPT: usize = 1_024;

/// What a message in the log is to a player that leaves some messages out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A frame of sound.
    Audio,
    /// A picture at which a player can join.
    Keyframe,
    /// A picture that needs others, or another message of the video.
    Video,
    /// A picture of a stream that flags no keyframes: a player can join here
    /// for want of one.
    Unflagged,
    /// Sequence headers, metadata, marks: nobody does without.
    Always,
    /// A cue point, a caption and the like: nobody does without. Its time may
    /// be still to come.
    Data,
}

/// How much of the past the log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// A player further behind than this is moved on.
    pub queue_length: Duration,
    /// The most bytes that are kept, whatever the publisher's timestamps say.
    pub max_bytes: u64,
    /// The most messages that are known, however small they are: each takes
    /// some room here, too.
    pub max_messages: usize,
    /// A group of more messages than this is not sent to who joins; 0: any is.
    pub group_messages: usize,
}

/// Where a player can begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinPoint {
    /// Where its first frame begins.
    pub offset: u64,
    /// That frame's time, ms.
    pub timestamp: u64,
    /// What that frame is. After sound, pictures that follow need a keyframe
    /// first: a publisher's pictures may begin within a group.
    pub part: Part,
    /// The headers in force there.
    pub headers: Arc<Headers>,
}

/// The state of a log at one moment: all that a flush has to know.
#[derive(Debug, Clone)]
pub struct View {
    /// Where the newest message ends.
    pub end: u64,
    /// The newest message's time, ms.
    pub timestamp: u64,
    /// Pictures in the log up to its end.
    pub pictures: u64,
    /// A player before this offset is too far behind and must be moved on.
    pub keep_from: u64,
    /// Where a player can begin; `None` before the first keyframe.
    pub join: Option<JoinPoint>,
    /// Where one can that must not begin as early as there: a later picture of
    /// a stream that flags no keyframes any more.
    pub later_join: Option<JoinPoint>,
    /// Where the present publication begins in the log.
    pub publication: u64,
    /// The headers in force at the end.
    pub headers: Arc<Headers>,
}

impl View {
    /// Where a player can begin that has had the log up to `offset`.
    #[must_use]
    pub fn join_from(&self, offset: u64) -> Option<&JoinPoint> {
        let mut points = self.join.iter().chain(&self.later_join);
        points.find(|join| join.offset >= offset)
    }

    /// The newest place where a player can begin.
    #[must_use]
    pub fn newest_join(&self) -> Option<u64> {
        let newest = self.later_join.as_ref().or(self.join.as_ref());
        newest.map(|join| join.offset)
    }
}

/// What a player has asked to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Whether it wants sound.
    pub audio: bool,
    /// What it wants of the pictures.
    pub video: VideoFilter,
}

/// What a player wants of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VideoFilter {
    /// All of them.
    All,
    /// All from the next keyframe on.
    FromKeyframe,
    /// None.
    None,
}

impl Filter {
    /// The filter that lets everything through.
    pub const EVERYTHING: Self = Self {
        audio: true,
        video: VideoFilter::All,
    };

    fn keeps(&mut self, part: Part) -> bool {
        match (part, self.video) {
            (Part::Always | Part::Data, _) => true,
            (Part::Audio, _) => self.audio,
            (Part::Keyframe | Part::Unflagged, VideoFilter::FromKeyframe) => {
                self.video = VideoFilter::All;
                true
            }
            (Part::Keyframe | Part::Video | Part::Unflagged, VideoFilter::All) => true,
            (Part::Video, VideoFilter::FromKeyframe)
            | (Part::Keyframe | Part::Video | Part::Unflagged, VideoFilter::None) => false,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: u64,
    timestamp: u64,
    /// Pictures in the log before this message.
    pictures_before: u64,
    /// When it came on the server's clock, ms: a publisher's may stand still.
    arrived: u64,
    /// How far it is behind the newest message before it, ms: sound and
    /// pictures of one time may be seconds apart in the log. Data may be ahead.
    late: i32,
    part: Part,
}

impl Entry {
    /// The log's time when the message came, ms: it only rises.
    fn came_at(&self) -> u64 {
        self.timestamp.saturating_add_signed(self.late.into())
    }
}

fn is_frame(part: Part) -> bool {
    match part {
        Part::Audio | Part::Keyframe | Part::Video | Part::Unflagged => true,
        Part::Always | Part::Data => false,
    }
}

/// The messages of a log, oldest first.
#[derive(Debug)]
pub struct Index {
    retention: Retention,
    entries: VecDeque<Entry>,
    /// Position in `entries` of the first message within `queue_length`.
    recent: usize,
    end: u64,
    timestamp: u64,
    /// The server's clock, ms, as of the newest message.
    now: u64,
    /// Nothing before this offset is kept: its memory was needed elsewhere.
    given_up: u64,
    pictures: u64,
    /// Where the present publication begins, and how many pictures there are
    /// before.
    publication: u64,
    former_pictures: u64,
    /// The log's time when the present publication's last picture came, ms, or
    /// a video decoder's configuration.
    last_video: Option<u64>,
    /// Pictures come, and there is none to begin with: players that join hear
    /// the sound meanwhile.
    without_picture: bool,
    headers: Arc<Headers>,
    join: Option<JoinPoint>,
    /// See [`View::later_join`].
    later_join: Option<JoinPoint>,
    /// Messages from the join point on.
    group_messages: usize,
    /// Messages from the later join point on.
    later_messages: usize,
    /// A join point was given up because its group was too long.
    gave_up_long_group: bool,
    /// Per reader the lowest offset that it may still read.
    low_water: Box<[u64]>,
}

impl Index {
    /// The index of an empty log that `readers` will read: two for each fan-out
    /// worker.
    #[must_use]
    pub fn new(retention: Retention, readers: usize) -> Self {
        Self {
            retention,
            entries: VecDeque::new(),
            recent: 0,
            end: 0,
            timestamp: 0,
            now: 0,
            given_up: 0,
            pictures: 0,
            publication: 0,
            former_pictures: 0,
            last_video: None,
            without_picture: false,
            headers: Arc::default(),
            join: None,
            later_join: None,
            group_messages: 0,
            later_messages: 0,
            gave_up_long_group: false,
            low_water: vec![u64::MAX; readers].into(),
        }
    }

    /// Changes what is kept, from the next message on.
    pub fn set_retention(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// What is entered from here on comes at `now`, ms on the server's clock.
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// Enters a message of `length` bytes that lies at the end of the log.
    /// Timestamps may fall from one track to another, by as much as those are
    /// apart.
    pub fn push(&mut self, part: Part, timestamp: u64, length: u64) {
        let offset = self.end;
        if part != Part::Data {
            self.timestamp = self.timestamp.max(timestamp);
        }
        let late = self.timestamp.cast_signed() - timestamp.cast_signed();
        let entry = Entry {
            offset,
            timestamp,
            pictures_before: self.pictures,
            arrived: self.now,
            late: i32::try_from(late).unwrap_or(i32::MAX),
            part,
        };
        self.entries.push_back(entry);
        self.end += length;
        let joinable = self.can_join_at(part, self.timestamp);
        if matches!(part, Part::Keyframe | Part::Video | Part::Unflagged) {
            self.pictures += 1;
            self.last_video = Some(self.timestamp);
        }
        self.group_messages += 1;
        self.later_messages += 1;
        if joinable {
            self.set_join(JoinPoint {
                offset,
                timestamp,
                part,
                headers: self.headers.clone(),
            });
        }
        self.forget();
    }

    fn set_join(&mut self, join: JoinPoint) {
        let has_keyframe = |join: &JoinPoint| join.part == Part::Keyframe;
        if join.part == Part::Unflagged && self.join.as_ref().is_some_and(has_keyframe) {
            // The whole group is worth more to whoever may begin there.
            self.later_join = Some(join);
            self.later_messages = 1;
            return;
        }
        self.group_messages = 1;
        self.without_picture &= join.part == Part::Audio;
        self.join = Some(join);
        self.later_join = None;
    }

    /// Whether a player can join at a message of `part` that comes next, with
    /// this time.
    #[must_use]
    pub fn can_join_at(&self, part: Part, timestamp: u64) -> bool {
        match part {
            Part::Keyframe | Part::Unflagged => true,
            Part::Audio => {
                let patience = if self.pictures > self.former_pictures {
                    SOUND_ONLY_AFTER_MS
                } else {
                    SOUND_FIRST_AFTER_MS
                };
                let is_over = |last| timestamp.saturating_sub(last) > patience;
                self.without_picture || self.last_video.is_none_or(is_over)
            }
            Part::Video | Part::Always | Part::Data => false,
        }
    }

    /// Another publication begins here: nobody joins in the one before, and
    /// its headers are void.
    pub fn begin_publication(&mut self) {
        self.publication = self.end;
        self.former_pictures = self.pictures;
        self.last_video = None;
        self.without_picture = false;
        self.headers = Arc::default();
        self.join = None;
        self.later_join = None;
        self.group_messages = 0;
        self.later_messages = 0;
    }

    /// A picture has come that nobody gets: there was no keyframe before it.
    pub fn withhold_picture(&mut self) {
        self.without_picture |= self
            .join
            .as_ref()
            .is_none_or(|join| join.part == Part::Audio);
    }

    /// Where a player can join at present.
    #[must_use]
    pub fn join_offset(&self) -> Option<u64> {
        self.join.as_ref().map(|join| join.offset)
    }

    /// Puts `headers` in force.
    pub fn set_headers(&mut self, headers: Arc<Headers>) {
        self.headers = headers;
    }

    /// A video decoder's configuration of the time `timestamp` has come:
    /// pictures will.
    pub fn expect_pictures(&mut self, timestamp: u64) {
        self.last_video = Some(self.timestamp.max(timestamp));
    }

    /// The headers in force.
    #[must_use]
    pub fn headers(&self) -> Arc<Headers> {
        self.headers.clone()
    }

    /// Moves `recent` on, and gives up a join point that lies too far back.
    fn forget(&mut self) {
        let queue = u64::try_from(self.retention.queue_length.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.timestamp.saturating_sub(queue);
        let oldest_arrival = self.now.saturating_sub(queue);
        let excess = self.entries.len().checked_sub(self.retention.max_messages);
        let first = excess.map_or(0, |excess| self.offset_at(excess));
        let floor = first
            .max(self.end.saturating_sub(self.retention.max_bytes))
            .max(self.given_up);
        while let Some(entry) = self.entries.get(self.recent)
            && (entry.came_at() < oldest || entry.arrived < oldest_arrival || entry.offset < floor)
        {
            self.recent += 1;
        }
        let most = self.retention.group_messages;
        let too_long = most > 0 && self.group_messages > most;
        let given_up = |join: &JoinPoint| too_long || join.offset < floor;
        if self.join.as_ref().is_some_and(given_up) {
            let later = self.later_join.take();
            self.join = later.filter(|join| join.offset >= floor);
            self.group_messages = self.later_messages;
            self.without_picture |= self.join.is_none();
            self.gave_up_long_group |= too_long && self.join.is_none();
        }
    }

    /// Whether a join point has been given up since the last call because its
    /// group had more messages than who joins is sent.
    pub fn take_long_group(&mut self) -> bool {
        std::mem::take(&mut self.gave_up_long_group)
    }

    /// Where the newest message ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What must be kept for players that are not too far behind, and for the
    /// next one that joins.
    fn keep_from(&self) -> u64 {
        let recent = self.offset_at(self.recent);
        self.join
            .as_ref()
            .map_or(recent, |join| join.offset.min(recent))
    }

    /// The log as it is now, for the reader number `reader`, whose
    /// players stand at `low_water` or later. Until its next look nothing is
    /// given back that one of them, or one that joins, can read.
    pub fn look(&mut self, reader: usize, low_water: u64) -> View {
        let keep_from = self.keep_from();
        self.low_water[reader] = low_water.min(keep_from);
        View {
            end: self.end,
            timestamp: self.timestamp,
            pictures: self.pictures,
            keep_from,
            join: self.join.clone(),
            later_join: self.later_join.clone(),
            publication: self.publication,
            headers: self.headers.clone(),
        }
    }

    /// Reader number `reader` has no player of this stream any more.
    pub fn leave(&mut self, reader: usize) {
        self.low_water[reader] = u64::MAX;
    }

    /// Forgets the messages that nobody can need, and returns the offset
    /// before which the log's bytes may be given back.
    pub fn trim(&mut self) -> u64 {
        let keep_from = self
            .low_water
            .iter()
            .copied()
            .fold(self.keep_from(), u64::min);
        while let Some(second) = self.entries.get(1)
            && second.offset <= keep_from
            && self.recent > 0
        {
            self.entries.pop_front();
            self.recent -= 1;
        }
        // Room that a burst has taken is given back.
        let needed = 2 * self.entries.len().max(ENTRIES_KEPT);
        if self.entries.capacity() > 2 * needed {
            self.entries.shrink_to(needed);
        }
        keep_from
    }

    /// Where the message at this position of `entries` begins, or else the end.
    fn offset_at(&self, position: usize) -> u64 {
        self.entries
            .get(position)
            .map_or(self.end, |entry| entry.offset)
    }

    /// Position in `entries` of the first message at or after `offset`.
    fn position(&self, offset: u64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// The first offset at or after `offset` where a message begins.
    #[must_use]
    pub fn boundary(&self, offset: u64) -> u64 {
        self.offset_at(self.position(offset))
    }

    /// Where the first message of `timestamp` or later begins, data left out,
    /// else the end.
    #[must_use]
    pub fn first_at(&self, timestamp: u64) -> u64 {
        let mut entries = self.entries.iter();
        entries
            .find(|entry| entry.part != Part::Data && entry.timestamp >= timestamp)
            .map_or(self.end, |entry| entry.offset)
    }

    /// How many pictures begin in the log before `offset`.
    #[must_use]
    pub fn pictures_before(&self, offset: u64) -> u64 {
        let next = self.entries.get(self.position(offset));
        next.map_or(self.pictures, |entry| entry.pictures_before)
    }

    /// The first run of messages from `offset` up to `end` that `filter`
    /// keeps; empty, at the end, where it keeps none. `offset` must be the
    /// beginning of a message.
    pub fn kept(&self, offset: u64, end: u64, filter: &mut Filter) -> Range<u64> {
        let mut messages = self
            .entries
            .range(self.position(offset)..)
            .take_while(|entry| entry.offset < end);
        let Some(first) = messages.find(|entry| filter.keeps(entry.part)) else {
            return end..end;
        };
        let mut after = messages.skip_while(|entry| filter.keeps(entry.part));
        first.offset..after.next().map_or(end, |entry| entry.offset)
    }

    /// Where the frames of the time `timestamp` lie, as far as they are known.
    pub fn frames_at(&self, timestamp: u64) -> impl Iterator<Item = Range<u64>> {
        let ends = self.entries.iter().skip(1).map(|entry| entry.offset);
        self.entries
            .iter()
            .zip(ends.chain([self.end]))
            .filter(move |(entry, _)| is_frame(entry.part) && entry.timestamp == timestamp)
            .map(|(entry, end)| entry.offset..end)
    }

    /// How long the present publication's last whole group of pictures was on
    /// the stream's timeline; nothing if there was none.
    #[must_use]
    pub fn group(&self) -> Duration {
        let keyframes = self.entries.iter().rev();
        let mut keyframes = keyframes
            .take_while(|entry| entry.offset >= self.publication)
            .filter(|entry| entry.part == Part::Keyframe);
        match (keyframes.next(), keyframes.next()) {
            (Some(last), Some(before)) => {
                Duration::from_millis(last.timestamp.saturating_sub(before.timestamp))
            }
            _ => Duration::ZERO,
        }
    }

    /// Where each message lies from `offset` up to `end`, both of which must be
    /// ends or beginnings of messages.
    pub fn messages_in(&self, offset: u64, end: u64) -> impl Iterator<Item = Range<u64>> {
        let beginnings = self
            .entries
            .range(self.position(offset)..)
            .map(|entry| entry.offset);
        let ends = beginnings.clone().skip(1).chain([self.end]);
        beginnings
            .zip(ends)
            .map(|(beginning, end)| beginning..end)
            .take_while(move |message| message.start < end)
    }

    /// The messages that are known at present.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod join_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) const LENGTH: u64 = 100;

    pub(super) fn retention(queue_length_ms: u64, max_bytes: u64) -> Retention {
        Retention {
            queue_length: Duration::from_millis(queue_length_ms),
            max_bytes,
            max_messages: usize::MAX,
            group_messages: 0,
        }
    }

    pub(super) fn index(queue_length_ms: u64) -> Index {
        Index::new(retention(queue_length_ms, u64::MAX), 2)
    }

    /// Enters pictures every 40 ms with a keyframe each `gop` of them.
    pub(super) fn pictures(index: &mut Index, range: Range<u64>, gop: u64) {
        for number in range {
            let part = if number % gop == 0 {
                Part::Keyframe
            } else {
                Part::Video
            };
            index.push(part, number * 40, LENGTH);
        }
    }

    #[test]
    fn a_player_joins_at_the_newest_keyframe_with_the_headers_of_that_place() {
        let mut index = index(10_000);
        pictures(&mut index, 0..60, 25);
        let join = index.look(0, u64::MAX).join.unwrap();
        assert_eq!((join.offset, join.timestamp), (50 * LENGTH, 2_000));
    }

    #[test]
    fn before_the_first_keyframe_there_is_nowhere_to_join() {
        let mut index = index(10_000);
        index.push(Part::Always, 0, LENGTH);
        index.push(Part::Video, 0, LENGTH);
        index.push(Part::Audio, 10, LENGTH);
        assert_eq!(index.look(0, u64::MAX).join, None);
    }

    #[test]
    fn a_stream_of_sound_alone_can_be_joined_at_its_newest_frame() {
        let mut index = index(10_000);
        index.push(Part::Audio, 0, LENGTH);
        index.push(Part::Audio, 20, LENGTH);
        assert_eq!(index.look(0, u64::MAX).join.unwrap().offset, LENGTH);
    }

    #[test]
    fn a_stream_whose_video_ended_becomes_one_of_sound() {
        let mut index = index(60_000);
        index.push(Part::Keyframe, 0, LENGTH);
        index.push(Part::Audio, SOUND_ONLY_AFTER_MS, LENGTH);
        assert_eq!(index.look(0, u64::MAX).join.unwrap().offset, 0);
        index.push(Part::Audio, SOUND_ONLY_AFTER_MS + 1, LENGTH);
        assert_eq!(index.look(0, u64::MAX).join.unwrap().offset, 2 * LENGTH);
    }

    #[test]
    fn pictures_far_behind_the_sound_are_as_new_as_the_sound() {
        let mut index = index(3_000);
        for number in 0..400 {
            index.push(Part::Audio, 12_000 + number * 40, LENGTH);
            let part = if number % 50 == 0 {
                Part::Keyframe
            } else {
                Part::Video
            };
            index.push(part, number * 40, LENGTH);
        }
        let view = index.look(0, u64::MAX);
        let join = view.join.unwrap();
        assert_eq!(join.timestamp, 350 * 40, "not at some sound");
        // 3 s are 75 of each, and those of the very edge.
        assert_eq!(view.keep_from, view.end - 152 * LENGTH);
    }

    #[test]
    fn what_lies_behind_the_queue_and_the_group_of_pictures_is_given_back() {
        let mut index = index(1_000);
        pictures(&mut index, 0..110, 50);
        // Newest 4360 ms: the queue begins at 3360 ms, picture 84; the group at 100.
        assert_eq!(index.trim(), 84 * LENGTH);
        // A long group is kept whole, though it is longer than the queue.
        pictures(&mut index, 110..149, 50);
        assert_eq!(index.trim(), 100 * LENGTH);
        assert_eq!(index.messages(), 49);
    }

    #[test]
    fn nothing_is_given_back_that_a_worker_may_still_read() {
        let mut index = index(1_000);
        pictures(&mut index, 0..20, 10);
        let view = index.look(1, 300);
        assert_eq!(view.keep_from, 0);
        pictures(&mut index, 20..200, 10);
        assert_eq!(index.trim(), 0);
        let view = index.look(1, 1_234);
        assert_eq!(view.keep_from, 174 * LENGTH);
        assert_eq!(index.trim(), 1_234);
        assert_eq!(index.boundary(1_234), 1_300);
        index.leave(1);
        assert_eq!(index.trim(), 174 * LENGTH);
    }

    #[test]
    fn a_publisher_whose_clock_stands_still_cannot_fill_the_memory() {
        let mut index = Index::new(retention(10_000, 1_000), 1);
        index.push(Part::Keyframe, 0, LENGTH);
        for _ in 0..100 {
            index.push(Part::Video, 0, LENGTH);
        }
        let view = index.look(0, u64::MAX);
        assert_eq!(view.join, None);
        assert_eq!(view.keep_from, view.end - 1_000);
        assert_eq!(index.trim(), view.end - 1_000);
        assert_eq!(index.messages(), 10);
    }

    #[test]
    fn a_publisher_whose_clock_stands_still_is_kept_for_the_queue_length_all_the_same() {
        let mut index = index(1_000);
        for number in 0..200 {
            index.set_now(5_000 + number * 40);
            let part = if number % 10 == 0 {
                Part::Keyframe
            } else {
                Part::Video
            };
            index.push(part, 0, LENGTH);
        }
        // The newest came at 12,960 ms; picture 174 a second before.
        assert_eq!(index.look(0, u64::MAX).keep_from, 174 * LENGTH);
    }

    #[test]
    fn who_joins_is_not_sent_a_group_of_more_messages_than_allowed() {
        let bounded = Retention {
            group_messages: 10,
            ..retention(10_000, u64::MAX)
        };
        let mut index = Index::new(bounded, 1);
        pictures(&mut index, 0..10, 100);
        assert_eq!(index.join_offset(), Some(0), "ten are allowed");
        pictures(&mut index, 10..11, 100);
        assert_eq!(index.join_offset(), None, "eleven are not");
        pictures(&mut index, 100..110, 100);
        assert_eq!(index.join_offset(), Some(11 * LENGTH), "the next group is");
    }

    #[test]
    fn a_publisher_of_tiny_messages_cannot_fill_the_memory() {
        let max_messages = 5_000;
        let bounded = Retention {
            max_messages,
            ..retention(10_000, u64::MAX)
        };
        let mut index = Index::new(bounded, 1);
        index.push(Part::Keyframe, 0, LENGTH);
        for _ in 0..100_000 {
            index.push(Part::Always, 0, 1);
            index.trim();
            assert!(index.messages() <= max_messages + 1);
        }
        assert_eq!(index.look(0, u64::MAX).join, None);
        index.leave(0);
        // What they have taken is given back once they are history.
        pictures(&mut index, 1..1_000, 25);
        index.trim();
        assert_eq!(index.messages(), 251);
        assert!(index.entries.capacity() <= 4 * ENTRIES_KEPT);
    }

    #[test]
    fn who_joins_at_sound_gets_pictures_from_a_keyframe() {
        let mut index = index(60_000);
        index.push(Part::Audio, 0, LENGTH);
        let join = index.look(0, u64::MAX).join.unwrap();
        assert_eq!(join.part, Part::Audio, "its pictures may begin later");
        index.push(Part::Keyframe, 40, LENGTH);
        let join = index.look(0, u64::MAX).join.unwrap();
        assert_eq!(join.part, Part::Keyframe);
        index.push(Part::Audio, 41 + SOUND_ONLY_AFTER_MS, LENGTH);
        let join = index.look(0, u64::MAX).join.unwrap();
        assert_eq!((join.offset, join.part), (2 * LENGTH, Part::Audio));
    }

    #[test]
    fn a_filter_keeps_runs_of_messages() {
        let mut index = index(10_000);
        for part in [
            Part::Keyframe,
            Part::Audio,
            Part::Audio,
            Part::Video,
            Part::Always,
        ] {
            index.push(part, 0, LENGTH);
        }
        let end = index.end();
        let mut sound = Filter {
            audio: true,
            video: VideoFilter::None,
        };
        assert_eq!(index.kept(0, end, &mut sound), 100..300);
        assert_eq!(index.kept(300, end, &mut sound), 400..500);
        assert_eq!(index.kept(500, end, &mut sound), 500..500);
        let mut everything = Filter::EVERYTHING;
        assert_eq!(index.kept(0, end, &mut everything), 0..500);
    }

    #[test]
    fn pictures_wanted_again_begin_with_a_keyframe() {
        let mut index = index(10_000);
        for part in [Part::Video, Part::Audio, Part::Keyframe, Part::Video] {
            index.push(part, 0, LENGTH);
        }
        let mut filter = Filter {
            audio: true,
            video: VideoFilter::FromKeyframe,
        };
        assert_eq!(index.kept(0, 400, &mut filter), 100..400);
        assert_eq!(filter, Filter::EVERYTHING);
    }

    #[test]
    fn pictures_are_counted_by_place() {
        let mut index = index(10_000);
        for part in [Part::Always, Part::Keyframe, Part::Audio, Part::Video] {
            index.push(part, 0, LENGTH);
        }
        let counts = [0, 100, 200, 300, 400].map(|offset| index.pictures_before(offset));
        assert_eq!(counts, [0, 0, 1, 1, 2]);
    }

    proptest! {
        /// Whatever is published and however slow the workers are: what may be
        /// read is never given back, and what nobody needs is.
        #[test]
        fn holes_lie_below_everything_readable(
            messages in proptest::collection::vec((0..7u8, 0..200u64, 1..500u64), 1..300),
            looks in proptest::collection::vec((0..300usize, 0..2usize, 0..100u64), 0..40),
        ) {
            let mut index = Index::new(retention(2_000, 20_000), 2);
            let mut readable: [Option<u64>; 2] = [None, None];
            let mut time = 0;
            for (number, (part, step, length)) in messages.into_iter().enumerate() {
                time += step;
                match part {
                    0 => index.push(Part::Audio, time, length),
                    1 => index.push(Part::Keyframe, time, length),
                    2 => index.push(Part::Video, time, length),
                    3 => index.push(Part::Always, time, length),
                    4 => index.push(Part::Unflagged, time, length),
                    5 => index.push(Part::Data, time + 300, length),
                    _ => index.begin_publication(),
                }
                for &(_, worker, back) in looks.iter().filter(|look| look.0 == number) {
                    let floor = index.trim();
                    let low = floor.max(index.end().saturating_sub(back));
                    let view = index.look(worker, low);
                    let join = view.join_from(0).map(|join| join.offset);
                    let lowest = low.min(join.unwrap_or(view.keep_from));
                    readable[worker] = Some(lowest);
                }
                let released = index.trim();
                for lowest in readable.into_iter().flatten() {
                    prop_assert!(released <= lowest, "released {released}, read from {lowest}");
                }
                prop_assert!(index.boundary(released) >= released);
            }
            index.leave(0);
            index.leave(1);
            let released = index.trim();
            prop_assert!(index.end() - released <= 20_000);
        }
    }
}
