//! A player of HLS (RFC 8216bis): loads the playlist, begins at the hold-back,
//! and loads what comes. No I/O.
//!
//! It has two connections, one for playlists and one for media. Where the
//! server offers low latency, it loads parts, asks for the next playlist before
//! it is there (blocking reload, as a delta update where there are any), and
//! for the part that a preload hint names.
//!
//! ```text
//! begin ─▶ playlist ─┬─ multivariant ─▶ first variant ─┐
//!              ▲     └─ media ◀────────────────────────┘
//!              └─ reload ─┤
//!                         └─▶ EXT-X-MAP ─▶ segments, parts, the hinted part
//! ```

mod clock;
mod demuxer;
mod error;
mod mp4;
mod playlist;
mod position;
mod reload;
mod request;
mod ts;
mod url;

use std::{sync::Arc, time::Duration};

use crate::{
    address::StreamAddress,
    clock::Instant,
    dialogue::{Event, Outboxes},
    http::response::{Head, Piece},
    media::{Kind, Unit, VideoKind},
    player::Rules,
};
use clock::PlaybackClock;
use demuxer::{Demuxer, Sample, SampleKind};
pub(crate) use error::HlsError;
use playlist::{MAX_PLAYLIST_BYTES, MediaPlaylist, Resource};
use position::{Cursor, Load};
use request::{Request, Requester};

/// The numbers of the connections.
const PLAYLISTS: usize = 0;
const MEDIA: usize = 1;
/// A playlist is not asked for more often, whatever target duration it names.
const MIN_RELOAD: Duration = Duration::from_millis(100);
/// Between two requests for a playlist that is not there yet.
const RETRY: Duration = Duration::from_millis(500);
/// Which samples are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    All,
    UpToKeyframe,
    /// Media is only counted.
    Nothing,
}

/// See the module's description.
pub(crate) struct HlsPlayer {
    /// Scheme, host and port.
    origin: String,
    /// True if it plays parts where there are any.
    wants_low_latency: bool,
    reads: Reads,
    began: Instant,
    timeout: Duration,
    playlists: Requester,
    media: Requester,
    /// The text of the playlist that is being received.
    text: Vec<u8>,
    /// The target of the media playlist, without what is added to it.
    target: String,
    list: Option<MediaPlaylist>,
    /// What the blocking reload that is under way waits for.
    blocks_for: Option<Cursor>,
    next: Option<Cursor>,
    loading: Load,
    /// True if bytes of what is being loaded were thrown away.
    unread: bool,
    map: Option<Resource>,
    /// The hinted part that could not be had.
    missed_hint: Option<Resource>,
    demuxer: Demuxer,
    clock: PlaybackClock,
    /// When the playlist is to be asked for again.
    reload_at: Option<Instant>,
}

