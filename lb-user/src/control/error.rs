//! Errors of the control socket, at both of its ends.

use std::io;
use std::path::PathBuf;

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent answers there.
    #[error(
        "another lb-user listens on {0} already; stop it, or choose another socket with --socket"
    )]
    InUse(PathBuf),
    /// There is a file that is no socket.
    #[error("{0} is there already and is no socket; choose another with --socket")]
    NotASocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot listen on {path}: {source}")]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers.
    #[error("no agent answers on {}: {source}; {}", path.display(), way_out(source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the agent on {path} broke off: {source}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent speaks another version of the protocol.
    #[error("the agent's answer is not understood (are both of one version?): {0}")]
    NotUnderstood(#[from] serde_json::Error),
}

/// The way out where nobody answers.
fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run this with sudo",
        io::ErrorKind::ConnectionRefused => {
            "it has ended abruptly, and what it pinned forwards on: `systemctl status \
             lb-user` or its log says why, `systemctl start lb-user` brings it back"
        }
        _ => "is `lb-user run` running, with this --socket?",
    }
}
