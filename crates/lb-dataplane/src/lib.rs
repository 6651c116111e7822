//! The data plane as the agent sees it: desired state in, counters out.
//!
//! The only crate of the product that loads programs and opens maps (`lb-abi` implements
//! `aya::Pod`). [`Dataplane::load`] loads the XDP program, [`Dataplane::apply`] attaches it and
//! makes it do what a [`DesiredState`] describes. Where a directory for pins is given, everything outlives the
//! process: the next [`Dataplane::load`] adopts it, and [`Dataplane::remove`]
//! takes it away. Without one, dropping the [`Dataplane`] detaches the program.
//! Everything here blocks, for milliseconds at most but for loading, which takes
//! a second, and longer where it carries connections over; there is one owner.

mod attach;
mod bpf;
mod carry_over;
mod changes;
mod conntrack;
mod entries;
mod error;
mod interfaces;
mod load;
mod map_io;
mod maps;
mod options;
mod orphans;
mod owners;
mod peers;
mod pins;
mod program;
mod protection;
mod refusal;
mod registry;
mod rings;
mod scheduling;
pub mod second_chance;
mod service_table;
mod sizes;
mod statistics;
mod table;
mod trace;
mod traffic;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::xdp::XdpLink;
use lb_abi::{Load, Reason};

pub use attach::Attachment;
pub use changes::{Changes, RemovedServer};
pub use conntrack::{ConnectionCounts, ConntrackSnapshot, SweepResult};
pub use entries::{Connection, ConnectionState, Cursor, PersistentClient};
pub use error::Error;
pub use interfaces::mac_address;
pub use options::{AttachMode, DEFAULT_PINS, Options, TableSizes};
pub use orphans::Orphan;
pub use pins::remove_leftovers;
pub use program::warm_up;
pub use protection::{ConnectionRate, DeniedNetworks, Handshakes};
pub use registry::is_eligible;
pub use rings::is_prime;
pub use scheduling::maglev_table;
pub use statistics::{ReasonCount, ServerStatistics, ServiceStatistics, Statistics};
pub use traffic::Traffic;

use conntrack::IdResolver;
use interfaces::Interfaces;
use lb_model::{DesiredState, Forwarding, NextHop, Service};
use load::{Pins, Unattached};
use maps::{FlowTables, ServiceTableMaps};
use owners::Owners;
use protection::ProtectionMaps;
use registry::Registry;
use service_table::ServiceTable;
use trace::Trace;

/// The loaded XDP program and its maps. Dropping it detaches the program,
/// unless it is pinned.
pub struct Dataplane {
    attachments: Vec<Attachment>,
    /// The link of each of them.
    links: Vec<Option<XdpLink>>,
    ebpf: Ebpf,
    maps: ServiceTableMaps,
    interfaces: Interfaces,
    flow_tables: FlowTables,
    protection: ProtectionMaps,
    options: Options,
    registry: Registry,
    desired: DesiredState,
    pins: Option<Pins>,
    /// `None` once the program is attached, or could not take the place of another data plane:
    /// then this one is of no more use.
    unattached: Option<Unattached>,
    origin: Origin,
    _trace: Option<Trace>,
}

/// The data plane that [`Dataplane::load`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing; the data plane is pinned.
    New,
    /// Nothing; the data plane goes with the process.
    Unpinned {
        /// The reason why it is not pinned though it should be; `None`: it should not.
        because: Option<String>,
    },
    /// The data plane of an earlier agent, which goes on as it is.
    Adopted,
    /// The data plane of an earlier agent that another takes the place of at
    /// the first [`Dataplane::apply`].
    Replaced {
        /// The difference.
        because: String,
        /// True if its connections, templates and counters are carried over.
        carried_over: bool,
    },
}

/// A state that fits, and has changed nothing yet; see [`Dataplane::prepare`].
pub struct Prepared {
    desired: DesiredState,
    registry: Registry,
    table: ServiceTable,
    changes: Changes,
}

/// The result of [`Dataplane::test_run`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRun {
    /// The last verdict: one of the kernel's `XDP_…`.
    pub action: u32,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}

impl Dataplane {
    /// Detaches the program and removes all that is pinned.
    ///
    /// # Errors
    ///
    /// [`Error::Pins`].
    pub fn remove(self) -> Result<(), Error> {
        let Self {
            links, ebpf, pins, ..
        } = self;
        drop(links);
        drop(ebpf);
        match pins {
            Some(pins) => pins.directory.remove().map(drop).map_err(unwritable),
            None => Ok(()),
        }
    }

    /// The data plane that there was before.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// One entry per interface asked for, in that order. Empty until the first
    /// [`Self::apply`], unless the data plane is adopted.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Attaches the program to interfaces that have come back, under whatever
    /// index, and tells it of addresses that have changed. Returns what is attached
    /// otherwise than before.
    pub fn follow_interfaces(&mut self) -> Vec<Attachment> {
        let mut changed = Vec::new();
        for place in 0..self.attachments.len() {
            let known = &self.attachments[place];
            let index = attach::index_of(&known.interface).ok();
            if index == known.lost.is_none().then_some(known.interface_index) {
                continue;
            }
            let now = self.attach_again(place);
            if now != self.attachments[place] {
                self.attachments[place] = now.clone();
                changed.push(now);
            }
        }
        let attached = self.attachments.iter().filter(|known| known.lost.is_none());
        let attached = attached.map(|known| (known.interface_index, known.interface.as_str()));
        if let Err(error) = self.interfaces.update(attached) {
            log::warn!("the addresses of interfaces are not what they were: {error}");
        }
        changed
    }

