//! The packets that the slow path works on, in a map of this CPU.
//!
//! The verifier tracks every byte of the stack, and would follow each combination of
//! address family, tags and fragments through the whole program. Of a number that was
//! read from a map it assumes nothing, so that it follows the program once.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use lb_abi::Reason;

use crate::packet::Packet;

#[btf_map]
static SCRATCH: PerCpuArray<Packet, 2> = PerCpuArray::new();

/// Place of the packet that the frame holds.
const PACKET: u32 = 0;
/// Place of the packet that an ICMP error quotes.
const QUOTED: u32 = 1;

/// The packet to read the frame's headers into.
#[inline(always)]
pub(super) fn packet() -> Result<&'static mut Packet, Reason> {
    take(PACKET)
}

/// The packet to read the headers into that an ICMP error quotes.
#[inline(always)]
pub(super) fn quoted() -> Result<&'static mut Packet, Reason> {
    take(QUOTED)
}

/// The packet that was parsed last on this CPU.
#[inline(always)]
pub(crate) fn last_packet() -> Option<&'static Packet> {
    let packet = SCRATCH.get_ptr(PACKET)?;
    // SAFETY: this CPU runs one program at a time, and nothing writes to the packet
    // once it has been parsed.
    Some(unsafe { &*packet })
}

#[inline(always)]
fn take(place: u32) -> Result<&'static mut Packet, Reason> {
    let packet = SCRATCH.get_ptr_mut(place).ok_or(Reason::NoRoom)?;
    // SAFETY: this CPU runs one program at a time, which takes each place once.
    let packet = unsafe { &mut *packet };
    packet.reset();
    Ok(packet)
}
