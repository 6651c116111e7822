//! What cargo tells of packages, and the tools that it installs for this project.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::command::{do_it, output};

/// Where tools are installed.
const TOOLS: &str = "target/tools";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package as `cargo metadata` tells it.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    #[serde(default)]
    pub(crate) authors: Vec<String>,
    /// Absent for packages of the tree.
    pub(crate) source: Option<String>,
    pub(crate) manifest_path: PathBuf,
}

/// The packages of a workspace, its dependencies included.
///
/// # Errors
/// cargo cannot be started, or refuses the workspace.
pub(crate) fn packages(manifest: &str) -> anyhow::Result<Vec<Package>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    let metadata = output(cargo.args(["--manifest-path", manifest]))?;
    let Metadata { packages } = serde_json::from_str(&metadata)?;
    Ok(packages)
}

/// The program of the package `name`, which is installed if it is not there.
///
/// # Errors
/// cargo cannot install it.
pub(crate) fn tool(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let program = Path::new(TOOLS).join("bin").join(name);
    if !program.exists() {
        println!("building {name} {version} (some minutes)");
        let mut cargo = Command::new("cargo");
        cargo.args(["install", "--quiet", "--locked", "--root", TOOLS, name]);
        do_it(cargo.args(["--version", version]))?;
    }
    Ok(program)
}
