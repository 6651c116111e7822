//! The same for an edge's connections to its origins: by TLS, to two at once, and to one that
//! takes nothing.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netbed::local::ChildGuard;
use netbed::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::program;

use super::tls::{TlsServer, make_certificate};
use super::{LOW_LATENCY, Players, Scratch, Server};

/// Upgrades of each server.
const UPGRADES: usize = 2;

/// Upgrades servers in turn. None of their clients is another one afterwards.
fn upgrade(servers: &[&Server]) -> Result<()> {
    let clients = || -> Result<Vec<_>> { servers.iter().map(|it| it.clients()).collect() };
    let before = clients()?;
    for _ in 0..UPGRADES {
        for server in servers {
            let answers = "the HTTP API answers";
            let times = server.log().matches(answers).count();
            let (done, said) = server.upgrade()?;
            ensure!(done, "{}: {said}\n{}", server.role, server.log());
            eprintln!("{said}");
            server.wait_for_line(answers, times + 1)?;
        }
    }
    for ((server, before), after) in servers.iter().zip(before).zip(clients()?) {
        ensure!(
            before.iter().all(|client| after.contains(client)),
            "{}: clients are gone: {before:?}, {after:?}\n{}",
            server.role,
            server.log()
        );
    }
    Ok(())
}

/// How often the edge's pulls have begun to bring media.
fn begun_pulls(edge: &Server) -> usize {
    edge.log().matches(": flows").count()
}

#[test]
fn pulls_and_publishes_of_an_edge_by_tls_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("upstream-tls")?;
    let directory = &scratch.0;
    make_certificate(directory)?;
    let origin = TlsServer::start("rtmp-origin", directory, &[])?;
    let upstream = format!(
        "cluster {{ mode remote; origin rtmps://localhost:{}; origin_ca {}; }}",
        origin.rtmps.port(),
        directory.join("certificate").display()
    );
    let arguments = ["--set", &*upstream];
    let edge = Server::start("rtmp-edge", directory, LOW_LATENCY, &arguments)?;
    let origin = &origin.server;

    // The encoder comes to the edge, which has the stream from its origin again.
    let played = format!("rtmp://{}/live/s", edge.rtmp);
    let mut players = vec![Players::start(
        directory,
        0,
        &played,
        &["--publish", "generated"],
    )?];
    edge.wait_for_line("play live/s", 5)?;
    let others = [
        format!("rtmp://{}/live/s", origin.rtmp),
        format!("http://{}/live/s.flv", edge.http),
        format!("http://{}/live/s.m3u8", edge.http),
    ];
    for (number, url) in others.iter().enumerate() {
        players.push(Players::start(directory, number + 1, url, &[])?);
    }
    edge.wait_for_line("play live/s", 15)?;
    origin.wait_for_line("play live/s", 6)?;
    edge.wait_for_players_by_hls()?;
    let encrypted = || -> Result<Vec<Value>> {
        let answer = origin.api("/api/v1/clients?count=1000")?;
        let clients = answer["clients"].as_array().context("clients")?;
        let encrypted = clients.iter().filter(|client| client["tls"].is_string());
        let what = encrypted.map(|it| serde_json::json!([it["id"], it["publish"], it["tls"]]));
        Ok(what.collect())
    };
    let before = encrypted()?;
    eprintln!("the edge at its origin: {before:?}");
    ensure!(before.len() == 2, "a pull and a publish: {before:?}");
    let begun = begun_pulls(&edge);
    upgrade(&[&edge, origin])?;
    ensure!(encrypted()? == before, "{:?}, {before:?}", encrypted()?);
    ensure!(begun_pulls(&edge) == begun, "{}", edge.log());
    // The one who publishes is the first.
    for players in players {
        players.finish()?;
    }
    Ok(())
}

/// What the edge says of its pulls of the only stream.
fn pulls(edge: &Server) -> Result<Vec<Value>> {
    let answer = edge.api("/api/v1/streams")?;
    let pulls = answer["streams"][0]["pulls"].as_array();
    Ok(pulls.cloned().unwrap_or_default())
}

fn are_aligned(pulls: &[Value]) -> bool {
    pulls.len() == 2 && pulls.iter().all(|pull| pull["aligned"] == true)
}

/// Number of pictures that the pulls were the first to bring.
fn pictures_first(pulls: &[Value]) -> u64 {
    let pictures = pulls.iter().filter_map(|it| it["pictures_first"].as_u64());
    pictures.sum()
}

