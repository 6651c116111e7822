//! What every connection's socket is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that the kernel completes while we are busy.
const BACKLOG: i32 = 4_096;
/// A peer that acknowledges nothing of what was sent for this long is gone.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A silent peer is asked after this long whether it is still there, …
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// … this often, …
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// … and this many times before it is given up.
const KEEPALIVE_RETRIES: u32 = 3;

/// A listening socket at `address`. The unspecified IPv6 address takes IPv4
/// too, and stands for that of IPv4 where there is no IPv6.
///
/// # Errors
/// The address cannot be had.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let any = address.ip().is_unspecified() && address.is_ipv6();
    let listener = match listen_at(address) {
        Err(error) if any && error.kind() != io::ErrorKind::AddrInUse => listen_at(
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()),
        )?,
        result => result?,
    };
    Ok(listener.into())
}

fn listen_at(address: SocketAddr) -> io::Result<Socket> {
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
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Prepares a new connection: no waiting for full packets while commands go to
/// and fro, and dead peers are noticed.
///
/// # Errors
/// The connection has ended already.
pub fn prepare(socket: &tokio::net::TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Prepares a connection for playing: from here on the fan-out worker judges
/// whether the peer takes what it is sent.
///
/// `TCP_USER_TIMEOUT` must not: it also counts the time in which a peer's
/// window is closed, though the peer is there and reads, slowly.
///
/// # Errors
/// The connection has ended already.
pub fn prepare_playing(socket: &std::net::TcpStream) -> io::Result<()> {
    SockRef::from(socket).set_tcp_user_timeout(None)
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
            Some(UNACKNOWLEDGED)
        );
        let socket = socket.into_std().unwrap();
        prepare_playing(&socket).unwrap();
        let socket = SockRef::from(&socket);
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        // A peer that is gone is noticed though nothing is sent to it.
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
