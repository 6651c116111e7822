//! What the virtual routers are to be, with every default filled in.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::machine::{Announcing, Policy, Preemption};
use super::packet::{
    Format, FormatError, MULTICAST_V4, MULTICAST_V6, Password, Peer, TIME_TO_LIVE, Version,
};
use super::tracking::{Subject, Tracked};
use conf_kit::Location;
use lb_model::config::Config;
use lb_model::config::{self, GlobalDefs, InitialState, Seconds, VrrpInstance, bounds};
use lb_script::script::Runnable;
use lb_script::track_file::{Factor, NumberFile};
use netlink::address::InterfaceAddress;
use netlink::interfaces::Interfaces;

/// keepalived.conf(5), `advert_int` of `vrrp_instance`.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// keepalived.conf(5), `interval` of `vrrp_script`.
const DEFAULT_SCRIPT_INTERVAL: Duration = Duration::from_secs(1);
/// keepalived.conf(5), `priority`.
const DEFAULT_PRIORITY: u8 = 100;
/// RFC 3768 §6.1.
const DEFAULT_DOWN_TIMER_ADVERTS: u32 = 3;
/// The priority of an owner, which `state MASTER` without `priority` means.
const OWNER: u8 = super::packet::PRIORITY_OWNER;

/// Everything about VRRP.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The virtual routers.
    pub instances: Vec<InstanceSettings>,
    /// Those of them that lead together.
    pub groups: Vec<GroupSettings>,
    /// The scripts that they track.
    pub scripts: Vec<ScriptSettings>,
    /// The files that they track.
    pub files: Vec<FileSettings>,
    /// Delay before they start.
    pub startup_delay: Duration,
}

impl Settings {
    /// Whether a machine whose virtual routers `masters` lead speaks for
    /// `address`: one of them holds it, or no virtual router does.
    pub fn speaks_for(&self, address: IpAddr, masters: &BTreeSet<String>) -> bool {
        let address = address.to_canonical();
        let is_it = |held: &VirtualAddress| held.address.to_canonical() == address;
        let mut holders = self
            .instances
            .iter()
            .filter(|instance| instance.addresses.iter().any(is_it))
            .peekable();
        holders.peek().is_none() || holders.any(|holder| masters.contains(&holder.name))
    }

    /// How long another machine takes at most to lead in our place at `address`,
    /// once a service there has lost its quorum; `None` if none would for that,
    /// or `masters` do not lead there.
    pub fn succession(&self, address: IpAddr, masters: &BTreeSet<String>) -> Option<Duration> {
        let address = address.to_canonical();
        let leaders = self.instances.iter().filter(|instance| {
            let mut held = instance.addresses.iter();
            masters.contains(&instance.name)
                && held.any(|held| held.address.to_canonical() == address)
        });
        let watching = leaders.filter(|instance| {
            let mut tracked = instance.tracked.iter();
            tracked.any(|tracked| tracked.subject == Subject::Quorum)
        });
        watching.map(InstanceSettings::succession).max()
    }

    /// The files that are tracked.
    pub fn tracked_files(&self) -> impl Iterator<Item = &NumberFile> {
        self.files.iter().map(|settings| &settings.file)
    }
}

/// A virtual address, and where it is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Name of the interface.
    pub interface: String,
    /// Its label, for IPv4.
    pub label: Option<String>,
}

impl VirtualAddress {
    /// Itself on its interface, if that is there.
    pub fn on_interface(&self, interfaces: &Interfaces) -> Option<InterfaceAddress> {
        Some(InterfaceAddress {
            interface_index: interfaces.get(&self.interface)?.index,
            address: self.address,
            prefix_length: self.prefix_length,
            label: self.label.clone(),
        })
    }
}

/// Pauses between two announcements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pauses {
    /// Between gratuitous ARPs.
    pub arp: Duration,
    /// Between unsolicited neighbour advertisements.
    pub neighbour_advertisement: Duration,
}

