//! Scans of the tables of connections and persistence templates.
//!
//! With a million connections a scan takes a good part of a second: it is made on a
//! thread of its own, never in the agent's loop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_abi::{Address, Flow, FlowKey, FlowState, Template, TemplateKey, Timeouts};
use nix::time::{ClockId, clock_gettime};

use super::changes::ServerId;
use super::error::Error;
use super::maps::Tables;
use super::protection::DeniedNetworks;
use super::registry::Registry;
use super::service_table::timeouts;
use super::table::Overwrite;
use lb_model::{DesiredState, ServiceKey};

/// The tables of connections and templates, and the meaning of the numbers in them
/// when this was taken
/// ([`Dataplane::conntrack_snapshot`](super::Dataplane::conntrack_snapshot)). The
/// tables are the live ones, shared with the packet path; only the meaning is a copy.
///
/// All methods block, for as long as a scan of large tables takes; it may be sent to
/// another thread.
#[derive(Debug, Clone)]
pub struct ConntrackSnapshot {
    pub(super) tables: Arc<Tables>,
    pub(super) ids: Arc<IdResolver>,
    pub(super) denied: Arc<DeniedNetworks>,
}

/// The services and servers that the numbers in the tables stand for.
#[derive(Debug)]
pub(super) struct IdResolver {
    /// Services, by number.
    pub services: HashMap<u16, ResolvedService>,
    /// Servers, by slot and generation.
    pub servers: HashMap<ServerId, SocketAddr>,
    /// Time-outs of connections.
    pub timeouts: Timeouts,
}

/// The service that a number stands for.
#[derive(Debug)]
pub(super) struct ResolvedService {
    /// Its protocol, address and port.
    pub key: ServiceKey,
    /// With persistence: time-out in nanoseconds, and mask of the client's address.
    pub persistence: Option<(u64, Address)>,
}

/// The entries that a sweep has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepResult {
    /// Connections removed because they were silent for too long.
    pub connections_expired: usize,
    /// Connections removed because their client is on the deny list.
    pub connections_denied: usize,
    /// Templates removed because their time was over.
    pub templates_expired: usize,
    /// Templates re-armed for connections that live but are silent.
    pub templates_rearmed: usize,
}

/// Numbers of connections and templates of every server.
#[derive(Debug, Clone, Default)]
pub struct ConnectionCounts {
    by_server: HashMap<ServerId, Count>,
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

impl ConnectionCounts {
    /// The numbers of one server.
    pub(super) fn of(&self, id: ServerId) -> Count {
        self.by_server.get(&id).copied().unwrap_or_default()
    }

    fn add_flow(&mut self, flow: &Flow) {
        let count = self.entry((flow.server, flow.generation));
        if flow.state == FlowState::SynReceived as u16 {
            count.opening += 1;
        } else if FlowState::is_active(flow.state.into()) {
            count.established += 1;
        } else {
            count.closing += 1;
        }
    }

    fn add_template(&mut self, template: &Template) {
        self.entry((template.server, template.generation)).templates += 1;
    }

    fn entry(&mut self, id: ServerId) -> &mut Count {
        self.by_server.entry(id).or_default()
    }
}

/// The purpose of a scan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Count,
    Sweep,
}

impl IdResolver {
    pub(crate) fn new(desired: &DesiredState, registry: &Registry) -> Self {
        let mut services = HashMap::new();
        let mut servers = HashMap::new();
        for service in &desired.services {
            let key = service.key();
            let Some(record) = registry.service(&key) else {
                continue;
            };
            let persistence = service.persistence.map(|persistence| {
                let mask = Address::mask(service.address.ip(), persistence.prefix_length);
                (persistence.timeout.as_nanos() as u64, mask)
            });
            services.insert(record.number, ResolvedService { key, persistence });
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

impl ConntrackSnapshot {
    /// Counts connections and templates that have not expired.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn counts(&self) -> Result<ConnectionCounts, Error> {
        self.scan(Purpose::Count).map(|(_, counts)| counts)
    }

    /// Removes what has expired, and connections of denied clients; re-arms the templates
    /// of silent connections, and counts what is left.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sweep(&self) -> Result<(SweepResult, ConnectionCounts), Error> {
        self.scan(Purpose::Sweep)
    }

    fn scan(&self, purpose: Purpose) -> Result<(SweepResult, ConnectionCounts), Error> {
        let now_ns = now_ns();
        let sweeps = purpose == Purpose::Sweep;
        let (mut swept, mut counts) = (SweepResult::default(), ConnectionCounts::default());
        let Tables {
            flows,
            half_open,
            templates,
            new_templates,
        } = &*self.tables;
        for (table, lasting) in [(flows, true), (half_open, false)] {
            table.for_each(|key, flow| {
                if sweeps && self.denied.contains(key.client.into()) {
                    table.remove(&key)?;
                    swept.connections_denied += 1;
                } else if !self.is_expired(&flow, now_ns) {
                    counts.add_flow(&flow);
                    // A UDP flow of one datagram keeps its template as one of many
                    // does; a TCP connection with only a SYN does not.
                    let keeps =
                        FlowState::is_active(flow.state.into()) && (lasting || is_udp(&flow));
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
        // A client that has sent another SYN may have a template in both tables:
        // counted once. The table of new templates is small.
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
                counts.add_template(&template);
            } else if sweeps {
                templates.remove(&key)?;
                swept.templates_expired += 1;
            }
            Ok(())
        })?;
        for template in new.values() {
            counts.add_template(template);
        }
        Ok((swept, counts))
    }

    /// Extends the template of a live connection, if it names the same server and at most
    /// five eighths of its time are left. A packet leaves three quarters at least, and a
    /// connection that has been silent for less than an eighth is passed over: a template
    /// that its packets keep alive is not written here.
    fn rearm(&self, key: &FlowKey, flow: &Flow, now_ns: u64) -> Result<bool, Error> {
        let service = self.ids.services.get(&key.service);
        let Some((timeout_ns, mask)) = service.and_then(|service| service.persistence) else {
            return Ok(false);
        };
        // Most need no look-up at all.
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

    /// Time-out of a connection in the state of `flow`, in nanoseconds.
    pub(super) fn timeout_ns(&self, flow: &Flow) -> u64 {
        let by_state_ns = &self.ids.timeouts.by_state_ns;
        by_state_ns
            .get(usize::from(flow.state))
            .copied()
            .unwrap_or(0)
    }
}

/// Time since a connection's last packet, in nanoseconds. As in the packet path,
/// clock values are compared with wrapping arithmetic, and one later than `now_ns`
/// (another processor's) counts as now.
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
    flow.state == FlowState::Udp as u16
}
