//! The sockets of a worker's publishers and players: opened, read from, written to.

use std::{cmp::Reverse, io};

use nix::{
    errno::Errno,
    sys::epoll::{EpollEvent, EpollFlags},
};

use super::{READ_BYTES, Worker};
use crate::{
    clock::Instant,
    dialogue::MAX_CONNECTIONS,
    link::{Link, open, plain},
    options::Receiver,
    player::EndCause,
    slot::{Peer, key},
};

/// Reads from one socket before the others have their turn.
const READS_PER_TURN: usize = 4;
/// Bytes that coroutines on state threads read at once (sb_rtmp_load's
/// `SOCK_READ_BUFFER`).
const COROUTINE_READ_BYTES: usize = 4096;

impl Worker {
    pub(super) fn open(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        let slot = &mut self.slots[index];
        let tls = slot.server.tls.as_ref().map(|server| server.connect());
        let tls = tls
            .transpose()
            .map_err(|error| EndCause::Connect(error.to_string()))?;
        let socket = open(slot.server.address, slot.bind)?;
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        self.epoll
            .add(&socket, EpollEvent::new(interest, key(index, connection)))
            .map_err(|error| EndCause::Connect(error.to_string()))?;
        slot.links[connection] = Some(Link {
            socket,
            tls,
            connecting: true,
            interest,
        });
        Ok(())
    }

    pub(super) fn ready(&mut self, index: usize, connection: usize, flags: EpollFlags) {
        let link = self.slots[index].links[connection].as_ref();
        let result = match link.map(|link| link.connecting) {
            None => return,
            Some(true) => self.finish_connecting(index, connection),
            Some(false) if flags.contains(EpollFlags::EPOLLOUT) => self
                .flush(index, connection)
                .and_then(|()| self.receive(index, connection)),
            Some(false) if self.reads_as_coroutine(index) => {
                self.receive_as_coroutine(index, connection)
            }
            Some(false) => self.receive(index, connection),
        };
        if let Err(cause) = result {
            self.end(index, &cause);
        }
    }

    fn finish_connecting(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        let slot = &mut self.slots[index];
        let Some(link) = &mut slot.links[connection] else {
            return Ok(());
        };
        match link.socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(EndCause::Connect(plain(&error))),
        }
        link.connecting = false;
        if let Peer::Player(player) = &mut slot.peer {
            player.connected(Instant::now(), &mut self.tally);
        }
        self.flush(index, connection)
    }

    /// Sends what a dialogue has to send, opens the connections that it needs
    /// for that, and sets its timer.
    pub(super) fn serve(&mut self, index: usize) -> Result<(), EndCause> {
        for connection in 0..MAX_CONNECTIONS {
            let slot = &self.slots[index];
            let link = &slot.links[connection];
            let wants_write = link.as_ref().is_some_and(Link::wants_write);
            if slot.outboxes[connection].is_empty() && !wants_write {
                continue;
            }
            match link {
                Some(_) => self.flush(index, connection)?,
                None => self.open(index, connection)?,
            }
        }
        let slot = &mut self.slots[index];
        if let Peer::Player(player) = &slot.peer
            && let Some(at) = player.wakes_at()
            && slot.wakes_at != Some(at)
        {
            slot.wakes_at = Some(at);
            self.timers.push(Reverse((at, index)));
        }
        Ok(())
    }

    fn reads_as_coroutine(&self, index: usize) -> bool {
        self.receiver == Receiver::Coroutines
            && matches!(&self.slots[index].peer, Peer::Player(player) if player.is_playing())
    }

    /// Takes the socket out of the event queue, reads until it is empty, and
    /// waits for it again.
    fn receive_as_coroutine(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        let refused = |error: Errno| EndCause::Connect(error.to_string());
        if let Some(link) = &self.slots[index].links[connection] {
            self.epoll.delete(&link.socket).map_err(refused)?;
        }
        self.read(
            index,
            connection,
            COROUTINE_READ_BYTES,
            READ_BYTES / COROUTINE_READ_BYTES,
        )?;
        if let Some(link) = &self.slots[index].links[connection] {
            let event = EpollEvent::new(link.interest, key(index, connection));
            self.epoll.add(&link.socket, event).map_err(refused)?;
        }
        self.serve(index)
    }

    fn receive(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        self.read(index, connection, READ_BYTES, READS_PER_TURN)?;
        self.serve(index)
    }

    /// Reads from a socket so many times, or until it is empty.
    fn read(
        &mut self,
        index: usize,
        connection: usize,
        max_bytes: usize,
        times: usize,
    ) -> Result<(), EndCause> {
        let slot = &mut self.slots[index];
        let Some(link) = &mut slot.links[connection] else {
            return Ok(());
        };
        for _ in 0..times {
            let discardable = match &slot.peer {
                // What is enciphered has to be read.
                Peer::Player(player) if link.tls.is_none() => player.discardable(connection),
                _ => 0,
            };
            let most = match discardable {
                0 => max_bytes,
                discardable => discardable.min(max_bytes),
            };
            let count = match link.read(&mut self.buffer[..most], discardable > 0) {
                Ok(0) => return self.closed(index, connection),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let progress = slot.peer.progress();
                    return Err(EndCause::Broken {
                        error: plain(&error),
                        progress,
                    });
                }
            };
            let now = Instant::now();
            let bytes = &self.buffer[..count];
            let (outboxes, tally) = (&mut slot.outboxes, &mut self.tally);
            match &mut slot.peer {
                Peer::Player(player) => {
                    self.bytes += count as u64;
                    if self.delayed_acks {
                        link.delay_acks();
                    }
                    if discardable > 0 {
                        player.discard(now, connection, count, outboxes, tally)?;
                    } else {
                        player.receive(now, connection, bytes, outboxes, tally)?;
                    }
                }
                Peer::Publisher(publisher) => {
                    if publisher.receive(now, bytes, &mut outboxes[0])? {
                        self.control.publisher_ready();
                    }
                }
            }
            // A coroutine finds a socket empty by reading from it.
            if count < most && max_bytes == READ_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// The server has closed a connection.
    fn closed(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        let slot = &mut self.slots[index];
        match &mut slot.peer {
            Peer::Player(player) => {
                let now = Instant::now();
                player.closed(now, connection, &mut slot.outboxes, &mut self.tally)?;
                slot.links[connection] = None;
                Ok(())
            }
            Peer::Publisher(_) => Err(EndCause::Closed(slot.peer.progress())),
        }
    }

    /// Sends what the socket takes, and asks to be told when it takes more.
    pub(super) fn flush(&mut self, index: usize, connection: usize) -> Result<(), EndCause> {
        let slot = &mut self.slots[index];
        let Some(link) = &mut slot.links[connection] else {
            return Ok(());
        };
        let outbox = &mut slot.outboxes[connection];
        if link.connecting {
            return Ok(());
        }
        link.write(outbox).map_err(|error| {
            let progress = slot.peer.progress();
            EndCause::Broken {
                error: plain(&error),
                progress,
            }
        })?;
        let interest = match outbox.is_empty() && !link.wants_write() {
            true => EpollFlags::EPOLLIN,
            false => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        };
        if interest != link.interest {
            link.interest = interest;
            let mut event = EpollEvent::new(interest, key(index, connection));
            self.epoll
                .modify(&link.socket, &mut event)
                .map_err(|error| EndCause::Connect(error.to_string()))?;
        }
        Ok(())
    }
}
