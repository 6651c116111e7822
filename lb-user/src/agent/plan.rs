//! The configuration with every default filled in: what the agent works from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::recovery::{FlapControl, RecoveryPlan};
use crate::checker::dns::DnsProbe;
use crate::checker::http::{HttpProbe, Page};
use crate::checker::machine::Timing;
use crate::checker::misc::MiscProbe;
use crate::checker::rtmp::RtmpProbe;
use crate::checker::smtp::SmtpProbe;
use crate::checker::tcp::Connection;
use crate::checker::udp::{Reply, UdpProbe};
use crate::checker::{CheckSpec, Probe, hex};
use crate::config::model::{
    Check, CheckKind, CheckTiming, Config, ConnectionOptions, LbKind, MacAddress, RealServer,
    RecordType, Recovery, Script, Seconds, StatusCodes, UrlCheck, VirtualServer,
};
use crate::config::{Diagnostic, Refused, Severity};
use crate::dataplane::state::{OrphanPolicy, Persistence, Protocol, Scheduler, Timeouts};
use crate::netlink::link::Mac;
use crate::vrrp;

/// Everything that the agent is to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Virtual routers.
    pub vrrp: vrrp::Settings,
    /// How long connections may be silent.
    pub timeouts: Timeouts,
    /// Viewers of dead servers told per second; `None`: they are not.
    pub reset_rate: Option<NonZeroU32>,
    /// Virtual services.
    pub services: Vec<ServicePlan>,
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
    /// How packets reach servers that do not say so themselves.
    pub lb_kind: LbKind,
    /// Persistence, if any.
    pub persistence: Option<Persistence>,
    /// Whether the client's port is hashed along with its address.
    pub hash_port: bool,
    /// What becomes of connections whose server is gone.
    pub orphans: OrphanPolicy,
    /// Whether unknown connections are scheduled in their middle.
    pub sloppy: bool,
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
    /// Its MAC address, where the operator names it.
    pub mac: Option<Mac>,
    /// Its share of new connections.
    pub weight: u32,
    /// How packets reach it.
    pub lb_kind: LbKind,
    /// Whether it stays, at weight 0, when it is down.
    pub inhibit_on_failure: bool,
    /// Run when it comes up.
    pub notify_up: Option<Script>,
    /// Run when it goes down.
    pub notify_down: Option<Script>,
    /// Its checks; all must succeed.
    pub checks: Vec<CheckSpec>,
    /// How it comes back when it has been down.
    pub recovery: RecoveryPlan,
}

impl Plan {
    /// Fills in keepalived's defaults.
    ///
    /// # Errors
    /// A virtual router that cannot be.
    pub fn new(config: &Config) -> Result<Self, Refused> {
        let vrrp = vrrp::Settings::from_config(config).map_err(|error| {
            let origin = error.origin.0.as_ref();
            Refused {
                diagnostics: vec![Diagnostic {
                    severity: Severity::Error,
                    place: origin.map_or_else(|| "vrrp".to_owned(), ToString::to_string),
                    message: error.to_string(),
                }],
            }
        })?;
        let mut plan = Self {
            vrrp,
            timeouts: timeouts(config),
            reset_rate: NonZeroU32::new(
                config
                    .global_defs
                    .lb_reset_rate
                    .unwrap_or(DEFAULT_RESET_RATE),
            ),
            services: config
                .virtual_server
                .iter()
                .flat_map(|service| {
                    let addresses = config.addresses(service).into_iter();
                    addresses.map(move |address| service_plan(service, address))
                })
                .collect(),
        };
        plan.fill_in_script_user(config);
        Ok(plan)
    }

