//! Protection from floods: denied sources, validation of sources, rates of new connections.
//!
//! A source is validated by its answer to a SYN-ACK with an acknowledgement number that it
//! cannot accept: a real client resets that connection, with the number as the reset's
//! sequence number (RFC 9293 §3.10.7.3), and sends its SYN again. The number is a cookie, so
//! that nothing is kept for a source that does not answer, and real servers see nothing of
//! it.
//!
//! Only packets of the slow path are looked at: established connections are none of this. Of
//! a source that is denied, the agent removes them.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::programs::XdpContext;
use lb_abi::{
    Address, CookieKey, PROVEN_NS, Protection, ProtectionFlags, Reason, Service, answers_challenge,
    challenge_number, cookie_hash,
};

use crate::frame::Frame;
use crate::headers::Ethernet;
use crate::maps::{DENIED_V4, DENIED_V6, PROTECTION, PROVEN, RATES};
use crate::packet::Packet;
use crate::parse::fast::ParseNetwork;
use crate::service_table::{GenerationIndex, ServiceRef, ServiceTable};
use crate::{clock, interface, parse, reply};

/// The settings, if one of `flags` is set.
#[inline(always)]
fn settings(flags: ProtectionFlags) -> Option<&'static Protection> {
    PROTECTION.get(0).filter(|it| it.flags.intersects(flags))
}

/// Refuses packets of denied networks.
#[inline(always)]
pub(crate) fn check_source(
    frame: &Frame,
    packet: &Packet,
    table: ServiceTable,
    service: Option<ServiceRef>,
) -> Result<(), Reason> {
    if settings(ProtectionFlags::DENIES).is_some() && is_denied(&packet.client, packet.is_ipv6) {
        // Frames for other hosts are left alone, which a bridge may have to deliver.
        let is_ours = match service {
            Some(service) => interface::is_addressed_to_service(frame, table, service),
            None => interface::is_addressed_to_interface(frame),
        };
        return Err(if is_ours {
            Reason::Denied
        } else {
            Reason::OtherHost
        });
    }
    Ok(())
}

#[inline(never)]
fn is_denied(client: &Address, is_ipv6: bool) -> bool {
    if is_ipv6 {
        DENIED_V6.get(&Key::new(128, *client)).is_some()
    } else {
        DENIED_V4.get(&Key::new(32, client.ipv4_word())).is_some()
    }
}

/// Challenges a SYN of a source that is not proven, and takes answers to challenges.
///
/// An answer goes on to the connection tables: the client may have closed a connection from
/// the same port before, whose entry the next SYN replaces.
#[inline(always)]
pub(crate) fn check_handshake(
    frame: &Frame,
    packet: &Packet,
    table: ServiceTable,
    service: ServiceRef,
    now_ns: u64,
) -> Result<(), Reason> {
    let is_concerned = packet.is_syn() || packet.is_bare_reset();
    let Some(settings) = settings(ProtectionFlags::VALIDATES).filter(|_| is_concerned) else {
        return Ok(());
    };
    if !packet.is_syn() {
        note_answer(packet, now_ns);
        return Ok(());
    }
    if is_proven(packet, now_ns) || packet.is_martian() {
        return Ok(());
    }
    Err(
        if interface::is_addressed_to_service(frame, table, service) {
            challenge(frame, packet, settings)
        } else {
            Reason::OtherHost
        },
    )
}

/// A value that the compiler writes in words of 8 bytes, which the verifier requires to be
/// aligned on the stack.
#[repr(align(8))]
struct Aligned<T>(T);

/// The verdict on a SYN of the fast path if it is challenged, or denied; `None`, and nothing has
/// been changed, if the slow path must handle it.
///
/// A flood is made of these. Not inlined, since for established packets it would cost
/// registers; it reads the packet once more rather than that its caller keeps it in memory.
#[inline(never)]
pub(crate) fn challenge_fast<N: ParseNetwork>(
    context: *mut xdp_md,
    table: ServiceTable,
    service: &Service,
) -> Option<Reason> {
    let settings = settings(ProtectionFlags::VALIDATES)?;
    let context = XdpContext::new(context);
    let frame = &Frame::new(&context);
    let packet = &parse::fast::syn::<N>(frame)?;
    let ethernet: &Ethernet = frame.header(0)?;
    let is_exceptional = packet.has_no_hops_left()
        || packet.is_martian()
        || packet.has_payload()
        || table.generation.peers.may_hold(ethernet.macs.source);
    if is_exceptional || !interface::is_addressed_to(frame, table.index, service) {
        return None;
    }
    if settings.flags.contains(ProtectionFlags::DENIES)
        && is_denied(&Aligned(packet.client).0, packet.is_ipv6)
    {
        return Some(Reason::Denied);
    }
    if find_proven(&Aligned(source_of(packet)).0, clock::now_from_ticks_ns()?) {
        return None;
    }
    let hash = hash(packet, settings.keys[(settings.active_key & 1) as usize]);
    let number = challenge_number(packet.sequence, hash);
    let sequence = (hash >> 32) as u32;
    Some(reply::challenge_in_place(frame, packet, number, sequence))
}

