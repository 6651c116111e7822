//! What the packet path remembers, taken over from maps of another layout or
//! size while it is being used.

use std::io;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use lb_common::{
    Flow, FlowKey, Layout, MEMORY_VERSION, ServerCounters, ServerOwner, ServiceOwner, Template,
    TemplateKey, maps,
};

use super::maps::{Memory, read, write};
use super::memory::{entries, now_ns};
use super::owners::Owners;
use super::pins::PinnedSet;
use super::program::{self, Shape};
use super::{Error, TableSizes};

/// `BPF_NOEXIST`: what is there already is newer.
const ONLY_IF_ABSENT: u64 = 1;

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

/// Compares a pinned set with what would be made for `sizes`.
pub fn fit(set: &PinnedSet, sizes: &TableSizes) -> Fit {
    let Some(layout) = layout(set) else {
        let because = "its layout is not known".to_owned();
        return Fit::Nothing { because };
    };
    let wanted = program::layout();
    let mut different = None;
    let mut understood = layout.memory_version == MEMORY_VERSION;
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
            understood &= found.is_some_and(|found| found.has_entries_like(&shape));
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

/// The connections and templates of a pinned set.
pub struct Former {
    flows: [HashMap<MapData, FlowKey, Flow>; 2],
    templates: [HashMap<MapData, TemplateKey, Template>; 2],
    sizes: TableSizes,
    /// What was last seen earlier has been copied.
    copied_until_ns: u64,
}

impl Former {
    /// Opens the tables of `set`, to be copied into tables of `sizes`.
    pub fn open(set: &PinnedSet, sizes: TableSizes) -> Result<Self, Error> {
        Ok(Self {
            flows: [
                open(set, maps::FLOWS, Map::LruHashMap)?,
                open(set, maps::HALF_OPEN, Map::LruHashMap)?,
            ],
            templates: [
                open(set, maps::TEMPLATES, Map::LruHashMap)?,
                open(set, maps::NEW_TEMPLATES, Map::LruHashMap)?,
            ],
            sizes,
            copied_until_ns: 0,
        })
    }

    /// Copies what has changed since the last copy; all, the first time.
    /// Returns how many connections that were.
    pub fn copy(&mut self, memory: &mut Memory) -> Result<usize, Error> {
        self.copy_with(memory, 0)
    }

    /// Copies what is still missing once packets are judged by the new tables:
    /// what is there by then is newer.
    pub fn copy_the_rest(&mut self, memory: &mut Memory) -> Result<usize, Error> {
        self.copy_with(memory, ONLY_IF_ABSENT)
    }

    fn copy_with(&mut self, memory: &mut Memory, flags: u64) -> Result<usize, Error> {
        let began_ns = now_ns();
        let names = [maps::FLOWS, maps::HALF_OPEN];
        let tables = [&mut memory.flows, &mut memory.half_open];
        let mut copied = 0;
        for ((name, from), to) in names.into_iter().zip(&self.flows).zip(tables) {
            for (key, flow) in entries(name, from)? {
                let fits = flow.server < self.sizes.servers
                    && u32::from(key.service) < self.sizes.services;
                if fits && flow.last_seen_ns >= self.copied_until_ns {
                    insert(name, to.insert(key, flow, flags))?;
                    copied += 1;
                }
            }
        }
        let names = [maps::TEMPLATES, maps::NEW_TEMPLATES];
        let tables = [&mut memory.templates, &mut memory.new_templates];
        for ((name, from), to) in names.into_iter().zip(&self.templates).zip(tables) {
            for (key, template) in entries(name, from)? {
                if template.server < self.sizes.servers && key.service < self.sizes.services {
                    insert(name, to.insert(key, template, flags))?;
                }
            }
        }
        self.copied_until_ns = began_ns;
        Ok(copied)
    }
}

/// That an entry is there already is what `ONLY_IF_ABSENT` is about.
fn insert(name: &'static str, inserted: Result<(), MapError>) -> Result<(), Error> {
    match inserted {
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == io::ErrorKind::AlreadyExists =>
        {
            Ok(())
        }
        other => write(name, other),
    }
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
