//! Where the programs under test are.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// Names a directory of programs to use instead of the ones built beside the
/// running test or tool: installed ones, say, or a release build.
pub const BIN_DIR_VARIABLE: &str = "MILLRACE_BIN_DIR";

/// The directory that holds the project's programs.
///
/// # Errors
/// When the running program does not know where it is.
pub fn bin_dir() -> Result<PathBuf> {
    if let Some(directory) = env::var_os(BIN_DIR_VARIABLE) {
        return Ok(directory.into());
    }
    let running = env::current_exe().context("cannot tell where the running program is")?;
    let directory = running
        .parent()
        .context("the running program has no directory")?;
    // Cargo puts tests one level below the programs.
    match directory.file_name() {
        Some(name) if name == "deps" => Ok(directory.parent().unwrap_or(directory).to_owned()),
        _ => Ok(directory.to_owned()),
    }
}

/// The path of one of the project's programs.
///
/// # Errors
/// When it has not been built; the message says how to.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = bin_dir()?.join(name);
    if !path.is_file() {
        bail!(
            "{} is not there; build it with: cargo build --workspace --bins",
            path.display()
        );
    }
    Ok(path)
}

/// The directory of Debian packages of the project's programs.
///
/// # Errors
/// When they have not been made of the programs that are there; the message says how to.
pub fn packages() -> Result<PathBuf> {
    let programs = bin_dir()?;
    let packages = programs.join("packages");
    let changed = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    let packed = changed(&packages.join("SHA256SUMS"));
    for name in ["lb-user", "rtmp-edge", "rtmp-origin"] {
        if changed(&program(name)?) > packed {
            bail!(
                "{} has no packages of the present {name}; make them with: \
                 cargo build --workspace --bins && cargo xtask dist --quick --programs {} --out {}",
                packages.display(),
                programs.display(),
                packages.display()
            );
        }
    }
    Ok(packages)
}

/// The root of the source tree, where `scripts/` and `examples/` are.
#[must_use]
pub fn source_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is a folder of the workspace")
}
