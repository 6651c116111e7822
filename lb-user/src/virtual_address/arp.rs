//! Gratuitous ARP: telling a network segment where an address is now.

use std::io;
use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket,
};

use crate::netlink::link::Mac;

const BROADCAST: Mac = [0xff; 6];
const ETHERTYPE_ARP: u16 = 0x0806;
const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;
const OPERATION_REQUEST: u16 = 1;

/// Length of an ARP frame without Ethernet padding.
const FRAME_BYTES: usize = 42;

/// An Ethernet frame with a gratuitous ARP request: sender and target are both
/// `address` (RFC 5227 §3, "ARP Announcement").
pub fn announcement(address: Ipv4Addr, mac: Mac) -> [u8; FRAME_BYTES] {
    let fields: [&[u8]; 12] = [
        &BROADCAST,
        &mac,
        &ETHERTYPE_ARP.to_be_bytes(),
        &HARDWARE_ETHERNET.to_be_bytes(),
        &PROTOCOL_IPV4.to_be_bytes(),
        &[6, 4],
        &OPERATION_REQUEST.to_be_bytes(),
        &mac,
        &address.octets(),
        &[0; 6],
        &address.octets(),
        &[],
    ];
    let mut frame = [0; FRAME_BYTES];
    let mut at = 0;
    for field in fields {
        frame[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    }
    frame
}

/// Sends frames as they are (packet(7)).
#[derive(Debug)]
pub struct FrameSender {
    socket: OwnedFd,
}

impl FrameSender {
    /// Opens a packet socket that receives nothing.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // No protocol: the kernel then delivers no frame to the socket.
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        Ok(Self { socket })
    }

    /// Sends one Ethernet frame by an interface.
    ///
    /// # Errors
    /// The interface is down or gone, or its queue is full.
    pub fn send(&self, interface_index: u32, frame: &[u8]) -> io::Result<()> {
        let address = link_address(interface_index);
        sendto(self.socket.as_raw_fd(), frame, &address, MsgFlags::empty())?;
        Ok(())
    }
}

/// The packet(7) address that names nothing but an interface.
fn link_address(interface_index: u32) -> LinkAddr {
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::sa_family_t,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex: interface_index as libc::c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: `raw` is an initialised sockaddr_ll of `length` bytes that
    // outlives the call, and its family says so.
    unsafe { LinkAddr::from_raw((&raw const raw).cast(), Some(length)) }
        .expect("the family is AF_PACKET")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_asks_everybody_for_the_address_that_it_has() {
        let mac = [0x02, 0, 0, 0, 0, 0x08];
        let frame = announcement(Ipv4Addr::new(172, 16, 1, 200), mac);
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // to everybody
            0x02, 0, 0, 0, 0, 0x08, // from us
            0x08, 0x06, // ARP
            0, 1, 0x08, 0, 6, 4, // Ethernet, IPv4
            0, 1, // request
            0x02, 0, 0, 0, 0, 0x08, 172, 16, 1, 200, // sender
            0, 0, 0, 0, 0, 0, 172, 16, 1, 200, // target
        ];
        assert_eq!(frame, expected);
    }
}
