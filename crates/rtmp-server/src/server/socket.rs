//! Options of listening sockets and of connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, EOPNOTSUPP};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::transport::Transport;

/// Maximum number of connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
/// `TCP_USER_TIMEOUT`: a peer that acknowledges nothing for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// `TCP_KEEPIDLE`: silence after which a peer is probed.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// `TCP_KEEPINTVL`: interval of the probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// `TCP_RTO_MAX_MS` (linux/tcp.h, Linux 6.15), which libc does not name yet.
const TCP_RTO_MAX_MS: libc::c_int = 44;
/// Its value for connections: the least that Linux takes, in ms. Packets that a path loses for
/// some seconds, as when another director takes over, are sent again this often at least,
/// where Linux itself would double the pauses.
const RTO_MAX_MS: libc::c_int = 1_000;
/// `TCP_USER_TIMEOUT` of a player with [`RTO_MAX_MS`]. Without it, Linux counts
/// `tcp_retries2` retransmissions, which are soon made then: 15 in as many seconds.
const MIN_PLAYING_TIMEOUT: Duration = Duration::from_secs(60);
/// `TCP_KEEPCNT`: unanswered probes after which the connection ends.
const KEEPALIVE_RETRIES: u32 = 3;

/// Opens a listening socket at `address`. The unspecified IPv6 address accepts IPv4
/// too; without IPv6 on the machine, the unspecified IPv4 address takes its place.
///
/// # Errors
/// The address cannot be bound.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bind(address)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Tries whether [`listen`] could open a socket at `address`. Nobody can connect meanwhile.
///
/// # Errors
/// The address cannot be bound.
pub(crate) fn try_address(address: SocketAddr) -> io::Result<()> {
    bind(address).map(drop)
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let any = address.ip().is_unspecified() && address.is_ipv6();
    match bind_at(address) {
        Err(error) if any && error.kind() != io::ErrorKind::AddrInUse => {
            let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            bind_at(SocketAddr::new(any, address.port()))
        }
        result => result,
    }
}

fn bind_at(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Sets the options of a new connection: `TCP_NODELAY` for the exchange of commands,
/// and the time-outs that end a dead peer's connection.
///
/// # Errors
/// The connection has ended already.
pub(super) fn prepare(socket: &tokio::net::TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    limit_retransmission_timeout(&*socket);
    Ok(())
}

/// Bounds the time after which what was not acknowledged is sent again. True if it is bounded
/// whatever is under way; an older Linux does it for connections of a few packets alone
/// (tcp(7), `TCP_THIN_LINEAR_TIMEOUTS`).
pub(super) fn limit_retransmission_timeout(socket: &impl AsRawFd) -> bool {
    let set = |option, value| set_tcp_option(socket, option, value).is_ok();
    set(TCP_RTO_MAX_MS, RTO_MAX_MS) || {
        set(libc::TCP_THIN_LINEAR_TIMEOUTS, 1);
        false
    }
}

/// Sets an option of TCP that is a number.
fn set_tcp_option(
    socket: &impl AsRawFd,
    option: libc::c_int,
    value: libc::c_int,
) -> nix::Result<()> {
    // SAFETY: the descriptor is an open socket, as long as `socket` is borrowed; the kernel
    // reads the bytes of the number, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).map(drop)
}

/// Sets the options of a connection that plays: `send_timeout` of the fan-out worker
/// takes the place of `TCP_USER_TIMEOUT`, which is no less.
///
/// That one also counts the time in which a peer's window is closed, though the peer
/// is there and reads, slowly. `max_pacing_rate`, in kbit/s, limits the rate; 0 does not.
///
/// # Errors
/// The connection has ended already.
pub(super) fn prepare_playing(
    socket: &std::net::TcpStream,
    max_pacing_rate: u32,
    send_timeout: Duration,
) -> io::Result<()> {
    set_max_pacing_rate(socket, max_pacing_rate)?;
    let is_limited = limit_retransmission_timeout(socket);
    let timeout = is_limited.then(|| send_timeout.max(MIN_PLAYING_TIMEOUT));
    match SockRef::from(socket).set_tcp_user_timeout(timeout) {
        // The other end is in this process: a request of HTTP/2.
        Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => Ok(()),
        set => set,
    }
}

/// Sets `SO_MAX_PACING_RATE` (socket(7), Linux 4.20 for 64 bits): TCP sends segments with
/// pauses between them, at `kbps` kbit/s at most; 0: as fast as it may.
fn set_max_pacing_rate(socket: &std::net::TcpStream, kbps: u32) -> io::Result<()> {
    let bytes_per_second = match kbps {
        0 => u64::MAX,
        kbps => u64::from(kbps) * 1_000 / 8,
    };
    // SAFETY: the descriptor is an open socket, as long as `socket` is borrowed; the kernel
    // reads the eight bytes of the number, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MAX_PACING_RATE,
            (&raw const bytes_per_second).cast(),
            size_of::<u64>() as libc::socklen_t,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Closes a connection gracefully: sends `out`, its last words, then reads what the peer
/// still sends. Closing with unread input would send an RST, which discards what the peer
/// has not read yet (RFC 1122 §4.2.2.13).
///
/// # Errors
/// The connection is lost.
pub(super) async fn close_gracefully(socket: &mut Transport, out: &[u8]) -> io::Result<()> {
    socket.write_all(out).await?;
    socket.shutdown().await?;
    socket.ignore_rest().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_players_connection_is_judged_by_its_worker_alone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        prepare(&socket).unwrap();
        assert_eq!(
            SockRef::from(&socket).tcp_user_timeout().unwrap(),
            Some(USER_TIMEOUT)
        );
        let socket = socket.into_std().unwrap();
        let send_timeout = Duration::from_secs(70);
        prepare_playing(&socket, 0, send_timeout).unwrap();
        let is_limited = limit_retransmission_timeout(&socket);
        let socket = SockRef::from(&socket);
        let timeout = is_limited.then_some(send_timeout);
        assert_eq!(socket.tcp_user_timeout().unwrap(), timeout);
        // A peer that is gone is noticed though nothing is sent to it.
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_TIME);
    }
}
