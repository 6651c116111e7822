//! Listening in on one port of the switch.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use netbed::{Capture, Frame, Host};

/// A TCP packet that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// True if it went to the host at the port, rather than came from it.
    pub to_host: bool,
    /// Where it says it is from.
    pub source: SocketAddrV4,
    /// Where it says it is going.
    pub destination: SocketAddrV4,
}

/// A running capture at a port of the switch.
#[derive(Debug)]
pub struct Tap(Capture<Passage>);

impl Tap {
    /// Begins to note every IPv4/TCP packet between the switch and one host.
    ///
    /// # Errors
    /// When the kernel refuses a packet socket, or there is no such port.
    pub fn start(switch: &Host, port: &str) -> Result<Self> {
        Capture::start(switch, port, parse).map(Self)
    }

    /// Ends the capture and returns what went by.
    ///
    /// # Errors
    /// When the packet socket failed.
    pub fn stop(self) -> Result<Vec<Passage>> {
        self.0.stop()
    }
}

/// The ends of an IPv4/TCP packet; other packets have none.
fn parse(frame: Frame<'_>) -> Option<Passage> {
    const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
    const PROTOCOL_TCP: u8 = 6;
    let (ethernet, ip) = frame.bytes.split_at_checked(14)?;
    if ethernet[12..] != ETHERTYPE_IPV4 || *ip.get(9)? != PROTOCOL_TCP {
        return None;
    }
    let header_bytes = usize::from(ip[0] & 0x0f) * 4;
    let tcp = ip.get(header_bytes..)?;
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?,
        ))
    };
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    Some(Passage {
        // The switch's outgoing packets are the host's incoming ones.
        to_host: frame.is_outgoing,
        source: SocketAddrV4::new(address(12)?, port(0)?),
        destination: SocketAddrV4::new(address(16)?, port(2)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ethernet, an IPv4 header of 24 bytes (one option), two ports.
    const FRAME: [u8; 42] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00, //
        0x46, 0, 0, 44, 0, 0, 0, 0, 64, 6, 0, 0, 172, 16, 1, 101, 172, 16, 1, 200, 1, 1, 1,
        1, //
        0xc3, 0x50, 0x07, 0x8f,
    ];

    fn outgoing(bytes: &[u8]) -> Frame<'_> {
        Frame {
            is_outgoing: true,
            bytes,
        }
    }

    #[test]
    fn the_ports_are_found_behind_ip_options() {
        let passage = parse(outgoing(&FRAME)).expect("a TCP packet");
        assert_eq!(passage.source, "172.16.1.101:50000".parse().unwrap());
        assert_eq!(passage.destination, "172.16.1.200:1935".parse().unwrap());
        assert!(passage.to_host);
    }

    #[test]
    fn a_packet_cut_short_anywhere_is_none() {
        for length in 0..FRAME.len() {
            assert_eq!(parse(outgoing(&FRAME[..length])), None, "{length} bytes");
        }
    }
}
