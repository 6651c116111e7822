//! Only a packet's first fragment has ports; the others follow it.

use lb_common::{FragmentKey, FragmentTarget, Reason};

use crate::balance::decision::Decision;
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
#[inline(never)]
pub fn remember(packet: &Packet, chosen: Chosen) {
    let target = FragmentTarget {
        server: chosen.slot,
        generation: chosen.server.generation,
    };
    // Should the kernel refuse, later fragments are the stack's.
    let _ = FRAGMENTS.insert(&key(packet), &target, 0);
}

/// A later fragment goes where the first one of its packet went.
#[inline(never)]
pub fn follow(description: Description, packet: &Packet) -> Decision {
    let target = FRAGMENTS.get_ptr(&key(packet));
    let chosen = target.and_then(|target| {
        // SAFETY: a map value; should the kernel reuse it meanwhile, the
        // generation tells.
        let target = unsafe { *target };
        description.server(target.server, target.generation)
    });
    match chosen {
        Some(chosen) => Decision::to(chosen.slot),
        None => Decision::none(Reason::Fragment),
    }
}
