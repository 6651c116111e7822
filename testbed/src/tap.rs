//! Listening in on one port of the switch.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::host::Host;

/// Enough for Ethernet, IPv4 with options, and the ports.
const SNAPSHOT_BYTES: usize = 128;

/// What the kernel may hold for us while this machine is busy.
const BUFFER_BYTES: usize = 16 << 20;

/// How long after [`Tap::stop`] the listening ends, at most.
const TICK: Duration = Duration::from_millis(100);

/// A TCP packet that went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Whether it went to the host at the port, rather than came from it.
    pub to_host: bool,
    /// Where it says it is from.
    pub source: SocketAddrV4,
    /// Where it says it is going.
    pub destination: SocketAddrV4,
}

/// A running capture at a port of the switch.
#[derive(Debug)]
pub struct Tap {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Passage>>>,
}

impl Tap {
    /// Begins to note every IPv4/TCP packet between the switch and one host.
    ///
    /// # Errors
    /// When the kernel refuses a packet socket, or there is no such port.
    pub fn start(switch: &Host, port: &str) -> Result<Self> {
        let port = port.to_owned();
        let (socket, index) = switch.within(move || open(&port))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let thread = thread::spawn(move || listen(&socket, index, &stop));
        Ok(Self { stopping, thread })
    }

    /// Ends the capture and returns what went by.
    ///
    /// # Errors
    /// When the packet socket failed.
    pub fn stop(self) -> Result<Vec<Passage>> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().expect("listening does not panic")
    }
}

fn open(port: &str) -> Result<(OwnedFd, usize)> {
    let index = if_nametoindex(port).with_context(|| format!("the switch has no port {port}"))?;
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .context("no packet socket (needs CAP_NET_RAW)")?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
    let tick = TimeVal::new(0, TICK.as_micros().try_into()?);
    setsockopt(&socket, sockopt::ReceiveTimeout, &tick)?;
    Ok((socket, index as usize))
}

fn listen(socket: &OwnedFd, index: usize, stop: &AtomicBool) -> Result<Vec<Passage>> {
    let mut passages = Vec::new();
    let mut buffer = [0; SNAPSHOT_BYTES];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) if from.ifindex() == index => {
                // The switch's outgoing packets are the host's incoming ones.
                let to_host = from.pkttype() == libc::PACKET_OUTGOING;
                passages.extend(parse(&buffer[..length.min(SNAPSHOT_BYTES)], to_host));
            }
            // Another port's.
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing came for a while: see whether to go on.
            Err(Errno::EAGAIN) => {}
            Err(error) => bail!("the packet socket failed: {error}"),
        }
        // Whatever had gone by before the stop is to be noted.
        if stop.load(Ordering::Relaxed) && !is_readable(socket)? {
            return Ok(passages);
        }
    }
}

fn is_readable(socket: &OwnedFd) -> Result<bool> {
    let mut descriptors = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut descriptors, PollTimeout::ZERO)? > 0)
}

/// The ends of an IPv4/TCP packet; other packets have none.
fn parse(frame: &[u8], to_host: bool) -> Option<Passage> {
    const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
    const PROTOCOL_TCP: u8 = 6;
    let (ethernet, ip) = frame.split_at_checked(14)?;
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
        to_host,
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

    #[test]
    fn the_ports_are_found_behind_ip_options() {
        let passage = parse(&FRAME, true).expect("a TCP packet");
        assert_eq!(passage.source, "172.16.1.101:50000".parse().unwrap());
        assert_eq!(passage.destination, "172.16.1.200:1935".parse().unwrap());
    }

    #[test]
    fn a_packet_cut_short_anywhere_is_none() {
        for length in 0..FRAME.len() {
            assert_eq!(parse(&FRAME[..length], true), None, "{length} bytes");
        }
    }
}
