//! The Ethernet header and up to two VLAN tags.

use lb_abi::{MAX_TAGS, Reason};

use crate::frame::Frame;
use crate::headers::{ETHERTYPE_CUSTOMER_TAG, ETHERTYPE_SERVICE_TAG, Ethernet, VlanTag};

pub struct Link {
    /// Type of what follows the tags.
    pub ethertype: u16,
    /// Offset of what follows the tags.
    pub payload: usize,
    pub tag_count: u32,
}

#[inline(always)]
pub fn header(frame: &Frame) -> Result<Link, Reason> {
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
        let tag: &VlanTag = frame.header(link.payload).ok_or(Reason::Truncated)?;
        link.ethertype = tag.ethertype;
        link.payload += size_of::<VlanTag>();
        link.tag_count += 1;
    }
    if is_tag(link.ethertype) {
        Err(Reason::ManyTags)
    } else {
        Ok(link)
    }
}

#[inline(always)]
pub fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_CUSTOMER_TAG || ethertype == ETHERTYPE_SERVICE_TAG
}
