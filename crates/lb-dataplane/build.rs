//! Hands the built XDP program to `include_bytes_aligned!`, and refuses one
//! that was built from other sources than those of the tree.

#[path = "../../xtask/src/ebpf_sources.rs"]
mod ebpf_sources;

use std::path::{Path, PathBuf};
use std::{env, fs, process};

use ebpf_sources::{FINGERPRINT, OBJECT, SECOND_CHANCE, SOURCES, fingerprint};

/// The programs: the variable that the crate embeds each by, where `cargo xtask build-ebpf`
/// leaves it, and the variable that names another object to embed as it is, unchecked: for
/// distributions that build the objects in a step of their own.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("LB_EBPF_OBJECT", OBJECT, "MILLRACE_EBPF_OBJECT"),
    (
        "SECOND_CHANCE_OBJECT",
        SECOND_CHANCE,
        "MILLRACE_SECOND_CHANCE_OBJECT",
    ),
];

fn main() {
    println!("cargo::rerun-if-changed=../../xtask/src/ebpf_sources.rs");
    for (embedded, built_as, override_by) in PROGRAMS {
        println!("cargo::rerun-if-env-changed={override_by}");
        let object = match env::var_os(override_by) {
            Some(path) => chosen(override_by, PathBuf::from(path)),
            None => built(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .ancestors()
                    .nth(2)
                    .expect("in the workspace"),
                built_as,
            ),
        };
        println!("cargo::rerun-if-changed={}", object.display());
        println!("cargo::rustc-env={embedded}={}", object.display());
    }
}

fn chosen(override_by: &str, object: PathBuf) -> PathBuf {
    match fs::canonicalize(&object) {
        Ok(path) => path,
        Err(error) => fail(&format!(
            "{override_by} names {}: {error}",
            object.display()
        )),
    }
}

fn built(workspace: &Path, object: &str) -> PathBuf {
    for source in SOURCES.iter().chain([&object, &FINGERPRINT]) {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(source).display()
        );
    }
    let object = workspace.join(object);
    if !object.is_file() {
        fail("the eBPF programs have not been built; run `cargo xtask build-ebpf`");
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
            "the built eBPF programs do not match the sources of lb-ebpf and lb-abi; run \
             `cargo xtask build-ebpf`",
        );
    }
    object
}

fn fail(sentence: &str) -> ! {
    println!("cargo::error={sentence}");
    process::exit(1);
}
