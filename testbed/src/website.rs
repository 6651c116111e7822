//! A web server with the page to copy (`examples/player/player.html`) and the libraries that
//! it loads.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::{Host, wait_for};

use crate::binaries::source_root;
use crate::config::{VIP, WEBSITE};
use crate::server::{HTTP_PORT, HTTPS_PORT};

const PORT: u16 = 80;
const DIRECTORY: &str = "site";
const PAGE: &str = include_str!("../../examples/player/player.html");

/// The libraries that it loads, below the root of the source tree.
const LIBRARIES: [&str; 2] = [
    "crates/page/vendor/mpegts.js",
    "crates/page/vendor/hls.light.min.js",
];

/// Serves the page on a host.
pub(crate) fn start(host: &Host) -> Result<()> {
    let directory = host.directory().join(DIRECTORY);
    fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    // The line that whoever copies it changes.
    let server = "const SERVER = \"\"";
    ensure!(PAGE.contains(server), "the page has no line `{server}`");
    for (name, scheme, port) in [
        ("player", "http", HTTP_PORT),
        ("player-tls", "https", HTTPS_PORT),
    ] {
        let page = PAGE.replace(
            server,
            &format!("const SERVER = \"{scheme}://{VIP}:{port}\""),
        );
        host.write_file(&format!("{DIRECTORY}/{name}.html"), page)?;
    }
    for library in LIBRARIES {
        let library = source_root().join(library);
        let name = library.file_name().context("a library is a file")?;
        symlink(&library, directory.join(name))
            .with_context(|| format!("cannot link to {}", library.display()))?;
    }
    let mut command = Command::new("python3");
    command
        .args(["-m", "http.server", "--directory", DIRECTORY])
        .arg(PORT.to_string());
    let server = host
        .spawn("website", command)
        .context("Debian's package python3 has it")?;
    wait_for("the website to listen", || {
        ensure!(server.is_running(), "it has ended");
        host.listens(PORT)
    })
    .with_context(|| server.log_tail())
}

/// A page, for a stream `live/NAME` by a protocol.
pub(crate) fn page_url(page: &str, name: &str, by: &str) -> String {
    format!("http://{WEBSITE}/{page}.html?stream=live/{name}&by={by}")
}
