//! Connections, templates and counters, copied from maps of another layout or size
//! while these are being used.

use aya::Pod;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use lb_abi::{
    Address, Flow, FlowKey, Layout, MEMORY_VERSION, ServerCounters, ServerOwner, ServiceOwner,
    Template, TemplateKey, maps,
};

use super::conntrack::now_ns;
use super::error::Error;
use super::map_io::{read, write};
use super::maps::FlowTables;
use super::options::TableSizes;
use super::owners::Owners;
use super::pins::PinnedSet;
use super::program::{self, Shape};
use super::table::{Overwrite, Table};

/// Comparison of a pinned set with the set that would be made now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It is what this version would make: it can go on being used.
    Exact,
    /// It is to be replaced; its connections and templates can be read.
    FlowTables {
        /// The difference.
        because: String,
    },
    /// It is to be replaced, and its connections are lost.
    Nothing {
        /// The difference.
        because: String,
    },
}

/// The [`MEMORY_VERSION`] until which connections were known by [`PortlessKey`]s;
/// nothing else was different.
const PORTLESS_VERSION: u32 = 2;

/// The [`FlowKey`] of the time when every service had one port.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct PortlessKey {
    client: Address,
    port: u16,
    service: u16,
}

// SAFETY: repr(C), Copy, made of integers, without padding.
unsafe impl Pod for PortlessKey {}

/// The shape that a map with connections or templates has in a set of
/// `memory_version`, given its shape in ours; `None` if that is not known.
fn former_shape(memory_version: u32, name: &str, ours: Shape) -> Option<Shape> {
    let is_of_flows = [maps::FLOWS, maps::HALF_OPEN].contains(&name);
    match memory_version {
        MEMORY_VERSION => Some(ours),
        PORTLESS_VERSION if is_of_flows => Some(Shape {
            key_bytes: size_of::<PortlessKey>() as u32,
            ..ours
        }),
        PORTLESS_VERSION => Some(ours),
        _ => None,
    }
}

/// Compares a pinned set with what would be made for `sizes`.
pub(crate) fn fit(set: &PinnedSet, sizes: &TableSizes) -> Fit {
    let Some(layout) = layout(set) else {
        let because = "its layout is not known".to_owned();
        return Fit::Nothing { because };
    };
    let wanted = program::layout();
    let mut different = None;
    let mut is_readable = true;
    for (name, shape) in program::shapes(sizes) {
        let found = MapData::from_pin(set.map(name))
            .and_then(|data| data.info())
            .map(|info| Shape {
                key_bytes: info.key_size(),
                value_bytes: info.value_size(),
                entries: info.max_entries(),
            });
        let found = found.ok();
        if found != Some(shape) {
            different.get_or_insert_with(|| match found {
                None => format!("it has no {name}"),
                Some(found) => format!("{name} has {found}, not {shape}"),
            });
        }
        if maps::MEMORY.contains(&name) {
            let former = former_shape(layout.memory_version, name, shape);
            is_readable &= found
                .zip(former)
                .is_some_and(|(found, former)| found.has_entries_like(&former));
        }
    }
    if layout != wanted {
        different = Some(format!(
            "its layout is version {}, ours is {}",
            layout.version, wanted.version
        ));
    }
    match different {
        None => Fit::Exact,
        Some(because) if is_readable => Fit::FlowTables { because },
        Some(because) => Fit::Nothing { because },
    }
}

fn layout(set: &PinnedSet) -> Option<Layout> {
    let record: Array<MapData, Layout> = open(set, maps::LAYOUT, Map::Array).ok()?;
    record.get(&0, 0).ok()
}

/// The services and servers of a pinned set whose connections can be read.
pub(crate) fn owners(set: &PinnedSet) -> Result<Owners, Error> {
    let services: Array<MapData, ServiceOwner> = open(set, maps::SERVICE_OWNERS, Map::Array)?;
    let servers: Array<MapData, ServerOwner> = open(set, maps::SERVER_OWNERS, Map::Array)?;
    Ok(Owners {
        services: read(maps::SERVICE_OWNERS, services.iter().collect())?,
        servers: read(maps::SERVER_OWNERS, servers.iter().collect())?,
    })
}

/// The traffic counters of a pinned set, and its round-robin turns, copied.
pub(crate) fn copy_counters(set: &PinnedSet, flow_tables: &mut FlowTables) -> Result<(), Error> {
    let counters: PerCpuArray<MapData, ServerCounters> =
        open(set, maps::SERVER_COUNTERS, Map::PerCpuArray)?;
    for slot in 0..counters.len().min(flow_tables.server_counters.len()) {
        let values = read(maps::SERVER_COUNTERS, counters.get(&slot, 0))?;
        let zero = ServerCounters::default();
        if values.iter().any(|value| *value != zero) {
            write(
                maps::SERVER_COUNTERS,
                flow_tables.server_counters.set(slot, values, 0),
            )?;
        }
    }
    let cursors: Array<MapData, u64> = open(set, maps::CURSORS, Map::Array)?;
    for service in 0..cursors.len().min(flow_tables.cursors.len()) {
        let turn = read(maps::CURSORS, cursors.get(&service, 0))?;
        write(maps::CURSORS, flow_tables.cursors.set(service, turn, 0))?;
    }
    Ok(())
}

