//! An operator's trace: one line for each decision, none for a packet of a
//! connection that goes on.
//!
//! It is on where the agent says so at load; where not, the verifier removes
//! it. Lines are written here only: when the verdict has been reached, what
//! reached it has left the stack, of which a line takes much.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use lb_abi::{Address, REASONS, Reason, TRACE_TARGET};

use crate::frame::Frame;
use crate::maps::{OPENED, SERVER_OWNERS};
use crate::parse::{self, Packet};

/// Whether decisions are to be told.
#[inline(always)]
pub fn is_on() -> bool {
    level_enabled(Level::Debug)
}

/// Notes that the packet has opened a connection to the server in `slot`.
#[inline(always)]
pub fn note_opened(slot: u32) {
    if let Some(opened) = OPENED.get_ptr_mut(0) {
        // SAFETY: this CPU runs one program at a time.
        unsafe { *opened = slot + 1 };
    }
}

/// What was noted of the packet; nothing, for the next one.
#[inline(always)]
fn take_opened() -> Option<u32> {
    let opened = OPENED.get_ptr_mut(0)?;
    // SAFETY: as above.
    unsafe { core::mem::take(&mut *opened) }.checked_sub(1)
}

/// Tells the decision about the packet that was parsed last, if `reason` is
/// one.
#[inline(never)]
pub fn decision(context: *mut xdp_md, reason: Reason) {
    if is_parse_error(reason) {
        parse_error(context, reason);
        return;
    }
    let Some(packet) = parse::last() else { return };
    match take_opened() {
        Some(slot) => opened(packet, slot, reason),
        None if is_refusal(reason) => refused(packet, reason),
        None => {}
    }
}

// What aya-log takes as `module` and `file` is the same in every line.

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

/// Whether a frame of ours may have met with `reason` before it was known whose
/// it is.
#[inline(always)]
fn is_parse_error(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Truncated | Reason::Malformed | Reason::ManyTags | Reason::ExtensionHeaders
    )
}

/// Whether `reason` is why a packet for a service went to no server.
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

/// An address as a line takes it: always an IPv6 one, see [`Address`].
#[inline(always)]
fn bytes(address: &Address) -> [u8; 16] {
    // SAFETY: bytes of words; of the same size, or this does not compile.
    unsafe { core::mem::transmute(address.0) }
}

/// Bytes of a name in [`NAMES`].
const NAME_BYTES: usize = 20;

/// The names of all reasons, filled up with spaces: a text whose length is
/// known is copied without a loop.
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
    let name = NAMES.get(reason as usize).unwrap_or(&NAMES[0]);
    // SAFETY: names of ASCII letters, and spaces.
    unsafe { core::str::from_utf8_unchecked(name) }
}
