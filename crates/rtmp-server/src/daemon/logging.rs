//! Log lines to standard error or to a file that can be reopened.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use env_logger::Target;
use log::LevelFilter;
use service_kit::OneLine;
use service_kit::systemd;

use crate::config::Log;

/// Destination of the log lines, shared with the logger.
#[derive(Debug, Clone)]
pub(super) struct LogOutput {
    destination: Arc<Mutex<Destination>>,
}

#[derive(Debug)]
enum Destination {
    Console,
    File { path: PathBuf, file: File },
}

fn open(path: &Path) -> io::Result<File> {
    create_parent(path)?;
    OpenOptions::new().create(true).append(true).open(path)
}

fn cannot_write(log: &Log) -> String {
    let file = log
        .destination()
        .map_or("?".into(), |it| it.display().to_string());
    format!("cannot write the log {file}: choose another by srs_log_file or --log-file")
}

/// Makes the parent directory of `path`.
///
/// # Errors
/// It does not exist and cannot be made.
pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => std::fs::create_dir_all(parent),
        _ => Ok(()),
    }
}

impl Destination {
    fn open(log: &Log) -> io::Result<Self> {
        Ok(match log.destination() {
            Some(path) => Self::File {
                path: path.clone(),
                file: open(path)?,
            },
            None => Self::Console,
        })
    }
}

impl LogOutput {
    /// Checks that the destination that `log` names can be opened. A file that is not there is made.
    ///
    /// # Errors
    /// It cannot.
    pub(super) fn check(log: &Log) -> anyhow::Result<()> {
        Destination::open(log)
            .map(drop)
            .with_context(|| cannot_write(log))
    }

    /// Opens the destination that `log` names, and sends every log line of this
    /// process there. `RUST_LOG` in the environment takes the place of
    /// `srs_log_level`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn start(log: &Log) -> anyhow::Result<Self> {
        let destination = Destination::open(log).with_context(|| cannot_write(log))?;
        let destination = Arc::new(Mutex::new(destination));
        let output = Self { destination };
        let (console, journal) = (output.clone(), systemd::logs_to_journal());
        let mut builder = default_filter();
        builder
            .parse_default_env()
            .target(Target::Pipe(Box::new(output.clone())))
            .format(move |line, record| {
                let text = OneLine(record.args());
                if journal && console.is_console() {
                    return systemd::write_journal_line(
                        line,
                        record.level(),
                        &format_args!("{text}"),
                    );
                }
                let time = line.timestamp_millis();
                writeln!(line, "{time} {:5} {text}", record.level())
            });
        // A process has one logger: a second server in it shares the first's.
        let _ = builder.try_init();
        set_max_level(log);
        Ok(output)
    }

    /// Applies changed settings, and opens the file anew, as after a rotation.
    ///
    /// # Errors
    /// The file cannot be opened; the old one is kept.
    pub(super) fn reopen(&self, log: &Log) -> io::Result<()> {
        let opened = Destination::open(log)?;
        *self.lock() = opened;
        set_max_level(log);
        Ok(())
    }

    fn is_console(&self) -> bool {
        matches!(&*self.lock(), Destination::Console)
    }

    fn lock(&self) -> MutexGuard<'_, Destination> {
        self.destination
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A logger that lets through all lines of the project's crates, as far as
/// `srs_log_level` allows, and the warnings of others.
fn default_filter() -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module("rtmp_server", LevelFilter::Trace)
        .filter_module("service_kit", LevelFilter::Trace);
    builder
}

/// Applies `srs_log_level`, unless `RUST_LOG` chooses levels more precisely.
fn set_max_level(log: &Log) {
    let level = match std::env::var_os("RUST_LOG") {
        Some(_) => LevelFilter::Trace,
        None => level(log),
    };
    log::set_max_level(level);
}

fn level(log: &Log) -> LevelFilter {
    LevelFilter::from_str(&log.level).unwrap_or(LevelFilter::Info)
}

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.lock() {
            Destination::Console => io::stderr().write(bytes),
            Destination::File { file, .. } => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut *self.lock() {
            Destination::Console => io::stderr().flush(),
            Destination::File { file, .. } => file.flush(),
        }
    }
}

/// The file's name, or `standard error`.
impl std::fmt::Display for LogOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.lock() {
            Destination::Console => f.write_str("standard error"),
            Destination::File { path, .. } => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use log::{Level, Log as _, Metadata};

    use super::*;

    #[test]
    fn debug_lines_of_the_projects_crates_pass_the_filter() {
        let logger = default_filter().build();
        let passes = |target: &str| {
            let metadata = Metadata::builder()
                .level(Level::Debug)
                .target(target)
                .build();
            logger.enabled(&metadata)
        };
        for target in ["rtmp_server::server", "service_kit::http"] {
            assert!(passes(target), "{target}");
        }
        assert!(!passes("hyper::client"));
    }

    #[test]
    fn a_rotated_file_is_opened_anew_in_a_directory_that_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("objs/origin.log");
        let log = Log {
            tank: None,
            level: "info".to_owned(),
            file: Some(path.clone()),
        };
        let destination = Arc::new(Mutex::new(Destination::open(&log).unwrap()));
        let mut output = LogOutput { destination };
        output.write_all(b"before\n").unwrap();
        let rotated = directory.path().join("old.log");
        std::fs::rename(&path, &rotated).unwrap();
        output.reopen(&log).unwrap();
        output.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(rotated).unwrap(), "before\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "after\n");
    }
}
