//! Routes that are kept in the kernel's tables: added, added again when they are
//! missing, and removed.

use std::time::Duration;

use rtnetlink::Handle;
use rtnetlink::packet_route::route::{RouteScope as KernelScope, RouteType};
use service_kit::sleep_until;
use tokio::time::Instant;

use lb_model::config::{Route, RouteKind, RouteScope};
use netlink::address::Added;
use netlink::interfaces::Interfaces;
use netlink::route::{self, KernelNextHop, KernelRoute};

/// `RT_TABLE_MAIN` of linux/rtnetlink.h.
const TABLE_MAIN: u32 = 254;

/// Interval at which missing routes are added again: with an address or an interface
/// the kernel removes the routes that need it. It costs one request for each route.
const RENEW_INTERVAL: Duration = Duration::from_secs(2);

/// The routes of one owner.
#[derive(Debug, Default)]
pub struct Routes {
    /// The owner, for the log.
    name: String,
    wanted: Vec<Wanted>,
    due: Option<Instant>,
}

#[derive(Debug)]
struct Wanted {
    route: Route,
    /// The reason why it could not be added, if it could not.
    missing: Option<String>,
}

impl Routes {
    /// None yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            ..Self::default()
        }
    }

    /// Adds further routes.
    pub async fn set(&mut self, handle: &Handle, interfaces: &Interfaces, routes: Vec<Route>) {
        for route in routes {
            if self.wanted.iter().any(|wanted| wanted.route == route) {
                continue;
            }
            let missing = match self.add(handle, interfaces, &route).await {
                Ok(Added::New) => {
                    log::info!("{}: route {route} set", self.name);
                    None
                }
                Ok(Added::AlreadyThere) => {
                    log::info!("{}: route {route} is there already", self.name);
                    None
                }
                Err(reason) => {
                    log::error!("{}: cannot set the route {route} yet: {reason}", self.name);
                    Some(reason)
                }
            };
            self.wanted.push(Wanted { route, missing });
        }
        self.due = (!self.wanted.is_empty()).then(|| Instant::now() + RENEW_INTERVAL);
    }

    /// Removes routes.
    pub async fn unset(&mut self, handle: &Handle, interfaces: &Interfaces, routes: &[Route]) {
        self.wanted.retain(|wanted| !routes.contains(&wanted.route));
        if self.wanted.is_empty() {
            self.due = None;
        }
        for it in routes {
            // With its interface a route is gone, too.
            let Ok(kernel_route) = resolve_route(it, interfaces) else {
                continue;
            };
            match route::remove(handle, &kernel_route).await {
                Ok(true) => log::info!("{}: route {it} taken away", self.name),
                Ok(false) => {}
                Err(error) => {
                    log::error!("{}: cannot take the route {it} away: {error}", self.name);
                }
            }
        }
    }

    /// Waits until [`renew`](Self::renew) is to be called; for ever, while there are
    /// no routes.
    pub async fn due(&self) {
        sleep_until(self.due).await;
    }

    /// Adds those again that are missing, except those that may be missing
    /// (`no_track`).
    pub async fn renew(&mut self, handle: &Handle, interfaces: &Interfaces) {
        for index in 0..self.wanted.len() {
            let Wanted { route, missing } = &self.wanted[index];
            if route.no_track && missing.is_none() {
                continue;
            }
            let outcome = self.add(handle, interfaces, route).await;
            match (&outcome, missing) {
                (Ok(Added::New), None) => {
                    log::warn!("{}: route {route} was taken away; set again", self.name);
                }
                (Ok(_), Some(_)) => log::info!("{}: route {route} set", self.name),
                (Err(reason), before) if before.as_ref() != Some(reason) => {
                    log::error!("{}: cannot set the route {route} yet: {reason}", self.name);
                }
                _ => {}
            }
            self.wanted[index].missing = outcome.err();
        }
        self.due = Some(Instant::now() + RENEW_INTERVAL);
    }

    async fn add(
        &self,
        handle: &Handle,
        interfaces: &Interfaces,
        route: &Route,
    ) -> Result<Added, String> {
        let kernel_route = resolve_route(route, interfaces)
            .map_err(|interface| format!("there is no interface {interface}"))?;
        let added = route::add(handle, &kernel_route).await;
        added.map_err(|error| error.to_string())
    }
}

/// A configured route in the kernel's terms, with the indices of its interfaces.
///
/// # Errors
/// The name of an interface that does not exist.
pub fn resolve_route(route: &Route, interfaces: &Interfaces) -> Result<KernelRoute, String> {
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
        // The defaults of ip-route(8).
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
