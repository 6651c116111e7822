//! Which crate uses which: the table of docs/architecture.md against the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use testbed::source_root;

type Graph = BTreeMap<String, BTreeSet<String>>;

/// What the crates of the tree use of each other outside of their tests.
fn manifests() -> Graph {
    let crates = fs::read_dir(source_root().join("crates")).expect("the folder `crates`");
    let folders = crates
        .map(|entry| {
            let name = entry.expect("it can be read").file_name();
            format!("crates/{}", name.to_string_lossy())
        })
        .chain(
            [
                "fuzz",
                "lb-ebpf",
                "lb-user",
                "rtmp-edge",
                "rtmp-load",
                "rtmp-origin",
                "testbed",
                "xtask",
            ]
            .map(str::to_owned),
        );
    let manifests: BTreeMap<String, toml::Table> = folders
        .map(|folder| {
            let path = source_root().join(&folder).join("Cargo.toml");
            let text = fs::read_to_string(path).expect("a manifest");
            (folder, text.parse().expect("TOML"))
        })
        .collect();
    let names: BTreeSet<&str> = manifests.keys().map(|folder| short(folder)).collect();
    let uses = |manifest: &toml::Table| {
        let dependencies = manifest.get("dependencies").and_then(|it| it.as_table());
        let used = dependencies.into_iter().flat_map(toml::Table::keys);
        used.filter(|name| names.contains(name.as_str()))
            .cloned()
            .collect()
    };
    manifests
        .iter()
        .map(|(folder, manifest)| (short(folder).to_owned(), uses(manifest)))
        .collect()
}

/// The name of the crate in a folder.
fn short(folder: &str) -> &str {
    folder.rsplit('/').next().unwrap_or(folder)
}

/// What the table says, which has several crates in some rows.
fn documented() -> Graph {
    let text = include_str!("../../docs/architecture.md");
    let (_, table) = text
        .split_once("| folder | what it is | uses |\n|---|---|---|\n")
        .expect("the table of the workspace");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let uses: BTreeSet<String> = cells[3]
            .split(", ")
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        cells[1]
            .split(", ")
            .map(|folder| (short(folder.trim_matches('`')).to_owned(), uses.clone()))
            .collect::<Vec<_>>()
    })
    .filter(|(name, _)| !["scripts", "examples", "debian"].contains(&name.as_str()))
    .collect()
}

#[test]
fn every_crate_uses_what_the_architecture_says_and_no_more() {
    assert_eq!(manifests(), documented());
}
