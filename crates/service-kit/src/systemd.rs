//! Messages of a service to systemd: readiness, status, and the level of log lines
//! (sd_notify(3), systemd.exec(5), sd-daemon(3)). They have no effect in a process that
//! systemd has not started.

use std::io::{self, Write};
use std::time::Duration;
use std::{env, fmt};

use log::Level;
use nix::sys::stat::fstat;
use sd_notify::NotifyState;

/// Says that the service is ready; `status` is the line that `systemctl status` shows.
///
/// It may be called again, as after [`reloading`].
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that the service reloads its configuration, until [`ready`] is called.
pub fn reloading(status: &str) {
    let mut states = vec![NotifyState::Reloading, NotifyState::Status(status)];
    states.extend(NotifyState::monotonic_usec_now());
    notify(&states);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    notify(&[NotifyState::Status(status)]);
}

/// Says that the service stops. `TimeoutStopSec` counts from here.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// The watchdog's time limit (`WatchdogSec`), if there is one. [`alive`] must be called
/// more often.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Resets the watchdog.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot notify systemd: {error}");
    }
}

/// Returns true if standard error goes to the journal. It adds the time itself, and
/// reads a line's level from its beginning.
#[must_use]
pub fn logs_to_journal() -> bool {
    let Ok(stderr) = fstat(io::stderr()) else {
        return false;
    };
    // The variable is inherited, also by a process whose standard error is
    // redirected: it holds the device and inode of the journal's socket.
    env::var("JOURNAL_STREAM")
        .is_ok_and(|stream| stream == format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Writes a log line with the level in front, as the journal reads it.
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

/// Writes the reason of a program's exit to standard error, at level `error`.
pub fn print_error(text: &str) {
    let prefix = match logs_to_journal() {
        true => format!("<{}>", priority(Level::Error)),
        false => String::new(),
    };
    for line in text.lines() {
        eprintln!("{prefix}{line}");
    }
}

/// The priority of syslog(3).
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
