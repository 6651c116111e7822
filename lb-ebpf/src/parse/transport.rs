//! TCP (RFC 9293 §3.1) and UDP (RFC 768) headers.

use lb_common::{Reason, TCP, UDP};

use super::Network;
use crate::frame::Frame;

pub struct Transport {
    pub source_port: u16,
    pub destination_port: u16,
    pub flags: u8,
    pub acknowledged: u32,
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct TcpHeader {
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    acknowledged: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct UdpHeader {
    source_port: u16,
    destination_port: u16,
    length: u16,
    checksum: u16,
}

#[inline(always)]
pub fn header(frame: &Frame, network: &Network) -> Result<Transport, Reason> {
    match network.protocol {
        TCP => tcp(frame, network),
        UDP => udp(frame, network),
        _ => Err(Reason::OtherProtocol),
    }
}

#[inline(always)]
fn tcp(frame: &Frame, network: &Network) -> Result<Transport, Reason> {
    let header: &TcpHeader = frame.header(network.transport).ok_or(Reason::Truncated)?;
    let length = u32::from(header.data_offset >> 4) * 4;
    if (length as usize) < size_of::<TcpHeader>() || length > network.transport_bytes {
        return Err(Reason::Malformed);
    }
    Ok(Transport {
        source_port: header.source_port,
        destination_port: header.destination_port,
        flags: header.flags,
        acknowledged: u32::from_be(header.acknowledged),
    })
}

#[inline(always)]
fn udp(frame: &Frame, network: &Network) -> Result<Transport, Reason> {
    let header: &UdpHeader = frame.header(network.transport).ok_or(Reason::Truncated)?;
    let length = u32::from(u16::from_be(header.length));
    if (length as usize) < size_of::<UdpHeader>() || length > network.transport_bytes {
        return Err(Reason::Malformed);
    }
    Ok(Transport {
        source_port: header.source_port,
        destination_port: header.destination_port,
        flags: 0,
        acknowledged: 0,
    })
}
