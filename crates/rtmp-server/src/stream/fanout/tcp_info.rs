//! `TCP_INFO`: the kernel's figures of a connection.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use linux_raw_sys::net::tcp_info;
use nix::errno::Errno;
use nix::libc;

use super::send_queue::unacknowledged;

/// State of a connection's sending side (tcp(7), linux/tcp.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TcpInfo {
    /// Smoothed round-trip time, in µs.
    pub(crate) rtt_us: u32,
    /// Congestion window, in bytes.
    pub(crate) cwnd_bytes: u64,
    /// Window that the peer has advertised last, in bytes.
    pub(crate) peer_window_bytes: u32,
    /// Maximum segment size, in bytes.
    pub(crate) mss_bytes: u32,
    /// Bytes in the send queue that have not been sent yet.
    pub(crate) unsent_bytes: u32,
    /// Bytes that have been sent and not acknowledged.
    pub(crate) unacknowledged_bytes: u64,
    /// Segments that were sent again, so far.
    pub(crate) retransmits: u32,
    /// Time-outs in a row for which the same segment has been sent again.
    pub(crate) backoff: u8,
    /// Probes of a closed window in a row that were not answered with an open one.
    pub(crate) window_probes: u8,
    /// Rate at which the peer has lately been acknowledging, in bytes a second.
    pub(crate) delivery_rate: u64,
    /// Time for which there has been something to send, in µs, so far.
    pub(crate) busy_us: u64,
    /// Part of it in which the peer's window was the limit, in µs.
    pub(crate) peer_limited_us: u64,
}

/// The state of `socket`.
///
/// # Errors
/// The connection has ended.
pub(super) fn read(socket: &TcpStream) -> io::Result<TcpInfo> {
    let mut info = MaybeUninit::<tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is an open socket, as long as `socket` is borrowed; the kernel
    // writes `length` bytes at most, an older one fewer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    // SAFETY: all bytes are zero or the kernel's, and any bytes are a `tcp_info`.
    let info = unsafe { info.assume_init() };
    let queued = unacknowledged(socket)? as u64;
    Ok(TcpInfo {
        rtt_us: info.tcpi_rtt,
        cwnd_bytes: u64::from(info.tcpi_snd_cwnd) * u64::from(info.tcpi_snd_mss),
        peer_window_bytes: info.tcpi_snd_wnd,
        mss_bytes: info.tcpi_snd_mss,
        unsent_bytes: info.tcpi_notsent_bytes,
        unacknowledged_bytes: queued.saturating_sub(info.tcpi_notsent_bytes.into()),
        retransmits: info.tcpi_total_retrans,
        backoff: info.tcpi_backoff,
        window_probes: info.tcpi_probes,
        delivery_rate: info.tcpi_delivery_rate,
        busy_us: info.tcpi_busy_time,
        peer_limited_us: info.tcpi_rwnd_limited,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_peer_that_reads_nothing_closes_its_window() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let open = read(&socket).unwrap();
        assert!(open.peer_window_bytes > 0, "{open:?}");
        assert_eq!(open.unsent_bytes, 0);
        socket.set_nonblocking(true).unwrap();
        // The kernel moves what it holds to the peer for a while.
        netbed::wait_for("the peer's window is full", || {
            while socket.write(&[7; 65_536]).is_ok() {}
            let info = read(&socket).unwrap();
            let room = u64::from(info.peer_window_bytes).saturating_sub(info.unacknowledged_bytes);
            info.unsent_bytes > 0 && room < u64::from(info.mss_bytes)
        });
    }
}
