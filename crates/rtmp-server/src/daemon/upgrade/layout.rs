//! What a process hands over as a whole, and which forms of it a program reads.

use std::fmt;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::config::Directive;
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
    /// The configuration in force; empty of a program that does not hand it over.
    #[serde(default)]
    pub(super) directives: Vec<Directive>,
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

/// What this program says when it rehearses: the oldest layout of the whole that it reads, that of
/// logs, the newest of the whole, and its process. Programs of layout 1 say the first two, and look
/// for their own layout at the first place.
pub(super) fn introduction() -> String {
    let process = std::process::id();
    format!("{OLDEST_HAND_OVER_LAYOUT} {LOG_LAYOUT} {HAND_OVER_LAYOUT} {process}")
}

/// The layout of logs of the program that runs as `process` and has introduced itself by `line`.
///
/// # Errors
/// Why it cannot take over: it does not read our whole, or the program is another process's, which
/// this one has started.
pub(super) fn log_layout_of(line: &str, process: Option<u32>) -> Result<u32, String> {
    let numbers: Vec<u32> = line.split_whitespace().flat_map(str::parse).collect();
    let (oldest, log, newest) = match numbers[..] {
        [only, log] => (only, log, only),
        [oldest, log, newest, ..] => (oldest, log, newest),
        _ => (0, 0, 0),
    };
    if !(oldest..=newest).contains(&HAND_OVER_LAYOUT) {
        return Err(format!(
            "it reads another layout than {HAND_OVER_LAYOUT} ({:?}): a restart is needed",
            line.trim()
        ));
    }
    match numbers.get(3) {
        Some(other) if process.is_some_and(|process| process != *other) => Err(
            "it starts the server as another process: a script has to do so by `exec`".to_owned(),
        ),
        _ => Ok(log),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_read_our_layout_is_refused() {
        let ours = introduction();
        let of = |line: &str| log_layout_of(line, Some(9)).ok();
        let own = Some(std::process::id());
        assert_eq!(log_layout_of(&format!("{ours}\n"), own), Ok(LOG_LAYOUT));
        // Of a child of a script, and of a version that does not say.
        let refused = log_layout_of(&ours, own.map(|it| it + 1)).unwrap_err();
        assert!(refused.contains("`exec`"), "{refused}");
        assert_eq!(of("1 7 2"), Some(7));
        // A later version, and one that reads ours no longer.
        assert_eq!(of("1 7 3 9 1"), Some(7));
        assert_eq!(of("3 1 4 9"), None);
        // One of layout 1 does not know of connections that we encrypt.
        assert_eq!(of("1 1"), None);
        assert_eq!(of(""), None);
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
                directives: Vec::new(),
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
