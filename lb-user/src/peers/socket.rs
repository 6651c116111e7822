//! The UDP sockets of directors that tell each other of clients (udp(7)).

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use netlink::interfaces::{self, Scope};
use nix::libc::{c_int, in6_pktinfo};
use nix::net::if_::{if_indextoname, if_nametoindex};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use super::Router;
use super::accept::Origin;

/// The UDP port, beside that of IPVS's synchronisation.
pub(super) const PORT: u16 = 8849;
/// Time to live, or hop limit, of each datagram: a lower one has crossed a router (RFC 5082).
const TIME_TO_LIVE: u8 = 255;
/// Time after which a receiver looks whether it is still wanted.
const WAKE_INTERVAL: Duration = Duration::from_millis(500);

/// A socket that sends to another director, or to a group of them.
#[derive(Debug)]
pub(super) struct Sender {
    socket: Socket,
    /// The source address of what it sends.
    pub(super) source: IpAddr,
}

impl Sender {
    /// Opens a socket that sends to `to`, which is a destination of `router`, from an address
    /// of this director's own.
    ///
    /// # Errors
    /// The interface is not there, or has not the source address, or none but virtual ones;
    /// there is no route.
    pub(super) fn open(router: &Router, to: IpAddr) -> io::Result<Self> {
        let of_family = |source: &IpAddr| source.is_ipv6() == to.is_ipv6();
        if let Some(source) = router.source.filter(of_family) {
            return Self::open_from(router, to, Some(source));
        }
        let opened = Self::open_from(router, to, None)?;
        if !router.virtual_addresses.contains(&opened.source) {
            return Ok(opened);
        }
        // Of several IPv6 addresses the kernel prefers that of the longest common prefix, and
        // the newest one (RFC 6724 §5): the virtual one, if its prefix is not /128.
        let own = own_address(router, Scope::of(opened.source))?.ok_or_else(|| {
            let message = format!(
                "{} has no other than virtual addresses to send from",
                router.interface
            );
            io::Error::new(io::ErrorKind::AddrNotAvailable, message)
        })?;
        Self::open_from(router, to, Some(own))
    }

    fn open_from(router: &Router, to: IpAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = Socket::new(domain(to.is_ipv6()), Type::DGRAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(router.interface.as_bytes()))?;
        if to.is_ipv6() {
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(TIME_TO_LIVE.into())?;
            socket.set_unicast_hops_v6(TIME_TO_LIVE.into())?;
        } else {
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(TIME_TO_LIVE.into())?;
            socket.set_ttl_v4(TIME_TO_LIVE.into())?;
        }
        if let Some(source) = source {
            socket.bind(&on_interface(source, 0, &router.interface)?.into())?;
        }
        socket.connect(&on_interface(to, PORT, &router.interface)?.into())?;
        let source = socket.local_addr()?.as_socket();
        let source = source.ok_or(io::ErrorKind::AddrNotAvailable)?.ip();
        Ok(Self { socket, source })
    }

    /// Sends a datagram; never waits.
    ///
    /// # Errors
    /// The interface is down, there is no route, or the queue is full.
    pub(super) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        match self.socket.send(datagram) {
            // A director that does not listen, such as keepalived.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            sent => sent.map(drop),
        }
    }
}

/// The first address of the router's interface in a scope that is not virtual, as adverts take
/// it.
fn own_address(router: &Router, scope: Scope) -> io::Result<Option<IpAddr>> {
    let interfaces = interfaces::read_blocking()?;
    let interface = interfaces.get(&router.interface);
    let is_virtual = |address| router.virtual_addresses.contains(&address);
    Ok(interface.and_then(|it| it.own_address(scope, is_virtual)))
}

fn ip_address(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::from(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::from(it.ip())))
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

/// A socket that receives what other directors send by one family.
#[derive(Debug)]
pub(super) struct Receiver {
    socket: Socket,
    is_ipv6: bool,
    /// The groups that it has joined, each with the index that the interface had then.
    joined: HashMap<(String, IpAddr), u32>,
}

impl Receiver {
    /// Opens a socket at `port`.
    ///
    /// # Errors
    /// The port is in use.
    pub(super) fn open(is_ipv6: bool, port: u16) -> io::Result<Self> {
        let socket = Socket::new(domain(is_ipv6), Type::DGRAM, None)?;
        socket.set_read_timeout(Some(WAKE_INTERVAL))?;
        // The socket of before a change may still be there for a moment.
        socket.set_reuse_address(true)?;
        let any: IpAddr = if is_ipv6 {
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            socket.set_multicast_all_v4(false)?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            Ipv4Addr::UNSPECIFIED.into()
        };
        socket.bind(&SocketAddr::new(any, port).into())?;
        Ok(Self {
            socket,
            is_ipv6,
            joined: HashMap::new(),
        })
    }

