//! The files that tools read which know keepalived, such as its exporters:
//! written where and as keepalived writes them when a signal asks for them.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::signals::KeepalivedFile;
use lb_model::config::{Config, Route, VrrpInstance};
use vrrp::{
    InstanceSettings, InstanceStatus, Preemption, Refusal, Settings, State, VirtualAddress,
};

/// Readable for root alone, as keepalived has it.
const MODE: u32 = 0o600;

impl KeepalivedFile {
    fn name(self) -> &'static str {
        match self {
            Self::Data => "keepalived.data",
            Self::Stats => "keepalived.stats",
            Self::Json => "keepalived.json",
        }
    }
}

/// Writes a file as keepalived would.
pub(super) fn write(
    file: KeepalivedFile,
    config: &Config,
    settings: &Settings,
    status: &[InstanceStatus],
) {
    let routers = routers(settings, status);
    let text = match file {
        KeepalivedFile::Data => data(config, &routers),
        KeepalivedFile::Stats => stats(status),
        KeepalivedFile::Json => json(config, &routers),
    };
    let path = env::temp_dir().join(file.name());
    match replace(&path, &text) {
        Ok(()) => log::debug!("{} is written", path.display()),
        Err(error) => log::warn!("cannot write {}: {error}", path.display()),
    }
}

/// Puts a file in the place of another in one step. In a directory that everybody
/// may write, what is there may be another's link: it is replaced, never
/// followed.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{:016x}", fastrand::u64(..)));
    write_new(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .inspect_err(|_| {
            // The first error is what is told.
            let _ = fs::remove_file(&beside);
        })
}

fn write_new(path: &PathBuf, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())
}

/// A virtual router as configured and as it is.
type Router<'a> = (&'a InstanceSettings, &'a InstanceStatus);

fn routers<'a>(settings: &'a Settings, status: &'a [InstanceStatus]) -> Vec<Router<'a>> {
    let settings = settings.instances.iter();
    settings
        .filter_map(|settings| {
            let mut status = status.iter();
            let found = status.find(|status| status.name == settings.name)?;
            Some((settings, found))
        })
        .collect()
}

fn dropped(status: &InstanceStatus, refusals: &[Refusal]) -> u64 {
    let counts = &status.counters.adverts_dropped;
    refusals.iter().filter_map(|it| counts.get(it)).sum()
}

/// `keepalived.stats`: vrrp_print.c, `vrrp_print_stats`.
fn stats(status: &[InstanceStatus]) -> String {
    let mut text = String::new();
    for router in status {
        let counters = &router.counters;
        let of = |refusals: &[Refusal]| dropped(router, refusals);
        let lines = [
            format!("VRRP Instance: {}", router.name),
            "  Advertisements:".to_owned(),
            format!("    Received: {}", counters.adverts_received),
            format!("    Sent: {}", counters.adverts_sent),
            format!("  Became master: {}", counters.became_master),
            format!("  Released master: {}", counters.released_master),
            "  Packet Errors:".to_owned(),
            format!("    Length: {}", of(&[Refusal::Length])),
            format!("    TTL: {}", of(&[Refusal::TimeToLive])),
            format!("    Invalid Type: {}", of(&[Refusal::Type])),
            format!("    Advertisement Interval: {}", of(&[Refusal::Interval])),
            format!("    Address List: {}", of(&ADDRESS_LIST)),
            "  Authentication Errors:".to_owned(),
            "    Invalid Type: 0".to_owned(),
            format!("    Type Mismatch: {}", of(&[Refusal::AuthenticationType])),
            format!("    Failure: {}", of(&[Refusal::Password])),
            "  Priority Zero:".to_owned(),
            format!("    Received: {}", counters.leaving_received),
            format!("    Sent: {}", counters.leaving_sent),
        ];
        text += &lines.join("\n");
        text.push('\n');
    }
    text
}

const ADDRESS_LIST: [Refusal; 2] = [Refusal::AddressCount, Refusal::Addresses];

