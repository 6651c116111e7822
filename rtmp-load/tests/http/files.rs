//! HLS as ffmpeg writes it, from a folder that a server for tests serves.

use std::{fs, path::Path};

use netbed::local::{ChildGuard, ffmpeg};
use tempfile::TempDir;

use crate::{
    origin::Origin,
    scripted::{Request, Scripted},
};

/// An ffmpeg that plays an origin's stream by RTMP and writes playlist and
/// segments.
pub(crate) struct Packager {
    /// Where the stream is published.
    pub(crate) rtmp: String,
    server: Scripted,
    _ffmpeg: ChildGuard,
    _folder: TempDir,
    _origin: Origin,
}

impl Packager {
    /// Starts one with these further options for `-f hls`.
    pub(crate) fn start(options: &str) -> Self {
        let origin = Origin::start("min_latency on;");
        let rtmp = origin.publish_url("s");
        let folder = TempDir::new().unwrap();
        let playlist = folder.path().join("s.m3u8");
        let mut command = ffmpeg();
        // It takes the codecs from the sequence headers.
        command.args("-probesize 500000 -analyzeduration 300000 -i".split(' '));
        command.arg(&rtmp);
        command.args("-map 0:v -map 0:a -c copy -f hls -hls_time 1 -hls_list_size 8".split(' '));
        command.args(options.split(' ')).arg(&playlist);
        let guard = ChildGuard::spawn(&mut command);
        let root = folder.path().to_owned();
        let server = Scripted::answers(move |request| file(&root, request));
        Self {
            rtmp,
            server,
            _ffmpeg: guard,
            _folder: folder,
            _origin: origin,
        }
    }

    /// The playlist's URL.
    pub(crate) fn url(&self) -> String {
        self.server.url("s.m3u8")
    }
}

/// A file of the folder, or the range of it that is asked for.
fn file(root: &Path, request: &Request) -> Vec<u8> {
    let Ok(bytes) = fs::read(root.join(request.target.trim_start_matches('/'))) else {
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    };
    let Some((first, last)) = request.range else {
        return ok(&bytes);
    };
    let body = &bytes[first..=last];
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes \
         {first}-{last}/{}\r\n\r\n",
        body.len(),
        bytes.len()
    );
    [head.as_bytes(), body].concat()
}

/// An answer with this body.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}
