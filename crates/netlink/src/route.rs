//! Routes of this machine.

use std::io;
use std::net::IpAddr;

use futures_util::StreamExt as _;
use net_types::Network;
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

/// A route in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoute {
    /// The network that it leads to, and its prefix length; bits beyond that are
    /// ignored.
    pub destination: (IpAddr, u8),
    /// Its type: unicast, blackhole …
    pub kind: RouteType,
    /// The router.
    pub via: Option<IpAddr>,
    /// Index of the interface.
    pub interface_index: Option<u32>,
    /// Source address of packets of our own.
    pub source: Option<IpAddr>,
    /// Number of the table.
    pub table: u32,
    /// Metric: of several routes the one with the lowest is used.
    pub metric: Option<u32>,
    /// The largest packet, in bytes.
    pub mtu: Option<u32>,
    /// Its scope.
    pub scope: RouteScope,
    /// True if the router is on the interface's own segment, whatever its address.
    pub onlink: bool,
    /// Several routers in place of one (multipath).
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
    /// True if it is on the interface's own segment, whatever its address.
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

/// Removes a route; returns true if it was there.
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
    let destination = Network::new(address, prefix_length).first();
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        // The kernel refuses a destination with bits beyond the prefix.
        .destination_prefix(destination, prefix_length)
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
