//! Counters of metrics over an upgrade.

use std::fs;

use anyhow::{Result, ensure};
use netbed::wait_for;

use super::{Players, Scratch, Server};

#[test]
fn counters_go_on_after_an_upgrade() -> Result<()> {
    let scratch = Scratch::new("counters")?;
    let target = scratch.0.join("target");
    fs::create_dir_all(&target)?;
    let target = Server::start("rtmp-origin", &target, "", &[])?;
    let directives = format!(
        "hls_fragment 1; }} forward {{ enabled on; destination {}; }} \
         dvr {{ enabled on; dvr_plan session; dvr_path {}/[stream].[timestamp].flv;",
        target.rtmp,
        scratch.0.display(),
    );
    let origin = Server::start("rtmp-origin", &scratch.0, &directives, &[])?;
    let url = format!("rtmp://{}/live/s", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*url];
    let players = Players::start(&scratch.0, 1, &url, &publish)?;
    let used = [
        "recording_bytes_total",
        "forward_bytes_total",
        "forward_attempts_total",
        "player_lag_seconds_count",
    ]
    .map(|name| format!("millrace_{name}"));
    wait_for("a recording, a forward and a player", || {
        let counters = origin.counters()?;
        Ok(used.iter().all(|name| counters.get(name) > Some(&0.0)))
    })?;
    let before = origin.counters()?;
    let (done, said) = origin.upgrade()?;
    ensure!(done, "{said}\n{}", origin.log());
    origin.wait_for_line("the HTTP API answers", 2)?;
    let after = origin.counters()?;
    for (name, before) in &before {
        let after = after.get(name);
        ensure!(after >= Some(before), "{name}: {before}, then {after:?}");
    }
    players.finish()
}
