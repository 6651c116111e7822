//! Packets inside others that are addressed to the server itself (RFC 2003,
//! RFC 2473).

use aya_ebpf::helpers::bpf_get_prandom_u32;
use lb_abi::{Address, Server};

use crate::frame::Frame;
use crate::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_DO_NOT_FRAGMENT, IPV6_VERSION, Ipv4, Ipv6,
};
use crate::parse::Packet;
use crate::parse::fast::Network;
use crate::transmit;

/// RFC 2003.
const PROTOCOL_IPV4: u8 = 4;
/// RFC 2473.
const PROTOCOL_IPV6: u8 = 41;

/// What the outer header must know of the packet inside, in one number: a function
/// that is called has few registers for what it is given.
#[derive(Clone, Copy)]
pub struct Inner(u64);

const CLASS_SHIFT: u32 = 32;
const IS_IPV6: u64 = 1 << 40;
const MAY_BE_FRAGMENTED: u64 = 1 << 41;

impl Inner {
    /// The packet that begins with `network`.
    #[inline(always)]
    pub fn of<N: Network>(network: &N, packet: &Packet) -> Self {
        let mut inner = u64::from(packet.bytes) | u64::from(network.class()) << CLASS_SHIFT;
        if packet.is_ipv6 {
            inner |= IS_IPV6;
        }
        if network.may_be_fragmented() {
            inner |= MAY_BE_FRAGMENTED;
        }
        Self(inner)
    }

    /// The packet of a frame.
    #[inline(always)]
    pub fn read(frame: &Frame, packet: &Packet) -> Option<Self> {
        Some(if packet.is_ipv6 {
            Self::of::<Ipv6>(frame.header(packet.network())?, packet)
        } else {
            Self::of::<Ipv4>(frame.header(packet.network())?, packet)
        })
    }

    #[inline(always)]
    fn bytes(self) -> u16 {
        self.0 as u16
    }

    /// DSCP and ECN (RFC 2983, RFC 6040 §4.1).
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

    /// By routers between us and the server, in the outer packet: RFC 2003 §3.1,
    /// and for IPv6 in IPv4 RFC 4213 §3.2.1, since nobody tells us of an MTU that
    /// the path turns out to have.
    #[inline(always)]
    fn may_be_fragmented(self) -> bool {
        self.0 & MAY_BE_FRAGMENTED != 0
    }
}

/// Bytes that a tunnel to `server` puts before a packet.
#[inline(always)]
pub fn outer_bytes(server: &Server) -> usize {
    if server.tunnel_destination.is_ipv4() {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    }
}

/// The largest packet that fits into the tunnel to `server`.
#[inline(always)]
pub fn largest(server: &Server) -> u32 {
    server.mtu.saturating_sub(outer_bytes(server) as u32)
}

/// What announces the outer header.
#[inline(always)]
pub fn ethertype(server: &Server) -> u16 {
    if server.tunnel_destination.is_ipv4() {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    }
}

/// How a frame without tags begins whose packet is inside another one.
#[repr(C)]
struct Outer<N> {
    ethernet: Ethernet,
    network: N,
}

/// Puts the packet of a frame without tags, which fits, into another one, in a
/// frame without tags. Headers taken before are void.
#[inline(never)]
pub fn fast(frame: &Frame, server: &Server, inner: Inner, flow_hash: u32) -> bool {
    let done = if server.tunnel_destination.is_ipv4() {
        begin::<Ipv4>(frame, server).map(|header| header.wrap(server, inner, flow_hash))
    } else {
        begin::<Ipv6>(frame, server).map(|header| header.wrap(server, inner, flow_hash))
    };
    done.is_some()
}

/// Makes room for an outer header, and writes what stands before it.
#[inline(always)]
fn begin<'a, N: Network>(frame: &'a Frame, server: &Server) -> Option<&'a mut N> {
    frame.move_start(-(size_of::<N>() as i32))?;
    let outer: &mut Outer<N> = frame.header_mut(0)?;
    transmit::address(&mut outer.ethernet, server);
    outer.ethernet.ethertype = N::ETHERTYPE;
    Some(&mut outer.network)
}

/// Writes the outer header at `offset`.
#[inline(always)]
pub fn write(
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

/// The last word of the address that the packets of a flow come from.
#[inline(always)]
fn last_source_word(server: &Server, flow_hash: u32) -> u32 {
    server.tunnel_source.0[3] | flow_hash & server.tunnel_source_varied
}

/// A number for a packet that may be fragmented (RFC 6864 §4.3); not the inner
/// one's, which packets of other clients may bear as well.
#[inline(always)]
fn identification() -> u16 {
    // SAFETY: takes nothing, may be called anywhere.
    let random = unsafe { bpf_get_prandom_u32() };
    (random % u32::from(u16::MAX) + 1) as u16
}

impl Ipv4 {
    /// Makes this the header of the packet that `inner` travels in.
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
            self.flags_and_offset = 0;
            self.identification = identification();
        } else {
            self.flags_and_offset = IPV4_DO_NOT_FRAGMENT;
        }
        self.seal();
    }
}

impl Ipv6 {
    /// As of [`Ipv4`]. The flow label lets routers and receivers tell flows apart
    /// (RFC 6438).
    #[inline(always)]
    fn wrap(&mut self, server: &Server, inner: Inner, flow_hash: u32) {
        let Address([a, b, c, _]) = server.tunnel_source;
        self.fill(
            inner.bytes(),
            inner.protocol(),
            &[a, b, c, last_source_word(server, flow_hash)],
            &server.tunnel_destination.0,
        );
        const LABEL_SHIFT: u32 = 12;
        let class_and_label = u32::from(inner.class()) << 20 | flow_hash >> LABEL_SHIFT;
        self.version_and_class = IPV6_VERSION | class_and_label.to_be();
    }
}
