//! Counters of forwarded traffic.

use serde::{Deserialize, Serialize};

/// Forwarded traffic, in the direction from the viewers.
///
/// Direct routing never sees the other direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets_in: u64,
    /// Bytes forwarded, counted from the IP header on as ipvsadm(8) does.
    pub bytes_in: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
    }
}
