//! Scripts that cannot be run, or may not (`enable_script_security`).

use conf_kit::{Diagnostics, Location};
use lb_model::config::{Check, CheckKind, Config, Script};
use lb_script::Runnable;

/// True if a script is to run as another user than the agent.
pub fn runs_scripts_as_others(config: &Config) -> bool {
    scripts(config).into_iter().any(|use_of| {
        let runnable = Runnable::new(use_of.script.clone(), &config.global_defs);
        matches!(runnable.identity(), Ok(Some(_)))
    })
}

/// Warns of every script that would not be run: there is no such program or
/// user, or it would run as root and another user may change it.
pub(crate) fn validate(config: &Config, diagnostics: &mut Diagnostics) {
    for use_of in scripts(config) {
        let Use {
            what,
            otherwise,
            block,
            script,
        } = use_of;
        let at = &script.location.or(block);
        let command = script.command.join(" ");
        let runnable = Runnable::new(script.clone(), &config.global_defs);
        if let Err(reason) = runnable.check() {
            let message = format!("{what}: `{command}` is not run{otherwise}: {reason}");
            diagnostics.warn(at, message);
        } else if runnable.opens_connection() {
            let message = format!(
                "{what}: `{command}` is run by bash, which alone knows it (keepalived: by \
                 /bin/sh, where it fails if that is another shell)"
            );
            diagnostics.warn(at, message);
        }
    }
}

/// A script, and what it is for.
struct Use<'a> {
    /// Whose it is.
    what: String,
    /// Consequence if it is not run, as the end of a sentence.
    otherwise: &'static str,
    /// Place of the block.
    block: &'a Location,
    script: &'a Script,
}

/// Every script of a configuration.
fn scripts(config: &Config) -> Vec<Use<'_>> {
    let mut list = Vec::new();
    for it in &config.vrrp_script {
        list.push(Use {
            what: format!("vrrp_script {}", it.name),
            otherwise: ", and counts for nothing",
            block: &it.location,
            script: &it.script,
        });
    }
    let groups = config.vrrp_sync_group.iter();
    let groups = groups.map(|it| ("vrrp_sync_group", &it.name, &it.location, &it.notify));
    let instances = config.vrrp_instance.iter();
    let instances = instances.map(|it| ("vrrp_instance", &it.name, &it.location, &it.notify));
    for (kind, name, block, notify) in groups.chain(instances) {
        for (word, script) in notify.scripts() {
            let of_word = || format!("{kind} {name}: `{word}`");
            list.extend(script.map(|script| notified(of_word(), block, script)));
        }
    }
    for it in &config.virtual_server {
        let scripts = [
            ("quorum_up", &it.quorum_up),
            ("quorum_down", &it.quorum_down),
        ];
        for (word, script) in scripts {
            let of_word = || format!("virtual_server {}: `{word}`", it.address);
            let script = script.as_ref();
            list.extend(script.map(|script| notified(of_word(), &it.location, script)));
        }
        for server in &it.real_server {
            list.extend(of_server(ServerScripts {
                what: format!("real_server {}", server.address),
                block: &server.location,
                up: server.notify_up.as_ref(),
                down: server.notify_down.as_ref(),
                checks: &server.checks,
            }));
        }
        if let Some(template) = &it.real_server_template {
            list.extend(of_server(ServerScripts {
                what: format!("real_server_template of virtual_server {}", it.address),
                block: &template.location,
                up: template.notify_up.as_ref(),
                down: template.notify_down.as_ref(),
                checks: &template.checks,
            }));
        }
    }
    list
}

/// The scripts of a real server, or of a template for some.
struct ServerScripts<'a> {
    what: String,
    block: &'a Location,
    up: Option<&'a Script>,
    down: Option<&'a Script>,
    checks: &'a [Check],
}

fn of_server(server: ServerScripts<'_>) -> Vec<Use<'_>> {
    let ServerScripts {
        what,
        block,
        up,
        down,
        checks,
    } = server;
    let mut list = Vec::new();
    for (word, script) in [("notify_up", up), ("notify_down", down)] {
        list.extend(script.map(|script| notified(format!("{what}: `{word}`"), block, script)));
    }
    for check in checks {
        if let CheckKind::Misc { misc_path, .. } = &check.kind {
            list.push(Use {
                what: format!("{what}: `MISC_CHECK`"),
                otherwise: ", and the server counts as up as far as it is concerned",
                block,
                script: misc_path,
            });
        }
    }
    list
}

fn notified<'a>(what: String, block: &'a Location, script: &'a Script) -> Use<'a> {
    Use {
        what,
        otherwise: "",
        block,
        script,
    }
}
