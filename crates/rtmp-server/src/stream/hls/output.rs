//! What a packager has made of a stream: the log of segments, and its playlist.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hls::playlist::{
    BadReload, Found, MediaPlaylist, Playlist, PlaylistSettings, Reload, Resource,
};
use hls::segmenter::{Container, Output};
use rtmp_proto::session::StreamKey;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::log::HlsLog;
use super::template::{KEY_QUERY, QUERY, Template};
use crate::stream::lock;
use crate::stream::memory::MemoryPool;
use crate::uri::{encode_path, encode_segment};

/// How a stream becomes segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HlsSettings {
    /// How segments are made.
    pub(crate) segments: hls::segmenter::Settings,
    /// Length of the stream that a playlist lists.
    pub(crate) window: Duration,
    /// True if playlists list parts.
    pub(crate) low_latency: bool,
    /// How segments are encrypted; `None`: they are not.
    pub(crate) keys: Option<HlsKeySettings>,
}

/// How segments are encrypted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HlsKeySettings {
    /// Number of segments that have one key.
    pub(crate) segments_per_key: u64,
    pub(crate) uri: KeyUri,
}

/// The URI of a key in playlists over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyUri {
    /// This server gives keys out, at the address before their names, which is empty beside
    /// the playlist.
    Served(String),
    /// Another server does, from files: the names of files below `directory`, a URL without a
    /// `/` at its end, have the key's number in place of `[seq]`.
    File { directory: String, name: String },
}

/// The segments of a stream, and its playlist.
#[derive(Debug)]
pub(crate) struct HlsOutput {
    pub(super) settings: HlsSettings,
    pub(super) log: Arc<HlsLog>,
    /// What stands before the name of a resource in its URI.
    prefix: String,
    pub(super) published: Mutex<Published>,
    pub(super) first_segment: u64,
    /// Counts changes of the playlist.
    changes: watch::Sender<u64>,
    /// Messages that were lost on their way to the packager.
    pub(super) lost: AtomicU64,
    pub(super) begun: Instant,
    /// When it was last asked for, ms since `begun`.
    pub(super) last_request_ms: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Published {
    pub(super) playlist: Playlist,
    /// The newest text of each form that has been asked for.
    texts: Vec<(MediaPlaylist, Arc<Template>)>,
    /// The packager has gone without an end of the stream.
    abandoned: bool,
}

/// A segment that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its media sequence number.
    pub(crate) number: u64,
    /// Its length on the stream's timeline.
    pub(crate) duration: Duration,
}

/// The wall clock, ms since 1970.
pub(super) fn wall_clock_ms() -> i64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH);
    passed.map_or(0, |passed| i64::try_from(passed.as_millis()).unwrap_or(0))
}

impl HlsOutput {
    /// No segments of the stream `key` yet, whose memory will be a part of `pool`.
    pub(super) fn new(
        key: &StreamKey,
        settings: HlsSettings,
        first_segment: u64,
        pool: Arc<MemoryPool>,
    ) -> Self {
        let playlist = Playlist::new(PlaylistSettings {
            segments: settings.segments.clone(),
            window: settings.window,
            first_segment,
        });
        let log = HlsLog::new(key, pool);
        Self::with_playlist(key, settings, first_segment, playlist, log)
    }

    /// The segments of the stream `key` that `playlist` lists, in `log`.
    pub(super) fn with_playlist(
        key: &StreamKey,
        settings: HlsSettings,
        first_segment: u64,
        playlist: Playlist,
        log: HlsLog,
    ) -> Self {
        Self {
            log: Arc::new(log),
            prefix: format!("{}-", encode_segment(&key.stream)),
            published: Mutex::new(Published {
                playlist,
                texts: Vec::new(),
                abandoned: false,
            }),
            changes: watch::Sender::new(0),
            first_segment,
            lost: AtomicU64::new(0),
            begun: Instant::now(),
            last_request_ms: AtomicU64::new(0),
            settings,
        }
    }

    /// The media sequence number of its first segment, and the version of its first
    /// initialization section.
    pub(crate) fn first_segment(&self) -> u64 {
        self.first_segment
    }

    /// The media sequence number of the next segment.
    pub(super) fn next_segment(&self) -> u64 {
        lock(&self.published).playlist.next_segment()
    }

    /// How its segments are made.
    pub(crate) fn settings(&self) -> &HlsSettings {
        &self.settings
    }

    /// The container of its segments.
    pub(crate) fn container(&self) -> Container {
        self.settings.segments.container
    }

    /// The bytes of its segments.
    pub(crate) fn log(&self) -> &Arc<HlsLog> {
        &self.log
    }

    /// Follows the playlist: a change of the number is one of the playlist.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Messages that were lost on their way here: the packager was too slow.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Somebody has asked for it.
    pub(crate) fn touch(&self) {
        let passed = self.milliseconds(Instant::now());
        self.last_request_ms.store(passed, Ordering::Relaxed);
    }

    /// Time since somebody has last asked for it.
    pub(crate) fn unused_for(&self, now: Instant) -> Duration {
        let last = self.last_request_ms.load(Ordering::Relaxed);
        Duration::from_millis(self.milliseconds(now).saturating_sub(last))
    }

