//! The licences of the libraries that are in a program, with their texts: most ask that these go
//! with every copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::cargo::{Package, packages};
use crate::command::output;
use anyhow::{Context as _, ensure};

/// Beginnings of names of files that hold licences and notices.
const NAMES: [&str; 6] = [
    "licen",
    "copying",
    "notice",
    "copyright",
    "unlicense",
    "patents",
];

/// Writes the notices of each program to `NAME.third-party` in `directory`.
///
/// # Errors
/// cargo does not tell the libraries, or a file cannot be read or written.
pub(super) fn write_all(programs: &[&str], directory: &Path) -> anyhow::Result<()> {
    let packages = packages("Cargo.toml")?;
    for program in programs {
        let linked = linked(program)?;
        let linked: Vec<_> = packages
            .iter()
            .filter(|it| linked.contains(&format!("{} v{}", it.name, it.version)))
            .collect();
        let text = notices(&linked)?;
        let path = directory.join(format!("{program}.third-party"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The packages that a program is built of, as `NAME vVERSION`.
fn linked(program: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    let lines = output(cargo.args(["--format", "{p}", "--package", program]))?;
    // A path, `(proc-macro)` or `(*)` may stand behind.
    let packages = lines.lines().map(|line| {
        let words: Vec<_> = line.split(' ').take(2).collect();
        words.join(" ")
    });
    let packages: BTreeSet<_> = packages.collect();
    ensure!(!packages.is_empty(), "cargo tree names no package");
    Ok(packages)
}

/// The texts, each once, below the names of the libraries that it belongs to.
fn notices(packages: &[&Package]) -> anyhow::Result<String> {
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut without = String::new();
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let found = texts_of(package)?;
        if found.is_empty() && package.source.is_some() {
            let licence = package.license.as_deref().unwrap_or("none");
            let authors = package.authors.join(", ");
            writeln!(without, "{name}: licence {licence}, by {authors}")?;
        }
        for text in found {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut written = "The program contains these libraries of others.\n".to_owned();
    if !without.is_empty() {
        write!(written, "\nWithout a text in their packages:\n{without}")?;
    }
    for (text, names) in texts {
        let names: Vec<_> = names.into_iter().collect();
        let line = "-".repeat(72);
        write!(
            written,
            "\n{line}\n{}\n{line}\n\n{text}\n",
            names.join(", ")
        )?;
    }
    Ok(written)
}

/// The licences and notices in a library's package, or among the files of others that a
/// package of the tree holds (`vendor`).
fn texts_of(package: &Package) -> anyhow::Result<Vec<String>> {
    let root = package
        .manifest_path
        .parent()
        .context("a manifest lies in a folder")?;
    let folder = match package.source {
        Some(_) => root.to_owned(),
        None => root.join("vendor"),
    };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut texts = Vec::new();
    for entry in
        fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        // `mpegts.js.LICENSE` begins with the name of what it belongs to.
        let is_text = NAMES
            .iter()
            .any(|it| name.starts_with(it) || name.contains(&format!(".{it}")));
        if is_text && path.is_file() {
            let bytes =
                fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            texts.push(String::from_utf8_lossy(&bytes).trim_end().to_owned());
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(root: &Path, name: &str, source: Option<&str>) -> Package {
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some("MIT".to_owned()),
            authors: vec!["A. Author".to_owned()],
            source: source.map(str::to_owned),
            manifest_path: root.join(name).join("Cargo.toml"),
        }
    }

    #[test]
    fn each_text_stands_once_below_all_whose_it_is() {
        let root = tempfile::tempdir().expect("a directory");
        let files = [
            ("a/LICENSE-MIT", "one text"),
            ("b/license.txt", "one text\n"),
            ("b/NOTICE", "another"),
            ("b/lib.rs", "no licence"),
            ("ours/vendor/x.js.LICENSE", "of a script"),
            ("ours/LICENSE", "our own"),
            ("bare/lib.rs", ""),
        ];
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
        let of = |name, source| package(root.path(), name, source);
        let registry = Some("registry");
        let packages = [
            of("a", registry),
            of("b", registry),
            of("ours", None),
            of("bare", registry),
        ];
        let text = notices(&packages.iter().collect::<Vec<_>>()).expect("all can be read");
        assert_eq!(text.matches("one text").count(), 1);
        for part in [
            "a 1.0.0, b 1.0.0\n",
            "another",
            "of a script",
            "bare 1.0.0: licence MIT, by A. Author",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            !text.contains("our own") && !text.contains("no licence"),
            "{text}"
        );
    }
}
