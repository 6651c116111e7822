//! A line about something that takes a while.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between two pictures of what has no known length.
const TICK: Duration = Duration::from_millis(200);

/// The progress of one thing, on standard error where that is a terminal. It is gone when
/// this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Something of `length` parts; 0: of no known length.
    ///
    /// # Panics
    /// Never: the templates are valid.
    #[must_use]
    pub fn new(what: &str, length: u64) -> Self {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        Self::at(target, what, length)
    }

    fn at(target: ProgressDrawTarget, what: &str, length: u64) -> Self {
        let (length, template) = match length {
            0 => (None, "{spinner} {prefix} {elapsed} {msg}"),
            length => (
                Some(length),
                "{prefix} [{bar:30}] {percent:>3} % {elapsed} {msg}",
            ),
        };
        let style = ProgressStyle::with_template(template)
            .expect("the templates are valid")
            .progress_chars("█▉▊▋▌▍▎▏ ");
        let bar = ProgressBar::with_draw_target(length, target).with_style(style);
        bar.set_prefix(what.to_owned());
        if length.is_none() {
            bar.enable_steady_tick(TICK);
        }
        Self { bar }
    }

    /// So many parts are done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Says `text` behind it.
    pub fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// True if nobody sees it.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.bar.is_hidden()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn a_bar_shows_the_part_that_is_done_and_goes_away() {
        let terminal = InMemoryTerm::new(4, 80);
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(terminal.clone()), 255);
        let progress = Progress::at(target, "draining", 10);
        progress.set(5);
        progress.say("5 connections left");
        progress.bar.tick();
        let shown = terminal.contents();
        assert!(shown.starts_with("draining [███████████████"), "{shown}");
        assert!(shown.contains(" 50 % "), "{shown}");
        assert!(shown.ends_with("5 connections left"), "{shown}");
        drop(progress);
        assert_eq!(terminal.contents(), "");
    }
}
