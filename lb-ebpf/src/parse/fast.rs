//! The parser of the fast path: frames without tags, IP options, extension headers or
//! fragments.
//!
//! Every field has a fixed offset in such a frame, so that one comparison with the
//! frame's length is enough. Any other frame is left to the parser of the slow path.

use lb_abi::Reason;

use crate::frame::Frame;
use crate::headers::{Ethernet, Ipv4, Ipv6, NetworkHeader, Tcp, Udp, is_tag};
use crate::packet::Packet;

/// A header of IPv4 or IPv6 that can be read into a packet.
pub(crate) trait ParseNetwork: NetworkHeader {
    /// True if the transport header of a whole packet follows immediately, provided
    /// that [`Self::read`] finds no fault.
    fn suits_fast_path(&self) -> bool;

    /// Sets the fields of `packet` that the header, which lies at `offset`, has.
    fn read(&self, offset: usize, packet: &mut Packet) -> Result<(), Reason>;
}

/// A header of TCP or UDP that can be read into a packet.
pub(crate) trait ParseTransport {
    /// IP protocol number.
    const PROTOCOL: u8;

    /// Sets the fields of `packet`, of which the IP header has been read, that the
    /// header has.
    fn read(&self, packet: &mut Packet) -> Result<(), Reason>;
}

/// Handles the packets of the fast path.
pub(crate) trait PacketHandler {
    /// The verdict on `packet`, which lies in a frame that begins with `ethernet` and
    /// has the IP header `network`; `None` if the slow path must handle it, and nothing
    /// has been changed.
    fn handle<N: ParseNetwork>(
        frame: &Frame,
        ethernet: &mut Ethernet,
        network: &mut N,
        packet: &Packet,
    ) -> Option<Reason>;
}

/// The start of a frame of the fast path; without padding, since every header has an
/// even length.
#[repr(C)]
struct Headers<N, T> {
    ethernet: Ethernet,
    network: N,
    transport: T,
}

/// Reads once more the SYN of a frame that [`packet`] has handed on with a header `N`.
///
/// Inlined, so that the packet's fields are registers or constants.
#[inline(always)]
pub(crate) fn syn<N: ParseNetwork>(frame: &Frame) -> Option<Packet> {
    let headers: &Headers<N, Tcp> = frame.header(0)?;
    let mut packet = Packet::BLANK;
    headers
        .network
        .read(size_of::<Ethernet>(), &mut packet)
        .ok()?;
    packet.protocol = Tcp::PROTOCOL;
    headers.transport.read(&mut packet).ok()?;
    Some(packet)
}

/// The verdict of `H` on the packet in a frame; `None` if the slow path must handle it.
///
/// Everything is inlined once for each pair of headers, so that the packet's fields are
/// registers or constants.
#[inline(always)]
pub(crate) fn packet<H: PacketHandler>(frame: &Frame) -> Option<Reason> {
    match frame.bytes().header::<Ethernet>(0)?.ethertype {
        Ipv4::ETHERTYPE => of_network::<Ipv4, H>(frame),
        Ipv6::ETHERTYPE => of_network::<Ipv6, H>(frame),
        tag if is_tag(tag) => None,
        _ => Some(Reason::NotIp),
    }
}

#[inline(always)]
fn of_network<N: ParseNetwork, H: PacketHandler>(frame: &Frame) -> Option<Reason> {
    let network: &N = frame.bytes().header(size_of::<Ethernet>())?;
    match network.protocol() {
        Tcp::PROTOCOL => of_transport::<N, Tcp, H>(frame),
        Udp::PROTOCOL => of_transport::<N, Udp, H>(frame),
        _ => None,
    }
}

#[inline(always)]
fn of_transport<N: ParseNetwork, T: ParseTransport, H: PacketHandler>(
    frame: &Frame,
) -> Option<Reason> {
    let bytes = frame.bytes();
    let headers: &mut Headers<N, T> = bytes.header_mut(0)?;
    let (ethernet, network, transport) = (
        &mut headers.ethernet,
        &mut headers.network,
        &headers.transport,
    );
    if !network.suits_fast_path() {
        return None;
    }
    let mut packet = Packet::BLANK;
    network.read(size_of::<Ethernet>(), &mut packet).ok()?;
    // A constant, so that the compiler removes later comparisons of the protocol.
    packet.protocol = T::PROTOCOL;
    transport.read(&mut packet).ok()?;
    if !bytes.reach(size_of::<Ethernet>() + packet.bytes as usize) {
        return None;
    }
    H::handle(frame, ethernet, network, &packet)
}
