//! The part of the model that is about virtual routers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AuthHmac, Route, Script, Seconds, SynValidation, TrackedFile, bounds};
use conf_kit::Location;
use net_types::Network;

/// `global_defs`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct GlobalDefs {
    /// Interface of virtual routers that name none.
    pub default_interface: Option<String>,
    /// Times after which silent connections are forgotten.
    pub lvs_timeouts: Option<LvsTimeouts>,
    /// Connections per second, to removed servers, whose clients are sent TCP resets; 0
    /// sends none, and their next packet is answered. Also segments per second by which
    /// clients of a lost director's own server are asked. Default 50000.
    pub lb_reset_rate: Option<u32>,
    /// Seconds for which the director forwards on when it stops, after it has withdrawn the
    /// addresses of `announce`. Default 3.
    pub lb_withdraw_delay: Option<Seconds>,
    /// When SYNs of sources that are not proven are answered by a challenge: never,
    /// during floods, or always. Default `off`.
    pub lb_syn_validation: Option<SynValidation>,
    /// SYNs per second at which automatic validation begins. Default 10000.
    pub lb_syn_validation_rate: Option<u32>,
    /// Half-open connections at which automatic validation begins, in per cent of their
    /// table. Default 50.
    pub lb_syn_validation_half_open: Option<u8>,
    /// New connections per second of a network of clients: the /24 of an IPv4 address, the
    /// /64 of an IPv6 address. Default: no limit.
    pub lb_connection_rate: Option<u32>,
    /// New connections of such a network at once. Default `lb_connection_rate`.
    pub lb_connection_burst: Option<u32>,
    /// File of networks whose packets to services are dropped, one per line; read at start
    /// and reload.
    pub lb_deny_file: Option<String>,
    /// Network that the outer IPv4 packets of tunnels (`lb_kind TUN`) come from, each
    /// connection's from an address of its own; default: an address of this host.
    pub lb_tunnel_source4: Option<Network>,
    /// As `lb_tunnel_source4`, for outer IPv6 packets.
    pub lb_tunnel_source6: Option<Network>,
    /// User, and group, that scripts run as where they name none.
    pub script_user: Option<Vec<String>>,
    /// Does not run a script as root that another user may write.
    pub enable_script_security: bool,
    /// VRRP version of virtual routers that name none; default 2, for IPv6 3.
    pub vrrp_version: Option<u8>,
    /// Multicast group of IPv4 adverts; default 224.0.0.18.
    pub vrrp_mcast_group4: Option<IpAddr>,
    /// Multicast group of IPv6 adverts; default ff02::12.
    pub vrrp_mcast_group6: Option<IpAddr>,
    /// Delay before virtual routers start.
    pub vrrp_startup_delay: Option<Seconds>,
    /// Default of `garp_master_delay`; default 5, 0 for no second volley.
    pub vrrp_garp_master_delay: Option<Seconds>,
    /// Default of `garp_master_repeat`; default 5.
    pub vrrp_garp_master_repeat: Option<u32>,
    /// Default of `garp_lower_prio_delay`; default `garp_master_delay`.
    pub vrrp_garp_lower_prio_delay: Option<Seconds>,
    /// Default of `garp_lower_prio_repeat`; default `garp_master_repeat`.
    pub vrrp_garp_lower_prio_repeat: Option<u32>,
    /// Default of `garp_master_refresh`; default 0, no refreshing.
    pub vrrp_garp_master_refresh: Option<Seconds>,
    /// Default of `garp_master_refresh_repeat`; default 1.
    pub vrrp_garp_master_refresh_repeat: Option<u32>,
    /// Pause between two gratuitous ARPs; default 0.
    pub vrrp_garp_interval: Option<Seconds>,
    /// Pause between two unsolicited neighbour advertisements; default 0.
    pub vrrp_gna_interval: Option<Seconds>,
    /// Makes one gratuitous ARP, without a second volley, the default.
    pub vrrp_min_garp: Option<bool>,
    /// Default of `lower_prio_no_advert`; default false.
    pub vrrp_lower_prio_no_advert: Option<bool>,
    /// Default of `higher_prio_send_advert`; default true (keepalived: false).
    pub vrrp_higher_prio_send_advert: Option<bool>,
    /// Default of `down_timer_adverts`; default 3.
    pub vrrp_down_timer_adverts: Option<u32>,
    /// Default of `check_unicast_src`; default false.
    pub vrrp_check_unicast_src: Option<bool>,
}

