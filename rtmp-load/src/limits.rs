//! The machine's limits: open files and ephemeral ports.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are open beside the connections.
const SPARE_FILES: u64 = 64;
/// Linux's own choice, where `/proc` does not say.
const DEFAULT_PORTS: u32 = 60_999 - 32_768 + 1;

/// A limit that does not allow the run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// Not enough open files.
    #[error(
        "{needed} open files are needed and {hard} allowed; raise the hard limit \
         (ulimit -Hn {needed}, or LimitNOFILE= of the service)"
    )]
    OpenFiles {
        /// The number that the run needs.
        needed: u64,
        /// The hard limit.
        hard: u64,
    },
    /// Not enough ports.
    #[error(
        "{connections} connections from one client address to one server port are asked for, and \
         there are {ports} ephemeral ports (net.ipv4.ip_local_port_range); spread them over \
         several client addresses with --bind A.B.C.D-E"
    )]
    Ports {
        /// Connections from one address.
        connections: u32,
        /// Ports that there are.
        ports: u32,
    },
}

/// Raises the soft limit of open files as far as `connections` need it.
///
/// # Errors
/// If the hard limit is too low.
pub(crate) fn allow_connections(connections: u64) -> Result<(), LimitError> {
    let needed = connections + SPARE_FILES;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if soft >= needed {
        return Ok(());
    }
    if hard < needed || setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_err() {
        return Err(LimitError::OpenFiles { needed, hard });
    }
    Ok(())
}

/// Checks that so many connections from one address to one port can exist.
///
/// # Errors
/// If there are fewer ephemeral ports.
pub(crate) fn check_ports(connections: u32) -> Result<(), LimitError> {
    let ports = ephemeral_ports();
    match connections > ports {
        true => Err(LimitError::Ports { connections, ports }),
        false => Ok(()),
    }
}

/// Number of ports that the kernel may choose from for outgoing connections.
pub(crate) fn ephemeral_ports() -> u32 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range
        .ok()
        .and_then(|text| parse_range(&text))
        .unwrap_or(DEFAULT_PORTS)
}

fn parse_range(text: &str) -> Option<u32> {
    let mut numbers = text.split_whitespace().map(str::parse::<u32>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (last >= first).then(|| last - first + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_range_includes_both_ends() {
        assert_eq!(parse_range("32768\t60999\n"), Some(28_232));
        assert_eq!(parse_range("nonsense"), None);
    }

    #[test]
    fn more_connections_than_ports_are_refused_with_advice() {
        let error = check_ports(70_000).unwrap_err().to_string();
        assert!(error.contains("--bind"), "{error}");
    }

    #[test]
    fn more_connections_than_files_are_refused_with_advice() {
        let error = allow_connections(1 << 62).unwrap_err().to_string();
        assert!(error.contains("ulimit"), "{error}");
    }
}
