//! rtnetlink(7) messages to and from the [`Table`](super::table::Table)'s terms.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use super::table::{Key, Neighbor, Route};
use ::netlink::{errno, interfaces};

/// Looks up the route that a packet to `address` would take.
pub(super) async fn route_to(handle: &Handle, address: IpAddr) -> Route {
    match look_up(handle, address).await {
        Ok(Some(message)) if message.header.kind == RouteType::Local => Route::Local {
            interface_index: holder(handle, address).await,
        },
        Ok(Some(message)) => route(address, &message),
        Ok(None) => Route::None(format!("there is no route to {address}")),
        Err(error) => Route::None(match errno(&error) {
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {
                format!("there is no route to {address}")
            }
            Some(errno) => format!("the route to {address} forbids it: {}", errno.desc()),
            None => format!("the route to {address} cannot be looked up: {error}"),
        }),
    }
}

async fn look_up(
    handle: &Handle,
    address: IpAddr,
) -> Result<Option<RouteMessage>, rtnetlink::Error> {
    let widest = if address.is_ipv4() { 32 } else { 128 };
    let request = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, widest)
        .expect("a host's prefix is as long as its address")
        .build();
    handle.route().get(request).execute().try_next().await
}

/// Index of the interface that has `address`, which is one of this machine's; `None` if no
/// interface has it itself, as of most of 127.0.0.0/8.
async fn holder(handle: &Handle, address: IpAddr) -> Option<u32> {
    let interfaces = interfaces::read(handle).await.ok()?;
    let mut interfaces = interfaces.into_values();
    interfaces
        .find(|interface| interface.mac.is_some() && interface.addresses.contains(&address))
        .map(|interface| interface.index)
}

fn route(address: IpAddr, message: &RouteMessage) -> Route {
    match message.header.kind {
        RouteType::Broadcast | RouteType::Multicast | RouteType::Anycast => {
            return Route::None(format!("{address} is not the address of one host"));
        }
        _ => {}
    }
    let mut interface_index = None;
    let mut neighbor = address;
    let mut source = None;
    let mut mtu = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface_index = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => neighbor = (*gateway).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => neighbor = (*gateway).into(),
            RouteAttribute::Via(RouteVia::Inet(gateway)) => neighbor = (*gateway).into(),
            RouteAttribute::Via(RouteVia::Inet6(gateway)) => neighbor = (*gateway).into(),
            RouteAttribute::PrefSource(RouteAddress::Inet(ours)) => source = Some((*ours).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(ours)) => source = Some((*ours).into()),
            RouteAttribute::Metrics(metrics) => {
                // What the path takes, if a router has told; the interface
                // takes that much at least.
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(bytes) => Some(*bytes),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    match (interface_index, source) {
        (Some(interface_index), Some(source)) => Route::Via {
            interface_index,
            neighbor,
            source,
            mtu,
        },
        (None, _) => Route::None(format!("the route to {address} leaves by no interface")),
        (_, None) => Route::None(format!(
            "this machine has no address to reach {address} from"
        )),
    }
}

/// Makes the kernel find out, or confirm, a neighbour's MAC address.
///
/// `NTF_USE` does what a packet to it would do, without the packet.
pub(super) async fn resolve(
    handle: &Handle,
    interface_index: u32,
    address: IpAddr,
) -> Result<(), rtnetlink::Error> {
    handle
        .neighbours()
        .add(interface_index, address)
        .state(NeighbourState::None)
        .flags(NeighbourFlags::Use)
        .replace()
        .execute()
        .await
}

/// Makes the kernel ask a neighbour whether it still has its MAC address, by a
/// request to that MAC address alone.
///
/// # Errors
/// The kernel knows no MAC address of it.
pub(super) async fn confirm(
    handle: &Handle,
    interface_index: u32,
    address: IpAddr,
) -> Result<(), rtnetlink::Error> {
    handle
        .neighbours()
        .add(interface_index, address)
        .state(NeighbourState::Probe)
        .replace()
        .execute()
        .await
}

/// Makes the kernel forget a neighbour's MAC address.
///
/// # Errors
/// The kernel knows none.
pub(super) async fn forget(
    handle: &Handle,
    interface_index: u32,
    address: IpAddr,
) -> Result<(), rtnetlink::Error> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface_index;
    let (family, destination) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    handle.neighbours().del(message).execute().await
}