/// Takes note of a source whose reset answers a challenge.
#[inline(never)]
fn note_answer(packet: &Packet, now_ns: u64) {
    if answers(packet) {
        let proven_until_ns = now_ns + PROVEN_NS;
        // Should the kernel refuse, the client's next SYN is challenged once more.
        let _ = PROVEN.insert(&source_of(packet), &proven_until_ns, 0);
    }
}

#[inline(never)]
fn challenge(frame: &Frame, packet: &Packet, settings: &Protection) -> Reason {
    let hash = cookie(packet, settings.active_key);
    let number = challenge_number(packet.sequence, hash);
    reply::challenge(frame, packet, number, (hash >> 32) as u32)
}

#[inline(never)]
fn is_proven(packet: &Packet, now_ns: u64) -> bool {
    find_proven(&source_of(packet), now_ns)
}

#[inline(always)]
fn find_proven(source: &Address, now_ns: u64) -> bool {
    PROVEN
        .get_ptr(source)
        // SAFETY: a map value, read as a whole.
        .is_some_and(|until_ns| unsafe { until_ns.read_volatile() } > now_ns)
}

/// True if the packet, a reset, answers a challenge.
#[inline(always)]
fn answers(packet: &Packet) -> bool {
    let answers = |key| answers_challenge(packet.sequence, cookie(packet, key));
    answers(0) || answers(1)
}

/// The hash of a packet with the key of this index.
///
/// Global, as [`slow_path`](crate::slow_path): this is long.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn cookie(packet: *const Packet, key: u32) -> u64 {
    // SAFETY: all callers pass what a reference refers to.
    let (Some(settings), Some(packet)) = (PROTECTION.get(0), unsafe { packet.as_ref() }) else {
        return 0;
    };
    hash(packet, settings.keys[(key & 1) as usize])
}

#[inline(always)]
fn hash(packet: &Packet, key: CookieKey) -> u64 {
    cookie_hash(
        key,
        &packet.client,
        packet.client_port,
        packet.service_port,
        &packet.virtual_address,
    )
}

/// The reason why a packet that belongs to no connection, and opens none, is refused.
#[inline(never)]
pub(crate) fn reason_without_connection(
    frame: &Frame,
    packet: &Packet,
    index: GenerationIndex,
    service: &Service,
) -> Reason {
    if packet.is_bare_reset()
        && settings(ProtectionFlags::VALIDATES).is_some()
        && interface::is_addressed_to(frame, index, service)
    {
        return if answers(packet) {
            Reason::SourceProven
        } else {
            Reason::WrongCookie
        };
    }
    Reason::NoConnection
}

/// True if the packet's network may open another connection; then it counts as opened.
///
/// A token bucket in one number, the time at which it will be full again: the generic cell
/// rate algorithm (ITU-T I.371, annex A). Two CPUs may count one connection for two.
///
/// Global, as [`slow_path`](crate::slow_path).
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn admits(packet: *const Packet, now_ns: u64) -> bool {
    // SAFETY: `open` passes what it refers to.
    let (Some(settings), Some(packet)) = (PROTECTION.get(0), unsafe { packet.as_ref() }) else {
        return true;
    };
    if settings.interval_ns == 0 {
        return true;
    }
    let network = network_of(packet);
    let Some(full_at_ns) = RATES.get_ptr_mut(&network) else {
        let full_at_ns = now_ns + settings.interval_ns;
        // Should the kernel refuse, one connection is not counted.
        let _ = RATES.insert(&network, &full_at_ns, 0);
        return true;
    };
    // SAFETY: a map value, read and written as a whole.
    let before_ns = unsafe { full_at_ns.read_volatile() }.max(now_ns);
    if before_ns - now_ns > settings.burst_ns {
        // The bucket is empty. It may be one of a larger burst or a longer interval, which
        // were in force before.
        let empty_ns = now_ns + settings.burst_ns + settings.interval_ns;
        // SAFETY: as above.
        unsafe { full_at_ns.write_volatile(before_ns.min(empty_ns)) };
        return false;
    }
    // SAFETY: as above.
    unsafe { full_at_ns.write_volatile(before_ns + settings.interval_ns) };
    true
}

/// What is proven: an IPv4 client, or the /64 of an IPv6 client. A host has all addresses of
/// its /64, with which it could fill the table.
#[inline(always)]
fn source_of(packet: &Packet) -> Address {
    if packet.is_ipv6 {
        network_of(packet)
    } else {
        packet.client
    }
}

/// The /24 of an IPv4 client, the /64 of an IPv6 client.
#[inline(always)]
fn network_of(packet: &Packet) -> Address {
    const FIRST_THREE_BYTES: u32 = 0xFFFF_FF00_u32.to_be();
    let Address([a, b, c, d]) = packet.client;
    if packet.is_ipv6 {
        Address([a, b, 0, 0])
    } else {
        Address([a, b, c, d & FIRST_THREE_BYTES])
    }
}