/// `keepalived.json`: vrrp_json.c, `vrrp_print_json`.
fn json(config: &Config, routers: &[Router<'_>]) -> String {
    let routers = routers.iter().map(|(settings, status)| {
        json!({
            "data": json_data(config, settings, status),
            "stats": json_stats(status),
        })
    });
    Value::Array(routers.collect()).to_string()
}

fn json_data(config: &Config, settings: &InstanceSettings, status: &InstanceStatus) -> Value {
    let policy = &settings.policy;
    let announcing = &policy.announcing;
    let is_master = status.state == State::Master;
    let state = number_of(status.state);
    let preempt_delay = match policy.preemption {
        Preemption::After(delay) => delay,
        Preemption::AtOnce | Preemption::Never => Duration::ZERO,
    };
    let configured = configured(config, &status.name);
    let has_password = status.version == 2 && has_password(config, &status.name);
    let needs_no_interface = configured.is_some_and(|it| it.dont_track_primary);
    let (advertised, excluded) = addresses(settings, status);
    let lines = |list: &[VirtualAddress]| {
        let lines = list.iter().map(|held| line_of(held, is_master));
        lines.collect::<Vec<_>>()
    };
    let routes: Vec<String> = settings.routes.iter().map(line_of_route).collect();
    json!({
        "iname": status.name,
        "dont_track_primary": u8::from(needs_no_interface),
        "skip_check_adv_addr": 0,
        "strict_mode": 0,
        "vmac_ifname": "",
        "ifp_ifname": status.interface,
        "master_priority": 0,
        "last_transition": status.since as f64,
        "garp_delay": seconds(announcing.delay),
        "garp_refresh": announcing.refresh.as_secs(),
        "garp_rep": announcing.repeat,
        "garp_refresh_rep": announcing.refresh_repeat,
        "garp_lower_prio_delay": announcing.lower_priority_delay.as_secs(),
        "garp_lower_prio_rep": announcing.lower_priority_repeat,
        "lower_prio_no_advert": u8::from(!policy.answer_lower_priority),
        "higher_prio_send_advert": u8::from(policy.answer_higher_priority),
        "vrid": status.virtual_router_id,
        "base_priority": status.base_priority,
        "effective_priority": status.priority,
        "vipset": is_master,
        "promote_secondaries": false,
        "adver_int": seconds(policy.interval),
        "master_adver_int": seconds(policy.interval),
        "accept": 1,
        "nopreempt": policy.preemption == Preemption::Never,
        "preempt_delay": preempt_delay.as_secs(),
        "state": state,
        "wantstate": state,
        "version": status.version,
        "smtp_alert": false,
        "notify_deleted": false,
        "vips": lines(advertised),
        "evips": lines(excluded),
        "vroutes": routes,
        "auth_type": u8::from(has_password),
    })
}

fn json_stats(status: &InstanceStatus) -> Value {
    let counters = &status.counters;
    let of = |refusals: &[Refusal]| dropped(status, refusals);
    json!({
        "advert_rcvd": counters.adverts_received,
        "advert_sent": counters.adverts_sent,
        "become_master": counters.became_master,
        "release_master": counters.released_master,
        "packet_len_err": of(&[Refusal::Length]),
        "advert_interval_err": of(&[Refusal::Interval]),
        "ip_ttl_err": of(&[Refusal::TimeToLive]),
        "invalid_type_rcvd": of(&[Refusal::Type]),
        "addr_list_err": of(&ADDRESS_LIST),
        "invalid_authtype": 0,
        "authtype_mismatch": of(&[Refusal::AuthenticationType]),
        "auth_failure": of(&[Refusal::Password]),
        "pri_zero_rcvd": counters.leaving_received,
        "pri_zero_sent": counters.leaving_sent,
    })
}

/// Seconds, without a fraction if there is none: exporters read them into whole
/// numbers, and take nothing of a file with `5.0`.
fn seconds(duration: Duration) -> Value {
    match duration.subsec_nanos() {
        0 => duration.as_secs().into(),
        _ => duration.as_secs_f64().into(),
    }
}

/// `VRRP_STATE_…` of vrrp.h.
fn number_of(state: State) -> u8 {
    match state {
        State::Init => 0,
        State::Backup => 1,
        State::Master => 2,
        State::Fault => 3,
    }
}

fn name_of(state: State) -> &'static str {
    match state {
        State::Init => "INIT",
        State::Backup => "BACKUP",
        State::Master => "MASTER",
        State::Fault => "FAULT",
    }
}

