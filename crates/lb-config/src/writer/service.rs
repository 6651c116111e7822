//! `virtual_server`, `virtual_server_group` and `real_server`

use std::net::SocketAddr;

use lb_model::config::{
    AddressRange, Check, CheckKind, RealServer, ServiceAddress, VirtualServer, VirtualServerGroup,
    quoted,
};

use super::Writer;
use crate::keywords::{REAL_SERVER, URL, VIRTUAL_SERVER, block_of};

impl Writer {
    pub fn virtual_server(&mut self, service: &VirtualServer) {
        let head = match &service.address {
            ServiceAddress::One(address) => two_words(*address),
            ServiceAddress::Group { group } => format!("group {}", quoted(group)),
        };
        self.block(format_args!("virtual_server {head}"), |out| {
            VIRTUAL_SERVER.write(service, out);
            for server in &service.real_server {
                out.real_server(server);
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

    pub fn virtual_server_group(&mut self, group: &VirtualServerGroup) {
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

pub(crate) fn two_words(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}
