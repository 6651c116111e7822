//! Routes as they are configured, made into what the kernel knows.

use rtnetlink::packet_route::route::{RouteScope as KernelScope, RouteType};

use lb_model::config::{Route, RouteKind, RouteScope};
use netlink::interfaces::Interfaces;
use netlink::route::{KernelNextHop, KernelRoute};

/// `RT_TABLE_MAIN` of linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;

/// The route by the numbers of its interfaces.
///
/// # Errors
/// The interface that there is not.
pub fn resolve(route: &Route, interfaces: &Interfaces) -> Result<KernelRoute, String> {
    let index_of = |name: &String| {
        let interface = interfaces.get(name);
        interface
            .map(|interface| interface.index)
            .ok_or_else(|| name.clone())
    };
    let next_hops = route.nexthop.iter().map(|hop| {
        Ok::<_, String>(KernelNextHop {
            via: hop.via,
            interface_index: hop.dev.as_ref().map(index_of).transpose()?.unwrap_or(0),
            weight: hop.weight.unwrap_or(1),
            onlink: hop.onlink,
        })
    });
    let has_router = route.via.is_some() || !route.nexthop.is_empty();
    let scope = match route.scope {
        Some(RouteScope::Global) => KernelScope::Universe,
        Some(RouteScope::Site) => KernelScope::Site,
        Some(RouteScope::Link) => KernelScope::Link,
        Some(RouteScope::Host) => KernelScope::Host,
        // As ip-route(8) has it.
        None if has_router || route.kind != RouteKind::Unicast => KernelScope::Universe,
        None => KernelScope::Link,
    };
    Ok(KernelRoute {
        destination: (route.address, route.prefix_length()),
        kind: match route.kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
            RouteKind::Throw => RouteType::Throw,
        },
        via: route.via,
        interface_index: route.dev.as_ref().map(index_of).transpose()?,
        source: route.src,
        table: route.table.unwrap_or(TABLE_MAIN),
        metric: route.metric,
        mtu: route.mtu,
        scope,
        onlink: route.onlink,
        next_hops: next_hops.collect::<Result<_, _>>()?,
    })
}
