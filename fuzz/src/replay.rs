//! Replay of a corpus, for the tests of `crates/*` that include this file.

use std::fs;
use std::path::PathBuf;

/// Runs a target on each file of its corpus.
pub(crate) fn replay(target: &str, run: fn(&[u8])) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        run(&fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {}", directory.display());
    run(&[]);
}