type Sink<'a> = &'a mut dyn FnMut(Event<'_>);

impl HlsPlayer {
    /// Begins by asking for the playlist. Media is only counted behind the first
    /// keyframe, unless it `inspects` all of it.
    pub(crate) fn new(
        address: &Arc<StreamAddress>,
        rules: &Rules,
        inspects: bool,
        now: Instant,
        out: &mut Outboxes,
    ) -> Self {
        let host = address.host_field();
        let mut player = Self {
            wants_low_latency: rules.low_latency,
            reads: if inspects {
                Reads::All
            } else {
                Reads::UpToKeyframe
            },
            began: now,
            timeout: rules.timeout,
            playlists: Requester::new(PLAYLISTS, host.clone()),
            media: Requester::new(MEDIA, host),
            origin: address.origin(),
            text: Vec::new(),
            target: address.target(),
            list: None,
            blocks_for: None,
            next: None,
            loading: Load::Map,
            unread: false,
            map: None,
            missed_hint: None,
            demuxer: Demuxer::new(rules.verify),
            clock: PlaybackClock::default(),
            reload_at: None,
        };
        player.ask_for_playlist(now, out);
        player
    }

    /// Takes bytes as they came on a connection.
    ///
    /// # Errors
    /// The player's connections are of no more use.
    pub(crate) fn receive(
        &mut self,
        connection: usize,
        now: Instant,
        mut bytes: &[u8],
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        loop {
            let what = self.what(connection);
            let requester = self.requester(connection);
            let piece = requester
                .read(&mut bytes, now)
                .map_err(|error| HlsError::Response { what, error })?;
            match piece {
                None => return Ok(()),
                Some(Piece::Head(head)) => self.head_came(connection, &head)?,
                Some(Piece::Body(body)) => self.body_came(connection, now, body, sink)?,
                Some(Piece::End) => self.answered(connection, now, false, out, sink)?,
            }
        }
    }

    /// Bytes to come on a connection that may be thrown away unread.
    pub(crate) fn discardable(&self, connection: usize) -> usize {
        match connection {
            MEDIA if self.reads == Reads::Nothing => {
                usize::try_from(self.media.body_to_come()).unwrap_or(usize::MAX)
            }
            _ => 0,
        }
    }

    /// Takes note of bytes that were thrown away unread.
    ///
    /// # Errors
    /// See [`HlsPlayer::receive`].
    pub(crate) fn discard(
        &mut self,
        connection: usize,
        now: Instant,
        bytes: usize,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        self.unread = true;
        self.media.skip(bytes, now);
        match self.media.body_to_come() {
            0 => self.receive(connection, now, &[], out, sink),
            _ => Ok(()),
        }
    }

    /// The server has closed a connection in order; another one is opened for
    /// what is asked next.
    ///
    /// # Errors
    /// If it did so within an answer.
    pub(crate) fn closed(
        &mut self,
        connection: usize,
        now: Instant,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        let what = self.what(connection);
        let completes = self
            .requester(connection)
            .closed(now, out)
            .map_err(|error| HlsError::Response { what, error })?;
        match completes {
            true => self.answered(connection, now, true, out, sink),
            false => Ok(()),
        }
    }

    /// When [`HlsPlayer::wake`] is to be called, if it is.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        self.reload_at
    }

    /// Asks for the playlist again, if that is due.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Outboxes) {
        if self.reload_at.is_some_and(|at| at <= now) && self.playlists.is_free() {
            self.ask_for_playlist(now, out);
        }
    }

    /// Since when the server owes an answer.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        let waits = [&self.playlists, &self.media].map(Requester::waits_since);
        waits.into_iter().flatten().min()
    }

    /// For how long there has been nothing to show.
    pub(crate) fn standstill(&self, now: Instant) -> Duration {
        self.clock.standstill(now)
    }

    fn requester(&mut self, connection: usize) -> &mut Requester {
        match connection {
            PLAYLISTS => &mut self.playlists,
            _ => &mut self.media,
        }
    }

    fn what(&self, connection: usize) -> &'static str {
        match connection {
            PLAYLISTS => "the playlist",
            _ => self.loading.name(),
        }
    }

    fn head_came(&self, connection: usize, head: &Head) -> Result<(), HlsError> {
        if connection == PLAYLISTS || self.is_missed_hint(head) {
            return Ok(());
        }
        let what = self.loading.name();
        let range = self.media.request().and_then(|request| request.range);
        let expected = if range.is_some() { 206 } else { 200 };
        if head.status != expected {
            return Err(HlsError::refused(what, head));
        }
        let is_right = range.is_none_or(|(start, length)| {
            let end = match length {
                Some(length) => format!("{}/", start + length.max(1) - 1),
                None => String::new(),
            };
            let said = head.content_range.as_deref().unwrap_or_default();
            said.starts_with(&format!("bytes {start}-{end}"))
        });
        is_right.then_some(()).ok_or(HlsError::Range(what))
    }

    /// A server may not make the part that it hinted at (RFC 8216bis §6.2.2).
    fn is_missed_hint(&self, head: &Head) -> bool {
        self.loading == Load::Hint && head.status == 404
    }

    fn body_came(
        &mut self,
        connection: usize,
        now: Instant,
        body: &[u8],
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        if connection == PLAYLISTS {
            if self.text.len() + body.len() > MAX_PLAYLIST_BYTES {
                return Err(HlsError::Text);
            }
            self.text.extend_from_slice(body);
            return Ok(());
        }
        if self
            .media
            .head()
            .is_some_and(|head| self.is_missed_hint(head))
        {
            return Ok(());
        }
        if self.reads == Reads::Nothing {
            self.unread = true;
            return Ok(());
        }
        let (what, clock) = (self.loading.name(), &mut self.clock);
        let mut has_keyframe = false;
        let result = self.demuxer.read(body, &mut |sample| {
            has_keyframe |= sample.kind == SampleKind::Video { is_keyframe: true };
            sample_came(clock, now, sample, sink);
        });
        if has_keyframe && self.reads == Reads::UpToKeyframe {
            self.reads = Reads::Nothing;
            self.unread = true;
        }
        result.map_err(|error| HlsError::Media { what, error })
    }

    fn answered(
        &mut self,
        connection: usize,
        now: Instant,
        closed: bool,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        let Some((asked_at, head)) = self.requester(connection).finish(closed) else {
            return Ok(());
        };
        sink(Event::Answered);
        match connection {
            PLAYLISTS => self.playlist_came(&head, asked_at, now, out, sink)?,
            _ => self.media_came(&head, now, sink)?,
        }
        self.load_next(now, out, sink)
    }

    /// Loads what comes next, if it is there and nothing is being loaded.
    fn load_next(
        &mut self,
        now: Instant,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        if !self.media.is_free() {
            return Ok(());
        }
        let (Some(list), Some(mut cursor)) = (&self.list, self.next) else {
            return Ok(());
        };
        let in_parts = self.plays_parts(list);
        if cursor.segment < list.media_sequence {
            sink(Event::Oddity("a player fell out of the playlist's window"));
            let (start, lead) = position::start(list, in_parts);
            cursor = start;
            self.clock = PlaybackClock::new(lead);
            // Where it begins again may be before what it has had.
            sink(Event::Discontinuity);
            self.demuxer.discontinuity();
        }
        let (cursor, found) = position::next(list, in_parts, cursor, self.missed_hint.as_ref());
        self.next = Some(cursor);
        let Some(found) = found else {
            return Ok(());
        };
        let resource = match found.map {
            Some(map) if self.map.as_ref() != Some(&map) => {
                self.loading = Load::Map;
                self.map = Some(map.clone());
                map
            }
            _ => {
                self.loading = found.load;
                if found.discontinuity {
                    sink(Event::Discontinuity);
                    self.demuxer.discontinuity();
                    self.clock.discontinuity();
                }
                found.resource
            }
        };
        let target = self.resolve(&resource.uri)?;
        let range = resource.range;
        self.media.ask(Request { target, range }, now, out);
        Ok(())
    }

    /// What was loaded is complete.
    fn media_came(&mut self, head: &Head, now: Instant, sink: Sink<'_>) -> Result<(), HlsError> {
        let load = self.loading;
        if self.is_missed_hint(head) {
            sink(Event::Oddity("a hinted part was not there when asked for"));
            self.missed_hint = self.list.as_ref().and_then(|list| list.hint.clone());
            return Ok(());
        }
        let unread = std::mem::take(&mut self.unread);
        if unread {
            self.demuxer.restart();
        } else {
            let (what, clock) = (load.name(), &mut self.clock);
            self.demuxer
                .end(&mut |sample| sample_came(clock, now, sample, sink))
                .map_err(|error| HlsError::Media { what, error })?;
        }
        let duration = match load {
            Load::Map => return Ok(()),
            Load::Segment { duration } | Load::Part { duration } => duration,
            Load::Hint => {
                let list = self.list.as_ref();
                list.and_then(|list| list.part_target).unwrap_or_default()
            }
        };
        if unread {
            let stall = self.clock.part_came(now, duration);
            sink(Event::Stalled(stall));
        } else {
            self.clock.part_ends();
        }
        if let Some(cursor) = &mut self.next {
            match load {
                Load::Segment { .. } => {
                    cursor.segment += 1;
                    cursor.part = 0;
                }
                _ => cursor.part += 1,
            }
        }
        Ok(())
    }

    fn resolve(&self, uri: &str) -> Result<String, HlsError> {
        url::resolve(&self.target, &self.origin, uri).ok_or(HlsError::Elsewhere)
    }
}

fn sample_came(clock: &mut PlaybackClock, now: Instant, sample: Sample<'_>, sink: Sink<'_>) {
    let mut shown_at = None;
    let kind = match sample.kind {
        SampleKind::Audio => Kind::Audio,
        SampleKind::Video { is_keyframe } => {
            let (stall, shown) = clock.picture(now, sample.present_ms);
            sink(Event::Stalled(stall));
            shown_at = shown;
            Kind::Video(match is_keyframe {
                true => VideoKind::Keyframe,
                false => VideoKind::Interframe,
            })
        }
    };
    sink(Event::Media(Unit {
        kind,
        // Wraps, as RTMP's do.
        timestamp: sample.decode_ms as u32,
        head: sample.head,
        tail: sample.tail,
        shown_at,
    }));
}

#[cfg(test)]
mod tests;
