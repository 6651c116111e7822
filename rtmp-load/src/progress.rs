//! The progress bar, on a terminal only.

use std::{cell::Cell, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Snapshot {
    /// The phase.
    pub what: &'static str,
    /// For how long it has.
    pub elapsed: Duration,
    /// For how long it will, if that is known.
    pub span: Option<Duration>,
    /// Players started.
    pub started: u64,
    /// Players that play.
    pub playing: u64,
    /// Connections of players that ended.
    pub ended: u64,
    /// Bytes received since the beginning.
    pub bytes: u64,
}

/// See the module's description.
pub(crate) struct Progress {
    bar: ProgressBar,
    players: u64,
    /// Time and bytes of the last rate shown.
    last: Cell<(Duration, u64, &'static str)>,
    rate: Cell<f64>,
}

impl Progress {
    /// A bar on standard error, if that is a terminal and `quiet` is not asked
    /// for.
    pub(crate) fn new(quiet: bool, players: u64) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template("{prefix:>9} [{wide_bar}] {msg}")
            .expect("the template is valid")
            .progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(1), target).with_style(style);
        Self {
            bar,
            players,
            last: Cell::new((Duration::ZERO, 0, "")),
            rate: Cell::new(0.0),
        }
    }

    /// Shows how the run stands.
    pub(crate) fn show(&self, now: &Snapshot) {
        if self.bar.is_hidden() {
            return;
        }
        self.update_rate(now);
        self.bar.set_prefix(now.what);
        self.bar
            .set_length(now.span.unwrap_or(now.elapsed).as_millis() as u64);
        self.bar.set_position(now.elapsed.as_millis() as u64);
        self.bar.set_message(format!(
            "{:.0} s  {}/{} playing  {:.1} Mbit/s{}",
            now.elapsed.as_secs_f64(),
            now.playing,
            if now.started < self.players {
                now.started
            } else {
                self.players
            },
            self.rate.get(),
            match now.ended {
                0 => String::new(),
                ended => format!("  {ended} connections ended"),
            },
        ));
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    /// The rate of about the last second.
    fn update_rate(&self, now: &Snapshot) {
        let (at, bytes, what) = self.last.get();
        let span = now.elapsed.saturating_sub(at);
        if what != now.what || span >= Duration::from_secs(1) {
            if what == now.what {
                self.rate
                    .set((now.bytes - bytes) as f64 * 8e-6 / span.as_secs_f64());
            }
            self.last.set((now.elapsed, now.bytes, now.what));
        }
    }
}
