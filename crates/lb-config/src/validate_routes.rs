//! Rules for routes.

use std::net::IpAddr;

use conf_kit::Diagnostics;
use lb_model::config::{Config, Route, RouteKind};

/// Reports every route that the kernel would refuse.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    let of_instances = config.vrrp_instance.iter();
    let virtual_routes = of_instances.flat_map(|instance| &instance.virtual_routes);
    for route in config.static_routes.iter().chain(virtual_routes) {
        if let Some(mistake) = mistake(route) {
            let message = format!("the route {route}: {mistake}");
            diagnostics.error(&route.location, message);
        }
    }
}

fn mistake(route: &Route) -> Option<String> {
    let is_ipv6 = route.address.is_ipv6();
    let hops = route.nexthop.iter().filter_map(|hop| hop.via);
    let mut others = route.via.into_iter().chain(route.src).chain(hops);
    if let Some(other) = others.find(|address: &IpAddr| address.is_ipv6() != is_ipv6) {
        return Some(format!(
            "{other} is not of the same family as the network; write `::/0` or `0.0.0.0/0` in \
             place of `default`"
        ));
    }
    let is_sent = route.kind == RouteKind::Unicast;
    let has_way = route.via.is_some() || route.dev.is_some();
    let has_hops = !route.nexthop.is_empty();
    match (is_sent, has_way, has_hops) {
        (true, false, false) => return Some("expected `via`, `dev` or `nexthop`".to_owned()),
        (true, true, true) => {
            return Some("expected either `via` and `dev`, or `nexthop`".to_owned());
        }
        (false, true, _) | (false, _, true) => {
            return Some("its packets are not sent: expected no `via`, `dev` or `nexthop`".into());
        }
        _ => {}
    }
    for hop in &route.nexthop {
        if hop.via.is_none() && hop.dev.is_none() {
            return Some("a nexthop has neither `via` nor `dev`".to_owned());
        }
    }
    None
}
