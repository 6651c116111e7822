//! Packets, and the states of connections.

// Seconds.
pub(super) const SYN_RECEIVED: u64 = 96;
pub(super) const ESTABLISHED: u64 = 928;
pub(super) const FIN_WAIT: u64 = 160;
pub(super) const TIME_WAIT: u64 = 224;
pub(super) const CLOSED: u64 = 32;
pub(super) const UDP: u64 = 288;

/// Key of a service's connection: client, client's port, service's port.
pub(super) type Key = (u8, u16, u16);

/// A packet of a client, and its frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet {
    pub client: u8,
    pub port: u16,
    /// Port, if the service has all ports.
    pub to: u16,
    pub flags: &'static str,
    /// It is in a frame for another host.
    pub is_anothers: bool,
}

impl Packet {
    pub(crate) fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }

    pub(crate) fn is_syn(&self) -> bool {
        self.has('S') && !['.', 'F', 'R'].iter().any(|flag| self.has(*flag))
    }

    pub(crate) fn ends(&self) -> bool {
        self.has('F') || self.has('R')
    }

    pub(crate) fn key(&self) -> Key {
        (self.client, self.port, self.to)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    SynReceived,
    Established,
    FinWait,
    TimeWait,
    Closed,
    Udp,
}

impl State {
    pub(super) fn timeout(self) -> u64 {
        match self {
            Self::SynReceived => SYN_RECEIVED,
            Self::Established => ESTABLISHED,
            Self::FinWait => FIN_WAIT,
            Self::TimeWait => TIME_WAIT,
            Self::Closed => CLOSED,
            Self::Udp => UDP,
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::FinWait | Self::TimeWait | Self::Closed)
    }

    pub(super) fn after(self, packet: &Packet) -> Self {
        match self {
            Self::Udp => self,
            _ if packet.has('R') => Self::Closed,
            _ if packet.has('S') => self,
            Self::SynReceived if packet.has('F') => Self::TimeWait,
            Self::Established if packet.has('F') => Self::FinWait,
            Self::SynReceived if packet.has('.') => Self::Established,
            _ => self,
        }
    }

    /// True in the states of the table of established connections.
    pub(super) fn is_established(self) -> bool {
        matches!(self, Self::Established | Self::Udp)
    }

    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::SynReceived | Self::Established | Self::Udp)
    }
}
