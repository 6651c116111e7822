//! The kernel's table of TCP connections, as `/proc/net/tcp` shows it (proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};

/// One socket of the table, named for what it mostly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// `TCP_ESTABLISHED` and `TCP_LISTEN` as the table writes them.
const ESTABLISHED: &str = "01";
const LISTEN: &str = "0A";

/// The established connections of the calling thread's network namespace.
pub(crate) fn established() -> Result<Vec<Connection>> {
    in_state(ESTABLISHED)
}

/// The ports on which somebody listens in the calling thread's namespace.
pub(crate) fn listening() -> Result<Vec<u16>> {
    Ok(in_state(LISTEN)?
        .into_iter()
        .map(|socket| socket.local.port())
        .collect())
}

fn in_state(state: &str) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for table in ["tcp", "tcp6"] {
        // Not /proc/net: that is the namespace of the process's first thread.
        let path = format!("/proc/thread-self/net/{table}");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // A kernel without IPv6 has no tcp6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        for line in text.lines().skip(1) {
            connections.extend(parse_line(line, state)?);
        }
    }
    Ok(connections)
}

/// One line of the table, if its socket is in this state.
fn parse_line(line: &str, state: &str) -> Result<Option<Connection>> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    ensure!(fields.len() > 3, "not a line of /proc/net/tcp: {line}");
    if fields[3] != state {
        return Ok(None);
    }
    Ok(Some(Connection {
        local: parse_address(fields[1])?,
        remote: parse_address(fields[2])?,
    }))
}

/// `0100007F:078F`: the address as native 32-bit words, the port as a number.
fn parse_address(field: &str) -> Result<SocketAddr> {
    let (address, port) = field
        .split_once(':')
        .with_context(|| format!("not an address: {field}"))?;
    let port = u16::from_str_radix(port, 16).with_context(|| format!("not a port: {field}"))?;
    let words = (0..address.len() / 8)
        .map(|i| u32::from_str_radix(&address[i * 8..][..8], 16).map(u32::to_ne_bytes))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("not an address: {field}"))?;
    let ip = match words.as_flattened() {
        bytes if bytes.len() == 4 => IpAddr::V4(Ipv4Addr::from(
            <[u8; 4]>::try_from(bytes).expect("four bytes"),
        )),
        bytes => {
            let bytes =
                <[u8; 16]>::try_from(bytes).with_context(|| format!("not an address: {field}"))?;
            Ipv6Addr::from(bytes).to_canonical()
        }
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn an_established_ipv4_connection_is_read() {
        let line = "   1: E40110AC:078F 0B0110AC:C350 01 00000000:00000000 00:00000000 00000000";
        let connection = parse_line(line, ESTABLISHED).unwrap().expect("established");
        assert_eq!(connection.local, "172.16.1.228:1935".parse().unwrap());
        assert_eq!(connection.remote, "172.16.1.11:50000".parse().unwrap());
    }

    #[test]
    fn an_ipv4_peer_of_an_ipv6_socket_is_shown_as_ipv4() {
        let line = "0: 0000000000000000FFFF0000E40110AC:078F \
                    0000000000000000FFFF00000B0110AC:C350 01 0:0";
        let connection = parse_line(line, ESTABLISHED).unwrap().expect("established");
        assert_eq!(connection.remote, "172.16.1.11:50000".parse().unwrap());
    }

    #[test]
    fn a_listener_is_no_connection() {
        let line = "0: 00000000:078F 00000000:0000 0A 00000000:00000000 00:00000000";
        assert_eq!(parse_line(line, ESTABLISHED).unwrap(), None);
    }

    #[test]
    fn a_line_that_is_cut_short_is_an_error() {
        assert!(parse_line("0: 00000000:078F", LISTEN).is_err());
    }
}
