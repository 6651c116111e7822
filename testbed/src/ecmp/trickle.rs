//! Connections over which little goes: each byte that a client sends comes back.

use std::collections::HashMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use netbed::{Host, TIME_LIMIT};
use nix::sched::{CloneFlags, unshare};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Number of the listener among the events of an echo server.
const LISTENER: u64 = u64::MAX;
/// Interval at which a thread sees that it is to end.
const PAUSE_MS: u16 = 100;
/// Connections that are probed at the same time.
const BATCH: usize = 256;

/// Sends back what it receives, until it is dropped.
#[derive(Debug)]
pub(super) struct EchoServer {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    pub(super) fn start(host: &Host, port: u16) -> Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ends);
        let (sender, started) = std::sync::mpsc::channel();
        let thread = host.thread(move || {
            // A table of descriptors of its own: the limit of their number is one of a table.
            let unshared = unshare(CloneFlags::CLONE_FILES).map_err(std::io::Error::from);
            let listener = unshared.and_then(|()| {
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            match listener {
                Ok(listener) => {
                    let _ = sender.send(Ok(()));
                    serve(&listener, &seen).expect("epoll works");
                }
                Err(error) => drop(sender.send(Err(error))),
            }
        });
        started
            .recv()
            .context("the thread has ended")?
            .with_context(|| format!("no echo server on {}", host.name()))?;
        Ok(Self {
            ends,
            thread: Some(thread),
        })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, ends: &AtomicBool) -> nix::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::empty())?;
    epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
    let mut streams: HashMap<u64, TcpStream> = HashMap::new();
    let mut events = [EpollEvent::empty(); 64];
    while !ends.load(Ordering::Relaxed) {
        let count = epoll.wait(&mut events, EpollTimeout::from(PAUSE_MS))?;
        for event in &events[..count] {
            if event.data() != LISTENER {
                if streams.get_mut(&event.data()).is_some_and(|it| !echo(it)) {
                    streams.remove(&event.data());
                }
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                let number = stream.as_raw_fd() as u64;
                if stream.set_nonblocking(true).is_ok() {
                    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
                    streams.insert(number, stream);
                }
            }
        }
    }
    Ok(())
}

/// Sends back what has come; false at the end of the connection.
fn echo(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 512];
    match stream.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => stream.write_all(&bytes[..count]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// Connections of one client.
#[derive(Debug)]
pub struct Connections {
    streams: Vec<TcpStream>,
}

impl Connections {
    /// Opens so many, one after the other.
    pub(super) fn open(client: &Host, to: SocketAddrV4, count: usize) -> Result<Self> {
        let opened = client.thread(move || {
            (0..count)
                .map(|_| {
                    let stream = TcpStream::connect_timeout(&to.into(), TIME_LIMIT)?;
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    Ok(stream)
                })
                .collect::<std::io::Result<Vec<_>>>()
        });
        let streams = opened.join().expect("connecting does not panic");
        Ok(Self {
            streams: streams.context("a connection is refused")?,
        })
    }

    /// Takes others in.
    pub fn append(&mut self, mut others: Self) {
        self.streams.append(&mut others.streams);
    }

    /// Number of connections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Sends a byte over each and waits until it is back; returns the number of
    /// connections that are broken: reset, or silent for the time limit.
    pub fn broken(&mut self) -> usize {
        let batches = self.streams.chunks_mut(BATCH);
        batches.map(broken_of).sum()
    }
}

fn broken_of(streams: &mut [TcpStream]) -> usize {
    let mut waiting: Vec<&mut TcpStream> = Vec::new();
    let mut broken = 0;
    for stream in streams {
        match stream.write_all(b"?") {
            Ok(()) => waiting.push(stream),
            Err(_) => broken += 1,
        }
    }
    let deadline = Instant::now() + TIME_LIMIT;
    while !waiting.is_empty() && Instant::now() < deadline {
        waiting.retain_mut(|stream| {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => false,
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                _ => {
                    broken += 1;
                    false
                }
            }
        });
        std::thread::sleep(Duration::from_millis(5));
    }
    broken + waiting.len()
}
