//! The addresses of this host's interfaces: which frames are addressed to us.
//!
//! A switch that floods shows us frames for other hosts; forwarding those would double
//! them.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use lb_abi::{Server, Service};

use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::INTERFACES;
use crate::service_table::{GenerationIndex, ServiceRef, ServiceTable};

/// True if the frame, which would be forwarded to `server`, is addressed to this host.
///
/// Most frames leave by the interface that they came from, so that the server's entry
/// holds its address already. A frame for the address of a VLAN interface, or of the
/// bridge that the interface belongs to, is ours as well.
#[inline(always)]
pub(crate) fn is_addressed_to_us(frame: &Frame, ethernet: &Ethernet, server: &Server) -> bool {
    ethernet.macs.destination == server.macs.source
        || match addressee(frame) {
            OURS => true,
            UNKNOWN => leaves_elsewhere(frame, server),
            _ => false,
        }
}

/// True if the frame, which will be forwarded to no server, is addressed to this host.
#[inline(always)]
pub(crate) fn is_addressed_to_interface(frame: &Frame) -> bool {
    addressee(frame) != OTHER_HOST
}

/// True if the frame, which is for `service` but for no server yet, is addressed to this
/// host.
#[inline(always)]
pub(crate) fn is_addressed_to_service(
    frame: &Frame,
    table: ServiceTable,
    service: ServiceRef,
) -> bool {
    is_addressed_to(frame, table.index, service.entry)
}

/// As [`is_addressed_to_service`]. One server stands for all of the service: frames that
/// come in by a bridge or a VLAN interface leave by it as well.
#[inline(never)]
pub(crate) fn is_addressed_to(frame: &Frame, index: GenerationIndex, service: &Service) -> bool {
    let is_as_of_a_server = match (index.at(service, 0), frame.header::<Ethernet>(0)) {
        (Some(backend), Some(ethernet)) => ethernet.macs.destination == backend.server.macs.source,
        _ => false,
    };
    // First what needs no look-up in a hash table.
    is_as_of_a_server || is_addressed_to_interface(frame)
}

/// True if a frame to `server` leaves by another interface than it came from.
#[inline(always)]
pub(crate) fn leaves_elsewhere(frame: &Frame, server: &Server) -> bool {
    server.interface_index != frame.interface_index()
}

// Numbers, since a BPF function that is not inlined can return nothing else.
const OTHER_HOST: u32 = 0;
const OURS: u32 = 1;
/// The agent could not read the interface's address.
const UNKNOWN: u32 = 2;

/// Compares the frame's destination with the address of the interface that it came from.
#[inline(always)]
fn addressee(frame: &Frame) -> u32 {
    addressee_of(frame.context())
}

/// Global, so that the verifier looks at it once, as at
/// [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn addressee_of(context: *mut xdp_md) -> u32 {
    let context = XdpContext::new(context);
    let frame = Frame::new(&context);
    // SAFETY: the agent replaces a value as a whole, when the interface's address
    // changes.
    let Some(interface) = (unsafe { INTERFACES.get(&frame.interface_index()) }) else {
        return UNKNOWN;
    };
    match frame.header::<Ethernet>(0) {
        Some(ethernet) if ethernet.macs.destination == interface.mac => OURS,
        _ => OTHER_HOST,
    }
}
