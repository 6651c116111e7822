//! The second chance: a program at a real server's ingress (tc(8), direct action) that
//! passes a packet for a virtual service, whose connection this server does not have, on to
//! the server that may have it.
//!
//! Whatever the program has no reason to touch goes on to the next program, and to the
//! stack. See docs/decisions/0017-second-chance.md.
#![no_std]
#![no_main]

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, TC_ACT_UNSPEC, bpf_sock, bpf_sock_tuple};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_sk_release, bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
};
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use lb_abi::second_chance::{
    COUNTED_GENERATIONS, COUNTER_COUNT, Counter, MAX_ENDPOINTS, MAX_TARGETS, Next, NextServer,
    Places, Target, VirtualEndpoint,
};
use lb_abi::{Address, ICMP, ICMPV6, Mac, Macs, TCP, client_hash};

#[btf_map]
static SERVICES: HashMap<VirtualEndpoint, Places, { MAX_ENDPOINTS as usize }> = HashMap::new();

/// The loader sets the number of places.
#[btf_map]
static PLACES: Array<Next, 1> = Array::new();

#[btf_map]
static PASSERS: HashMap<Target, u32, { MAX_TARGETS as usize }> = HashMap::new();

#[btf_map]
static TARGETS: Array<Target, { MAX_TARGETS as usize }> = Array::new();

#[btf_map]
static COUNTERS: PerCpuArray<u64, { COUNTER_COUNT as usize }> = PerCpuArray::new();

const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86DD_u16.to_be();

const TCP_SYN: u8 = 1 << 1;
const TCP_ACK: u8 = 1 << 4;

/// `BPF_TCP_LISTEN`.
const LISTEN: u32 = 10;
/// `PACKET_HOST` of linux/if_packet.h.
const TO_THIS_HOST: u32 = 0;

// Headers as they lie in a frame, which begins at an even address.

#[repr(C, packed(2))]
struct Ethernet {
    macs: Macs,
    ethertype: u16,
}

/// RFC 791 §3.1.
#[repr(C, packed(2))]
struct Ipv4 {
    version_and_length: u8,
    service: u8,
    total_length: u16,
    identification: u16,
    flags_and_offset: u16,
    time_to_live: u8,
    protocol: u8,
    checksum: u16,
    source: u32,
    destination: u32,
}

/// RFC 8200 §3.
#[repr(C, packed(2))]
struct Ipv6 {
    version_and_class: u32,
    payload_length: u16,
    next_header: u8,
    hop_limit: u8,
    source: [u32; 4],
    destination: [u32; 4],
}

/// RFC 9293 §3.1.
#[repr(C, packed(2))]
struct Tcp {
    ports: Ports,
    sequence: u32,
    acknowledged: u32,
    data_offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// What of a TCP header an ICMP error quotes in any case (RFC 792).
#[repr(C, packed(2))]
struct Ports {
    source: u16,
    destination: u16,
}

/// RFC 792, RFC 4443.
#[repr(C, packed(2))]
struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    rest: u32,
}

/// An IP header with what the program needs of it.
trait Network: Sized {
    /// IP protocol number of ICMP in this family.
    const ICMP: u8;

    /// Protocol number of what follows immediately, if that is a whole packet.
    fn protocol(&self) -> Option<u8>;

    /// True for the type of an ICMP message that is an error about a packet.
    fn is_error(kind: u8) -> bool;

    fn source(&self) -> Address;
    fn destination(&self) -> Address;
    fn hops(&self) -> u8;
    fn lower_hops(&mut self);

    /// Looks a socket of TCP up, of the packets that come from `remote` to `local`.
    fn look_up(context: &TcContext, connection: &Connection) -> *mut bpf_sock;
}

impl Network for Ipv4 {
    const ICMP: u8 = ICMP;

