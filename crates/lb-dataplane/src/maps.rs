//! The kernel's maps.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use aya::Ebpf;
use aya::Pod;
use aya::maps::{Array, MapData, PerCpuArray};
use lb_abi::{
    DirectoryEntry, Flow, FlowKey, Layout, Load, REASONS, Reason, Server, ServerCounters,
    ServerOwner, ServiceOwner, TableHeader, Template, TemplateKey, maps,
};

use super::error::Error;
use super::map_io::{array, read, take, write};
use super::owners::Owners;
use super::peers::PeerMap;
use super::service_table::ServiceTable;
use super::table::Table;
use lb_model::Thresholds;

/// Both generations of the table of services, the switch between them, and the records of
/// who is who in it.
pub(crate) struct ServiceTableMaps {
    header: Array<MapData, TableHeader>,
    spare: Spare,
    directory: DoubleBuffered<DirectoryEntry>,
    servers: DoubleBuffered<Server>,
    rings: DoubleBuffered<u32>,
    peers: PeerMap,
    service_owners: Copied<ServiceOwner>,
    server_owners: Copied<ServerOwner>,
}

impl ServiceTableMaps {
    /// Takes the maps out of a loaded object. `new`: the kernel has just made
    /// them, so that all is zero; else they are an earlier agent's.
    pub(crate) fn take(ebpf: &mut Ebpf, new: bool) -> Result<Self, Error> {
        Ok(Self {
            header: array(ebpf, maps::HEAD)?,
            spare: if new { Spare::Unused } else { Spare::Unknown },
            directory: DoubleBuffered::take(ebpf, maps::DIRECTORY, new)?,
            servers: DoubleBuffered::take(ebpf, maps::SERVERS, new)?,
            rings: DoubleBuffered::take(ebpf, maps::RINGS, new)?,
            peers: PeerMap::take(ebpf, new)?,
            service_owners: Copied::take(ebpf, maps::SERVICE_OWNERS, new)?,
            server_owners: Copied::take(ebpf, maps::SERVER_OWNERS, new)?,
        })
    }

    /// Makes `table` the one that packets are handled by, in one step. `is_attached`: there
    /// may be packets already. Returns how many entries had to be written.
    ///
    /// `owners` are recorded before: whoever finds the maps knows all owners
    /// that a connection may name, even if this agent is killed in between.
    pub(crate) fn switch_to(
        &mut self,
        table: &ServiceTable,
        owners: &Owners,
        is_attached: bool,
    ) -> Result<usize, Error> {
        self.service_owners.write(&owners.services)?;
        self.server_owners.write(&owners.servers)?;
        self.peers.add(&table.peers)?;
        let mut header = read(maps::HEAD, self.header.get(&0, 0))?;
        if self.holds(&header, table) {
            self.peers.remove_others(&table.peers)?;
            return Ok(0);
        }
        let spare = 1 - header.active_index;
        let generation = spare as usize;
        std::mem::replace(&mut self.spare, Spare::Unknown).wait();
        header.generations[generation] = table.generation;
        write(maps::HEAD, self.header.set(0, header, 0))?;
        let written = self.directory.write(generation, &table.directory)?
            + self.servers.write(generation, &table.servers)?
            + self.rings.write(generation, &table.rings)?;
        header.active_index = spare;
        write(maps::HEAD, self.header.set(0, header, 0))?;
        self.spare = if is_attached {
            Spare::retire()
        } else {
            Spare::Unused
        };
        self.peers.remove_others(&table.peers)?;
        Ok(written + 1)
    }

    /// True if `table` is the one that packets are handled by.
    fn holds(&self, header: &TableHeader, table: &ServiceTable) -> bool {
        let generation = header.active_index as usize;
        header.generations[generation] == table.generation
            && self.directory.holds(generation, &table.directory)
            && self.servers.holds(generation, &table.servers)
            && self.rings.holds(generation, &table.rings)
    }
}

/// Whether packets may still be handled by the generation that is not active.
///
/// The wait for them takes an RCU grace period, some ten milliseconds, which would stand
/// between a server's death and the table without it: so it begins with the switch before.
enum Spare {
    /// No packet has been handled by it: it never was active, or only before the program was
    /// attached.
    Unused,
    /// An earlier agent, or a switch that failed, may have left it a moment ago.
    Unknown,
    /// The thread ends when no packet is handled by it any more.
    Retiring(JoinHandle<()>),
}

