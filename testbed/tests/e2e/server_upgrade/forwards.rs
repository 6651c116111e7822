//! Forwards over upgrades of the server that forwards, and of the one that is forwarded to.

use std::collections::HashSet;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use netbed::local::{ChildGuard, free_address};
use netbed::wait_for;
use serde_json::Value;

use super::tls::{TlsServer, make_certificate};
use super::{Players, Scratch, Server};

/// Has the file `conf` say that streams are forwarded to `destinations`, whose certificates come
/// from `authorities`.
fn forward_to(conf: &Path, destinations: &[&str], authorities: &Path) -> Result<()> {
    let text = format!(
        "vhost __defaultVhost__ {{ forward {{ enabled on; destination {}; ca {}; }} }}",
        destinations.join(" "),
        authorities.display()
    );
    Ok(fs::write(conf, text)?)
}

/// nginx at `address`, which records what is published there.
fn nginx(directory: &Path, address: SocketAddr) -> Result<(ChildGuard, PathBuf)> {
    let recordings = directory.join("recordings");
    fs::create_dir_all(&recordings)?;
    let conf = directory.join("nginx.conf");
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so; user root;
         daemon off; master_process off; error_log stderr crit; pid nginx.pid;
         events {{ worker_connections 64; }}
         rtmp {{ access_log off; server {{ listen {address}; application live {{
             live on; record all; record_path {}; record_unique on;
         }} }} }}",
        recordings.display()
    );
    fs::write(&conf, text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).arg("-c").arg(&conf);
    let nginx = ChildGuard::spawn(command.stdin(Stdio::null()));
    wait_for("a listening nginx", || {
        Ok(TcpStream::connect(address).is_ok())
    })?;
    Ok((nginx, recordings))
}

/// The times of the pictures in the only file of `directory`, ms.
fn recorded(directory: &Path) -> Result<Vec<u64>> {
    let files: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    ensure!(files.len() == 1, "it was published anew: {files:?}");
    let output = Command::new("ffprobe")
        .args(["-loglevel", "error", "-select_streams", "v"])
        .args(["-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(files[0].path())
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    let seconds = text.lines().map(|line| line.trim_end_matches(',').parse());
    let seconds: Vec<f64> = seconds.collect::<Result<_, _>>().context(text.clone())?;
    Ok(seconds
        .into_iter()
        .map(|it| (it * 1_000.0).round() as u64)
        .collect())
}

/// The forward to `destination`, as the API shows it.
fn forward(origin: &Server, destination: &str) -> Result<Option<Value>> {
    let answer = origin.api("/api/v1/forwards")?;
    let forwards = answer["forwards"].as_array().context("forwards")?;
    let is_meant = |it: &&Value| it["destination"] == destination;
    Ok(forwards.iter().find(is_meant).cloned())
}

fn wait_for_state(origin: &Server, destination: &str, state: &str) -> Result<()> {
    wait_for(format_args!("a forward that is {state}"), || {
        let forward = forward(origin, destination)?;
        Ok(forward.is_some_and(|it| it["state"] == state && it["attempts"].as_u64() > Some(0)))
    })
}

#[test]
fn servers_that_are_forwarded_to_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("forwards")?;
    let [directory, at_target, at_secure, at_nginx] =
        ["origin", "target", "secure", "nginx"].map(|name| scratch.0.join(name));
    for directory in [&directory, &at_target, &at_secure, &at_nginx] {
        fs::create_dir_all(directory)?;
    }
    make_certificate(&at_secure)?;
    let authorities = at_secure.join("certificate");
    let target = Server::start("rtmp-origin", &at_target, "", &[])?;
    let secure = TlsServer::start("rtmp-origin", &at_secure, &[])?;
    let targets = [&target, &secure.server];
    let (nginx_address, nobody) = (free_address(), free_address().to_string());
    let (_nginx, recordings) = nginx(&at_nginx, nginx_address)?;
    let to_target = target.rtmp.to_string();
    let to_secure = format!("rtmps://localhost:{}", secure.rtmps.port());
    let to_nginx = nginx_address.to_string();
    let serving = [&*to_target, &to_secure, &to_nginx];
    let conf = directory.join("origin.conf");
    forward_to(&conf, &[&serving[..], &[&nobody]].concat(), &authorities)?;
    let file = conf.to_str().context("a name in UTF-8")?;
    let origin = Server::start_as("rtmp-origin", &directory, free_address(), &["-c", file])?;
    let publisher = format!("rtmp://{}/live/s", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let viewers = Players::start(&scratch.0, 0, &publisher, &publish)?;
    let mut far_viewers = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let watched = format!("rtmp://{}/live/s", target.rtmp);
        far_viewers.push(Players::start(&scratch.0, 1 + number, &watched, &[])?);
    }
    for server in [&origin, &target, &secure.server] {
        server.wait_for_line("play live/s", 5)?;
    }
    for destination in serving {
        wait_for_state(&origin, destination, "sending")?;
    }
    wait_for_state(&origin, &nobody, "waiting")?;
    let clients = || -> Result<Vec<_>> { targets.iter().map(|it| it.clients()).collect() };
    let before_upgrades = clients()?;
    let mut before = origin.counters()?;
    let failures = before.get("millrace_forward_failures_total");
    ensure!(failures > Some(&0.0), "{before:?}");
    for number in 1..=super::UPGRADES {
        for server in [&origin, &target, &secure.server] {
            let (done, said) = server.upgrade()?;
            ensure!(done, "{said}\n{}", server.log());
            server.wait_for_line("the HTTP API answers", 1 + number)?;
        }
        let after = origin.counters()?;
        for (name, count) in &before {
            ensure!(
                after.get(name) >= Some(count),
                "{name} falls: {before:?} {after:?}"
            );
        }
        before = after;
        for destination in serving {
            let first = forward(&origin, destination)?.context("it goes on")?;
            let goes_on = first["state"] == "sending" && first["attempts"] == 1;
            ensure!(
                goes_on && first["error"].is_null() && first["skips"] == 0,
                "{first}"
            );
            wait_for("more to be sent", || {
                let forward = forward(&origin, destination)?.context("it goes on")?;
                Ok(forward["bytes"].as_u64() > first["bytes"].as_u64())
            })?;
        }
        wait_for_state(&origin, &nobody, "waiting")?;
        for (before, after) in before_upgrades.iter().zip(clients()?) {
            ensure!(
                before.iter().all(|id| after.contains(id)),
                "{before:?} {after:?}"
            );
        }
    }
    for viewers in far_viewers {
        viewers.finish()?;
    }

    // One that the configuration no longer has ends as at a reload.
    forward_to(&conf, &[&to_nginx], &authorities)?;
    let (done, said) = origin.upgrade()?;
    ensure!(done, "{said}\n{}", origin.log());
    for (target, destination) in targets.into_iter().zip([&to_target, &to_secure]) {
        origin.wait_for_line(&format!("no longer forwarded to {destination}"), 1)?;
        target.wait_for_line(": published live/s", 1)?;
    }
    wait_for("the forward to nobody to end", || {
        Ok(forward(&origin, &nobody)?.is_none())
    })?;
    viewers.finish()?;
    wait_for("the end of the forward to nginx", || {
        Ok(forward(&origin, &to_nginx)?.is_none())
    })?;
    let times = recorded(&recordings)?;
    let steps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    // 30 pictures a second, and none is missing.
    let steps: HashSet<u64> = steps.collect();
    ensure!(steps == HashSet::from([33, 34]), "{steps:?} {times:?}");
    Ok(())
}