    /// Scripts that name no user run as `script_user` says.
    fn fill_in_script_user(&mut self, config: &Config) {
        let user = |script: &mut Script| *script = script.clone().or_user(&config.global_defs);
        for script in &mut self.vrrp.scripts {
            user(&mut script.script);
        }
        let servers = self
            .services
            .iter_mut()
            .flat_map(|service| &mut service.servers);
        for check in servers.flat_map(|server| &mut server.checks) {
            if let Probe::Misc(probe) = &mut check.probe {
                user(&mut probe.script);
            }
        }
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

    /// Every check, each once.
    pub fn checks(&self) -> impl Iterator<Item = &CheckSpec> {
        self.services
            .iter()
            .flat_map(|service| &service.servers)
            .flat_map(|server| &server.checks)
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

fn service_plan(service: &VirtualServer, address: SocketAddr) -> ServicePlan {
    let scheduler = service.lb_algo.unwrap_or(Scheduler::Rr);
    ServicePlan {
        key: ServiceKey {
            protocol: service.protocol,
            address,
        },
        scheduler,
        persistence: service.persistence_timeout.map(|timeout| Persistence {
            timeout: Duration::from_secs(timeout.into()),
            prefix_length: service
                .persistence_granularity
                .unwrap_or(if address.is_ipv4() { 32 } else { 128 }),
            expire_quiescent: service.expire_quiescent,
        }),
        lb_kind: lb_kind(service.lb_kind),
        hash_port: service.hash_port,
        orphans: service
            .orphans
            .unwrap_or(OrphanPolicy::default_for(service.protocol)),
        sloppy: service
            .sloppy
            .unwrap_or(is_sloppy(scheduler, service.protocol)),
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

/// Whether a service that says nothing takes connections over in their middle.
///
/// With Maglev hashing the packet goes to the server that every other director
/// gave the connection to. Where it does not (the servers have changed since),
/// that server answers with the reset that our own stack would have sent. Any
/// other scheduler would mostly guess wrong, and remember it.
fn is_sloppy(scheduler: Scheduler, protocol: Protocol) -> bool {
    scheduler == Scheduler::Mh && protocol == Protocol::Tcp
}

fn lb_kind(given: Option<LbKind>) -> LbKind {
    given.unwrap_or(LbKind::DirectRouting)
}

fn server_plan(server: &RealServer, service: &VirtualServer) -> ServerPlan {
    let timing = server.timing.or(&service.timing);
    let virtual_host = server.virtualhost.as_ref().or(service.virtualhost.as_ref());
    ServerPlan {
        address: server.address,
        mac: server.mac_address.map(|MacAddress(mac)| mac),
        weight: server.weight.unwrap_or(1),
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
            .map(|check| check_spec(check, server.address, &timing, virtual_host))
            .collect(),
        recovery: recovery_plan(&server.recovery.or(&service.recovery)),
    }
}

fn recovery_plan(recovery: &Recovery) -> RecoveryPlan {
    RecoveryPlan {
        slow_start: seconds(recovery.slow_start, Duration::ZERO),
        flap: recovery.flap_limit.map(|limit| FlapControl {
            limit,
            window: seconds(recovery.flap_window, DEFAULT_FLAP_WINDOW),
            hold_down: seconds(recovery.flap_hold_down, DEFAULT_FLAP_HOLD_DOWN),
            hold_down_max: seconds(recovery.flap_hold_down_max, DEFAULT_FLAP_HOLD_DOWN_MAX),
        }),
    }
}

fn check_spec(
    check: &Check,
    server: SocketAddr,
    outer: &CheckTiming,
    virtual_host: Option<&String>,
) -> CheckSpec {
    let timing = check.timing.or(outer);
    let delay_loop = seconds(timing.delay_loop, DEFAULT_DELAY_LOOP);
    let connection = connection(&check.connection, server, &timing);
    let mut retry = DEFAULT_RETRY;
    let mut delay_before_retry = DEFAULT_DELAY_BEFORE_RETRY;
    let probe = match &check.kind {
        CheckKind::Tcp => Probe::Tcp(connection),
        CheckKind::Ping => Probe::Ping(connection),
        CheckKind::Http { url } | CheckKind::Https { url, .. } => {
            delay_before_retry = DEFAULT_DELAY_BEFORE_HTTP_RETRY;
            Probe::Http(HttpProbe {
                connection,
                tls: matches!(check.kind, CheckKind::Https { .. }),
                server_name: matches!(
                    check.kind,
                    CheckKind::Https {
                        enable_sni: true,
                        ..
                    }
                ),
                pages: url.iter().map(|url| page(url, virtual_host)).collect(),
            })
        }
        CheckKind::Misc {
            misc_path,
            misc_timeout,
            misc_dynamic,
        } => {
            retry = DEFAULT_MISC_RETRY;
            Probe::Misc(MiscProbe {
                script: misc_path.clone(),
                timeout: seconds(*misc_timeout, delay_loop),
                dynamic: *misc_dynamic,
            })
        }
        CheckKind::Udp {
            payload,
            require_reply,
            min_reply_length,
            max_reply_length,
        } => {
            let bytes = |text: &String| hex::parse(text).unwrap_or_default();
            let payload = payload.as_ref().map(bytes).unwrap_or_default();
            Probe::Udp(UdpProbe {
                connection,
                payload: payload.into_iter().map(|(value, _)| value).collect(),
                reply: require_reply.as_ref().map(|pattern| Reply {
                    pattern: bytes(pattern),
                    shortest: min_reply_length.unwrap_or(0).into(),
                    longest: max_reply_length.unwrap_or(DEFAULT_LONGEST_REPLY).into(),
                }),
            })
        }
        CheckKind::Dns { record_type, name } => {
            retry = DEFAULT_DNS_RETRY;
            delay_before_retry = delay_loop;
            Probe::Dns(DnsProbe {
                connection,
                record: record_type.unwrap_or(RecordType::Soa),
                name: name.clone().unwrap_or_else(|| ".".to_owned()),
            })
        }
        CheckKind::Smtp { helo_name } => Probe::Smtp(SmtpProbe {
            connection,
            helo_name: helo_name.clone().unwrap_or_else(host_name),
        }),
        CheckKind::Rtmp {
            app,
            stream,
            play_timeout,
            virtualhost,
        } => Probe::Rtmp(RtmpProbe {
            connection,
            virtual_host: virtualhost.as_ref().or(virtual_host).cloned(),
            app: app.clone().unwrap_or_else(|| "live".to_owned()),
            play: stream
                .clone()
                .map(|stream| (stream, seconds(*play_timeout, DEFAULT_PLAY_TIMEOUT))),
        }),
    };
    CheckSpec {
        probe,
        timing: Timing {
            delay_loop,
            delay_before_retry: seconds(timing.delay_before_retry, delay_before_retry),
            retry: timing.retry.unwrap_or(retry),
            warmup: seconds(timing.warmup, delay_loop),
            alpha: timing.alpha.unwrap_or_default(),
        },
    }
}

fn connection(options: &ConnectionOptions, server: SocketAddr, timing: &CheckTiming) -> Connection {
    let to = SocketAddr::new(
        options.connect_ip.unwrap_or(server.ip()),
        options.connect_port.unwrap_or(server.port()),
    );
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let is_bound = options.bindto.is_some() || options.bind_port.is_some();
    let from = SocketAddr::new(
        options.bindto.unwrap_or(any),
        options.bind_port.unwrap_or(0),
    );
    Connection {
        to,
        from: is_bound.then_some(from),
        timeout: seconds(timing.connect_timeout, DEFAULT_CONNECT_TIMEOUT),
    }
}

/// The host's name, for those whom a check talks to.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.into_string()
        .unwrap_or_else(|_| "localhost".to_owned())
}

fn page(url: &UrlCheck, virtual_host: Option<&String>) -> Page {
    let mut status_codes: Vec<(u16, u16)> = url
        .status_code
        .iter()
        .map(|StatusCodes(low, high)| (*low, *high))
        .collect();
    if status_codes.is_empty() {
        status_codes.push(DEFAULT_STATUS_CODES);
    }
    Page {
        path: url.path.clone(),
        virtual_host: url.virtualhost.as_ref().or(virtual_host).cloned(),
        status_codes,
        digest: url.digest.clone(),
        regex: url
            .regex
            .clone()
            .map(|pattern| (pattern, !url.regex_no_match)),
    }
}

/// Of 20,000 viewers the last is told after less than half a second, with
/// some 50 Mbit/s of resets.
const DEFAULT_RESET_RATE: u32 = 50_000;

/// keepalived.conf(5), `retry`.
const DEFAULT_RETRY: u32 = 1;
/// keepalived.conf(5), `DNS_CHECK`.
const DEFAULT_DNS_RETRY: u32 = 3;
/// keepalived.conf(5), `MISC_CHECK`.
const DEFAULT_MISC_RETRY: u32 = 0;
/// keepalived.conf(5), `delay_before_retry`, for `HTTP_GET` and `SSL_GET`.
const DEFAULT_DELAY_BEFORE_HTTP_RETRY: Duration = Duration::from_secs(3);
/// keepalived.conf(5), `status_code`.
const DEFAULT_STATUS_CODES: (u16, u16) = (200, 299);
/// keepalived.conf(5), `max_reply_length`.
const DEFAULT_LONGEST_REPLY: u16 = 255;
/// How long the first media of an `RTMP_CHECK` may take.
const DEFAULT_PLAY_TIMEOUT: Duration = Duration::from_secs(10);
/// keepalived.conf(5), `delay_loop`.
const DEFAULT_DELAY_LOOP: Duration = Duration::from_secs(60);
/// keepalived.conf(5), `connect_timeout`.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// keepalived.conf(5), `delay_before_retry`.
const DEFAULT_DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);

/// How far back changes of state count, in flap control.
const DEFAULT_FLAP_WINDOW: Duration = Duration::from_secs(60);
/// How long a server that flaps is held out the first time.
const DEFAULT_FLAP_HOLD_DOWN: Duration = Duration::from_secs(30);
/// The longest that a server that flaps is held out at a time.
const DEFAULT_FLAP_HOLD_DOWN_MAX: Duration = Duration::from_secs(600);

fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |Seconds(duration)| duration)
}

impl Recovery {
    /// These settings, and those of `outer` where these say nothing.
    fn or(&self, outer: &Self) -> Self {
        Self {
            slow_start: self.slow_start.or(outer.slow_start),
            flap_limit: self.flap_limit.or(outer.flap_limit),
            flap_window: self.flap_window.or(outer.flap_window),
            flap_hold_down: self.flap_hold_down.or(outer.flap_hold_down),
            flap_hold_down_max: self.flap_hold_down_max.or(outer.flap_hold_down_max),
        }
    }
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
        Plan::new(&config::load(&file).expect("the file is accepted").config).expect("a plan")
    }

