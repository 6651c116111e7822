//! From the tree of directives to the model: one file per kind of block.
//!
//! Each block has a vocabulary: the words that are served, the words that
//! keepalived knows and Millrace does not serve (a warning that names them),
//! and anything else (an error that names the nearest known word).

mod arguments;
mod check;
mod global;
mod route;
mod service;
mod tracked;
mod vrrp;

use conf_kit::{Diagnostics, Directive};
use lb_model::config::{ALL_PORTS, Config};

use crate::keywords::TOP_LEVEL;

/// Reads a whole file's directives.
pub fn read(directives: &[Directive], diagnostics: &mut Diagnostics) -> Config {
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

/// Reads directives and reports what is wrong with them.
pub(crate) struct Reader<'a> {
    /// The names of all virtual routers of the file.
    instances: Vec<String>,
    /// The names of scripts that have none, so that nothing can track them.
    without_script: Vec<String>,
    /// The port of the virtual server that is being read.
    pub(crate) service_port: u16,
    diagnostics: &'a mut Diagnostics,
}
