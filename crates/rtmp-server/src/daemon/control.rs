//! The socket by which `upgrade` reaches a running server: a Unix socket of the abstract
//! namespace (unix(7)), which needs no file and no configuration.
//!
//! Whoever connects, and is root or the server's own user, asks for an upgrade, and gets one
//! line: `ok: …` from the new program, or `error: …` from the old one.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;

use crate::config::Role;

/// Time for an upgrade: its rehearsal, requests that have begun, and the rest.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// Become the installed program in the running process, while viewers and publishers stay
/// connected
#[derive(Debug, Clone, Args)]
pub(super) struct UpgradeOptions {
    /// The process, where several run here
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// Who waits for the outcome of an upgrade.
#[derive(Debug)]
pub(super) struct Waiter(UnixStream);

impl From<OwnedFd> for Waiter {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor.into())
    }
}

impl AsRawFd for Waiter {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Waiter {
    /// Tells it the outcome.
    pub(super) fn answer(mut self, line: &str) {
        // Who has gone wants no answer.
        let _ = writeln!(self.0, "{}", line.replace('\n', " "));
    }
}

/// The socket of this process.
pub(super) struct Control(Option<tokio::net::UnixListener>);

fn address(role: Role, process: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{}{process}", prefix(role)))
}

fn prefix(role: Role) -> &'static str {
    match role {
        Role::Origin => "millrace-rtmp-origin.",
        Role::Edge => "millrace-rtmp-edge.",
    }
}

impl Control {
    /// Listens. Where that cannot be, SIGUSR2 is left.
    pub(super) fn listen(role: Role) -> Self {
        let listener = address(role, std::process::id())
            .and_then(|address| UnixListener::bind_addr(&address))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener)
            });
        let listener = listener.inspect_err(|error| {
            log::warn!("no socket for `upgrade`, which is left to SIGUSR2: {error}");
        });
        Self(listener.ok())
    }

    /// Waits for who asks for an upgrade.
    pub(super) async fn next(&self) -> Waiter {
        let Some(listener) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Most likely for want of descriptors.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let may_ask = stream.peer_cred().is_ok_and(|peer| {
                let own = nix::unistd::geteuid();
                peer.uid() == 0 || peer.uid() == own.as_raw()
            });
            let stream = stream.into_std();
            let stream = stream.and_then(|it| it.set_nonblocking(false).map(|()| it));
            match stream {
                Ok(stream) if may_ask => return Waiter(stream),
                Ok(stream) => {
                    Waiter(stream).answer("error: only root and the server's own user may ask");
                }
                Err(_) => {}
            }
        }
    }
}

/// Asks a running server for an upgrade, and waits for the outcome.
///
/// # Errors
/// There is none, or none of this number, or it goes on as it was.
pub(super) fn upgrade(role: Role, options: &UpgradeOptions) -> anyhow::Result<String> {
    let process = match options.pid {
        Some(process) => process,
        None => only_one(&running(role)?)?,
    };
    let mut stream = UnixStream::connect_addr(&address(role, process)?)
        .with_context(|| format!("process {process} cannot be asked for an upgrade"))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .context("the server does not say how it went")?;
    match answer.trim().split_once(": ") {
        Some(("ok", said)) => Ok(said.to_owned()),
        Some(("error", reason)) => bail!("{reason}"),
        _ => bail!("the server has ended without a word: see its log"),
    }
}

/// The processes that can be asked.
fn running(role: Role) -> io::Result<Vec<u32>> {
    let sockets = std::fs::read_to_string("/proc/net/unix")?;
    Ok(processes(&sockets, role))
}

/// The processes that `/proc/net/unix` names.
fn processes(sockets: &str, role: Role) -> Vec<u32> {
    let names = sockets.lines().filter_map(|line| line.rsplit_once('@'));
    let mut processes: Vec<u32> = names
        .filter_map(|(_, name)| name.strip_prefix(prefix(role))?.parse().ok())
        .collect();
    processes.sort_unstable();
    // A connection has the name of its listening socket.
    processes.dedup();
    processes
}

fn only_one(processes: &[u32]) -> anyhow::Result<u32> {
    match processes {
        [] => bail!("no such server runs here (in this network namespace)"),
        [process] => Ok(*process),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            bail!(
                "several run here: choose one by --pid ({})",
                several.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_found_by_their_sockets() {
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 10 @millrace-rtmp-edge.70\n\
            0000000000000000: 00000003 00000000 00000000 0001 03 11 @millrace-rtmp-edge.70\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 12 @millrace-rtmp-origin.7\n\
            0000000000000000: 00000002 00000000 00010000 0001 01 13 /run/millrace-rtmp-edge.9\n";
        assert_eq!(processes(sockets, Role::Edge), [70]);
        assert_eq!(processes(sockets, Role::Origin), [7]);
        assert_eq!(only_one(&[7]).unwrap(), 7);
        assert!(only_one(&[]).is_err());
        let several = only_one(&[7, 70]).unwrap_err().to_string();
        assert!(several.contains("--pid (7, 70)"), "{several}");
    }
}
