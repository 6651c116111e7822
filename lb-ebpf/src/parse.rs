//! From a frame to what the balancer needs to know about it.
//!
//! Behind this file nothing depends on the address family.

pub mod fast;
mod icmp;
mod ipv4;
mod ipv6;
mod link;
mod transport;

use lb_abi::{Address, ICMP, ICMPV6, Reason, TCP, UDP};

use crate::frame::Frame;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tcp, Udp};
use crate::maps::SCRATCH;

/// What a packet is to the balancer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole packet of a connection.
    Whole,
    /// A fragment that has the transport header.
    FirstFragment,
    /// A fragment that has not: without ports.
    LaterFragment,
    /// An ICMP error about a packet from the service to the client.
    IcmpError,
}

/// A packet from a client, or about one, towards what may be a virtual service.
pub struct Packet {
    pub kind: Kind,
    /// The client's address.
    pub client: Address,
    /// The service's address.
    pub virtual_address: Address,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// How many more hosts may forward the packet: its time to live, or hop limit.
    pub hops: u8,
    /// The client's port, in network byte order.
    pub client_port: u16,
    /// The service's port, in network byte order.
    pub service_port: u16,
    /// Bytes from the IP header on, padding of the frame excluded.
    pub bytes: u32,
    /// The TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    /// The TCP acknowledgement number; 0 for UDP.
    pub acknowledged: u32,
    /// What fragments of one packet share; 0 in a whole packet.
    pub identification: u32,
    /// VLAN tags before the IP header.
    pub tag_count: u32,
    pub is_ipv6: bool,
    network: usize,
    transport: usize,
    /// Bytes of the transport header and its payload.
    transport_bytes: u32,
}

impl Packet {
    /// Whether an ICMP error may be sent about the packet: not about another one,
    /// and of a fragmented packet about the first fragment only (RFC 1122
    /// §3.2.2, RFC 4443 §2.4).
    #[inline(always)]
    pub fn may_send_icmp_error(&self) -> bool {
        !matches!(self.kind, Kind::IcmpError | Kind::LaterFragment)
    }

    /// Whether the packet is no longer than what every host takes (RFC 791 §3.1), so
    /// that it fits any interface at work.
    #[inline(always)]
    pub fn is_small(&self) -> bool {
        const SMALL_BYTES: u32 = 576;
        self.bytes <= SMALL_BYTES
    }

    /// Whether the packet must not be forwarded any more (RFC 1812 §5.3.1, RFC 8200
    /// §3).
    #[inline(always)]
    pub fn has_no_hops_left(&self) -> bool {
        self.hops <= 1
    }

    /// The same for all packets of a flow, and for few of other flows.
    #[inline(always)]
    pub fn flow_hash(&self) -> u32 {
        let Address([a, b, c, d]) = self.client;
        let ports = u32::from(self.client_port) * 0x0001_0001;
        let low = b ^ d ^ ports;
        let mixed = u64::from(a ^ c) << 32 | u64::from(low);
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }

    /// Offset of the IP header from the frame's start: 14, 18 or 22.
    ///
    /// The mask tells the verifier so where it has lost sight of it.
    #[inline(always)]
    pub fn network(&self) -> usize {
        self.network & 0x1F
    }

    /// Offset of the transport header: behind six extension headers of 2 kB
    /// at most.
    #[inline(always)]
    fn transport(&self) -> usize {
        self.transport & 0x3FFF
    }
}

/// Parses `frame`, or says why it is none of our business.
#[inline(always)]
pub fn packet(frame: &Frame) -> Result<&'static Packet, Reason> {
    let packet = scratch(SCRATCH_PACKET)?;
    read(frame, packet)?;
    Ok(packet)
}

/// The packet that [`packet`] gave last on this CPU.
#[inline(always)]
pub fn last() -> Option<&'static Packet> {
    let packet = SCRATCH.get_ptr(SCRATCH_PACKET)?;
    // SAFETY: this CPU runs one program at a time, and nobody changes it after
    // the verdict.
    Some(unsafe { &*packet })
}

#[inline(never)]
fn read(frame: &Frame, packet: &mut Packet) -> Result<(), Reason> {
    let link = link::header(frame)?;
    packet.tag_count = link.tag_count;
    match link.ethertype {
        ETHERTYPE_IPV4 => ipv4::header(frame, link.payload, packet)?,
        ETHERTYPE_IPV6 => ipv6::header(frame, link.payload, packet)?,
        _ => return Err(Reason::NotIp),
    }
    match packet.protocol {
        TCP | UDP if packet.kind == Kind::LaterFragment => {}
        // What the transport protocol is, the first one says.
        protocol
            if packet.is_ipv6
                && packet.kind == Kind::LaterFragment
                && ipv6::is_extension(protocol) => {}
        TCP => transport::header::<Tcp>(frame, packet)?,
        UDP => transport::header::<Udp>(frame, packet)?,
        ICMP if !packet.is_ipv6 && packet.kind == Kind::Whole => {
            icmp::error(frame, packet)?;
        }
        ICMPV6 if packet.is_ipv6 && packet.kind == Kind::Whole => {
            icmp::error(frame, packet)?;
        }
        _ => return Err(Reason::OtherProtocol),
    }
    Ok(())
}

const SCRATCH_PACKET: u32 = 0;
const SCRATCH_QUOTED: u32 = 1;

/// A packet to be filled, in a map of this CPU.
///
/// What lies on the stack the verifier remembers to the bit, and would follow
/// every combination of address family, tags and fragments through the whole
/// program. What lies in a map it takes for anything.
#[inline(always)]
fn scratch(place: u32) -> Result<&'static mut Packet, Reason> {
    let packet = SCRATCH.get_ptr_mut(place).ok_or(Reason::NoRoom)?;
    // SAFETY: this CPU runs one program at a time, and each place is taken
    // once in it.
    let packet = unsafe { &mut *packet };
    // What not every packet has; the parsers set the rest. One by one, since
    // for the whole of it the compiler calls a function that clears bytes.
    packet.kind = Kind::Whole;
    packet.client_port = 0;
    packet.service_port = 0;
    packet.tcp_flags = 0;
    packet.acknowledged = 0;
    packet.identification = 0;
    packet.is_ipv6 = false;
    Ok(packet)
}
