//! The servers that are measured, and what their viewers play.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail};

use super::super::{
    process::{MAX_CONNECTIONS, NGINX, NGINX_RTMP, end, free_port, only_child, pinned, spawn},
    rtmp::contender::Batching,
};

/// How viewers are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    /// RTMP by our origin.
    Rtmp(Batching),
    /// HTTP-FLV by our origin.
    HttpFlv(Batching),
    /// HTTP-FLV by our origin, over TLS.
    HttpsFlv(Batching),
    /// WebSocket-FLV by our origin.
    WebSocketFlv(Batching),
    /// RTMP by nginx-rtmp.
    NginxRtmp,
    /// HLS by our origin, by whole segments.
    Hls,
    /// Low-Latency HLS by our origin.
    LowLatencyHls,
    /// The files that our origin writes of the same stream (`hls_path`), by nginx.
    NginxFiles,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(batching) => write!(f, "RTMP, {batching}"),
            Self::HttpFlv(batching) => write!(f, "HTTP-FLV, {batching}"),
            Self::HttpsFlv(batching) => write!(f, "HTTP-FLV over TLS, {batching}"),
            Self::WebSocketFlv(batching) => write!(f, "WebSocket-FLV, {batching}"),
            Self::NginxRtmp => f.write_str("nginx-rtmp, RTMP"),
            Self::Hls => f.write_str("HLS"),
            Self::LowLatencyHls => f.write_str("Low-Latency HLS"),
            Self::NginxFiles => f.write_str("nginx, the same HLS from tmpfs"),
        }
    }
}

impl Contender {
    /// True for those whose viewers ask for each piece.
    pub(crate) fn is_hls(self) -> bool {
        matches!(self, Self::Hls | Self::LowLatencyHls | Self::NginxFiles)
    }
}

/// Where things are and what they are given.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    /// Folder of the release build.
    pub(crate) binaries: PathBuf,
    /// A folder for configuration and logs.
    pub(crate) scratch: PathBuf,
    /// The measured server's core.
    pub(crate) server_core: u32,
    /// The core of all else.
    pub(crate) load_core: u32,
    /// Whether they go before all else on the machine.
    pub(crate) realtime: bool,
}

/// Servers that run; they are ended when this is dropped.
pub(crate) struct Running {
    children: Vec<Child>,
    /// The stream as viewers get it.
    pub(crate) play_url: String,
    /// The stream as it is published.
    pub(crate) publish_url: String,
    /// The process that serves the viewers.
    pub(crate) server_pid: u32,
    /// Files on tmpfs, which go with it.
    _files: Option<tempfile::TempDir>,
}

impl Running {
    /// Starts a contender and waits until it listens.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(contender: Contender, around: &Surroundings) -> anyhow::Result<Self> {
        let (rtmp, http) = (free_port()?, free_port()?);
        let publish_url = format!("rtmp://127.0.0.1:{rtmp}/live/s");
        let of_http =
            |scheme: &str, ending: &str| format!("{scheme}://127.0.0.1:{http}/live/s.{ending}");
        let core = around.server_core;
        let (child, play_url) = match contender {
            Contender::Rtmp(batching) => {
                let origin = origin(rtmp, http, &gathering(batching), core, around)?;
                (origin, publish_url.clone())
            }
            Contender::HttpFlv(batching) => {
                let origin = origin(rtmp, http, &gathering(batching), core, around)?;
                (origin, of_http("http", "flv"))
            }
            Contender::HttpsFlv(batching) => {
                let https = free_port()?;
                let listeners = https_listener(http, https, around)?;
                let origin = origin_with(rtmp, &listeners, &gathering(batching), core, around)?;
                (origin, format!("https://127.0.0.1:{https}/live/s.flv"))
            }
            Contender::WebSocketFlv(batching) => {
                let origin = origin(rtmp, http, &gathering(batching), core, around)?;
                (origin, of_http("ws", "flv"))
            }
            Contender::Hls => {
                let hls = "hls { enabled on; hls_fragment 2; hls_window 20; hls_use_fmp4 on; }";
                (
                    origin(rtmp, http, hls, core, around)?,
                    of_http("http", "m3u8"),
                )
            }
            Contender::LowLatencyHls => {
                let hls = "hls { enabled on; hls_low_latency on; }";
                (
                    origin(rtmp, http, hls, core, around)?,
                    of_http("http", "m3u8"),
                )
            }
            Contender::NginxRtmp => (nginx_rtmp(rtmp, around)?, publish_url.clone()),
            Contender::NginxFiles => return Self::nginx_files(rtmp, http, publish_url, around),
        };
        let mut running = Self {
            server_pid: child.id(),
            children: vec![child],
            play_url,
            publish_url,
            _files: None,
        };
        if contender == Contender::NginxRtmp {
            running.server_pid = only_child(running.server_pid)?;
        }
        Ok(running)
    }

    /// Our origin writes on the load's core, nginx serves on the server's.
    fn nginx_files(
        rtmp: u16,
        http: u16,
        publish_url: String,
        around: &Surroundings,
    ) -> anyhow::Result<Self> {
        let files = tempfile::tempdir_in("/dev/shm")?;
        let hls = format!(
            "hls {{ enabled on; hls_fragment 2; hls_window 20; hls_use_fmp4 on; hls_path {}; }}",
            files.path().display()
        );
        let writer = origin(rtmp, free_port()?, &hls, around.load_core, around)?;
        let mut running = Self {
            server_pid: writer.id(),
            children: vec![writer],
            play_url: format!("http://127.0.0.1:{http}/live/s.m3u8"),
            publish_url,
            _files: None,
        };
        let nginx = nginx_files(http, files.path(), around)?;
        running.server_pid = nginx.id();
        running.children.push(nginx);
        running._files = Some(files);
        running.server_pid = only_child(running.server_pid)?;
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            end(child);
        }
    }
}

