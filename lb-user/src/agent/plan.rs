//! The configuration with every default filled in: what the agent works from.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::checker::machine::Timing;
use crate::checker::tcp::Connection;
use crate::checker::{CheckSpec, Probe};
use crate::config::model::{
    Check, CheckKind, CheckTiming, Config, RealServer, Script, Seconds, VirtualServer, VrrpInstance,
};
use crate::dataplane::state::{Persistence, Protocol, Scheduler};
use crate::virtual_address::{Announcing, VirtualAddress};

/// Everything that the agent is to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Virtual routers.
    pub instances: Vec<InstancePlan>,
    /// Virtual services.
    pub services: Vec<ServicePlan>,
}

/// A virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePlan {
    /// Its name.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// The addresses that its master holds.
    pub addresses: Vec<VirtualAddress>,
    /// How they are announced.
    pub announcing: Announcing,
}

/// What tells a service from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub address: SocketAddr,
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{protocol} {}", self.address)
    }
}

/// A virtual service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePlan {
    /// Which one.
    pub key: ServiceKey,
    /// How connections are spread.
    pub scheduler: Scheduler,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// Total weight below which the quorum is lost.
    pub quorum: u32,
    /// Weight by which the quorum must be missed or exceeded.
    pub hysteresis: u32,
    /// Run when the quorum is gained.
    pub quorum_up: Option<Script>,
    /// Run when the quorum is lost.
    pub quorum_down: Option<Script>,
    /// Takes over while the quorum is lost.
    pub sorry_server: Option<SocketAddr>,
    /// Whether `down` scripts run when the agent stops.
    pub omega: bool,
    /// Its real servers.
    pub servers: Vec<ServerPlan>,
}

/// A real server of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerPlan {
    /// Its address.
    pub address: SocketAddr,
    /// Its share of new connections.
    pub weight: u32,
    /// Whether it stays, at weight 0, when it is down.
    pub inhibit_on_failure: bool,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Its checks; all must succeed.
    pub checks: Vec<CheckSpec>,
}

impl Plan {
    /// Fills in keepalived's defaults.
    pub fn new(config: &Config) -> Self {
        Self {
            instances: config
                .vrrp_instance
                .iter()
                .map(|instance| instance_plan(instance, config))
                .collect(),
            services: config.virtual_server.iter().map(service_plan).collect(),
        }
    }

    /// The interfaces that viewers' packets arrive on: those of the virtual
    /// routers and their addresses.
    pub fn interfaces(&self) -> Vec<String> {
        let mut interfaces: Vec<String> = Vec::new();
        for instance in &self.instances {
            let of_addresses = instance.addresses.iter().map(|address| &address.interface);
            for interface in of_addresses.chain([&instance.interface]) {
                if !interfaces.contains(interface) {
                    interfaces.push(interface.clone());
                }
            }
        }
        interfaces
    }

    /// Every check, each once.
    pub fn checks(&self) -> impl Iterator<Item = &CheckSpec> {
        self.services
            .iter()
            .flat_map(|service| &service.servers)
            .flat_map(|server| &server.checks)
    }
}

fn instance_plan(instance: &VrrpInstance, config: &Config) -> InstancePlan {
    let global = &config.global_defs;
    let interface = instance
        .interface
        .clone()
        .or_else(|| global.default_interface.clone())
        .unwrap_or_default();
    let addresses = instance
        .virtual_ipaddress
        .iter()
        .map(|address| VirtualAddress {
            address: address.address,
            prefix_length: address.prefix.unwrap_or(if address.address.is_ipv4() {
                32
            } else {
                128
            }),
            interface: address.dev.clone().unwrap_or_else(|| interface.clone()),
            label: address.label.clone(),
        })
        .collect();
    let default = Announcing::default();
    let announcing = Announcing {
        repeat: global.vrrp_garp_master_repeat.unwrap_or(default.repeat),
        delay: global
            .vrrp_garp_master_delay
            .map_or(default.delay, |Seconds(delay)| delay),
    };
    InstancePlan {
        name: instance.name.clone(),
        interface,
        addresses,
        announcing,
    }
}

fn service_plan(service: &VirtualServer) -> ServicePlan {
    ServicePlan {
        key: ServiceKey {
            protocol: service.protocol,
            address: service.address,
        },
        scheduler: service.lb_algo.unwrap_or(Scheduler::Rr),
        persistence: service.persistence_timeout.map(|timeout| Persistence {
            timeout: Duration::from_secs(timeout.into()),
            prefix_length: service
                .persistence_granularity
                .unwrap_or(if service.address.is_ipv4() { 32 } else { 128 }),
            expire_quiescent: false,
        }),
        quorum: service.quorum.unwrap_or(1),
        hysteresis: service.hysteresis.unwrap_or(0),
        quorum_up: service.quorum_up.clone(),
        quorum_down: service.quorum_down.clone(),
        sorry_server: service.sorry_server,
        omega: service.omega,
        servers: service
            .real_server
            .iter()
            .map(|server| server_plan(server, service))
            .collect(),
    }
}