/// One virtual router.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceSettings {
    /// Its name.
    pub name: String,
    /// The interface that adverts use.
    pub interface: String,
    /// What its adverts look like.
    pub format: Format,
    /// Its priority while nothing that it tracks changes it.
    pub priority: u8,
    /// What it keeps to.
    pub policy: Policy,
    /// Where its adverts come from; `None`: the interface's first address.
    pub source: Option<IpAddr>,
    /// Whether the interface must have that address.
    pub source_must_exist: bool,
    /// How its adverts travel.
    pub transport: Transport,
    /// What it holds as master.
    pub addresses: Vec<VirtualAddress>,
    /// The routes that it has as master.
    pub routes: Vec<config::Route>,
    /// Pauses while these are announced.
    pub pauses: Pauses,
    /// What it tracks.
    pub tracked: Vec<Tracked>,
}

impl InstanceSettings {
    /// Has the adverts name as many addresses as a packet on the interface takes;
    /// the others are held like excluded ones.
    pub fn fit_on(&mut self, interfaces: &Interfaces) {
        let name = &self.interface;
        let Some(interface) = interfaces.get(name) else {
            return;
        };
        if let Some(count) = self.format.fit(interface.mtu) {
            log::warn!(
                "{}: an advert on {name} (MTU {}) has room for {count} addresses: the others \
                 are held as if they were in virtual_ipaddress_excluded",
                self.name,
                interface.mtu
            );
        }
    }

    /// How long after a master's last word a successor of whatever priority may
    /// take (RFC 3768 §6.1, RFC 5798 §6.1, `Skew_Time`).
    pub fn longest_skew(&self) -> Duration {
        match self.policy.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.policy.interval,
        }
    }

    /// How long it takes at most until we hear of a successor, once our priority
    /// is below its own: it hears so with our next advert, waits as long as a
    /// master may be silent, and sends its first advert (RFC 5798 §6.4.2).
    fn succession(&self) -> Duration {
        // One interval for our advert, and one for what is slow.
        self.policy.interval * (self.policy.down_timer_adverts + 2) + self.longest_skew()
    }
}

/// How adverts travel.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// To a group, on one network segment.
    Multicast(IpAddr),
    /// To peers, wherever they are.
    Unicast {
        /// The peers.
        peers: Vec<Peer>,
        /// Time to live of our adverts.
        time_to_live: u8,
        /// Whether adverts of others than the peers are dropped.
        check_source: bool,
    },
}

/// Virtual routers that lead together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// The group's name.
    pub name: String,
    /// Their names.
    pub members: Vec<String>,
    /// What all of them track.
    pub tracked: Vec<Tracked>,
}

/// A script that is tracked.
#[derive(Debug, Clone, PartialEq)]
pub struct ScriptSettings {
    /// Its name.
    pub name: String,
    /// What is run.
    pub script: Runnable,
    /// Interval between runs.
    pub interval: Duration,
    /// Time after which a run has failed.
    pub timeout: Duration,
    /// Successes in a row that make it succeed.
    pub rise: u32,
    /// Failures in a row that make it fail.
    pub fall: u32,
    /// Whether it counts as failed at first.
    pub starts_failed: bool,
}

/// A file that is tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub file: NumberFile,
}

/// A virtual router that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("vrrp_instance {instance}: {problem}")]
pub struct SettingsError {
    /// Its name.
    pub instance: String,
    /// Where it was written.
    pub location: Location,
    /// Why it cannot be.
    pub problem: Problem,
}

/// Why a virtual router cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has no interface.
    #[error("it names no interface; expected `interface`, or `default_interface` in `global_defs`")]
    NoInterface,
    /// A version of VRRP that does not exist.
    #[error("VRRP version {0}; expected 2 or 3")]
    Version(u8),
    /// Its adverts cannot be.
    #[error("{0}")]
    Format(#[from] FormatError),
    /// An address of the other family.
    #[error("{0} is not of the same family as the virtual addresses")]
    Family(IpAddr),
}