    fn attach_again(&mut self, place: usize) -> Attachment {
        let known = &self.attachments[place];
        // With its interface an attachment is void.
        self.links[place] = None;
        let directory = self.pins.as_ref().map(|pins| &pins.directory);
        let void = directory.and_then(|directory| directory.attachments().ok());
        for attachment in void.into_iter().flatten() {
            if attachment.interface_index == known.interface_index
                && let Err(error) = attachment.remove()
            {
                log::warn!("{}: cannot remove its pin: {error}", known.interface);
            }
        }
        let xdp = program::program(&mut self.ebpf);
        match attach::attach(xdp, &known.interface, self.options.mode, directory) {
            Ok((attachment, link)) => {
                self.links[place] = Some(link);
                attachment
            }
            Err(error) => Attachment {
                lost: Some(match error {
                    Error::UnknownInterface { .. } => "the interface is gone".to_owned(),
                    other => other.to_string(),
                }),
                ..known.clone()
            },
        }
    }

    /// The kernel's number of the loaded program, by which bpftool(8) shows it.
    pub fn program_id(&self) -> u32 {
        program::id(&self.ebpf)
    }

    /// Next hops of the servers, as an earlier agent recorded them.
    pub fn known_hops(&self) -> Vec<(IpAddr, NextHop, Forwarding)> {
        let services = self.registry.services().values();
        services
            .flat_map(|service| &service.servers)
            .filter_map(|(address, server)| {
                Some((address.ip(), server.next_hop?, server.forwarding))
            })
            .collect()
    }

    /// Replaces the state by `desired`, in one step: each packet is handled with the
    /// old state or with the new one. The first state of a data plane that is not adopted
    /// attaches it.
    ///
    /// Connections of a server that is not in `desired` any more, or is not alive, are void:
    /// by the service's policy their next packet is answered with a reset.
    ///
    /// # Errors
    ///
    /// As of [`Self::prepare`] and [`Self::commit`]; packets are still handled
    /// with the old state.
    pub fn apply(&mut self, desired: &DesiredState) -> Result<Changes, Error> {
        let prepared = self.prepare(desired)?;
        self.commit(prepared)
    }

    /// The present state.
    pub fn desired(&self) -> &DesiredState {
        &self.desired
    }

    /// Checks that `desired` fits, and changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`], [`Error::TooManyToCompare`],
    /// [`Error::DuplicateService`], [`Error::Map`].
    pub fn prepare(&self, desired: &DesiredState) -> Result<Prepared, Error> {
        let sizes = &self.options.tables;
        let counters = |slot| self.flow_tables.server_counters(slot);
        let mut registry = self.registry.clone();
        let changes = registry.reconcile(desired, sizes, counters)?;
        let table = ServiceTable::new(desired, &registry, sizes)?;
        Ok(Prepared {
            desired: desired.clone(),
            registry,
            table,
            changes,
        })
    }

    /// Makes a prepared state the present one.
    ///
    /// # Errors
    ///
    /// [`Error::Map`], [`Error::Pins`], [`Error::Attach`].
    pub fn commit(&mut self, prepared: Prepared) -> Result<Changes, Error> {
        let Prepared {
            desired,
            registry,
            table,
            mut changes,
        } = prepared;
        let known: HashSet<_> = self.registry.owners().collect();
        for (slot, generation) in registry.owners() {
            if !known.contains(&(slot, generation)) {
                self.flow_tables.correct_load(slot, Load::default())?;
                self.flow_tables.clear_full(slot)?;
            }
        }
        let owners = Owners::of(&registry, &self.options.tables);
        let is_attached = self.unattached.is_none();
        changes.entries_written = self.maps.switch_to(&table, &owners, is_attached)?;
        for slot in raised(&self.desired, &desired, &registry) {
            self.flow_tables.clear_full(slot)?;
        }
        self.registry = registry;
        self.desired = desired;
        match self.unattached.take() {
            None => {}
            Some(Unattached::New) => self.attach_new()?,
            Some(Unattached::Beside(replaced)) => self.replace_pinned(&replaced)?,
        }
        Ok(changes)
    }

    /// The tables of connections and templates, for scans, which take too long to be
    /// made here.
    pub fn conntrack_snapshot(&self) -> ConntrackSnapshot {
        ConntrackSnapshot {
            tables: Arc::clone(&self.flow_tables.tables),
            ids: Arc::new(IdResolver::new(&self.desired, &self.registry)),
            denied: Arc::clone(self.protection.denied()),
        }
    }

