//! Only a packet's first fragment has ports; the others follow it, or, where it
//! has not been seen, the server that their client sticks to.

use lb_abi::{FragmentKey, FragmentTarget, Reason, TO_THE_STACK};

use crate::balance::decision::Decision;
use crate::maps::FRAGMENTS;
use crate::parse::Packet;
use crate::persistence;
use crate::service_table::{Backend, ServiceTable};

/// How long a receiver waits for all fragments of a packet (`ipfrag_time` of
/// ip-sysctl); a later one that bears the same number is another packet's.
const REASSEMBLY_NS: u64 = 30_000_000_000;

#[inline(always)]
fn key(packet: &Packet) -> FragmentKey {
    FragmentKey {
        source: packet.client,
        destination: packet.virtual_address,
        identification: packet.identification,
        protocol: if packet.is_ipv6 {
            0
        } else {
            u32::from(packet.protocol)
        },
    }
}

/// Remembers where a first fragment goes.
#[inline(never)]
pub fn remember(packet: &Packet, backend: Backend, now_ns: u64) {
    insert(packet, backend.slot, backend.server.generation, now_ns);
}

/// Remembers that a first fragment goes to no server, where others would be
/// guessed to go to one.
#[inline(never)]
pub fn remember_no_server(table: ServiceTable, packet: &Packet, now_ns: u64) {
    if table.service_without_ports(packet).is_some() {
        insert(packet, TO_THE_STACK, 0, now_ns);
    }
}

#[inline(always)]
fn insert(packet: &Packet, server: u32, generation: u32, now_ns: u64) {
    let target = FragmentTarget {
        expires_ns: now_ns + REASSEMBLY_NS,
        server,
        generation,
    };
    // Should the kernel refuse, later fragments are such without a first.
    let _ = FRAGMENTS.insert(&key(packet), &target, 0);
}

/// Where a later fragment goes.
#[inline(never)]
pub fn follow(table: ServiceTable, packet: &Packet, now_ns: u64) -> Decision {
    match first(table, packet, now_ns).or_else(|| client(table, packet, now_ns)) {
        Some(decision) => decision,
        None => Decision::refuse(Reason::Fragment),
    }
}

/// Where the first one went, if it has been seen.
#[inline(always)]
fn first(table: ServiceTable, packet: &Packet, now_ns: u64) -> Option<Decision> {
    let target = FRAGMENTS.get_ptr(&key(packet))?;
    // SAFETY: a map value; should the kernel reuse it meanwhile, the
    // generation tells.
    let target = unsafe { *target };
    if target.expires_ns <= now_ns {
        return None;
    }
    if target.server == TO_THE_STACK {
        return Some(Decision::refuse(Reason::Fragment));
    }
    Some(match table.server(target.server, target.generation) {
        Some(backend) => Decision::to(backend.slot),
        None => Decision::refuse(Reason::Fragment),
    })
}

/// Where the client's connections go, if they can be of one service only.
#[inline(always)]
fn client(table: ServiceTable, packet: &Packet, now_ns: u64) -> Option<Decision> {
    let service = table.service_without_ports(packet)?;
    let held = persistence::held(table, service, packet, now_ns)?;
    Some(Decision::to(held.backend.slot))
}
