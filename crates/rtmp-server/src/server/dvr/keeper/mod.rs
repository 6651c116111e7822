//! Looks after the files of recordings: finishes those that a server has left behind, and
//! removes finished ones by age and size (`dvr_keep`, `dvr_keep_bytes`).
//!
//! A file is removed only if its name is one that `dvr_path` gives, if it has the mark that
//! this server puts into its files, if it is finished, and if no vhost whose names it may have
//! keeps it longer.

mod retention;
mod walk;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use self::retention::{Memory, Retention};
use self::walk::{FoundFile, walk};
use super::recording::DvrTotals;
use super::recovery::{Recovered, recover};
use crate::config::dvr_naming::{Naming, base_directory, finished_name};
use crate::config::{Config, Dvr, Vhost};
use crate::stream::lock;

/// Interval at which it looks at files that are not kept for ever.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same where files are kept for ever: unfinished ones are left behind by servers that end.
const INTERVAL_WITHOUT_LIMITS: Duration = Duration::from_secs(3_600);
/// It rests so many times as long as it has looked.
const REST: u32 = 10;
/// An unfinished file to which nothing has been written for so long, and which nobody has
/// locked, was left behind.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);
/// The most entries of directories that are looked at for one directory of recordings.
const MAX_FILES: usize = 1_000_000;
/// Who looks for longer is said to hang, and is not waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// Looks at each directory of recordings on a thread of its own: a disk that hangs delays
/// nobody.
#[derive(Debug)]
pub(super) struct Keeper {
    started: SystemTime,
    begun: Instant,
    /// By the directories before the first variables of each `dvr_path`.
    bases: Mutex<HashMap<PathBuf, Arc<Base>>>,
}

/// A directory below which recordings lie.
#[derive(Debug)]
struct Base {
    /// As `dvr_path` has it, absolute.
    directory: PathBuf,
    /// Without symbolic links; `None` until it is known.
    real: Mutex<Option<PathBuf>>,
    turn: Mutex<TurnState>,
    memory: Mutex<Memory>,
}

/// When it is looked at.
#[derive(Debug, Default)]
struct TurnState {
    next: Option<Instant>,
    /// Time since when it is being looked at.
    since: Option<Instant>,
    /// The last look was at finished files, too.
    removes: bool,
    /// The log has said that it takes too long.
    has_warned: bool,
}

/// The files that a vhost's recordings may have, and how long they stay.
#[derive(Debug)]
struct Claim {
    base: Arc<Base>,
    naming: Naming,
    keep: Option<Duration>,
    keep_bytes: Option<u64>,
}

/// Ends a turn also where it has panicked.
struct Running(Arc<Base>);

/// What is to be known for a look at a directory.
#[derive(Debug)]
struct Look {
    /// Those of all vhosts.
    claims: Vec<Claim>,
    started: SystemTime,
    /// Directories that hang are waited for: files may lie in them by another name.
    is_patient: bool,
    totals: Arc<DvrTotals>,
}

/// The vhosts of which there may be recordings; `ordered`: those with streams that are recorded
/// by order. One that records nothing has no part in `dvr_path`'s default.
pub(super) fn owners(config: &Config, ordered: &HashSet<String>) -> Vec<Arc<Vhost>> {
    let own = config.vhosts.values().filter(|it| it.upstream.is_none());
    let own: Vec<_> = own.collect();
    // An edge leaves an origin's recordings to the origin.
    if !own.iter().any(|it| it.enabled) {
        return Vec::new();
    }
    let may_record = |it: &Vhost| it.dvr != Dvr::default() || ordered.contains(&it.name);
    let own = own.into_iter().filter(|it| may_record(it));
    own.cloned().collect()
}

impl Default for Keeper {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            begun: Instant::now(),
            bases: Mutex::default(),
        }
    }
}

impl Keeper {
    /// Looks, where it is time to, at what `owners` have recorded.
    pub(super) fn sweep(&self, owners: &[Arc<Vhost>], totals: &Arc<DvrTotals>, now: Instant) {
        let mut wanted: HashMap<PathBuf, bool> = HashMap::new();
        for vhost in owners {
            let removes = wanted.entry(base_directory(&vhost.dvr.path)).or_default();
            *removes |= vhost.dvr.keep.is_some() || vhost.dvr.keep_bytes.is_some();
        }
        let bases = &mut *lock(&self.bases);
        bases.retain(|directory, base| wanted.contains_key(directory) || base.is_busy());
        let mut due = Vec::new();
        for (directory, removes) in wanted {
            let new = || Arc::new(Base::new(directory.clone()));
            let base = bases.entry(directory.clone()).or_insert_with(new);
            if base.begin(removes, now) {
                due.push(Running(base.clone()));
            }
        }
        if due.is_empty() {
            return;
        }
        let look = Arc::new(Look {
            claims: claims(owners, bases),
            started: self.started,
            is_patient: now.saturating_duration_since(self.begun) < PATIENCE,
            totals: totals.clone(),
        });
        for running in due {
            let look = look.clone();
            let thread = std::thread::Builder::new().name("dvr-keep".to_owned());
            let begun = thread.spawn(move || look.at(&running.0, SystemTime::now(), MAX_FILES));
            if let Err(error) = begun {
                log::warn!("no thread to look after recordings: {error}");
            }
        }
    }
}

