//! The outcome for a packet of the slow path, and its form in one number.
//!
//! A BPF function that is called, not inlined, can return one number only.

use lb_abi::Reason;

use crate::service_table::{Backend, ServiceTable};

/// The outcome for a packet.
#[derive(Clone, Copy)]
pub(crate) enum Decision {
    /// It goes to the server in a slot.
    Forward(u32),
    /// As [`Self::Forward`]; the packet proves that its client completes handshakes, so
    /// that the client's template goes to the table of established ones.
    ForwardEstablished(u32),
    /// It goes to no server.
    Refuse(Reason),
}

/// A [`Decision`] in one number.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Encoded(u64);

/// An `Option<Decision>` in one number.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct EncodedOption(u64);

/// Beside a slot: [`Decision::ForwardEstablished`]. Without it: [`Decision::Forward`].
const ESTABLISHED: u64 = 1 << 32;
/// Beside a reason: [`Decision::Refuse`].
const REFUSE: u64 = 2 << 32;
impl Encoded {
    /// True for [`Decision::ForwardEstablished`].
    #[inline(always)]
    pub(crate) fn is_established(self) -> bool {
        self.0 & ESTABLISHED != 0
    }

    /// The server.
    ///
    /// # Errors
    ///
    /// The reason why there is none.
    #[inline(always)]
    pub(crate) fn resolve(self, table: ServiceTable) -> Result<Backend, Reason> {
        let number = self.0 as u32;
        if self.0 & REFUSE != 0 {
            return Err(Reason::from_number(number));
        }
        table.slot(number).ok_or(Reason::ServerGone)
    }
}

impl From<Decision> for Encoded {
    #[inline(always)]
    fn from(decision: Decision) -> Self {
        Self(match decision {
            Decision::Forward(slot) => u64::from(slot),
            Decision::ForwardEstablished(slot) => ESTABLISHED | u64::from(slot),
            Decision::Refuse(reason) => REFUSE | u64::from(reason as u32),
        })
    }
}

impl EncodedOption {
    pub(crate) const NONE: Self = Self(4 << 32);

    #[inline(always)]
    pub(crate) fn decode(self) -> Option<Encoded> {
        (self.0 != Self::NONE.0).then_some(Encoded(self.0))
    }
}

impl From<Encoded> for EncodedOption {
    #[inline(always)]
    fn from(Encoded(decision): Encoded) -> Self {
        Self(decision)
    }
}

impl From<Decision> for EncodedOption {
    #[inline(always)]
    fn from(decision: Decision) -> Self {
        Encoded::from(decision).into()
    }
}
