//! On the way to the real server: two MAC addresses, and out.

use aya_ebpf::helpers::bpf_redirect;
use lb_abi::{Reason, SERVER_TUNNEL, Server};

use crate::frame::Frame;
use crate::headers::{
    ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_DO_NOT_FRAGMENT, IPV6_VERSION, Ipv4, Ipv6,
};
use crate::maps::INTERFACES;
use crate::parse::Packet;
use crate::parse::fast::Network;
use crate::{reply, tunnel};

/// Whether the frame, which would go on to `server`, is addressed to this host. A
/// switch that floods shows us frames for others: forwarding those would double
/// them.
///
/// Most leave by the interface that they came from, so that the server's entry
/// holds the address already. Where it is the address of a VLAN interface, or of
/// the bridge that the interface belongs to, the frame is ours as well.
#[inline(always)]
pub fn is_addressed_to_us(frame: &Frame, ethernet: &Ethernet, server: &Server) -> bool {
    ethernet.macs.destination == server.macs.source
        || match of_interface(frame) {
            OURS => true,
            UNKNOWN => leaves_elsewhere(frame, server),
            _ => false,
        }
}

/// Whether the frame, which goes on to no server, is addressed to this host.
#[inline(always)]
pub fn is_addressed_to_interface(frame: &Frame) -> bool {
    of_interface(frame) != ANOTHERS
}

// What a function that is called, not inlined, can return is one number.
const ANOTHERS: u32 = 0;
const OURS: u32 = 1;
/// The agent could not tell the interface's address.
const UNKNOWN: u32 = 2;

/// Whether the frame is addressed to the interface that it came from.
#[inline(never)]
fn of_interface(frame: &Frame) -> u32 {
    // SAFETY: the agent replaces a value as a whole, and does so where an
    // interface is given another address.
    let Some(interface) = (unsafe { INTERFACES.get(&frame.interface_index()) }) else {
        return UNKNOWN;
    };
    match frame.header::<Ethernet>(0) {
        Some(ethernet) if ethernet.macs.destination == interface.mac => OURS,
        _ => ANOTHERS,
    }
}

/// Whether a frame to `server` leaves by another interface than it came from.
#[inline(always)]
pub fn leaves_elsewhere(frame: &Frame, server: &Server) -> bool {
    server.interface_index != frame.interface_index()
}

/// Whether the packets for `server` travel inside others.
#[inline(always)]
pub fn is_by_tunnel(server: &Server) -> bool {
    server.flags & SERVER_TUNNEL != 0
}

/// Addresses a frame to `server`.
#[inline(always)]
pub fn address(ethernet: &mut Ethernet, server: &Server) {
    ethernet
        .macs
        .destination
        .copy_from(&server.macs.destination);
    ethernet.macs.source.copy_from(&server.macs.source);
}

/// Sends a frame of ours without tags to a server whose frames have none: `None`,
/// and nothing has been changed, where it might not fit.
#[inline(always)]
pub fn fast<N: Network>(
    frame: &Frame,
    ethernet: &mut Ethernet,
    network: &mut N,
    packet: &Packet,
    server: &Server,
) -> Option<Reason> {
    let leaves_elsewhere = leaves_elsewhere(frame, server);
    let reason = if is_by_tunnel(server) {
        if packet.bytes > tunnel::largest(server) {
            return None;
        }
        network.lower_hops();
        let inner = tunnel::Inner::of(network, packet);
        if !tunnel::fast(frame, server, inner, packet.flow_hash()) {
            return Some(Reason::NoRoom);
        }
        if leaves_elsewhere {
            Reason::TunnelRedirected
        } else {
            Reason::Tunnelled
        }
    } else {
        if leaves_elsewhere && !packet.is_small() {
            return None;
        }
        network.lower_hops();
        address(ethernet, server);
        if leaves_elsewhere {
            Reason::Redirected
        } else {
            Reason::Forwarded
        }
    };
    if leaves_elsewhere {
        redirect(server);
    }
    Some(reason)
}

/// Counts this host among those that the packet of a frame may yet pass.
#[inline(always)]
fn lower_hops(frame: &Frame, packet: &Packet) -> Option<()> {
    if packet.is_ipv6 {
        frame.header_mut::<Ipv6>(packet.network())?.lower_hops();
    } else {
        frame.header_mut::<Ipv4>(packet.network())?.lower_hops();
    }
    Some(())
}

/// What becomes of a packet that does not fit: no more than `mtu` bytes would.
///
/// Its sender is told whatever "don't fragment" says: a frame cannot become two
/// here.
#[inline(always)]
fn too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Reason {
    if packet.may_send_icmp_error() {
        reply::too_big(frame, packet, mtu)
    } else {
        Reason::TooBigSilently
    }
}

#[inline(always)]
fn redirect(server: &Server) {
    // SAFETY: takes numbers only. Without flags it cannot fail here.
    unsafe { bpf_redirect(server.interface_index, 0) };
}