impl Settings {
    /// Fills in keepalived's defaults.
    ///
    /// # Errors
    /// The first virtual router that cannot be.
    pub fn from_config(config: &Config) -> Result<Self, SettingsError> {
        let instance = |given: &VrrpInstance| {
            instance(given, config).map_err(|problem| SettingsError {
                instance: given.name.clone(),
                location: given.location.clone(),
                problem,
            })
        };
        let groups = config.vrrp_sync_group.iter().map(|group| GroupSettings {
            name: group.name.clone(),
            members: group.group.clone(),
            tracked: tracked(
                config,
                &group.track_interface,
                &group.track_script,
                &group.track_file,
            ),
        });
        Ok(Self {
            instances: config
                .vrrp_instance
                .iter()
                .map(instance)
                .collect::<Result<_, _>>()?,
            groups: groups.collect(),
            scripts: config
                .vrrp_script
                .iter()
                .map(|given| script(given, &config.global_defs))
                .collect(),
            files: files(config),
            startup_delay: seconds(config.global_defs.vrrp_startup_delay, Duration::ZERO),
        })
    }
}

fn instance(given: &VrrpInstance, config: &Config) -> Result<InstanceSettings, Problem> {
    let global = &config.global_defs;
    let interface = given
        .interface
        .as_ref()
        .or(global.default_interface.as_ref());
    let interface = interface.ok_or(Problem::NoInterface)?;
    let advertised: Vec<IpAddr> = given
        .virtual_ipaddress
        .iter()
        .map(|address| address.address)
        // Further ones are held like excluded ones.
        .take(bounds::MAX_ADVERTISED_ADDRESSES)
        .collect();
    let is_ipv6 = given.is_ipv6();
    let version = match (given.version.or(global.vrrp_version), is_ipv6) {
        (_, true) | (Some(3), false) => Version::V3,
        (Some(2) | None, false) => Version::V2,
        (Some(other), false) => return Err(Problem::Version(other)),
    };
    let interval = seconds(given.advert_int, DEFAULT_INTERVAL);
    let format = Format::new(
        version,
        given.virtual_router_id,
        &advertised,
        password(given, version),
        interval,
    )?;
    let transport = transport(given, global, is_ipv6);
    let source = match transport {
        Transport::Multicast(_) => given.mcast_src_ip,
        Transport::Unicast { .. } => given.unicast_src_ip.or(given.mcast_src_ip),
    };
    for address in source
        .iter()
        .chain(&given.mcast_dst_ip)
        .chain(given.unicast_peer.iter().map(|peer| &peer.address))
    {
        if address.is_ipv6() != is_ipv6 {
            return Err(Problem::Family(*address));
        }
    }
    let owns = given.state == InitialState::Master;
    let held = given
        .virtual_ipaddress
        .iter()
        .chain(&given.virtual_ipaddress_excluded);
    let own_interface = (!given.dont_track_primary).then(|| Tracked {
        subject: Subject::Interface(interface.clone()),
        weight: 0,
        reverse: false,
    });
    let mut all_tracked: Vec<Tracked> = own_interface.into_iter().collect();
    all_tracked.extend(tracked(
        config,
        &given.track_interface,
        &given.track_script,
        &given.track_file,
    ));
    all_tracked.extend(given.track_quorum.map(|weight| Tracked {
        subject: Subject::Quorum,
        weight: weight.into(),
        reverse: false,
    }));
    Ok(InstanceSettings {
        name: given.name.clone(),
        interface: interface.clone(),
        format,
        priority: given
            .priority
            .unwrap_or(if owns { OWNER } else { DEFAULT_PRIORITY }),
        policy: Policy {
            version,
            interval,
            owner: owns,
            preemption: preemption(given),
            down_timer_adverts: given
                .down_timer_adverts
                .or(global.vrrp_down_timer_adverts)
                .unwrap_or(DEFAULT_DOWN_TIMER_ADVERTS),
            announcing: announcing(given, global),
            answer_lower_priority: !given
                .lower_prio_no_advert
                .or(global.vrrp_lower_prio_no_advert)
                .unwrap_or(false),
            // Ours alone; off by default in keepalived. A master that was cut
            // off does not know that another has led meanwhile. This advert
            // tells it, and makes it announce the addresses again.
            answer_higher_priority: given
                .higher_prio_send_advert
                .or(global.vrrp_higher_prio_send_advert)
                .unwrap_or(true),
            grouped: false,
        },
        source,
        source_must_exist: given.track_src_ip,
        transport,
        addresses: held
            .map(|address| virtual_address(address, interface))
            .collect(),
        routes: given.virtual_routes.clone(),
        pauses: Pauses {
            arp: seconds(global.vrrp_garp_interval, Duration::ZERO),
            neighbour_advertisement: seconds(global.vrrp_gna_interval, Duration::ZERO),
        },
        tracked: all_tracked,
    })
}

