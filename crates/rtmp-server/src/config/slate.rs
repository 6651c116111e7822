//! `slate FILE`: what is shown while nobody publishes.

use std::fmt;
use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use conf_kit::{Diagnostic, Diagnostics, Directive, Location};
use http_flv::file::{FileError, Tags};
use rtmp_proto::wire::media::MediaClass;
use serde::{Serialize, Serializer};
use siphasher::sip::SipHasher13;

use super::model::Vhost;
use crate::stream::{MediaMessage, slate_mark};

/// The largest file that is taken, in bytes: it is kept in memory, once for all streams.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// The shortest file that is taken, ms.
const MIN_DURATION_MS: u32 = 200;
/// Time from the last frame to the first of the next turn, ms.
const LAST_FRAME_MS: u32 = 40;

/// A file that is repeated while nobody publishes.
#[derive(Clone, PartialEq, Eq)]
pub struct Slate {
    file: PathBuf,
    media: Arc<SlateMedia>,
}

/// The messages of a slate. Their times begin with 0.
#[derive(Debug)]
pub(crate) struct SlateMedia {
    pub(crate) messages: Vec<MediaMessage>,
    /// Time from its begin to its next turn, ms.
    pub(crate) duration_ms: u32,
    /// All bytes of the file: whether another one is the same.
    bytes: Bytes,
    fingerprint: OnceLock<u64>,
}

impl SlateMedia {
    /// A number that another file has not, for a program that has only the number: with a hash
    /// that is the same in every program.
    pub(crate) fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| {
            let mut hasher = SipHasher13::new();
            hasher.write(&self.bytes);
            // Without the mark the messages were others.
            hasher.write(slate_mark::NAME.as_bytes());
            hasher.finish()
        })
    }
}

impl PartialEq for SlateMedia {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SlateMedia {}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum SlateError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("it has more than {} MB: shorten it, it is repeated anyway", MAX_FILE_BYTES >> 20)]
    TooLarge,
    #[error("it lasts less than {MIN_DURATION_MS} ms")]
    TooShort,
    #[error("its first picture is no keyframe")]
    NoKeyframe,
    #[error("it has neither pictures nor sound")]
    Empty,
}

impl Slate {
    fn read(file: &Path) -> Result<Self, SlateError> {
        let mut bytes = Vec::new();
        File::open(file)?
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(SlateError::TooLarge);
        }
        Ok(Self {
            file: file.to_owned(),
            media: Arc::new(SlateMedia::parse(bytes.into())?),
        })
    }

    /// Its messages.
    pub(crate) fn media(&self) -> &Arc<SlateMedia> {
        &self.media
    }
}

impl fmt::Debug for Slate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slate").field(&self.file).finish()
    }
}

impl Serialize for Slate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.file.serialize(serializer)
    }
}

impl SlateMedia {
    fn parse(bytes: Bytes) -> Result<Self, SlateError> {
        let mut messages: Vec<MediaMessage> = Vec::new();
        let (mut first, mut last) = (None, 0);
        let (mut has_picture, mut has_metadata) = (false, false);
        for tag in Tags::new(&bytes)? {
            let tag = tag?;
            let message =
                |timestamp| MediaMessage::of_tag(tag.kind, timestamp, bytes.slice_ref(tag.payload));
            let Some(head) = message(0).head() else {
                continue;
            };
            // The end of a sequence (FLV E.4.3.1) is none here: the file is repeated.
            if head.class == MediaClass::VideoOther {
                continue;
            }
            let is_keyframe = matches!(head.class, MediaClass::Keyframe { .. });
            if head.is_picture() && !has_picture && !is_keyframe {
                return Err(SlateError::NoKeyframe);
            }
            has_picture |= is_keyframe;
            if head.is_picture() || head.class == MediaClass::Audio {
                first.get_or_insert(tag.timestamp);
            }
            let time = first.map_or(0, |first| tag.timestamp.saturating_sub(first));
            last = last.max(time);
            messages.push(match head.class {
                MediaClass::Metadata => slate_mark::metadata(Some(message(0).message())).into(),
                _ => message(time),
            });
            has_metadata |= head.class == MediaClass::Metadata;
        }
        if first.is_none() {
            return Err(SlateError::Empty);
        }
        if last < MIN_DURATION_MS {
            return Err(SlateError::TooShort);
        }
        if !has_metadata {
            messages.insert(0, slate_mark::metadata(None).into());
        }
        Ok(Self {
            messages,
            duration_ms: last.saturating_add(LAST_FRAME_MS),
            bytes,
            fingerprint: OnceLock::new(),
        })
    }
}

