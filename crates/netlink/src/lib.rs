//! Links, addresses and routes of this machine, over rtnetlink(7).

pub mod address;
pub mod interfaces;
pub mod link;
pub mod offload;
pub mod route;

use std::io;

use nix::errno::Errno;
use rtnetlink::Handle;
use tokio_util::task::AbortOnDropHandle;

/// A netlink connection for requests, closed when this is dropped, also if clones of the
/// handle are left.
#[derive(Debug)]
pub struct Connection {
    /// The handle for requests.
    pub handle: Handle,
    _task: AbortOnDropHandle<()>,
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
            _task: AbortOnDropHandle::new(tokio::spawn(connection)),
        })
    }
}

/// The error number of a kernel's answer.
pub fn errno(error: &rtnetlink::Error) -> Option<Errno> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message
            .code
            .map(|code| Errno::from_raw(code.get().saturating_neg())),
        _ => None,
    }
}

/// A kernel's answer as an I/O error.
pub fn io_error(error: rtnetlink::Error) -> io::Error {
    match errno(&error) {
        Some(errno) => errno.into(),
        None => io::Error::other(error),
    }
}
