//! Every map of the program, by the names that `lb_abi::maps` documents.
//!
//! The sizes here are only what the object is born with: the agent sets those
//! that its operator chose at load, and tells the program of those that it
//! must know through [`GEOMETRY`].

use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_abi::{
    DirectoryEntry, Flow, FlowKey, FragmentKey, FragmentTarget, Geometry, Interface, Layout, Load,
    MAX_INTERFACES, PeerKey, REASONS as ALL_REASONS, Server, ServerCounters, ServerOwner,
    ServiceOwner, TABLE_GENERATIONS, TableHeader, Template, TemplateKey,
};

use crate::parse::Packet;
use crate::schedule::Best;

/// How large a half of each table map is; fixed at load, so that the
/// verifier sees constants.
#[unsafe(no_mangle)]
static GEOMETRY: Geometry = Geometry::DEFAULT;

/// The sizes as the loader left them, each read where it is needed.
pub mod geometry {
    use super::GEOMETRY;

    #[inline(always)]
    pub fn directory_places() -> u32 {
        read(&raw const GEOMETRY.directory_places)
    }

    #[inline(always)]
    pub fn servers() -> u32 {
        read(&raw const GEOMETRY.servers)
    }

    #[inline(always)]
    pub fn ring_places() -> u32 {
        read(&raw const GEOMETRY.ring_places)
    }

    #[inline(always)]
    fn read(size: *const u32) -> u32 {
        // SAFETY: the static is initialised and read-only; volatile, since what
        // the compiler knows of it is not what the loader writes there.
        unsafe { core::ptr::read_volatile(size) }
    }
}

const PLACES: usize = TABLE_GENERATIONS as usize;

#[btf_map]
pub static HEAD: Array<TableHeader, 1> = Array::new();
#[btf_map]
pub static DIRECTORY: Array<DirectoryEntry, PLACES> = Array::new();
#[btf_map]
pub static SERVERS: Array<Server, PLACES> = Array::new();
#[btf_map]
pub static RINGS: Array<u32, PLACES> = Array::new();
#[btf_map]
pub static CURSORS: Array<u64, 1> = Array::new();

#[btf_map]
pub static PEERS: HashMap<PeerKey, u32, 1> = HashMap::new();

#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();
#[btf_map]
pub static HALF_OPEN: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();
#[btf_map]
pub static TEMPLATES: LruHashMap<TemplateKey, Template, 1> = LruHashMap::new();
#[btf_map]
pub static NEW_TEMPLATES: LruHashMap<TemplateKey, Template, 1> = LruHashMap::new();

#[btf_map]
pub static INTERFACES: HashMap<u32, Interface, MAX_INTERFACES> = HashMap::new();

/// Where a packet is taken apart, and another one that it quotes.
#[btf_map]
pub static SCRATCH: PerCpuArray<Packet, 2> = PerCpuArray::new();

/// Where servers are compared.
#[btf_map]
pub static BEST: PerCpuArray<Best, 1> = PerCpuArray::new();

/// What the trace must know of a packet: if it has opened a connection, the slot
/// of its server, plus 1.
#[btf_map]
pub static OPENED: PerCpuArray<u32, 1> = PerCpuArray::new();

#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentTarget, 1> = LruHashMap::new();

#[btf_map]
pub static LOADS: Array<Load, 1> = Array::new();
#[btf_map]
pub static LOAD_CORRECTIONS: Array<Load, 1> = Array::new();
#[btf_map]
pub static FULL: Array<u32, 1> = Array::new();
#[btf_map]
pub static SERVER_COUNTERS: PerCpuArray<ServerCounters, 1> = PerCpuArray::new();
#[btf_map]
pub static REASONS: PerCpuArray<u64, { ALL_REASONS.len() }> = PerCpuArray::new();

// The agent's own: the program looks at these for its trace only. They are declared here
// so that all maps are made, and pinned, in one way.
#[btf_map]
pub static LAYOUT: Array<Layout, 1> = Array::new();
#[btf_map]
pub static SERVICE_OWNERS: Array<ServiceOwner, 1> = Array::new();
#[btf_map]
pub static SERVER_OWNERS: Array<ServerOwner, 1> = Array::new();
