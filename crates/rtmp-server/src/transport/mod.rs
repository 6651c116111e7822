//! A connection's bytes, plain or by TLS (RFC 8446, RFC 5246).
//!
//! ```text
//!                        ┌─ plain: the socket as it is
//! Transport (tokio) ─────┼─ kernel TLS: the socket as it is, after the handshake
//!        ▲ │             └─ TLS in user space: `Session`, one per connection
//!        │ ▼
//! StdTransport (fan-out worker)
//! ```
//!
//! Kernel TLS lets `sendfile` go on as it does for plain connections: the kernel encrypts.
//! Where the kernel has none, what is to be sent is read and encrypted here.

use serde::{Deserialize, Serialize};

pub(crate) mod handshake;
pub(crate) mod kernel;
mod key_limit;
mod part;
mod scratch;
mod secrets;
mod session;
mod standard;
#[cfg(test)]
mod tests;
mod tickets;
mod tokio;

use std::io;

pub(crate) use self::tokio::Transport;
use kernel::KernelTls;
pub(crate) use part::TransportPart;
use session::Session;
pub(crate) use standard::StdTransport;
use tls_record::{MAX_FRAGMENT, MAX_RECORD};

/// The most bytes that one read of a connection returns: what a record's worth of small
/// records holds is less than their own length.
pub(crate) const MAX_READ: usize = MAX_RECORD;

/// The place where a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TlsPlace {
    /// In the kernel.
    Kernel,
    /// In this process.
    UserSpace,
}

impl TlsPlace {
    /// Its name in the HTTP API.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::UserSpace => "user",
        }
    }
}

/// Who encrypts a connection. A plain connection, and one that the kernel encrypts, are no
/// larger for those that we encrypt.
#[derive(Debug)]
enum Encryption {
    None,
    Kernel(KernelTls),
    User(Box<Session>),
}

/// A socket in non-blocking mode.
trait RawSocket {
    /// Reads into `buffer`.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection's end.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes of `bytes` what the socket takes.
    ///
    /// # Errors
    /// `WouldBlock`, or the connection's end.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;
}