    /// `now` in ms since its beginning.
    fn milliseconds(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.begun).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }

    pub(super) fn count_lost(&self, messages: u64) {
        self.lost.fetch_add(messages, Ordering::Relaxed);
    }

    /// Publishes `outputs` of the segmenter, and takes them out. They are of what arrived at
    /// `wall_clock_ms`. Returns the segments that are whole now.
    ///
    /// # Errors
    /// The log cannot be written: nothing more can be published.
    pub(super) fn publish(
        &self,
        outputs: &mut Vec<Output>,
        wall_clock_ms: i64,
    ) -> io::Result<Vec<Finished>> {
        // First the bytes: who finds a part in the playlist asks for it.
        for output in outputs.iter() {
            if let Output::Part(part) = output {
                self.log.append(&part.bytes)?;
            }
        }
        let is_short = self.log.is_memory_exhausted();
        let mut finished = Vec::new();
        // Locked once: a playlist with a segment's last part, but not its end, would announce
        // a part that never comes.
        let mut published = lock(&self.published);
        for output in outputs.drain(..) {
            if let Output::SegmentEnd(end) = &output {
                finished.push(Finished {
                    number: published.playlist.next_segment() - 1,
                    duration: end.duration,
                });
            }
            published.playlist.push(&output, Some(wall_clock_ms));
        }
        if is_short {
            published.playlist.shorten();
        }
        let start = match is_short {
            true => published.playlist.listed_start(),
            false => published.playlist.log_start(),
        };
        self.change(published);
        self.log.give_back(start)?;
        Ok(finished)
    }

    /// The stream has ended for good.
    pub(super) fn end(&self) {
        let mut published = lock(&self.published);
        published.playlist.end();
        self.change(published);
    }

    /// The packager goes: nothing is published any more.
    pub(crate) fn abandon(&self) {
        let mut published = lock(&self.published);
        published.abandoned = true;
        self.change(published);
    }

    /// True if nothing is published any more, though the stream goes on.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.published).abandoned
    }

    /// Ends a change. The texts go under the lock that it was made under: nobody who sees the
    /// change gets a text from before it.
    fn change(&self, mut published: MutexGuard<'_, Published>) {
        published.texts.clear();
        drop(published);
        self.changes.send_modify(|count| *count += 1);
    }

    /// True if its playlist cannot keep what it says of segments.
    pub(crate) fn has_broken_promise(&self) -> bool {
        lock(&self.published).playlist.has_broken_promise()
    }

    /// True if there is something to play.
    pub(crate) fn is_ready(&self) -> bool {
        let published = lock(&self.published);
        published.playlist.is_ready(self.settings.low_latency)
    }

    /// True if the playlist has what is asked for.
    ///
    /// # Errors
    /// It never will.
    pub(crate) fn answers(&self, reload: Reload) -> Result<bool, BadReload> {
        let published = lock(&self.published);
        match published.playlist.is_ready(self.settings.low_latency) {
            true => published.playlist.answers(reload),
            false => Ok(false),
        }
    }

    /// A resource of the playlist; `None` if there is none of this name, or no more.
    pub(crate) fn find(&self, resource: Resource) -> Option<Found> {
        let found = lock(&self.published).playlist.find(resource);
        found.filter(|found| match found {
            Found::Log(range) => self.log.has(range.start),
            Found::Bytes(_) | Found::Later => true,
        })
    }

    /// The multivariant playlist that names the media playlist at `uri`; `None` while there
    /// is nothing to play.
    pub(crate) fn multivariant(&self, uri: &str) -> Option<String> {
        let published = lock(&self.published);
        let ready = published.playlist.is_ready(self.settings.low_latency);
        ready
            .then(|| published.playlist.multivariant(uri))
            .flatten()
    }

    /// The media playlist, `skip` as an update; `None` while there is nothing to play. It is
    /// written once for all who ask for it until it changes.
    pub(crate) fn media(&self, skip: bool) -> Option<Arc<Template>> {
        let form = MediaPlaylist {
            low_latency: self.settings.low_latency,
            skip,
        };
        let mut published = lock(&self.published);
        let mut known = published.texts.iter();
        if let Some((_, text)) = known.find(|(known, _)| *known == form) {
            return Some(text.clone());
        }
        let container = self.container();
        let keys = self.settings.keys.as_ref();
        let uri = |resource: Resource| {
            let name = resource.name(container);
            match (resource, keys.map(|keys| &keys.uri)) {
                (Resource::Key(number), Some(KeyUri::File { directory, name })) => {
                    let name = name.replace("[seq]", &number.to_string());
                    format!("{directory}/{}", encode_path(&name))
                }
                (Resource::Key(_), Some(KeyUri::Served(directory))) => {
                    format!("{directory}{}{name}{KEY_QUERY}", self.prefix)
                }
                _ => format!("{}{name}{QUERY}", self.prefix),
            }
        };
        let text = published.playlist.media(form, &uri)?;
        let text = Arc::new(Template::new(&text));
        published.texts.push((form, text.clone()));
        Some(text)
    }

    /// The media playlist without parts up to segment `newest`, for files whose names `uri`
    /// gives.
    pub(crate) fn media_of_files(
        &self,
        newest: u64,
        uri: &dyn Fn(Resource) -> String,
    ) -> Option<String> {
        let form = MediaPlaylist::default();
        let published = lock(&self.published);
        published.playlist.media_up_to(form, newest, uri)
    }

    /// The length that players take a segment to have at most (`EXT-X-TARGETDURATION`); as
    /// the settings tell, while it is not fixed.
    pub(crate) fn target_duration(&self) -> Duration {
        if let Some(target) = lock(&self.published).playlist.target_duration() {
            return target;
        }
        let fragment = self.settings.segments.fragment.as_secs_f64().ceil();
        Duration::from_secs_f64(fragment.max(1.0))
    }
}
