//! The floor: the least that sending a stream to many sockets from a file in
//! memory costs. It appends pictures to a `memfd`, gathers as our servers do,
//! calls `sendfile` for every socket, and does nothing else: no protocol, no
//! sessions, no skipping.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Args;
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        memfd::{MFdFlags, memfd_create},
        sendfile::sendfile64,
    },
};

/// Pictures that the file holds; a socket that falls further behind is closed.
const RING_PICTURES: u64 = 512;
const LISTENER: u64 = u64::MAX;

/// What to send, and when.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Port on the loopback address.
    #[arg(long)]
    pub(crate) port: u16,

    /// Microseconds from one picture to the next.
    #[arg(long)]
    pub(crate) picture_us: u64,

    /// Bytes of a picture.
    #[arg(long)]
    pub(crate) picture_bytes: u64,

    /// Microseconds from a picture until it is sent, with all that has come
    /// meanwhile; 0: each at once.
    #[arg(long)]
    pub(crate) gather_us: u64,
}

struct Receiver {
    socket: TcpStream,
    /// Bytes of the stream that it has been sent.
    position: u64,
}

struct Floor {
    log: File,
    ring_bytes: u64,
    /// Bytes that the stream has by now.
    end: u64,
    /// Bytes that are to be sent by now.
    sendable: u64,
    epoll: Epoll,
    listener: TcpListener,
    /// As with our servers: on where nothing is gathered. Where it is off, the
    /// rest of a batch that is no full segment goes out with an
    /// acknowledgement, at the expense of the core that this comes in on.
    nodelay: bool,
    receivers: Vec<Option<Receiver>>,
}

/// Sends until it is killed.
///
/// # Errors
/// If the system refuses what it needs.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let address = (Ipv4Addr::LOCALHOST, options.port);
    let listener = TcpListener::bind(address)
        .with_context(|| format!("port {} for the floor", options.port))?;
    listener.set_nonblocking(true)?;
    let log: OwnedFd = memfd_create("floor", MFdFlags::MFD_CLOEXEC)?;
    let log = File::from(log);
    let ring_bytes = RING_PICTURES * options.picture_bytes;
    log.set_len(ring_bytes)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut floor = Floor {
        log,
        ring_bytes,
        end: 0,
        sendable: 0,
        epoll,
        listener,
        nodelay: options.gather_us == 0,
        receivers: Vec::new(),
    };

    let picture = vec![0x5a; options.picture_bytes as usize];
    let interval = Duration::from_micros(options.picture_us);
    let gather = Duration::from_micros(options.gather_us);
    let mut next_picture = Instant::now() + interval;
    // Counted from the first picture that waits, as our servers do.
    let mut flush_at = None;
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let wait = flush_at
            .map_or(next_picture, |at: Instant| at.min(next_picture))
            .saturating_duration_since(Instant::now())
            .as_micros()
            .div_ceil(1000);
        let timeout = EpollTimeout::try_from(wait as i32)?;
        let count = match floor.epoll.wait(&mut events, timeout) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            match event.data() {
                LISTENER => floor.accept()?,
                index => floor.send(index as usize),
            }
        }
        let now = Instant::now();
        // What is overdue goes out together, as it does with a server.
        while now >= next_picture {
            next_picture += interval;
            floor.append(&picture)?;
            flush_at.get_or_insert(now + gather);
        }
        if flush_at.is_some_and(|at| at <= now) {
            flush_at = None;
            floor.flush();
        }
    }
}

impl Floor {
    fn append(&mut self, picture: &[u8]) -> io::Result<()> {
        self.log.write_all_at(picture, self.end % self.ring_bytes)?;
        self.end += picture.len() as u64;
        Ok(())
    }

    fn flush(&mut self) {
        self.sendable = self.end;
        for index in 0..self.receivers.len() {
            self.send(index);
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            socket.set_nonblocking(true)?;
            socket.set_nodelay(self.nodelay)?;
            // Edge-triggered: told only when a full socket has room again.
            let events = EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
            let index = self.receivers.len() as u64;
            self.epoll.add(&socket, EpollEvent::new(events, index))?;
            self.receivers.push(Some(Receiver {
                socket,
                position: self.sendable,
            }));
        }
    }

    fn send(&mut self, index: usize) {
        let Some(receiver) = &mut self.receivers[index] else {
            return;
        };
        while receiver.position < self.sendable {
            let offset = receiver.position % self.ring_bytes;
            let length = (self.sendable - receiver.position).min(self.ring_bytes - offset);
            let mut from = offset as i64;
            let sent = sendfile64(
                receiver.socket.as_fd(),
                self.log.as_fd(),
                Some(&mut from),
                length as usize,
            );
            match sent {
                Ok(count) => receiver.position += count as u64,
                Err(Errno::EAGAIN) if self.end - receiver.position < self.ring_bytes => return,
                // Gone, or hopelessly behind.
                Err(_) => {
                    self.receivers[index] = None;
                    return;
                }
            }
        }
    }
}
