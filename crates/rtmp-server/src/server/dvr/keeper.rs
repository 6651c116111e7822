//! Looks after the files of recordings: finishes those that a server has left behind, and
//! removes finished ones by age and size (`dvr_keep`, `dvr_keep_bytes`).
//!
//! A file is removed only if its name is one that `dvr_path` gives, if it has the mark that
//! this server puts into its files, and if it is finished.

use std::fs::{DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;

use super::naming::{Named, Naming};
use super::recording::DvrTotals;
use super::recovery::{Recovered, is_own, recover};
use crate::config::{Config, Dvr};
use crate::stream::lock;

/// Interval at which it looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// An unfinished file to which nothing has been written for so long, and which nobody has
/// locked, was left behind.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);
/// Directories are not looked into deeper than this.
const MAX_DEPTH: usize = 32;
/// The most files that are looked at for one `dvr_path`.
const MAX_FILES: usize = 1_000_000;

/// Looks on a thread of its own: a disk that hangs delays nobody.
#[derive(Debug)]
pub(super) struct Keeper {
    started: SystemTime,
    next: Mutex<Option<Instant>>,
    is_busy: Arc<AtomicBool>,
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            next: Mutex::default(),
            is_busy: Arc::default(),
        }
    }
}

impl Keeper {
    /// Looks if it is time to, at what `config` has recorded.
    pub(super) fn sweep(&self, config: &Config, totals: &Arc<DvrTotals>, now: Instant) {
        let mut next = lock(&self.next);
        if next.is_some_and(|next| now < next) || self.is_busy.load(Ordering::Acquire) {
            return;
        }
        *next = Some(now + INTERVAL);
        let vhosts = config.vhosts.values().filter(|it| it.upstream.is_none());
        let mut settings: Vec<Dvr> = vhosts
            .map(|it| it.dvr.clone())
            // An order may have streams recorded where it is off.
            .filter(|it| it.enabled || it.keep.is_some() || it.keep_bytes.is_some())
            .collect();
        settings.dedup_by(|left, right| {
            (&left.path, left.keep, left.keep_bytes) == (&right.path, right.keep, right.keep_bytes)
        });
        if settings.is_empty() {
            return;
        }
        self.is_busy.store(true, Ordering::Release);
        let (is_busy, totals, started) = (self.is_busy.clone(), totals.clone(), self.started);
        let thread = std::thread::Builder::new().name("dvr-keep".to_owned());
        let begun = thread.spawn(move || {
            for dvr in &settings {
                look_after(dvr, started, SystemTime::now(), &totals);
            }
            is_busy.store(false, Ordering::Release);
        });
        if let Err(error) = begun {
            self.is_busy.store(false, Ordering::Release);
            log::warn!("no thread to look after recordings: {error}");
        }
    }
}

/// A finished file.
#[derive(Debug)]
struct Finished {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
}

/// Looks after the files of `dvr`, in a server that has run since `started`.
fn look_after(dvr: &Dvr, started: SystemTime, now: SystemTime, totals: &DvrTotals) {
    let Some(naming) = Naming::of(&dvr.path) else {
        return;
    };
    let mut finished = Vec::new();
    let mut left = MAX_FILES;
    let directory = naming.directory.clone();
    walk(&directory, MAX_DEPTH, &mut left, &mut |entry| {
        let path = entry.path();
        // What has gone meanwhile is no concern.
        let Some((named, metadata)) = naming.of_path(&path).zip(entry.metadata().ok()) else {
            return;
        };
        let modified = metadata.modified().unwrap_or(now);
        match named {
            Named::Finished => finished.push(Finished {
                path,
                modified,
                bytes: metadata.len(),
            }),
            Named::Unfinished(name) => {
                let idle = now.duration_since(modified).unwrap_or_default();
                if modified < started || idle >= ABANDONED_AFTER {
                    finish(&path, &name);
                }
            }
        }
    });
    if dvr.keep.is_some() || dvr.keep_bytes.is_some() {
        remove_excess(dvr, finished, &naming.directory, now, totals);
    }
}

/// Passes each file below `directory` to `visit`. Links are not followed.
fn walk(directory: &Path, depth: usize, left: &mut usize, visit: &mut impl FnMut(&DirEntry)) {
    // A directory that is not there, or may not be read, has no files of ours.
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, left, visit),
            Ok(kind) if kind.is_file() => visit(&entry),
            _ => {}
        }
    }
}

fn finish(unfinished: &Path, name: &Path) {
    let shown = unfinished.display();
    match recover(unfinished, name) {
        Ok(Recovered::Finished(path)) => {
            log::info!("{shown} was left unfinished: it is {} now", path.display());
        }
        Ok(Recovered::Removed) => log::info!("{shown} was left empty, and is removed"),
        Ok(Recovered::LeftAlone) => {}
        Err(error) => log::warn!("{shown} was left unfinished, and stays so: {error}"),
    }
}

