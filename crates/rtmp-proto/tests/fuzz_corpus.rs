//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them; see `docs/protocol.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/targets/mod.rs"]
pub mod targets;

use replay::replay;

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
