//! Players by HTTP-FLV and WebSocket-FLV that wait for a publisher over an upgrade.

use std::fs;

use anyhow::{Context, Result, ensure};
use netbed::wait_for;
use serde_json::Value;

use super::hooks::HookServer;
use super::{PATIENT, Players, Scratch, Server};

/// The actions of the hooks that have been posted.
fn posted(hooks: &HookServer, action: &str) -> usize {
    let posted = hooks.posted();
    posted.iter().filter(|it| it["action"] == action).count()
}

/// The ids and activities of the players at `server` by `protocol`.
fn players(server: &Server, protocol: &str) -> Result<Vec<(String, String)>> {
    let answer = server.api("/api/v1/clients?count=1000")?;
    let clients = answer["clients"].as_array().context("clients")?;
    let of_protocol = clients.iter().filter(|it| it["protocol"] == protocol);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut players: Vec<_> = of_protocol
        .map(|it| (text(&it["id"]), text(&it["type"])))
        .collect();
    players.sort();
    Ok(players)
}

#[test]
fn players_over_http_wait_on_after_an_upgrade_and_play() -> Result<()> {
    let scratch = Scratch::new("waiting-flv")?;
    let hooks = HookServer::start(0)?;
    let url = format!("http://{}/", hooks.address);
    let directives =
        format!("{PATIENT} }} http_hooks {{ enabled on; on_play {url}; on_stop {url};");
    let edge_directory = scratch.0.join("edge");
    fs::create_dir_all(&edge_directory)?;
    let origin = Server::start("rtmp-origin", &scratch.0, &directives, &[])?;
    let upstream = origin.rtmp.to_string();
    let edge = Server::start(
        "rtmp-edge",
        &edge_directory,
        PATIENT,
        &["--origin", &upstream],
    )?;
    let urls = [
        format!("http://{}/live/s.flv", origin.http),
        format!("ws://{}/live/s.flv", origin.http),
        format!("http://{}/live/s.flv", edge.http),
        format!("ws://{}/live/s.flv", edge.http),
    ];
    let mut waiting = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        waiting.push(Players::start(&scratch.0, number, url, &[])?);
    }
    let protocols = ["http-flv", "ws-flv"];
    let all_are = |activity: &str| -> Result<bool> {
        for server in [&origin, &edge] {
            for protocol in protocols {
                let players = players(server, protocol)?;
                if players.len() != 5 || players.iter().any(|it| it.1 != activity) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    };
    wait_for("all to wait", || all_are("wait"))?;
    let ids = |server: &Server| -> Result<Vec<String>> {
        let all = protocols.map(|protocol| players(server, protocol));
        let all = all.into_iter().collect::<Result<Vec<_>>>()?.concat();
        Ok(all.into_iter().map(|it| it.0).collect())
    };
    let before = [ids(&origin)?, ids(&edge)?];
    for number in 1..=2 {
        for server in [&origin, &edge] {
            let (done, said) = server.upgrade()?;
            ensure!(done, "{said}\n{}", server.log());
            server.wait_for_line("the HTTP API answers", 1 + number)?;
        }
    }
    ensure!(
        before == [ids(&origin)?, ids(&edge)?],
        "{}\n{}",
        origin.log(),
        edge.log()
    );
    ensure!(all_are("wait")?, "{}\n{}", origin.log(), edge.log());
    let publisher = format!("rtmp://{}/live/s", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let watcher = Players::start(&scratch.0, urls.len(), &publisher, &publish)?;
    wait_for("all to play", || all_are("play"))?;
    // An upgrade of those that play, too.
    for server in [&origin, &edge] {
        let (done, said) = server.upgrade()?;
        ensure!(done, "{said}\n{}", server.log());
    }
    ensure!(posted(&hooks, "on_stop") == 0, "{:?}", hooks.posted());
    // Those of the edge's pull and of the watcher are RTMP's.
    ensure!(
        posted(&hooks, "on_play") == 10 + 5 + 1,
        "{:?}",
        hooks.posted()
    );
    for players in waiting {
        players.finish()?;
    }
    watcher.finish()
}