/// Sends the frame to `server`.
#[inline(never)]
pub fn to(frame: &Frame, packet: &Packet, server: &Server) -> Reason {
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return Reason::Truncated;
    };
    if !is_addressed_to_us(frame, ethernet, server) {
        return Reason::OtherHost;
    }
    let leaves_elsewhere = leaves_elsewhere(frame, server);
    let is_by_tunnel = is_by_tunnel(server);
    if is_by_tunnel {
        let largest = tunnel::largest(server);
        if packet.bytes > largest {
            return too_big(frame, packet, largest);
        }
    } else if leaves_elsewhere && !packet.is_small() {
        // A redirection would drop it in silence.
        let mtu = frame.exceeded_mtu(server.interface_index, packet.bytes);
        if mtu != 0 {
            return too_big(frame, packet, mtu);
        }
    }
    if lower_hops(frame, packet).is_none() {
        return Reason::Truncated;
    }
    let sent = if is_by_tunnel {
        into_tunnel(frame, packet, server)
    } else {
        let ethertype = if packet.is_ipv6 {
            ETHERTYPE_IPV6
        } else {
            ETHERTYPE_IPV4
        };
        link(frame, packet, server, 0, ethertype)
    };
    if sent.is_none() {
        return Reason::NoRoom;
    }
    if leaves_elsewhere {
        redirect(server);
    }
    match (is_by_tunnel, leaves_elsewhere) {
        (false, false) => Reason::Forwarded,
        (false, true) => Reason::Redirected,
        (true, false) => Reason::Tunnelled,
        (true, true) => Reason::TunnelRedirected,
    }
}

/// Puts the packet into another one, in a frame with the server's tags.
#[inline(never)]
fn into_tunnel(frame: &Frame, packet: &Packet, server: &Server) -> Option<()> {
    let inner = tunnel::Inner::read(frame, packet)?;
    let ethertype = tunnel::ethertype(server);
    link(
        frame,
        packet,
        server,
        tunnel::outer_bytes(server),
        ethertype,
    )?;
    let offset = size_of::<Ethernet>() + tag_count(server) * size_of::<Tag>();
    tunnel::write(frame, offset, server, inner, packet.flow_hash())
}

/// Rewrites what stands before the IP header, leaving `gap` bytes between the
/// two: MAC addresses, the server's VLAN tags, the type of what follows. The
/// priority of a tag that is already right stays.
#[inline(never)]
fn link(frame: &Frame, packet: &Packet, server: &Server, gap: usize, ethertype: u16) -> Option<()> {
    const TAGS_OFFSET: usize = 12;
    let tag_count = tag_count(server);
    let wanted = size_of::<Ethernet>() + tag_count * size_of::<Tag>() + gap;
    if wanted != packet.network() {
        frame.move_start(packet.network() as i32 - wanted as i32)?;
    }
    let ethernet = frame.header_mut::<Ethernet>(0)?;
    address(ethernet, server);
    if tag_count == 0 {
        ethernet.ethertype = ethertype;
        return Some(());
    }
    let keeps_tags = wanted == packet.network();
    for (index, wanted) in server.tags.iter().enumerate() {
        if index >= tag_count {
            break;
        }
        let tag = frame.header_mut::<Tag>(TAGS_OFFSET + index * size_of::<Tag>())?;
        let is_right =
            tag.ethertype == wanted.ethertype && (tag.control ^ wanted.control) & VLAN_NUMBER == 0;
        if !(keeps_tags && is_right) {
            tag.ethertype = wanted.ethertype;
            tag.control = wanted.control;
        }
    }
    let last = frame.header_mut::<Type>(TAGS_OFFSET + tag_count * size_of::<Tag>())?;
    last.ethertype = ethertype;
    Some(())
}

/// The mask tells the verifier what the agent promises: 2 at most.
#[inline(always)]
fn tag_count(server: &Server) -> usize {
    server.tag_count as usize & 3
}

const VLAN_NUMBER: u16 = 0x0FFF_u16.to_be();

/// [`lb_abi::Tag`] as it lies in a frame.
#[repr(C, packed(2))]
struct Tag {
    ethertype: u16,
    control: u16,
}

#[repr(C, packed(2))]
struct Type {
    ethertype: u16,
}

const TIME_TO_LIVE: u8 = 64;

impl Ipv4 {
    /// Fills a header without options but for its checksum ([`Self::seal`]).
    #[inline(always)]
    pub fn fill(&mut self, total_length: u16, protocol: u8, source: u32, destination: u32) {
        self.version_and_length = 0x45;
        self.service = 0;
        self.total_length = total_length.to_be();
        // RFC 6864 §4.1: a packet that is never fragmented needs none.
        self.identification = 0;
        self.flags_and_offset = IPV4_DO_NOT_FRAGMENT;
        self.time_to_live = TIME_TO_LIVE;
        self.protocol = protocol;
        self.source = source;
        self.destination = destination;
    }

    /// Makes the checksum right.
    #[inline(always)]
    pub fn seal(&mut self) {
        let bytes = [
            [self.version_and_length, self.service],
            [self.time_to_live, self.protocol],
        ];
        self.checksum = reply::fold(
            u64::from(u16::from_ne_bytes(bytes[0]))
                + u64::from(self.total_length)
                + u64::from(self.identification)
                + u64::from(self.flags_and_offset)
                + u64::from(u16::from_ne_bytes(bytes[1]))
                + u64::from(self.source)
                + u64::from(self.destination),
        );
    }
}

impl Ipv6 {
    /// Fills a header without extensions.
    #[inline(always)]
    pub fn fill(
        &mut self,
        payload_length: u16,
        next_header: u8,
        source: &[u32; 4],
        destination: &[u32; 4],
    ) {
        self.version_and_class = IPV6_VERSION;
        self.payload_length = payload_length.to_be();
        self.next_header = next_header;
        self.hop_limit = TIME_TO_LIVE;
        self.source = *source;
        self.destination = *destination;
    }
}
