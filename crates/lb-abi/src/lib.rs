//! Map keys, values and constants that the XDP program and the agent share.
//!
//! The table of services is double-buffered: every map of it holds two generations,
//! [`TableHeader::active_index`] names the one that packets are handled by. The agent
//! writes a change to the other generation, then changes that one number, so that no
//! packet sees half of a change. Connections, templates and counters are kept across
//! changes; they name servers by slot and by the slot's generation, which counts the
//! slot's owners.
#![no_std]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

mod address;
mod flow;
mod link;
pub mod maps;
mod owner;
mod peer;
mod protection;
mod reason;
pub mod second_chance;
mod service_table;

pub use address::Address;
pub use flow::{
    Flow, FlowKey, FlowState, FragmentKey, FragmentTarget, Load, MAX_SERVICES, STATES,
    ServerCounters, TO_THE_STACK, Template, TemplateKey, Timeouts,
};
pub use link::{Interface, MAX_INTERFACES, MAX_TAGS, Mac, Macs, VlanTag};
pub use owner::{
    Layout, ORPHANS_DROP, ORPHANS_RESCHEDULE, ORPHANS_RESET, OwnerFlags, ServerOwner, ServiceOwner,
};
pub use peer::{PeerFilter, PeerKey};
pub use protection::{
    CookieKey, HandshakeCounters, PROVEN_NS, Protection, ProtectionFlags, answers_challenge,
    challenge_number, cookie_hash,
};
pub use reason::{Action, REASONS, Reason};
pub use service_table::{
    ACTIVE_OVERHEAD, ALL_PORTS, DirectoryEntry, Geometry, MAX_COMPARED, MAX_FALLBACKS, MAX_PROBES,
    SCHEDULE_FIRST, SCHEDULE_HASH, SCHEDULE_LEAST_CONNECTIONS, SCHEDULE_NEVER_QUEUE,
    SCHEDULE_OVERFLOW, SCHEDULE_ROUND_ROBIN, SCHEDULE_SHORTEST_DELAY, Server, ServerFlags, Service,
    ServiceFlags, TABLE_GENERATIONS, TableGeneration, TableHeader, WITHOUT_PORTS, client_hash,
    directory_home, mix,
};

/// Version of the layout: of everything in this crate that lies in a map. Pinned maps of
/// another version are not adopted but replaced. Raise it whenever the size or the meaning
/// of a key or value changes, or a map is added or removed.
pub const LAYOUT_VERSION: u32 = 11;

/// Version of the maps that are carried over when maps are replaced ([`maps::MEMORY`]).
/// Raise it whenever the size or the meaning of their keys or values changes; connections
/// then end with the upgrade, unless the agent can read the earlier version.
pub const MEMORY_VERSION: u32 = 3;

/// Target of the XDP program's log lines.
pub const TRACE_TARGET: &str = "lb_ebpf";

/// `IPPROTO_ICMP`.
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`.
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`.
pub const UDP: u8 = 17;
/// `IPPROTO_ICMPV6`.
pub const ICMPV6: u8 = 58;