/// `lvs_timeouts`, in seconds; what is left out has IPVS's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LvsTimeouts {
    /// An established TCP connection; default 900.
    #[schemars(range(min = *bounds::COUNT.start()))]
    pub tcp: Option<u32>,
    /// A TCP connection whose client has sent FIN; default 120.
    #[schemars(range(min = *bounds::COUNT.start()))]
    pub tcpfin: Option<u32>,
    /// UDP; default 300.
    #[schemars(range(min = *bounds::COUNT.start()))]
    pub udp: Option<u32>,
}

/// `vrrp_instance NAME`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "virtual_router_id"]))]
pub struct VrrpInstance {
    /// Its name, for logs and references.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Role to start in.
    pub state: InitialState,
    /// Interface that adverts use and that addresses are added to.
    pub interface: Option<String>,
    /// VRRP version; default `vrrp_version`.
    pub version: Option<u8>,
    /// VRID; unique on the network segment.
    pub virtual_router_id: u8,
    /// The highest becomes master. Default 100.
    pub priority: Option<u8>,
    /// Interval between adverts; default 1. Version 3: 0.01 to 40.95.
    pub advert_int: Option<Seconds>,
    /// Adverts that a backup may miss before it takes over; default 3.
    pub down_timer_adverts: Option<u32>,
    /// VRRP version 2 password.
    pub authentication: Option<Authentication>,
    /// Signs adverts with HMAC-SHA256, and judges those of others by it (keepalived 2.4).
    pub auth_hmac: Option<AuthHmac>,
    /// Addresses that the master holds and that adverts name.
    pub virtual_ipaddress: Vec<VirtualIpAddress>,
    /// Addresses that the master holds and that adverts do not name.
    pub virtual_ipaddress_excluded: Vec<VirtualIpAddress>,
    /// Routes that the master has.
    pub virtual_routes: Vec<Route>,
    /// Source address of multicast adverts; default the interface's first.
    pub mcast_src_ip: Option<IpAddr>,
    /// Multicast group of adverts; default `vrrp_mcast_group4` or `…6`.
    pub mcast_dst_ip: Option<IpAddr>,
    /// Is in fault while the interface does not have the source address that the
    /// file names.
    pub track_src_ip: bool,
    /// Source address of unicast adverts; default the interface's first.
    pub unicast_src_ip: Option<IpAddr>,
    /// Peers that adverts are sent to one by one, instead of by multicast.
    pub unicast_peer: Vec<UnicastPeer>,
    /// Drops adverts of others than the unicast peers; default
    /// `vrrp_check_unicast_src`.
    pub check_unicast_src: Option<bool>,
    /// TTL of unicast adverts; default 255.
    pub unicast_ttl: Option<u8>,
    /// Does not displace a master of lower priority.
    pub nopreempt: bool,
    /// Delay before a master of lower priority is displaced.
    pub preempt_delay: Option<Seconds>,
    /// Accepts packets to the addresses though the priority is not 255. Millrace always
    /// accepts, as keepalived does by default.
    pub accept: Option<bool>,
    /// Delay of the second volley of gratuitous ARPs after becoming master.
    pub garp_master_delay: Option<Seconds>,
    /// Gratuitous ARPs in a volley after becoming master.
    pub garp_master_repeat: Option<u32>,
    /// Delay of the second volley after an advert of lower priority.
    pub garp_lower_prio_delay: Option<Seconds>,
    /// Gratuitous ARPs in a volley after an advert of lower priority.
    pub garp_lower_prio_repeat: Option<u32>,
    /// Interval between gratuitous ARPs while master; 0 for none.
    pub garp_master_refresh: Option<Seconds>,
    /// Gratuitous ARPs per refreshing.
    pub garp_master_refresh_repeat: Option<u32>,
    /// Does not answer an advert of lower priority; default false.
    pub lower_prio_no_advert: Option<bool>,
    /// Answers an advert of higher priority with a last one; default true (keepalived: false).
    pub higher_prio_send_advert: Option<bool>,
    /// Ignores that its own interface is down.
    pub dont_track_primary: bool,
    /// Interfaces that must be up, or change the priority.
    pub track_interface: Vec<Tracked>,
    /// Scripts that must succeed, or change the priority.
    pub track_script: Vec<Tracked>,
    /// Files whose number changes the priority.
    pub track_file: Vec<TrackedFile>,
    /// Added to the priority while a virtual service at one of the addresses has
    /// lost its quorum.
    pub track_quorum: Option<i16>,
    /// Scripts that run when its state changes.
    #[serde(flatten)]
    pub notify: Notify,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

impl VrrpInstance {
    /// True for an IPv6 router: its advertised addresses say so.
    pub fn is_ipv6(&self) -> bool {
        let mut addresses = self.virtual_ipaddress.iter();
        addresses.any(|advertised| advertised.address.is_ipv6())
    }
}

/// Scripts that run when a virtual router, or a group of them, changes its state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Notify {
    /// Run on becoming master.
    #[serde(rename = "notify_master")]
    pub master: Option<Script>,
    /// Run on becoming backup.
    #[serde(rename = "notify_backup")]
    pub backup: Option<Script>,
    /// Run on becoming unable to serve.
    #[serde(rename = "notify_fault")]
    pub fault: Option<Script>,
    /// Run when the agent stops.
    #[serde(rename = "notify_stop")]
    pub stop: Option<Script>,
    /// Run on every change, with `INSTANCE` or `GROUP`, the name, the state and
    /// the priority as further arguments.
    #[serde(rename = "notify")]
    pub any: Option<Script>,
}

