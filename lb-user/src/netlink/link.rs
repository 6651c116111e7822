//! Network interfaces.

use std::io;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::{errno, io_error};

/// A MAC address.
pub type Mac = [u8; 6];

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC address, if it is of the Ethernet kind.
    pub mac: Option<Mac>,
    /// Whether it is up and has a carrier.
    pub running: bool,
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut name = String::new();
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name.clone_from(text),
                LinkAttribute::Address(bytes) => {
                    // The loopback's is all zeros, which is nobody's.
                    mac = bytes
                        .as_slice()
                        .try_into()
                        .ok()
                        .filter(|mac| *mac != [0; 6]);
                }
                _ => {}
            }
        }
        let running = message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running);
        Self {
            index: message.header.index,
            name,
            mac,
            running,
        }
    }
}

/// All interfaces.
///
/// # Errors
/// The kernel does not tell.
pub async fn all(handle: &Handle) -> io::Result<Vec<Link>> {
    handle
        .link()
        .get()
        .execute()
        .map_ok(|message| Link::from(&message))
        .try_collect()
        .await
        .map_err(io_error)
}

/// The interface of a name; `None` if there is none.
///
/// # Errors
/// The kernel does not tell.
pub async fn by_name(handle: &Handle, name: &str) -> io::Result<Option<Link>> {
    match handle
        .link()
        .get()
        .match_name(name)
        .execute()
        .try_next()
        .await
    {
        Ok(message) => Ok(message.as_ref().map(Link::from)),
        Err(error) if errno(&error) == Some(Errno::ENODEV) => Ok(None),
        Err(error) => Err(io_error(error)),
    }
}
