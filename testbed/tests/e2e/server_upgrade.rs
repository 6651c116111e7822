//! Upgrades of both RTMP servers while players watch: no connection ends, and no picture is
//! lost or repeated.

mod counters;
mod forwards;
mod hooks;
mod programs;
mod recordings;
mod tls;
mod upstream;
mod waiting;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
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
/// HLS with parts.
const LOW_LATENCY: &str = "hls_low_latency on; hls_fragment 1; hls_window 6;";
/// HLS whose segments are encrypted.
const ENCRYPTED: &str = "hls_fragment 1; hls_window 6; hls_keys on; hls_fragments_per_key 3;";

/// Viewers wait for a publisher for longer than the test takes.
const PATIENT: &str = "hls_fragment 1; } play_wait_timeout 120000; play { gop_cache on;";

/// A directory that is removed when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let name = format!("millrace-upgrade-{name}-{}", std::process::id());
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
    /// `hls` are directives of `hls { … }`.
    fn start(role: &'static str, directory: &Path, hls: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_with(role, directory, hls, "", arguments)
    }

    /// The same with more directives of `http_server { … }`.
    fn start_with(
        role: &'static str,
        directory: &Path,
        hls: &str,
        http_server: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let http = free_address();
        let vhost = format!(
            "vhost __defaultVhost__ {{ http_remux {{ enabled on; }} hls {{ enabled on; {hls} }} }}"
        );
        let http_server = format!("http_server {{ enabled on; listen {http}; {http_server} }}");
        let set = ["--set", &*vhost, "--set", &*http_server];
        Self::start_as(role, directory, http, &[arguments, &set].concat())
    }

    /// One that has its configuration from `arguments`, and serves HTTP at `http`, if it does.
    fn start_as(
        role: &'static str,
        directory: &Path,
        http: SocketAddr,
        arguments: &[&str],
    ) -> Result<Self> {
        let installed = directory.join(role);
        install(&program(role)?, &installed)?;
        let log = directory.join(format!("{role}.log"));
        let [rtmp, api] = [(); 2].map(|()| free_address());
        let mut command = Command::new(&installed);
        command
            .args(arguments)
            .args([
                "--listen",
                &rtmp.to_string(),
                "--http-api",
                &api.to_string(),
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

    /// Waits until all players by HLS have pictures: there is nothing to play before there is a
    /// segment.
    fn wait_for_players_by_hls(&self) -> Result<()> {
        wait_for("players by HLS to have pictures", || {
            let answer = self.api("/api/v1/clients?count=1000")?;
            let clients = answer["clients"].as_array().context("clients")?;
            let of_hls = clients.iter().filter(|it| it["protocol"] == "hls");
            let sent: Vec<_> = of_hls.map(|it| it["send_bytes"].as_u64()).collect();
            Ok(!sent.is_empty() && sent.iter().all(|it| *it > Some(100_000)))
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

    /// What the API answers at `path`.
    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.api);
        let output = Command::new("curl").args(["-sf", &url]).output()?;
        String::from_utf8(output.stdout).with_context(|| format!("{url} answers no text"))
    }

    /// A value of the API.
    fn api(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.get(path)?).with_context(|| format!("{path} answers no JSON"))
    }

    /// The counters of the metrics that have one value, and the numbers of observations.
    fn counters(&self) -> Result<HashMap<String, f64>> {
        let text = self.get("/metrics")?;
        let samples = text.lines().filter_map(|line| line.split_once(' '));
        let is_counter = |name: &str| name.ends_with("_total") || name.ends_with("_count");
        let counters = samples.filter(|(name, _)| is_counter(name));
        let values = counters.map(|(name, value)| Ok((name.to_owned(), value.parse()?)));
        values.collect()
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
        let publishers = &report["publishers"];
        ensure!(
            publishers["publishing"] == publishers["count"],
            "{}: an encoder has ended: {publishers}",
            self.url
        );
        Ok(())
    }
}

#[test]
fn players_of_both_servers_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("players")?;
    let directory = &scratch.0;
    let origin = Server::start("rtmp-origin", directory, LOW_LATENCY, &[])?;
    let upstream = origin.rtmp.to_string();
    let edge = Server::start(
        "rtmp-edge",
        directory,
        LOW_LATENCY,
        &["--origin", &upstream],
    )?;
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
        format!("http://{}/live/s.m3u8", origin.http),
        format!("http://{}/live/s.m3u8", edge.http),
    ];
    for (number, url) in others.iter().enumerate() {
        players.push(Players::start(directory, number + 1, url, &[])?);
    }
    edge.wait_for_line("play live/s", 20)?;
    origin.wait_for_line("play live/s", 16)?;
    for server in [&origin, &edge] {
        server.wait_for_players_by_hls()?;
    }
    let before = [origin.clients()?, edge.clients()?];
    for number in 1..=UPGRADES {
        for server in [&origin, &edge] {
            let (done, said) = server.upgrade()?;
            ensure!(done, "{}: {said}\n{}", server.role, server.log());
            eprintln!("{said}");
            server.wait_for_line("the HTTP API answers", 1 + number)?;
        }
    }
    // Players by HLS make their second connection when they have a playlist.
    for (server, before) in [&origin, &edge].into_iter().zip(before) {
        let after = server.clients()?;
        ensure!(
            before.iter().all(|client| after.contains(client)),
            "{}: clients are gone: {before:?}, {after:?}",
            server.role
        );
    }

    // What cannot take over is told, and nobody notices.
    for (script, reason) in [
        (
            "#!/bin/sh\necho no such option >&2\nexit 2\n",
            "no such option",
        ),
        (
            "#!/bin/sh\necho 1 1 2\ncat >/dev/null\necho spoilt >&2\nexit 1\n",
            "spoilt",
        ),
        (
            "#!/bin/sh\necho 99 1\ncat >/dev/null\n",
            "a restart is needed",
        ),
        ("#!/bin/sh\nexec >&-\nexec sleep 300\n", "does not end"),
        ("#!/bin/sh\nsleep 3 &\necho broken >&2\nexit 3\n", "broken"),
        // It would be another process's.
        ("#!/bin/sh\n\"$0.command\" \"$@\"\n", "by `exec`"),
        // One that does not know of connections by TLS in user space.
        (
            "#!/bin/sh\necho 1 1\ncat >/dev/null\n",
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

/// A connection of HTTP/1.1 that stays.
struct KeptAlive(BufReader<TcpStream>);

impl KeptAlive {
    fn connect(address: SocketAddr) -> Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address)?)))
    }

    fn ask(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Ok(self.0.get_mut().write_all(request.as_bytes())?)
    }

    /// The body of an answer, which has to be good.
    fn answer(&mut self) -> Result<Vec<u8>> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(self.0.read_line(&mut head)? > 0, "the end after {head:?}");
        }
        ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let (_, length) = head.split_once("Content-Length: ").context("no length")?;
        let length = length.lines().next().context("no length")?.parse()?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }

    fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.ask(path)?;
        self.answer()
    }

    fn get_text(&mut self, path: &str) -> Result<String> {
        Ok(String::from_utf8(self.get(path)?)?)
    }
}

