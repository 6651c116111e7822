//! The names of what playlists refer to.

use std::fmt;

use crate::segmenter::Container;

/// What a playlist refers to. Its text is a file name that can follow a prefix:
/// `init-2.mp4`, `17.m4s`, `17.3.m4s`; in MPEG-TS `17.ts`; a key `15.key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The initialization section (`EXT-X-MAP`) of this version.
    Initialization(u64),
    /// The segment of this media sequence number.
    Segment(u64),
    /// The key of the segments from this media sequence number on (`EXT-X-KEY`).
    Key(u64),
    /// A part of a segment.
    Part {
        /// The segment's media sequence number.
        segment: u64,
        /// The part's number in the segment, from 0 on.
        part: u64,
    },
}

impl Resource {
    /// The file name in this container.
    #[must_use]
    pub fn name(self, container: Container) -> String {
        Name(self, container).to_string()
    }

    /// The resource of a file name, as [`name`](Self::name) writes it.
    #[must_use]
    pub fn parse(name: &str, container: Container) -> Option<Self> {
        let resource = if let Some(rest) = name.strip_prefix("init-") {
            Resource::Initialization(number(rest.strip_suffix(".mp4")?)?)
        } else if let Some(number_of_key) = name.strip_suffix(KEY_EXTENSION) {
            Resource::Key(number(number_of_key)?)
        } else {
            let numbers = name.strip_suffix(extension(container))?;
            match numbers.split_once('.') {
                None => Resource::Segment(number(numbers)?),
                Some((segment, part)) => Resource::Part {
                    segment: number(segment)?,
                    part: number(part)?,
                },
            }
        };
        Some(resource)
    }
}

struct Name(Resource, Container);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extension = extension(self.1);
        match self.0 {
            Resource::Initialization(version) => write!(f, "init-{version}.mp4"),
            Resource::Key(segment) => write!(f, "{segment}{KEY_EXTENSION}"),
            Resource::Segment(segment) => write!(f, "{segment}{extension}"),
            Resource::Part { segment, part } => write!(f, "{segment}.{part}{extension}"),
        }
    }
}

const KEY_EXTENSION: &str = ".key";

fn extension(container: Container) -> &'static str {
    match container {
        Container::Fmp4 => ".m4s",
        Container::MpegTs => ".ts",
    }
}

/// A number of digits only, without leading zeros: each resource has one name.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    (plain && !leading_zero).then(|| text.parse().ok())?
}