    /// Joins the groups of a virtual router that it is not in, because it is new or the
    /// interface is.
    ///
    /// # Errors
    /// An interface is not there, or does no multicast.
    pub(super) fn join(&mut self, router: &Router) -> io::Result<()> {
        let groups = router.destinations.iter().filter(|it| it.is_multicast());
        for group in groups.filter(|it| it.is_ipv6() == self.is_ipv6) {
            let index = if_nametoindex(router.interface.as_str())?;
            let key = (router.interface.clone(), *group);
            if self.joined.get(&key) == Some(&index) {
                continue;
            }
            match group {
                IpAddr::V4(group) => self
                    .socket
                    .join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))?,
                IpAddr::V6(group) => self.socket.join_multicast_v6(group, index)?,
            }
            self.joined.insert(key, index);
        }
        Ok(())
    }

    /// Waits a while for the next datagram, and returns its length; `None` if none has come,
    /// or one whose origin the kernel does not tell.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Origin)>> {
        let mut slices = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(in6_pktinfo, c_int);
        let received = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::empty(),
        );
        let message = match received {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (mut time_to_live, mut index) = (None, None);
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                    time_to_live = Some(hops);
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    index = u32::try_from(info.ipi_ifindex).ok();
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => index = Some(info.ipi6_ifindex),
                _ => {}
            }
        }
        let source = message.address.as_ref().and_then(ip_address);
        let interface = index.and_then(|index| if_indextoname(index).ok()?.into_string().ok());
        Ok(source.zip(interface).map(|(source, interface)| {
            let origin = Origin {
                source,
                interface,
                is_on_link: time_to_live == Some(c_int::from(TIME_TO_LIVE)),
            };
            (message.bytes, origin)
        }))
    }
}

fn domain(is_ipv6: bool) -> Domain {
    if is_ipv6 { Domain::IPV6 } else { Domain::IPV4 }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use netbed::alone::ip;
    use nix::sched::CloneFlags;

    use super::*;

    #[test]
    fn where_a_datagram_came_from_is_told_in_both_families() {
        for local in [
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ] {
            let receiver = Receiver::open(local.is_ipv6(), 0).expect("a socket");
            let bound = receiver.socket.local_addr().expect("an address");
            let port = bound.as_socket().expect("an IP address").port();
            let sender = UdpSocket::bind((local, 0)).expect("a socket");
            for hops in [255, 254] {
                let socket = socket2::SockRef::from(&sender);
                let set = if local.is_ipv6() {
                    socket.set_unicast_hops_v6(hops)
                } else {
                    socket.set_ttl_v4(hops)
                };
                set.expect("hops");
                sender.send_to(b"12345", (local, port)).expect("sent");
                let mut buffer = [0; 100];
                let received = loop {
                    if let Some(received) = receiver.receive(&mut buffer).expect("no error") {
                        break received;
                    }
                };
                let origin = Origin {
                    source: local,
                    interface: "lo".to_owned(),
                    is_on_link: hops == 255,
                };
                assert_eq!(received, (5, origin));
            }
        }
    }

    #[test]
    fn an_interface_that_is_not_there_keeps_no_other_from_being_listened_on() {
        let router = |interface: &str| Router {
            id: 51,
            interface: interface.to_owned(),
            source: None,
            virtual_addresses: Vec::new(),
            destinations: vec![Ipv4Addr::new(224, 0, 0, 18).into()],
            secrets: Vec::new(),
            services: Vec::new(),
            max_silence: Duration::ZERO,
        };
        let mut receiver = Receiver::open(false, 0).expect("a socket");
        receiver.join(&router("nowhere0")).expect_err("not there");
        // Two virtual routers share a group.
        for _ in 0..2 {
            receiver.join(&router("lo")).expect("joined");
        }
        assert_eq!(receiver.joined.len(), 1);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_virtual_address_is_no_source_whatever_its_prefix() {
        netbed::alone::on_a_host_of_its_own(CloneFlags::empty(), || {
            ip("link add eth2 type veth peer name far");
            // No address of the kernel's own (Documentation/networking/ip-sysctl.rst).
            let mode = "/proc/sys/net/ipv6/conf/eth2/addr_gen_mode";
            std::fs::write(mode, "1").expect("the mode is set");
            ip("link set eth2 up");
            ip("link set far up");
            let held = [
                ("fe80::11", "fe80::200", "ff02::12"),
                ("2001:db8::1:11", "2001:db8::2:200", "2001:db8::2:201"),
            ];
            for (own, shared, to) in held {
                ip(&format!("address add {own}/64 dev eth2 nodad"));
                ip(&format!("address add {shared}/64 dev eth2 nodad"));
                let [own, shared, to]: [IpAddr; 3] =
                    [own, shared, to].map(|text| text.parse().expect("an address"));
                let mut router = Router {
                    id: 51,
                    interface: "eth2".to_owned(),
                    source: None,
                    virtual_addresses: Vec::new(),
                    destinations: vec![to],
                    secrets: Vec::new(),
                    services: Vec::new(),
                    max_silence: Duration::ZERO,
                };
                let source = |router: &Router| Sender::open(router, to).expect("a socket").source;
                assert_eq!(source(&router), shared, "what the kernel prefers");
                router.virtual_addresses = vec![shared];
                assert_eq!(source(&router), own);
                router.virtual_addresses.push(own);
                let error = Sender::open(&router, to).expect_err("no address is left");
                assert!(error.to_string().contains("other than virtual"), "{error}");
                router.source = Some(shared);
                assert_eq!(source(&router), shared, "as configured");
            }
        });
    }
}
