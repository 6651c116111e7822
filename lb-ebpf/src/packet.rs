//! A packet as the balancer sees it, whatever its address family.

use lb_abi::{Address, FlowKey, UDP};

use crate::headers::{TCP_ACK as ACK, TCP_FIN as FIN, TCP_RST as RST, TCP_SYN as SYN};

/// The part of a datagram, or the message about one, that a frame holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole packet.
    Whole,
    /// The first fragment: it holds the transport header.
    FirstFragment,
    /// Any other fragment: it has no ports.
    LaterFragment,
    /// An ICMP error about a packet from the service to the client.
    IcmpError,
}

/// A packet from a client to what may be a virtual service, or an ICMP error about
/// a packet in the other direction.
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    /// The client's address.
    pub(crate) client: Address,
    /// The service's address.
    pub(crate) virtual_address: Address,
    /// IP protocol number: TCP or UDP.
    pub(crate) protocol: u8,
    /// Time to live, or hop limit.
    pub(crate) hops: u8,
    /// The client's port, in network byte order.
    pub(crate) client_port: u16,
    /// The service's port, in network byte order.
    pub(crate) service_port: u16,
    /// Bytes from the IP header on, without the frame's padding.
    pub(crate) bytes: u32,
    /// The TCP flags; 0 for UDP.
    pub(crate) tcp_flags: u8,
    /// The TCP sequence number; 0 for UDP.
    pub(crate) sequence: u32,
    /// The TCP acknowledgement number; 0 for UDP.
    pub(crate) acknowledged: u32,
    /// Identification that the fragments of a packet share; 0 in a whole packet.
    pub(crate) identification: u32,
    /// Number of VLAN tags before the IP header.
    pub(crate) tag_count: u32,
    pub(crate) is_ipv6: bool,
    /// See [`Self::network_offset`].
    pub(crate) network_offset: usize,
    /// See [`Self::transport_offset`].
    pub(crate) transport_offset: usize,
    /// Bytes of the transport header and its payload.
    pub(crate) transport_bytes: u32,
}

impl Packet {
    /// A packet of which no header has been read yet.
    pub(crate) const BLANK: Self = Self {
        kind: Kind::Whole,
        client: Address([0; 4]),
        virtual_address: Address([0; 4]),
        protocol: 0,
        hops: 0,
        client_port: 0,
        service_port: 0,
        bytes: 0,
        tcp_flags: 0,
        sequence: 0,
        acknowledged: 0,
        identification: 0,
        tag_count: 0,
        is_ipv6: false,
        network_offset: 0,
        transport_offset: 0,
        transport_bytes: 0,
    };

    /// Resets the fields that are not set for every packet; the parser sets all
    /// others.
    ///
    /// They are written one by one, since for an assignment of the whole the compiler
    /// calls a function that writes byte by byte.
    #[inline(always)]
    pub(crate) fn reset(&mut self) {
        self.kind = Kind::Whole;
        self.client_port = 0;
        self.service_port = 0;
        self.tcp_flags = 0;
        self.sequence = 0;
        self.acknowledged = 0;
        self.identification = 0;
        self.is_ipv6 = false;
    }

    /// Offset of the IP header from the frame's start: 14, 18 or 22.
    ///
    /// The mask bounds it for the verifier, which knows nothing of a number that has
    /// been stored in a map.
    #[inline(always)]
    pub(crate) fn network_offset(&self) -> usize {
        self.network_offset & 0x1F
    }

    /// Offset of the transport header: behind six extension headers of 2 kB at most.
    #[inline(always)]
    pub(crate) fn transport_offset(&self) -> usize {
        self.transport_offset & 0x3FFF
    }

    #[inline(always)]
    pub(crate) fn is_udp(&self) -> bool {
        self.protocol == UDP
    }

    /// True for a TCP SYN without ACK, FIN or RST.
    #[inline(always)]
    pub(crate) fn is_syn(&self) -> bool {
        self.tcp_flags & (FIN | SYN | RST | ACK) == SYN
    }