impl Spare {
    /// The generation that was active until now.
    fn retire() -> Self {
        let thread = thread::Builder::new().name("grace-period".to_owned());
        let waiter = thread.spawn(wait_for_packets_in_flight);
        waiter.map_or(Self::Unknown, Self::Retiring)
    }

    /// Returns when no packet is handled by it.
    fn wait(self) {
        match self {
            Self::Unused => {}
            Self::Unknown => wait_for_packets_in_flight(),
            Self::Retiring(waiter) => waiter.join().expect("it does not panic"),
        }
    }
}

/// Returns when no packet is being handled by a generation that was active before the
/// last switch: membarrier(2) waits for an RCU grace period, and XDP programs
/// run within RCU read sections.
pub(crate) fn wait_for_packets_in_flight() {
    use nix::libc;
    // SAFETY: the system call takes three numbers and touches no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_membarrier,
            libc::MEMBARRIER_CMD_GLOBAL,
            0_u32,
            0_i32,
        )
    };
    if result != 0 {
        // Refused where CPUs run without ticks. No packet takes as long.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// A map of the table of services: two generations, one behind the other.
struct DoubleBuffered<V: Pod> {
    map: Array<MapData, V>,
    name: &'static str,
    copies: [KnownValues<V>; 2],
}

impl<V: Pod + Default + PartialEq> DoubleBuffered<V> {
    fn take(ebpf: &mut Ebpf, name: &'static str, new: bool) -> Result<Self, Error> {
        Ok(Self {
            map: array(ebpf, name)?,
            name,
            copies: std::array::from_fn(|_| KnownValues::new(new)),
        })
    }

    /// True if a generation is known to start with `values`.
    fn holds(&self, generation: usize, values: &[V]) -> bool {
        self.copies[generation].starts_with(values)
    }

    /// Makes a generation start with `values`.
    fn write(&mut self, generation: usize, values: &[V]) -> Result<usize, Error> {
        let base = generation * (self.map.len() as usize / 2);
        self.copies[generation].write(self.name, &mut self.map, base, values)
    }
}

/// A map of the agent's own.
struct Copied<V: Pod> {
    map: Array<MapData, V>,
    name: &'static str,
    copy: KnownValues<V>,
}

impl<V: Pod + Default + PartialEq> Copied<V> {
    fn take(ebpf: &mut Ebpf, name: &'static str, new: bool) -> Result<Self, Error> {
        let map = array(ebpf, name)?;
        let copy = KnownValues::new(new);
        Ok(Self { map, name, copy })
    }

    fn write(&mut self, values: &[V]) -> Result<usize, Error> {
        self.copy.write(self.name, &mut self.map, 0, values)
    }
}

/// What is known of what a map, or a generation, holds from its start on, so that
/// only differences are written.
struct KnownValues<V> {
    values: Vec<V>,
    /// Whatever lies behind these is zero; else it is not known.
    is_zero_behind: bool,
}

impl<V: Pod + Default + PartialEq> KnownValues<V> {
    /// `zeroed`: all is zero; else nothing is known.
    fn new(zeroed: bool) -> Self {
        Self {
            values: Vec::new(),
            is_zero_behind: zeroed,
        }
    }

    fn get(&self, index: usize) -> Option<V> {
        let value = self.values.get(index).copied();
        value.or_else(|| self.is_zero_behind.then(V::default))
    }

    fn starts_with(&self, values: &[V]) -> bool {
        let mut values = values.iter().enumerate();
        values.all(|(index, value)| self.get(index).as_ref() == Some(value))
    }

    fn write(
        &mut self,
        name: &'static str,
        map: &mut Array<MapData, V>,
        base: usize,
        values: &[V],
    ) -> Result<usize, Error> {
        let mut written = 0;
        for (index, value) in values.iter().enumerate() {
            if self.get(index).as_ref() == Some(value) {
                continue;
            }
            write(name, map.set((base + index) as u32, *value, 0))?;
            // What is known is known without gaps: where nothing is known behind, all before
            // has been written.
            let length = self.values.len().max(index + 1);
            self.values.resize(length, V::default());
            self.values[index] = *value;
            written += 1;
        }
        Ok(written)
    }
}

/// Tables of connections and templates. May be used by several threads.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Connections, handshake complete.
    pub flows: Table<FlowKey, Flow>,
    /// TCP connections whose handshake is not complete, and UDP flows of one packet; the
    /// client's ACK, or a second datagram, moves an entry to `FLOWS`.
    pub half_open: Table<FlowKey, Flow>,
    /// Templates.
    pub templates: Table<TemplateKey, Template>,
    /// Templates of clients that have only sent a SYN.
    pub new_templates: Table<TemplateKey, Template>,
}

