//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them; see `docs/protocol.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/lb_wire.rs"]
pub mod targets;

use replay::replay;

#[test]
fn check_page() {
    replay("check_page", targets::check_page);
}

#[test]
fn check_flv() {
    replay("check_flv", targets::check_flv);
}

#[test]
fn check_load() {
    replay("check_load", targets::check_load);
}

#[test]
fn dns_answers() {
    replay("dns_answers", targets::dns_answers);
}

#[test]
fn server_lists() {
    replay("server_lists", targets::server_lists);
}

#[test]
fn client_lists() {
    replay("client_lists", targets::client_lists);
}
