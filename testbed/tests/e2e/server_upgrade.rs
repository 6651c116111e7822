//! Upgrades of both RTMP servers while players watch: no connection ends, and no picture is
//! lost or repeated.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use netbed::local::{ChildGuard, free_address};
use netbed::wait_for;
use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::program;

/// Upgrades of each server.
const UPGRADES: usize = 3;

/// A directory that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let name = format!("millrace-upgrade-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Leftovers of a test hurt nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server from a copy of its program, which another one may replace.
struct Server {
    role: &'static str,
    program: PathBuf,
    log: PathBuf,
    process: ChildGuard,
    rtmp: SocketAddr,
    http: SocketAddr,
    api: SocketAddr,
}

impl Server {
    fn start(role: &'static str, directory: &Path, arguments: &[&str]) -> Result<Self> {
        let installed = directory.join(role);
        install(&program(role)?, &installed)?;
        let log = directory.join(format!("{role}.log"));
        let [rtmp, http, api] = [(); 3].map(|()| free_address());
        let mut command = Command::new(&installed);
        command
            .args(arguments)
            .args([
                "--listen",
                &rtmp.to_string(),
                "--http-api",
                &api.to_string(),
            ])
            .args([
                "--set",
                "vhost __defaultVhost__ { http_remux { enabled on; } }",
            ])
            .args([
                "--set",
                &format!("http_server {{ enabled on; listen {http}; }}"),
            ])
            .stdin(Stdio::null())
            .stderr(File::create(&log)?);
        let process = ChildGuard::spawn(&mut command);
        let server = Self {
            role,
            program: installed,
            log,
            process,
            rtmp,
            http,
            api,
        };
        server.wait_for_line("the HTTP API answers", 1)?;
        Ok(server)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn wait_for_line(&self, text: &str, times: usize) -> Result<()> {
        wait_for(format_args!("{}: {text:?}", self.role), || {
            Ok(self.log().matches(text).count() >= times)
        })
    }

    /// Asks for an upgrade; what the command says, and whether it went well.
    fn upgrade(&self) -> Result<(bool, String)> {
        let output = Command::new(&self.program)
            .args(["upgrade", "--pid", &self.process.0.id().to_string()])
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok((output.status.success(), said))
    }

    /// A value of the API.
    fn api(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.api);
        let output = Command::new("curl").args(["-sf", &url]).output()?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{url} answers no JSON"))
    }

    fn clients(&self) -> Result<Vec<u64>> {
        let answer = self.api("/api/v1/clients?count=1000")?;
        let clients = answer["clients"].as_array().context("clients")?;
        let ids = clients.iter().filter_map(|client| {
            let id = &client["id"];
            id.as_u64().or_else(|| id.as_str()?.parse().ok())
        });
        Ok(ids.collect())
    }
}

/// Puts a copy of `program` at `place`, as packages do: under another name first.
fn install(program: &Path, place: &Path) -> Result<()> {
    let new = place.with_extension("new");
    fs::copy(program, &new)?;
    fs::rename(&new, place)?;
    Ok(())
}

/// Puts a shell script at `place`.
fn install_script(script: &str, place: &Path) -> Result<()> {
    let new = place.with_extension("new");
    fs::write(&new, script)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, place)?;
    Ok(())
}

/// Players from one process.
struct Players {
    url: String,
    process: ChildGuard,
    report: PathBuf,
}

impl Players {
    fn start(directory: &Path, number: usize, url: &str, options: &[&str]) -> Result<Self> {
        let report = directory.join(format!("players-{number}"));
        let mut command = Command::new(program("rtmp-load")?);
        command
            .args(["-n", "5", "-t", "0", "--json", "--timeout", "60"])
            .args(options)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(File::create(&report)?)
            .stderr(Stdio::null());
        Ok(Self {
            url: url.to_owned(),
            process: ChildGuard::spawn(&mut command),
            report,
        })
    }

    /// Ends them; all have had every picture once, on the connection that they began with.
    fn finish(mut self) -> Result<()> {
        self.process.signal(Signal::SIGINT);
        self.process.end();
        let report = fs::read_to_string(&self.report)?;
        let report: Value = serde_json::from_str(&report).context("a report in JSON")?;
        let frames = &report["frames"];
        eprintln!("{}: {frames}, {}", self.url, report["picture_gap_ms"]);
        ensure!(
            report["players"]["playing"] == 5 && report["connections"]["attempts"] == 5,
            "{}: connections have ended: {report}",
            self.url
        );
        ensure!(
            frames["received"].as_u64() > Some(0) && frames["lost"] == 0 && frames["repeated"] == 0,
            "{}: pictures are missing, or came twice: {frames}",
            self.url
        );
        Ok(())
    }
}

#[test]
fn players_of_both_servers_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new()?;
    let directory = &scratch.0;
    let origin = Server::start("rtmp-origin", directory, &[])?;
    let upstream = origin.rtmp.to_string();
    let edge = Server::start("rtmp-edge", directory, &["--origin", &upstream])?;
    let url = |address: SocketAddr| format!("rtmp://{address}/live/s");
    let publisher = url(origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let mut players = vec![Players::start(directory, 0, &url(edge.rtmp), &publish)?];
    edge.wait_for_line("play live/s", 5)?;
    let others = [
        url(origin.rtmp),
        format!("http://{}/live/s.flv", origin.http),
        format!("ws://{}/live/s.flv", edge.http),
        format!("http://{}/live/s.flv", edge.http),
    ];
    for (number, url) in others.iter().enumerate() {
        players.push(Players::start(directory, number + 1, url, &[])?);
    }
    edge.wait_for_line("play live/s", 15)?;
    origin.wait_for_line("play live/s", 11)?;
    let before = [origin.clients()?, edge.clients()?];
    for number in 1..=UPGRADES {
        for server in [&origin, &edge] {
            let (done, said) = server.upgrade()?;
            ensure!(done, "{}: {said}\n{}", server.role, server.log());
            eprintln!("{said}");
            server.wait_for_line("the HTTP API answers", 1 + number)?;
        }
    }
    ensure!(
        [origin.clients()?, edge.clients()?] == before,
        "the clients are others"
    );

    // What cannot take over is told, and nobody notices.
    for (script, reason) in [
        (
            "#!/bin/sh\necho no such option >&2\nexit 2\n",
            "no such option",
        ),
        (
            "#!/bin/sh\necho 1 1\ncat >/dev/null\necho spoilt >&2\nexit 1\n",
            "spoilt",
        ),
        (
            "#!/bin/sh\necho 99 1\ncat >/dev/null\n",
            "a restart is needed",
        ),
    ] {
        for server in [&origin, &edge] {
            let command = server.program.with_extension("command");
            install(&program(server.role)?, &command)?;
            install_script(script, &server.program)?;
            let output = Command::new(&command)
                .args(["upgrade", "--pid", &server.process.0.id().to_string()])
                .output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(
                !output.status.success() && said.contains(reason),
                "{}: {said}",
                server.role
            );
            install(&program(server.role)?, &server.program)?;
        }
    }
    for server in [&origin, &edge] {
        let (done, said) = server.upgrade()?;
        ensure!(done, "{}: {said}\n{}", server.role, server.log());
    }
    for players in players {
        players.finish()?;
    }
    Ok(())
}
