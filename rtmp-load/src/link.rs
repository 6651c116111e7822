//! One TCP connection: opening, reading and writing without ever waiting.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::{
        epoll::EpollFlags,
        socket::{MsgFlags, recv, setsockopt, sockopt},
    },
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{player::EndCause, tls::Tls};

/// See the module's description.
pub(crate) struct Link {
    /// The socket.
    pub socket: Socket,
    /// Its TLS, if it has any.
    pub tls: Option<Tls>,
    /// True while the connection is being made.
    pub connecting: bool,
    /// The events that the event queue reports of it.
    pub interest: EpollFlags,
}

impl Link {
    /// Reads into `buffer`, or takes as many bytes off the socket without
    /// copying them (`MSG_TRUNC`, tcp(7)).
    pub(crate) fn read(&mut self, buffer: &mut [u8], discard: bool) -> io::Result<usize> {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.socket, buffer);
        }
        if discard {
            return Ok(recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC)?);
        }
        self.socket.read(buffer)
    }

    /// Has the kernel acknowledge what comes next late, with what is read or sent (tcp(7),
    /// `TCP_QUICKACK`). It forgets that when a delayed acknowledgement is due alone.
    pub(crate) fn delay_acks(&self) {
        // A socket that cannot be told acknowledges as it likes.
        let _ = self.socket.set_tcp_quickack(false);
    }

    /// Sends as much of `outbox` as the socket takes.
    pub(crate) fn write(&mut self, outbox: &mut Vec<u8>) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.write(&mut self.socket, outbox);
        }
        let mut sent = 0;
        while sent < outbox.len() {
            match self.socket.write(&outbox[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        outbox.drain(..sent);
        Ok(())
    }

    /// True if something waits for the socket that the outbox does not show.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(Tls::wants_write)
    }
}

/// Begins to connect.
pub(crate) fn open(server: SocketAddr, bind: Option<IpAddr>) -> Result<Socket, EndCause> {
    let failed = |error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EADDRNOTAVAIL) => EndCause::Connect(match bind {
            Some(bind) => format!(
                "no port is left at client address {bind}, or it is not this machine's; give more \
                 with --bind"
            ),
            None => format!(
                "no port is left for connections to {server}; spread them over several client \
                 addresses with --bind"
            ),
        }),
        _ => EndCause::Connect(plain(&error)),
    };
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.set_tcp_nodelay(true).map_err(failed)?;
    if let Some(bind) = bind {
        // The port is chosen when connecting, so that one port serves several
        // servers; without this, bind() takes it for all of them.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
            .map_err(|error| failed(error.into()))?;
        socket
            .bind(&SocketAddr::new(bind, 0).into())
            .map_err(failed)?;
    }
    match socket.connect(&server.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => Err(failed(error)),
        _ => Ok(socket),
    }
}

/// The system's error text, without its number: causes are counted by their
/// text.
pub(crate) fn plain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}
