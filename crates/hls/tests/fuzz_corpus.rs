//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/hls.rs"]
pub mod targets;

use replay::replay;

#[test]
fn hls_segmenter() {
    replay("hls_segmenter", targets::hls_segmenter);
}
