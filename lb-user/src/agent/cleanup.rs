//! Addresses and routes that an earlier agent has left on this machine.

use std::collections::BTreeSet;

use anyhow::Context as _;
use rtnetlink::Handle;

use super::plan::Plan;
use super::saved::{Saved, SavedAddress};
use lb_model::config::Route;
use netlink::address::{self, InterfaceAddress};
use netlink::interfaces::Interfaces;
use netlink::route;
use vrrp::resolve_route;

/// Addresses and routes that are to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cleanup {
    routes: Vec<Route>,
    addresses: Vec<SavedAddress>,
}

impl Cleanup {
    /// All that an agent has saved.
    pub(crate) fn all(saved: &Saved) -> Self {
        Self {
            routes: saved.routes.clone(),
            addresses: saved.addresses.clone(),
        }
    }

    /// That which an agent has saved and `plan` knows nothing of: its file was another.
    pub(crate) fn unknown_to(plan: &Plan, saved: &Saved) -> Self {
        let Self {
            mut routes,
            mut addresses,
        } = Self::all(saved);
        let instances = &plan.vrrp.instances;
        let of_instances = instances.iter().flat_map(|instance| &instance.routes);
        let known: Vec<&Route> = of_instances.chain(&plan.statics.routes).collect();
        routes.retain(|left| !known.contains(&left));
        let of_instances = instances.iter().flat_map(|instance| &instance.addresses);
        let announced: Vec<_> = plan.announced_addresses().collect();
        let known = of_instances
            .chain(&plan.statics.addresses)
            .chain(&announced);
        let known: BTreeSet<_> = known
            .map(|held| (held.address, held.prefix_length, held.interface.as_str()))
            .collect();
        addresses.retain(|left| {
            !known.contains(&(left.address, left.prefix_length, left.interface.as_str()))
        });
        Self { routes, addresses }
    }

    /// Removes them, and calls `report` with a sentence for each that was there.
    ///
    /// # Errors
    /// The kernel refuses one; those that follow stay.
    pub(crate) async fn run(
        &self,
        handle: &Handle,
        interfaces: &Interfaces,
        mut report: impl FnMut(String) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for left in &self.routes {
            // With its interface a route is gone, too; and so is an address.
            let Ok(kernel_route) = resolve_route(left, interfaces) else {
                continue;
            };
            let removed = route::remove(handle, &kernel_route).await;
            if removed.with_context(|| format!("cannot remove the route {left}"))? {
                report(format!("removed: route {left}"))?;
            }
        }
        for left in &self.addresses {
            let SavedAddress {
                address, interface, ..
            } = left;
            let Some(found) = interfaces.get(interface) else {
                continue;
            };
            let on_interface = InterfaceAddress {
                interface_index: found.index,
                address: *address,
                prefix_length: left.prefix_length,
                label: None,
            };
            let removed = address::remove(handle, &on_interface).await;
            if removed.with_context(|| format!("cannot remove {address} from {interface}"))? {
                report(format!("removed: {address} on {interface}"))?;
            }
        }
        Ok(())
    }
}
