//! Only a packet's first fragment has ports; the others follow it.

use lb_common::{FragmentKey, FragmentTarget};

use crate::maps::FRAGMENTS;
use crate::parse::Packet;
use crate::service::{Chosen, Description};

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.client,
        destination: packet.virtual_address,
        identification: packet.identification,
        protocol: u32::from(packet.protocol),
    }
}

/// Remembers where a first fragment goes.
#[inline(always)]
pub fn remember(packet: &Packet, chosen: Chosen) {
    let target = FragmentTarget {
        server: chosen.slot,
        generation: chosen.server.generation,
    };
    // Should the kernel refuse, later fragments are the stack's.
    let _ = FRAGMENTS.insert(&key(packet), &target, 0);
}

/// Where the first fragment of the packet went.
#[inline(always)]
pub fn server(description: Description, packet: &Packet) -> Option<Chosen> {
    let target = FRAGMENTS.get_ptr(&key(packet))?;
    // SAFETY: a map value; should the kernel reuse it meanwhile, the
    // generation tells.
    let target = unsafe { *target };
    description.server(target.server, target.generation)
}
