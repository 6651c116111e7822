//! From a frame to what the balancer needs to know about it.
//!
//! Behind this file nothing depends on the address family.

mod ethernet;
mod ipv4;
mod ipv6;
mod transport;

use lb_common::{Address, Reason};

use crate::frame::Frame;
use ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, is_tag};

/// A packet from a client towards what may be a virtual service.
pub struct Packet {
    /// Source address.
    pub client: Address,
    /// Destination address.
    pub virtual_address: Address,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Source port, in network byte order.
    pub client_port: u16,
    /// Destination port, in network byte order.
    pub service_port: u16,
    /// Bytes from the IP header on, padding of the frame excluded.
    pub bytes: u32,
    /// The TCP flags; 0 for UDP.
    pub tcp_flags: u8,
    /// The TCP acknowledgement number; 0 for UDP.
    pub acknowledged: u32,
}

/// What an IP header says of itself and of what follows it.
struct Network {
    source: Address,
    destination: Address,
    protocol: u8,
    /// Offset of the transport header from the frame's start.
    transport: usize,
    /// Bytes of the transport header and its payload.
    transport_bytes: u32,
    /// Bytes from the IP header on.
    bytes: u32,
}

/// Parses `frame`, or says why it is none of our business.
#[inline(always)]
pub fn packet(frame: &Frame) -> Result<Packet, Reason> {
    let ethernet: &Ethernet = frame.header(0).ok_or(Reason::Truncated)?;
    let network = match { ethernet.ethertype } {
        ETHERTYPE_IPV4 => ipv4::header(frame, size_of::<Ethernet>())?,
        ETHERTYPE_IPV6 => ipv6::header(frame, size_of::<Ethernet>())?,
        tag if is_tag(tag) => return Err(Reason::Tagged),
        _ => return Err(Reason::NotIp),
    };
    let transport = transport::header(frame, &network)?;
    Ok(Packet {
        client: network.source,
        virtual_address: network.destination,
        protocol: network.protocol,
        client_port: transport.source_port,
        service_port: transport.destination_port,
        bytes: network.bytes,
        tcp_flags: transport.flags,
        acknowledged: transport.acknowledged,
    })
}
