//! A connection on tokio.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use ::tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use ::tokio::net::TcpStream;
use bytes::BytesMut;
use nix::libc::{MSG_MORE, MSG_NOSIGNAL};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockRef;

use super::{Encryption, RawSocket, StdTransport, TlsPlace, kernel};

/// A connection on tokio.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(super) tcp: TcpStream,
    pub(super) encryption: Encryption,
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Self {
            tcp,
            encryption: Encryption::None,
        }
    }
}

impl Transport {
    /// The place where it is encrypted; `None` if it is plain.
    pub(crate) fn tls_place(&self) -> Option<TlsPlace> {
        match self.encryption {
            Encryption::None => None,
            Encryption::Kernel(_) => Some(TlsPlace::Kernel),
            Encryption::User(_) => Some(TlsPlace::UserSpace),
        }
    }

    /// Reads once, and appends what came to `input`, at most `max_bytes` of a plain
    /// connection. The buffer grows only once there is something to read. Returns 0 at the
    /// end. It may be dropped unfinished.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn read(
        &mut self,
        max_bytes: usize,
        input: &mut BytesMut,
    ) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(context, max_bytes, input)).await
    }

    /// [`Transport::read`] as a poll.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        max_bytes: usize,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            // What is read already does not make the socket ready again.
            if let Encryption::User(session) = &self.encryption
                && session.has_read_all()
            {
                return Poll::Ready(Ok(0));
            }
            // It is not ready for ever: a peer that sends nothing but what is TLS's own
            // does not keep the thread.
            ready!(self.tcp.poll_read_ready(context))?;
            let read = match &mut self.encryption {
                Encryption::None => {
                    input.reserve(max_bytes);
                    return pin!(self.tcp.read_buf(input)).poll(context);
                }
                Encryption::Kernel(_) => {
                    input.reserve(max_bytes);
                    kernel::after_read(self.tcp.try_read_buf(input), &self.tcp)
                }
                Encryption::User(session) => session.read(&self.tcp, |payload| {
                    input.extend_from_slice(payload);
                    Ok(())
                }),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        match &mut self.encryption {
            Encryption::None => return self.tcp.write_all(bytes).await,
            Encryption::Kernel(kernel) => {
                kernel.count(bytes.len())?;
                return self.tcp.write_all(bytes).await;
            }
            Encryption::User(session) => {
                while !bytes.is_empty() {
                    match session.write(&self.tcp, bytes, false) {
                        Ok(count) => bytes = &bytes[count..],
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.tcp.writable().await?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        self.flush().await
    }

    /// Writes of `bytes` what the connection takes now. It may wait for what follows at once.
    ///
    /// # Errors
    /// `WouldBlock`; the connection is lost.
    pub(crate) fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.encryption {
            Encryption::User(session) => {
                session.limit.check()?;
                return session.write(&self.tcp, bytes, true);
            }
            Encryption::Kernel(kernel) => kernel.limit.check()?,
            Encryption::None => {}
        }
        let socket = SockRef::from(&self.tcp);
        let written = self.tcp.try_io(Interest::WRITABLE, || {
            socket.send_with_flags(bytes, MSG_MORE | MSG_NOSIGNAL)
        })?;
        if let Encryption::Kernel(kernel) = &mut self.encryption {
            kernel.count(written)?;
        }
        Ok(written)
    }

    /// Sends of a file's next `length` bytes what the connection takes, at least one: by
    /// `send_file`, or, where we encrypt ourselves, what `fill` reads.
    ///
    /// # Errors
    /// The connection is lost; that of `send_file` or `fill`.
    pub(crate) async fn send_file(
        &mut self,
        length: u64,
        send_file: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
        fill: impl Fn(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        loop {
            let tcp = &self.tcp;
            let send = || tcp.try_io(Interest::WRITABLE, || send_file(tcp.as_fd()));
            let sent = match &mut self.encryption {
                Encryption::None => send(),
                Encryption::User(session) => {
                    session.limit.check()?;
                    session.write_from(tcp, length, &fill)
                }
                Encryption::Kernel(kernel) => {
                    kernel.limit.check()?;
                    let sent = send();
                    if let Ok(sent) = sent {
                        kernel.count(sent)?;
                    }
                    sent
                }
            };
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.tcp.writable().await?;
                }
                sent => return sent,
            }
        }
    }

    /// Sends what is `queued`, and removes it from there. It may be dropped unfinished, and
    /// called again. `sent` gets the numbers of bytes that are removed.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn send_queued(
        &mut self,
        queued: &mut Vec<u8>,
        sent: impl Fn(usize),
    ) -> io::Result<()> {
        while !queued.is_empty() {
            let count = poll_fn(|context| self.poll_write(context, queued)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            queued.drain(..count);
            sent(count);
        }
        self.flush().await
    }

    /// True if records of TLS wait for the socket to take them.
    pub(crate) fn has_unsent(&self) -> bool {
        matches!(&self.encryption, Encryption::User(session) if session.has_unsent())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Says that nothing more is sent.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_shutdown(context)).await
    }

    /// Writes of `bytes` what the connection takes. A key that is nearly used up leaves room
    /// for [`Transport::poll_shutdown`].
    ///
    /// # Errors
    /// `QuotaExceeded` if only that is left; the connection is lost.
    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &self.encryption {
            Encryption::None => {}
            Encryption::Kernel(kernel) => kernel.limit.check()?,
            Encryption::User(session) => session.limit.check()?,
        }
        match &mut self.encryption {
            Encryption::User(session) => loop {
                match session.write(&self.tcp, bytes, false) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(self.tcp.poll_write_ready(context))?;
                    }
                    written => return Poll::Ready(written),
                }
            },
            encryption => {
                let written = ready!(Pin::new(&mut self.tcp).poll_write(context, bytes))?;
                if let Encryption::Kernel(kernel) = encryption {
                    kernel.count(written)?;
                }
                Poll::Ready(Ok(written))
            }
        }
    }

    /// Sends what waits.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Encryption::User(session) = &mut self.encryption else {
            return Poll::Ready(Ok(()));
        };
        loop {
            match session.flush(&self.tcp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.tcp.poll_write_ready(context))?;
                }
                flushed => return Poll::Ready(flushed),
            }
        }
    }

    /// Says that nothing more is sent.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.encryption {
            Encryption::User(session) => session.queue_close_notify()?,
            Encryption::Kernel(kernel) => loop {
                let tcp = &self.tcp;
                let send = || kernel.send_close_notify(tcp.as_fd());
                match tcp.try_io(Interest::WRITABLE, send) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(tcp.poll_write_ready(context))?;
                    }
                    sent => break sent?,
                }
            },
            Encryption::None => {}
        }
        ready!(self.poll_flush(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    /// Reads and ignores what comes, encrypted or not, until the end.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn ignore_rest(&mut self) -> io::Result<()> {
        /// Bytes read at once.
        const IGNORED_SIZE: usize = 4 * 1024;
        loop {
            self.tcp.readable().await?;
            // A buffer that lived across the await would make every connection's
            // task larger by its size, from the first moment on.
            let mut ignored = [0; IGNORED_SIZE];
            let read = self.tcp.try_read(&mut ignored);
            let read = match &self.encryption {
                Encryption::Kernel(_) => kernel::after_read(read, &self.tcp),
                Encryption::None | Encryption::User(_) => read,
            };
            match read.map_err(|error| (error.kind(), error)) {
                Ok(0) => return Ok(()),
                Ok(_) | Err((io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted, _)) => {}
                Err((_, error)) => return Err(error),
            }
        }
    }

    /// Takes the connection from tokio.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn into_std(self) -> io::Result<StdTransport> {
        Ok(StdTransport {
            tcp: self.tcp.into_std()?,
            encryption: self.encryption,
        })
    }

    /// Gives the connection to tokio.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) fn from_std(transport: StdTransport) -> io::Result<Self> {
        Ok(Self {
            tcp: TcpStream::from_std(transport.tcp)?,
            encryption: transport.encryption,
        })
    }
}

impl RawSocket for TcpStream {
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut all = None;
        let received = self.try_io(Interest::READABLE, || {
            let count = recv(self.as_raw_fd(), buffer, MsgFlags::empty())?;
            if (1..buffer.len()).contains(&count) {
                // There was no more: the socket need not be asked again, as tokio's own reads
                // have it.
                all = Some(count);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        all.map_or(received, Ok)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}
