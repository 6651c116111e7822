//! Sends a packet to its real server: in direct routing, two MAC addresses change.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_abi::{Reason, Server, ServerFlags, VlanTag};

use crate::frame::Frame;
use crate::headers::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv4, Ipv6, NetworkHeader};
use crate::interface::{is_addressed_to_us, leaves_elsewhere};
use crate::packet::Packet;
use crate::{reply, tunnel};

/// Sends a packet of the fast path, whose frame is addressed to us and has no tags, to a
/// server whose frames have none either; `None`, and nothing has been changed, if the
/// packet might not fit.
#[inline(always)]
pub(crate) fn fast<N: NetworkHeader>(
    frame: &Frame,
    ethernet: &mut Ethernet,
    network: &mut N,
    packet: &Packet,
    server: &Server,
) -> Option<Reason> {
    let leaves_elsewhere = leaves_elsewhere(frame, server);
    let uses_tunnel = !is_direct(server);
    if uses_tunnel {
        if is_local(server) {
            return Some(Reason::Local);
        }
        if packet.bytes > tunnel::max_packet_bytes(server) {
            return None;
        }
        network.lower_hops();
        let inner = tunnel::Inner::new(network, packet);
        if !tunnel::encapsulate_fast(frame, server, inner, packet.flow_hash()) {
            return Some(Reason::NoRoom);
        }
    } else {
        if leaves_elsewhere && !packet.is_small() {
            return None;
        }
        network.lower_hops();
        ethernet.set_macs(&server.macs);
    }
    if leaves_elsewhere {
        redirect(server);
    }
    Some(forwarded(uses_tunnel, leaves_elsewhere))
}

/// Sends the packet to `server`.
#[inline(never)]
pub(crate) fn to(frame: &Frame, packet: &Packet, server: &Server) -> Reason {
    let Some(ethernet) = frame.header::<Ethernet>(0) else {
        return Reason::Truncated;
    };
    if !is_addressed_to_us(frame, ethernet, server) {
        return Reason::OtherHost;
    }
    if is_local(server) {
        return Reason::Local;
    }
    let leaves_elsewhere = leaves_elsewhere(frame, server);
    let uses_tunnel = uses_tunnel(server);
    if uses_tunnel {
        let max_bytes = tunnel::max_packet_bytes(server);
        if packet.bytes > max_bytes {
            return too_big(frame, packet, max_bytes);
        }
    } else if leaves_elsewhere && !packet.is_small() {
        // A redirection would drop the packet without a word to its sender.
        let mtu = frame.exceeded_mtu(server.interface_index, packet.bytes);
        if mtu != 0 {
            return too_big(frame, packet, mtu);
        }
    }
    if lower_hops(frame, packet).is_none() {
        return Reason::Truncated;
    }
    let sent = if uses_tunnel {
        into_tunnel(frame, packet, server)
    } else {
        let ethertype = if packet.is_ipv6 {
            ETHERTYPE_IPV6
        } else {
            ETHERTYPE_IPV4
        };
        rewrite_link(frame.context(), packet, server, 0, ethertype)
    };
    if !sent {
        return Reason::NoRoom;
    }
    if leaves_elsewhere {
        redirect(server);
    }
    forwarded(uses_tunnel, leaves_elsewhere)
}

/// The verdict on a packet that has been forwarded.
#[inline(always)]
fn forwarded(uses_tunnel: bool, leaves_elsewhere: bool) -> Reason {
    match (uses_tunnel, leaves_elsewhere) {
        (false, false) => Reason::Forwarded,
        (false, true) => Reason::Redirected,
        (true, false) => Reason::Tunnelled,
        (true, true) => Reason::TunnelRedirected,
    }
}

/// True if packets for `server` leave this host as they are: one test, so that direct routing
/// does not pay for the other methods.
#[inline(always)]
fn is_direct(server: &Server) -> bool {
    !server
        .flags
        .intersects(ServerFlags::TUNNEL.union(ServerFlags::LOCAL))
}

/// True if `server` is this host, whose own stack gets its packets untouched: as many hops,
/// and the MAC address that they came to.
#[inline(always)]
fn is_local(server: &Server) -> bool {
    server.flags.contains(ServerFlags::LOCAL)
}

/// True if packets for `server` are encapsulated.
#[inline(always)]
fn uses_tunnel(server: &Server) -> bool {
    server.flags.contains(ServerFlags::TUNNEL)
}