fn gathering(batching: Batching) -> String {
    match batching {
        Batching::AtOnce => "min_latency on;".to_owned(),
        Batching::Milliseconds(milliseconds) => {
            format!("min_latency off; play {{ mw_latency {milliseconds}; }}")
        }
    }
}

/// Our origin with these directives in its default vhost.
fn origin(
    rtmp: u16,
    http: u16,
    vhost: &str,
    core: u32,
    around: &Surroundings,
) -> anyhow::Result<Child> {
    let listener = format!("listen 127.0.0.1:{http};");
    origin_with(rtmp, &listener, vhost, core, around)
}

/// HTTP at one port, and HTTPS with a certificate of its own at another.
fn https_listener(http: u16, https: u16, around: &Surroundings) -> anyhow::Result<String> {
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| around.scratch.join(name));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=localhost",
        ])
        .args([
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .context("starting openssl")?;
    if !made.success() {
        bail!("openssl made no certificate");
    }
    Ok(format!(
        "listen 127.0.0.1:{http}; \
         https {{ enabled on; listen 127.0.0.1:{https}; key {}; cert {}; }}",
        key.display(),
        cert.display()
    ))
}

/// [`origin`], with these directives in `http_server`.
fn origin_with(
    rtmp: u16,
    listeners: &str,
    vhost: &str,
    core: u32,
    around: &Surroundings,
) -> anyhow::Result<Child> {
    let configuration = format!(
        "listen 127.0.0.1:{rtmp};\n\
         max_connections {MAX_CONNECTIONS};\n\
         workers 1;\n\
         srs_log_level warn;\n\
         http_server {{ enabled on; {listeners} }}\n\
         vhost __defaultVhost__ {{ http_remux {{ enabled on; }} {vhost} }}\n"
    );
    let file = around.scratch.join(format!("origin-{rtmp}.conf"));
    fs::write(&file, configuration)?;
    let mut command = pinned(&core.to_string(), around.realtime);
    command.arg(around.binaries.join("rtmp-origin"));
    command.arg("-c").arg(file);
    spawn(command, rtmp, &around.scratch)
}

fn nginx_rtmp(port: u16, around: &Surroundings) -> anyhow::Result<Child> {
    let blocks = format!(
        "rtmp {{ access_log off; server {{ listen 127.0.0.1:{port}; application live {{ live on; \
         }} }} }}"
    );
    let modules = format!("load_module {NGINX_RTMP};\n");
    spawn(
        nginx(port, &modules, &blocks, around)?,
        port,
        &around.scratch,
    )
}

fn nginx_files(port: u16, root: &Path, around: &Surroundings) -> anyhow::Result<Child> {
    let blocks = format!(
        "http {{\n\
             types {{ application/vnd.apple.mpegurl m3u8; video/iso.segment m4s; video/mp4 mp4; }}\n\
             access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;\n\
             keepalive_requests 1000000;\n\
             open_file_cache max=1000 inactive=10s;\n\
             server {{ listen 127.0.0.1:{port}; root {}; \
             location ~ m3u8$ {{ open_file_cache off; }} }}\n\
         }}",
        root.display()
    );
    spawn(nginx(port, "", &blocks, around)?, port, &around.scratch)
}

fn nginx(port: u16, modules: &str, blocks: &str, around: &Surroundings) -> anyhow::Result<Command> {
    let folder = around.scratch.join(format!("nginx-{port}"));
    fs::create_dir_all(folder.join("logs"))?;
    let file = folder.join("nginx.conf");
    let configuration = format!(
        "{modules}\
         user root;\n\
         worker_processes 1;\n\
         worker_rlimit_nofile {};\n\
         daemon off;\n\
         pid {folder}/nginx.pid;\n\
         error_log {folder}/error.log warn;\n\
         events {{ worker_connections {MAX_CONNECTIONS}; }}\n\
         {blocks}\n",
        MAX_CONNECTIONS + 100,
        folder = folder.display(),
    );
    fs::write(&file, configuration)?;
    let mut command = pinned(&around.server_core.to_string(), around.realtime);
    command.arg(NGINX).arg("-c").arg(file).arg("-p").arg(folder);
    Ok(command)
}
