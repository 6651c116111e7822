//! Fragments. Only the first one of a packet has ports. The others go where it went; if
//! it has not been seen, they go to the server that persistence ties their client to.

use lb_abi::{FragmentKey, FragmentTarget, Reason, TO_THE_STACK};

use crate::decision::{Decision, Encoded};
use crate::maps::FRAGMENTS;
use crate::packet::Packet;
use crate::persistence;
use crate::service_table::{Backend, ServiceTable};

/// Time for which a receiver waits for all fragments of a packet (`ipfrag_time` of ip-sysctl).
/// Later fragments of the same identification belong to another packet.
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

/// Enters the backend of a first fragment.
#[inline(never)]
pub(crate) fn insert(packet: &Packet, backend: Backend, now_ns: u64) {
    insert_target(packet, backend.slot, backend.server.generation, now_ns);
}

/// Enters that a first fragment has no backend, if [`follow`] would otherwise assume
/// one for the later fragments.
#[inline(never)]
pub(crate) fn insert_refused(table: ServiceTable, packet: &Packet, now_ns: u64) {
    if table.service_without_ports(packet).is_some() {
        insert_target(packet, TO_THE_STACK, 0, now_ns);
    }
}

#[inline(always)]
fn insert_target(packet: &Packet, server: u32, generation: u32, now_ns: u64) {
    let target = FragmentTarget {
        expires_ns: now_ns + REASSEMBLY_NS,
        server,
        generation,
    };
    // Should the kernel refuse, the later fragments are handled as if the first one had
    // not been seen.
    let _ = FRAGMENTS.insert(&key(packet), &target, 0);
}

/// The outcome for a later fragment.
#[inline(never)]
pub(crate) fn follow(table: ServiceTable, packet: &Packet, now_ns: u64) -> Encoded {
    first(table, packet, now_ns)
        .or_else(|| client(table, packet, now_ns))
        .unwrap_or(Decision::Refuse(Reason::Fragment))
        .into()
}

/// The outcome for the first fragment, if it has been seen.
#[inline(always)]
fn first(table: ServiceTable, packet: &Packet, now_ns: u64) -> Option<Decision> {
    let target = FRAGMENTS.get_ptr(&key(packet))?;
    // SAFETY: a map value; if the kernel evicts the entry meanwhile and gives it to
    // another packet, it names that packet's server.
    let target = unsafe { *target };
    if target.expires_ns <= now_ns {
        return None;
    }
    if target.server == TO_THE_STACK {
        return Some(Decision::Refuse(Reason::Fragment));
    }
    Some(match table.server(target.server, target.generation) {
        Some(backend) => Decision::Forward(backend.slot),
        None => Decision::Refuse(Reason::Fragment),
    })
}

/// The server that persistence ties the client to, if its packets can be for one service
/// only.
#[inline(always)]
fn client(table: ServiceTable, packet: &Packet, now_ns: u64) -> Option<Decision> {
    let service = table.service_without_ports(packet)?;
    let sticky = persistence::find(table, service, packet, now_ns)?;
    Some(Decision::Forward(sticky.backend.slot))
}
