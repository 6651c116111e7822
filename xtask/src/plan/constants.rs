//! What things cost, as measured: the one place that the simulation takes its figures from.

/// A measured figure, and the place that says how it was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constant {
    pub(super) what: &'static str,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) source: &'static str,
}

/// CPU time of a server for a megabyte that it delivers, one core, 1,000 players.
pub(super) const SENDING: Constant = Constant {
    what: "sending, `mw_latency 350`",
    value: 0.223,
    unit: "CPU ms/MB",
    source: "performance.md, *Against the floor and nginx-rtmp*",
};

/// The same with every message sent at once.
pub(super) const SENDING_AT_ONCE: Constant = Constant {
    what: "sending, `min_latency on`",
    value: 1.38,
    unit: "CPU ms/MB",
    source: "performance.md, *Against the floor and nginx-rtmp*",
};

/// CPU time of handshake and commands of a player.
pub(super) const JOINING: Constant = Constant {
    what: "a player's handshake and commands",
    value: 0.08,
    unit: "CPU ms",
    source: "performance.md, *Against the floor and nginx-rtmp*",
};

/// Resident memory of a server for a player; the kernel's socket buffers come on top.
pub(super) const PLAYER: Constant = Constant {
    what: "a player, socket buffers apart",
    value: 2_122.0,
    unit: "bytes",
    source: "performance.md, *Against the floor and nginx-rtmp*",
};

/// CPU time of a server per second for an edge below it, whatever it delivers.
pub(super) const CHILD: Constant = Constant {
    what: "an edge below a server",
    value: 0.3,
    unit: "CPU ms/s",
    source: "performance.md, *Added latency*",
};

/// A packet of an established connection, drawn from 65,536 in a table of a million.
pub(super) const PACKET: Constant = Constant {
    what: "a packet of an established connection, caches cold",
    value: 784.0,
    unit: "ns",
    source: "performance-xdp.md, *Where it stands*",
};

/// Kernel memory of a connection in the director's table.
pub(super) const CONNECTION: Constant = Constant {
    what: "a connection in the director's table",
    value: 120.0,
    unit: "bytes",
    source: "performance-xdp.md, *Where it stands*",
};

/// Clients of a dead server that a director resets per second (`lb_reset_rate`).
pub(super) const RESETS: Constant = Constant {
    what: "clients of a dead server that are reset",
    value: 50_000.0,
    unit: "1/s",
    source: "configuration.md, `lb_reset_rate`",
};

/// Time until a backup leads after a master's death, at priority 100.
pub(super) const TAKE_OVER: Constant = Constant {
    what: "a backup leads after a master's death, priority 100, `advert_int 1`",
    value: 3.609,
    unit: "s",
    source: "vrrp.md, *Take-over times*",
};

/// All of them, for the document.
pub(super) const ALL: [Constant; 9] = [
    SENDING,
    SENDING_AT_ONCE,
    JOINING,
    PLAYER,
    CHILD,
    PACKET,
    CONNECTION,
    RESETS,
    TAKE_OVER,
];

/// Bytes on the wire for a byte of a stream: full segments with time stamps carry 1,448
/// bytes in a frame that takes 1,538 (IEEE 802.3: preamble and gap, header, checksum; RFC
/// 7323 for the 12 bytes of time stamps).
pub(super) const WIRE_FACTOR: f64 = 1_538.0 / SEGMENT_BYTES;

/// Bytes of a stream in a full segment.
pub(super) const SEGMENT_BYTES: f64 = 1_448.0;

/// Segments that a client acknowledges together (RFC 5681 §4.2: every second full one at
/// least). Not measured: a client whose card joins segments sends fewer.
pub(super) const SEGMENTS_PER_ACK: f64 = 2.0;

/// Bits on the wire of the smallest frame (IEEE 802.3), which an acknowledgement takes.
pub(super) const SMALLEST_FRAME_BITS: f64 = 84.0 * 8.0;
