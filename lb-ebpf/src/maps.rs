//! The maps that the program shares with the agent, by the names that `lb_abi::maps`
//! documents. Scratch maps of a module are declared in that module.
//!
//! The sizes here are those of the object file. The agent replaces them at load by those
//! that its operator chose, and tells the program those that it needs in [`GEOMETRY`].

use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use lb_abi::{
    Address, DirectoryEntry, Flow, FlowKey, FragmentKey, FragmentTarget, Geometry,
    HandshakeCounters, Interface, Layout, Load, MAX_INTERFACES, PeerKey, Protection,
    REASONS as ALL_REASONS, Server, ServerCounters, ServerOwner, ServiceOwner, TABLE_GENERATIONS,
    TableHeader, Template, TemplateKey,
};

/// Sizes of a generation of the table of services; fixed at load, so that the
/// verifier sees constants.
#[unsafe(no_mangle)]
static GEOMETRY: Geometry = Geometry::DEFAULT;

/// The sizes that the loader has set. Each is read where it is needed: to the verifier it
/// is a constant.
pub(crate) mod geometry {
    use super::GEOMETRY;

    #[inline(always)]
    pub(crate) fn directory_places() -> u32 {
        read(&raw const GEOMETRY.directory_places)
    }

    #[inline(always)]
    pub(crate) fn servers() -> u32 {
        read(&raw const GEOMETRY.servers)
    }

    #[inline(always)]
    pub(crate) fn ring_places() -> u32 {
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
pub(crate) static HEAD: Array<TableHeader, 1> = Array::new();
#[btf_map]
pub(crate) static DIRECTORY: Array<DirectoryEntry, PLACES> = Array::new();
#[btf_map]
pub(crate) static SERVERS: Array<Server, PLACES> = Array::new();
#[btf_map]
pub(crate) static RINGS: Array<u32, PLACES> = Array::new();
#[btf_map]
pub(crate) static CURSORS: Array<u64, 1> = Array::new();

#[btf_map]
pub(crate) static PEERS: HashMap<PeerKey, u32, 1> = HashMap::new();

#[btf_map]
pub(crate) static PROTECTION: Array<Protection, 1> = Array::new();
#[btf_map]
pub(crate) static DENIED_V4: LpmTrie<u32, u32, 1> = LpmTrie::new();
#[btf_map]
pub(crate) static DENIED_V6: LpmTrie<Address, u32, 1> = LpmTrie::new();
#[btf_map]
pub(crate) static PROVEN: LruHashMap<Address, u64, 1> = LruHashMap::new();
#[btf_map]
pub(crate) static RATES: LruHashMap<Address, u64, 1> = LruHashMap::new();
#[btf_map]
pub(crate) static HANDSHAKES: PerCpuArray<HandshakeCounters, 1> = PerCpuArray::new();

#[btf_map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();
#[btf_map]
pub(crate) static HALF_OPEN: LruHashMap<FlowKey, Flow, 1> = LruHashMap::new();
#[btf_map]
pub(crate) static TEMPLATES: LruHashMap<TemplateKey, Template, 1> = LruHashMap::new();
#[btf_map]
pub(crate) static NEW_TEMPLATES: LruHashMap<TemplateKey, Template, 1> = LruHashMap::new();

#[btf_map]
pub(crate) static INTERFACES: HashMap<u32, Interface, MAX_INTERFACES> = HashMap::new();

#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentTarget, 1> = LruHashMap::new();

#[btf_map]
pub(crate) static LOADS: Array<Load, 1> = Array::new();
#[btf_map]
pub(crate) static LOAD_CORRECTIONS: Array<Load, 1> = Array::new();
#[btf_map]
pub(crate) static FULL: Array<u32, 1> = Array::new();
#[btf_map]
pub(crate) static SERVER_COUNTERS: PerCpuArray<ServerCounters, 1> = PerCpuArray::new();
#[btf_map]
pub(crate) static REASONS: PerCpuArray<u64, { ALL_REASONS.len() }> = PerCpuArray::new();

// The agent's own: the program reads these for its trace only. They are declared here so
// that all maps are created, and pinned, in one way.
#[btf_map]
pub(crate) static LAYOUT: Array<Layout, 1> = Array::new();
#[btf_map]
pub(crate) static SERVICE_OWNERS: Array<ServiceOwner, 1> = Array::new();
#[btf_map]
pub(crate) static SERVER_OWNERS: Array<ServerOwner, 1> = Array::new();
