//! Network interfaces.

use net_types::MacAddress;
use std::io;

use futures_util::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};

use super::io_error;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its own MAC address, if it is of the Ethernet kind.
    pub mac: Option<MacAddress>,
    /// The largest packet that it takes, in bytes.
    pub mtu: u32,
    /// Its tag, if it is a VLAN interface.
    pub vlan: Option<VlanLink>,
    /// True if it is up and has a carrier.
    pub running: bool,
}

/// A VLAN interface: frames leave by the interface below it, with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanLink {
    /// Index of the interface below.
    pub lower: u32,
    /// VLAN number.
    pub number: u16,
    /// True if the tag is a provider's (IEEE 802.1ad), not a customer's (802.1Q).
    pub is_provider: bool,
}

impl VlanLink {
    /// The tag of an interface with `lower` as its `IFLA_LINK`; `None` for interfaces of
    /// other kinds.
    fn new(lower: u32, info: &[LinkInfo]) -> Option<Self> {
        let attributes = info.iter().find_map(|info| match info {
            LinkInfo::Data(InfoData::Vlan(attributes)) => Some(attributes),
            _ => None,
        })?;
        let mut vlan = Self {
            lower,
            number: 0,
            is_provider: false,
        };
        for attribute in attributes {
            match attribute {
                InfoVlan::Id(number) => vlan.number = *number,
                InfoVlan::Protocol(protocol) => {
                    vlan.is_provider = *protocol == VlanProtocol::Ieee8021Ad;
                }
                _ => {}
            }
        }
        Some(vlan)
    }
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut name = String::new();
        let mut mac = None;
        let mut mtu = 0;
        let mut lower = None;
        let mut info = &[][..];
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name.clone_from(text),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                LinkAttribute::Link(index) => lower = Some(*index),
                LinkAttribute::LinkInfo(attributes) => info = attributes,
                LinkAttribute::Address(bytes) => {
                    // The loopback interface has all zeros, which is no address.
                    mac = <[u8; 6]>::try_from(bytes.as_slice())
                        .ok()
                        .filter(|mac| *mac != [0; 6])
                        .map(MacAddress);
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
            mtu,
            vlan: lower.and_then(|lower| VlanLink::new(lower, info)),
            running,
        }
    }
}

/// All interfaces.
///
/// # Errors
/// The kernel does not answer.
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

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{Emitable as _, Parseable as _};
    use rtnetlink::packet_route::link::InfoKind;

    use super::*;

    /// A link as it comes over the wire.
    fn received(attributes: Vec<LinkAttribute>) -> Link {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.attributes = attributes;
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        let message = LinkMessage::parse(&bytes).expect("a link message");
        Link::from(&message)
    }

    fn vlan(protocol: VlanProtocol) -> LinkAttribute {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(vec![
                InfoVlan::Id(42),
                InfoVlan::Protocol(protocol),
            ])),
        ])
    }

    #[test]
    fn a_vlan_interface_tells_of_its_tag_and_of_what_is_below() {
        for (protocol, is_provider) in [
            (VlanProtocol::Ieee8021Q, false),
            (VlanProtocol::Ieee8021Ad, true),
        ] {
            let link = received(vec![
                LinkAttribute::IfName("eth2.42".to_owned()),
                LinkAttribute::Mtu(1496),
                LinkAttribute::Link(2),
                vlan(protocol),
            ]);
            let expected = VlanLink {
                lower: 2,
                number: 42,
                is_provider,
            };
            assert_eq!((link.vlan, link.mtu), (Some(expected), 1496));
        }
    }

    #[test]
    fn the_other_end_of_a_cable_is_not_below() {
        let link = received(vec![
            LinkAttribute::Link(2),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ]);
        assert_eq!(link.vlan, None);
    }
}
