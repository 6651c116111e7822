//! TLS of one connection in user space: rustls without buffers of its own.
//!
//! A connection holds nothing but its keys while all is quiet. Part of a record that has
//! come, and records that the socket does not take, are kept for as long as they wait.

use std::io;

use rustls::SupportedCipherSuite;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus,
};

use super::RawSocket;
use super::key_limit::{self, KeyLimit};
use super::scratch::{self, MAX_PLAINTEXT, Scratch};

/// A server's side of a TLS connection after the handshake.
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    /// Part of a record.
    incoming: Vec<u8>,
    /// Records that are to be sent, and how much of them has been.
    outgoing: Vec<u8>,
    sent: usize,
    /// `outgoing` waits for the records that follow.
    corked: bool,
    /// The peer has said that nothing more comes from it.
    peer_closed: bool,
    /// The peer is told, or about to be, that nothing more is sent.
    closed: bool,
    /// What came cannot be: nothing more is read or encrypted.
    failed: bool,
    /// That of a key of TLS 1.2. In TLS 1.3, rustls takes another key in time.
    pub(super) limit: KeyLimit,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Session {
    /// A session after its handshake, whose last record was the last that was read.
    pub(super) fn new(connection: UnbufferedServerConnection) -> Self {
        let limit = match connection.negotiated_cipher_suite() {
            // One record was the `Finished`.
            Some(suite @ SupportedCipherSuite::Tls12(_)) => KeyLimit::new(suite, 1),
            _ => KeyLimit::none(),
        };
        Self {
            limit,
            connection,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            corked: false,
            peer_closed: false,
            closed: false,
            failed: false,
        }
    }

    /// True if a read would return the end, whatever comes.
    pub(super) fn has_read_all(&self) -> bool {
        self.peer_closed || self.failed
    }

    /// True if records wait for the socket to take them.
    pub(super) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Reads once, and passes what the records hold to `sink`: at most
    /// [`MAX_READ`](super::MAX_READ) bytes in all. Returns their number, 0 at the end.
    ///
    /// # Errors
    /// `Interrupted` if what came holds nothing for us; `WouldBlock`; `InvalidData` if what
    /// came cannot be TLS; the connection's end; that of `sink`.
    pub(super) fn read(
        &mut self,
        socket: &impl RawSocket,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        if self.has_read_all() {
            return Ok(0);
        }
        scratch::with(|Scratch { incoming, .. }| {
            let held = self.incoming.len();
            incoming[..held].copy_from_slice(&self.incoming);
            let count = socket.receive(&mut incoming[held..])?;
            if count == 0 {
                return Ok(0);
            }
            let opened = self.open(&mut incoming[..held + count], &mut sink);
            // An alert or an answer to a key update. If the socket takes nothing now, it
            // goes out with what is sent next.
            match self.flush(socket) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
            match opened? {
                0 if !self.peer_closed => Err(io::ErrorKind::Interrupted.into()),
                count => Ok(count),
            }
        })
    }

    /// Decrypts the records in `bytes`, and keeps the part of one at the end.
    fn open(
        &mut self,
        bytes: &mut [u8],
        sink: &mut impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut start = 0;
        let mut count = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut bytes[start..]);
            let mut waits = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let payload = record.map_err(io::Error::other)?.payload;
                        count += payload.len();
                        sink(payload)?;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, &mut self.outgoing)?;
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                Ok(_) => waits = true,
                Err(error) => {
                    self.queue_alert(&mut bytes[start + discard..]);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            start += discard;
            if waits {
                self.incoming = bytes[start..].to_vec();
                return Ok(count);
            }
        }
    }

    /// Queues the alert that tells the peer of an error, before the records in `bytes`.
    fn queue_alert(&mut self, bytes: &mut [u8]) {
        self.failed = true;
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(bytes);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
            // Without the alert, the peer sees a connection that was closed.
            let _ = encode(&mut data, &mut self.outgoing);
        }
    }

    /// Encrypts of `bytes` what fits, and sends it. What the socket does not take is kept;
    /// nothing is encrypted while something waits. With `more`, it waits for what follows.
    ///
    /// # Errors
    /// `WouldBlock`; `QuotaExceeded` if the key may encrypt no more; the connection's end.
    pub(super) fn write(
        &mut self,
        socket: &impl RawSocket,
        bytes: &[u8],
        more: bool,
    ) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(MAX_PLAINTEXT)];
        scratch::with(|Scratch { records, .. }| self.seal_and_send(socket, bytes, records, more))?;
        Ok(bytes.len())
    }

    /// [`Session::write`] for `length` bytes, of which `fill` gives the first ones.
    ///
    /// # Errors
    /// As [`Session::write`], and that of `fill`.
    pub(super) fn write_from(
        &mut self,
        socket: &impl RawSocket,
        length: u64,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        let length = usize::try_from(length).map_or(MAX_PLAINTEXT, |it| it.min(MAX_PLAINTEXT));
        if !self.corked {
            self.flush(socket)?;
        }
        scratch::with(
            |Scratch {
                 plaintext, records, ..
             }| {
                let bytes = &mut plaintext[..length];
                fill(bytes)?;
                self.seal_and_send(socket, bytes, records, false)
            },
        )?;
        Ok(length)
    }

    fn seal_and_send(
        &mut self,
        socket: &impl RawSocket,
        bytes: &[u8],
        records: &mut [u8],
        more: bool,
    ) -> io::Result<()> {
        let mut filled = 0;
        if self.corked {
            filled = self.outgoing.len();
            filled -= self.sent;
            records[..filled].copy_from_slice(&self.outgoing[self.sent..]);
            self.outgoing = Vec::new();
            self.sent = 0;
            self.corked = false;
        } else {
            self.flush(socket)?;
        }
        filled += self.seal(&mut records[filled..], |traffic, room| {
            traffic.encrypt(bytes, room)
        })?;
        self.limit.count(bytes.len())?;
        self.outgoing = match more {
            true => records[..filled].to_vec(),
            false => {
                let sent = send_all(socket, &records[..filled])?;
                records[sent..filled].to_vec()
            }
        };
        self.corked = more;
        Ok(())
    }

    /// Has `write` encrypt into `records`; returns the length of what is there then.
    fn seal(
        &mut self,
        records: &mut [u8],
        write: impl Fn(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut filled = 0;
        loop {
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.incoming);
            let mut written = None;
            match state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let count =
                        write(&mut traffic, &mut records[filled..]).map_err(
                            |error| match error {
                                EncryptError::EncryptExhausted => key_limit::exhausted(),
                                EncryptError::InsufficientSize(_) => {
                                    io::Error::other(error.to_string())
                                }
                            },
                        )?;
                    written = Some(filled + count);
                }
                // What rustls has to say of its own goes out first.
                ConnectionState::EncodeTlsData(mut data) => {
                    let encoded = data.encode(&mut records[filled..]);
                    filled += encoded.map_err(|error| io::Error::other(error.to_string()))?;
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.peer_closed = true,
                // Records are opened as they come, so none can be left here.
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.incoming.drain(..discard);
            if let Some(written) = written {
                return Ok(written);
            }
        }
    }

    /// Sends the records that wait.
    ///
    /// # Errors
    /// `WouldBlock` if some still wait; the connection's end.
    pub(super) fn flush(&mut self, socket: &impl RawSocket) -> io::Result<()> {
        while self.sent < self.outgoing.len() {
            self.sent += socket.send(&self.outgoing[self.sent..])?;
        }
        // Freed, not cleared: few connections have something here.
        self.outgoing = Vec::new();
        self.sent = 0;
        self.corked = false;
        Ok(())
    }

    /// Queues the word that nothing more is sent (`close_notify`, RFC 8446 §6.1).
    ///
    /// # Errors
    /// The connection has ended.
    pub(super) fn queue_close_notify(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        self.closed = true;
        scratch::with(|Scratch { records, .. }| {
            let filled = self.seal(records, |traffic, room| traffic.queue_close_notify(room))?;
            self.outgoing.extend_from_slice(&records[..filled]);
            Ok(())
        })
    }
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::server::ServerConnectionData>;

/// Sends of `bytes` what the socket takes.
fn send_all(socket: &impl RawSocket, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.send(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // The records are counted: a call that encrypts again must not lose them.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Appends a record of the handshake to `out`.
pub(super) fn encode<D>(data: &mut EncodeTlsData<'_, D>, out: &mut Vec<u8>) -> io::Result<()> {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
        data.encode(&mut [])
    else {
        return Ok(());
    };
    out.resize(start + required_size, 0);
    let encoded = data.encode(&mut out[start..]);
    encoded.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(())
}