/// The maps that packets change: connections, templates, loads, counters.
pub(crate) struct FlowTables {
    /// Connections and templates.
    pub tables: Arc<Tables>,
    loads: Array<MapData, Load>,
    load_corrections: Array<MapData, Load>,
    /// 1 if the server in a slot is full ([`maps::FULL`]).
    pub full: Array<MapData, u32>,
    /// Traffic by slot.
    pub server_counters: PerCpuArray<MapData, ServerCounters>,
    reasons: PerCpuArray<MapData, u64>,
    /// Round-robin turns taken, by service number.
    pub cursors: Array<MapData, u64>,
}

impl FlowTables {
    /// Takes the maps out of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            tables: Arc::new(Tables {
                flows: Table::take(ebpf, maps::FLOWS)?,
                half_open: Table::take(ebpf, maps::HALF_OPEN)?,
                templates: Table::take(ebpf, maps::TEMPLATES)?,
                new_templates: Table::take(ebpf, maps::NEW_TEMPLATES)?,
            }),
            loads: array(ebpf, maps::LOADS)?,
            load_corrections: array(ebpf, maps::LOAD_CORRECTIONS)?,
            full: array(ebpf, maps::FULL)?,
            server_counters: take(ebpf, maps::SERVER_COUNTERS)?,
            reasons: take(ebpf, maps::REASONS)?,
            cursors: array(ebpf, maps::CURSORS)?,
        })
    }

    /// Sets the load that the packet path assumes for the server in `slot` to `live`.
    pub(crate) fn correct_load(&mut self, slot: u32, live: Load) -> Result<(), Error> {
        let seen = read(maps::LOADS, self.loads.get(&slot, 0))?;
        let correction = Load {
            active: live.active.wrapping_sub(seen.active),
            inactive: live.inactive.wrapping_sub(seen.inactive),
        };
        write(
            maps::LOAD_CORRECTIONS,
            self.load_corrections.set(slot, correction, 0),
        )
    }

    /// Returns true if the packet path would find the server in `slot` full now: its
    /// flag was set, and connections that have ended since do not make room.
    pub(crate) fn is_full(&self, slot: u32, thresholds: Thresholds) -> Result<bool, Error> {
        if thresholds.upper == 0 {
            return Ok(false);
        }
        let seen = read(maps::LOADS, self.loads.get(&slot, 0))?;
        let correction = read(maps::LOAD_CORRECTIONS, self.load_corrections.get(&slot, 0))?;
        let was_full = read(maps::FULL, self.full.get(&slot, 0))? != 0;
        let load = seen.corrected(&correction);
        Ok(was_full && !load.has_room(thresholds.upper, thresholds.lower))
    }

    /// Clears the flag that the server in `slot` is full.
    pub(crate) fn clear_full(&mut self, slot: u32) -> Result<(), Error> {
        write(maps::FULL, self.full.set(slot, 0, 0))
    }

    /// The counters of a slot, over all CPUs.
    pub(crate) fn server_counters(&self, slot: u32) -> Result<ServerCounters, Error> {
        let per_cpu = read(maps::SERVER_COUNTERS, self.server_counters.get(&slot, 0))?;
        Ok(per_cpu
            .iter()
            .fold(ServerCounters::default(), |sum, cpu| ServerCounters {
                connections: sum.connections + cpu.connections,
                packets: sum.packets + cpu.packets,
                bytes: sum.bytes + cpu.bytes,
            }))
    }

    /// Packets by reason, over all CPUs.
    pub(crate) fn reasons(&self) -> Result<Vec<(Reason, u64)>, Error> {
        REASONS
            .iter()
            .map(|reason| Ok((*reason, self.packets_with(*reason)?)))
            .collect()
    }

    /// Packets with one reason, over all CPUs.
    pub(crate) fn packets_with(&self, reason: Reason) -> Result<u64, Error> {
        let per_cpu = read(maps::REASONS, self.reasons.get(&(reason as u32), 0))?;
        Ok(per_cpu.iter().sum())
    }
}

/// Records the layout of a new set of maps.
pub(crate) fn record_layout(ebpf: &mut Ebpf, layout: Layout) -> Result<(), Error> {
    let mut record = array(ebpf, maps::LAYOUT)?;
    write(maps::LAYOUT, record.set(0, layout, 0))
}
