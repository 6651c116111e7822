//! Options of the data plane; fixed from load to unload.

use std::path::PathBuf;

/// Default directory of the pins.
pub const DEFAULT_PINS: &str = "/sys/fs/bpf/millrace";

/// Options of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Names of the interfaces that viewers' packets arrive on.
    pub interfaces: Vec<String>,
    /// Mode in which the program is attached.
    pub mode: AttachMode,
    /// Capacities of the kernel's tables.
    pub tables: TableSizes,
    /// A directory of a BPF file system in which everything is pinned, so that
    /// it outlives the process; `None`: it goes with the
    /// [`Dataplane`](super::Dataplane).
    pub pins: Option<PathBuf>,
    /// True to log each decision of the program, at level `debug` with the target
    /// [`TRACE_TARGET`](lb_abi::TRACE_TARGET).
    pub trace: bool,
}

/// The place in the receive path where the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AttachMode {
    /// Native where the driver supports it, else generic.
    #[default]
    Auto,
    /// In the driver, before the kernel allocates anything.
    Native,
    /// After the kernel has made an skb: works everywhere, costs more.
    Generic,
}

/// Capacities of the kernel's tables, in entries.
///
/// Their memory is allocated at load. A connection costs about 110 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSizes {
    /// Established connections.
    pub connections: u32,
    /// Connections whose handshake is not complete, and one-packet UDP flows.
    pub half_open: u32,
    /// Persistence templates.
    pub templates: u32,
    /// Virtual services.
    pub services: u32,
    /// Real servers, counted once per service they belong to.
    pub servers: u32,
    /// Places in all scheduling rings together.
    pub ring_places: u32,
    /// First fragments of packets whose others may follow.
    pub fragments: u32,
    /// Networks on the deny list, of each address family.
    pub denied: u32,
    /// Sources that have answered a challenge.
    pub proven: u32,
    /// Networks whose rate of new connections is known.
    pub rates: u32,
    /// Places in the Maglev table of every `mh` service: a prime, the same on
    /// all directors, a hundred times the number of servers at least.
    pub maglev_places: u32,
}

impl Default for TableSizes {
    fn default() -> Self {
        Self {
            connections: 1 << 18,
            half_open: 1 << 16,
            templates: 1 << 17,
            services: 256,
            servers: 4096,
            ring_places: 1 << 18,
            fragments: 1 << 13,
            denied: 1 << 16,
            proven: 1 << 16,
            rates: 1 << 16,
            maglev_places: 4093,
        }
    }
}
