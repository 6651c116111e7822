//! TLS of one connection in user space, after its handshake.
//!
//! A connection holds nothing but its keys while all is quiet. Part of a record that has
//! come, and records that the socket does not take, are kept for as long as they wait.

use std::io;

use serde::{Deserialize, Serialize};
use tls_record::{Content, RecordError, RecordLayer, State, alert};

use super::key_limit::KeyLimit;
use super::scratch::{self, MAX_PLAINTEXT, Scratch};
use super::tickets::Tickets;
use super::{MAX_RECORD, RawSocket};
use crate::hand_over::HandOverError;

/// The most bytes of records that wait for those that follow.
const MAX_CORKED: usize = 2 * MAX_RECORD;

/// Our side of a TLS connection after the handshake.
#[derive(Debug)]
pub(super) struct Session {
    layer: RecordLayer,
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
    /// That of a key of TLS 1.2. In TLS 1.3, another key is taken in time.
    pub(super) limit: KeyLimit,
    /// Where the server's tickets go. Not handed over: a connection needs none.
    tickets: Option<Tickets>,
}

/// A [`Session`] for the program that the process becomes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SessionPart {
    state: State,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    incoming: Vec<u8>,
    #[serde(with = "rtmp_proto::wire::bytes_format")]
    outgoing: Vec<u8>,
    corked: bool,
    peer_closed: bool,
    closed: bool,
    failed: bool,
    records_left: u64,
}

impl Session {
    /// A session after its handshake, whose last record was the last that was read.
    pub(super) fn new(layer: RecordLayer, limit: KeyLimit, tickets: Option<Tickets>) -> Self {
        Self {
            layer,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            corked: false,
            peer_closed: false,
            closed: false,
            failed: false,
            limit,
            tickets,
        }
    }

    /// What the program that the process becomes goes on with. Then this one must not.
    pub(super) fn part(&self) -> SessionPart {
        SessionPart {
            state: self.layer.state(),
            incoming: self.incoming.clone(),
            outgoing: self.outgoing[self.sent..].to_vec(),
            corked: self.corked,
            peer_closed: self.peer_closed,
            closed: self.closed,
            failed: self.failed,
            records_left: self.limit.left(),
        }
    }

    /// Goes on with a session that this process has had before.
    ///
    /// # Errors
    /// Its secrets are none of its cipher, or there is no room for what has come.
    pub(super) fn resume(part: SessionPart) -> Result<Self, HandOverError> {
        // A whole record would have been decrypted.
        if part.incoming.len() >= MAX_RECORD {
            return Err(HandOverError::TlsRecord(part.incoming.len()));
        }
        Ok(Self {
            incoming: part.incoming,
            outgoing: part.outgoing,
            corked: part.corked,
            peer_closed: part.peer_closed,
            closed: part.closed,
            failed: part.failed,
            ..Self::new(
                RecordLayer::new(part.state)?,
                KeyLimit::of_records(part.records_left),
                None,
            )
        })
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
            // An alert or an answer. If the socket takes nothing now, it goes out with what is
            // sent next.
            match self.flush_and_answer(socket) {
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
        while !self.peer_closed {
            let opened = self.layer.open(&mut bytes[start..]);
            let Some(opened) = opened.map_err(|error| self.fail(error))? else {
                break;
            };
            match opened.content {
                Content::Data(payload) => {
                    count += payload.len();
                    sink(payload)?;
                }
                Content::CloseNotify => self.peer_closed = true,
                Content::Tickets(messages) => {
                    if let Some(tickets) = &mut self.tickets {
                        tickets.keep(messages);
                    }
                }
                Content::Nothing => {}
            }
            start += opened.length;
        }
        self.incoming = bytes[start..].to_vec();
        Ok(count)
    }

    /// Ends the connection for what came, and queues the alert that tells the peer of it.
    fn fail(&mut self, error: RecordError) -> io::Error {
        if let Some(description) = error.alert()
            && self.may_write()
        {
            let out = &mut self.outgoing;
            self.layer.append_alert(alert::FATAL, description, out);
        }
        self.failed = true;
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// True if records may follow those that were sent.
    fn may_write(&self) -> bool {
        !self.failed && !self.closed
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
        let length = bytes.len().min(MAX_PLAINTEXT);
        self.seal_and_send(socket, length, more, |room| {
            room.copy_from_slice(&bytes[..length]);
            Ok(())
        })
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
        self.seal_and_send(socket, length, false, fill)
    }

    fn seal_and_send(
        &mut self,
        socket: &impl RawSocket,
        length: usize,
        more: bool,
        fill: impl FnOnce(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<usize> {
        self.prepare(socket, length)?;
        scratch::with(|Scratch { records, .. }| {
            let waiting = &self.outgoing[self.sent..];
            let (waiting_room, room) = records.split_at_mut(waiting.len());
            waiting_room.copy_from_slice(waiting);
            fill(&mut room[self.layer.prefix()..][..length])?;
            let filled = waiting.len() + self.layer.seal(room, length);
            // Before it is sent: what is encrypted goes out once, whatever happens.
            self.outgoing = Vec::new();
            self.sent = 0;
            self.outgoing = match more {
                true => records[..filled].to_vec(),
                false => {
                    let sent = send_all(socket, &records[..filled])?;
                    records[sent..filled].to_vec()
                }
            };
            self.corked = more;
            Ok(length)
        })
    }

    /// Leaves in `outgoing` only what is to go out together with `length` bytes of data.
    fn prepare(&mut self, socket: &impl RawSocket, length: usize) -> io::Result<()> {
        if !self.may_write() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.corked || self.outgoing.len() > MAX_CORKED {
            self.flush(socket)?;
        }
        if self.layer.has_answer(length) {
            self.layer.answer(&mut self.outgoing);
            self.corked = true;
        }
        self.limit.count(length)
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

    /// Sends the records that wait, then the answer that the peer wants. While something waits,
    /// it is put off: one is enough for several requests.
    fn flush_and_answer(&mut self, socket: &impl RawSocket) -> io::Result<()> {
        self.flush(socket)?;
        if self.layer.has_answer(0) && self.may_write() {
            self.layer.answer(&mut self.outgoing);
            self.flush(socket)?;
        }
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
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.closed = true;
        let out = &mut self.outgoing;
        self.layer
            .append_alert(alert::WARNING, alert::CLOSE_NOTIFY, out);
        Ok(())
    }
}

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

#[cfg(test)]
impl SessionPart {
    /// A part of a record of so many bytes has come.
    pub(super) fn with_incoming(mut self, length: usize) -> Self {
        self.incoming = vec![0x17; length];
        self
    }
}
