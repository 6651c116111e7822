//! Changes of state that operators want to know of.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::control::protocol::{EventKind, Order};
use crate::neighbor::Hop;
use crate::resets::{ResetCause, ResetReport};
use lb_model::ServiceKey;
use lb_model::config::Script;

/// Something that an operator wants to know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A server may have connections now, or may not any more.
    Server {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// True if it may have connections.
        is_up: bool,
        /// Why.
        reason: String,
        /// The script to run.
        notify: Option<Script>,
    },
    /// A server's check cannot be made, so that what is known of it may be old.
    NotChecked {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// Why; `None`: it can be made again.
        reason: Option<String>,
    },
    /// A server's check has given it another share of new connections.
    Weight {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// The share.
        weight: u32,
    },
    /// A server's checks succeed, but it is held out for flapping.
    HeldOut {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// The reason, with the duration.
        reason: String,
    },
    /// The share of a server that has come up grows, or has grown.
    SlowStart {
        /// Its service.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// Time for which it will grow; `None`: it has grown.
        remaining: Option<Duration>,
    },
    /// A service has gained or lost its quorum.
    Quorum {
        /// The service.
        service: ServiceKey,
        /// True if it is there now.
        gained: bool,
        /// Weight of the servers that are up.
        weight: u32,
        /// Weight that is needed.
        quorum: u32,
        /// The script to run.
        notify: Option<Script>,
    },
    /// The operator has given or taken back an order.
    Order {
        /// The service of the server.
        service: ServiceKey,
        /// The server.
        server: SocketAddr,
        /// `None`: it is as configured again.
        order: Option<Order>,
    },
    /// The viewers of a server that is gone have been reset.
    Reset(ResetReport),
    /// Frames can, or cannot, reach an address.
    Hop {
        /// The address.
        address: IpAddr,
        /// The hop, or why there is none.
        hop: Hop,
    },
}

impl Change {
    /// The subject of its script: scripts about one subject run one after the other.
    pub fn subject(&self) -> Option<String> {
        match self {
            Self::Server {
                service, server, ..
            } => Some(server_subject(*service, *server)),
            Self::Quorum { service, .. } => Some(service.to_string()),
            _ => None,
        }
    }

    /// What it is about.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Server { .. }
            | Self::NotChecked { .. }
            | Self::Weight { .. }
            | Self::HeldOut { .. }
            | Self::SlowStart { .. } => EventKind::Server,
            Self::Quorum { .. } => EventKind::Quorum,
            Self::Order { .. } => EventKind::Order,
            Self::Reset(_) => EventKind::Reset,
            Self::Hop { .. } => EventKind::Path,
        }
    }

    /// The level at which it is logged.
    pub fn level(&self) -> log::Level {
        match self {
            Self::Server { is_up: false, .. }
            | Self::NotChecked {
                reason: Some(_), ..
            }
            | Self::HeldOut { .. }
            | Self::Quorum { gained: false, .. }
            | Self::Reset(_)
            | Self::Hop {
                hop: Hop::NotReady {
                    is_pending: false, ..
                },
                ..
            } => log::Level::Warn,
            _ => log::Level::Info,
        }
    }

    /// The script that the operator wants run.
    pub fn script(&self) -> Option<&Script> {
        match self {
            Self::Server { notify, .. } | Self::Quorum { notify, .. } => notify.as_ref(),
            Self::Hop { .. }
            | Self::Order { .. }
            | Self::Weight { .. }
            | Self::NotChecked { .. }
            | Self::HeldOut { .. }
            | Self::SlowStart { .. }
            | Self::Reset(_) => None,
        }
    }
}

/// A server of a service, as the subject of scripts.
pub fn server_subject(service: ServiceKey, server: SocketAddr) -> String {
    format!("{service} {server}")
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server {
                service,
                server,
                is_up,
                reason,
                ..
            } => {
                let state = if *is_up { "up" } else { "down" };
                write!(f, "{service}: server {server} is {state}: {reason}")
            }
            Self::NotChecked {
                service,
                server,
                reason: Some(reason),
            } => {
                write!(f, "{service}: server {server} is not checked: {reason}")
            }
            Self::NotChecked {
                service,
                server,
                reason: None,
            } => {
                write!(f, "{service}: server {server} is checked again")
            }
            Self::Weight {
                service,
                server,
                weight,
            } => {
                write!(f, "{service}: server {server} now has weight {weight}")
            }
            Self::HeldOut {
                service,
                server,
                reason,
            } => {
                write!(f, "{service}: server {server} stays out: {reason}")
            }
            Self::SlowStart {
                service,
                server,
                remaining: Some(remaining),
            } => {
                write!(
                    f,
                    "{service}: server {server}: its share grows for {} s (slow_start)",
                    remaining.as_secs_f64()
                )
            }
            Self::SlowStart {
                service,
                server,
                remaining: None,
            } => {
                write!(f, "{service}: server {server} has its whole share again")
            }
            Self::Order {
                service,
                server,
                order,
            } => {
                let what = match order {
                    Some(Order::Drained) => "drained".to_owned(),
                    Some(Order::DrainedOfTemplates) => "drained, templates dropped,".to_owned(),
                    Some(Order::Disabled) => "disabled".to_owned(),
                    Some(Order::Weight(weight)) => format!("given weight {weight}"),
                    None => "as configured again".to_owned(),
                };
                write!(f, "{service}: server {server} {what} by the operator")
            }
            Self::Quorum {
                service,
                gained,
                weight,
                quorum,
                ..
            } => {
                let verb = if *gained { "gained" } else { "lost" };
                write!(
                    f,
                    "{service}: quorum {verb}: weight {weight} is up, {quorum} needed"
                )
            }
            Self::Reset(ResetReport {
                service,
                server,
                cause,
                viewers,
                failed,
                took,
            }) => {
                let took = took.as_millis();
                match cause {
                    ResetCause::ServerGone => write!(
                        f,
                        "{service}: server {server} is gone: {viewers} connection(s) reset \
                         within {took} ms"
                    )?,
                    ResetCause::DirectorGone => write!(
                        f,
                        "{service}: server {server} is lost along with the director that led: \
                         {viewers} client(s) asked, and reset when they answer, within {took} ms"
                    )?,
                }
                match failed {
                    Some((count, why)) => write!(f, ", {count} not: {why}"),
                    None => Ok(()),
                }
            }
            Self::Hop {
                address,
                hop:
                    Hop::Ready {
                        next_hop,
                        interface,
                        ..
                    },
            } => {
                if next_hop.is_local() {
                    return write!(f, "{address}: this machine, on {interface}");
                }
                let mac = next_hop.destination;
                write!(f, "{address}: reached at {mac} on {interface}")
            }
            Self::Hop {
                address,
                hop: Hop::NotReady { reason, .. },
            } => {
                write!(f, "{address}: not reached: {reason}")
            }
        }
    }
}
