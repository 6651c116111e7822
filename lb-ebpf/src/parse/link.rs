//! The Ethernet header and up to two VLAN tags.

use lb_abi::{MAX_TAGS, Reason, VlanTag};

use crate::frame::Frame;
use crate::headers::{Ethernet, is_tag};

/// The headers before the IP header.
pub(super) struct Link {
    /// Type of the payload.
    pub(super) ethertype: u16,
    /// Offset of the payload.
    pub(super) payload: usize,
    pub(super) tag_count: u32,
}

/// A VLAN tag, and the type of what follows it.
#[repr(C)]
struct Tagged {
    tag: VlanTag,
    ethertype: u16,
}

/// Reads the Ethernet header and the tags.
#[inline(always)]
pub(super) fn header(frame: &Frame) -> Result<Link, Reason> {
    let ethernet: &Ethernet = frame.header(0).ok_or(Reason::Truncated)?;
    let mut link = Link {
        ethertype: ethernet.ethertype,
        payload: size_of::<Ethernet>(),
        tag_count: 0,
    };
    for _ in 0..MAX_TAGS {
        if !is_tag(link.ethertype) {
            return Ok(link);
        }
        // A tag begins with the type that announces it.
        let tagged: &Tagged = frame
            .header(link.payload - size_of::<u16>())
            .ok_or(Reason::Truncated)?;
        link.ethertype = tagged.ethertype;
        link.payload += size_of::<VlanTag>();
        link.tag_count += 1;
    }
    if is_tag(link.ethertype) {
        Err(Reason::ManyTags)
    } else {
        Ok(link)
    }
}
