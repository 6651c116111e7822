//! The same for connections that the servers encrypt themselves.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use netbed::local::{ChildGuard, ffmpeg, free_address, push};
use netbed::wait_for;
use nix::sys::signal::Signal;

use super::{LOW_LATENCY, Players, Scratch, Server};

/// Upgrades of each server.
const UPGRADES: usize = 2;
/// Distance of two pictures of `push`, ms.
const PICTURE_MS: u64 = 40;

/// A server, and where it speaks TLS.
pub(super) struct TlsServer {
    pub(super) server: Server,
    pub(super) rtmps: SocketAddr,
    https: SocketAddr,
}

impl TlsServer {
    /// One with the certificate of `make_certificate`.
    pub(super) fn start(role: &'static str, directory: &Path, arguments: &[&str]) -> Result<Self> {
        let (key, certificate) = (directory.join("key"), directory.join("certificate"));
        let [rtmps, https] = [(); 2].map(|()| free_address());
        let block = |name: &str, listen: SocketAddr| {
            let (key, certificate) = (key.display(), certificate.display());
            format!("{name} {{ enabled on; listen {listen}; key {key}; cert {certificate}; }}")
        };
        let rtmps_block = block("rtmps", rtmps);
        let arguments = [arguments, &["--set", &rtmps_block]].concat();
        let https_block = block("https", https);
        let server = Server::start_with(role, directory, LOW_LATENCY, &https_block, &arguments)?;
        Ok(Self {
            server,
            rtmps,
            https,
        })
    }

    fn rtmps(&self, stream: &str) -> String {
        format!("rtmps://{}/live/{stream}", self.rtmps)
    }

    /// The URL of a file, by `https` or `wss`.
    fn secure(&self, scheme: &str, file: &str) -> String {
        format!("{scheme}://{}/live/{file}", self.https)
    }
}

/// Makes a key and its certificate for `localhost`, which nobody has signed.
pub(super) fn make_certificate(directory: &Path) -> Result<()> {
    let mut openssl = Command::new("openssl");
    openssl.args("req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
    openssl.args("-subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '));
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]);
    openssl.arg(directory.join("key")).arg("-out");
    let output = openssl.arg(directory.join("certificate")).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "openssl: {said}");
    Ok(())
}

/// An ffmpeg that records a stream.
struct Recorder {
    url: String,
    process: ChildGuard,
    file: PathBuf,
}

impl Recorder {
    fn start(directory: &Path, name: &str, url: String) -> Result<Self> {
        let file = directory.join(format!("{name}.flv"));
        let said = File::create(directory.join(format!("{name}.log")))?;
        let mut command = ffmpeg();
        command.args(["-i", &url, "-c", "copy", "-flush_packets", "1"]);
        command.arg(&file).stderr(said).stdout(Stdio::null());
        Ok(Self {
            url,
            process: ChildGuard::spawn(&mut command),
            file,
        })
    }

    fn has_pictures(&self) -> bool {
        std::fs::metadata(&self.file).is_ok_and(|file| file.len() > 50_000)
    }

    /// Ends it; every picture is there once, by its time.
    fn finish(mut self) -> Result<()> {
        ensure!(self.process.0.try_wait()?.is_none(), "{}: ended", self.url);
        self.process.signal(Signal::SIGINT);
        self.process.end();
        let mut probe = Command::new("ffprobe");
        probe.args("-loglevel error -select_streams v -of csv=p=0".split(' '));
        probe.args(["-show_entries", "packet=dts"]).arg(&self.file);
        let output = String::from_utf8(probe.output()?.stdout)?;
        let times = output
            .lines()
            .map(|line| line.trim_end_matches(',').parse());
        let times: Vec<u64> = times.collect::<Result<_, _>>().context("times in ms")?;
        ensure!(times.len() > 50, "{}: {} pictures", self.url, times.len());
        for pair in times.windows(2) {
            let distance = pair[1].checked_sub(pair[0]).context("times go back")?;
            // Times of FLV are whole milliseconds.
            let is_next = distance.abs_diff(PICTURE_MS) <= 1;
            ensure!(is_next, "{}: {} and {} ms", self.url, pair[0], pair[1]);
        }
        Ok(())
    }
}

#[test]
fn connections_by_tls_of_the_servers_themselves_notice_nothing_of_upgrades() -> Result<()> {
    let scratch = Scratch::new("tls")?;
    let directory = &scratch.0;
    make_certificate(directory)?;
    let origin = TlsServer::start("rtmp-origin", directory, &[])?;
    let upstream = origin.server.rtmp.to_string();
    let edge = TlsServer::start("rtmp-edge", directory, &["--origin", &upstream])?;
    let servers = [&origin.server, &edge.server];

    // What `rtmp-load` publishes has numbers in its pictures.
    let publisher = origin.rtmps("s");
    let publish = ["--publish", "generated", "--publish-url", &*publisher];
    let mut players = vec![Players::start(directory, 0, &edge.rtmps("s"), &publish)?];
    edge.server.wait_for_line("play live/s", 5)?;
    let others = [
        origin.rtmps("s"),
        origin.secure("https", "s.flv"),
        edge.secure("wss", "s.flv"),
        edge.secure("https", "s.flv"),
        origin.secure("https", "s.m3u8"),
        edge.secure("https", "s.m3u8"),
    ];
    for (number, url) in others.iter().enumerate() {
        players.push(Players::start(directory, number + 1, url, &[])?);
    }
    // Others' TLS: ffmpeg has GnuTLS.
    let _push = push(&origin.rtmps("t"));
    origin.server.wait_for_line("publish live/t", 1)?;
    let recorders = [
        Recorder::start(directory, "rtmps", edge.rtmps("t"))?,
        Recorder::start(directory, "https", origin.secure("https", "t.flv"))?,
    ];
    for recorder in &recorders {
        wait_for("ffmpeg to have pictures", || Ok(recorder.has_pictures()))?;
    }
    edge.server.wait_for_line("play live/s", 20)?;
    origin.server.wait_for_line("play live/s", 16)?;
    // Where the kernel has TLS, `kernel` encrypts, for which the same holds.
    for server in servers {
        let clients = server.api("/api/v1/clients?count=1000")?;
        let clients = clients["clients"].as_array().context("clients")?;
        let places: Vec<_> = clients.iter().filter_map(|it| it["tls"].as_str()).collect();
        eprintln!("{}: encrypted by {places:?}", server.role);
        ensure!(
            places.len() >= 15,
            "{}: not encrypted: {clients:?}",
            server.role
        );
    }
    let before = [origin.server.clients()?, edge.server.clients()?];
    for number in 1..=UPGRADES {
        for server in servers {
            let (done, said) = server.upgrade()?;
            ensure!(done, "{}: {said}\n{}", server.role, server.log());
            eprintln!("{said}");
            server.wait_for_line("the HTTP API answers", 1 + number)?;
        }
    }
    for (server, before) in servers.into_iter().zip(before) {
        let after = server.clients()?;
        ensure!(
            before.iter().all(|client| after.contains(client)),
            "{}: clients are gone: {before:?}, {after:?}",
            server.role
        );
    }
    for recorder in recorders {
        recorder.finish()?;
    }
    for players in players {
        players.finish()?;
    }
    Ok(())
}
