//! The program that a process runs: its file, and how the process becomes another one.

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path, PathBuf};

use nix::unistd::execve;

/// The program that runs, whatever has become of its file.
pub const RUNNING: &str = "/proc/self/exe";

/// The program file that this process was started from, by the name that it was
/// started by: where that is a symbolic link, another version may stand behind
/// it later. To be asked for before another file takes its name.
///
/// # Errors
/// `/proc` does not tell.
pub fn own_program() -> io::Result<PathBuf> {
    let running = fs::metadata(RUNNING)?;
    // A program may be given any name; few are given another's whole path.
    let is_ours = |path: &PathBuf| {
        let is_same =
            |found: Metadata| (found.dev(), found.ino()) == (running.dev(), running.ino());
        fs::metadata(path).is_ok_and(|found| path.is_absolute() || is_same(found))
    };
    let name = env::args_os().next().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    match places_of(&name, &path).into_iter().find(is_ours) {
        Some(path) => path::absolute(path),
        None => env::current_exe(),
    }
}

/// The places where a shell looks for a program that is called `name`: there, if it
/// is a path, else in the directories of `PATH` (execvp(3)).
fn places_of(name: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(name)];
    }
    env::split_paths(path)
        .map(|directory| match directory.as_os_str().is_empty() {
            true => Path::new(".").join(name),
            false => directory.join(name),
        })
        .collect()
}

/// Becomes the program in `file`, under the name of the one in `name`, with the arguments that
/// this process was started with, and its environment with these `variables`. Returns only if
/// that cannot be.
///
/// Not by `std::process::Command`: signals that are blocked are to stay so.
pub fn become_program(file: &Path, name: &Path, variables: &[(&str, &str)]) -> io::Error {
    let mut arguments = vec![name.as_os_str().to_owned()];
    arguments.extend(env::args_os().skip(1));
    let is_given = |name: &OsStr| variables.iter().any(|(given, _)| *given == name);
    let kept = env::vars_os().filter(|(name, _)| !is_given(name));
    let given = variables
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let environment = kept.chain(given).map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    });
    let file = CString::new(file.as_os_str().as_bytes());
    match (file, texts(arguments), texts(environment)) {
        (Ok(file), Ok(arguments), Ok(environment)) => {
            match execve(&file, &arguments, &environment) {
                Err(error) => error.into(),
            }
        }
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => error.into(),
    }
}

fn texts(texts: impl IntoIterator<Item = OsString>) -> Result<Vec<CString>, std::ffi::NulError> {
    let texts = texts.into_iter();
    texts.map(|text| CString::new(text.into_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_a_shell_does() {
        let places = |name: &str, path: &str| places_of(OsStr::new(name), OsStr::new(path));
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(
            places("lb-user", "/usr/local/bin::/bin"),
            paths(&["/usr/local/bin/lb-user", "./lb-user", "/bin/lb-user"])
        );
        assert_eq!(places("bin/lb-user", "/bin"), paths(&["bin/lb-user"]));
        assert_eq!(places("/a/lb-user", "/bin"), paths(&["/a/lb-user"]));
    }
}
