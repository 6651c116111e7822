//! Announcements of an address to a network segment: gratuitous ARP for IPv4,
//! unsolicited neighbour advertisements for IPv6.

use net_types::MacAddress;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv6Type, PacketBuilder};
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};

const BROADCAST: MacAddress = MacAddress([0xff; 6]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// RFC 2464 §7: the MAC address of [`ALL_NODES`].
const ALL_NODES_MAC: MacAddress = MacAddress([0x33, 0x33, 0, 0, 0, 1]);
/// RFC 4861 §7.1.2: advertisements with another hop limit are dropped.
const HOP_LIMIT: u8 = 255;
/// RFC 4861 §4.6.1: type of the option, and its length in units of eight bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// An Ethernet frame that announces `address` at `mac`.
pub(crate) fn frame(address: IpAddr, mac: MacAddress) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => gratuitous_arp(address, mac),
        IpAddr::V6(address) => neighbour_advertisement(address, mac),
    }
}

/// An ARP request whose sender and target are both `address` (RFC 5227 §3,
/// "ARP Announcement"); what keepalived sends, target MAC included.
fn gratuitous_arp(address: Ipv4Addr, mac: MacAddress) -> Vec<u8> {
    let arp = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &mac.0,
        &address.octets(),
        &BROADCAST.0,
        &address.octets(),
    );
    let arp = arp.expect("sender and target have addresses of one length");
    let builder = PacketBuilder::ethernet2(mac.0, BROADCAST.0).arp(arp);
    let mut frame = Vec::with_capacity(builder.size());
    builder.write(&mut frame).expect(VEC_TAKES_ALL);
    frame
}

/// RFC 4861 §7.2.6, to all nodes.
fn neighbour_advertisement(address: Ipv6Addr, mac: MacAddress) -> Vec<u8> {
    let header = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
        router: false,
        solicited: false,
        r#override: true,
    });
    let mut body = address.octets().to_vec();
    body.extend(TARGET_LINK_LAYER_ADDRESS);
    body.extend(mac.0);
    let builder = PacketBuilder::ethernet2(mac.0, ALL_NODES_MAC.0)
        .ipv6(address.octets(), ALL_NODES.octets(), HOP_LIMIT)
        .icmpv6(header);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    builder.write(&mut frame, &body).expect(VEC_TAKES_ALL);
    frame
}

const VEC_TAKES_ALL: &str = "a Vec takes all bytes, and a frame is short";

/// Sends frames as they are (packet(7)).
#[derive(Debug)]
pub(crate) struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// Opens a packet socket that receives nothing.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // No protocol: the kernel then delivers no frame to the socket.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        Ok(Self { socket })
    }

    /// Sends one Ethernet frame by an interface.
    ///
    /// # Errors
    /// The interface is down or gone, or its queue is full.
    pub(crate) fn send(&self, interface_index: u32, frame: &[u8]) -> io::Result<()> {
        let address = link_address(interface_index);
        sendto(self.socket.as_raw_fd(), frame, &address, MsgFlags::empty())?;
        Ok(())
    }
}

/// A packet(7) address with nothing but an interface.
fn link_address(interface_index: u32) -> LinkAddr {
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: 0,
        sll_ifindex: interface_index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `raw` is an initialised sockaddr_ll of `length` bytes that
    // outlives the call, and its family is that of a sockaddr_ll.
    unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) }
        .expect("the family is AF_PACKET")
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_types::{internet_checksum, pseudo_header};

    const ICMPV6: u8 = 58;

    const MAC: MacAddress = MacAddress([0x02, 0, 0, 0, 0, 0x08]);

    #[test]
    fn a_gratuitous_arp_asks_everybody_for_the_address_that_it_has() {
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // to everybody
            0x02, 0, 0, 0, 0, 0x08, // from us
            0x08, 0x06, // ARP
            0, 1, 0x08, 0, 6, 4, // Ethernet, IPv4
            0, 1, // request
            0x02, 0, 0, 0, 0, 0x08, 172, 16, 1, 200, // sender
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 172, 16, 1, 200, // target
        ];
        assert_eq!(frame([172, 16, 1, 200].into(), MAC), expected);
    }

    #[test]
    fn a_neighbour_advertisement_overrides_what_all_nodes_know() {
        let address: Ipv6Addr = "fe80::200".parse().expect("an address");
        let frame = frame(address.into(), MAC);
        assert_eq!(frame[..6], ALL_NODES_MAC.0);
        let (header, message) = frame[14..].split_at(40);
        assert_eq!(header[6..8], [ICMPV6, 255]);
        assert_eq!(header[8..24], address.octets(), "from the address itself");
        assert_eq!(message[..2], [136, 0]);
        assert_eq!(
            message[4..8],
            [0x20, 0, 0, 0],
            "override, neither router nor solicited"
        );
        assert_eq!(message[8..24], address.octets(), "target");
        assert_eq!(message[24..], [2, 1, 0x02, 0, 0, 0, 0, 0x08]);
        let pseudo = pseudo_header(address.into(), ALL_NODES.into(), 32, ICMPV6);
        let checksum = internet_checksum(&[&pseudo, message]);
        assert_eq!(checksum, 0, "its checksum is right");
    }
}
