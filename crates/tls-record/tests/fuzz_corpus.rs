//! Replays the inputs that fuzzing has found worth keeping, so that what was mended stays so.
//! `fuzz/` makes them.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/tls_record.rs"]
pub mod targets;

#[test]
fn tls_records() {
    replay::replay("tls_records", targets::tls_records);
}
