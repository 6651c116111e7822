//! What the packet path remembers, taken over from maps of another layout or
//! size while it is being used.

use aya::Pod;
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use lb_abi::{
    Address, Flow, FlowKey, Layout, MEMORY_VERSION, ServerCounters, ServerOwner, ServiceOwner,
    Template, TemplateKey, maps,
};

use super::maps::{Memory, read, write};
use super::memory::now_ns;
use super::owners::Owners;
use super::pins::PinnedSet;
use super::program::{self, Shape};
use super::table::{Overwrite, Table};
use super::{Error, TableSizes};

/// How a pinned set fits what is wanted now.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is what this version would make: it can go on being used.
    Exact,
    /// It is to be replaced; what it remembers is understood.
    Memory {
        /// What is different.
        because: String,
    },
    /// It is to be replaced, and its memory is lost.
    Nothing {
        /// What is different.
        because: String,
    },
}

/// The [`MEMORY_VERSION`] until which connections were known by [`PortlessKey`]s;
/// nothing else was different.
const PORTLESS_VERSION: u32 = 2;

/// What [`FlowKey`] was when every service had one port.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct PortlessKey {
    client: Address,
    port: u16,
    service: u16,
}

// SAFETY: repr(C), Copy, made of integers, without padding.
unsafe impl Pod for PortlessKey {}

/// What a map that is remembered from looks like in a set of `memory_version`,
/// given what it looks like in ours; `None` if that is not known.
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
pub fn fit(set: &PinnedSet, sizes: &TableSizes) -> Fit {
    let Some(layout) = layout(set) else {
        let because = "its layout is not known".to_owned();
        return Fit::Nothing { because };
    };
    let wanted = program::layout();
    let mut different = None;
    let mut understood = true;
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
            understood &= found
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
        Some(because) if understood => Fit::Memory { because },
        Some(because) => Fit::Nothing { because },
    }
}

fn layout(set: &PinnedSet) -> Option<Layout> {
    let record: Array<MapData, Layout> = open(set, maps::LAYOUT, Map::Array).ok()?;
    record.get(&0, 0).ok()
}

/// Who is who in a pinned set whose memory is understood.
pub fn owners(set: &PinnedSet) -> Result<Owners, Error> {
    let services: Array<MapData, ServiceOwner> = open(set, maps::SERVICE_OWNERS, Map::Array)?;
    let servers: Array<MapData, ServerOwner> = open(set, maps::SERVER_OWNERS, Map::Array)?;
    Ok(Owners {
        services: read(maps::SERVICE_OWNERS, services.iter().collect())?,
        servers: read(maps::SERVER_OWNERS, servers.iter().collect())?,
    })
}

/// The traffic counters of a pinned set, and its round-robin turns, copied.
pub fn copy_counters(set: &PinnedSet, memory: &mut Memory) -> Result<(), Error> {
    let counters: PerCpuArray<MapData, ServerCounters> =
        open(set, maps::SERVER_COUNTERS, Map::PerCpuArray)?;
    for slot in 0..counters.len().min(memory.server_counters.len()) {
        let values = read(maps::SERVER_COUNTERS, counters.get(&slot, 0))?;
        let zero = ServerCounters::default();
        if values.iter().any(|value| *value != zero) {
            write(
                maps::SERVER_COUNTERS,
                memory.server_counters.set(slot, values, 0),
            )?;
        }
    }
    let cursors: Array<MapData, u64> = open(set, maps::CURSORS, Map::Array)?;
    for service in 0..cursors.len().min(memory.cursors.len()) {
        let turn = read(maps::CURSORS, cursors.get(&service, 0))?;
        write(maps::CURSORS, memory.cursors.set(service, turn, 0))?;
    }
    Ok(())
}

/// Which servers of a pinned set were full, copied; one of an older version did not
/// say. For when their loads are known: a server that seems idle has room.
pub fn copy_full(set: &PinnedSet, memory: &mut Memory) -> Result<(), Error> {
    let Ok(full) = open::<Array<MapData, u32>>(set, maps::FULL, Map::Array) else {
        return Ok(());
    };
    for slot in 0..full.len().min(memory.full.len()) {
        if read(maps::FULL, full.get(&slot, 0))? != 0 {
            write(maps::FULL, memory.full.set(slot, 1, 0))?;
        }
    }
    Ok(())
}

/// The connections and templates of a pinned set.
pub struct Former {
    flows: [FormerFlows; 2],
    templates: [Table<TemplateKey, Template>; 2],
    sizes: TableSizes,
    /// What was last seen earlier has been copied.
    copied_until_ns: u64,
}

impl Former {
    /// Opens the tables of `set`, to be copied into tables of `sizes`.
    pub fn open(set: &PinnedSet, sizes: TableSizes) -> Result<Self, Error> {
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
    pub fn copy(&mut self, memory: &mut Memory) -> Result<usize, Error> {
        self.copy_with(memory, Overwrite::Yes)
    }

    /// Copies what is still missing once packets are judged by the new tables:
    /// what is there by then is newer.
    pub fn copy_the_rest(&mut self, memory: &mut Memory) -> Result<usize, Error> {
        self.copy_with(memory, Overwrite::No)
    }

    fn copy_with(&mut self, memory: &mut Memory, overwrite: Overwrite) -> Result<usize, Error> {
        let began_ns = now_ns();
        let tables = [&memory.tables.flows, &memory.tables.half_open];
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
        let tables = [&memory.tables.templates, &memory.tables.new_templates];
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
