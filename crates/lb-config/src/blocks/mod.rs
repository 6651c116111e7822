//! Blocks of keepalived.conf to the model and back.

mod check;
mod service;
mod vrrp;
mod write;

use conf_kit::{Diagnostics, Directive};
use lb_model::config::{ALL_PORTS, Config, GlobalDefs};

use crate::keywords::GLOBAL_DEFS;
use crate::reader::Reader;
use crate::vocabulary::TOP_LEVEL;

pub use write::write;

/// Reads a whole file's directives.
pub(crate) fn read(directives: &[Directive], diagnostics: &mut Diagnostics) -> Config {
    let mut reader = Reader {
        instances: names_of("vrrp_instance", directives),
        without_script: Vec::new(),
        service_port: ALL_PORTS,
        diagnostics,
    };
    let mut config = Config::default();
    for directive in directives {
        match directive.keyword.as_str() {
            "global_defs" => reader.global_defs(directive, &mut config.global_defs),
            "static_ipaddress" => {
                let addresses = reader.virtual_addresses(directive);
                config.static_ipaddress.extend(addresses);
            }
            "static_routes" => config.static_routes.extend(reader.routes(directive)),
            "track_file" | "vrrp_track_file" => {
                config.track_file.extend(reader.track_file(directive));
            }
            "vrrp_script" => config.vrrp_script.extend(reader.vrrp_script(directive)),
            "vrrp_sync_group" => config
                .vrrp_sync_group
                .extend(reader.vrrp_sync_group(directive)),
            "vrrp_instance" => config.vrrp_instance.extend(reader.vrrp_instance(directive)),
            "virtual_server_group" => {
                config
                    .virtual_server_group
                    .extend(reader.virtual_server_group(directive));
            }
            "virtual_server" => config
                .virtual_server
                .extend(reader.virtual_server(directive)),
            _ => reader.not_served(directive, &TOP_LEVEL),
        }
    }
    let gone = reader.without_script;
    let instances = config.vrrp_instance.iter_mut();
    let of_instances = instances.map(|instance| &mut instance.track_script);
    let groups = config.vrrp_sync_group.iter_mut();
    for tracked in of_instances.chain(groups.map(|group| &mut group.track_script)) {
        tracked.retain(|tracked| !gone.contains(&tracked.name));
    }
    config
}

/// The names of blocks of one kind.
fn names_of(keyword: &str, directives: &[Directive]) -> Vec<String> {
    let blocks = directives.iter().filter(|block| block.keyword == keyword);
    blocks
        .filter_map(|block| block.arguments.first().cloned())
        .collect()
}

/// True if a directive of that keyword stands in the block.
pub(crate) fn has(block: &Directive, keyword: &str) -> bool {
    let mut items = block.children.iter().flatten();
    items.any(|item| item.keyword == keyword)
}

impl Reader<'_> {
    pub(crate) fn global_defs(&mut self, block: &Directive, global: &mut GlobalDefs) {
        for item in self.block(block) {
            match item.keyword.as_str() {
                // All that we have set up goes when we stop, in any case; there is
                // no other balancer's to spare (`VS`).
                "lvs_flush_on_stop" | "lvs_flush_onstop" => match item.arguments.as_slice() {
                    [] => {}
                    [only] if only == "VS" => {}
                    _ => self.wrong(item, "nothing or `VS`"),
                },
                _ if GLOBAL_DEFS.read(global, item, self) => {}
                _ => self.not_served(item, &GLOBAL_DEFS),
            }
        }
    }
}