impl Notify {
    /// Each word with its script.
    pub fn scripts(&self) -> [(&'static str, Option<&Script>); 5] {
        [
            ("notify_master", self.master.as_ref()),
            ("notify_backup", self.backup.as_ref()),
            ("notify_fault", self.fault.as_ref()),
            ("notify_stop", self.stop.as_ref()),
            ("notify", self.any.as_ref()),
        ]
    }
}

/// `state` of a VRRP instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum InitialState {
    /// Becomes master unless a higher priority is heard.
    Master,
    /// Waits for the master to fall silent.
    #[default]
    Backup,
}

/// `authentication` of a VRRP instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Authentication {
    /// Kind of authentication.
    pub auth_type: AuthType,
    /// The password; its first eight bytes travel in clear text.
    pub auth_pass: String,
}

/// `auth_type`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum AuthType {
    /// A password in clear text (RFC 2338 §5.3.6).
    Pass,
}

/// One line of `virtual_ipaddress`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VirtualIpAddress {
    /// The address.
    pub address: IpAddr,
    /// Prefix length; default 32 for IPv4 and 128 for IPv6.
    #[schemars(range(max = 128))]
    pub prefix: Option<u8>,
    /// Interface, where it is not the instance's.
    pub dev: Option<String>,
    /// Label of an IPv4 address.
    #[schemars(length(max = bounds::MAX_LABEL_BYTES))]
    pub label: Option<String>,
}

/// One line of `unicast_peer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnicastPeer {
    /// The peer's address.
    pub address: IpAddr,
    /// Lowest TTL that an advert of the peer may arrive with.
    pub min_ttl: Option<u8>,
    /// Highest TTL that an advert of the peer may arrive with.
    pub max_ttl: Option<u8>,
}

/// One line of `track_interface` or `track_script`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Tracked {
    /// Name of the interface or the script.
    pub name: String,
    /// Added to the priority by its state, -253 to 253; absent or 0: the
    /// virtual router cannot serve while it is down.
    #[schemars(range(min = *bounds::TRACKED_WEIGHT.start(), max = *bounds::TRACKED_WEIGHT.end()))]
    pub weight: Option<i16>,
    /// Exchanges up and down.
    #[serde(default)]
    pub reverse: bool,
}

/// `vrrp_script NAME`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VrrpScript {
    /// Its name.
    pub name: String,
    /// Command; exit status 0 is success.
    pub script: Script,
    /// Interval between runs; default 1.
    pub interval: Option<Seconds>,
    /// Time after which a run counts as failed; default `interval`.
    pub timeout: Option<Seconds>,
    /// Added to the priority by its state; default 0.
    pub weight: Option<i16>,
    /// Exchanges success and failure.
    #[serde(default)]
    pub reverse: bool,
    /// Successes in a row that make it succeed; default 1.
    pub rise: Option<u32>,
    /// Failures in a row that make it fail; default 1.
    pub fall: Option<u32>,
    /// Counts as failed until it first succeeds.
    #[serde(default)]
    pub init_fail: bool,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}

/// `vrrp_sync_group NAME`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name"]))]
pub struct VrrpSyncGroup {
    /// Its name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Names of the virtual routers that change state together.
    pub group: Vec<String>,
    /// Interfaces that must be up for all of them.
    pub track_interface: Vec<Tracked>,
    /// Scripts that must succeed for all of them.
    pub track_script: Vec<Tracked>,
    /// Files whose number changes the priority of all of them.
    pub track_file: Vec<TrackedFile>,
    /// Scripts that run when its state changes.
    #[serde(flatten)]
    pub notify: Notify,
    /// Place of the block.
    #[serde(skip)]
    pub location: Location,
}
