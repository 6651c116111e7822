//! What a process hands over as a whole, and which forms of it a program reads.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::daemon::listeners::ListenerPart;
use crate::hand_over::{Blob, HandOverError};
use crate::server::{HAND_OVER_LAYOUT, LOG_LAYOUT, OLDEST_HAND_OVER_LAYOUT};

/// What a process hands over to the program that it becomes. `S`: the server, written ([`Blob`])
/// or read ([`ServerBytes`]).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProcessPart<S> {
    pub(super) layout: u32,
    /// Version of the program that hands it over.
    pub(super) version: String,
    pub(super) server: S,
    pub(super) listeners: Vec<ListenerPart>,
    /// Those who wait for the outcome.
    pub(super) waiters: Vec<RawFd>,
    pub(super) pid_file: Option<(PathBuf, RawFd)>,
    pub(super) descriptors: Vec<RawFd>,
    /// The time from which on everybody stands still.
    #[serde(with = "crate::hand_over::monotonic")]
    pub(super) frozen_at: Instant,
}

/// A server as bytes, where they were read: there are megabytes, which nobody copies.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct ServerBytes<'a>(#[serde(borrow)] pub(super) &'a [u8]);

impl fmt::Debug for ServerBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<'a> ProcessPart<ServerBytes<'a>> {
    /// What `bytes` are.
    ///
    /// # Errors
    /// They are something else, or of a layout that this program does not read.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, HandOverError> {
        let part: Self = Blob::read_from(bytes)?;
        if !(OLDEST_HAND_OVER_LAYOUT..=HAND_OVER_LAYOUT).contains(&part.layout) {
            let layout = format!("layout {HAND_OVER_LAYOUT}: it has {}", part.layout);
            return Err(HandOverError::Missing(layout));
        }
        Ok(part)
    }
}

/// The layouts that this program reads, as it says when it rehearses: the oldest of the whole,
/// that of logs, and the newest of the whole. Programs of layout 1 say the first two, and look for
/// their own layout at the first place.
pub(super) fn readable_layouts() -> String {
    format!("{OLDEST_HAND_OVER_LAYOUT} {LOG_LAYOUT} {HAND_OVER_LAYOUT}")
}

/// The layout of logs of a program that has said `layouts`, if it reads our whole.
pub(super) fn log_layout_of(layouts: &str) -> Option<u32> {
    let layouts: Vec<u32> = layouts.split_whitespace().flat_map(str::parse).collect();
    let (oldest, log, newest) = match layouts[..] {
        [only, log] => (only, log, only),
        [oldest, log, newest, ..] => (oldest, log, newest),
        _ => return None,
    };
    (oldest..=newest).contains(&HAND_OVER_LAYOUT).then_some(log)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_read_our_layout_is_refused() {
        let ours = readable_layouts();
        assert_eq!(log_layout_of(&format!("{ours}\n")), Some(LOG_LAYOUT));
        // A later version, and one that reads ours no longer.
        assert_eq!(log_layout_of("1 7 3 9"), Some(7));
        assert_eq!(log_layout_of("3 1 4"), None);
        // One of layout 1 does not know of connections that we encrypt.
        assert_eq!(log_layout_of("1 1"), None);
        assert_eq!(log_layout_of(""), None);
        // That one looks at the first place, and we go on with what it has.
        assert!(ours.starts_with("1 "), "{ours}");
    }

    #[test]
    fn what_a_program_of_layout_1_hands_over_is_read() {
        let written = |layout| {
            Blob::of(&ProcessPart::<Blob> {
                layout,
                version: "0.1.0".to_owned(),
                server: Blob::from(Vec::new()),
                listeners: Vec::new(),
                waiters: Vec::new(),
                pid_file: None,
                descriptors: Vec::new(),
                frozen_at: Instant::now(),
            })
            .unwrap()
        };
        for layout in [1, HAND_OVER_LAYOUT] {
            let written = written(layout);
            let part = ProcessPart::read(written.as_bytes()).unwrap();
            assert_eq!(part.layout, layout);
        }
        let refused = written(HAND_OVER_LAYOUT + 1);
        let refused = ProcessPart::read(refused.as_bytes()).unwrap_err();
        assert_eq!(refused.to_string(), "there is no layout 2: it has 3");
    }
}
