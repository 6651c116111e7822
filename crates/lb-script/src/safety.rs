//! Finds out if a program can be changed by others than root
//! (keepalived.conf(5), `enable_script_security`).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Links that are followed before a path counts as a loop (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The sticky bit: in such a directory only its owner may replace a file.
const STICKY: u32 = 0o1000;
const GROUP_MAY_WRITE: u32 = 0o020;
const OTHERS_MAY_WRITE: u32 = 0o002;

/// The first part of the way to `program` that another user than root may
/// write: the file, a directory or a link. `None` if only root may.
///
/// # Errors
/// The program cannot be found.
pub(crate) fn writable_part(program: &Path) -> io::Result<Option<PathBuf>> {
    let absolute = std::path::absolute(program)?;
    let mut ahead = components(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    if is_writable(&fs::symlink_metadata(&here)?) {
        return Ok(Some(here));
    }
    while let Some(component) = ahead.pop_front() {
        if component == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&component);
        let metadata = fs::symlink_metadata(&next)?;
        if is_writable(&metadata) {
            return Ok(Some(next));
        }
        if !metadata.is_symlink() {
            here = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(io::ErrorKind::TooManyLinks.into());
        }
        let target = fs::read_link(&next)?;
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        let mut way = components(&target);
        way.append(&mut ahead);
        ahead = way;
    }
    Ok(None)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

/// Returns true if another user than root may write a file, or in a directory.
fn is_writable(metadata: &fs::Metadata) -> bool {
    if metadata.uid() != 0 {
        return true;
    }
    let mode = metadata.mode();
    let is_protected = metadata.is_symlink() || (metadata.is_dir() && mode & STICKY != 0);
    let by_group = metadata.gid() != 0 && mode & GROUP_MAY_WRITE != 0;
    !is_protected && (by_group || mode & OTHERS_MAY_WRITE != 0)
}

/// The file that is run under a name, as execvp(3) finds it.
///
/// # Errors
/// There is none.
pub(crate) fn locate(program: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use nix::unistd::geteuid;
    use tempfile::TempDir;

    use super::*;

    /// A directory of root's with a program in it.
    fn program() -> Option<(TempDir, PathBuf)> {
        if !geteuid().is_root() {
            netbed::say_skipped("files of root's need root");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        fs::write(&program, "#!/bin/sh\n").expect("it is written");
        allow(&program, 0o755);
        Some((directory, program))
    }

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    fn own(path: &Path, user: u32, group: u32) {
        chown(path, Some(user), Some(group)).expect("we are root");
    }

    fn part(program: &Path) -> Option<PathBuf> {
        writable_part(program).expect("it is there")
    }

    #[test]
    fn a_program_is_as_safe_as_its_owner_and_its_mode() {
        let Some((_directory, program)) = program() else {
            return;
        };
        // User, group, mode; whether another may write it.
        let table = [
            (0, 0, 0o755, false),
            (0, 0, 0o775, false),
            (0, 7, 0o755, false),
            (0, 7, 0o775, true),
            (0, 0, 0o757, true),
            (7, 0, 0o755, true),
            (7, 7, 0o500, true),
        ];
        for (user, group, mode, expected) in table {
            own(&program, user, group);
            allow(&program, mode);
            let found = part(&program);
            let expected = expected.then(|| program.clone());
            assert_eq!(found, expected, "{user}:{group} {mode:o}");
        }
    }

    #[test]
    fn a_directory_on_the_way_counts_unless_it_is_sticky() {
        let Some((directory, program)) = program() else {
            return;
        };
        let directory = directory.path();
        assert_eq!(part(&program), None, "/tmp is sticky");
        allow(directory, 0o777);
        assert_eq!(part(&program), Some(directory.to_owned()));
        allow(directory, 0o1777);
        assert_eq!(part(&program), None);
        own(directory, 7, 0);
        assert_eq!(part(&program), Some(directory.to_owned()));
    }

    #[test]
    fn every_place_that_links_lead_through_counts() {
        let Some((directory, program)) = program() else {
            return;
        };
        let open = directory.path().join("open");
        fs::create_dir(&open).expect("a directory");
        symlink(&program, open.join("second")).expect("a link");
        let first = directory.path().join("first");
        symlink("open/../open/second", &first).expect("a link");
        assert_eq!(part(&first), None);
        allow(&open, 0o777);
        assert_eq!(part(&first), Some(open.clone()));
        allow(&open, 0o755);
        allow(&program, 0o777);
        assert_eq!(part(&first), Some(program));
        let own_end = directory.path().join("loop");
        symlink("loop", &own_end).expect("a link");
        assert!(writable_part(&own_end).is_err());
    }

    #[test]
    fn a_name_is_looked_for_as_the_kernel_would() {
        assert_eq!(locate("/a/b").expect("as it is"), Path::new("/a/b"));
        assert!(locate("sh").expect("it exists").ends_with("sh"));
        assert!(locate("no-such-program").is_err());
    }
}