/// What `owners` may have recorded below `bases`; what is the same for several comes once.
fn claims(owners: &[Arc<Vhost>], bases: &HashMap<PathBuf, Arc<Base>>) -> Vec<Claim> {
    let mut known = HashSet::new();
    let mut claims = Vec::new();
    for vhost in owners {
        let Dvr {
            path,
            keep,
            keep_bytes,
            ..
        } = &vhost.dvr;
        let names = path.replace("[vhost]", &vhost.name);
        let base = bases.get(&base_directory(path));
        let naming = Naming::of(path, &vhost.name);
        if let Some((base, naming)) = base.zip(naming)
            && known.insert((names, *keep, *keep_bytes))
        {
            claims.push(Claim {
                base: base.clone(),
                naming,
                keep: *keep,
                keep_bytes: *keep_bytes,
            });
        }
    }
    claims
}

impl Base {
    fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            real: Mutex::default(),
            turn: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    fn is_busy(&self) -> bool {
        lock(&self.turn).since.is_some()
    }

    /// Returns true, and begins a turn, if it is time to. `removes`: finished files matter.
    fn begin(&self, removes: bool, now: Instant) -> bool {
        let turn = &mut *lock(&self.turn);
        if let Some(since) = turn.since {
            if now.saturating_duration_since(since) >= PATIENCE && !turn.has_warned {
                turn.has_warned = true;
                log::warn!(
                    "{}: a look at the recordings has taken {} minutes and goes on: its disk \
                     may hang, and none is removed there meanwhile",
                    self.directory.display(),
                    PATIENCE.as_secs() / 60
                );
            }
            return false;
        }
        // A reload may have limited what was kept for ever.
        let is_early = turn.next.is_some_and(|next| now < next);
        if is_early && (turn.removes || !removes) {
            return false;
        }
        let interval = match removes {
            true => INTERVAL,
            false => INTERVAL_WITHOUT_LIMITS,
        };
        *turn = TurnState {
            next: Some(now + interval),
            since: Some(now),
            removes,
            has_warned: false,
        };
        true
    }

    /// Finds out where it lies.
    fn resolve(&self) -> Option<PathBuf> {
        let real = match self.directory.canonicalize() {
            Ok(real) => real,
            // Nothing is in it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.directory.clone(),
            Err(error) => {
                log::debug!("{}: {error}", self.directory.display());
                return None;
            }
        };
        *lock(&self.real) = Some(real.clone());
        Some(real)
    }

    fn real(&self) -> Option<PathBuf> {
        lock(&self.real).clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let turn = &mut *lock(&self.0.turn);
        let now = Instant::now();
        if let Some(since) = turn.since.take() {
            let rest = now.saturating_duration_since(since) * REST;
            turn.next = turn.next.max(Some(now + rest));
        }
    }
}

impl Claim {
    fn is_for_ever(&self) -> bool {
        self.keep.is_none() && self.keep_bytes.is_none()
    }

    /// True if the file may be the vhost's; `real` is where the claim's directory lies.
    fn covers(&self, file: &FoundFile<'_>, real: Option<&Path>) -> bool {
        let is_named = |path: &Path, directory: &Path| {
            let name = path.strip_prefix(directory);
            name.is_ok_and(|name| self.naming.names(name))
        };
        is_named(file.path, &self.naming.directory)
            || real.is_some_and(|real| is_named(file.real, real))
    }
}

impl Look {
    /// Looks after the files below `base`, `max_files` at most.
    fn at(&self, base: &Arc<Base>, now: SystemTime, max_files: usize) {
        let Some(real) = base.resolve() else {
            return;
        };
        let memory = &mut *lock(&base.memory);
        let reals: Vec<_> = self.claims.iter().map(|it| it.base.real()).collect();
        let is_own = |claim: &Claim| Arc::ptr_eq(&claim.base, base);
        let limits = |claim: &Claim| is_own(claim) && !claim.is_for_ever();
        let are_known = reals.iter().all(Option::is_some) || !self.is_patient;
        let removes = self.claims.iter().any(limits) && are_known;
        let mut retention = Retention::new(&self.claims, memory);
        let is_whole = walk(&base.directory, &real, max_files, &mut |file| {
            let unfinished = finished_name(file.path);
            if unfinished.is_none() && !removes {
                return;
            }
            let claims = self.claims.iter().zip(&reals).enumerate();
            let covering: Vec<usize> = claims
                .filter(|(_, (claim, real))| claim.covers(file, real.as_deref()))
                .map(|(index, _)| index)
                .collect();
            // What has gone meanwhile is no concern.
            let metadata = file.path.symlink_metadata();
            let Some(metadata) = metadata.ok().filter(|_| !covering.is_empty()) else {
                return;
            };
            match unfinished {
                None => retention.take(file.path, &metadata, covering, now),
                Some(name) => {
                    let modified = metadata.modified().unwrap_or(now);
                    let idle = now.duration_since(modified).unwrap_or_default();
                    if modified < self.started || idle >= ABANDONED_AFTER {
                        finish(file.path, &name);
                    }
                }
            }
        });
        if removes {
            let remove = &retention::remove;
            retention.remove_excess(&base.directory, now, &self.totals, remove);
        }
        if !is_whole && !std::mem::replace(&mut memory.has_said_too_many, true) {
            log::warn!(
                "{}: there are more than {max_files} files and directories: no others are looked \
                 at, so that recordings may stay beyond `dvr_keep` and `dvr_keep_bytes`",
                base.directory.display()
            );
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
        // Another one has finished it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log::warn!("{shown} was left unfinished, and stays so: {error}"),
    }
}

#[cfg(test)]
mod tests;
