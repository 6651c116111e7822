//! Encapsulation: packets inside packets that are addressed to the server itself
//! (RFC 2003, RFC 2473).

use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_abi::{Address, Server};

use crate::frame::Frame;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, NetworkHeader};
use crate::packet::Packet;

/// RFC 2003.
const PROTOCOL_IPV4: u8 = 4;
/// RFC 2473.
const PROTOCOL_IPV6: u8 = 41;

/// The properties of a packet that its outer header depends on.
///
/// In one number, since a BPF function that is not inlined has five registers for its
/// arguments.
#[derive(Clone, Copy)]
pub(crate) struct Inner(u64);

const CLASS_SHIFT: u32 = 32;
const IS_IPV6: u64 = 1 << 40;
const MAY_BE_FRAGMENTED: u64 = 1 << 41;

impl Inner {
    /// Properties of `packet`, which begins with `network`.
    #[inline(always)]
    pub(crate) fn new<N: NetworkHeader>(network: &N, packet: &Packet) -> Self {
        let mut inner = u64::from(packet.bytes) | u64::from(network.class()) << CLASS_SHIFT;
        if packet.is_ipv6 {
            inner |= IS_IPV6;
        }
        if network.may_be_fragmented() {
            inner |= MAY_BE_FRAGMENTED;
        }
        Self(inner)
    }

    /// As [`Self::new`], with the IP header that the frame holds.
    #[inline(always)]
    pub(crate) fn read(frame: &Frame, packet: &Packet) -> Option<Self> {
        let offset = packet.network_offset();
        Some(if packet.is_ipv6 {
            Self::new::<Ipv6>(frame.header(offset)?, packet)
        } else {
            Self::new::<Ipv4>(frame.header(offset)?, packet)
        })
    }

    #[inline(always)]
    fn bytes(self) -> u16 {
        self.0 as u16
    }

    /// DSCP and ECN, which the outer header copies (RFC 2983, RFC 6040 §4.1).
    #[inline(always)]
    fn class(self) -> u8 {
        (self.0 >> CLASS_SHIFT) as u8
    }

    #[inline(always)]
    fn protocol(self) -> u8 {
        if self.0 & IS_IPV6 != 0 {
            PROTOCOL_IPV6
        } else {
            PROTOCOL_IPV4
        }
    }

    /// True if routers on the way to the server may fragment the outer packet: RFC 2003
    /// §3.1, and for IPv6 in IPv4 RFC 4213 §3.2.1, since no router tells this host that
    /// the path has a smaller MTU.
    #[inline(always)]
    fn may_be_fragmented(self) -> bool {
        self.0 & MAY_BE_FRAGMENTED != 0
    }
}

/// Bytes of the outer header of packets to `server`.
#[inline(always)]
pub(crate) fn outer_bytes(server: &Server) -> usize {
    if server.tunnel_destination.is_ipv4() {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    }
}

/// Bytes of the largest packet that fits into the tunnel to `server`.
#[inline(always)]
pub(crate) fn max_packet_bytes(server: &Server) -> u32 {
    server.mtu.saturating_sub(outer_bytes(server) as u32)
}

/// Ethernet type of the outer header of packets to `server`.
#[inline(always)]
pub(crate) fn ethertype(server: &Server) -> u16 {
    if server.tunnel_destination.is_ipv4() {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    }
}

/// The start of a frame without tags that holds an encapsulated packet.
#[repr(C)]
struct Outer<N> {
    ethernet: Ethernet,
    network: N,
}

/// Encapsulates a packet that fits, in a frame without tags, for a server whose frames
/// have none. Headers taken before are invalid afterwards. False if the kernel refuses.
#[inline(never)]
pub(crate) fn encapsulate_fast(
    frame: &Frame,
    server: &Server,
    inner: Inner,
    flow_hash: u32,
) -> bool {
    let done = if server.tunnel_destination.is_ipv4() {
        begin::<Ipv4>(frame, server).map(|header| header.wrap(server, inner, flow_hash))
    } else {
        begin::<Ipv6>(frame, server).map(|header| header.wrap(server, inner, flow_hash))
    };
    done.is_some()
}

/// Makes room for an outer header, and writes the Ethernet header before it.
#[inline(always)]
fn begin<'a, N: NetworkHeader>(frame: &'a Frame, server: &Server) -> Option<&'a mut N> {
    frame.move_start(-(size_of::<N>() as i32))?;
    let outer: &mut Outer<N> = frame.header_mut(0)?;
    outer.ethernet.set_macs(&server.macs);
    outer.ethernet.ethertype = N::ETHERTYPE;
    Some(&mut outer.network)
}

/// Writes the outer header at `offset`.
#[inline(always)]
pub(crate) fn write(
    frame: &Frame,
    offset: usize,
    server: &Server,
    inner: Inner,
    flow_hash: u32,
) -> Option<()> {
    if server.tunnel_destination.is_ipv4() {
        let header: &mut Ipv4 = frame.header_mut(offset)?;
        header.wrap(server, inner, flow_hash);
    } else {
        let header: &mut Ipv6 = frame.header_mut(offset)?;
        header.wrap(server, inner, flow_hash);
    }
    Some(())
}

/// Last word of the source address of a flow's outer packets. It differs from flow to
/// flow, so that the server's network card spreads the flows over its queues.
#[inline(always)]
fn last_source_word(server: &Server, flow_hash: u32) -> u32 {
    server.tunnel_source.0[3] | flow_hash & server.tunnel_source_varied
}

/// Identification of a packet that may be fragmented (RFC 6864 §4.3); not the inner
/// one's, which a packet of another client may have as well.
#[inline(always)]
fn identification() -> u16 {
    // SAFETY: takes nothing, may be called anywhere.
    let random = unsafe { bpf_get_prandom_u32() };
    (random % u32::from(u16::MAX) + 1) as u16
}

impl Ipv4 {
    /// Fills the outer header of the packet that `inner` describes.
    #[inline(always)]
    fn wrap(&mut self, server: &Server, inner: Inner, flow_hash: u32) {
        self.fill(
            inner.bytes() + size_of::<Self>() as u16,
            inner.protocol(),
            last_source_word(server, flow_hash),
            server.tunnel_destination.ipv4_word(),
        );
        self.service = inner.class();
        if inner.may_be_fragmented() {
            self.allow_fragments(identification());
        }
        self.seal();
    }
}

impl Ipv6 {
    /// Fills the outer header of the packet that `inner` describes. The flow label lets
    /// routers and receivers tell flows apart (RFC 6438).
    #[inline(always)]
    fn wrap(&mut self, server: &Server, inner: Inner, flow_hash: u32) {
        const LABEL_SHIFT: u32 = 12;
        let Address([a, b, c, _]) = server.tunnel_source;
        self.fill(
            inner.bytes(),
            inner.protocol(),
            &[a, b, c, last_source_word(server, flow_hash)],
            &server.tunnel_destination.0,
        );
        self.set_class_and_label(inner.class(), flow_hash >> LABEL_SHIFT);
    }
}
