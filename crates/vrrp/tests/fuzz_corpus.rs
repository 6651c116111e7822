//! Replays the inputs that fuzzing has found worth keeping, so that what was
//! mended stays so. `fuzz/` makes them; see `docs/protocol.md`.

#[path = "../../../fuzz/src/replay.rs"]
mod replay;
#[path = "../../../fuzz/src/vrrp.rs"]
pub mod targets;

use replay::replay;

#[test]
fn vrrp_adverts() {
    replay("vrrp_adverts", targets::vrrp_adverts);
}
