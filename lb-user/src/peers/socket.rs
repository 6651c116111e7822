//! The UDP sockets of directors that tell each other of clients (udp(7)).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::c_int;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use super::Router;

/// The UDP port, beside that of IPVS's synchronisation.
pub(super) const PORT: u16 = 8849;
/// Time to live, or hop limit, of each datagram: a lower one has crossed a router (RFC 5082).
const TIME_TO_LIVE: u8 = 255;
/// Time after which a receiver looks whether it is still wanted.
const WAKE_INTERVAL: Duration = Duration::from_millis(500);

/// A datagram that was received.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) source: IpAddr,
    /// True if it has crossed no router.
    pub(super) is_on_link: bool,
}

/// Opens a socket that sends to the other directors of a virtual router.
///
/// # Errors
/// The interface is not there, or has not the source address.
pub(super) fn open_sender(router: &Router, is_ipv6: bool) -> io::Result<Socket> {
    let socket = Socket::new(domain(is_ipv6), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(router.interface.as_bytes()))?;
    if is_ipv6 {
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_hops_v6(TIME_TO_LIVE.into())?;
        socket.set_unicast_hops_v6(TIME_TO_LIVE.into())?;
    } else {
        socket.set_multicast_loop_v4(false)?;
        socket.set_multicast_ttl_v4(TIME_TO_LIVE.into())?;
        socket.set_ttl_v4(TIME_TO_LIVE.into())?;
    }
    if let Some(source) = router.source.filter(|source| source.is_ipv6() == is_ipv6) {
        socket.bind(&on_interface(source, 0, &router.interface)?.into())?;
    }
    Ok(socket)
}

/// Sends a datagram to another director, or to a group of them; never waits.
///
/// # Errors
/// The interface is down, there is no route, or the queue is full.
pub(super) fn send(
    socket: &Socket,
    router: &Router,
    to: IpAddr,
    datagram: &[u8],
) -> io::Result<()> {
    let to = on_interface(to, PORT, &router.interface)?;
    socket.send_to(datagram, &to.into()).map(drop)
}

/// An address with the interface that it is meant on, where it needs one.
fn on_interface(address: IpAddr, port: u16, interface: &str) -> io::Result<SocketAddr> {
    Ok(match address {
        IpAddr::V6(v6) if v6.is_multicast() || v6.is_unicast_link_local() => {
            let scope = if_nametoindex(interface)?;
            SocketAddrV6::new(v6, port, 0, scope).into()
        }
        address => SocketAddr::new(address, port),
    })
}

/// Opens the socket that receives what is sent to `routers` by one family.
///
/// # Errors
/// The port is in use, or an interface is not there.
pub(super) fn open_receiver(routers: &[Router], is_ipv6: bool) -> io::Result<Socket> {
    let socket = Socket::new(domain(is_ipv6), Type::DGRAM, None)?;
    socket.set_read_timeout(Some(WAKE_INTERVAL))?;
    // The socket of before a change may still be there for a moment.
    socket.set_reuse_address(true)?;
    let any: IpAddr = if is_ipv6 {
        socket.set_only_v6(true)?;
        socket.set_multicast_all_v6(false)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        socket.set_multicast_all_v4(false)?;
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
        Ipv4Addr::UNSPECIFIED.into()
    };
    socket.bind(&SocketAddr::new(any, PORT).into())?;
    for router in routers {
        let index = if_nametoindex(router.interface.as_str())?;
        for group in router.destinations.iter().filter(|it| it.is_multicast()) {
            let joined = match group {
                IpAddr::V4(group) if !is_ipv6 => {
                    socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))
                }
                IpAddr::V6(group) if is_ipv6 => socket.join_multicast_v6(group, index),
                _ => Ok(()),
            };
            match joined {
                // Two virtual routers share a group.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                joined => joined?,
            }
        }
    }
    Ok(socket)
}

fn domain(is_ipv6: bool) -> Domain {
    if is_ipv6 { Domain::IPV6 } else { Domain::IPV4 }
}

/// Waits a while for the next datagram; `None` if none has come, or one whose origin the
/// kernel does not tell.
///
/// # Errors
/// The kernel's.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<Option<Received>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(c_int);
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    );
    let message = match received {
        Ok(message) => message,
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let time_to_live = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
        _ => None,
    });
    let source = message.address.as_ref().and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
    });
    Ok(source.map(|source| Received {
        length: message.bytes,
        source,
        is_on_link: time_to_live == Some(c_int::from(TIME_TO_LIVE)),
    }))
}
