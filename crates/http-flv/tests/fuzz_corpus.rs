//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them.

use std::path::PathBuf;

#[path = "../../../fuzz/src/http_flv.rs"]
pub mod targets;

/// Runs a target on each file of its corpus.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut replayed = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        eprintln!("{}", path.display());
        run(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed > 0, "nothing in {}", directory.display());
    run(&[]);
}

#[test]
fn flv_tags() {
    replay("flv_tags", targets::flv_tags);
}

#[test]
fn request_head() {
    replay("request_head", targets::request_head);
}

#[test]
fn websocket_frames() {
    replay("websocket_frames", targets::websocket_frames);
}