    #[inline(always)]
    fn protocol(&self) -> Option<u8> {
        const WITHOUT_OPTIONS: u8 = 0x45;
        const MORE_FRAGMENTS_AND_OFFSET: u16 = 0x3FFF_u16.to_be();
        let is_whole = self.version_and_length == WITHOUT_OPTIONS
            && self.flags_and_offset & MORE_FRAGMENTS_AND_OFFSET == 0;
        is_whole.then_some(self.protocol)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Destination unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn source(&self) -> Address {
        Address::from_ipv4_word(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address::from_ipv4_word(self.destination)
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.time_to_live
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        // RFC 1624: the word of time to live and protocol has one less in its upper byte.
        const ONE_HOP: u32 = 0x0100_u16.to_be() as u32;
        let sum = u32::from(self.checksum) + ONE_HOP;
        self.checksum = (sum + u32::from(sum >= 0xFFFF)) as u16;
        self.time_to_live = self.time_to_live.wrapping_sub(1);
    }

    #[inline(always)]
    fn look_up(context: &TcContext, connection: &Connection) -> *mut bpf_sock {
        /// The fields of `bpf_sock_tuple.ipv4`; aligned as [`VirtualEndpoint`] is.
        #[repr(C, align(8))]
        struct Tuple(u32, u32, u16, u16);
        let mut tuple = Tuple(
            connection.client.ipv4_word(),
            connection.endpoint.address.ipv4_word(),
            connection.client_port,
            connection.endpoint.port,
        );
        look_up(context, &mut tuple, 2 * 4 + 2 * 2)
    }
}

impl Network for Ipv6 {
    const ICMP: u8 = ICMPV6;

    #[inline(always)]
    fn protocol(&self) -> Option<u8> {
        Some(self.next_header)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // RFC 4443 §2.1: errors have types below 128.
        kind < 128
    }

    #[inline(always)]
    fn source(&self) -> Address {
        Address(self.source)
    }

    #[inline(always)]
    fn destination(&self) -> Address {
        Address(self.destination)
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn lower_hops(&mut self) {
        self.hop_limit = self.hop_limit.wrapping_sub(1);
    }

    #[inline(always)]
    fn look_up(context: &TcContext, connection: &Connection) -> *mut bpf_sock {
        /// The fields of `bpf_sock_tuple.ipv6`; aligned as [`VirtualEndpoint`] is.
        #[repr(C, align(8))]
        struct Tuple([u32; 4], [u32; 4], u16, u16);
        let mut tuple = Tuple(
            connection.client.0,
            connection.endpoint.address.0,
            connection.client_port,
            connection.endpoint.port,
        );
        look_up(context, &mut tuple, 2 * 16 + 2 * 2)
    }
}

#[inline(always)]
fn look_up<T>(context: &TcContext, tuple: &mut T, bytes: u32) -> *mut bpf_sock {
    // SAFETY: the context is the kernel's, and the tuple has these bytes, which are those
    // of one of the two families (Linux 5.2).
    unsafe {
        bpf_skc_lookup_tcp(
            context.skb.skb.cast(),
            core::ptr::from_mut(tuple).cast::<bpf_sock_tuple>(),
            bytes,
            i64::from(BPF_F_CURRENT_NETNS).cast_unsigned(),
            0,
        )
    }
}

/// The connection that a packet belongs to, or that an ICMP error is about.
struct Connection {
    endpoint: VirtualEndpoint,
    client: Address,
    client_port: u16,
    /// True if the packet itself is the client's, and may complete a handshake.
    is_acknowledgement: bool,
}

/// Entry point. Whatever is not redirected goes on to the next program.
#[classifier]
fn second_chance(context: TcContext) -> i32 {
    // SAFETY: the context is the one that the kernel gave us.
    if unsafe { (*context.skb.skb).pkt_type } != TO_THIS_HOST {
        return TC_ACT_UNSPEC;
    }
    let action = match header::<Ethernet>(&context, 0).map(|ethernet| ethernet.ethertype) {
        Some(ETHERTYPE_IPV4) => pass_on::<Ipv4>(&context),
        Some(ETHERTYPE_IPV6) => pass_on::<Ipv6>(&context),
        _ => None,
    };
    action.unwrap_or(TC_ACT_UNSPEC)
}

/// Passes a packet on; `None` if it is left alone.
#[inline(always)]
fn pass_on<N: Network>(context: &TcContext) -> Option<i32> {
    let connection = connection::<N>(context)?;
    // SAFETY: a value is written before its key is entered.
    let places = unsafe { SERVICES.get(&connection.endpoint) }?;
    if is_here::<N>(context, &connection) {
        return None;
    }
    let port = if places.hash_port == 0 {
        0
    } else {
        connection.client_port
    };
    let place = client_hash(&connection.client, port).checked_rem(places.count)?;
    let next = next(context, PLACES.get(places.first + place)?)?;
    let Some(target) = next.target().and_then(|target| TARGETS.get(target)) else {
        count(Counter::NoTarget as u32);
        return None;
    };
    let network = header::<N>(context, size_of::<Ethernet>())?;
    if network.hops() <= 1 {
        count(Counter::HopsExceeded as u32);
        return None;
    }
    network.lower_hops();
    let ethernet = header::<Ethernet>(context, 0)?;
    // The frame came to our address.
    let own = ethernet.macs.destination;
    ethernet.macs.source.copy_from(&own);
    ethernet.macs.destination.copy_from(&target.mac);
    let generation = next.generation().min(COUNTED_GENERATIONS - 1);
    count(Counter::PassedOn as u32 + generation);
    // SAFETY: no pointers; out by the interface that it came from.
    Some(unsafe { bpf_redirect((*context.skb.skb).ifindex, 0) } as i32)
}

/// The server that comes next for a packet: whether another server has passed the packet on
/// is seen by the frame's source.
#[inline(always)]
fn next(context: &TcContext, next: &Next) -> Option<NextServer> {
    let source = Target {
        mac: header::<Ethernet>(context, 0)?.macs.source,
        reserved: 0,
    };
    // SAFETY: the value is never read.
    let passer = unsafe { PASSERS.get(&source) };
    Some(if passer.is_some() {
        next.from_server
    } else {
        next.from_director
    })
}

/// Reads the headers; `None` for a packet that opens a connection, and for whatever else
/// is not looked at.
#[inline(always)]
fn connection<N: Network>(context: &TcContext) -> Option<Connection> {
    let network_end = size_of::<Ethernet>() + size_of::<N>();
    // Drivers may leave headers in pages.
    if context.data() + network_end + size_of::<Tcp>() > context.data_end() {
        let _ = context.pull_data((network_end + size_of::<Tcp>()) as u32);
    }
    let network = header::<N>(context, size_of::<Ethernet>())?;
    let protocol = network.protocol()?;
    if protocol == N::ICMP {
        return related::<N>(context);
    }
    if protocol != TCP {
        return None;
    }
    let tcp = header::<Tcp>(context, network_end)?;
    if tcp.flags & TCP_SYN != 0 {
        return None;
    }
    Some(Connection {
        endpoint: VirtualEndpoint {
            address: network.destination(),
            port: tcp.ports.destination,
            reserved: [0; 3],
        },
        client: network.source(),
        client_port: tcp.ports.source,
        is_acknowledgement: tcp.flags & TCP_ACK != 0,
    })
}

/// The connection that an ICMP error quotes a packet of: from the service to the client.
/// Path MTU discovery needs such errors (RFC 1191, RFC 8201).
#[inline(always)]
fn related<N: Network>(context: &TcContext) -> Option<Connection> {
    let icmp_offset = size_of::<Ethernet>() + size_of::<N>();
    let quoted_offset = icmp_offset + size_of::<Icmp>();
    let ports_offset = quoted_offset + size_of::<N>();
    if context.data() + ports_offset + size_of::<Ports>() > context.data_end() {
        let _ = context.pull_data((ports_offset + size_of::<Ports>()) as u32);
    }
    if !N::is_error(header::<Icmp>(context, icmp_offset)?.kind) {
        return None;
    }
    let quoted = header::<N>(context, quoted_offset)?;
    if quoted.protocol() != Some(TCP) {
        return None;
    }
    let ports = header::<Ports>(context, ports_offset)?;
    Some(Connection {
        endpoint: VirtualEndpoint {
            address: quoted.source(),
            port: ports.source,
            reserved: [0; 3],
        },
        client: quoted.destination(),
        client_port: ports.destination,
        is_acknowledgement: false,
    })
}

/// True if this host has a socket for the connection, or the packet completes a handshake
/// that it has answered by a SYN cookie.
#[inline(always)]
fn is_here<N: Network>(context: &TcContext, connection: &Connection) -> bool {
    let socket = N::look_up(context, connection);
    if socket.is_null() {
        return false;
    }
    // SAFETY: the socket is ours until it is released.
    let is_here = if unsafe { (*socket).state } == LISTEN {
        connection.is_acknowledgement && has_cookie::<N>(context, socket)
    } else {
        true
    };
    // SAFETY: it is not used any more.
    unsafe { bpf_sk_release(socket.cast()) };
    is_here
}

#[inline(always)]
fn has_cookie<N: Network>(context: &TcContext, socket: *mut bpf_sock) -> bool {
    let offset = size_of::<Ethernet>();
    let Some(network) = header::<N>(context, offset) else {
        return false;
    };
    let Some(tcp) = header::<Tcp>(context, offset + size_of::<N>()) else {
        return false;
    };
    // SAFETY: both headers lie in the packet as a whole (Linux 5.2).
    let result = unsafe {
        bpf_tcp_check_syncookie(
            socket.cast(),
            core::ptr::from_mut(network).cast(),
            size_of::<N>() as u32,
            core::ptr::from_mut(tcp).cast(),
            size_of::<Tcp>() as u32,
        )
    };
    result == 0
}

/// The header at `offset`, if the packet's linear part holds all of it.
#[inline(always)]
#[expect(
    clippy::mut_from_ref,
    reason = "the packet is the kernel's, the context only says where it lies"
)]
fn header<T>(context: &TcContext, offset: usize) -> Option<&mut T> {
    const { assert!(align_of::<T>() <= 2) };
    let start = context.data() + offset;
    if start + size_of::<T>() > context.data_end() {
        return None;
    }
    // SAFETY: the packet holds all of it, and headers are made of integers. Nobody else
    // looks at it while the program runs.
    Some(unsafe { &mut *(start as *mut T) })
}

#[inline(always)]
fn count(counter: u32) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: this CPU's own value.
        unsafe { *count += 1 };
    }
}

const _: () = assert!(size_of::<Mac>() == 6);

/// Nothing here panics; the linker only wants the symbol.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
