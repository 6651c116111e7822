//! `virtual_server`, `virtual_server_group` and `real_server`

use std::net::SocketAddr;

use super::Writer;
use crate::names::{LB_KINDS, ORPHAN_POLICIES, SCHEDULERS, name_of};
use lb_model::Protocol;
use lb_model::config::quoted;
use lb_model::config::{
    AddressRange, RealServer, Recovery, ServiceAddress, VirtualServer, VirtualServerGroup,
};

impl Writer {
    pub fn virtual_server(&mut self, service: &VirtualServer) {
        let VirtualServer {
            address,
            protocol,
            lb_algo,
            lb_kind,
            persistence_timeout,
            persistence_granularity,
            expire_quiescent,
            hash_port,
            hash_fallback,
            ops,
            orphans,
            sloppy,
            quorum,
            hysteresis,
            quorum_up,
            quorum_down,
            sorry_server,
            virtualhost,
            inhibit_on_failure,
            omega,
            timing,
            recovery,
            real_server,
            location: _,
        } = service;
        let head = match address {
            ServiceAddress::One(address) => two_words(*address),
            ServiceAddress::Group { group } => format!("group {}", quoted(group)),
        };
        self.block(format_args!("virtual_server {head}"), |out| {
            out.timing(timing);
            out.value(
                "lb_algo",
                lb_algo.map(|scheduler| name_of(&SCHEDULERS, scheduler)),
            );
            out.value("lb_kind", lb_kind.map(|kind| name_of(&LB_KINDS, kind)));
            out.line(match protocol {
                Protocol::Tcp => "protocol TCP",
                Protocol::Udp => "protocol UDP",
            });
            out.value("persistence_timeout", *persistence_timeout);
            out.value("persistence_granularity", *persistence_granularity);
            out.flag("expire_quiescent", *expire_quiescent);
            out.flag("mh-port", *hash_port);
            out.flag("mh-fallback", *hash_fallback);
            out.flag("ops", *ops);
            out.value(
                "orphans",
                orphans.map(|policy| name_of(&ORPHAN_POLICIES, policy)),
            );
            out.switch("sloppy", *sloppy);
            out.value("quorum", *quorum);
            out.value("hysteresis", *hysteresis);
            out.script("quorum_up", quorum_up.as_ref());
            out.script("quorum_down", quorum_down.as_ref());
            out.value("sorry_server", sorry_server.map(two_words));
            out.text("virtualhost", virtualhost.as_ref());
            out.switch("inhibit_on_failure", *inhibit_on_failure);
            out.flag("omega", *omega);
            out.recovery(recovery);
            for server in real_server {
                out.real_server(server);
            }
        });
    }

    fn real_server(&mut self, server: &RealServer) {
        let RealServer {
            address,
            mac_address,
            weight,
            uthreshold,
            lthreshold,
            lb_kind,
            virtualhost,
            inhibit_on_failure,
            notify_up,
            notify_down,
            timing,
            recovery,
            checks,
            location: _,
        } = server;
        self.block(format_args!("real_server {}", two_words(*address)), |out| {
            out.value("mac_address", *mac_address);
            out.value("weight", *weight);
            out.value("uthreshold", *uthreshold);
            out.value("lthreshold", *lthreshold);
            out.value("lb_kind", lb_kind.map(|kind| name_of(&LB_KINDS, kind)));
            out.text("virtualhost", virtualhost.as_ref());
            out.switch("inhibit_on_failure", *inhibit_on_failure);
            out.script("notify_up", notify_up.as_ref());
            out.script("notify_down", notify_down.as_ref());
            out.timing(timing);
            out.recovery(recovery);
            for check in checks {
                out.check(check);
            }
        });
    }

    fn recovery(&mut self, recovery: &Recovery) {
        let Recovery {
            slow_start,
            flap_limit,
            flap_window,
            flap_hold_down,
            flap_hold_down_max,
        } = recovery;
        self.seconds("slow_start", *slow_start);
        self.value("flap_limit", *flap_limit);
        self.seconds("flap_window", *flap_window);
        self.seconds("flap_hold_down", *flap_hold_down);
        self.seconds("flap_hold_down_max", *flap_hold_down_max);
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

fn two_words(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}
