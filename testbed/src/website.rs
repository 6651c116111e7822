//! A web server with the page to copy (`examples/player/player.html`) and the libraries that
//! it loads.

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use netbed::{Host, wait_for};

use crate::config::{VIP, WEBSITE};
use crate::server::{HTTP_PORT, HTTPS_PORT};

const PORT: u16 = 80;
const DIRECTORY: &str = "site";
const PAGE: &str = include_str!("../../examples/player/player.html");

/// The libraries, below where npm puts packages.
const LIBRARIES: [&str; 2] = ["mpegts.js/dist/mpegts.js", "hls.js/dist/hls.light.min.js"];

/// Where scripts/setup.sh has npm put packages, below the folder that cargo builds in.
const PACKAGES: &str = "tools/player/node_modules";

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
        let library = packages()?.join(library);
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

/// Where the libraries' packages are.
fn packages() -> Result<PathBuf> {
    let running = env::current_exe().context("cannot tell where the running program is")?;
    let mut folders = running.ancestors().map(|folder| folder.join(PACKAGES));
    folders
        .find(|folder| {
            LIBRARIES
                .iter()
                .all(|library| folder.join(library).is_file())
        })
        .with_context(|| {
            let name = Path::new(PACKAGES).display();
            format!(
                "no folder above {} has {name}; scripts/setup.sh makes it",
                running.display()
            )
        })
}