fn configured<'a>(config: &'a Config, name: &str) -> Option<&'a VrrpInstance> {
    let mut instances = config.vrrp_instance.iter();
    instances.find(|instance| instance.name == name)
}

fn has_password(config: &Config, name: &str) -> bool {
    configured(config, name).is_some_and(|it| it.authentication.is_some())
}

/// The addresses that adverts name, and the others.
fn addresses<'a>(
    settings: &'a InstanceSettings,
    status: &InstanceStatus,
) -> (&'a [VirtualAddress], &'a [VirtualAddress]) {
    let all = &settings.addresses;
    all.split_at(status.advertised.min(all.len()))
}

/// As keepalived shows an address: without the length of a host's own prefix.
fn line_of(held: &VirtualAddress, is_set: bool) -> String {
    let host = if held.address.is_ipv4() { 32 } else { 128 };
    let prefix = match held.prefix_length {
        length if length == host => String::new(),
        length => format!("/{length}"),
    };
    let label = held.label.as_ref().map(|label| format!(" label {label}"));
    let label = label.unwrap_or_default();
    let set = if is_set { " set" } else { "" };
    format!(
        "{}{prefix} dev {} scope global{label}{set}",
        held.address, held.interface
    )
}

/// As keepalived shows a route, but for the order of its words.
fn line_of_route(route: &Route) -> String {
    format!("prepend {route} proto 18")
}