    /// Drops the packets to services that come from these networks, and from no others.
    /// Returns how many entries of the kernel's tables had to be written or removed: as many
    /// as this list and the one before differ in.
    ///
    /// A connection that is established goes on until the next
    /// [sweep](ConntrackSnapshot::sweep) removes it.
    ///
    /// # Errors
    ///
    /// [`Error::TableFull`], and nothing has changed; [`Error::Map`].
    pub fn deny(&mut self, denied: &DeniedNetworks) -> Result<usize, Error> {
        denied.admit(&self.options.tables)?;
        self.protection.deny(denied)
    }

    /// The networks whose packets are dropped.
    pub fn denied(&self) -> &DeniedNetworks {
        self.protection.denied()
    }

    /// Has SYNs of sources that are not proven challenged, or not. A key must have been
    /// set before ([`Self::replace_cookie_key`]).
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn validate_sources(&mut self, validates: bool) -> Result<(), Error> {
        self.protection.validate(validates)
    }

    /// True if SYNs of sources that are not proven are challenged.
    pub fn validates_sources(&self) -> bool {
        self.protection.validates()
    }

    /// Makes challenges with another key, a random one. Answers to challenges of the key
    /// before are accepted until the next call.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn replace_cookie_key(&mut self, key: [u64; 2]) -> Result<(), Error> {
        self.protection.replace_key(key)
    }

    /// True once [`Self::replace_cookie_key`] has set a key, be it an earlier agent's call.
    pub fn has_cookie_key(&self) -> bool {
        self.protection.has_key()
    }

    /// Limits the new connections of each network of clients.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn limit_connections(&mut self, rate: Option<ConnectionRate>) -> Result<(), Error> {
        self.protection.limit(rate)
    }

    /// TCP connections entered or refused so far.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn handshakes(&self) -> Result<Handshakes, Error> {
        self.protection.handshakes()
    }

    /// Number of packets with a verdict.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn packets_with(&self, reason: Reason) -> Result<u64, Error> {
        self.flow_tables.packets_with(reason)
    }

    /// Reads every counter, and joins them with the numbers of connections.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn statistics(&self, counts: &ConnectionCounts) -> Result<Statistics, Error> {
        statistics::collect(&self.desired, &self.registry, &self.flow_tables, counts)
    }

    /// Corrects the loads that schedulers compare to what a
    /// [sweep](ConntrackSnapshot::sweep) has counted: the packet path does not see
    /// connections expire.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn correct_loads(&mut self, counts: &ConnectionCounts) -> Result<(), Error> {
        for owner in self.registry.owners() {
            let count = counts.of(owner);
            let live = Load {
                active: count.established + count.opening,
                inactive: count.closing,
            };
            self.flow_tables.correct_load(owner.0, live)?;
        }
        Ok(())
    }

    /// Runs the program on `frame` as if it had come in by the loopback interface, `repeat`
    /// times in a row, without any network. Connections, templates and counters change as
    /// they would.
    ///
    /// # Errors
    ///
    /// [`Error::TestRun`].
    pub fn test_run(&self, frame: &[u8], repeat: u32) -> Result<TestRun, Error> {
        program::test_run(&self.ebpf, frame, repeat)
    }

    /// Interval at which [`ConntrackSnapshot::sweep`] is to be called.
    ///
    /// Otherwise a silent connection's template would expire; three quarters of its
    /// time at least are left when the connection falls silent.
    pub fn sweep_interval(&self) -> Duration {
        let persistence = self
            .desired
            .services
            .iter()
            .filter_map(|service| service.persistence);
        let shortest = persistence.map(|persistence| persistence.timeout / 2).min();
        shortest
            .unwrap_or(MAX_SWEEP_INTERVAL)
            .clamp(MIN_SWEEP_INTERVAL, MAX_SWEEP_INTERVAL)
    }
}

/// Slots of servers that may have more connections than before: they have room at
/// once (`ip_vs_update_dest`, ip_vs_ctl.c).
fn raised(before: &DesiredState, now: &DesiredState, registry: &Registry) -> Vec<u32> {
    let upper = |service: &Service, address| {
        let mut servers = service.servers.iter();
        let server = servers.find(|server| server.address == address)?;
        Some(server.thresholds.upper)
    };
    let mut slots = Vec::new();
    for service in &now.services {
        let key = service.key();
        let known = before.services.iter().find(|known| known.key() == key);
        let (Some(known), Some(record)) = (known, registry.service(&key)) else {
            continue;
        };
        for server in &service.servers {
            let is_raised = upper(known, server.address).is_some_and(|before| {
                before != 0 && (server.thresholds.upper == 0 || server.thresholds.upper > before)
            });
            if is_raised && let Some(server) = record.servers.get(&server.address) {
                slots.push(server.slot);
            }
        }
    }
    slots
}

fn unreadable(source: std::io::Error) -> Error {
    Error::Pins {
        operation: "read what is pinned",
        source,
    }
}

fn unwritable(source: std::io::Error) -> Error {
    Error::Pins {
        operation: "pin the data plane",
        source,
    }
}

const MIN_SWEEP_INTERVAL: Duration = Duration::from_millis(250);
const MAX_SWEEP_INTERVAL: Duration = Duration::from_secs(10);