#[test]
fn pulls_from_two_origins_at_once_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("upstream-two")?;
    let directory = |name: &str| {
        let directory = scratch.0.join(name);
        fs::create_dir_all(&directory).map(|()| directory)
    };
    // The edge's two origins have the stream from the same server; one of them speaks TLS.
    let source = Server::start("rtmp-origin", &directory("source")?, LOW_LATENCY, &[])?;
    let upstream = source.rtmp.to_string();
    let arguments = ["--origin", &*upstream];
    let secure = directory("secure")?;
    make_certificate(&secure)?;
    let mut secure_origin = TlsServer::start("rtmp-edge", &secure, &arguments)?;
    let origin = Server::start("rtmp-edge", &directory("plain")?, LOW_LATENCY, &arguments)?;
    let upstream = format!(
        "cluster {{ mode remote; origin rtmps://localhost:{} {}; origin_redundancy 2; \
         origin_ca {}; }}",
        secure_origin.rtmps.port(),
        origin.rtmp,
        secure.join("certificate").display()
    );
    let arguments = ["--set", &*upstream];
    let directory = directory("edge")?;
    let edge = Server::start("rtmp-edge", &directory, LOW_LATENCY, &arguments)?;

    let publisher = format!("rtmp://{}/live/s", source.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let played = format!("rtmp://{}/live/s", edge.rtmp);
    let mut players = vec![Players::start(&directory, 0, &played, &publish)?];
    edge.wait_for_line("play live/s", 5)?;
    let others = [
        format!("http://{}/live/s.flv", edge.http),
        format!("http://{}/live/s.m3u8", edge.http),
    ];
    for (number, url) in others.iter().enumerate() {
        players.push(Players::start(&directory, number + 1, url, &[])?);
    }
    edge.wait_for_line("play live/s", 15)?;
    edge.wait_for_players_by_hls()?;
    wait_for("both to bring the same", || Ok(are_aligned(&pulls(&edge)?)))?;
    let begun = begun_pulls(&edge);
    let before = pictures_first(&pulls(&edge)?);
    upgrade(&[&edge, &secure_origin.server, &origin, &source])?;
    let after = pulls(&edge)?;
    ensure!(are_aligned(&after), "{after:?}\n{}", edge.log());
    ensure!(pictures_first(&after) >= before, "{before} {after:?}");
    ensure!(begun_pulls(&edge) == begun, "{}", edge.log());

    // What has been merged is known still: when one ends, nothing is missing.
    secure_origin.server.process.signal(Signal::SIGKILL);
    secure_origin.server.process.end();
    wait_for("one of both to be left", || {
        Ok(!are_aligned(&pulls(&edge)?))
    })?;
    let count = pictures_first(&pulls(&edge)?);
    wait_for("pictures of the other", || {
        Ok(pictures_first(&pulls(&edge)?) > count + 50)
    })?;
    upgrade(&[&edge])?;
    for players in players {
        players.finish()?;
    }
    Ok(())
}

#[test]
fn a_publish_that_the_origin_does_not_take_notices_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("upstream-slow")?;
    let directory = &scratch.0;
    // Players may be behind for as long as the origin stands still.
    let patient = "vhost __defaultVhost__ { queue_length 120; }";
    let origin = Server::start("rtmp-origin", directory, LOW_LATENCY, &["--set", patient])?;
    let upstream = origin.rtmp.to_string();
    let arguments = ["--origin", &*upstream, "--set", patient];
    let edge = Server::start("rtmp-edge", directory, LOW_LATENCY, &arguments)?;
    let url = format!("rtmp://{}/live/s", edge.rtmp);
    // Apart from the players, which have lost what they have not had when they end.
    let publish = [
        "-n",
        "0",
        "-t",
        "0",
        "--publish",
        "generated",
        "--bitrate",
        "20M",
    ];
    let mut encoder = Command::new(program("rtmp-load")?);
    encoder.args(publish).arg(&url).stdout(Stdio::null());
    let _encoder = ChildGuard::spawn(encoder.stderr(Stdio::null()));
    let players = Players::start(directory, 0, &url, &[])?;
    edge.wait_for_line("play live/s", 5)?;

    // What the publisher has sent, or the last player has had, in bytes.
    let bytes = |publish: bool, what: &str| -> Result<u64> {
        let answer = edge.api("/api/v1/clients?count=1000")?;
        let clients = answer["clients"].as_array().context("clients")?;
        let client = clients.iter().rfind(|it| it["publish"] == publish);
        let bytes = client.and_then(|it| it[what].as_u64());
        bytes.with_context(|| format!("no {what}: {answer}\n{}", edge.log()))
    };
    origin.process.signal(Signal::SIGSTOP);
    wait_for("the edge to wait for its origin", || {
        let before = bytes(true, "recv_bytes")?;
        sleep(Duration::from_secs(1));
        Ok(bytes(true, "recv_bytes")? == before)
    })?;
    let upgraded = upgrade(&[&edge]);
    origin.process.signal(Signal::SIGCONT);
    upgraded?;
    let sent = bytes(true, "recv_bytes")?;
    wait_for("players to have what the edge had then", || {
        Ok(bytes(false, "send_bytes")? > sent)
    })?;
    players.finish()
}