/// `keepalived.data`: what exporters read of vrrp_data.c, `dump_vrrp`.
fn data(config: &Config, routers: &[Router<'_>]) -> String {
    let mut text = String::from("------< VRRP Topology >------\n");
    let mut line = |line: String| {
        writeln!(text, "{line}").expect("a string can always grow");
    };
    for (settings, status) in routers {
        let policy = &settings.policy;
        let announcing = &policy.announcing;
        let state = name_of(status.state);
        line(format!(" VRRP Instance = {}", status.name));
        line(format!("   VRRP Version = {}", status.version));
        if let Some(group) = &status.group {
            line(format!("   Sync group = {group}"));
        }
        if settings.format.is_ipv6() {
            line("   Using Native IPv6".to_owned());
        }
        line(format!("   State = {state}"));
        line(format!("   Wantstate = {state}"));
        line(format!("   Last transition = {}.000000", status.since));
        line(format!("   Interface = {}", status.interface));
        for (word, value) in [
            ("delay", announcing.delay.as_secs()),
            ("repeat", announcing.repeat.into()),
            ("refresh", announcing.refresh.as_secs()),
            ("refresh repeat", announcing.refresh_repeat.into()),
            (
                "lower priority delay",
                announcing.lower_priority_delay.as_secs(),
            ),
            (
                "lower priority repeat",
                announcing.lower_priority_repeat.into(),
            ),
        ] {
            line(format!("   Gratuitous ARP {word} = {value}"));
        }
        line(format!(
            "   Virtual Router ID = {}",
            status.virtual_router_id
        ));
        line(format!("   Priority = {}", status.base_priority));
        line(format!("   Effective priority = {}", status.priority));
        let interval = policy.interval.as_millis();
        line(format!("   Advert interval = {interval} milli-sec"));
        line("   Accept = enabled".to_owned());
        let preempt = match policy.preemption {
            Preemption::Never => "disabled",
            Preemption::AtOnce | Preemption::After(_) => "enabled",
        };
        line(format!("   Preempt = {preempt}"));
        if has_password(config, &status.name) {
            line("   Authentication type = SIMPLE_PASSWORD".to_owned());
        }
        let (advertised, excluded) = addresses(settings, status);
        let is_master = status.state == State::Master;
        for (heading, list) in [
            (format!("Virtual IP ({}):", advertised.len()), advertised),
            ("Virtual IP Excluded :".to_owned(), excluded),
        ] {
            if !list.is_empty() {
                line(format!("   {heading}"));
            }
            for held in list {
                line(format!("     {}", line_of(held, is_master)));
            }
        }
        if !settings.routes.is_empty() {
            line("   Virtual Routes :".to_owned());
        }
        for route in &settings.routes {
            line(format!("     {}", line_of_route(route)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use vrrp::Counters;

    #[test]
    fn what_a_virtual_router_holds_is_shown_as_keepalived_shows_it() {
        let text = "vrrp_instance VI_1 {
            interface eth0
            virtual_router_id 51
            advert_int 0.5
            version 3
            virtual_ipaddress {
                10.0.0.1
                10.0.0.2/24 label eth0:1
                10.0.0.3
            }
            virtual_routes {
                10.9.0.0/16 via 10.0.0.7
            }
        }";
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        fs::write(&file, text).expect("it is written");
        let config = lb_config::load(&file).expect("it is accepted").config;
        let settings = Settings::from_config(&config).expect("valid");
        let status = [InstanceStatus {
            name: "VI_1".to_owned(),
            group: None,
            interface: "eth0".to_owned(),
            version: 3,
            virtual_router_id: 51,
            state: State::Master,
            since: 1,
            cause: String::new(),
            priority: 100,
            base_priority: 100,
            master: None,
            addresses: Vec::new(),
            // As if an advert had no room for the third.
            advertised: 2,
            counters: Counters::default(),
        }];
        let routers = routers(&settings, &status);
        let json: Value = serde_json::from_str(&json(&config, &routers)).expect("JSON");
        let shown = &json[0]["data"];
        // As numbers are written there: exporters read them into whole ones.
        assert_eq!(shown["garp_delay"].to_string(), "5");
        assert_eq!(shown["adver_int"].to_string(), "0.5");
        let vips = [
            "10.0.0.1 dev eth0 scope global set",
            "10.0.0.2/24 dev eth0 scope global label eth0:1 set",
        ];
        let excluded = "10.0.0.3 dev eth0 scope global set";
        let route = "prepend 10.9.0.0/16 via 10.0.0.7 proto 18";
        assert_eq!(shown["vips"], json!(vips));
        assert_eq!(shown["evips"], json!([excluded]));
        assert_eq!(shown["vroutes"], json!([route]));
        let expected = format!(
            "   Virtual IP (2):\n     {}\n     {}\n   Virtual IP Excluded :\n     {excluded}\n   \
             Virtual Routes :\n     {route}\n",
            vips[0], vips[1]
        );
        let text = data(&config, &routers);
        assert!(text.ends_with(&expected), "{text}");
    }

    #[test]
    fn a_link_that_somebody_has_put_there_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (precious, path) = (
            directory.path().join("precious"),
            directory.path().join("keepalived.json"),
        );
        fs::write(&precious, "kept").expect("it is written");
        symlink(&precious, &path).expect("a link");
        replace(&path, "new").expect("it is replaced");
        assert_eq!(fs::read_to_string(&precious).expect("it is there"), "kept");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "new");
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        assert!(metadata.is_file());
        assert_eq!(metadata.mode() & 0o777, MODE);
        fs::remove_file(&path).expect("it is ours");
        fs::create_dir(&path).expect("a directory");
        replace(&path, "new").expect_err("a directory stays");
        let left = fs::read_dir(directory.path()).expect("readable").count();
        assert_eq!(left, 2, "nothing is left beside it");
    }
}
