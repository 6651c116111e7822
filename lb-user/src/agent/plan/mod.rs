//! The configuration with every default filled in: what the agent works from.

mod check;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::protection::{ProtectionPlan, deny_file};
use super::recovery::{FlapControl, RecoveryPlan};
use super::statics::StaticPlan;
use crate::checker::{CheckSpec, Probe};
use check::seconds;
use conf_kit::{Diagnostic, Location};
use lb_config::ConfigError;
use lb_model::config::{Config, LbKind, RealServer, Recovery, Script, VirtualServer};
use lb_model::{OrphanPolicy, Persistence, Scheduler, ServiceKey, Thresholds, Timeouts};
use lb_script::NumberFile;
use net_types::{MacAddress, Network};
use vrrp::VirtualAddress;

/// Everything that the agent is to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Virtual routers.
    pub vrrp: vrrp::Settings,
    /// Addresses and routes that this machine has whoever leads.
    pub statics: StaticPlan,
    /// Times after which silent connections expire.
    pub timeouts: Timeouts,
    /// Time for which packets are forwarded after addresses have been withdrawn.
    pub withdraw_delay: Duration,
    /// Viewers of dead servers reset per second; `None`: they are not.
    pub reset_rate: Option<NonZeroU32>,
    /// Networks that the outer packets of tunnels come from.
    pub tunnel_sources: Vec<Network>,
    /// Protection from floods.
    pub protection: ProtectionPlan,
    /// Virtual services.
    pub services: Vec<ServicePlan>,
}

/// A virtual service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePlan {
    /// Which one.
    pub key: ServiceKey,
    /// The scheduler of new connections.
    pub scheduler: Scheduler,
    /// The forwarding method of servers without one of their own.
    pub lb_kind: LbKind,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// True if the client's port is hashed along with its address.
    pub hash_port: bool,
    /// True if a client that hashes to a full server is given another.
    pub hash_fallback: bool,
    /// True if every packet is scheduled by itself.
    pub one_packet: bool,
    /// The treatment of connections whose server is gone.
    pub orphans: OrphanPolicy,
    /// True if unknown connections are scheduled in their middle.
    pub sloppy: bool,
    /// Total weight below which the quorum is lost.
    pub quorum: u32,
    /// Weight by which the quorum must be missed or exceeded.
    pub hysteresis: u32,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Script>,
    /// The interface that has its address while it has its quorum.
    pub announce: Option<String>,
    /// Takes over while the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// True if `down` scripts run when the agent stops.
    pub omega: bool,
    /// Its real servers.
    pub servers: Vec<ServerPlan>,
    /// Further servers that may be discovered, or added by orders.
    pub room: u32,
}

/// A real server of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPlan {
    /// Its address.
    pub address: SocketAddr,
    /// Its MAC address, where the operator names it.
    pub mac: Option<MacAddress>,
    /// Its share of new connections.
    pub weight: u32,
    /// The number of connections that it may have.
    pub thresholds: Thresholds,
    /// The forwarding method.
    pub lb_kind: LbKind,
    /// True if it stays, at weight 0, when it is down.
    pub inhibit_on_failure: bool,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Its checks; all must succeed.
    pub checks: Vec<CheckSpec>,
    /// Slow start and flap control for when it has been down.
    pub recovery: RecoveryPlan,
}

impl Plan {
    /// Fills in keepalived's defaults.
    ///
    /// # Errors
    /// A virtual router that cannot be, or a file of denied networks that cannot be read.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let vrrp = vrrp::Settings::from_config(config).map_err(|error| {
            let location = error.location.or(&Location::whole("vrrp"));
            Diagnostic::error(&location, error.to_string())
        })?;
        let denied = match &config.global_defs.lb_deny_file {
            Some(path) => deny_file::read(Path::new(path))?,
            None => Vec::new(),
        };
        Ok(Self {
            vrrp,
            statics: StaticPlan::new(config),
            timeouts: timeouts(config),
            withdraw_delay: seconds(config.global_defs.lb_withdraw_delay, DEFAULT_WITHDRAW_DELAY),
            reset_rate: NonZeroU32::new(
                config
                    .global_defs
                    .lb_reset_rate
                    .unwrap_or(DEFAULT_RESET_RATE),
            ),
            tunnel_sources: [
                config.global_defs.lb_tunnel_source4,
                config.global_defs.lb_tunnel_source6,
            ]
            .into_iter()
            .flatten()
            .collect(),
            protection: ProtectionPlan::new(&config.global_defs, denied),
            services: Self::services(config),
        })
    }

    /// The services of a configuration.
    pub fn services(config: &Config) -> Vec<ServicePlan> {
        let services = config.virtual_server.iter().flat_map(|service| {
            let addresses = config.addresses(service).into_iter();
            addresses.map(move |address| service_plan(service, address, config))
        });
        services.collect()
    }

    /// The interfaces that viewers' packets arrive on: those of the virtual
    /// routers and their addresses.
    pub fn interfaces(&self) -> Vec<String> {
        let mut interfaces: Vec<String> = Vec::new();
        for instance in &self.vrrp.instances {
            let of_addresses = instance.addresses.iter().map(|address| &address.interface);
            for interface in of_addresses.chain([&instance.interface]) {
                if !interfaces.contains(interface) {
                    interfaces.push(interface.clone());
                }
            }
        }
        interfaces
    }

    /// The addresses that are announced where services have their quorum, each once on each
    /// interface.
    pub fn announced_addresses(&self) -> impl Iterator<Item = VirtualAddress> {
        let announced: BTreeSet<_> = self
            .services
            .iter()
            .filter_map(|service| Some((service.key.address.ip(), service.announce.clone()?)))
            .collect();
        announced
            .into_iter()
            .map(|(address, interface)| VirtualAddress {
                address,
                prefix_length: if address.is_ipv4() { 32 } else { 128 },
                interface,
                label: None,
            })
    }

    /// Every check, each once.
    pub fn checks(&self) -> impl Iterator<Item = &CheckSpec> {
        self.services
            .iter()
            .flat_map(|service| &service.servers)
            .flat_map(|server| &server.checks)
    }

    /// Every file whose number counts for something.
    pub fn number_files(&self) -> impl Iterator<Item = &NumberFile> {
        let of_checks = self.checks().filter_map(|check| match &check.probe {
            Probe::File(probe) => Some(&probe.file),
            _ => None,
        });
        self.vrrp.tracked_files().chain(of_checks)
    }
}

