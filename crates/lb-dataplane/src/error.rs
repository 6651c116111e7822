//! Errors of the data plane.

use std::net::SocketAddr;
use std::path::PathBuf;

use lb_model::Protocol;

/// An error of the data plane, with its cause and a remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The process lacks a capability.
    #[error(
        "the kernel refused {operation}: this needs {capabilities}; run as root or grant them \
         (systemd: AmbientCapabilities=, setcap(8))"
    )]
    MissingCapability {
        /// The operation that failed.
        operation: &'static str,
        /// The capabilities that allow it, such as `CAP_BPF and CAP_NET_ADMIN`.
        capabilities: &'static str,
    },
    /// The running kernel cannot do what the data plane needs.
    #[error("this kernel ({release}) lacks {feature}, which Linux has since {since}: {source}")]
    MissingKernelFeature {
        /// Release of the running kernel.
        release: String,
        /// The feature that it lacks.
        feature: &'static str,
        /// First release that has it.
        since: &'static str,
        /// The kernel's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel's verifier refused the program: a defect of ours.
    #[error(
        "the kernel's verifier refused the program; please report this with the lines that \
         follow\n{log}"
    )]
    Verifier {
        /// The end of the verifier's log.
        log: String,
    },
    /// An interface does not exist.
    #[error("there is no network interface {name}; `ip link` shows those that exist")]
    UnknownInterface {
        /// The name that was asked for.
        name: String,
    },
    /// The program could not be attached to an interface.
    #[error("cannot attach to {interface} in {mode} mode: {reason}")]
    Attach {
        /// Name of the interface.
        interface: String,
        /// `native` or `generic`.
        mode: &'static str,
        /// The kernel's error, and a remedy.
        reason: String,
    },
    /// The program of the second chance could not be attached to an interface.
    #[error(
        "cannot attach to the ingress of {interface}: {reason}; this needs CAP_NET_ADMIN and, before Linux 6.6, the kernel's modules sch_ingress and cls_bpf"
    )]
    AttachIngress {
        /// Name of the interface.
        interface: String,
        /// The kernel's error.
        reason: String,
    },
    /// More places, or servers, than the maps of the second chance hold.
    #[error(
        "the tables of all services have {places} places for {servers} servers; there is room \
         for {limit} places (raise --places) and 4096 servers"
    )]
    SecondChanceFull {
        /// Number of places that are needed.
        places: usize,
        /// Number that fits.
        limit: usize,
        /// Number of servers.
        servers: usize,
    },
    /// More services, servers or ring places than the tables hold.
    #[error(
        "{what}: {wanted} are needed and the table holds {limit}; raise {option} (`--table`), or \
         leave that out and run `lb-user upgrade`: tables are made as large as the file needs"
    )]
    TableFull {
        /// Name of the entries of which there are too many.
        what: &'static str,
        /// Number that the desired state needs.
        wanted: usize,
        /// Number that fits.
        limit: usize,
        /// The field of [`TableSizes`](super::TableSizes) to raise.
        option: &'static str,
    },
    /// A service whose scheduler compares servers, or goes from one that is full
    /// to another, has more than one packet can compare.
    #[error(
        "a service with lc, wlc, sed, nq or ovf, or with thresholds, takes up to {limit} servers, \
         not {wanted}; use wrr or mh, without thresholds"
    )]
    TooManyToCompare {
        /// Number of the service's servers.
        wanted: usize,
        /// Number that is allowed.
        limit: usize,
    },
    /// No seed spreads the services in their directory well enough.
    #[error(
        "the addresses of {services} services are too much alike for the directory; raise services"
    )]
    Directory {
        /// Number of services.
        services: usize,
    },
    /// A Maglev table must have a prime number of places.
    #[error("maglev_places is {places}, which is not prime; 4093, 16381 and 65537 are")]
    MaglevNotPrime {
        /// The configured number.
        places: u32,
    },
    /// Two services of the desired state share protocol, address and port.
    #[error("two services for {protocol:?} {address}")]
    DuplicateService {
        /// Their protocol.
        protocol: Protocol,
        /// Their address and port.
        address: SocketAddr,
    },
    /// The kernel refused to read or write a map.
    #[error("cannot {operation} the map {map}: {source}")]
    Map {
        /// `read` or `write`.
        operation: &'static str,
        /// Name of the map.
        map: &'static str,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// Another agent works on what is pinned in the directory.
    #[error("{path} is another lb-user's; stop it, or choose another directory with --pins")]
    PinsInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The kernel refused to pin something, or to list the pins.
    #[error("cannot {operation}: {source}")]
    Pins {
        /// The operation that failed.
        operation: &'static str,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The kernel would not run the program on a frame.
    #[error("cannot run the XDP program on a frame: {0}")]
    TestRun(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Anything else that aya reports while loading.
    #[error("cannot load the XDP program: {0}")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The program's trace cannot be followed.
    #[error("cannot follow the trace of the XDP program")]
    Trace(#[source] Box<dyn std::error::Error + Send + Sync>),
}