fn password(given: &VrrpInstance, version: Version) -> Option<Password> {
    let authentication = given.authentication.as_ref()?;
    if version == Version::V3 {
        log::warn!(
            "vrrp_instance {}: VRRP version 3 has no authentication; ignored, as keepalived does",
            given.name
        );
        return None;
    }
    Some(Password::new(&authentication.auth_pass))
}

fn preemption(given: &VrrpInstance) -> Preemption {
    // keepalived.conf(5): neither works with the initial state MASTER.
    if given.state == InitialState::Master {
        return Preemption::AtOnce;
    }
    match given.preempt_delay {
        _ if given.nopreempt => Preemption::Never,
        Some(Seconds(delay)) if !delay.is_zero() => Preemption::After(delay),
        _ => Preemption::AtOnce,
    }
}

fn announcing(given: &VrrpInstance, global: &GlobalDefs) -> Announcing {
    let default = match global.vrrp_min_garp {
        Some(true) => Announcing::LEAST,
        Some(false) | None => Announcing::default(),
    };
    let repeat = given.garp_master_repeat.or(global.vrrp_garp_master_repeat);
    let repeat = repeat.unwrap_or(default.repeat);
    let delay = seconds(
        given.garp_master_delay.or(global.vrrp_garp_master_delay),
        default.delay,
    );
    let lower_delay = given
        .garp_lower_prio_delay
        .or(global.vrrp_garp_lower_prio_delay);
    let lower_repeat = given
        .garp_lower_prio_repeat
        .or(global.vrrp_garp_lower_prio_repeat);
    let refresh = given
        .garp_master_refresh
        .or(global.vrrp_garp_master_refresh);
    let refresh_repeat = given
        .garp_master_refresh_repeat
        .or(global.vrrp_garp_master_refresh_repeat);
    Announcing {
        repeat,
        delay,
        lower_priority_repeat: lower_repeat.unwrap_or(repeat),
        lower_priority_delay: seconds(lower_delay, delay),
        refresh: seconds(refresh, default.refresh),
        refresh_repeat: refresh_repeat.unwrap_or(default.refresh_repeat),
    }
}

fn transport(given: &VrrpInstance, global: &GlobalDefs, is_ipv6: bool) -> Transport {
    if given.unicast_peer.is_empty() {
        let group = match is_ipv6 {
            false => global.vrrp_mcast_group4.unwrap_or(MULTICAST_V4.into()),
            true => global.vrrp_mcast_group6.unwrap_or(MULTICAST_V6.into()),
        };
        return Transport::Multicast(given.mcast_dst_ip.unwrap_or(group));
    }
    let peers = given.unicast_peer.iter().map(|peer| Peer {
        address: peer.address,
        time_to_live: peer.min_ttl.unwrap_or(0)..=peer.max_ttl.unwrap_or(u8::MAX),
    });
    Transport::Unicast {
        peers: peers.collect(),
        time_to_live: given.unicast_ttl.unwrap_or(TIME_TO_LIVE),
        // keepalived.conf(5): either bound turns on `check_unicast_src`.
        check_source: given
            .check_unicast_src
            .or(global.vrrp_check_unicast_src)
            .unwrap_or(false)
            || given
                .unicast_peer
                .iter()
                .any(|peer| peer.min_ttl.is_some() || peer.max_ttl.is_some()),
    }
}

