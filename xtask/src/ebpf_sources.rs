//! Which sources the eBPF object was built from.
//!
//! Compiled into `xtask`, which writes the fingerprint beside the object, and
//! into `lb-dataplane`'s build script, which refuses an object whose fingerprint is
//! not that of the sources. Contents are compared, not times: a checkout
//! touches files without changing them.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the object depends on, relative to the workspace.
pub(crate) const SOURCES: [&str; 5] = [
    "crates/lb-abi/Cargo.toml",
    "crates/lb-abi/src",
    "lb-ebpf/Cargo.lock",
    "lb-ebpf/Cargo.toml",
    "lb-ebpf/src",
];

/// Where the object goes, relative to the workspace.
pub(crate) const OBJECT: &str = "target/bpf/lb-ebpf";

/// Where the object of the second chance goes, relative to the workspace.
pub(crate) const SECOND_CHANCE: &str = "target/bpf/second-chance";

/// Where the objects' fingerprint goes, relative to the workspace.
pub(crate) const FINGERPRINT: &str = "target/bpf/lb-ebpf.sources";

/// Fingerprint of names and contents of all sources.
pub(crate) fn fingerprint(workspace: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(&workspace.join(source), &mut files)?;
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in files {
        let contents = fs::read(&file)?;
        let name = file
            .strip_prefix(workspace)
            .unwrap_or(&file)
            .to_string_lossy();
        hasher.write(name.as_bytes());
        hasher.write_usize(contents.len());
        hasher.write(&contents);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            collect(&entry?.path(), files)?;
        }
    } else {
        files.push(path.to_owned());
    }
    Ok(())
}