    #[test]
    fn the_deployment_is_planned_as_keepalived_would_run_it() {
        let plan = plan(include_str!("../../../examples/keepalived.conf"));
        assert_eq!(plan.interfaces(), ["eth2"]);
        let address = &plan.vrrp.instances[0].addresses[0];
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
    fn lvs_timeouts_are_the_data_planes_and_the_others_those_of_ipvs() {
        let given = plan("global_defs {\nlvs_timeouts tcp 800 tcpfin 70 udp 90\n}");
        let expected = Timeouts {
            established: Duration::from_secs(800),
            fin_wait: Duration::from_secs(70),
            udp: Duration::from_secs(90),
            ..Timeouts::default()
        };
        assert_eq!(given.timeouts, expected);
        assert_eq!(plan("").timeouts, Timeouts::default());
    }

    #[test]
    fn only_maglev_takes_connections_over_in_their_middle_unless_told_to() {
        let sloppy = |more: &str| {
            let text = format!("virtual_server 10.0.0.1 80 {{\n{more}\n}}");
            plan(&text).services[0].sloppy
        };
        assert!(sloppy("lb_algo mh"));
        assert!(!sloppy("lb_algo mh\nsloppy off"));
        assert!(!sloppy("lb_algo mh\nprotocol UDP"));
        for other in ["", "lb_algo rr", "lb_algo wlc", "lb_algo sh"] {
            assert!(!sloppy(other), "{other}");
        }
        assert!(sloppy("lb_algo sh\nsloppy"));
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

    #[test]
    fn each_kind_of_check_has_its_own_defaults() {
        let plan = plan(
            "virtual_server 10.0.0.1 80 {
                delay_loop 9
                virtualhost www.example
                real_server 10.0.0.2 80 {
                    HTTP_GET { url { path /a } }
                    MISC_CHECK { misc_path \"/bin/true -x\" }
                    UDP_CHECK { payload ab12 }
                    RTMP_CHECK { stream s }
                }
            }",
        );
        let [http, misc, udp, rtmp] = plan.services[0].servers[0].checks.as_slice() else {
            panic!("four checks")
        };
        assert_eq!(
            (http.timing.retry, http.timing.delay_before_retry.as_secs()),
            (1, 3)
        );
        assert!(
            matches!(&http.probe, Probe::Http(probe) if probe.pages[0].path == "/a"
                && probe.pages[0].virtual_host.as_deref() == Some("www.example")
                && probe.pages[0].status_codes == [(200, 299)]),
            "{http:?}"
        );
        assert_eq!(misc.timing.retry, 0);
        assert!(
            matches!(&misc.probe, Probe::Misc(probe) if probe.timeout.as_secs() == 9),
            "{misc:?}"
        );
        assert!(
            matches!(&udp.probe, Probe::Udp(probe) if probe.payload == [0xab, 0x12]),
            "{udp:?}"
        );
        assert_eq!(rtmp.probe.to_string(), "RTMP_CHECK 10.0.0.2:80 /live/s");
    }

    #[test]
    fn a_group_of_addresses_is_a_service_each_with_the_same_checks() {
        let plan = plan(
            "virtual_server_group G {
                10.0.0.1 80
                10.0.1.8-10 81
                10.0.2.252/30 82
            }
            virtual_server group G {
                real_server 10.0.9.1 80 { TCP_CHECK { } }
            }",
        );
        let addresses: Vec<String> = plan
            .services
            .iter()
            .map(|service| service.key.address.to_string())
            .collect();
        assert_eq!(
            addresses,
            [
                "10.0.0.1:80",
                "10.0.1.8:81",
                "10.0.1.9:81",
                "10.0.1.10:81",
                "10.0.2.252:82",
                "10.0.2.253:82",
                "10.0.2.254:82",
                "10.0.2.255:82",
            ]
        );
        let first = plan.checks().next().expect("a check");
        assert!(
            plan.checks().all(|check| check == first),
            "made once for all"
        );
    }

    #[test]
    fn scripts_run_as_script_user_unless_they_name_another() {
        let plan = plan(
            "global_defs { script_user nobody nogroup }
            virtual_server 10.0.0.1 80 {
                real_server 10.0.0.2 80 {
                    MISC_CHECK { misc_path /bin/true }
                    MISC_CHECK { misc_path /bin/true\n user root }
                }
            }",
        );
        let users: Vec<_> = plan
            .checks()
            .map(|check| match &check.probe {
                Probe::Misc(probe) => (probe.script.user.as_deref(), probe.script.group.as_deref()),
                other => panic!("no script: {other:?}"),
            })
            .collect();
        assert_eq!(
            users,
            [(Some("nobody"), Some("nogroup")), (Some("root"), None)]
        );
    }
}
