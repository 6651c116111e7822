//! Tables as large as what is configured.

use lb_abi::{MAX_SERVICES, ServerCounters};

use super::registry::Registry;
use super::scheduling;
use super::service_table::ServiceTable;
use super::{DesiredState, Error, TableSizes};

/// Places in rings that a weighted service should have for its weights.
const WEIGHTED_PLACES: usize = 256;

impl TableSizes {
    /// These sizes, where those that are left at their default are raised to what
    /// `desired` needs, and as much again for what is configured later: a table
    /// cannot grow while it is used.
    #[must_use]
    pub fn raised_for(self, desired: &DesiredState) -> Self {
        let default = Self::default();
        let servers = desired.services.iter().map(|it| it.servers.len()).sum();
        let (least, weighted) = scheduling::places(desired, &self);
        let raise = |size: u32, default: u32, needed: usize| {
            if size != default {
                return size;
            }
            let roomy = needed.saturating_mul(2).checked_next_power_of_two();
            let roomy = roomy.and_then(|entries| u32::try_from(entries).ok());
            // What is more than any table can have is refused later.
            size.max(roomy.unwrap_or(default))
        };
        let services = raise(self.services, default.services, desired.services.len());
        Self {
            services: services.min(MAX_SERVICES),
            servers: raise(self.servers, default.servers, servers),
            ring_places: raise(
                self.ring_places,
                default.ring_places,
                least + weighted * WEIGHTED_PLACES,
            ),
            ..self
        }
    }

    /// Finds out whether `desired` fits, without asking the kernel.
    ///
    /// # Errors
    /// As of [`Dataplane::apply`](super::Dataplane::apply), where these sizes or
    /// the packet path's own bounds are the reason.
    pub fn admit(&self, desired: &DesiredState) -> Result<(), Error> {
        let mut registry = Registry::new(self);
        registry.reconcile(desired, self, |_| Ok(ServerCounters::default()))?;
        ServiceTable::new(desired, &registry, self).map(drop)
    }
}
