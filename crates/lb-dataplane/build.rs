//! Hands the built XDP program to `include_bytes_aligned!`, and refuses one
//! that was built from other sources than those of the tree.

#[path = "../../xtask/src/ebpf_sources.rs"]
mod ebpf_sources;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use ebpf_sources::{FINGERPRINT, OBJECT, SOURCES, fingerprint};

/// Names an object to embed as it is, unchecked: for distributions that build
/// the object in a step of their own.
const OVERRIDE: &str = "MILLRACE_EBPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    println!("cargo::rerun-if-changed=../../xtask/src/ebpf_sources.rs");
    let object = match env::var_os(OVERRIDE) {
        Some(path) => chosen(PathBuf::from(path)),
        None => built(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .ancestors()
                .nth(2)
                .expect("in the workspace"),
        ),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    println!("cargo::rustc-env=LB_EBPF_OBJECT={}", object.display());
}

fn chosen(object: PathBuf) -> PathBuf {
    match fs::canonicalize(&object) {
        Ok(path) => path,
        Err(error) => fail(&format!("{OVERRIDE} names {}: {error}", object.display())),
    }
}

fn built(workspace: &Path) -> PathBuf {
    for source in SOURCES.iter().chain([&OBJECT, &FINGERPRINT]) {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let object = workspace.join(OBJECT);
    if !object.is_file() {
        fail("the XDP program has not been built; run `cargo xtask build-ebpf`");
    }
    let wanted = match fingerprint(workspace) {
        Ok(fingerprint) => fingerprint,
        Err(error) => fail(&format!("cannot read the sources of lb-ebpf: {error}")),
    };
    if fs::read_to_string(workspace.join(FINGERPRINT))
        .ok()
        .as_ref()
        != Some(&wanted)
    {
        fail(
            "the built XDP program does not match the sources of lb-ebpf and lb-abi; run \
             `cargo xtask build-ebpf`",
        );
    }
    object
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    process::exit(1);
}
