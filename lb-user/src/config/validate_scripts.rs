//! Whether scripts can be run, and may be (`enable_script_security`).

use super::diagnostic::{Diagnostics, Origin};
use super::model::{CheckKind, Config, Script};
use crate::script::Runnable;

/// Whether any script is to run as another user than we are.
pub fn runs_scripts_as_others(config: &Config) -> bool {
    scripts(config).into_iter().any(|(_, _, script)| {
        let runnable = Runnable::new(script.clone(), &config.global_defs);
        matches!(runnable.identity(), Ok(Some(_)))
    })
}

/// Warns of every script that would not be run: its user does not exist, or it
/// would run as root and another user may change it.
pub fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for (what, origin, script) in scripts(config) {
        let runnable = Runnable::new(script.clone(), &config.global_defs);
        if let Err(error) = runnable.identity() {
            let command = script.command.join(" ");
            diagnostics.warn(
                origin,
                format!("{what}: `{command}` cannot be run: {error}"),
            );
            continue;
        }
        // One that does not exist may exist when it is run.
        if let Ok(Some(reason)) = runnable.refusal() {
            let command = script.command.join(" ");
            diagnostics.warn(origin, format!("{what}: `{command}` is not run: {reason}"));
        }
    }
}

/// Every script, with whose it is and where that stands.
fn scripts(config: &Config) -> Vec<(String, &Origin, &Script)> {
    let mut list = Vec::new();
    for it in &config.vrrp_script {
        list.push((format!("vrrp_script {}", it.name), &it.origin, &it.script));
    }
    let groups = config.vrrp_sync_group.iter();
    let groups = groups.map(|it| {
        (
            format!("vrrp_sync_group {}", it.name),
            &it.origin,
            &it.notify,
        )
    });
    let instances = config.vrrp_instance.iter();
    let instances =
        instances.map(|it| (format!("vrrp_instance {}", it.name), &it.origin, &it.notify));
    for (what, origin, notify) in groups.chain(instances) {
        let scripts = notify
            .scripts()
            .into_iter()
            .filter_map(|(_, script)| script);
        list.extend(scripts.map(|script| (what.clone(), origin, script)));
    }
    for it in &config.virtual_server {
        let what = format!("virtual_server {}", it.address);
        let scripts = [&it.quorum_up, &it.quorum_down].into_iter().flatten();
        list.extend(scripts.map(|script| (what.clone(), &it.origin, script)));
        for server in &it.real_server {
            let what = format!("real_server {}", server.address);
            let notify = [&server.notify_up, &server.notify_down];
            let checks = server.checks.iter().filter_map(|check| match &check.kind {
                CheckKind::Misc { misc_path, .. } => Some(misc_path),
                _ => None,
            });
            let scripts = notify.into_iter().flatten().chain(checks);
            list.extend(scripts.map(|script| (what.clone(), &server.origin, script)));
        }
    }
    list
}
