//! The files below a directory of recordings.

use std::collections::{HashSet, VecDeque};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Directories are not looked into deeper than this.
const MAX_DEPTH: usize = 32;

/// A file below a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundFile<'a> {
    /// Below the directory, by the links that lead there.
    pub(super) path: &'a Path,
    /// Without links.
    pub(super) real: &'a Path,
}

/// A directory to look into.
struct Found {
    path: PathBuf,
    real: PathBuf,
    depth: usize,
}

/// Passes each file below `directory`, which is `real` without links, to `visit`; links to
/// directories are followed, those to files are not. Returns false if there are more than `max`
/// files and directories: then the others are left out.
pub(super) fn walk(
    directory: &Path,
    real: &Path,
    max: usize,
    visit: &mut impl FnMut(&FoundFile<'_>),
) -> bool {
    let mut left = max;
    // By device and inode: links may lead in circles.
    let mut seen = HashSet::new();
    let mut directories = VecDeque::from([Found {
        path: directory.to_owned(),
        real: real.to_owned(),
        depth: 0,
    }]);
    while let Some(Found { path, real, depth }) = directories.pop_front() {
        let metadata = std::fs::metadata(&path);
        let is_new = metadata.is_ok_and(|it| seen.insert((it.dev(), it.ino())));
        // A directory that is not there, or may not be read, has no files of ours.
        let Some(entries) = std::fs::read_dir(&path).ok().filter(|_| is_new) else {
            continue;
        };
        for entry in entries.flatten() {
            if left == 0 {
                return false;
            }
            left -= 1;
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let (path, real) = (entry.path(), real.join(entry.file_name()));
            let depth = depth + 1;
            if kind.is_file() {
                visit(&FoundFile {
                    path: &path,
                    real: &real,
                });
            } else if kind.is_dir() && depth <= MAX_DEPTH {
                directories.push_front(Found { path, real, depth });
            } else if kind.is_symlink() && depth <= MAX_DEPTH && path.is_dir() {
                // Last: what lies below by itself is known by that name.
                if let Ok(real) = path.canonicalize() {
                    directories.push_back(Found { path, real, depth });
                }
            }
        }
    }
    true
}
