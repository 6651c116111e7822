//! Where a bed's control groups are (cgroups(7)): systemd wants one.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directory for the groups of the bed whose files are in `directory`. It is not
/// there before somebody makes it.
///
/// # Errors
/// When this machine has no hierarchy that takes processes of any kind
/// (version 2).
pub fn of_bed(directory: &Path) -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc")?;
    let root = writable_root(&mounts)
        .context("no hierarchy of control groups is mounted that could be written to (cgroup2)")?;
    Ok(root.join(directory.file_name().unwrap_or(OsStr::new("millrace"))))
}

/// The place of the hierarchy among lines of `/proc/self/mounts` (proc(5)).
fn writable_root(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind, options) = (words.next()?, words.next()?, words.next()?);
        let writable = options.split(',').any(|option| option == "rw");
        (kind == "cgroup2" && writable).then(|| point.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_those_of_version_1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw,mode=755 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let found = writable_root(mounts);
        assert_eq!(found, Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn one_that_cannot_be_written_to_is_none() {
        assert_eq!(
            writable_root("c /sys/fs/cgroup cgroup2 ro,nosuid 0 0\n"),
            None
        );
    }
}
