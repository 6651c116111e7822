//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them; see `docs/protocol.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/rtsp.rs"]
pub mod targets;

use replay::replay;

#[test]
fn rtp_packets() {
    replay("rtp_packets", targets::rtp_packets);
}

#[test]
fn rtcp_reports() {
    replay("rtcp_reports", targets::rtcp_reports);
}
