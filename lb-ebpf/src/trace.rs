//! An operator's trace: one line for each decision, none for a packet of an established
//! connection.
//!
//! The agent switches it on by a constant at load; otherwise the verifier removes this
//! code. Lines are written after the verdict only, when the functions that reached it have
//! returned: a line takes up much of the stack, of which a chain of calls has 512 bytes.

use core::hint::black_box;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use lb_abi::{Address, REASONS, Reason, TRACE_TARGET};

use crate::frame::Frame;
use crate::maps::SERVER_OWNERS;
use crate::packet::Packet;
use crate::parse;

/// True if decisions are traced.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    level_enabled(Level::Debug)
}

/// The slot of the server that the packet has opened a connection to, plus 1; else 0.
#[btf_map]
static OPENED: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Notes that the packet has opened a connection to the server in `slot`.
#[inline(always)]
pub(crate) fn note_opened(slot: u32) {
    if let Some(opened) = OPENED.get_ptr_mut(0) {
        // SAFETY: this CPU runs one program at a time.
        unsafe { *opened = slot + 1 };
    }
}

/// Takes the slot that was noted for the packet.
#[inline(always)]
fn take_opened() -> Option<u32> {
    let opened = OPENED.get_ptr_mut(0)?;
    // SAFETY: as above.
    unsafe { core::mem::take(&mut *opened) }.checked_sub(1)
}

/// Writes the line about the frame that was handled last, if `reason` is worth one.
#[inline(never)]
pub(crate) fn decision(context: *mut xdp_md, reason: Reason) {
    if is_parse_error(reason) {
        parse_error(context, reason);
        return;
    }
    let Some(packet) = parse::last_packet() else {
        return;
    };
    match take_opened() {
        Some(slot) => opened(packet, slot, reason),
        None if is_refusal(reason) => refused(packet, reason),
        None => {}
    }
}

#[inline(always)]
fn opened(packet: &Packet, slot: u32, reason: Reason) {
    let Some(owner) = SERVER_OWNERS.get(slot) else {
        return;
    };
    debug!(
        packet,
        target: TRACE_TARGET,
        "{} from {:i} port {} to {:i} port {}: new connection, server {:i} port {}, {}",
        protocol(packet),
        bytes(&packet.client),
        u16::from_be(packet.client_port),
        bytes(&packet.virtual_address),
        u16::from_be(packet.service_port),
        bytes(&owner.address),
        u16::from_be(owner.port),
        name(reason)
    );
}

#[inline(always)]
fn refused(packet: &Packet, reason: Reason) {
    debug!(
        packet,
        target: TRACE_TARGET,
        "{} from {:i} port {} to {:i} port {}: {}",
        protocol(packet),
        bytes(&packet.client),
        u16::from_be(packet.client_port),
        bytes(&packet.virtual_address),
        u16::from_be(packet.service_port),
        name(reason)
    );
}

#[inline(always)]
fn parse_error(context: *mut xdp_md, reason: Reason) {
    let context = XdpContext::new(context);
    let interface_index = Frame::new(&context).interface_index();
    debug!(
        context,
        target: TRACE_TARGET,
        "frame on interface {}: {}",
        interface_index,
        name(reason)
    );
}

/// True if the parser gave up a frame for `reason` before it knew whether the packet is
/// for a service.
#[inline(always)]
fn is_parse_error(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Truncated | Reason::Malformed | Reason::ManyTags | Reason::ExtensionHeaders
    )
}

/// True if `reason` says why a packet for a service went to no server.
#[inline(always)]
fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Reset
            | Reason::Dropped
            | Reason::Fragment
            | Reason::NoConnection
            | Reason::BalancedBefore
            | Reason::HopsExceeded
            | Reason::MartianSource
            | Reason::NoServer
            | Reason::ServerGone
            | Reason::TooBig
            | Reason::TooBigSilently
            | Reason::NoRoom
    )
}

#[inline(always)]
fn protocol(packet: &Packet) -> &'static str {
    if packet.is_udp() { "udp" } else { "tcp" }
}

/// The bytes of an address for `{:i}`, which formats IPv4 addresses as mapped ones.
#[inline(always)]
fn bytes(address: &Address) -> [u8; 16] {
    // SAFETY: bytes of words; of the same size, or this does not compile.
    unsafe { core::mem::transmute(address.0) }
}

/// Length of a name in [`NAMES`].
const NAME_BYTES: usize = 20;

/// The names of all reasons, padded with spaces: a text of constant length is copied
/// without a loop.
static NAMES: [[u8; NAME_BYTES]; REASONS.len()] = {
    let mut names = [[b' '; NAME_BYTES]; REASONS.len()];
    let mut number = 0;
    while number < REASONS.len() {
        let name = REASONS[number].name().as_bytes();
        let mut place = 0;
        while place < name.len() {
            names[number][place] = name[place];
            place += 1;
        }
        number += 1;
    }
    names
};

#[inline(always)]
fn name(reason: Reason) -> &'static str {
    // The compiler knows the range of a reason, the verifier does not: it knows nothing of what
    // a global function has returned.
    let number = black_box(reason as usize);
    let name = NAMES.get(number).unwrap_or(&NAMES[0]);
    // SAFETY: names of ASCII letters, and spaces.
    unsafe { core::str::from_utf8_unchecked(name) }
}
