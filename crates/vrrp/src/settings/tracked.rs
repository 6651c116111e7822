//! Settings of what virtual routers track, from the configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use super::seconds;
use crate::tracking::file::FileSettings;
use crate::tracking::script::ScriptSettings;
use crate::tracking::{Tracked, TrackedSubject};
use lb_model::config::{self, Config, GlobalDefs};
use lb_script::{Factor, NumberFile, Runnable};

/// keepalived.conf(5), `interval` of `vrrp_script`.
const DEFAULT_SCRIPT_INTERVAL: Duration = Duration::from_secs(1);

/// The subjects of `track_interface`, `track_script` and `track_file`.
pub(super) fn tracked(
    config: &Config,
    interfaces: &[config::Tracked],
    scripts: &[config::Tracked],
    files: &[config::TrackedFile],
) -> Vec<Tracked> {
    let interfaces = interfaces.iter().map(|given| Tracked {
        subject: TrackedSubject::Interface(given.name.clone()),
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
            subject: TrackedSubject::Script(given.name.clone()),
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
            subject: TrackedSubject::File(given.name.clone()),
            weight,
            reverse,
        }
    });
    interfaces.chain(scripts).chain(files).collect()
}

/// The files that any virtual router or group tracks; no other is read.
pub(super) fn files(config: &Config) -> Vec<FileSettings> {
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

pub(super) fn script(given: &config::VrrpScript, global: &GlobalDefs) -> ScriptSettings {
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
