//! The frame that most packets come in: without tags, IP options, extension
//! headers or fragments.
//!
//! Every field lies at a known place in it, so that comparing the frame's
//! length once is enough. What is otherwise is not refused here, but left to
//! the parser of everything.

use lb_abi::{Address, Reason};

use super::link::is_tag;
use super::{Kind, Packet};
use crate::frame::Frame;
use crate::headers::{Ethernet, Ipv4, Ipv6, Tcp, Udp};

/// IPv4 or IPv6.
pub trait Network {
    /// What announces it.
    const ETHERTYPE: u16;

    /// Whether the transport header of a whole packet follows immediately, if
    /// the rest of the header is right.
    fn suits_fast_path(&self) -> bool;

    /// IP protocol number of what follows.
    fn protocol(&self) -> u8;

    /// DSCP and ECN.
    fn class(&self) -> u8;

    /// Whether routers may fragment the packet inside a tunnel.
    fn may_be_fragmented(&self) -> bool;

    /// Takes off one of the hops that the packet may yet make.
    fn lower_hops(&mut self);

    /// Tells `packet` what the header at `offset` says.
    fn read(&self, offset: usize, packet: &mut Packet) -> Result<(), Reason>;
}

/// TCP or UDP.
pub trait Transport {
    /// Its IP protocol number.
    const PROTOCOL: u8;

    /// Tells `packet`, of which the IP header has been read, what the header
    /// says.
    fn read(&self, packet: &mut Packet) -> Result<(), Reason>;
}

/// Whoever knows what becomes of most packets.
pub trait PacketHandler {
    /// The verdict on the `packet` of a frame that begins with `ethernet`,
    /// and of which `network` is the IP header, or `None` if it is not among them.
    fn handle<N: Network>(
        frame: &Frame,
        ethernet: &mut Ethernet,
        network: &mut N,
        packet: &Packet,
    ) -> Option<Reason>;
}

/// How a plain frame begins; without gaps, since every header has an even
/// length.
#[repr(C)]
struct Headers<N, T> {
    ethernet: Ethernet,
    network: N,
    transport: T,
}

/// Has `H` handle the packet in a plain frame; what is not IP is nobody's. `None`
/// if the frame is not plain, or `H` says so.
///
/// All is built in once for each pair of headers, so that the packet exists in
/// registers only.
#[inline(always)]
pub fn packet<H: PacketHandler>(frame: &Frame) -> Option<Reason> {
    match frame.bytes().header::<Ethernet>(0)?.ethertype {
        Ipv4::ETHERTYPE => of_network::<Ipv4, H>(frame),
        Ipv6::ETHERTYPE => of_network::<Ipv6, H>(frame),
        tag if is_tag(tag) => None,
        _ => Some(Reason::NotIp),
    }
}

#[inline(always)]
fn of_network<N: Network, H: PacketHandler>(frame: &Frame) -> Option<Reason> {
    let network: &N = frame.bytes().header(size_of::<Ethernet>())?;
    match network.protocol() {
        Tcp::PROTOCOL => of_transport::<N, Tcp, H>(frame),
        Udp::PROTOCOL => of_transport::<N, Udp, H>(frame),
        _ => None,
    }
}

#[inline(always)]
fn of_transport<N: Network, T: Transport, H: PacketHandler>(frame: &Frame) -> Option<Reason> {
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
    // Known, so that nothing behind this line asks for it.
    packet.protocol = T::PROTOCOL;
    transport.read(&mut packet).ok()?;
    if !bytes.reach(size_of::<Ethernet>() + packet.bytes as usize) {
        return None;
    }
    H::handle(frame, ethernet, network, &packet)
}

impl Packet {
    /// A packet that nothing is known of yet.
    const BLANK: Self = Self {
        kind: Kind::Whole,
        client: Address([0; 4]),
        virtual_address: Address([0; 4]),
        protocol: 0,
        hops: 0,
        client_port: 0,
        service_port: 0,
        bytes: 0,
        tcp_flags: 0,
        acknowledged: 0,
        identification: 0,
        tag_count: 0,
        is_ipv6: false,
        network: 0,
        transport: 0,
        transport_bytes: 0,
    };
}
