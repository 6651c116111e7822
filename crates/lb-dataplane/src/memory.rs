//! Walks over what the packet path remembers.
//!
//! With a million connections a walk takes a good part of a second, so that
//! none is made where somebody waits for more than its result.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_abi::{Address, Flow, FlowKey, FlowState, Template, TemplateKey, Timeouts};
use nix::time::{ClockId, clock_gettime};

use super::Error;
use super::maps::Tables;
use super::registry::{Registry, ServiceKey, key_of};
use super::service_table::timeouts;
use super::table::Overwrite;
use lb_model::DesiredState;

/// What the packet path remembers, and what its numbers meant when this was
/// taken ([`Dataplane::remembered`](super::Dataplane::remembered)).
///
/// Everything here blocks, for as long as walking through large tables takes;
/// it may be sent to a thread of its own.
#[derive(Debug, Clone)]
pub struct Remembered {
    pub(super) tables: Arc<Tables>,
    pub(super) names: Arc<Names>,
}

/// What the numbers in the tables mean.
#[derive(Debug)]
pub(super) struct Names {
    /// Services, by number.
    pub services: HashMap<u16, NamedService>,
    /// Servers, by slot and generation.
    pub servers: HashMap<Owner, SocketAddr>,
    /// How long connections may be silent.
    pub timeouts: Timeouts,
}

/// A service as its connections see it.
#[derive(Debug)]
pub(super) struct NamedService {
    /// Which one it is.
    pub key: ServiceKey,
    /// Time-out in nanoseconds and mask, where clients stick to their server.
    pub persistence: Option<(u64, Address)>,
}

/// Slot and generation of a server.
pub type Owner = (u32, u32);

/// What a sweep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections removed because they were silent for too long.
    pub connections_expired: usize,
    /// Templates removed because their time was over.
    pub templates_expired: usize,
    /// Templates re-armed for connections that live but are silent.
    pub templates_rearmed: usize,
}

/// How many connections and templates every server has.
#[derive(Debug, Clone, Default)]
pub struct Census {
    by_owner: HashMap<Owner, Count>,
}

/// Connections and templates of one server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    /// ESTABLISHED connections, and UDP flows.
    pub established: u64,
    /// Connections of which only SYNs have been seen.
    pub opening: u64,
    /// Connections that the client has begun to close.
    pub closing: u64,
    /// Templates.
    pub templates: u64,
}

impl Census {
    /// What the owner of a slot has.
    pub(super) fn of(&self, owner: Owner) -> Count {
        self.by_owner.get(&owner).copied().unwrap_or_default()
    }

    fn add_flow(&mut self, flow: &Flow) {
        let count = self.entry((flow.server, flow.generation));
        if flow.state == FlowState::SynReceived as u32 {
            count.opening += 1;
        } else if FlowState::is_active(flow.state) {
            count.established += 1;
        } else {
            count.closing += 1;
        }
    }

    fn add_template(&mut self, template: &Template) {
        self.entry((template.server, template.generation)).templates += 1;
    }

    fn entry(&mut self, owner: Owner) -> &mut Count {
        self.by_owner.entry(owner).or_default()
    }
}

/// What the tables are gone through for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Count,
    Sweep,
}

impl Names {
    pub fn new(desired: &DesiredState, registry: &Registry) -> Self {
        let mut services = HashMap::new();
        let mut servers = HashMap::new();
        for service in &desired.services {
            let key = key_of(service);
            let Some(record) = registry.service(&key) else {
                continue;
            };
            let persistence = service.persistence.map(|persistence| {
                let mask = Address::mask(service.address.ip(), persistence.prefix_length);
                (persistence.timeout.as_nanos() as u64, mask)
            });
            services.insert(record.number, NamedService { key, persistence });
            for (address, server) in &record.servers {
                servers.insert((server.slot, server.generation), *address);
            }
        }
        Self {
            services,
            servers,
            timeouts: timeouts(&desired.timeouts),
        }
    }
}

