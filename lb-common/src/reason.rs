//! Every verdict has a named reason.

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The host's own stack gets it, untouched.
    Pass,
    /// It leaves, by the interface it came from or by another.
    Forward,
}

macro_rules! reasons {
    ($($(#[doc = $description:literal])+ $variant:ident = $name:literal, $action:ident;)+) => {
        /// Why a packet met its fate.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $description])+ $variant,)+
        }

        /// All reasons, each at its own number.
        pub const REASONS: &[Reason] = &[$(Reason::$variant),+];

        impl Reason {
            /// Name, for tables and metrics.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($description),+).trim_ascii(),)+ }
            }

            /// What such a reason leads to.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)+ }
            }
        }
    };
}

reasons! {
    /// Forwarded by the interface that it came from.
    Forwarded = "forwarded", Forward;
    /// Forwarded by another interface.
    Redirected = "redirected", Forward;
    /// Neither IPv4 nor IPv6.
    NotIp = "not-ip", Pass;
    /// Carries a VLAN tag.
    Tagged = "tagged", Pass;
    /// The frame ends within a header.
    Truncated = "truncated", Pass;
    /// A header contradicts itself or the frame's length.
    Malformed = "malformed", Pass;
    /// A transport protocol that is not balanced.
    OtherProtocol = "other-protocol", Pass;
    /// Addressed to no virtual service.
    NotAService = "not-a-service", Pass;
    /// A fragment that says nothing about its connection.
    Fragment = "fragment", Pass;
    /// Addressed to another host's MAC address.
    OtherHost = "other-host", Pass;
    /// Belongs to no connection and does not open one: the stack answers RST.
    NoConnection = "no-connection", Pass;
    /// The service has no server that could take a connection.
    NoServer = "no-server", Pass;
    /// The connection's server is dead or removed: the stack answers RST.
    ServerGone = "server-gone", Pass;
}
