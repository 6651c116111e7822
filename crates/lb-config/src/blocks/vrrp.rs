//! Blocks of virtual routers, and `track_file`.

use conf_kit::Directive;
use lb_model::config::{Script, TrackFile, VrrpInstance, VrrpScript, VrrpSyncGroup};

use super::has;
use crate::keywords::{TRACK_FILE, VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP};
use crate::reader::Reader;

impl Reader<'_> {
    pub(crate) fn vrrp_instance(&mut self, block: &Directive) -> Option<VrrpInstance> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut instance = VrrpInstance {
            name,
            location: block.location.clone(),
            ..Default::default()
        };
        for item in self.block(block) {
            if !VRRP_INSTANCE.read(&mut instance, item, self) {
                self.not_served(item, &VRRP_INSTANCE);
            }
        }
        if !has(block, "virtual_router_id") {
            let name = &instance.name;
            let message = format!(
                "vrrp_instance {name} has no `virtual_router_id`; expected one from 1 to 255"
            );
            self.diagnostics.error(&block.location, message);
        }
        Some(instance)
    }

    pub(crate) fn vrrp_sync_group(&mut self, block: &Directive) -> Option<VrrpSyncGroup> {
        let name = self.argument(block, "a name")?.to_owned();
        let mut group = VrrpSyncGroup {
            name,
            location: block.location.clone(),
            ..Default::default()
        };
        for item in self.block(block) {
            let keyword = &item.keyword;
            if VRRP_SYNC_GROUP.read(&mut group, item, self) {
                continue;
            }
            if self.instances.contains(keyword) {
                let message = format!(
                    "`{keyword}` stands outside `group {{ … }}` of vrrp_sync_group {}, and is \
                     ignored",
                    group.name
                );
                self.diagnostics.warn(&item.location, message);
            } else {
                self.not_served(item, &VRRP_SYNC_GROUP);
            }
        }
        Some(group)
    }

    pub(crate) fn vrrp_script(&mut self, block: &Directive) -> Option<VrrpScript> {
        let mut script = VrrpScript {
            name: self.argument(block, "a name")?.to_owned(),
            script: Script::default(),
            interval: None,
            timeout: None,
            weight: None,
            reverse: false,
            rise: None,
            fall: None,
            init_fail: false,
            location: block.location.clone(),
        };
        let mut user: Option<(String, Option<String>)> = None;
        for item in self.block(block) {
            if item.keyword == "user" {
                user = self.user(item);
            } else if !VRRP_SCRIPT.read(&mut script, item, self) {
                self.not_served(item, &VRRP_SCRIPT);
            }
        }
        if script.script.command.is_empty() {
            if has(block, "script") {
                return None;
            }
            let name = script.name;
            let message = format!("vrrp_script {name} has no `script`, and counts for nothing");
            self.diagnostics.warn(&block.location, message);
            self.without_script.push(name);
            return None;
        }
        if let Some((user, group)) = user {
            (script.script.user, script.script.group) = (Some(user), group);
        }
        Some(script)
    }

    /// `track_file NAME { … }`
    pub(crate) fn track_file(&mut self, block: &Directive) -> Option<TrackFile> {
        let mut file = TrackFile {
            name: self.argument(block, "a name")?.to_owned(),
            location: block.location.clone(),
            ..Default::default()
        };
        for item in self.block(block) {
            if !TRACK_FILE.read(&mut file, item, self) {
                self.not_served(item, &TRACK_FILE);
            }
        }
        if !has(block, "file") {
            let message = format!("track_file {} has no `file`", file.name);
            self.diagnostics.error(&block.location, message);
            return None;
        }
        Some(file)
    }
}
