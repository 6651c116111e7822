//! Links, addresses and routes of this machine, over rtnetlink(7).

pub mod address;
pub mod interfaces;
pub mod link;
pub mod merging;
pub mod route;

use std::io;

use nix::errno::Errno;
use rtnetlink::Handle;
use tokio::task::JoinHandle;

/// A netlink connection for requests, closed when this is dropped.
#[derive(Debug)]
pub struct Connection {
    /// Takes the requests.
    pub handle: Handle,
    task: JoinHandle<()>,
}

impl Connection {
    /// Connects; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self {
            handle,
            task: tokio::spawn(connection),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The kernel's answer as an error number.
pub fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message
            .code
            .map(|code| Errno::from_raw(code.get().saturating_neg())),
        _ => None,
    }
}

/// The kernel's answer as an I/O error.
pub fn io_error(error: rtnetlink::Error) -> io::Error {
    match errno(&error) {
        Some(errno) => errno.into(),
        None => io::Error::other(error),
    }
}