fn server_plan(server: &RealServer, service: &VirtualServer) -> ServerPlan {
    let timing = server.timing.or(&service.timing);
    ServerPlan {
        address: server.address,
        weight: server.weight.unwrap_or(1),
        inhibit_on_failure: server
            .inhibit_on_failure
            .or(service.inhibit_on_failure)
            .unwrap_or_default(),
        notify_up: server.notify_up.clone(),
        notify_down: server.notify_down.clone(),
        checks: server
            .checks
            .iter()
            .map(|check| check_spec(check, server.address, &timing))
            .collect(),
    }
}

fn check_spec(check: &Check, server: SocketAddr, outer: &CheckTiming) -> CheckSpec {
    let timing = check.timing.or(outer);
    let options = &check.connection;
    let to = SocketAddr::new(
        options.connect_ip.unwrap_or(server.ip()),
        options.connect_port.unwrap_or(server.port()),
    );
    let any = if to.is_ipv4() {
        IpAddr::from([0u8; 4])
    } else {
        IpAddr::from([0u8; 16])
    };
    let from = (options.bindto.is_some() || options.bind_port.is_some()).then(|| {
        SocketAddr::new(
            options.bindto.unwrap_or(any),
            options.bind_port.unwrap_or(0),
        )
    });
    let probe = match check.kind {
        CheckKind::Tcp => Probe::Tcp(Connection {
            to,
            from,
            timeout: seconds(timing.connect_timeout, DEFAULT_CONNECT_TIMEOUT),
        }),
    };
    let delay_loop = seconds(timing.delay_loop, DEFAULT_DELAY_LOOP);
    CheckSpec {
        probe,
        timing: Timing {
            delay_loop,
            delay_before_retry: seconds(timing.delay_before_retry, DEFAULT_DELAY_BEFORE_RETRY),
            retry: timing.retry.unwrap_or(1),
            warmup: seconds(timing.warmup, delay_loop),
            alpha: timing.alpha.unwrap_or_default(),
        },
    }
}

/// keepalived.conf(5), `delay_loop`.
const DEFAULT_DELAY_LOOP: Duration = Duration::from_secs(60);
/// keepalived.conf(5), `connect_timeout`.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// keepalived.conf(5), `delay_before_retry`.
const DEFAULT_DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);

fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |Seconds(duration)| duration)
}

impl CheckTiming {
    /// These settings, and those of `outer` where these say nothing.
    fn or(&self, outer: &Self) -> Self {
        Self {
            alpha: self.alpha.or(outer.alpha),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
            delay_loop: self.delay_loop.or(outer.delay_loop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn plan(text: &str) -> Plan {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("the file is written");
        Plan::new(&config::load(&file).expect("the file is accepted").config)
    }

    #[test]
    fn the_deployment_is_planned_as_keepalived_would_run_it() {
        let plan = plan(include_str!("../../../examples/keepalived.conf"));
        assert_eq!(plan.interfaces(), ["eth2"]);
        let address = &plan.instances[0].addresses[0];
        assert_eq!(
            (address.prefix_length, address.interface.as_str()),
            (32, "eth2")
        );
        let service = &plan.services[0];
        assert_eq!(service.key.to_string(), "TCP 172.16.1.200:1935");
        let persistence = Persistence {
            timeout: Duration::from_secs(50),
            prefix_length: 32,
            expire_quiescent: false,
        };
        assert_eq!(service.persistence, Some(persistence));
        assert_eq!(service.quorum, 1);
        let check = &service.servers[1].checks[0];
        assert_eq!(check.probe.to_string(), "TCP_CHECK 172.16.1.207:1935");
        assert_eq!(
            check.timing,
            Timing {
                delay_loop: Duration::from_secs(6),
                delay_before_retry: Duration::from_secs(3),
                retry: 3,
                warmup: Duration::from_secs(6),
                alpha: false,
            }
        );
    }

    #[test]
    fn a_check_takes_its_times_from_the_nearest_that_says_something() {
        let plan = plan(
            "virtual_server 10.0.0.1 80 {
                delay_loop 9
                retry 7
                real_server 10.0.0.2 80 {
                    retry 8
                    TCP_CHECK {
                        connect_port 8080
                        bindto 10.0.0.9
                        delay_before_retry 0.5
                    }
                }
            }",
        );
        let check = &plan.services[0].servers[0].checks[0];
        assert_eq!(
            check.timing.delay_loop,
            Duration::from_secs(9),
            "of the service"
        );
        assert_eq!(check.timing.retry, 8, "of the server");
        assert_eq!(
            check.timing.delay_before_retry,
            Duration::from_millis(500),
            "of the check"
        );
        assert_eq!(check.timing.warmup, Duration::from_secs(9), "as delay_loop");
        let connection = Connection {
            to: "10.0.0.2:8080".parse().expect("an address"),
            from: Some("10.0.0.9:0".parse().expect("an address")),
            timeout: Duration::from_secs(5),
        };
        assert_eq!(check.probe, Probe::Tcp(connection));
    }
}
