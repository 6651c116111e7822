//! The verdicts on packets: each has a name, a sentence, a counter and an action.

/// The action that XDP takes on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The host's own stack gets it, untouched (`XDP_PASS`).
    Pass,
    /// It leaves by the interface that it came from (`XDP_TX`).
    Transmit,
    /// It leaves by another interface (`XDP_REDIRECT`).
    Redirect,
    /// It is dropped, because the operator wants it so (`XDP_DROP`).
    Drop,
}

macro_rules! reasons {
    ($($(#[doc = $description:literal])+ $variant:ident = $name:literal, $action:ident;)+) => {
        /// The verdict on a packet, and the reason for it.
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

            /// The reason of a number; [`Self::NoRoom`] for a number of none.
            #[inline(always)]
            pub const fn from_number(number: u32) -> Self {
                match number {
                    $(number if number == Self::$variant as u32 => Self::$variant,)+
                    _ => Self::NoRoom,
                }
            }

            /// True if the packet is on its way to a real server.
            #[inline(always)]
            pub const fn is_forwarded(self) -> bool {
                matches!(
                    self,
                    Self::Forwarded
                        | Self::Redirected
                        | Self::Tunnelled
                        | Self::TunnelRedirected
                        | Self::Local
                )
            }

            /// The action on packets with this verdict.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Self::$variant => Action::$action,)+ }
            }
        }
    };
}

reasons! {
    /// Forwarded by the interface that it came from.
    Forwarded = "forwarded", Transmit;
    /// Forwarded by another interface.
    Redirected = "redirected", Redirect;
    /// Forwarded inside another packet, by the interface that it came from.
    Tunnelled = "tunnelled", Transmit;
    /// Forwarded inside another packet, by another interface.
    TunnelRedirected = "tunnel-redirected", Redirect;
    /// Passed to this host's own stack, which is its real server.
    Local = "local", Pass;
    /// A dead server's connection, reset.
    Reset = "reset", Transmit;
    /// A SYN that no server can take, reset: this host serves, too, so that its stack would
    /// accept the connection.
    Refused = "refused", Transmit;
    /// A dead server's connection, dropped as configured.
    Dropped = "dropped", Drop;
    /// From a network on the deny list.
    Denied = "denied", Drop;
    /// A SYN of a source that is not proven, answered by a challenge.
    Challenged = "challenged", Transmit;
    /// The right answer to a challenge: its source is proven now.
    SourceProven = "source-proven", Drop;
    /// A reset that belongs to no connection and answers no challenge.
    WrongCookie = "wrong-cookie", Drop;
    /// A new connection of a network that has reached its rate.
    RateLimited = "rate-limited", Drop;
    /// Neither IPv4 nor IPv6.
    NotIp = "not-ip", Pass;
    /// Carries more than two VLAN tags.
    ManyTags = "many-tags", Pass;
    /// The frame ends within a header.
    Truncated = "truncated", Pass;
    /// A header contradicts itself or the frame's length.
    Malformed = "malformed", Pass;
    /// More IPv6 extension headers than we look at, or one that hides the rest.
    ExtensionHeaders = "extension-headers", Pass;
    /// A transport protocol that is not balanced.
    OtherProtocol = "other-protocol", Pass;
    /// Addressed to no virtual service.
    NotAService = "not-a-service", Pass;
    /// A fragment without ports: its first one has not been forwarded, or not been
    /// seen and its client sticks to no server.
    Fragment = "fragment", Pass;
    /// An ICMP message that is about no connection, such as an echo request.
    IcmpUnrelated = "icmp-unrelated", Pass;
    /// Addressed to another host's MAC address.
    OtherHost = "other-host", Pass;
    /// Belongs to no connection and does not open one: the stack answers RST.
    NoConnection = "no-connection", Pass;
    /// Comes from a real server of the service: another director has balanced it
    /// already, or the server is on the client's side of it.
    BalancedBefore = "balanced-before", Pass;
    /// Has no hop left: it goes round in circles, or its sender counts routers.
    HopsExceeded = "hops-exceeded", Pass;
    /// From an address that no client can have: loopback, multicast, broadcast, none,
    /// or the service's own.
    MartianSource = "martian-source", Pass;
    /// The service has no server that could take a connection.
    NoServer = "no-server", Pass;
    /// The connection's server is dead or removed: the stack answers.
    ServerGone = "server-gone", Pass;
    /// Does not fit into the tunnel, or the interface, to its server: its sender is
    /// told.
    TooBig = "too-big", Transmit;
    /// Does not fit there, and must not be answered: an ICMP error, or a later
    /// fragment.
    TooBigSilently = "too-big-silently", Pass;
    /// The kernel would not let us change the frame's size.
    NoRoom = "no-room", Pass;
}