/// Removes files that are too old, and the oldest ones that are too much.
fn remove_excess(
    dvr: &Dvr,
    mut finished: Vec<Finished>,
    directory: &Path,
    now: SystemTime,
    totals: &DvrTotals,
) {
    finished.sort_by_key(|file| file.modified);
    let mut bytes: u64 = finished.iter().map(|file| file.bytes).sum();
    for file in finished {
        // A file of the future is new: the clock was set back.
        let age = now.duration_since(file.modified).unwrap_or_default();
        let why = if dvr.keep.is_some_and(|keep| age > keep) {
            "dvr_keep"
        } else if dvr.keep_bytes.is_some_and(|keep| bytes > keep) {
            "dvr_keep_bytes"
        } else {
            continue;
        };
        let name = file.path.display();
        match remove(&file.path) {
            Ok(true) => {
                bytes = bytes.saturating_sub(file.bytes);
                totals.removed_files.fetch_add(1, Ordering::Relaxed);
                totals
                    .removed_bytes
                    .fetch_add(file.bytes, Ordering::Relaxed);
                log::info!("{name} is removed: {why}");
                remove_empty(&file.path, directory);
            }
            // Another's: it does not count.
            Ok(false) => bytes = bytes.saturating_sub(file.bytes),
            // No younger file makes up for one that stays.
            Err(error) => {
                bytes = bytes.saturating_sub(file.bytes);
                totals.failures.fetch_add(1, Ordering::Relaxed);
                log::warn!("{name} cannot be removed ({why}): {error}");
            }
        }
    }
}

/// Removes a file if it is one of this server's.
fn remove(path: &Path) -> io::Result<bool> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    let is_own = is_own(&file)?;
    if is_own {
        std::fs::remove_file(path)?;
    }
    Ok(is_own)
}

/// Removes the directories of a removed file that are empty now, but not `base`.
fn remove_empty(file: &Path, base: &Path) {
    let directories = file.ancestors().skip(1);
    for directory in directories.take_while(|it| it.starts_with(base) && *it != base) {
        // One that is not empty stays, and those above it.
        if std::fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::dvr::flv;
    use crate::stream::PerTrack;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A directory with files of this age in hours and this length.
    struct Files {
        directory: tempfile::TempDir,
        now: SystemTime,
    }

    impl Files {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                now: SystemTime::now(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn add(&self, name: &str, hours: u32, bytes: &[u8], length: u64) {
            let path = self.path(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            let file = File::options().write(true).open(&path).unwrap();
            if length > 0 {
                file.set_len(length).unwrap();
            }
            file.set_modified(self.now - HOUR * hours).unwrap();
        }

        fn look_after(&self, change: impl FnOnce(&mut Dvr)) -> DvrTotals {
            let mut dvr = Dvr {
                enabled: true,
                path: format!("{}/[app]/[stream].[timestamp].flv", self.path("").display()),
                ..Dvr::default()
            };
            change(&mut dvr);
            let totals = DvrTotals::default();
            look_after(&dvr, self.now, self.now, &totals);
            totals
        }

        fn has(&self, name: &str) -> bool {
            self.path(name).exists()
        }
    }

    fn own() -> Vec<u8> {
        flv::beginning(PerTrack::BOTH, None)
    }

    #[test]
    fn files_are_removed_by_age_and_only_our_own_finished_ones() {
        let files = Files::new();
        files.add("old/s.1.flv", 30, &own(), 0);
        files.add("live/s.2.flv", 30, &own(), 0);
        files.add("live/s.3.flv", 20, &own(), 0);
        files.add("live/other.4.flv", 99, b"FLV of another", 0);
        files.add("live/notes.txt", 99, &own(), 0);
        files.add("live/s.5.mp4", 99, &own(), 0);
        std::os::unix::fs::symlink(files.path("live/notes.txt"), files.path("live/s.6.flv"))
            .unwrap();
        files.add("live/s.7.flv.tmp", 99, &own(), 0);
        let written = File::open(files.path("live/s.7.flv.tmp")).unwrap();
        written.try_lock().unwrap();
        let totals = files.look_after(|dvr| dvr.keep = Some(24 * HOUR));
        assert!(!files.has("live/s.2.flv"));
        assert!(!files.has("old"), "it is empty");
        for kept in [
            "live/s.3.flv",
            "live/other.4.flv",
            "live/notes.txt",
            "live/s.5.mp4",
            "live/s.6.flv",
            "live/s.7.flv.tmp",
        ] {
            assert!(files.has(kept), "{kept}");
        }
        assert_eq!(totals.removed_files.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_oldest_files_go_that_are_too_much() {
        let files = Files::new();
        for (number, hours) in [(1, 3), (2, 1), (3, 2), (4, 4)] {
            files.add(&format!("live/s.{number}.flv"), hours, &own(), 1_000_000);
        }
        let totals = files.look_after(|dvr| dvr.keep_bytes = Some(2_500_000));
        let left = [1, 2, 3, 4].map(|number| files.has(&format!("live/s.{number}.flv")));
        assert_eq!(left, [false, true, true, false]);
        assert_eq!(totals.removed_bytes.load(Ordering::Relaxed), 2_000_000);
        // What is kept without limits is not looked at.
        files.look_after(|_| {});
        assert!(files.has("live/s.2.flv"));
    }

    #[test]
    fn a_file_of_the_future_is_not_too_old() {
        let files = Files::new();
        files.add("live/s.1.flv", 0, &own(), 0);
        let file = File::options()
            .write(true)
            .open(files.path("live/s.1.flv"))
            .unwrap();
        file.set_modified(files.now + 48 * HOUR).unwrap();
        files.look_after(|dvr| dvr.keep = Some(HOUR));
        assert!(files.has("live/s.1.flv"));
    }
}
