//! A player's playlists: asked for, taken, and asked for again.

use super::{
    HlsPlayer, MIN_RELOAD, RETRY, Sink,
    clock::PlaybackClock,
    error::HlsError,
    playlist::{MediaPlaylist, Playlist},
    position::{self, check_order, end_of},
    request::Request,
};
use crate::{
    clock::Instant,
    dialogue::{Event, Outboxes},
    http::response::Head,
};

impl HlsPlayer {
    pub(super) fn playlist_came(
        &mut self,
        head: &Head,
        asked_at: Instant,
        now: Instant,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        let text = std::mem::take(&mut self.text);
        if head.status != 200 {
            // A stream that has just begun has no segment yet.
            let early = self.list.is_none() && now.since(self.began) < self.timeout;
            if early && [404, 503].contains(&head.status) {
                self.reload_at = Some(now + RETRY);
                return Ok(());
            }
            return Err(HlsError::refused("the playlist", head));
        }
        let text = std::str::from_utf8(&text).map_err(|_| HlsError::Text)?;
        match Playlist::parse(text)? {
            Playlist::Multivariant(variants) => {
                self.target = self.resolve(&variants[0])?;
                self.ask_for_playlist(now, out);
                Ok(())
            }
            Playlist::Media(list) => self.update(list, asked_at, now, out, sink),
        }
    }

    /// A new edition of the media playlist.
    fn update(
        &mut self,
        mut list: MediaPlaylist,
        asked_at: Instant,
        now: Instant,
        out: &mut Outboxes,
        sink: Sink<'_>,
    ) -> Result<(), HlsError> {
        list.complete(self.list.as_ref())?;
        let end = end_of(&list);
        for oddity in list.oddities() {
            sink(Event::Oddity(oddity));
        }
        let blocks_for = self.blocks_for.take();
        if blocks_for.is_some_and(|wanted| end <= wanted) && !list.ended {
            return Err(HlsError::Unblocked);
        }
        let mut has_changed = true;
        match &self.list {
            None => sink(Event::Agreed),
            Some(old) => {
                check_order(old, &list)?;
                has_changed = end != end_of(old);
            }
        }
        let blocks = self.plays_parts(&list) && list.control.can_block_reload;
        if list.ended {
            self.reload_at = None;
        } else if !blocks {
            // RFC 8216bis §6.3.4, from the time at which it was asked for.
            let wait = if has_changed {
                list.target
            } else {
                list.target / 2
            };
            self.reload_at = Some((asked_at + wait.max(MIN_RELOAD)).max(now));
        }
        if self.next.is_none() && !list.segments.is_empty() {
            let (cursor, lead) = position::start(&list, self.plays_parts(&list));
            self.next = Some(cursor);
            self.clock = PlaybackClock::new(lead);
            if self.plays_parts(&list) {
                sink(Event::LowLatency);
            }
        }
        let asks = blocks && !list.ended;
        self.list = Some(list);
        if asks {
            self.ask_for_playlist(now, out);
        }
        Ok(())
    }

    pub(super) fn plays_parts(&self, list: &MediaPlaylist) -> bool {
        self.wants_low_latency && list.part_target.is_some()
    }

    pub(super) fn ask_for_playlist(&mut self, now: Instant, out: &mut Outboxes) {
        self.reload_at = None;
        let mut target = self.target.clone();
        if let Some(list) = &self.list
            && list.control.can_block_reload
            && self.plays_parts(list)
        {
            let end = end_of(list);
            self.blocks_for = Some(end);
            let separator = if target.contains('?') { '&' } else { '?' };
            target.push_str(&format!(
                "{separator}_HLS_msn={}&_HLS_part={}",
                end.segment, end.part
            ));
            if list.control.can_skip {
                target.push_str("&_HLS_skip=YES");
            }
        }
        self.playlists.ask(Request::of(target), now, out);
    }
}
