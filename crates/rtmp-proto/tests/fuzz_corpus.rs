//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them; see `docs/protocol.md`.

use std::path::PathBuf;

#[path = "../../../fuzz/src/targets/mod.rs"]
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
fn handshake() {
    replay("handshake", targets::handshake);
}

#[test]
fn chunk_reader() {
    replay("chunk_reader", targets::chunk_reader);
}

#[test]
fn amf0() {
    replay("amf0", targets::amf0);
}

#[test]
fn messages() {
    replay("messages", targets::messages);
}

#[test]
fn names() {
    replay("names", targets::names);
}

#[test]
fn server_session() {
    replay("server_session", targets::server_session);
}

#[test]
fn server_dialogue() {
    replay("server_dialogue", targets::server_dialogue);
}

#[test]
fn client_session() {
    replay("client_session", targets::client_session);
}
