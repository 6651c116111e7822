//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/http_flv.rs"]
pub mod targets;

use replay::replay;

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
