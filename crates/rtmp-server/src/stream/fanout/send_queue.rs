//! Bytes that the kernel still holds for a peer.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::libc::{TIOCOUTQ, c_int};

nix::ioctl_read_bad!(
    /// `SIOCOUTQ` (tcp(7)), which has the number of `TIOCOUTQ`.
    siocoutq,
    TIOCOUTQ,
    c_int
);

/// The bytes that `socket`'s peer has not acknowledged, sent or not.
///
/// # Errors
/// The connection has ended.
pub(super) fn unacknowledged(socket: &TcpStream) -> io::Result<usize> {
    let mut bytes: c_int = 0;
    // SAFETY: the descriptor is an open socket, as long as `socket` is
    // borrowed, and the request writes one int.
    unsafe { siocoutq(socket.as_raw_fd(), &raw mut bytes) }?;
    usize::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_a_peer_reads_is_no_longer_held_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while let Ok(count) = socket.write(&[7; 65_536]) {
            sent += count;
        }
        let full = unacknowledged(&socket).unwrap();
        assert!(full > 0);
        let mut taken = vec![0; sent];
        peer.read_exact(&mut taken).unwrap();
        while unacknowledged(&socket).unwrap() > 0 {
            std::thread::yield_now();
        }
    }
}