    #[inline(always)]
    pub(crate) fn is_reset(&self) -> bool {
        self.tcp_flags & RST != 0
    }

    /// True for a TCP RST without ACK, FIN or SYN: a reset that answers a segment with ACK
    /// has no other form (RFC 9293 §3.10.7.1, §3.10.7.3).
    #[inline(always)]
    pub(crate) fn is_bare_reset(&self) -> bool {
        self.tcp_flags & (FIN | SYN | RST | ACK) == RST
    }

    #[inline(always)]
    pub(crate) fn is_acknowledging(&self) -> bool {
        self.tcp_flags & ACK != 0
    }

    /// True if the packet may change the state of an established connection.
    #[inline(always)]
    pub(crate) fn begins_or_ends(&self) -> bool {
        self.tcp_flags & (SYN | FIN | RST) != 0
    }

    /// True if the client ends the connection with this packet.
    #[inline(always)]
    pub(crate) fn ends(&self) -> bool {
        self.tcp_flags & (FIN | RST) != 0
    }

    /// True if an ICMP error may be sent about the packet: not about another one, and
    /// of a fragmented packet about the first fragment only (RFC 1122 §3.2.2, RFC 4443
    /// §2.4).
    #[inline(always)]
    pub(crate) fn may_send_icmp_error(&self) -> bool {
        !matches!(self.kind, Kind::IcmpError | Kind::LaterFragment)
    }

    /// True if the packet is no longer than every host must accept (RFC 791 §3.1), so
    /// that it fits the MTU of any interface in use.
    #[inline(always)]
    pub(crate) fn is_small(&self) -> bool {
        const SMALL_BYTES: u32 = 576;
        self.bytes <= SMALL_BYTES
    }

    /// True if there is more behind the IP header than a TCP header with all options.
    #[inline(always)]
    pub(crate) fn has_payload(&self) -> bool {
        const MAX_TCP_HEADER_BYTES: u32 = 60;
        self.transport_bytes > MAX_TCP_HEADER_BYTES
    }

    /// True if the packet must not be forwarded any more (RFC 1812 §5.3.1, RFC 8200
    /// §3).
    #[inline(always)]
    pub(crate) fn has_no_hops_left(&self) -> bool {
        self.hops <= 1
    }

    /// True if the client's address is one that no host sends from, or the service's
    /// own.
    ///
    /// IPVS never sees such packets: the kernel's routing drops them before
    /// (`ip_route_input_slow`, `ip6_rcv_core`).
    #[inline(always)]
    pub(crate) fn is_martian(&self) -> bool {
        let client = &self.client;
        if *client == self.virtual_address {
            return true;
        }
        if self.is_ipv6 {
            const MULTICAST: u8 = 0xff;
            const LOOPBACK: u32 = 1_u32.to_be();
            let [a, b, c, d] = client.0;
            let is_none_or_loopback = a | b | c == 0 && (d == 0 || d == LOOPBACK);
            return is_none_or_loopback || client.is_ipv4() || a.to_ne_bytes()[0] == MULTICAST;
        }
        const THIS_NETWORK: u8 = 0;
        const LOOPBACK: u8 = 127;
        const BROADCAST: u32 = u32::MAX;
        let word = client.ipv4_word();
        let first = word.to_ne_bytes()[0];
        matches!(first, THIS_NETWORK | LOOPBACK | 224..=239) || word == BROADCAST
    }

    /// Hash of client address and ports: the same for all packets of a flow.
    #[inline(always)]
    pub(crate) fn flow_hash(&self) -> u32 {
        let Address([a, b, c, d]) = self.client;
        let ports = u32::from(self.client_port) * 0x0001_0001;
        let low = b ^ d ^ ports;
        let mixed = u64::from(a ^ c) << 32 | u64::from(low);
        (mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
    }

    /// Key of the packet's flow, if it is for the service of this number.
    #[inline(always)]
    pub(crate) fn flow_key(&self, service_number: u32) -> FlowKey {
        FlowKey {
            client: self.client,
            port: self.client_port,
            service: service_number as u16,
            service_port: self.service_port,
            reserved: 0,
        }
    }
}
