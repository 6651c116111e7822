//! `cargo xtask dist`: Debian packages of the programs, with checksums and bills of materials.
//!
//! The programs, what `cli-docs` writes and the files that operators edit are laid out in a
//! directory as they are to lie below `/`, beside a copy of `debian/`. Packing them is
//! debhelper's work (docs/decisions/0013-packages-by-debhelper.md).

mod bill;
mod notices;
mod revision;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;

use crate::build_ebpf;
use crate::command::{do_it, output};
use revision::Revision;

/// What the packages hold.
const PROGRAMS: [&str; 5] = [
    "lb-user",
    "millrace-second-chance",
    "rtmp-edge",
    "rtmp-load",
    "rtmp-origin",
];

/// Scripts of the source tree, and their names in packages.
const SCRIPTS: [(&str, &str); 2] = [
    ("scripts/millrace.sh", "millrace"),
    ("scripts/realserver.sh", "millrace-realserver"),
];

/// Writes the man pages and completions.
const CLI_DOCS: &str = "cli-docs";

/// The checksums of all files, beside them.
const CHECKSUMS: &str = "SHA256SUMS";

/// Where everything is laid out before it is packed, below the packages' directory.
const TREE: &str = "tree";

/// Build Debian packages of the programs.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Pack the programs of this directory, instead of building them for a release
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// Put the packages here
    #[arg(long, value_name = "DIRECTORY", default_value = "target/dist")]
    out: PathBuf,
    /// For tests: compress little, make no packages of symbols and no bills of materials
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let revision = Revision::of_the_tree()?;
    let programs = match &arguments.programs {
        Some(directory) => directory.clone(),
        None => build(&revision)?,
    };
    let out = &arguments.out;
    clear(out)?;
    let tree = out.join(TREE);
    lay_out(&tree, &programs, &revision)?;
    pack(&tree, arguments.quick)?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    if !arguments.quick {
        bill::write_all(&PROGRAMS, out)?;
    }
    write_checksums(out)
}

/// Removes the packages that an earlier run has left in a directory.
///
/// # Errors
/// There is something else in it; then nothing is removed.
fn clear(out: &Path) -> anyhow::Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let mut ours = Vec::new();
    for entry in fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        ensure!(
            is_ours(&entry.path(), &name.to_string_lossy()),
            "{} holds {}, which is none of our packages: choose another directory",
            out.display(),
            name.display()
        );
        ours.push(entry.path());
    }
    for path in ours {
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

/// True for what [`run`] writes.
fn is_ours(path: &Path, name: &str) -> bool {
    let is_package =
        (name.starts_with("millrace-") || name.starts_with("millrace_")) && name.ends_with("deb");
    let is_bill = name
        .strip_suffix(bill::SUFFIX)
        .is_some_and(|program| PROGRAMS.contains(&program));
    let is_tree = || {
        let control = fs::read_to_string(path.join("debian/control"));
        name == TREE && control.is_ok_and(|it| it.contains("Package: millrace-lb\n"))
    };
    name == CHECKSUMS || is_package || is_bill || is_tree()
}

/// Builds the programs for a release; returns where they are.
fn build(revision: &Revision) -> anyhow::Result<PathBuf> {
    build_ebpf::run()?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--locked", "--bins"]);
    for package in PROGRAMS.iter().chain(&[CLI_DOCS]) {
        cargo.args(["--package", package]);
    }
    do_it(cargo.env("MILLRACE_VERSION", &revision.shown))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(Path::new(&target).join("release"))
}

/// Lays everything out that packages hold.
fn lay_out(tree: &Path, programs: &Path, revision: &Revision) -> anyhow::Result<()> {
    for folder in ["usr/bin", "usr/sbin"] {
        let folder = tree.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // First: by its `debian` the next run knows the tree, should this one fail.
    let files = ["debian", "examples", "CHANGELOG.md"];
    do_it(Command::new("cp").arg("--recursive").args(files).arg(tree))?;
    for name in PROGRAMS {
        copy(&programs.join(name), &tree.join("usr/bin").join(name))?;
    }
    for (script, installed) in SCRIPTS {
        copy(Path::new(script), &tree.join("usr/sbin").join(installed))?;
    }
    do_it(Command::new(programs.join(CLI_DOCS)).arg(tree))?;
    notices::write_all(&PROGRAMS, &tree.join("debian"))?;
    let changelog = format!(
        "millrace ({}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- {}  {}\n",
        revision.debian,
        maintainer()?,
        revision.date,
    );
    fs::write(tree.join("debian/changelog"), changelog).context("cannot write the changelog")
}

/// Whom `debian/control` names.
fn maintainer() -> anyhow::Result<String> {
    let control = fs::read_to_string("debian/control").context("cannot read debian/control")?;
    let line = control
        .lines()
        .find_map(|line| line.strip_prefix("Maintainer: "));
    Ok(line
        .context("debian/control names no Maintainer")?
        .to_owned())
}

/// Makes packages of what lies in `tree`; debhelper puts them beside it.
fn pack(tree: &Path, quick: bool) -> anyhow::Result<()> {
    let mut command = Command::new("debian/rules");
    command.arg("binary").current_dir(tree);
    if quick {
        command
            .env("DEB_BUILD_OPTIONS", "noautodbgsym")
            .env("DH_BUILDDEB", "-Zgzip -z1");
    }
    do_it(&mut command).context("debhelper packs, which scripts/setup.sh installs")
}

/// Writes `SHA256SUMS` of all files in a directory, for `sha256sum --check`.
fn write_checksums(out: &Path) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(out).with_context(|| format!("cannot read {}", out.display()))? {
        let name = entry?.file_name();
        println!("{}", out.join(&name).display());
        names.push(name);
    }
    names.sort();
    let mut command = Command::new("sha256sum");
    let sums = output(command.arg("--").args(names).current_dir(out))?;
    fs::write(out.join(CHECKSUMS), sums).context("cannot write SHA256SUMS")
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_of_packages_is_emptied() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("dist");
        clear(&out).expect("nothing is there");
        fs::create_dir(&out).expect("it can be made");
        clear(&out).expect("nothing is in it");
        let file = out.join("thesis.txt");
        fs::write(&file, "").expect("it can be written");
        assert!(clear(&out).is_err());
        assert!(file.exists());
        // Others have files of that name as well.
        fs::write(out.join(CHECKSUMS), "").expect("it can be written");
        fs::create_dir(out.join(TREE)).expect("it can be made");
        assert!(clear(&out).is_err());
        assert!(file.exists() && out.join(CHECKSUMS).exists());
        fs::remove_file(&file).expect("it is there");
        assert!(clear(&out).is_err(), "a tree of somebody else's");
        fs::create_dir(out.join("tree/debian")).expect("it can be made");
        fs::copy("../debian/control", out.join("tree/debian/control")).expect("it is there");
        for name in ["millrace-lb_1_amd64.deb", "lb-user.cdx.json"] {
            fs::write(out.join(name), "").expect("it can be written");
        }
        clear(&out).expect("packages are in it");
        assert_eq!(fs::read_dir(&out).expect("it can be read").count(), 0);
    }
}