/// True if a message tells that a neighbour has confirmed its MAC address.
pub(super) fn is_confirmed(message: &NeighbourMessage) -> bool {
    message.header.state == NeighbourState::Reachable
}

/// All neighbours with the state that they are in.
pub(super) async fn neighbors(handle: &Handle) -> Result<Vec<(Key, Neighbor)>, rtnetlink::Error> {
    handle
        .neighbours()
        .get()
        .execute()
        .try_filter_map(async |message| Ok(neighbor(&message)))
        .try_collect()
        .await
}

/// A neighbour's interface and address, and its state; `None` for messages
/// that tell nothing of the kind.
pub(super) fn neighbor(message: &NeighbourMessage) -> Option<(Key, Neighbor)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice())
                    .ok()
                    .map(net_types::MacAddress);
            }
            _ => {}
        }
    }
    let state = match (message.header.state, mac) {
        (NeighbourState::Failed, _) => Neighbor::Failed,
        (NeighbourState::Incomplete | NeighbourState::None, _) | (_, None) => Neighbor::Incomplete,
        (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => Neighbor::Fixed(mac),
        (_, Some(mac)) => Neighbor::Known(mac),
    };
    Some(((message.header.ifindex, address?), state))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn message(state: NeighbourState, mac: Option<[u8; 6]>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 7;
        message.header.state = state;
        let address = NeighbourAddress::Inet(Ipv4Addr::new(10, 0, 0, 2));
        message
            .attributes
            .push(NeighbourAttribute::Destination(address));
        if let Some(mac) = mac {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        }
        message
    }

    #[test]
    fn a_mac_address_counts_in_every_state_but_failed_and_incomplete() {
        use NeighbourState::{
            Delay, Failed, Incomplete, Noarp, Permanent, Probe, Reachable, Stale,
        };
        let mac = [2, 0, 0, 0, 0, 9];
        let state = |state, mac| neighbor(&message(state, mac)).expect("it has an address").1;
        for known in [Reachable, Stale, Delay, Probe] {
            assert_eq!(
                state(known, Some(mac)),
                Neighbor::Known(mac.into()),
                "{known:?}"
            );
        }
        for fixed in [Permanent, Noarp] {
            assert_eq!(
                state(fixed, Some(mac)),
                Neighbor::Fixed(mac.into()),
                "{fixed:?}"
            );
        }
        assert_eq!(state(Failed, Some(mac)), Neighbor::Failed);
        assert_eq!(state(Failed, None), Neighbor::Failed);
        assert_eq!(state(Incomplete, Some(mac)), Neighbor::Incomplete);
        assert_eq!(state(Noarp, None), Neighbor::Incomplete);
    }

    #[test]
    fn a_gateway_of_the_other_family_is_the_neighbour() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        let gateway = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
        message.attributes.push(RouteAttribute::Oif(3));
        let source = Ipv4Addr::new(10, 0, 0, 1);
        let own = RouteAttribute::PrefSource(RouteAddress::Inet(source));
        message.attributes.push(own);
        let metrics = vec![RouteMetric::Hoplimit(9), RouteMetric::Mtu(1400)];
        message.attributes.push(RouteAttribute::Metrics(metrics));
        message
            .attributes
            .push(RouteAttribute::Via(RouteVia::Inet6(gateway)));
        assert_eq!(
            route(Ipv4Addr::new(10, 0, 0, 2).into(), &message),
            Route::Via {
                interface_index: 3,
                neighbor: gateway.into(),
                source: source.into(),
                mtu: Some(1400),
            }
        );
    }
}
