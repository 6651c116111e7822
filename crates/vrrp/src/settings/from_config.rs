//! The settings from the configuration, with keepalived's defaults.

use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use super::tracked::{files, script, tracked};
use super::{
    GroupSettings, InstanceSettings, Pauses, Problem, Settings, SettingsError, Transport,
    VirtualAddress, seconds,
};
use crate::machine::{AnnouncementPolicy, Policy, Preemption};
use crate::packet::{
    Format, Key, MULTICAST_V4, MULTICAST_V6, PRIORITY_OWNER, Password, Peer, SignatureSettings,
    TIME_TO_LIVE, Version,
};
use crate::tracking::{Tracked, TrackedSubject};
use lb_model::config::auth_hmac::TIME_WINDOW_S;
use lb_model::config::{
    self, AntiReplay, Config, GlobalDefs, HmacKey, HmacMode, InitialState, Seconds, VrrpInstance,
    bounds,
};

/// keepalived.conf(5), `advert_int` of `vrrp_instance`.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
/// keepalived.conf(5), `priority`.
const DEFAULT_PRIORITY: u8 = 100;
/// The least `time_window` that follows from an interval (`VRRP_AUTH_HMAC_WINDOW_FLOOR`).
const MIN_DEFAULT_WINDOW_S: u32 = 5;
/// Bytes of a key's file that are read: `hex:`, 64 bytes and the end of a line fit.
const MAX_KEY_FILE_BYTES: u64 = 256;
/// RFC 3768 §6.1.
const DEFAULT_DOWN_TIMER_ADVERTS: u32 = 3;

impl Settings {
    /// Fills in keepalived's defaults.
    ///
    /// # Errors
    /// The first virtual router whose settings are not possible.
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
    Ok(InstanceSettings {
        name: given.name.clone(),
        interface: interface.clone(),
        format,
        signatures: signatures(given, interval)?,
        priority: given.priority.unwrap_or(if owns {
            PRIORITY_OWNER
        } else {
            DEFAULT_PRIORITY
        }),
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
            .map(|address| VirtualAddress::from_config(address, interface))
            .collect(),
        routes: given.virtual_routes.clone(),
        pauses: Pauses {
            arp: seconds(global.vrrp_garp_interval, Duration::ZERO),
            neighbour_advertisement: seconds(global.vrrp_gna_interval, Duration::ZERO),
        },
        tracked: all_tracked(given, config, interface),
    })
}

/// Everything that an instance tracks: its own interface (unless `dont_track_primary`),
/// the subjects that it names, and its quorum.
fn all_tracked(given: &VrrpInstance, config: &Config, interface: &str) -> Vec<Tracked> {
    let own_interface = (!given.dont_track_primary).then(|| Tracked {
        subject: TrackedSubject::Interface(interface.to_owned()),
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
        subject: TrackedSubject::Quorum,
        weight: weight.into(),
        reverse: false,
    }));
    all_tracked
}

fn password(given: &VrrpInstance, version: Version) -> Option<Password> {
    let authentication = given.authentication.as_ref()?;
    if given.auth_hmac.is_some() {
        // The one takes the place of the other (`vrrp_complete_instance` of keepalived).
        return None;
    }
    if version == Version::V3 {
        log::warn!(
            "vrrp_instance {}: VRRP version 3 has no authentication; ignored, as keepalived does",
            given.name
        );
        return None;
    }
    Some(Password::new(&authentication.auth_pass))
}

/// Reads the keys that are in files.
fn signatures(
    given: &VrrpInstance,
    interval: Duration,
) -> Result<Option<SignatureSettings>, Problem> {
    let Some(hmac) = &given.auth_hmac else {
        return Ok(None);
    };
    let keys = hmac.key.iter().map(|key| {
        let bytes = key_bytes(key, &given.name).map_err(|problem| Problem::Key {
            id: key.id,
            problem,
        })?;
        Ok(Key { id: key.id, bytes })
    });
    let keys: Vec<Key> = keys.collect::<Result<_, Problem>>()?;
    let window = hmac.time_window.unwrap_or_else(|| {
        // `vrrp_complete_instance` of keepalived: whole seconds.
        let window = 3 * interval.as_secs().min((*TIME_WINDOW_S.end()).into()) as u32;
        window.clamp(MIN_DEFAULT_WINDOW_S, *TIME_WINDOW_S.end())
    });
    Ok(Some(SignatureSettings {
        keys,
        active_key: hmac.active_key,
        time_window: (hmac.anti_replay != Some(AntiReplay::Monotonic)).then_some(window),
        mode: hmac.mode.unwrap_or(HmacMode::Enforce),
    }))
}

fn key_bytes(key: &HmacKey, instance: &str) -> Result<Vec<u8>, String> {
    let Some(path) = key.file() else {
        return HmacKey::decode(&key.value).map_err(|problem| format!("is {problem}"));
    };
    let file = File::open(path).map_err(|error| format!("is in {path}: {error}"))?;
    let is_readable_by_others = |file: &File| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
    };
    if is_readable_by_others(&file) {
        log::warn!(
            "vrrp_instance {instance}: {path}, which holds a key of `auth_hmac`, can be read by \
             its group or by others; take the right away: chmod 600 {path}"
        );
    }
    let mut text = String::new();
    file.take(MAX_KEY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| format!("is in {path}: {error}"))?;
    HmacKey::decode(text.trim_end_matches(['\n', '\r']))
        .map_err(|problem| format!("is in {path}, and {problem}"))
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

fn announcing(given: &VrrpInstance, global: &GlobalDefs) -> AnnouncementPolicy {
    let default = match global.vrrp_min_garp {
        Some(true) => AnnouncementPolicy::MIN,
        Some(false) | None => AnnouncementPolicy::default(),
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
    AnnouncementPolicy {
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

impl VirtualAddress {
    /// The address of a configuration line; `interface` is the one that it is on if the
    /// line names none.
    pub fn from_config(given: &config::VirtualIpAddress, interface: &str) -> Self {
        let host = if given.address.is_ipv4() { 32 } else { 128 };
        Self {
            address: given.address,
            prefix_length: given.prefix.unwrap_or(host),
            interface: given.dev.clone().unwrap_or_else(|| interface.to_owned()),
            label: given.label.clone(),
        }
    }
}
