//! Rules for a configuration in whatever form.

use std::collections::HashMap;

use conf_kit::did_you_mean;

use super::references::{at, known_file};
use super::validate_loops;
use super::validate_routes;
use super::validate_scripts;
use super::validate_services;
use super::validate_values;
use conf_kit::{Diagnostics, Location};
use lb_model::config::{Config, Tracked, TrackedFile, VrrpInstance, bounds};

/// Reports everything about `config` that cannot work, or that probably is not
/// meant.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    vrrp_instances(config, diagnostics);
    sync_groups(config, diagnostics);
    validate_services::validate(config, diagnostics);
    validate_loops::validate(config, diagnostics);
    validate_values::validate(config, diagnostics);
    validate_routes::validate(config, diagnostics);
    validate_scripts::validate(config, diagnostics);
}

fn vrrp_instances(config: &Config, diagnostics: &mut Diagnostics) {
    let mut routers: HashMap<(&str, u8, bool), &VrrpInstance> = HashMap::new();
    for instance in &config.vrrp_instance {
        let name = &instance.name;
        let Some(interface) = instance
            .interface
            .as_deref()
            .or(config.global_defs.default_interface.as_deref())
        else {
            diagnostics.error(
                &instance.location,
                format!("vrrp_instance {name} has no `interface`, and `global_defs` no `default_interface`"),
            );
            continue;
        };
        // IPv4 and IPv6 have their numbers to themselves (RFC 5798 §1.6).
        let router = (interface, instance.virtual_router_id, instance.is_ipv6());
        if let Some(other) = routers.insert(router, instance) {
            diagnostics.error(
                &instance.location,
                format!(
                    "vrrp_instance {name} has virtual_router_id {} on {interface}, which \
                     vrrp_instance {} has{}",
                    instance.virtual_router_id,
                    other.name,
                    at(&other.location),
                ),
            );
        }
        let (scripts, files) = (&instance.track_script, &instance.track_file);
        known_tracked(scripts, files, &instance.location, config, diagnostics);
        if instance.accept == Some(false) {
            diagnostics.warn(
                &instance.location,
                format!(
                    "vrrp_instance {name}: `no_accept` is ignored: Millrace accepts packets to \
                     the addresses that it holds"
                ),
            );
        }
        auth_hmac(instance, diagnostics);
        let count = instance.virtual_ipaddress.len();
        let most = bounds::MAX_ADVERTISED_ADDRESSES;
        if count > most {
            diagnostics.warn(
                &instance.location,
                format!(
                    "vrrp_instance {name}: an advert names at most {most} of its {count} \
                     virtual_ipaddress: the others are held as if they were in \
                     virtual_ipaddress_excluded"
                ),
            );
        }
        if instance.virtual_ipaddress.is_empty() {
            diagnostics.warn(
                &instance.location,
                format!("vrrp_instance {name} holds no virtual_ipaddress"),
            );
        }
    }
}

fn auth_hmac(instance: &VrrpInstance, diagnostics: &mut Diagnostics) {
    let Some(given) = &instance.auth_hmac else {
        return;
    };
    let name = &instance.name;
    let active = given.active_key;
    if !given.key.iter().any(|key| key.id == active) {
        let message = format!(
            "vrrp_instance {name}: `active_key` of `auth_hmac` is {active}, and there is no such \
             `key`"
        );
        diagnostics.error(&instance.location, message);
    }
    if instance.authentication.is_some() {
        let message = format!(
            "vrrp_instance {name}: `authentication` is ignored beside `auth_hmac`, as in keepalived"
        );
        diagnostics.warn(&instance.location, message);
    }
}

fn sync_groups(config: &Config, diagnostics: &mut Diagnostics) {
    let names = || {
        config
            .vrrp_instance
            .iter()
            .map(|instance| instance.name.as_str())
    };
    let mut member_of: HashMap<&str, &str> = HashMap::new();
    for group in &config.vrrp_sync_group {
        let name = &group.name;
        for instance in &config.vrrp_instance {
            if group.group.contains(&instance.name) {
                own_weights(instance, config, diagnostics);
            }
        }
        match group.group.as_slice() {
            [] => diagnostics.warn(
                &group.location,
                format!("vrrp_sync_group {name} has no members, and is ignored"),
            ),
            [only] => diagnostics.warn(
                &group.location,
                format!(
                    "vrrp_sync_group {name} has only one member, {only}, which is master alone: name \
                     those that are to be master with it, or move what the group runs and tracks to \
                     the vrrp_instance"
                ),
            ),
            _ => {}
        }
        for member in &group.group {
            if !names().any(|instance| instance == member) {
                let suggestion = did_you_mean(member, names());
                diagnostics.error(
                    &group.location,
                    format!(
                        "vrrp_sync_group {name} names vrrp_instance `{member}`, which does not \
                         exist{suggestion}"
                    ),
                );
            } else if let Some(other) = member_of.insert(member, name) {
                diagnostics.error(
                    &group.location,
                    format!("vrrp_instance {member} is in vrrp_sync_group {other} and in {name}"),
                );
            }
        }
        let (scripts, files) = (&group.track_script, &group.track_file);
        known_tracked(scripts, files, &group.location, config, diagnostics);
    }
}

/// Warns of what a member of a sync group tracks in vain.
fn own_weights(instance: &VrrpInstance, config: &Config, diagnostics: &mut Diagnostics) {
    let script = |name: &String| config.vrrp_script.iter().find(|it| it.name == *name);
    let file = |name: &String| config.track_file.iter().find(|it| it.name == *name);
    let scripts = instance.track_script.iter().filter(|it| {
        let of_script = script(&it.name).and_then(|script| script.weight);
        it.weight.or(of_script).unwrap_or(0) != 0
    });
    let files = instance.track_file.iter().filter(|it| {
        let of_file = file(&it.name).and_then(|file| file.weight);
        it.weight.map(i32::from).or(of_file).unwrap_or(1) != 0
    });
    let names = scripts.map(|it| ("track_script", &it.name));
    for (word, name) in names.chain(files.map(|it| ("track_file", &it.name))) {
        diagnostics.warn(
            &instance.location,
            format!(
                "vrrp_instance {}: `{word}` {name} is ignored: members of a sync group track \
                 nothing with a weight; the group itself can",
                instance.name
            ),
        );
    }
}

fn known_tracked(
    scripts: &[Tracked],
    files: &[TrackedFile],
    location: &Location,
    config: &Config,
    diagnostics: &mut Diagnostics,
) {
    let known = || config.vrrp_script.iter().map(|script| script.name.as_str());
    for tracked in scripts
        .iter()
        .filter(|it| !known().any(|name| name == it.name))
    {
        let suggestion = did_you_mean(&tracked.name, known());
        diagnostics.error(
            location,
            format!(
                "`track_script` names `{}`, which is no vrrp_script{suggestion}",
                tracked.name
            ),
        );
    }
    for tracked in files {
        known_file(&tracked.name, location, config, diagnostics);
    }
}
