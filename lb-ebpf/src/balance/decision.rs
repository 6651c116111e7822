//! What a function that is called, not inlined, can say in the one number that
//! it can return.

use lb_abi::Reason;

use crate::service_table::{Backend, ServiceTable};

/// What is to become of a packet.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Decision(u64);

/// Beside a slot: the packet goes to the server there.
const TO: u64 = 0;
/// Beside a reason: the packet goes to no server.
const NONE: u64 = 1 << 32;
/// The packet may open a connection.
const OPEN: u64 = 2 << 32;
/// Beside a slot: the packet has made the connection a lasting one.
const ESTABLISHED: u64 = 4 << 32;

impl Decision {
    #[inline(always)]
    pub fn to(slot: u32) -> Self {
        Self(TO | u64::from(slot))
    }

    #[inline(always)]
    pub fn to_established(slot: u32) -> Self {
        Self(ESTABLISHED | u64::from(slot))
    }

    #[inline(always)]
    pub fn refuse(reason: Reason) -> Self {
        Self(NONE | u64::from(reason as u32))
    }

    #[inline(always)]
    pub fn open() -> Self {
        Self(OPEN)
    }

    #[inline(always)]
    pub fn is_open(self) -> bool {
        self.0 == OPEN
    }

    #[inline(always)]
    pub fn is_established(self) -> bool {
        self.0 & ESTABLISHED != 0
    }

    /// The server, or why there is none.
    #[inline(always)]
    pub fn resolve(self, table: ServiceTable) -> Result<Backend, Reason> {
        let number = self.0 as u32;
        if self.0 & NONE != 0 {
            return Err(Reason::from_number(number));
        }
        table.slot(number).ok_or(Reason::ServerGone)
    }
}
