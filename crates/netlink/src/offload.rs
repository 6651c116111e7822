//! Receive offloads, which merge packets of one flow into larger ones before the
//! kernel's stack sees them (`ethtool -k`).

use std::io;
use std::os::fd::AsRawFd as _;

use nix::libc;
use socket2::{Domain, Socket, Type};

/// The receive offloads of an interface that are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiveOffloads {
    /// Generic receive offload, by the kernel.
    pub gro: bool,
    /// Large receive offload, by the network card.
    pub lro: bool,
}

impl ReceiveOffloads {
    /// Those of an interface.
    ///
    /// # Errors
    /// There is no interface of this name.
    pub fn of(interface: &str) -> io::Result<Self> {
        // linux/ethtool.h
        const ETHTOOL_GFLAGS: u32 = 0x25;
        const ETHTOOL_GGRO: u32 = 0x2b;
        const ETH_FLAG_LRO: u32 = 1 << 15;
        Ok(Self {
            gro: value(interface, ETHTOOL_GGRO)? != 0,
            lro: value(interface, ETHTOOL_GFLAGS)? & ETH_FLAG_LRO != 0,
        })
    }
}

/// Asks with an ethtool command whose answer is a number.
fn value(interface: &str, command: u32) -> io::Result<u32> {
    /// `struct ethtool_value` of linux/ethtool.h.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command, data: 0 };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: an `ifreq` is plain data for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.as_bytes();
    // Its last byte stays the zero that ends the name.
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names a structure of the size that these commands
    // fill, and both live until the call returns.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    match result {
        0.. => Ok(value.data),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_tells_and_what_is_not_there_does_not() {
        ReceiveOffloads::of("lo").expect("it is there");
        for name in ["no-such", "longer-than-names-are"] {
            assert!(ReceiveOffloads::of(name).is_err(), "{name}");
        }
    }
}
