//! Partition guard: servers whose checks fail may be alive, and this director cut off
//! from them.
//!
//! A director that leads, and whose virtual router watches its quorum
//! (`track_quorum`), may be cut off from the servers while viewers still reach
//! it. Another director then takes over within seconds, and goes on with every
//! connection, provided that we have reset none. So a server that our checks
//! have given up is left in place, though without new connections, until
//! another server of the service answers: then it is the server that is gone,
//! and its viewers are told. If none answers, the virtual routers decide. When
//! the first answers again after that, what our checks know of the others is
//! from when we were cut off: they are given the time to be found again.
//!
//! No I/O: what is desired goes in, and comes out with servers in doubt left in
//! place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::checker::CheckSpec;
use lb_model::{DesiredState, RealServer, Service, ServiceKey};

/// A service whose quorum is watched, and which we lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Watched {
    /// Servers whose checks fail.
    pub failed: BTreeSet<SocketAddr>,
    /// Servers whose checks succeed, with these checks.
    pub witnesses: BTreeMap<SocketAddr, Vec<CheckSpec>>,
    /// The longest time that our checks take to find that a server is gone.
    pub detection: Duration,
    /// The longest time that another director takes to lead in our place, once the
    /// quorum is lost.
    pub succession: Duration,
}

/// Keeps servers in place that may be alive though their checks fail. For each service
/// it awaits what decides about them:
///
/// ```text
///             others succeed           none does              one does again
///  no doubt ────────────────▶ Witness ──────────▶ Succession ────────────────▶ Recheck
///      │                                          ▲        ▲                      │
///      └───────────────── none does ──────────────┘        └────── none does ─────┘
/// ```
///
/// A doubt ends when its time is over, its servers succeed again or another director
/// leads; that for a witness also when another server answers.
#[derive(Debug, Default)]
pub(super) struct PartitionGuard {
    /// Only services that have servers in doubt.
    services: BTreeMap<ServiceKey, Doubt>,
}

/// The servers of one service that are in doubt.
#[derive(Debug)]
struct Doubt {
    servers: BTreeSet<SocketAddr>,
    /// When it ends, whatever is known by then.
    until: Instant,
    awaited: Awaited,
}

/// The event that ends a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    /// No other server is left: another director leads, or could by now.
    Succession,
    /// Another server answers.
    Witness,
    /// We were cut off, and the checks have had the time to find the servers.
    Recheck,
}

/// A service's doubt has begun, changed or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GuardEvent {
    /// These servers are in doubt until what is awaited; each of these checks is
    /// of a server that may be the witness.
    Begun(ServiceKey, BTreeSet<SocketAddr>, Awaited, Vec<CheckSpec>),
    /// None is any more.
    Ended(ServiceKey),
}

impl PartitionGuard {
    /// Leaves servers in place that `desired` gives up, and that were alive in
    /// `before`, as long as it is in doubt whether they are gone. `watched`
    /// knows of a service, if its quorum is watched and we lead.
    pub(super) fn filter(
        &mut self,
        desired: &mut DesiredState,
        before: &DesiredState,
        watched: impl Fn(ServiceKey) -> Option<Watched>,
        now: Instant,
    ) -> Vec<GuardEvent> {
        let mut events = Vec::new();
        let mut former = std::mem::take(&mut self.services);
        for service in &mut desired.services {
            let key = service.key();
            let known = former.remove(&key);
            let was_known = known.as_ref().map(|it| (it.servers.clone(), it.awaited));
            let before = before.services.iter().find(|other| other.key() == key);
            let doubt = before.zip(watched(key)).and_then(|(before, watched)| {
                let doubt = doubt(service, before, &watched, known, now)?;
                leave_in_place(service, before, &doubt);
                let is_known = was_known.as_ref().is_some_and(|(servers, awaited)| {
                    (servers, *awaited) == (&doubt.servers, doubt.awaited)
                });
                if !is_known {
                    let checks = match doubt.awaited {
                        Awaited::Witness => {
                            let checks = watched.witnesses.into_values().flatten();
                            checks.filter(reaches_server).collect()
                        }
                        Awaited::Succession | Awaited::Recheck => Vec::new(),
                    };
                    let servers = doubt.servers.clone();
                    events.push(GuardEvent::Begun(key, servers, doubt.awaited, checks));
                }
                Some(doubt)
            });
            match doubt {
                Some(doubt) => {
                    self.services.insert(key, doubt);
                }
                None => events.extend(was_known.map(|_| GuardEvent::Ended(key))),
            }
        }
        events.extend(former.into_keys().map(GuardEvent::Ended));
        events
    }

    /// Another server of the service answers, so that those in doubt are dead. Returns
    /// true if any was in doubt.
    pub(super) fn confirm_dead(&mut self, service: ServiceKey, now: Instant) -> bool {
        match self.services.get_mut(&service) {
            Some(doubt) if doubt.awaited == Awaited::Witness => {
                doubt.until = now;
                true
            }
            _ => false,
        }
    }

    /// When [`filter`](Self::filter) is to be called again, if ever.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.services.values().map(|doubt| doubt.until).min()
    }
}

/// The servers of a service that are in doubt, given what was `known`.
fn doubt(
    service: &Service,
    before: &Service,
    watched: &Watched,
    known: Option<Doubt>,
    now: Instant,
) -> Option<Doubt> {
    let lost: BTreeSet<SocketAddr> = service
        .servers
        .iter()
        .filter(|server| !server.alive && watched.failed.contains(&server.address))
        .filter(|server| in_service(before, server.address).is_some_and(|former| former.alive))
        .map(|server| server.address)
        .collect();
    // One that no check reaches would never be found to be gone.
    let mut witnesses = watched.witnesses.values();
    let has_unchecked = witnesses.any(|checks| !checks.iter().any(reaches_server));
    if lost.is_empty() || has_unchecked {
        return None;
    }
    let awaited = match &known {
        _ if watched.witnesses.is_empty() => Awaited::Succession,
        Some(known) if known.awaited != Awaited::Witness => Awaited::Recheck,
        _ => Awaited::Witness,
    };
    let until = match known {
        Some(known) if known.until <= now => return None,
        Some(known) if known.awaited == awaited => known.until,
        _ if awaited == Awaited::Succession => now + watched.succession,
        _ => now + watched.detection,
    };
    Some(Doubt {
        servers: lost,
        until,
        awaited,
    })
}

/// True if the check's success shows that we are not cut off.
fn reaches_server(check: &CheckSpec) -> bool {
    check.probe.reaches_server()
}

/// Leaves the servers in doubt in `service` as they were `before`: without new
/// connections, as long as others take those.
fn leave_in_place(service: &mut Service, before: &Service, doubt: &Doubt) {
    let is_last = doubt.awaited == Awaited::Succession;
    for server in &mut service.servers {
        if doubt.servers.contains(&server.address)
            && let Some(former) = in_service(before, server.address)
        {
            server.alive = true;
            server.weight = if is_last { former.weight } else { 0 };
        }
    }
    if is_last {
        // The sorry server would get what another director may serve better.
        service
            .servers
            .retain(|server| in_service(before, server.address).is_some());
    }
}

fn in_service(service: &Service, address: SocketAddr) -> Option<&RealServer> {
    let mut servers = service.servers.iter();
    servers.find(|server| server.address == address)
}

#[cfg(test)]
mod tests;
