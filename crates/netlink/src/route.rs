//! Routes of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::StreamExt as _;
use nix::errno::Errno;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteMessage, RouteMetric, RouteNextHop, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder, RouteNextHopBuilder};

use super::address::Added;
use super::{errno, io_error};

/// `RTPROT_KEEPALIVED` of linux/rtnetlink.h.
const PROTOCOL: u8 = 18;

/// A route as the kernel knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// The network that it leads to, and its prefix length; bits beyond that do
    /// not count.
    pub destination: (IpAddr, u8),
    /// What becomes of packets.
    pub kind: RouteType,
    /// The router.
    pub via: Option<IpAddr>,
    /// Index of the interface.
    pub interface_index: Option<u32>,
    /// Source address of packets of our own.
    pub source: Option<IpAddr>,
    /// Number of the table.
    pub table: u32,
    /// The lower, the sooner it is taken.
    pub metric: Option<u32>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// How far it leads.
    pub scope: RouteScope,
    /// Whether the router is on the interface's own segment.
    pub onlink: bool,
    /// Several routers in place of one.
    pub next_hops: Vec<KernelNextHop>,
}

/// One of several routers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelNextHop {
    /// Its address.
    pub via: Option<IpAddr>,
    /// Index of the interface; 0: where the router is.
    pub interface_index: u32,
    /// Its share of the traffic, 1 to 256.
    pub weight: u16,
    /// Whether it is on the interface's own segment.
    pub onlink: bool,
}

/// Adds a route before those that are like it, as keepalived does
/// (`ip route prepend`).
///
/// # Errors
/// The kernel refuses: `ENETUNREACH` while it cannot reach the router, `EPERM`
/// without `CAP_NET_ADMIN`.
pub async fn add(handle: &Handle, route: &KernelRoute) -> io::Result<Added> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message(route)?));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    let mut handle = handle.clone();
    let mut answers = handle.request(request).map_err(io_error)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return match io_error(rtnetlink::Error::NetlinkError(error)) {
                error if error.raw_os_error() == Some(Errno::EEXIST as i32) => {
                    Ok(Added::AlreadyThere)
                }
                error => Err(error),
            };
        }
    }
    Ok(Added::New)
}

/// Removes a route; returns whether it was there.
///
/// # Errors
/// The kernel refuses.
pub async fn remove(handle: &Handle, route: &KernelRoute) -> io::Result<bool> {
    match handle.route().del(message(route)?).execute().await {
        Ok(()) => Ok(true),
        Err(error) => match errno(&error) {
            Some(Errno::ESRCH | Errno::ENODEV) => Ok(false),
            _ => Err(io_error(error)),
        },
    }
}

fn message(route: &KernelRoute) -> io::Result<RouteMessage> {
    let (address, prefix_length) = route.destination;
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(network(address, prefix_length), prefix_length)
        .map_err(io::Error::other)?
        .kind(route.kind)
        .protocol(RouteProtocol::from(PROTOCOL))
        .scope(route.scope)
        .table_id(route.table);
    if let Some(via) = route.via {
        builder = builder.gateway(via).map_err(io::Error::other)?;
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(io::Error::other)?;
    }
    if let Some(index) = route.interface_index {
        builder = builder.output_interface(index);
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    if route.onlink && route.next_hops.is_empty() {
        builder = builder.onlink();
    }
    if !route.next_hops.is_empty() {
        let hops = route.next_hops.iter().map(|hop| next_hop(hop, address));
        builder = builder.multipath(hops.collect::<io::Result<_>>()?);
    }
    let mut message = builder.build();
    // No destination at all is the kernel's own way to say "any".
    if prefix_length == 0 {
        let attributes = &mut message.attributes;
        attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Destination(_)));
    }
    if let Some(mtu) = route.mtu {
        let metrics = vec![RouteMetric::Mtu(mtu)];
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    Ok(message)
}

fn next_hop(hop: &KernelNextHop, destination: IpAddr) -> io::Result<RouteNextHop> {
    let family = match destination {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    let mut builder = RouteNextHopBuilder::new(family)
        .interface(hop.interface_index)
        .weight(weight);
    if let Some(via) = hop.via {
        builder = builder.via(via).map_err(io::Error::other)?;
    }
    if hop.onlink {
        builder = builder.onlink();
    }
    Ok(builder.build())
}

/// An address without the bits beyond a prefix: the kernel refuses others.
fn network(address: IpAddr, prefix_length: u8) -> IpAddr {
    let length = u32::from(prefix_length);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - length.min(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_beyond_the_prefix_do_not_count() {
        let table = [
            ("10.1.2.3", 8, "10.0.0.0"),
            ("10.1.2.3", 32, "10.1.2.3"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("fd00::1:2", 112, "fd00::1:0"),
            ("fd00::1", 128, "fd00::1"),
            ("fd00::1", 0, "::"),
        ];
        for (address, length, expected) in table {
            let address = address.parse().expect("an address");
            assert_eq!(network(address, length).to_string(), expected);
        }
    }
}
