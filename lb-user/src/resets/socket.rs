//! Raw sockets whose packets carry their own IP header (raw(7), `IP_HDRINCL`),
//! so that their source may be the virtual address on whatever director, held
//! or not. The kernel routes them. Needs CAP_NET_RAW.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

/// A socket per family, opened when first needed.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    ipv4: Option<Socket>,
    ipv6: Option<Socket>,
}

impl Sockets {
    /// Sends a packet, IP header included, on its way to `to`.
    ///
    /// # Errors
    /// There is no route, or the kernel refuses the socket.
    pub(super) fn send(&mut self, to: IpAddr, packet: &[u8]) -> io::Result<()> {
        let (socket, domain) = match to {
            IpAddr::V4(_) => (&mut self.ipv4, Domain::IPV4),
            IpAddr::V6(_) => (&mut self.ipv6, Domain::IPV6),
        };
        let socket = match socket {
            Some(socket) => socket,
            // This protocol number stands for `IP_HDRINCL` in both families.
            None => socket.insert(Socket::new(
                domain,
                Type::RAW,
                Some(Protocol::from(libc::IPPROTO_RAW)),
            )?),
        };
        // A port means nothing here; for IPv6 it has to be 0.
        socket.send_to(packet, &SocketAddr::new(to, 0).into())?;
        Ok(())
    }
}