fn timeouts(config: &Config) -> Timeouts {
    let given = config.global_defs.lvs_timeouts.unwrap_or_default();
    let default = Timeouts::default();
    let seconds = |given: Option<u32>, default| {
        given.map_or(default, |seconds| Duration::from_secs(seconds.into()))
    };
    Timeouts {
        established: seconds(given.tcp, default.established),
        fin_wait: seconds(given.tcpfin, default.fin_wait),
        udp: seconds(given.udp, default.udp),
        ..default
    }
}

fn service_plan(service: &VirtualServer, address: SocketAddr, config: &Config) -> ServicePlan {
    let scheduler = scheduler(service);
    ServicePlan {
        key: ServiceKey {
            protocol: service.protocol,
            address,
        },
        scheduler,
        persistence: service
            .persistence_timeout_at(address)
            .map(|timeout| Persistence {
                timeout: Duration::from_secs(timeout.into()),
                prefix_length: service
                    .persistence_granularity
                    .unwrap_or(if address.is_ipv4() { 32 } else { 128 }),
                expire_quiescent: service.expire_quiescent,
            }),
        lb_kind: lb_kind(service.lb_kind),
        hash_port: service.hash_port,
        hash_fallback: service.hash_fallback,
        one_packet: service.is_one_packet(),
        orphans: service
            .orphans
            .unwrap_or(OrphanPolicy::default_for(service.protocol)),
        sloppy: service.is_sloppy(),
        quorum: service.attainable_quorum(),
        hysteresis: service.hysteresis.unwrap_or(0),
        quorum_up: service.quorum_up.clone(),
        quorum_down: service.quorum_down.clone(),
        announce: service.announce.clone(),
        sorry_server: service.sorry_server,
        omega: service.omega,
        room: service.max_discovered(),
        servers: service
            .servers()
            .map(|server| server_plan(server, service, config))
            .collect(),
    }
}

fn lb_kind(given: Option<LbKind>) -> LbKind {
    given.unwrap_or(LbKind::DirectRouting)
}

fn server_plan(server: &RealServer, service: &VirtualServer, config: &Config) -> ServerPlan {
    let timing = server.timing.or(&service.timing);
    let around = check::Around {
        config,
        server: server.address,
        timing: &timing,
        virtual_host: server.virtualhost.as_ref().or(service.virtualhost.as_ref()),
    };
    ServerPlan {
        address: server.address,
        mac: server.mac_address,
        weight: server.weight.unwrap_or(1),
        thresholds: Thresholds {
            upper: server.uthreshold.unwrap_or(0),
            lower: server.lthreshold.unwrap_or(0),
        },
        lb_kind: lb_kind(server.lb_kind.or(service.lb_kind)),
        inhibit_on_failure: server
            .inhibit_on_failure
            .or(service.inhibit_on_failure)
            .unwrap_or_default(),
        notify_up: server.notify_up.clone(),
        notify_down: server.notify_down.clone(),
        checks: server
            .checks
            .iter()
            .map(|given| check::check_spec(given, around))
            .collect(),
        recovery: recovery_plan(
            &server.recovery.or(&service.recovery),
            has_shares(scheduler(service)),
        ),
    }
}

fn scheduler(service: &VirtualServer) -> Scheduler {
    service.lb_algo.unwrap_or(Scheduler::Wlc)
}

/// True if a server has a share of new connections, which could grow. With `fo` and
/// `ovf` a weight is a rank, and how many connections are enough; `dh` looks at none.
fn has_shares(scheduler: Scheduler) -> bool {
    !matches!(scheduler, Scheduler::Fo | Scheduler::Ovf | Scheduler::Dh)
}

fn recovery_plan(recovery: &Recovery, has_shares: bool) -> RecoveryPlan {
    let slow_start = recovery.slow_start.filter(|_| has_shares);
    RecoveryPlan {
        slow_start: seconds(slow_start, Duration::ZERO),
        flap: recovery.flap_limit.map(|limit| FlapControl {
            limit,
            window: seconds(recovery.flap_window, DEFAULT_FLAP_WINDOW),
            hold_down: seconds(recovery.flap_hold_down, DEFAULT_FLAP_HOLD_DOWN),
            hold_down_max: seconds(recovery.flap_hold_down_max, DEFAULT_FLAP_HOLD_DOWN_MAX),
        }),
    }
}

/// A routing daemon hears of an address that is gone at once, its routers by one BGP update.
const DEFAULT_WITHDRAW_DELAY: Duration = Duration::from_secs(3);
/// Of 20,000 viewers the last is reset after less than half a second, with
/// some 50 Mbit/s of resets.
const DEFAULT_RESET_RATE: u32 = 50_000;

/// Time for which changes of state count, in flap control.
const DEFAULT_FLAP_WINDOW: Duration = Duration::from_secs(60);
/// Duration of the first hold-down of a server that flaps.
const DEFAULT_FLAP_HOLD_DOWN: Duration = Duration::from_secs(30);
/// The longest hold-down of a server that flaps.
const DEFAULT_FLAP_HOLD_DOWN_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
