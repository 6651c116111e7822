//! From the model to keepalived.conf.

use lb_model::config::{
    AddressRange, Check, CheckKind, Config, GlobalDefs, RealServer, ServiceAddress, TrackFile,
    VirtualServer, VirtualServerGroup, VrrpInstance, VrrpScript, VrrpSyncGroup, quoted,
};

use crate::keywords::{
    DISCOVER, GLOBAL_DEFS, REAL_SERVER, REAL_SERVER_TEMPLATE, TRACK_FILE, URL, VIRTUAL_SERVER,
    VRRP_INSTANCE, VRRP_SCRIPT, VRRP_SYNC_GROUP, block_of,
};
use crate::writer::{Writer, two_words};

/// Writes `config` as keepalived.conf(5); what the reader makes of the text is
/// equal to `config`.
pub fn write(config: &Config) -> String {
    let Config {
        global_defs,
        static_ipaddress,
        static_routes,
        track_file,
        vrrp_script,
        vrrp_sync_group,
        vrrp_instance,
        virtual_server_group,
        virtual_server,
    } = config;
    let mut out = Writer::default();
    if *global_defs != GlobalDefs::default() {
        out.block("global_defs", |out| GLOBAL_DEFS.write(global_defs, out));
    }
    out.block_of(
        "static_ipaddress",
        static_ipaddress,
        Writer::virtual_address,
    );
    out.block_of("static_routes", static_routes, Writer::route);
    for file in track_file {
        out.track_file(file);
    }
    for script in vrrp_script {
        out.vrrp_script(script);
    }
    for group in vrrp_sync_group {
        out.vrrp_sync_group(group);
    }
    for instance in vrrp_instance {
        out.vrrp_instance(instance);
    }
    for group in virtual_server_group {
        out.virtual_server_group(group);
    }
    for service in virtual_server {
        out.virtual_server(service);
    }
    out.text
}

impl Writer {
    pub(crate) fn vrrp_instance(&mut self, instance: &VrrpInstance) {
        let head = format!("vrrp_instance {}", quoted(&instance.name));
        self.block(head, |out| VRRP_INSTANCE.write(instance, out));
    }

    pub(crate) fn vrrp_sync_group(&mut self, group: &VrrpSyncGroup) {
        let head = format!("vrrp_sync_group {}", quoted(&group.name));
        self.block(head, |out| VRRP_SYNC_GROUP.write(group, out));
    }

    pub(crate) fn vrrp_script(&mut self, script: &VrrpScript) {
        let head = format!("vrrp_script {}", quoted(&script.name));
        self.block(head, |out| VRRP_SCRIPT.write(script, out));
    }

    pub(crate) fn track_file(&mut self, file: &TrackFile) {
        let head = format!("track_file {}", quoted(&file.name));
        self.block(head, |out| TRACK_FILE.write(file, out));
    }

    pub(crate) fn virtual_server(&mut self, service: &VirtualServer) {
        let head = match &service.address {
            ServiceAddress::One(address) => two_words(*address),
            ServiceAddress::Group { group } => format!("group {}", quoted(group)),
        };
        self.block(format_args!("virtual_server {head}"), |out| {
            VIRTUAL_SERVER.write(service, out);
            for server in &service.real_server {
                out.real_server(server);
            }
            for source in &service.discover {
                out.block("discover", |out| DISCOVER.write(source, out));
            }
            if let Some(template) = &service.real_server_template {
                out.block("real_server_template", |out| {
                    REAL_SERVER_TEMPLATE.write(template, out);
                    for check in &template.checks {
                        out.check(check);
                    }
                });
            }
        });
    }

    fn real_server(&mut self, server: &RealServer) {
        let head = format!("real_server {}", two_words(server.address));
        self.block(head, |out| {
            REAL_SERVER.write(server, out);
            for check in &server.checks {
                out.check(check);
            }
        });
    }

    fn check(&mut self, check: &Check) {
        let (keyword, keywords) = block_of(&check.kind);
        self.block(keyword, |out| {
            keywords.write(check, out);
            if let CheckKind::Http { url } | CheckKind::Https { url, .. } = &check.kind {
                for url in url {
                    out.block("url", |out| URL.write(url, out));
                }
            }
        });
    }

    pub(crate) fn virtual_server_group(&mut self, group: &VirtualServerGroup) {
        let VirtualServerGroup {
            name,
            address,
            location: _,
        } = group;
        self.block(
            format_args!("virtual_server_group {}", quoted(name)),
            |out| {
                for AddressRange { first, last, port } in address {
                    match last {
                        Some(last) => out.line(format_args!("{first}-{last} {port}")),
                        None => out.line(format_args!("{first} {port}")),
                    }
                }
            },
        );
    }
}
