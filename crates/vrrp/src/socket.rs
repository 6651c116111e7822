//! The raw sockets of one virtual router (raw(7), protocol 112).
//!
//! One sends and receives nothing; one receives, filtered by the kernel to the
//! virtual router's own number. Both are bound to the interface.

use std::ffi::c_int;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::packet::{Datagram, IP_PROTOCOL, Refusal, TIME_TO_LIVE};

/// IP precedence "internetwork control" (RFC 791 §3.1), as keepalived sends.
const TYPE_OF_SERVICE: u8 = 0xc0;
/// tc-prio(8): keeps adverts ahead of the traffic, `TC_PRIO_CONTROL`.
const PRIORITY_CONTROL: u32 = 7;
/// More than the longest advert: 60 + 8 + 255 × 16 bytes.
const BUFFER_BYTES: usize = 4352;
const IPV4_HEADER_BYTES: usize = 20;
/// The identification field of an IPv4 header (RFC 791 §3.1).
const IDENTIFICATION: Range<usize> = 4..6;

/// Source and destination of adverts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Name of the interface.
    pub interface: String,
    /// Its index.
    pub interface_index: u32,
    /// Address that adverts are sent from.
    pub source: IpAddr,
    /// Addresses that adverts are sent to.
    pub destinations: Destinations,
    /// Number of the virtual router whose adverts are received.
    pub virtual_router_id: u8,
}

/// Destinations of adverts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destinations {
    /// A multicast group on the network segment.
    Multicast(IpAddr),
    /// To each of these.
    Unicast {
        /// The peers.
        peers: Vec<IpAddr>,
        /// Time to live of the adverts.
        time_to_live: u8,
    },
}

impl Destinations {
    /// All of them.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Self::Multicast(group) => std::slice::from_ref(group),
            Self::Unicast { peers, .. } => peers,
        }
    }

    fn time_to_live(&self) -> u8 {
        match self {
            Self::Multicast(_) => TIME_TO_LIVE,
            Self::Unicast { time_to_live, .. } => *time_to_live,
        }
    }
}

/// The two sockets.
#[derive(Debug)]
pub(crate) struct Channel {
    endpoint: Endpoint,
    /// IPv4's identification of the last advert sent; keepalived counts, too.
    identification: AtomicU16,
    sender: Socket,
    receiver: AsyncFd<Socket>,
}

/// A packet that a socket has received.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    /// IPv6: ancillary data of the packet (RFC 3542 §4), which comes without its header.
    /// `None` for IPv4, where raw(7) delivers the header.
    packet_info: Option<PacketInfo>,
}

#[derive(Debug, Clone, Copy)]
struct PacketInfo {
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
}

impl Received {
    /// The packet without its IP header.
    ///
    /// # Errors
    /// Its length is wrong.
    pub(crate) fn datagram(&self) -> Result<Datagram<'_>, Refusal> {
        match self.packet_info {
            None => Datagram::from_ipv4(&self.bytes),
            Some(info) => Ok(Datagram {
                source: info.source.into(),
                destination: info.destination.into(),
                time_to_live: info.hop_limit,
                payload: &self.bytes,
            }),
        }
    }
}

impl Channel {
    /// Opens the sockets; must be called within a tokio runtime.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `ENODEV` if the interface has gone;
    /// `EADDRNOTAVAIL` if the source address is not there (IPv6).
    pub(crate) fn open(endpoint: Endpoint) -> io::Result<Self> {
        let sender = open_sender(&endpoint)?;
        let receiver = open_receiver(&endpoint)?;
        // SAFETY: the socket owns its descriptor, which stays the same and open
        // until `AsyncFd` has let go of it and drops it.
        let receiver = unsafe { AsyncFd::register(receiver) }?;
        Ok(Self {
            endpoint,
            identification: AtomicU16::new(0),
            sender,
            receiver,
        })
    }

