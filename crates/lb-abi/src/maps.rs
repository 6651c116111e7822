//! Names of the maps, as they are pinned and as tools show them.

/// [`Geometry`](crate::Geometry); a read-only global, not a map.
pub const GEOMETRY: &str = "GEOMETRY";
/// Nanoseconds from one timer tick to the next, one `u64`; a read-only global.
pub const TICK_NS: &str = "TICK_NS";
/// [`TableHeader`](crate::TableHeader).
pub const HEAD: &str = "HEAD";
/// [`DirectoryEntry`](crate::DirectoryEntry) × places × 2.
pub const DIRECTORY: &str = "DIRECTORY";
/// [`Server`](crate::Server) × servers × 2.
pub const SERVERS: &str = "SERVERS";
/// Server slots × ring places × 2.
pub const RINGS: &str = "RINGS";
/// Round-robin cursor, one `u64` per service.
pub const CURSORS: &str = "CURSORS";
/// [`FlowKey`](crate::FlowKey) → [`Flow`](crate::Flow), handshake complete.
pub const FLOWS: &str = "FLOWS";
/// [`FlowKey`](crate::FlowKey) → [`Flow`](crate::Flow), after the first packet.
pub const HALF_OPEN: &str = "HALF_OPEN";
/// [`TemplateKey`](crate::TemplateKey) → [`Template`](crate::Template).
pub const TEMPLATES: &str = "TEMPLATES";
/// As [`TEMPLATES`], for clients that have not completed a handshake.
pub const NEW_TEMPLATES: &str = "NEW_TEMPLATES";
/// [`FragmentKey`](crate::FragmentKey) → [`FragmentTarget`](crate::FragmentTarget).
pub const FRAGMENTS: &str = "FRAGMENTS";
/// [`Load`](crate::Load) per server slot, written by the packet path only.
pub const LOADS: &str = "LOADS";
/// [`Load`](crate::Load) per server slot, written by the agent only: the difference between
/// the true load and [`LOADS`].
pub const LOAD_CORRECTIONS: &str = "LOAD_CORRECTIONS";
/// 1 if a server has reached its upper threshold and not yet fallen below its lower one,
/// else 0: one `u32` per server slot. The agent clears it when the upper threshold is raised,
/// and when the slot gets another owner.
pub const FULL: &str = "FULL";
/// [`ServerCounters`](crate::ServerCounters) per CPU and server slot.
pub const SERVER_COUNTERS: &str = "SERVER_COUNTERS";
/// [`PeerKey`](crate::PeerKey) → 0: hosts whose frames have been balanced already.
pub const PEERS: &str = "PEERS";
/// [`Protection`](crate::Protection): one record.
pub const PROTECTION: &str = "PROTECTION";
/// Networks whose packets are dropped: a longest-prefix-match trie of the word of an IPv4
/// [`Address`](crate::Address) → 0.
pub const DENIED_V4: &str = "DENIED_V4";
/// As [`DENIED_V4`], of an IPv6 [`Address`](crate::Address).
pub const DENIED_V6: &str = "DENIED_V6";
/// Client's [`Address`](crate::Address), of IPv6 its /64 → the time until which it is proven,
/// one `u64` (CLOCK_MONOTONIC, coarse).
pub const PROVEN: &str = "PROVEN";
/// Network of clients → the time at which it has used up its rate of new connections, one
/// `u64` (CLOCK_MONOTONIC, coarse).
pub const RATES: &str = "RATES";
/// [`HandshakeCounters`](crate::HandshakeCounters) per CPU: one record.
pub const HANDSHAKES: &str = "HANDSHAKES";
/// Packets, one `u64` per CPU and [`Reason`](crate::Reason).
pub const REASONS: &str = "REASONS";
/// Interface index → [`Interface`](crate::Interface), where the program is
/// attached. It goes with the program: interfaces come and go under other indices.
pub const INTERFACES: &str = "INTERFACES";
/// Lines of the program's log, in a ring buffer that goes with the program; its
/// name is `aya-log`'s.
pub const TRACE: &str = "AYA_LOGS";
/// [`Layout`](crate::Layout) of the set of maps: one record.
pub const LAYOUT: &str = "LAYOUT";
/// [`ServiceOwner`](crate::ServiceOwner) by service number; the agent's own.
pub const SERVICE_OWNERS: &str = "SERVICE_OWNERS";
/// [`ServerOwner`](crate::ServerOwner) by server slot; the agent's own.
pub const SERVER_OWNERS: &str = "SERVER_OWNERS";

/// The maps that are pinned: all but the program's scratch maps, its log and
/// [`INTERFACES`].
pub const PINNED: [&str; 25] = [
    LAYOUT,
    HEAD,
    DIRECTORY,
    SERVERS,
    RINGS,
    CURSORS,
    PEERS,
    PROTECTION,
    DENIED_V4,
    DENIED_V6,
    PROVEN,
    RATES,
    HANDSHAKES,
    FLOWS,
    HALF_OPEN,
    TEMPLATES,
    NEW_TEMPLATES,
    FRAGMENTS,
    LOADS,
    LOAD_CORRECTIONS,
    FULL,
    SERVER_COUNTERS,
    REASONS,
    SERVICE_OWNERS,
    SERVER_OWNERS,
];

/// The maps whose contents are carried over to a set of another layout;
/// [`MEMORY_VERSION`](crate::MEMORY_VERSION) is theirs.
pub const MEMORY: [&str; 8] = [
    CURSORS,
    FLOWS,
    HALF_OPEN,
    TEMPLATES,
    NEW_TEMPLATES,
    SERVER_COUNTERS,
    SERVICE_OWNERS,
    SERVER_OWNERS,
];
