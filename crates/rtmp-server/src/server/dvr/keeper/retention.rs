//! Which finished files go: those that are too old, and the oldest ones that are too much.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;

use super::super::recording::DvrTotals;
use super::super::recovery::is_own;
use super::Claim;

/// Device and inode, and the time of the last change in seconds and nanoseconds.
type Identity = (u64, u64, i64, i64);

/// What is known of a directory from earlier looks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Whether a file has our mark.
    marks: HashMap<Identity, bool>,
    /// Files that could not be removed: the log has said so.
    failing: HashSet<PathBuf>,
    /// The log has said that there are too many files.
    pub(super) has_said_too_many: bool,
}

/// A finished file.
#[derive(Debug)]
struct Finished {
    path: PathBuf,
    modified: SystemTime,
    bytes: u64,
    /// The claims that it falls under, by number.
    claims: Vec<usize>,
}

/// The finished files of one look.
#[derive(Debug)]
pub(super) struct Retention<'a> {
    claims: &'a [Claim],
    memory: &'a mut Memory,
    /// The marks of the files of this look.
    marks: HashMap<Identity, bool>,
    finished: Vec<Finished>,
}

impl<'a> Retention<'a> {
    pub(super) fn new(claims: &'a [Claim], memory: &'a mut Memory) -> Self {
        Self {
            claims,
            memory,
            marks: HashMap::new(),
            finished: Vec::new(),
        }
    }

    /// Takes a finished file that falls under `claims`, if it may have to go.
    pub(super) fn take(
        &mut self,
        path: &Path,
        metadata: &Metadata,
        claims: Vec<usize>,
        now: SystemTime,
    ) {
        let all = self.claims;
        if claims.iter().any(|&claim| all[claim].is_for_ever()) {
            return;
        }
        // Sums are of our own files alone. For an age it is soon enough to look when it is
        // reached.
        let is_summed = claims.iter().any(|&claim| all[claim].keep_bytes.is_some());
        if is_summed && !self.has_mark(path, metadata) {
            return;
        }
        self.finished.push(Finished {
            path: path.to_owned(),
            modified: metadata.modified().unwrap_or(now),
            bytes: metadata.len(),
            claims,
        });
    }

    fn has_mark(&mut self, path: &Path, metadata: &Metadata) -> bool {
        let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
        let identity = (metadata.dev(), metadata.ino(), seconds, nanoseconds);
        let known = self.memory.marks.get(&identity).copied();
        let has_mark = known.or_else(|| open(path).and_then(|file| is_own(&file)).ok());
        if let Some(has_mark) = has_mark {
            self.marks.insert(identity, has_mark);
        }
        has_mark.unwrap_or(false)
    }

    /// Removes, by `remove`, what all claims on it let go of, and the directories below
    /// `directory` that are empty then.
    pub(super) fn remove_excess(
        self,
        directory: &Path,
        now: SystemTime,
        totals: &DvrTotals,
        remove: &dyn Fn(&Path) -> io::Result<bool>,
    ) {
        let mut finished = self.finished;
        finished.sort_by_key(|file| file.modified);
        let mut sums = vec![0; self.claims.len()];
        for file in &finished {
            for &claim in &file.claims {
                sums[claim] += file.bytes;
            }
        }
        let mut failing = HashSet::new();
        for file in finished {
            // A file of the future is new: the clock was set back.
            let age = now.duration_since(file.modified).unwrap_or_default();
            let mut why = None;
            let mut is_kept = false;
            for &claim in &file.claims {
                match self.claims[claim].lets_go(age, sums[claim]) {
                    // Whatever becomes of it: younger files do not go in its place.
                    Some(reason) => {
                        sums[claim] -= file.bytes;
                        why = why.or(Some(reason));
                    }
                    None => is_kept = true,
                }
            }
            let Some(why) = why.filter(|_| !is_kept) else {
                continue;
            };
            let name = file.path.display();
            match remove(&file.path) {
                Ok(true) => {
                    let bytes = file.bytes;
                    totals.removed_files.fetch_add(1, Ordering::Relaxed);
                    totals.removed_bytes.fetch_add(bytes, Ordering::Relaxed);
                    log::info!("{name} is removed: {why}");
                    remove_empty(&file.path, directory);
                }
                // Another's.
                Ok(false) => {}
                // Gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    totals.failures.fetch_add(1, Ordering::Relaxed);
                    if !self.memory.failing.contains(&file.path) {
                        log::warn!("{name} cannot be removed ({why}): {error}");
                    }
                    failing.insert(file.path);
                }
            }
        }
        self.memory.failing = failing;
        self.memory.marks = self.marks;
    }
}

impl Claim {
    /// The directive by which a file of this age is to go; `None`: it stays. `sum`: bytes of
    /// it and of all that are younger.
    fn lets_go(&self, age: Duration, sum: u64) -> Option<&'static str> {
        if self.keep.is_some_and(|keep| age > keep) {
            Some("dvr_keep")
        } else if self.keep_bytes.is_some_and(|keep| sum > keep) {
            Some("dvr_keep_bytes")
        } else {
            None
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true);
    options.custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Removes a file if it is one of this server's.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    let is_own = is_own(&open(path)?)?;
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
