//! What the viewers of an edge notice that vanishes from the network.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::{Process, wait_for};
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Cluster, Source, program};

use crate::on;

const PLAYERS: usize = 500;
/// What a player is sent in five seconds, a keyframe in each, at 400 kbit/s.
const FIVE_GROUPS: u64 = 250_000;

/// Follows the balancer's events; each line is one of them.
fn follow_events(cluster: &Cluster) -> Result<Process> {
    let mut command = Command::new(program("lb-user")?);
    command.args(["events", "--json"]);
    cluster.director().host().spawn("events", command)
}

/// The event whose message holds `words`, if it has come.
fn event(events: &Process, words: &str) -> Option<Value> {
    let lines = events.log();
    let mut lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines.find(|event: &Value| {
        event["message"]
            .as_str()
            .is_some_and(|it| it.contains(words))
    })
}

/// When each player saw video again, in milliseconds after `since_ms`.
fn recoveries(report: &Value, since_ms: u64) -> Result<Vec<u64>> {
    let players = report["details"].as_array().context("details")?;
    let mut after: Vec<u64> = players
        .iter()
        .filter_map(|player| player["outages"].as_array()?.last()?["resumed_unix_ms"].as_u64())
        .map(|resumed_ms| resumed_ms.saturating_sub(since_ms))
        .collect();
    after.sort_unstable();
    Ok(after)
}

#[test]
#[ignore = "needs root"]
fn viewers_of_an_edge_that_is_cut_off_see_video_again_from_the_other() {
    on(Cluster::builder().clients(1), |cluster| {
        cluster.push(&Source::Generated)?;
        let events = follow_events(cluster)?;
        let client = cluster.client(0);
        let mut command = Command::new(program("rtmp-load")?);
        // Only the reset tells them: their own time-out is far away.
        command
            .args(["-n", &PLAYERS.to_string(), "--start-rate", "250", "-t", "0"])
            .args(["--reconnect", "--timeout", "600", "--json", "--details"])
            .arg(cluster.viewing_url());
        let players = client.host().spawn("players", command)?;
        // They share an address, so that persistence keeps them together.
        let serving = |edge: usize| {
            wait_for(format_args!("edge {edge} to serve all"), || {
                ensure!(
                    players.is_running(),
                    "rtmp-load has ended: {}",
                    players.log()
                );
                let peers = cluster.edge(edge).peers()?;
                let viewers = peers.iter().filter(|peer| peer.ip() == client.address());
                Ok(viewers.count() == PLAYERS)
            })
        };
        let sends = |edge: usize| {
            let sent = || anyhow::Ok(cluster.edge(edge).host().counters()?.tx_bytes);
            let before = sent()?;
            wait_for(format_args!("edge {edge} to send them video"), || {
                Ok(sent()? - before > PLAYERS as u64 * FIVE_GROUPS)
            })
        };
        let first = || cluster.edge_serving(client);
        wait_for("an edge to serve the players", || Ok(first()?.is_some()))?;
        let doomed = first()?.context("an edge serves them")?;
        serving(doomed)?;
        // Who has no picture yet has none to miss.
        sends(doomed)?;
        let address = cluster.edge(doomed).address();

        cluster.edge(doomed).host().cut_off()?;
        cluster.director().wait_for_server(address, false)?;
        wait_for("the viewers to have been told", || {
            Ok(event(&events, &format!("{address}:1935 is gone")).is_some())
        })?;
        serving(1 - doomed)?;
        sends(1 - doomed)?;
        players.signal(Signal::SIGINT)?;
        players.wait()?;

        let log = players.log();
        let report = &log[log.find('{').context("a report")?..];
        let report: Value = serde_json::from_str(report).context("a report in JSON")?;
        ensure!(
            report["players"]["playing"] == PLAYERS
                && report["connections"]["unresolved_outages"] == 0,
            "not all play again: {log}"
        );
        let told = event(&events, &format!("{address}:1935 is gone")).context("told")?;
        ensure!(
            told["message"]
                .as_str()
                .is_some_and(|it| it.contains(&format!("{PLAYERS} connection(s) reset"))),
            "{told}"
        );
        let down = event(&events, &format!("{address}:1935 is down")).context("down")?;
        let since_ms = down["time_ms"].as_u64().context("a time")?;
        let after = recoveries(&report, since_ms)?;
        ensure!(after.len() == PLAYERS, "{} have recovered", after.len());
        println!(
            "video again after {} ms (median), {} ms (99 of 100), {} ms (the last); {}",
            after[PLAYERS / 2],
            after[PLAYERS * 99 / 100],
            after[PLAYERS - 1],
            told["message"]
        );
        Ok(())
    });
}