/// The first line of a playlist that is a URI.
fn first_uri(playlist: &str) -> Result<String> {
    let mut lines = playlist.lines();
    let uri = lines.find(|line| !line.starts_with('#') && !line.is_empty());
    Ok(format!("/live/{}", uri.context("no URI")?))
}

#[test]
fn a_viewer_who_waits_for_a_publisher_is_counted_once() -> Result<()> {
    let scratch = Scratch::new("waiting")?;
    let origin = Server::start("rtmp-origin", &scratch.0, PATIENT, &[])?;
    let mut connection = KeptAlive::connect(origin.http)?;
    connection.ask("/live/s.m3u8")?;
    wait_for("the connection and its session", || {
        Ok(origin.clients()?.len() == 2)
    })?;
    let before = origin.clients()?;
    let (done, said) = origin.upgrade()?;
    ensure!(done, "{said}\n{}", origin.log());
    origin.wait_for_line("the HTTP API answers", 2)?;
    let publisher = format!("rtmp://{}/live/s", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let watcher = Players::start(&scratch.0, 0, &publisher, &publish)?;
    let playlist = String::from_utf8(connection.answer()?)?;
    ensure!(playlist.starts_with("#EXTM3U"), "{playlist}");
    let after = origin.clients()?;
    ensure!(
        before.iter().all(|id| after.contains(id)),
        "{before:?} {after:?}\n{}",
        origin.log()
    );
    watcher.finish()
}

#[test]
fn playlists_segments_and_keys_go_on_after_an_upgrade() -> Result<()> {
    let scratch = Scratch::new("hls")?;
    let origin = Server::start("rtmp-origin", &scratch.0, ENCRYPTED, &[])?;
    let publisher = format!("rtmp://{}/live/s", origin.rtmp);
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let watcher = Players::start(&scratch.0, 0, &publisher, &publish)?;
    origin.wait_for_line("play live/s", 5)?;
    let mut connection = KeptAlive::connect(origin.http)?;
    let media = first_uri(&connection.get_text("/live/s.m3u8")?)?;
    let before = connection.get_text(&media)?;
    let segment = first_uri(&before)?;
    let bytes = connection.get(&segment)?;
    let (_, key) = before
        .split_once("METHOD=AES-128,URI=\"")
        .context("no key")?;
    let key = format!("/live/{}", key.split('"').next().context("no key")?);
    let secret = connection.get(&key)?;

    // The half of a request that has come before the upgrade is not lost either.
    let (begin, end) = media.split_at(media.len() / 2);
    let stream = connection.0.get_mut();
    stream.write_all(format!("GET {begin}").as_bytes())?;
    origin.wait_for_line("play live/s", 6)?;
    let (done, said) = origin.upgrade()?;
    ensure!(done, "{said}\n{}", origin.log());
    origin.wait_for_line("the HTTP API answers", 2)?;
    let stream = connection.0.get_mut();
    stream.write_all(format!("{end} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let after = String::from_utf8(connection.answer()?)?;

    let value = |playlist: &str, tag: &str| -> Option<u64> {
        let (_, value) = playlist.split_once(tag)?;
        value.lines().next()?.parse().ok()
    };
    let sequence = "#EXT-X-MEDIA-SEQUENCE:";
    let numbers = [value(&before, sequence), value(&after, sequence)];
    ensure!(
        numbers[0].is_some()
            && numbers[1] >= numbers[0]
            && numbers[1] <= numbers[0].map(|it| it + 9),
        "{before}\n{after}"
    );
    ensure!(!after.contains("DISCONTINUITY"), "{after}");
    ensure!(connection.get(&segment)? == bytes, "{segment} has changed");
    ensure!(connection.get(&key)? == secret, "{key} has changed");
    // What comes next continues what has been, and has the segments of before.
    wait_for("another segment", || {
        let playlist = connection.get_text(&media)?;
        Ok(!playlist.contains("DISCONTINUITY") && value(&playlist, sequence) > numbers[1])
    })?;
    ensure!(!origin.log().contains("begins anew"), "{}", origin.log());
    watcher.finish()
}
