//! nginx-rtmp as a peer.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use netbed::local::free_address;
use netbed::wait_for;
use tempfile::TempDir;

use super::program::{Program, require};

const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";

/// A running nginx with one application `live`.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    _program: Program,
    _directory: TempDir,
}

/// Starts nginx with these directives in its application.
#[track_caller]
pub(crate) fn nginx(directives: &str) -> Nginx {
    nginx_at(free_address(), directives)
}

/// The same at `address`.
#[track_caller]
pub(crate) fn nginx_at(address: SocketAddr, directives: &str) -> Nginx {
    require("nginx", &["-v"]);
    assert!(
        Path::new(MODULE).exists(),
        "there is no {MODULE}: scripts/setup.sh installs it"
    );
    let directory = tempfile::tempdir().unwrap();
    let configuration = format!(
        "load_module {MODULE};
         daemon off; master_process off; error_log stderr crit; pid nginx.pid;
         events {{ worker_connections 64; }}
         rtmp {{ access_log off; server {{ listen {address}; application live {{
             live on; {directives}
         }} }} }}"
    );
    let file = directory.path().join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    let program = Program::start(
        Command::new("nginx")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file),
    );
    wait_for("a listening nginx", || TcpStream::connect(address).is_ok());
    Nginx {
        address,
        _program: program,
        _directory: directory,
    }
}
