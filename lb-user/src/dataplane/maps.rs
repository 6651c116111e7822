//! The kernel's maps: written by halves, read whole.

use std::io;

use aya::Ebpf;
use aya::Pod;
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use lb_common::{
    DirectoryEntry, Flow, FlowKey, Half, Load, REASONS, Reason, Server, ServerCounters, Service,
    Template, TemplateKey, maps,
};

use super::Error;
use super::description::Description;

/// Both halves of the description, and the switch between them.
pub struct DescriptionMaps {
    active: Array<MapData, u32>,
    halves: Twin<Half>,
    directory: Twin<DirectoryEntry>,
    services: Twin<Service>,
    servers: Twin<Server>,
    rings: Twin<u32>,
}

impl DescriptionMaps {
    /// Takes the maps out of a freshly loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            active: array(ebpf, maps::ACTIVE)?,
            halves: Twin::take(ebpf, maps::HALVES)?,
            directory: Twin::take(ebpf, maps::DIRECTORY)?,
            services: Twin::take(ebpf, maps::SERVICES)?,
            servers: Twin::take(ebpf, maps::SERVERS)?,
            rings: Twin::take(ebpf, maps::RINGS)?,
        })
    }

    /// Makes `description` the one that packets are judged by, in one step.
    /// Returns how many entries had to be written.
    pub fn switch_to(&mut self, description: &Description) -> Result<usize, Error> {
        let active = read(maps::ACTIVE, self.active.get(&0, 0))?;
        if self.holds(active as usize, description) {
            return Ok(0);
        }
        let spare = 1 - active;
        let half = spare as usize;
        wait_for_packets_in_flight();
        let written = self.halves.write(half, &[description.half])?
            + self.directory.write(half, &description.directory)?
            + self.services.write(half, &description.services)?
            + self.servers.write(half, &description.servers)?
            + self.rings.write(half, &description.rings)?;
        write(maps::ACTIVE, self.active.set(0, spare, 0))?;
        Ok(written)
    }

    fn holds(&self, half: usize, description: &Description) -> bool {
        self.halves.holds(half, &[description.half])
            && self.directory.holds(half, &description.directory)
            && self.services.holds(half, &description.services)
            && self.servers.holds(half, &description.servers)
            && self.rings.holds(half, &description.rings)
    }
}

/// Returns when no packet is being judged by a half that was active before the
/// last switch: membarrier(2) waits for an RCU grace period, and XDP programs
/// run within RCU read sections.
fn wait_for_packets_in_flight() {
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

/// A description map with a copy of what its two halves hold, so that only
/// differences are written.
struct Twin<V: Pod> {
    name: &'static str,
    map: Array<MapData, V>,
    copies: [Vec<V>; 2],
}

impl<V: Pod + Default + PartialEq> Twin<V> {
    fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Self, Error> {
        let map = array(ebpf, name)?;
        let length = map.len() as usize / 2;
        Ok(Self {
            name,
            map,
            copies: std::array::from_fn(|_| vec![V::default(); length]),
        })
    }

    /// Whether a half starts with `values`.
    fn holds(&self, half: usize, values: &[V]) -> bool {
        self.copies[half].starts_with(values)
    }

    /// Makes a half start with `values`.
    fn write(&mut self, half: usize, values: &[V]) -> Result<usize, Error> {
        let base = half * self.copies[half].len();
        let mut written = 0;
        for (index, (value, copy)) in values.iter().zip(&mut self.copies[half]).enumerate() {
            if value != copy {
                write(self.name, self.map.set((base + index) as u32, *value, 0))?;
                *copy = *value;
                written += 1;
            }
        }
        Ok(written)
    }
}

/// What the packet path remembers.
pub struct Memory {
    /// Connections, handshake complete.
    pub flows: HashMap<MapData, FlowKey, Flow>,
    /// Connections, one packet seen.
    pub half_open: HashMap<MapData, FlowKey, Flow>,
    /// Templates.
    pub templates: HashMap<MapData, TemplateKey, Template>,
    /// Templates of clients that have only knocked.
    pub new_templates: HashMap<MapData, TemplateKey, Template>,
    loads: Array<MapData, Load>,
    load_corrections: Array<MapData, Load>,
    server_counters: PerCpuArray<MapData, ServerCounters>,
    reasons: PerCpuArray<MapData, u64>,
}

impl Memory {
    /// Takes the maps out of a freshly loaded object.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            flows: take(ebpf, maps::FLOWS)?,
            half_open: take(ebpf, maps::HALF_OPEN)?,
            templates: take(ebpf, maps::TEMPLATES)?,
            new_templates: take(ebpf, maps::NEW_TEMPLATES)?,
            loads: array(ebpf, maps::LOADS)?,
            load_corrections: array(ebpf, maps::LOAD_CORRECTIONS)?,
            server_counters: take(ebpf, maps::SERVER_COUNTERS)?,
            reasons: take(ebpf, maps::REASONS)?,
        })
    }

    /// Lets the packet path take `live` for what the server in `slot` has to
    /// do from now on.
    pub fn correct_load(&mut self, slot: u32, live: Load) -> Result<(), Error> {
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

    /// The counters of a slot, over all CPUs.
    pub fn server_counters(&self, slot: u32) -> Result<ServerCounters, Error> {
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
    pub fn reasons(&self) -> Result<Vec<(Reason, u64)>, Error> {
        REASONS
            .iter()
            .map(|reason| {
                let per_cpu = read(maps::REASONS, self.reasons.get(&(*reason as u32), 0))?;
                Ok((*reason, per_cpu.iter().sum()))
            })
            .collect()
    }
}

fn array<V: Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Array<MapData, V>, Error> {
    take(ebpf, name)
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf
        .take_map(name)
        .expect("the embedded object has all maps of lb_common::maps");
    read(name, M::try_from(map))
}

/// Gives a failed read its name.
pub fn read<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, Error> {
    result.map_err(|error| Error::Map {
        operation: "read",
        map,
        source: io_error(error),
    })
}

/// Gives a failed write its name.
pub fn write<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, Error> {
    result.map_err(|error| Error::Map {
        operation: "write",
        map,
        source: io_error(error),
    })
}

fn io_error(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => error.io_error,
        other => io::Error::other(other),
    }
}
