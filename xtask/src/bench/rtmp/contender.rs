//! The servers that are measured, each started afresh for every run.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use crate::bench::process::{
    MAX_CONNECTIONS, NGINX, NGINX_RTMP, end, free_port, only_child, pinned, spawn,
};

/// Length of nginx-rtmp's chunks if its configuration does not say, in bytes.
/// It sends each chunk with a system call of its own.
const NGINX_CHUNK_SIZE: u32 = 4096;
/// Length of our servers' chunks if nobody says otherwise, in bytes.
const OUR_CHUNK_SIZE: u32 = 60_000;
const STREAM: &str = "live/s";

/// When a server sends what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batching {
    /// Each message at once.
    AtOnce,
    /// All that has come in so many milliseconds.
    Milliseconds(u32),
}

impl fmt::Display for Batching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtOnce => f.write_str("at once"),
            Self::Milliseconds(milliseconds) => write!(f, "{milliseconds} ms"),
        }
    }
}

/// What chunks nginx-rtmp is told to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// It is told nothing.
    Default,
    /// As long as our servers' are by default, so that a picture is one chunk.
    LikeOurs,
}

impl Chunks {
    fn bytes(self) -> u32 {
        match self {
            Self::Default => NGINX_CHUNK_SIZE,
            Self::LikeOurs => OUR_CHUNK_SIZE,
        }
    }
}

/// A server to be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Our origin.
    Origin(Batching),
    /// The origin of another build, to compare with.
    Before(Batching),
    /// So many of our edges, one behind the other, behind our origin.
    Edges(Batching, u32),
    /// nginx-rtmp, which sends each message at once.
    Nginx(Chunks),
    /// The bare `sendfile` loop.
    Floor(Batching),
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(batching) => write!(f, "origin, {batching}"),
            Self::Before(batching) => write!(f, "origin before, {batching}"),
            Self::Edges(batching, 1) => write!(f, "origin and edge, {batching}"),
            Self::Edges(batching, edges) => {
                write!(f, "origin and {edges} edges in a row, {batching}")
            }
            Self::Nginx(chunks) => write!(f, "nginx-rtmp, chunk_size {}", chunks.bytes()),
            Self::Floor(batching) => write!(f, "floor, {batching}"),
        }
    }
}

/// Whether nginx-rtmp is there to compare with.
pub(crate) fn nginx_is_installed() -> bool {
    Path::new(NGINX).exists() && Path::new(NGINX_RTMP).exists()
}

/// Where things are and what they are given.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Folder of the release build.
    pub(crate) binaries: PathBuf,
    /// Folder of the build to compare with.
    pub(crate) before: Option<PathBuf>,
    /// A folder for configuration and logs.
    pub(crate) scratch: PathBuf,
    /// The servers' cores, as taskset(1) takes them.
    pub(crate) cores: String,
    /// Whether they go before all else on the machine.
    pub(crate) realtime: bool,
    /// Fan-out threads of our servers.
    pub(crate) workers: u32,
    /// Bits per second of the stream that the floor sends.
    pub(crate) bits_per_second: u64,
    /// Pictures per second of that stream.
    pub(crate) frames_per_second: u64,
}

/// Servers that run; they are ended when this is dropped.
pub(crate) struct Running {
    children: Vec<Child>,
    /// The stream as players get it.
    pub(crate) play_url: String,
    /// The stream as it is published, if it is.
    pub(crate) publish_url: Option<String>,
    /// The process that serves the players.
    pub(crate) server_pid: u32,
}

