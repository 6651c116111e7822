//! Paths that packets take to the servers, and warnings where packets may get lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::plan::Plan;
use crate::neighbor::{self, Hop};
use lb_dataplane::{AttachMode, Attachment};
use lb_model::config::LbKind;
use netlink::link::{self, Link};
use netlink::offload::ReceiveOffloads;

/// The path to a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServerPath {
    /// Index of the interface that frames leave by.
    pub interface_index: u32,
    /// Name of the interface that the route leaves by.
    pub interface: String,
    /// True if packets travel in others.
    pub is_tunnel: bool,
}

impl ServerPath {
    /// The paths to all servers of `plan`, as far as they are known.
    pub(crate) fn all<'a>(
        plan: &Plan,
        hop: impl Fn(SocketAddr) -> Option<&'a Hop>,
    ) -> BTreeSet<Self> {
        let towards = |(address, is_tunnel)| match hop(address) {
            Some(Hop::Ready {
                next_hop,
                interface,
                ..
            }) if !next_hop.is_local() => Some(Self {
                interface_index: next_hop.interface_index,
                interface: interface.clone(),
                is_tunnel,
            }),
            _ => None,
        };
        servers(plan).into_iter().filter_map(towards).collect()
    }
}

/// The servers of `plan`, and whether packets reach them through a tunnel.
fn servers(plan: &Plan) -> BTreeSet<(SocketAddr, bool)> {
    let services = plan.services.iter();
    services
        .flat_map(|service| {
            let sorry = service.sorry_server.map(|sorry| (sorry, service.lb_kind));
            let servers = service.servers.iter();
            let servers = servers.map(|server| (server.address, server.lb_kind));
            servers.chain(sorry)
        })
        .map(|(address, lb_kind)| (address, lb_kind == LbKind::Tunnel))
        .collect()
}

/// Warnings about `paths` from the interfaces where XDP is attached. A mode that is not
/// chosen yet is [`AttachMode::Auto`].
pub(crate) fn warnings(
    attachments: &[Attachment],
    paths: &BTreeSet<ServerPath>,
    merging: impl Fn(&str) -> ReceiveOffloads,
) -> BTreeSet<String> {
    let attached: Vec<&Attachment> = attachments
        .iter()
        .filter(|known| known.lost.is_none())
        .collect();
    let mut warnings = BTreeSet::new();
    for path in paths {
        warnings.extend(redirection_warning(&attached, path));
        for from in &attached {
            warnings.extend(merging_warning(from, path, &merging));
        }
    }
    warnings
}

/// Frames that native XDP redirects to an interface.
fn redirection_warning(attached: &[&Attachment], path: &ServerPath) -> Option<String> {
    let interface = &path.interface;
    let is_native = |known: &&Attachment| known.mode == AttachMode::Native;
    let runs_one = |known: &&Attachment| known.interface_index == path.interface_index;
    if !attached.iter().any(is_native) || attached.iter().any(runs_one) {
        return None;
    }
    let named: Vec<String> = attached
        .iter()
        .map(|known| format!("--interface {}", known.interface))
        .collect();
    Some(format!(
        "{interface}: most drivers drop what native XDP sends out of an interface that runs no \
         XDP program itself; if servers there get nothing, start with {} --interface {interface}, \
         or with --xdp-mode generic",
        named.join(" ")
    ))
}

/// Packets that are merged before generic XDP sees them, and do not fit then.
fn merging_warning(
    from: &Attachment,
    path: &ServerPath,
    merging: impl Fn(&str) -> ReceiveOffloads,
) -> Option<String> {
    let (name, interface) = (&from.interface, &path.interface);
    let what = match (path.is_tunnel, from.interface_index == path.interface_index) {
        (true, _) => format!("through the tunnel on {interface}"),
        (false, false) => format!("out of {interface}"),
        (false, true) => return None,
    };
    let condition = match from.mode {
        AttachMode::Native => return None,
        AttachMode::Generic => "",
        AttachMode::Auto => "if XDP runs in the generic mode, ",
    };
    let merging = merging(name);
    let off: Vec<&str> = [(merging.gro, "gro off"), (merging.lro, "lro off")]
        .into_iter()
        .filter_map(|(on, off)| on.then_some(off))
        .collect();
    (!off.is_empty()).then(|| {
        format!(
            "{name}: {condition}packets of a viewer that are merged on arrival do not fit {what}, \
             and uploads stall; `ethtool -K {name} {}` has them arrive as they were sent",
            off.join(" ")
        )
    })
}