/// Copies the flags of full servers of a pinned set; sets of older versions have none.
/// To be called when the loads are known: a server that seems idle is never full.
pub(crate) fn copy_full(set: &PinnedSet, flow_tables: &mut FlowTables) -> Result<(), Error> {
    let Ok(full) = open::<Array<MapData, u32>>(set, maps::FULL, Map::Array) else {
        return Ok(());
    };
    for slot in 0..full.len().min(flow_tables.full.len()) {
        if read(maps::FULL, full.get(&slot, 0))? != 0 {
            write(maps::FULL, flow_tables.full.set(slot, 1, 0))?;
        }
    }
    Ok(())
}

/// The connections and templates of a pinned set.
pub(crate) struct Former {
    flows: [FormerFlows; 2],
    templates: [Table<TemplateKey, Template>; 2],
    sizes: TableSizes,
    /// Entries last seen before this time have been copied.
    copied_until_ns: u64,
}

impl Former {
    /// Opens the tables of `set`, to be copied into tables of `sizes`.
    pub(crate) fn open(set: &PinnedSet, sizes: TableSizes) -> Result<Self, Error> {
        Ok(Self {
            flows: [
                FormerFlows::open(set, maps::FLOWS)?,
                FormerFlows::open(set, maps::HALF_OPEN)?,
            ],
            templates: [
                table(set, maps::TEMPLATES)?,
                table(set, maps::NEW_TEMPLATES)?,
            ],
            sizes,
            copied_until_ns: 0,
        })
    }

    /// Copies what has changed since the last copy; all, the first time.
    /// Returns how many connections that were.
    pub(crate) fn copy(&mut self, flow_tables: &mut FlowTables) -> Result<usize, Error> {
        self.copy_with(flow_tables, Overwrite::Yes)
    }

    /// Copies what is still missing once packets are handled with the new tables:
    /// what is there by then is newer.
    pub(crate) fn copy_the_rest(&mut self, flow_tables: &mut FlowTables) -> Result<usize, Error> {
        self.copy_with(flow_tables, Overwrite::No)
    }

    fn copy_with(
        &mut self,
        flow_tables: &mut FlowTables,
        overwrite: Overwrite,
    ) -> Result<usize, Error> {
        let began_ns = now_ns();
        let tables = [&flow_tables.tables.flows, &flow_tables.tables.half_open];
        let mut copied = 0;
        for (from, to) in self.flows.iter().zip(tables) {
            from.for_each(|key, flow| {
                let fits = flow.server < self.sizes.servers
                    && u32::from(key.service) < self.sizes.services;
                if fits && flow.last_seen_ns >= self.copied_until_ns {
                    to.insert(&key, &flow, overwrite)?;
                    copied += 1;
                }
                Ok(())
            })?;
        }
        let tables = [
            &flow_tables.tables.templates,
            &flow_tables.tables.new_templates,
        ];
        for (from, to) in self.templates.iter().zip(tables) {
            from.for_each(|key, template| {
                if template.server < self.sizes.servers && key.service < self.sizes.services {
                    to.insert(&key, &template, overwrite)?;
                }
                Ok(())
            })?;
        }
        self.copied_until_ns = began_ns;
        Ok(copied)
    }
}

/// Connections of a pinned set.
enum FormerFlows {
    /// As ours.
    Alike(Table<FlowKey, Flow>),
    /// Those of [`PORTLESS_VERSION`], and the services' ports by number.
    Portless(Table<PortlessKey, Flow>, Vec<u16>),
}

impl FormerFlows {
    fn open(set: &PinnedSet, name: &'static str) -> Result<Self, Error> {
        let is_portless =
            layout(set).is_some_and(|layout| layout.memory_version == PORTLESS_VERSION);
        if !is_portless {
            return Ok(Self::Alike(table(set, name)?));
        }
        let services = owners(set)?.services;
        let ports = services.iter().map(|service| service.port).collect();
        Ok(Self::Portless(table(set, name)?, ports))
    }

    fn for_each(
        &self,
        mut visit: impl FnMut(FlowKey, Flow) -> Result<(), Error>,
    ) -> Result<(), Error> {
        match self {
            Self::Alike(table) => table.for_each(visit),
            Self::Portless(table, ports) => table.for_each(|key, flow| {
                let PortlessKey {
                    client,
                    port,
                    service,
                } = key;
                let key = FlowKey {
                    client,
                    port,
                    service,
                    service_port: ports.get(usize::from(service)).copied().unwrap_or(0),
                    reserved: 0,
                };
                visit(key, flow)
            }),
        }
    }
}

fn table<K: Pod, V: Pod>(set: &PinnedSet, name: &'static str) -> Result<Table<K, V>, Error> {
    let data = read(name, MapData::from_pin(set.map(name)))?;
    Table::of(name, &Map::LruHashMap(data))
}

fn open<M>(
    set: &PinnedSet,
    name: &'static str,
    kind: impl FnOnce(MapData) -> Map,
) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let data = read(name, MapData::from_pin(set.map(name)))?;
    read(name, M::try_from(kind(data)))
}