/// Reads `slate FILE` or `slate off`.
pub(super) fn slate(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    let file = directive.argument("the name of an FLV file, or `off`")?;
    if file == "off" {
        vhost.slate = None;
        return Ok(());
    }
    let read = Slate::read(Path::new(file));
    let read = read.map_err(|error| {
        let name = &directive.keyword;
        directive.error(format!("`{name}`: {file} cannot be used: {error}"))
    });
    vhost.slate = Some(read?);
    Ok(())
}

/// Checks that the slate of a vhost can come into sight.
pub(super) fn check_slate(vhost: &Vhost, location: &Location, diagnostics: &mut Diagnostics) {
    if vhost.slate.is_none() {
        return;
    }
    if vhost.upstream.is_some() {
        let message = "`slate` has no effect at an edge: its origin shows it";
        diagnostics.warn(location, message);
    } else if vhost.slate_after >= vhost.publish_return_timeout {
        let message = "`slate_after` has to be less than `publish_return_timeout`, after which \
                       a stream without publisher ends";
        diagnostics.error(location, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Role};
    use crate::flv_file::{INTER as PICTURE, KEYFRAME, file};

    #[test]
    fn a_slate_begins_at_0_and_lasts_a_frame_longer_than_its_last_time() {
        let bytes = file(&[KEYFRAME, PICTURE, PICTURE]);
        let media = SlateMedia::parse(bytes.into()).unwrap();
        let times: Vec<_> = media
            .messages
            .iter()
            .map(|message| message.message().timestamp)
            .collect();
        // Metadata come first, which say that it is a slate.
        assert_eq!((times, media.duration_ms), (vec![0, 0, 100, 200], 240));
        assert!(slate_mark::is_in(&media.messages[0].message().payload));
    }

    #[test]
    fn a_file_that_cannot_be_shown_is_refused_with_place_and_cause() {
        let directory = tempfile::tempdir().unwrap();
        let whole = file(&[KEYFRAME, PICTURE, PICTURE]);
        for (bytes, cause) in [
            (b"RIFF".to_vec(), "it is no FLV file"),
            (whole[..whole.len() - 6].to_vec(), "within the tag at byte"),
            (file(&[PICTURE, KEYFRAME, PICTURE]), "no keyframe"),
            (file(&[KEYFRAME, PICTURE]), "less than 200 ms"),
            (file(&[]), "neither pictures nor sound"),
        ] {
            let path = directory.path().join("slate.flv");
            std::fs::write(&path, bytes).unwrap();
            let text = format!(
                "vhost __defaultVhost__ {{\npublish {{ slate {}; }} }}",
                path.display()
            );
            let error = config::load(&text, Role::Origin).unwrap_err().to_string();
            assert!(error.starts_with("x.conf:2: "), "{error}");
            assert!(error.contains(cause), "{error}");
        }
    }

    #[test]
    fn a_slate_has_to_begin_before_the_players_are_let_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("slate.flv");
        std::fs::write(&path, file(&[KEYFRAME, PICTURE, PICTURE])).unwrap();
        let load = |vhost: &str, role| {
            let slate = path.display();
            let text = format!("vhost __defaultVhost__ {{ {vhost} publish {{ slate {slate}; }} }}");
            config::load(&text, role)
        };
        let error = load("publish_return_timeout 3000;", Role::Origin).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("x.conf:1: `slate_after`"), "{error}");
        assert_eq!(load("", Role::Origin).unwrap().warnings, []);
        let warnings = load("origin 127.0.0.1:1;", Role::Edge).unwrap().warnings;
        assert!(
            format!("{warnings:?}").contains("origin shows it"),
            "{warnings:?}"
        );
    }
}