    /// The endpoint that it was opened for.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends an advert; never waits.
    ///
    /// # Errors
    /// The interface is down, there is no route to a unicast peer, or the queue
    /// is full.
    pub(crate) fn send(&self, advert: &[u8], destination: IpAddr) -> io::Result<()> {
        let to = match destination {
            IpAddr::V4(_) => SocketAddr::new(destination, 0),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, 0, 0, self.scope(v6)).into(),
        };
        match (self.endpoint.source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let time_to_live = self.endpoint.destinations.time_to_live();
                let mut packet = ipv4_header(source, destination, time_to_live, advert.len());
                let identification = self
                    .identification
                    .fetch_add(1, Ordering::Relaxed)
                    .wrapping_add(1);
                packet[IDENTIFICATION].copy_from_slice(&identification.to_be_bytes());
                packet.extend(advert);
                self.sender.send_to(&packet, &to.into())?;
            }
            _ => {
                self.sender.send_to(advert, &to.into())?;
            }
        }
        Ok(())
    }

    /// Waits for what comes next.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub(crate) async fn receive(&self) -> io::Result<Received> {
        let is_ipv6 = self.endpoint.source.is_ipv6();
        loop {
            let mut ready = self.receiver.readable().await?;
            let received = ready.try_io(|socket| match is_ipv6 {
                false => receive_ipv4(socket.get_ref()),
                true => receive_ipv6(socket.get_ref()),
            });
            match received {
                Ok(Ok(Some(received))) => return Ok(received),
                // Without ancillary data it cannot be checked.
                Ok(Ok(None)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    fn scope(&self, address: Ipv6Addr) -> u32 {
        if address.is_unicast_link_local() || address.is_multicast() {
            self.endpoint.interface_index
        } else {
            0
        }
    }
}

fn raw(endpoint: &Endpoint) -> io::Result<Socket> {
    let protocol = Some(Protocol::from(c_int::from(IP_PROTOCOL)));
    let domain = match endpoint.source {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::RAW, protocol)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn open_sender(endpoint: &Endpoint) -> io::Result<Socket> {
    let socket = raw(endpoint)?;
    socket.attach_filter(&[filter::REFUSE])?;
    socket.bind_device(Some(endpoint.interface.as_bytes()))?;
    socket.set_priority(PRIORITY_CONTROL)?;
    match endpoint.source {
        IpAddr::V4(_) => {
            // With a header of our own the source need not be an address of the
            // interface (`mcast_src_ip`).
            socket.set_header_included_v4(true)?;
            socket.set_multicast_loop_v4(false)?;
        }
        IpAddr::V6(source) => {
            let time_to_live = u32::from(endpoint.destinations.time_to_live());
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_if_v6(endpoint.interface_index)?;
            socket.set_multicast_hops_v6(time_to_live)?;
            socket.set_unicast_hops_v6(time_to_live)?;
            socket.set_tclass_v6(u32::from(TYPE_OF_SERVICE))?;
            let scope = if source.is_unicast_link_local() {
                endpoint.interface_index
            } else {
                0
            };
            socket.bind(&SocketAddr::from(SocketAddrV6::new(source, 0, 0, scope)).into())?;
        }
    }
    Ok(socket)
}

fn open_receiver(endpoint: &Endpoint) -> io::Result<Socket> {
    let socket = raw(endpoint)?;
    let id = u32::from(endpoint.virtual_router_id);
    match endpoint.source {
        IpAddr::V4(_) => {
            socket.attach_filter(&filter::ipv4(id))?;
            socket.set_multicast_all_v4(false)?;
        }
        IpAddr::V6(_) => {
            socket.attach_filter(&filter::ipv6(id))?;
            socket.set_multicast_all_v6(false)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        }
    }
    socket.bind_device(Some(endpoint.interface.as_bytes()))?;
    match &endpoint.destinations {
        Destinations::Multicast(IpAddr::V4(group)) => {
            let interface = InterfaceIndexOrAddress::Index(endpoint.interface_index);
            socket.join_multicast_v4_n(group, &interface)?;
        }
        Destinations::Multicast(IpAddr::V6(group)) => {
            socket.join_multicast_v6(group, endpoint.interface_index)?;
        }
        Destinations::Unicast { .. } => {}
    }
    Ok(socket)
}

/// RFC 791 §3.1, written by hand: ten constants, and the kernel fills in the checksum.
fn ipv4_header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    time_to_live: u8,
    payload_bytes: usize,
) -> Vec<u8> {
    let total_bytes = (IPV4_HEADER_BYTES + payload_bytes) as u16;
    let mut header = Vec::with_capacity(total_bytes.into());
    header.extend([0x45, TYPE_OF_SERVICE]);
    header.extend(total_bytes.to_be_bytes());
    header.extend([0, 0, 0, 0, time_to_live, IP_PROTOCOL, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    header
}

fn receive_ipv4(mut socket: &Socket) -> io::Result<Option<Received>> {
    let mut buffer = [0; BUFFER_BYTES];
    let length = io::Read::read(&mut socket, &mut buffer)?;
    Ok(Some(Received {
        bytes: buffer[..length].to_vec(),
        packet_info: None,
    }))
}

fn receive_ipv6(socket: &Socket) -> io::Result<Option<Received>> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut slices = [io::IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, c_int);
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let mut destination = None;
    let mut hop_limit = None;
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
            _ => {}
        }
    }
    let length = message.bytes;
    let source = message.address.map(|address| address.ip());
    let (Some(source), Some(destination), Some(hop_limit)) = (source, destination, hop_limit)
    else {
        return Ok(None);
    };
    Ok(Some(Received {
        bytes: buffer[..length].to_vec(),
        packet_info: Some(PacketInfo {
            source,
            destination,
            hop_limit,
        }),
    }))
}

/// Classic BPF (linux/filter.h): of all that arrives on an interface, a socket
/// is woken by its own virtual router's adverts alone.
mod filter {
    use socket2::SockFilter;

    /// Offset of the virtual router's number in an advert.
    const ID_OFFSET: u32 = 1;
    /// `BPF_LDX | BPF_B | BPF_MSH`: X = length of the IPv4 header at k.
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    /// `BPF_LD | BPF_B | BPF_IND`: A = byte at X + k.
    const LOAD_BYTE_BEHIND: u16 = 0x50;
    /// `BPF_LD | BPF_B | BPF_ABS`: A = byte at k.
    const LOAD_BYTE: u16 = 0x30;
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    const JUMP_IF_EQUAL: u16 = 0x15;
    /// `BPF_RET | BPF_K`: take so many bytes.
    const RETURN: u16 = 0x06;

    const ACCEPT: SockFilter = SockFilter::new(RETURN, 0, 0, u32::MAX);
    /// Refuses all packets.
    pub(super) const REFUSE: SockFilter = SockFilter::new(RETURN, 0, 0, 0);

    /// IPv4: the socket sees the IP header.
    pub(super) fn ipv4(id: u32) -> [SockFilter; 5] {
        [
            SockFilter::new(LOAD_HEADER_LENGTH, 0, 0, 0),
            SockFilter::new(LOAD_BYTE_BEHIND, 0, 0, ID_OFFSET),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, id),
            ACCEPT,
            REFUSE,
        ]
    }

    /// IPv6: the socket does not see the IP header.
    pub(super) fn ipv6(id: u32) -> [SockFilter; 4] {
        [
            SockFilter::new(LOAD_BYTE, 0, 0, ID_OFFSET),
            SockFilter::new(JUMP_IF_EQUAL, 0, 1, id),
            ACCEPT,
            REFUSE,
        ]
    }
}