impl Remembered {
    /// Counts what lives.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn census(&self) -> Result<Census, Error> {
        self.go_through(Purpose::Count).map(|(_, census)| census)
    }

    /// Removes what is over, re-arms what a silent connection still needs, and
    /// counts what lives.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sweep(&self) -> Result<(Swept, Census), Error> {
        self.go_through(Purpose::Sweep)
    }

    fn go_through(&self, purpose: Purpose) -> Result<(Swept, Census), Error> {
        let now_ns = now_ns();
        let sweeps = purpose == Purpose::Sweep;
        let (mut swept, mut census) = (Swept::default(), Census::default());
        let Tables {
            flows,
            half_open,
            templates,
            new_templates,
        } = &*self.tables;
        for (table, lasting) in [(flows, true), (half_open, false)] {
            table.for_each(|key, flow| {
                if !self.is_expired(&flow, now_ns) {
                    census.add_flow(&flow);
                    // A flow of one datagram lives as long as one of many; what has
                    // only knocked keeps nothing.
                    let keeps = FlowState::is_active(flow.state) && (lasting || is_udp(&flow));
                    if sweeps && keeps && self.rearm(&key, &flow, now_ns)? {
                        swept.templates_rearmed += 1;
                    }
                } else if sweeps {
                    table.remove(&key)?;
                    swept.connections_expired += 1;
                }
                Ok(())
            })?;
        }
        // A client that has knocked again may have a template in both tables;
        // this one has room for few.
        let mut new: HashMap<TemplateKey, Template> = HashMap::new();
        new_templates.for_each(|key, template| {
            if template.expires_ns > now_ns {
                new.insert(key, template);
            } else if sweeps {
                new_templates.remove(&key)?;
                swept.templates_expired += 1;
            }
            Ok(())
        })?;
        templates.for_each(|key, template| {
            if template.expires_ns > now_ns {
                new.remove(&key);
                census.add_template(&template);
            } else if sweeps {
                templates.remove(&key)?;
                swept.templates_expired += 1;
            }
            Ok(())
        })?;
        for template in new.values() {
            census.add_template(template);
        }
        Ok((swept, census))
    }

    /// Extends the template of a live connection, if it is its own and less
    /// than half of its time is left.
    fn rearm(&self, key: &FlowKey, flow: &Flow, now_ns: u64) -> Result<bool, Error> {
        let service = self.names.services.get(&key.service);
        let Some((timeout_ns, mask)) = service.and_then(|service| service.persistence) else {
            return Ok(false);
        };
        // A packet leaves it three quarters of its time at least: most need no
        // look at all.
        if silent_ns(flow, now_ns) < timeout_ns / 8 {
            return Ok(false);
        }
        let key = TemplateKey {
            client: key.client.masked(&mask),
            service: key.service.into(),
        };
        for table in [&self.tables.templates, &self.tables.new_templates] {
            let own = table.get(&key)?.filter(|template| {
                (template.server, template.generation) == (flow.server, flow.generation)
            });
            let Some(own) = own else { continue };
            if own.expires_ns > now_ns + timeout_ns / 2 + timeout_ns / 8 {
                return Ok(false);
            }
            let renewed = Template {
                expires_ns: now_ns + timeout_ns,
                ..own
            };
            table.insert(&key, &renewed, Overwrite::Yes)?;
            return Ok(true);
        }
        Ok(false)
    }

    pub(super) fn is_expired(&self, flow: &Flow, now_ns: u64) -> bool {
        silent_ns(flow, now_ns) > self.timeout_ns(flow)
    }

    /// How long a connection in the state of `flow` may be silent.
    pub(super) fn timeout_ns(&self, flow: &Flow) -> u64 {
        let by_state_ns = &self.names.timeouts.by_state_ns;
        by_state_ns.get(flow.state as usize).copied().unwrap_or(0)
    }
}

/// How long a connection has been silent, as the packet path sees it: a time
/// later than now is now, and the clock is a circle.
pub(super) fn silent_ns(flow: &Flow, now_ns: u64) -> u64 {
    let silent_ns = now_ns.wrapping_sub(flow.last_seen_ns).cast_signed();
    silent_ns.max(0).cast_unsigned()
}

/// The kernel side's clock, in nanoseconds.
pub(super) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock");
    Duration::from(now).as_nanos() as u64
}

fn is_udp(flow: &Flow) -> bool {
    flow.state == FlowState::Udp as u32
}
