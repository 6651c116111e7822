//! The fuzz target of `hls`. Called by `cargo fuzz` and, with the corpus that is kept in the
//! repository, by a plain test of `hls`.

use std::time::Duration;

use bytes::Bytes;
use hls::playlist::{Found, MediaPlaylist, Playlist, PlaylistSettings, Resource};
use hls::segmenter::{Container, Output, Segmenter, Settings};
use rtmp_proto::wire::{Message, MessageType};

/// Any messages at any times: parts keep their target, and the playlist knows where each
/// lies.
pub fn hls_segmenter(data: &[u8]) {
    let Some((&[flags, fragment, part], mut rest)) = data.split_first_chunk() else {
        return;
    };
    let settings = Settings {
        container: match flags & 1 {
            0 => Container::Fmp4,
            _ => Container::MpegTs,
        },
        part_target: Duration::from_millis(20 + u64::from(part) * 4),
        fragment: Duration::from_millis(1100 + u64::from(fragment) * 50),
        max_fragments: 2.1,
        wait_keyframe: flags & 2 == 0,
        short_first: flags & 4 != 0,
        ..Settings::default()
    };
    let mut segmenter = Segmenter::new(&settings);
    let mut log = Log::new(settings);
    let mut now = 0u64;
    let mut out = Vec::new();
    while let [kind, step, length, after @ ..] = rest {
        let (payload, after) = after.split_at(usize::from(*length).min(after.len()));
        rest = after;
        let message_type = match kind % 6 {
            0 => MessageType::AUDIO,
            1 => MessageType::VIDEO,
            2 => MessageType::DATA_AMF0,
            3 => {
                segmenter.begin_publication(&mut out);
                continue;
            }
            4 => {
                now = now.saturating_sub(u64::from(*step) * 100);
                continue;
            }
            _ => {
                now += u64::from(*step) << (length % 40);
                continue;
            }
        };
        now += u64::from(*step);
        let message = Message {
            timestamp: now as u32,
            message_type,
            stream_id: 1,
            payload: Bytes::copy_from_slice(payload),
        };
        segmenter.push(&message, now, &mut out);
        log.take(&mut out);
    }
    segmenter.finish(&mut out);
    log.take(&mut out);
}

/// A playlist, and the log that it describes.
struct Log {
    settings: Settings,
    playlist: Playlist,
    bytes: Vec<u8>,
}

impl Log {
    fn new(settings: Settings) -> Self {
        let playlist = Playlist::new(PlaylistSettings {
            segments: settings.clone(),
            window: Duration::from_secs(5),
            first_segment: 0,
        });
        Log {
            settings,
            playlist,
            bytes: Vec::new(),
        }
    }

    fn take(&mut self, out: &mut Vec<Output>) {
        if out.is_empty() {
            // The playlist is what it was.
            return;
        }
        let container = self.settings.container;
        for output in out.drain(..) {
            if let Output::Part(part) = &output {
                self.bytes.extend_from_slice(&part.bytes);
            }
            self.playlist.push(&output, Some(0));
            if let Output::Part(part) = &output {
                assert!(part.duration <= self.settings.part_target);
                assert!(!part.bytes.is_empty());
                let newest = self.playlist.newest().expect("a part");
                let name = newest.name(container);
                assert_eq!(Resource::parse(&name, container), Some(newest));
                let Some(Found::Log(range)) = self.playlist.find(newest) else {
                    panic!("{newest:?} is not found");
                };
                assert_eq!(
                    self.bytes[range.start as usize..range.end as usize],
                    part.bytes
                );
            }
        }
        for low_latency in [false, true] {
            let form = MediaPlaylist {
                low_latency,
                skip: low_latency,
            };
            let text = self
                .playlist
                .media(form, &|resource| resource.name(container));
            assert_eq!(text.is_some(), self.playlist.is_ready(low_latency));
        }
    }
}