/// The packets that an interface merges now; one that is gone merges none.
pub(crate) fn merging_now(interface: &str) -> ReceiveOffloads {
    ReceiveOffloads::of(interface).unwrap_or_default()
}

/// Warnings about `plan` before it is in force, on the machine that it is for: one that
/// has its interfaces. Elsewhere there are none.
pub(crate) async fn warnings_beforehand(plan: &Plan) -> BTreeSet<String> {
    let Ok(netlink) = netlink::Connection::open() else {
        return BTreeSet::new();
    };
    let links = link::all(&netlink.handle).await.unwrap_or_default();
    let by_index = |index| links.iter().find(|link| link.index == index);
    let names = plan.interfaces();
    let here = links.iter().filter(|link| names.contains(&link.name));
    let attachments: Vec<Attachment> = here
        .map(|link| Attachment {
            interface: link.name.clone(),
            interface_index: link.index,
            mode: AttachMode::Auto,
            native_refused: None,
            lost: None,
        })
        .collect();
    let mut paths = BTreeSet::new();
    for (address, is_tunnel) in servers(plan) {
        let index = neighbor::interface_towards(&netlink.handle, address.ip()).await;
        let Some(link) = index.and_then(by_index) else {
            continue;
        };
        let below = |link: &&Link| link.vlan.and_then(|vlan| by_index(vlan.lower));
        let lowest = std::iter::successors(Some(link), below).last();
        paths.insert(ServerPath {
            interface_index: lowest.unwrap_or(link).index,
            interface: link.name.clone(),
            is_tunnel,
        });
    }
    warnings(&attachments, &paths, merging_now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRO: ReceiveOffloads = ReceiveOffloads {
        gro: true,
        lro: false,
    };

    fn attached(interface_index: u32, mode: AttachMode) -> Attachment {
        Attachment {
            interface: format!("eth{interface_index}"),
            interface_index,
            mode,
            native_refused: None,
            lost: None,
        }
    }

    fn told(
        attachments: &[Attachment],
        index: u32,
        is_tunnel: bool,
        merging: ReceiveOffloads,
    ) -> String {
        let path = ServerPath {
            interface_index: index,
            interface: format!("eth{index}"),
            is_tunnel,
        };
        let warnings = warnings(attachments, &[path].into(), |_| merging);
        warnings.into_iter().collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn native_redirection_to_an_interface_without_a_program_is_in_doubt() {
        let native = [attached(2, AttachMode::Native)];
        let warning = told(&native, 3, false, GRO);
        assert!(
            warning.contains("--interface eth2 --interface eth3"),
            "{warning}"
        );
        assert_eq!(told(&native, 2, false, GRO), "");
        let both = [
            attached(2, AttachMode::Native),
            attached(3, AttachMode::Native),
        ];
        assert_eq!(told(&both, 3, false, GRO), "");
    }

    #[test]
    fn packets_that_are_merged_are_in_doubt_where_they_leave_otherwise_than_they_came() {
        let generic = [attached(2, AttachMode::Generic)];
        let other_interface = told(&generic, 3, false, GRO);
        assert!(
            other_interface.starts_with("eth2: packets of a viewer that are merged"),
            "{other_interface}"
        );
        assert!(
            other_interface.contains("do not fit out of eth3"),
            "{other_interface}"
        );
        assert!(
            other_interface.contains("`ethtool -K eth2 gro off`"),
            "{other_interface}"
        );
        let both = ReceiveOffloads {
            gro: true,
            lro: true,
        };
        let tunnel = told(&generic, 2, true, both);
        assert!(tunnel.contains("through the tunnel on eth2"), "{tunnel}");
        assert!(
            tunnel.contains("ethtool -K eth2 gro off lro off"),
            "{tunnel}"
        );
        let not_chosen = told(&[attached(2, AttachMode::Auto)], 3, false, GRO);
        assert!(
            not_chosen.contains("if XDP runs in the generic mode"),
            "{not_chosen}"
        );

        assert_eq!(told(&generic, 2, false, GRO), "", "as they came");
        assert_eq!(
            told(&generic, 3, false, ReceiveOffloads::default()),
            "",
            "not merged"
        );
        let lost = Attachment {
            lost: Some("gone".to_owned()),
            ..attached(2, AttachMode::Generic)
        };
        assert_eq!(told(&[lost], 3, false, GRO), "");
    }
}