impl Running {
    /// Starts a contender and waits until it listens.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(contender: Contender, around: &Surroundings) -> anyhow::Result<Self> {
        let port = free_port()?;
        let url = |port| format!("rtmp://127.0.0.1:{port}/{STREAM}");
        match contender {
            Contender::Origin(batching) | Contender::Before(batching) => {
                let folder = match (contender, &around.before) {
                    (Contender::Before(_), Some(before)) => before,
                    _ => &around.binaries,
                };
                let origin = folder.join("rtmp-origin");
                let origin = our_server(&origin, port, batching, around);
                let origin = spawn(origin, port, &around.scratch)?;
                Ok(Self::of(vec![origin], url(port), Some(url(port))))
            }
            Contender::Edges(batching, edges) => {
                let origin = around.binaries.join("rtmp-origin");
                let origin = our_server(&origin, port, batching, around);
                let origin = spawn(origin, port, &around.scratch)?;
                // The others are ended by drop if an edge does not start.
                let mut running = Self::of(vec![origin], url(port), Some(url(port)));
                let mut upstream = port;
                for _ in 0..edges {
                    let edge_port = free_port()?;
                    let program = around.binaries.join("rtmp-edge");
                    let mut edge = our_server(&program, edge_port, batching, around);
                    edge.args(["--origin", &format!("127.0.0.1:{upstream}")]);
                    let edge = spawn(edge, edge_port, &around.scratch)?;
                    running.server_pid = edge.id();
                    running.children.push(edge);
                    running.play_url = url(edge_port);
                    upstream = edge_port;
                }
                Ok(running)
            }
            Contender::Nginx(chunks) => {
                let master = spawn(nginx(port, chunks, around)?, port, &around.scratch)?;
                let mut running = Self::of(vec![master], url(port), Some(url(port)));
                running.server_pid = only_child(running.server_pid)?;
                Ok(running)
            }
            Contender::Floor(batching) => {
                let floor = spawn(floor(port, batching, around), port, &around.scratch)?;
                Ok(Self::of(
                    vec![floor],
                    format!("tcp://127.0.0.1:{port}"),
                    None,
                ))
            }
        }
    }

    fn of(children: Vec<Child>, play_url: String, publish_url: Option<String>) -> Self {
        let server_pid = children[0].id();
        Self {
            children,
            play_url,
            publish_url,
            server_pid,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            end(child);
        }
    }
}

/// One of our servers, on its cores.
pub(crate) fn our_server(
    program: &Path,
    port: u16,
    batching: Batching,
    around: &Surroundings,
) -> Command {
    let mut command = pinned(&around.cores, around.realtime);
    command.arg(program);
    command.args(["--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--max-connections", &MAX_CONNECTIONS.to_string()]);
    command.args([
        "--workers",
        &around.workers.to_string(),
        "--log-level",
        "warn",
    ]);
    match batching {
        Batching::AtOnce => command.args(["--min-latency", "on"]),
        Batching::Milliseconds(milliseconds) => command.args([
            "--min-latency",
            "off",
            "--mw-latency",
            &milliseconds.to_string(),
        ]),
    };
    command
}

fn nginx(port: u16, chunks: Chunks, around: &Surroundings) -> anyhow::Result<Command> {
    let folder = around.scratch.join("nginx");
    fs::create_dir_all(folder.join("logs"))?;
    let file = folder.join("nginx.conf");
    let configuration = format!(
        "load_module {NGINX_RTMP};\n\
         worker_processes 1;\n\
         worker_rlimit_nofile {files};\n\
         daemon off;\n\
         pid {folder}/nginx.pid;\n\
         error_log {folder}/error.log warn;\n\
         events {{ worker_connections {MAX_CONNECTIONS}; }}\n\
         rtmp {{\n\
             access_log off;\n\
             server {{\n\
                 listen 127.0.0.1:{port};\n\
                 chunk_size {chunk_size};\n\
                 application live {{ live on; }}\n\
             }}\n\
         }}\n",
        files = MAX_CONNECTIONS + 100,
        chunk_size = chunks.bytes(),
        folder = folder.display(),
    );
    fs::write(&file, configuration)?;
    let mut command = pinned(&around.cores, around.realtime);
    command.arg(NGINX).arg("-c").arg(file).arg("-p").arg(folder);
    Ok(command)
}

fn floor(port: u16, batching: Batching, around: &Surroundings) -> Command {
    let gather_us = match batching {
        Batching::AtOnce => 0,
        Batching::Milliseconds(milliseconds) => u64::from(milliseconds) * 1000,
    };
    let picture_us = 1_000_000 / around.frames_per_second;
    let picture_bytes = around.bits_per_second / 8 / around.frames_per_second;
    let mut command = pinned(&around.cores, around.realtime);
    command
        .arg(around.binaries.join("xtask"))
        .args(["bench", "rtmp-floor"]);
    command.args(["--port", &port.to_string()]);
    command.args(["--picture-us", &picture_us.to_string()]);
    command.args(["--picture-bytes", &picture_bytes.to_string()]);
    command.args(["--gather-us", &gather_us.to_string()]);
    command
}