#[inline(always)]
fn redirect(server: &Server) {
    // SAFETY: takes numbers only. Without flags it cannot fail here.
    unsafe { bpf_redirect(server.interface_index, 0) };
}

/// Takes one hop off the packet, as a router does (RFC 1812 §5.3.1): it ends a loop of
/// directors that do not know each other.
#[inline(always)]
fn lower_hops(frame: &Frame, packet: &Packet) -> Option<()> {
    let offset = packet.network_offset();
    if packet.is_ipv6 {
        frame.header_mut::<Ipv6>(offset)?.lower_hops();
    } else {
        frame.header_mut::<Ipv4>(offset)?.lower_hops();
    }
    Some(())
}

/// Handles a packet that is larger than `mtu` bytes.
///
/// Its sender is told whether or not "don't fragment" is set, since XDP cannot make two
/// frames of one.
#[inline(always)]
fn too_big(frame: &Frame, packet: &Packet, mtu: u32) -> Reason {
    if packet.may_send_icmp_error() {
        reply::too_big(frame, packet, mtu)
    } else {
        Reason::TooBigSilently
    }
}

/// Encapsulates the packet, in a frame with the server's tags. False if the kernel refuses.
#[inline(never)]
fn into_tunnel(frame: &Frame, packet: &Packet, server: &Server) -> bool {
    encapsulate(frame, packet, server).is_some()
}

#[inline(always)]
fn encapsulate(frame: &Frame, packet: &Packet, server: &Server) -> Option<()> {
    let inner = tunnel::Inner::read(frame, packet)?;
    let (gap, ethertype) = (tunnel::outer_bytes(server), tunnel::ethertype(server));
    if !rewrite_link(frame.context(), packet, server, gap as u32, ethertype) {
        return None;
    }
    let offset = size_of::<Ethernet>() + tag_count(server) * size_of::<VlanTag>();
    tunnel::write(frame, offset, server, inner, packet.flow_hash())
}

/// Rewrites what stands before the IP header, with `gap` bytes between the two: MAC
/// addresses, the server's VLAN tags, and `ethertype`. A tag that has the right VLAN
/// number already keeps its priority. False if the kernel refuses.
///
/// Global, as [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn rewrite_link(
    context: *mut xdp_md,
    packet: *const Packet,
    server: *const Server,
    gap: u32,
    ethertype: u16,
) -> bool {
    // SAFETY: the callers pass what they refer to.
    let (Some(packet), Some(server)) = (unsafe { (packet.as_ref(), server.as_ref()) }) else {
        return false;
    };
    let frame = XdpContext::new(context);
    write_link(&Frame::new(&frame), packet, server, gap as usize, ethertype).is_some()
}

#[inline(always)]
fn write_link(
    frame: &Frame,
    packet: &Packet,
    server: &Server,
    gap: usize,
    ethertype: u16,
) -> Option<()> {
    const TAGS_OFFSET: usize = 12;
    let tag_count = tag_count(server);
    let wanted = size_of::<Ethernet>() + tag_count * size_of::<VlanTag>() + gap;
    if wanted != packet.network_offset() {
        frame.move_start(packet.network_offset() as i32 - wanted as i32)?;
    }
    let ethernet = frame.header_mut::<Ethernet>(0)?;
    ethernet.set_macs(&server.macs);
    if tag_count == 0 {
        ethernet.ethertype = ethertype;
        return Some(());
    }
    let keeps_tags = wanted == packet.network_offset();
    for (index, wanted) in server.tags.iter().enumerate() {
        if index >= tag_count {
            break;
        }
        let tag = frame.header_mut::<VlanTag>(TAGS_OFFSET + index * size_of::<VlanTag>())?;
        let is_right =
            tag.ethertype == wanted.ethertype && (tag.control ^ wanted.control) & VLAN_NUMBER == 0;
        if !(keeps_tags && is_right) {
            tag.ethertype = wanted.ethertype;
            tag.control = wanted.control;
        }
    }
    *frame.header_mut::<u16>(TAGS_OFFSET + tag_count * size_of::<VlanTag>())? = ethertype;
    Some(())
}

/// Number of tags that frames to `server` have: 2 at most, which the mask tells the
/// verifier.
#[inline(always)]
fn tag_count(server: &Server) -> usize {
    server.tag_count as usize & 3
}

/// The bits of [`VlanTag::control`] that are not the priority.
const VLAN_NUMBER: u16 = 0x0FFF_u16.to_be();
