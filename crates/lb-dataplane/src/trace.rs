//! The trace: one log line for each decision of the XDP program.
//!
//! The lines come through a ring buffer that belongs to the program. It is not
//! pinned: a program that replaces this one has a ring of its own. Without a reader it
//! fills up, and lines are lost, nothing else.

use std::io::{PipeWriter, pipe};
use std::net::Ipv6Addr;
use std::os::fd::AsFd as _;
use std::thread;

use aya::{Ebpf, EbpfLoader};
use aya_log::{EbpfLogger, LEVEL, Level};
use lb_abi::maps;
use log::{Log, Metadata, Record};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::Error;

/// The constant that switches tracing at load: where it is off, the verifier removes the
/// code.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    level: u8,
    ring_bytes: u32,
}

impl Setting {
    pub(crate) fn new(trace: bool) -> Self {
        // A page is the least that a ring can have.
        let (level, ring_bytes) = if trace {
            (Level::Debug as u8, RING_BYTES)
        } else {
            (0, 1)
        };
        Self { level, ring_bytes }
    }

    pub(crate) fn give<'a>(&'a self, loader: &mut EbpfLoader<'a>) {
        loader
            .override_global(LEVEL, &self.level, true)
            .map_max_entries(maps::TRACE, self.ring_bytes);
    }
}

/// A thousand lines or two.
const RING_BYTES: u32 = 1 << 18;

/// A thread that writes the program's lines to our log; dropping this ends it.
pub(crate) struct Trace {
    _end: PipeWriter,
}

impl Trace {
    /// Follows the program that has just been loaded.
    ///
    /// # Errors
    /// [`Error::Trace`].
    pub(crate) fn follow(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let mut lines = EbpfLogger::init_with_logger(ebpf, InTheirOwnForm(log::logger()))
            .map_err(|error| Error::Trace(Box::new(error)))?;
        let (ended, end) = pipe().map_err(|error| Error::Trace(Box::new(error)))?;
        let follow = move || {
            loop {
                let mut events = [
                    PollFd::new(lines.as_fd(), PollFlags::POLLIN),
                    PollFd::new(ended.as_fd(), PollFlags::POLLIN),
                ];
                let polled = poll(&mut events, PollTimeout::NONE);
                let is_over = events[1].any().unwrap_or(true);
                if is_over || polled.is_err_and(|error| error != nix::errno::Errno::EINTR) {
                    return;
                }
                lines.flush();
            }
        };
        thread::Builder::new()
            .name("trace".to_owned())
            .spawn(follow)
            .map_err(|error| Error::Trace(Box::new(error)))?;
        Ok(Self { _end: end })
    }
}

/// A log in which addresses stand as people write them: the program tells
/// those of IPv4 as `::ffff:a.b.c.d`, too.
struct InTheirOwnForm<L>(L);

impl<L: Log> Log for InTheirOwnForm<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let line = in_their_own_form(&record.args().to_string());
        self.0.log(
            &Record::builder()
                .metadata(record.metadata().clone())
                .args(format_args!("{line}"))
                .module_path(record.module_path())
                .build(),
        );
    }

    fn flush(&self) {
        self.0.flush();
    }
}

fn in_their_own_form(line: &str) -> String {
    let words = line.split_ascii_whitespace().map(|word| {
        let address: Result<Ipv6Addr, _> = word.parse();
        address.map_or_else(
            |_| word.to_owned(),
            |address| address.to_canonical().to_string(),
        )
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_in_the_form_of_their_family() {
        assert_eq!(
            in_their_own_form(
                "tcp from ::ffff:203.0.113.5 port 9 to 2001:db8::ffff:1: no-server   "
            ),
            "tcp from 203.0.113.5 port 9 to 2001:db8::ffff:1: no-server"
        );
        assert_eq!(
            in_their_own_form("server 2001:db8::ffff:1 port 1935"),
            "server 2001:db8::ffff:1 port 1935"
        );
    }
}
