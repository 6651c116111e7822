//! A connection at a fan-out worker.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Encryption, RawSocket, kernel};

/// A connection in non-blocking mode, outside of tokio.
#[derive(Debug)]
pub(crate) struct StdTransport {
    pub(super) tcp: TcpStream,
    pub(super) encryption: Encryption,
}

impl From<TcpStream> for StdTransport {
    fn from(tcp: TcpStream) -> Self {
        Self {
            tcp,
            encryption: Encryption::None,
        }
    }
}

impl StdTransport {
    /// The socket, for its options and for epoll.
    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Reads once into `buffer`, which has room for [`MAX_READ`](super::MAX_READ) bytes.
    ///
    /// # Errors
    /// `WouldBlock`; `Interrupted` if there may be more; the connection's end; `InvalidData`
    /// if what came cannot be TLS.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.encryption {
            Encryption::None => self.tcp.read(buffer),
            Encryption::Kernel(_) => kernel::after_read(self.tcp.read(buffer), &self.tcp),
            Encryption::User(session) => {
                let mut filled = 0;
                session.read(&self.tcp, |payload| {
                    let end = filled + payload.len();
                    let room = buffer.get_mut(filled..end).ok_or_else(|| {
                        io::Error::new(io::ErrorKind::InvalidData, "records of too many bytes")
                    })?;
                    room.copy_from_slice(payload);
                    filled = end;
                    Ok(())
                })
            }
        }
    }

    /// Writes of `bytes` what the socket takes.
    ///
    /// # Errors
    /// `WouldBlock`; `QuotaExceeded` if the key may encrypt no more but what ends the
    /// connection; the connection's end.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.encryption {
            Encryption::User(session) => {
                session.limit.check()?;
                return session.write(&self.tcp, bytes, false);
            }
            Encryption::Kernel(kernel) => kernel.limit.check()?,
            Encryption::None => {}
        }
        let written = self.tcp.write(bytes)?;
        if let Encryption::Kernel(kernel) = &mut self.encryption {
            kernel.count(written)?;
        }
        Ok(written)
    }

    /// Sends of a file's next `length` bytes what the socket takes: by `send_file`, or,
    /// where we encrypt ourselves, what `fill` reads.
    ///
    /// # Errors
    /// As [`StdTransport::write`]; that of `send_file` or `fill`.
    pub(crate) fn send_file(
        &mut self,
        length: u64,
        send_file: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        match &mut self.encryption {
            Encryption::None => send_file(self.tcp.as_fd()),
            Encryption::User(session) => {
                session.limit.check()?;
                session.write_from(&self.tcp, length, fill)
            }
            Encryption::Kernel(kernel) => {
                kernel.limit.check()?;
                let sent = send_file(self.tcp.as_fd())?;
                kernel.count(sent)?;
                Ok(sent)
            }
        }
    }

    /// True if something that counts as written waits for the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        matches!(&self.encryption, Encryption::User(session) if session.has_unsent())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// `WouldBlock` if some still waits; the connection's end.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.encryption {
            Encryption::User(session) => session.flush(&self.tcp),
            Encryption::Kernel(_) | Encryption::None => Ok(()),
        }
    }
}

impl RawSocket for TcpStream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buffer)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(bytes)
    }
}
