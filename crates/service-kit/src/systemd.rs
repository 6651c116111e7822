//! What a program tells systemd, where systemd has started it: that it is
//! ready, what it does, and how grave a log line is. Elsewhere nothing of this
//! does anything (sd_notify(3), systemd.exec(5), sd-daemon(3)).

use std::io::{self, Write};
use std::time::Duration;
use std::{env, fmt};

use log::Level;
use nix::sys::stat::fstat;
use sd_notify::NotifyState;

/// The service serves; `status` is the line that `systemctl status` shows.
///
/// May be told again, as after [`reloading`].
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The service changes itself and goes on serving; [`ready`] ends that.
pub fn reloading(status: &str) {
    let mut states = vec![NotifyState::Reloading, NotifyState::Status(status)];
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// What `systemctl status` shows from now on.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The service ends. systemd's patience (`TimeoutStopSec`) counts from here.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Within what time systemd wants a sign of life again, if it wants any
/// (`WatchdogSec`).
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// The sign of life.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("systemd cannot be told how the service is: {error}");
    }
}

/// Whether standard error goes to the journal, which keeps the time itself and
/// takes a line's gravity from its beginning.
#[must_use]
pub fn logs_to_journal() -> bool {
    let Ok(stderr) = fstat(io::stderr()) else {
        return false;
    };
    // The variable is inherited; the file descriptor may be another since.
    env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Writes a log line as the journal wants it.
///
/// # Errors
/// Those of `output`.
pub fn write_journal_line(
    output: &mut impl Write,
    level: Level,
    message: &fmt::Arguments<'_>,
) -> io::Result<()> {
    writeln!(output, "<{}>{message}", priority(level))
}

/// Writes to standard error why a program ends.
pub fn print_error(text: &str) {
    let prefix = match logs_to_journal() {
        true => format!("<{}>", priority(Level::Error)),
        false => String::new(),
    };
    for line in text.lines() {
        eprintln!("{prefix}{line}");
    }
}

/// syslog(3)'s name for it, as a number.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_the_journal_begins_with_its_gravity() {
        let mut line = Vec::new();
        write_journal_line(&mut line, Level::Warn, &format_args!("mind the gap")).unwrap();
        assert_eq!(line, b"<4>mind the gap\n");
    }
}