/// An address with what its line leaves out; `interface`: where it is then held.
pub fn virtual_address(given: &config::VirtualIpAddress, interface: &str) -> VirtualAddress {
    let host = if given.address.is_ipv4() { 32 } else { 128 };
    VirtualAddress {
        address: given.address,
        prefix_length: given.prefix.unwrap_or(host),
        interface: given.dev.clone().unwrap_or_else(|| interface.to_owned()),
        label: given.label.clone(),
    }
}

fn tracked(
    config: &Config,
    interfaces: &[config::Tracked],
    scripts: &[config::Tracked],
    files: &[config::TrackedFile],
) -> Vec<Tracked> {
    let interfaces = interfaces.iter().map(|given| Tracked {
        subject: Subject::Interface(given.name.clone()),
        weight: given.weight.unwrap_or(0).into(),
        reverse: given.reverse,
    });
    let scripts = scripts.iter().map(|given| {
        let script = config
            .vrrp_script
            .iter()
            .find(|script| script.name == given.name);
        let (weight, reverse) = match (given.weight, script) {
            (Some(weight), _) => (weight, given.reverse),
            (None, Some(script)) => (script.weight.unwrap_or(0), script.reverse ^ given.reverse),
            (None, None) => (0, given.reverse),
        };
        Tracked {
            subject: Subject::Script(given.name.clone()),
            weight: weight.into(),
            reverse,
        }
    });
    let files = files.iter().map(|given| {
        let of_file = config
            .track_file
            .iter()
            .find(|file| file.name == given.name);
        let Factor { weight, reverse } = match (given.weight, of_file) {
            (Some(weight), _) => Factor {
                weight: weight.into(),
                reverse: given.reverse,
            },
            (None, Some(file)) => Factor::from(file),
            // `validate` has seen that it exists.
            (None, None) => Factor::default(),
        };
        Tracked {
            subject: Subject::File(given.name.clone()),
            weight,
            reverse,
        }
    });
    interfaces.chain(scripts).chain(files).collect()
}

/// The files that any virtual router or group tracks; no other is read.
fn files(config: &Config) -> Vec<FileSettings> {
    let of_instances = config.vrrp_instance.iter().flat_map(|it| &it.track_file);
    let of_groups = config.vrrp_sync_group.iter().flat_map(|it| &it.track_file);
    let names: BTreeSet<&String> = of_instances.chain(of_groups).map(|it| &it.name).collect();
    let tracked = config.track_file.iter();
    tracked
        .filter(|file| names.contains(&file.name))
        .map(|file| FileSettings {
            name: file.name.clone(),
            file: NumberFile::from(file),
        })
        .collect()
}

fn script(given: &config::VrrpScript, global: &GlobalDefs) -> ScriptSettings {
    let interval = seconds(given.interval, DEFAULT_SCRIPT_INTERVAL);
    ScriptSettings {
        name: given.name.clone(),
        script: Runnable::new(given.script.clone(), global),
        interval,
        timeout: seconds(given.timeout, interval),
        rise: given.rise.unwrap_or(1).max(1),
        fall: given.fall.unwrap_or(1).max(1),
        starts_failed: given.init_fail,
    }
}

fn seconds(given: Option<Seconds>, default: Duration) -> Duration {
    given.map_or(default, |Seconds(duration)| duration)
}

#[cfg(test)]
mod tests;
