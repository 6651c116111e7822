//! The hop that follows from links, routes and neighbours.

use super::*;

const OURS: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const THEIRS: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

fn server() -> IpAddr {
    "172.16.1.211".parse().expect("an address")
}

fn ours() -> IpAddr {
    "172.16.1.208".parse().expect("an address")
}

fn gateway() -> IpAddr {
    "172.16.1.1".parse().expect("an address")
}

fn table(neighbor: IpAddr, entry: Option<Neighbor>) -> Table {
    let mut table = Table::default();
    let link = Link {
        index: 2,
        name: "eth2".to_owned(),
        mac: Some(OURS),
        mtu: 1500,
        vlan: None,
        running: true,
    };
    table.links.insert(2, link);
    table.routes.insert(
        server(),
        Route::Via {
            interface_index: 2,
            neighbor,
            source: ours(),
            mtu: None,
        },
    );
    if let Some(entry) = entry {
        table.neighbors.insert((2, neighbor), entry);
    }
    table
}

fn reason(table: &Table) -> String {
    match table.hop(server()) {
        Hop::NotReady { reason, .. } => reason,
        ready => panic!("expected a reason, got {ready:?}"),
    }
}

#[test]
fn a_known_neighbour_is_the_hop_and_the_interface_its_source() {
    for neighbor in [server(), gateway()] {
        let table = table(neighbor, Some(Neighbor::Known(THEIRS)));
        let next_hop = NextHop {
            interface_index: 2,
            source: OURS,
            destination: THEIRS,
            vlan: Vlan::Untagged,
            is_router: neighbor == gateway(),
        };
        let expected = Hop::Ready {
            next_hop,
            interface: "eth2".to_owned(),
            path: Some(Path {
                source: ours(),
                mtu: 1500,
            }),
        };
        assert_eq!(table.hop(server()), expected);
        assert_eq!(table.probe_target(server()), Some((2, neighbor)));
    }
}

#[test]
fn an_address_of_this_machine_is_reached_whether_or_not_its_link_is_up() {
    let mut table = table(server(), None);
    table.links.get_mut(&2).expect("the link").running = false;
    for (interface_index, expected, interface) in [
        (Some(2), NextHop::local(2, OURS), "eth2"),
        // An address of lo, and one whose interface has just gone.
        (None, NextHop::local(1, MacAddress([0; 6])), "lo"),
        (Some(7), NextHop::local(1, MacAddress([0; 6])), "lo"),
    ] {
        table
            .routes
            .insert(server(), Route::Local { interface_index });
        let hop = Hop::Ready {
            next_hop: expected,
            interface: interface.to_owned(),
            path: None,
        };
        assert_eq!(table.hop(server()), hop);
        assert_eq!(table.probe_target(server()), None, "nobody is asked");
    }
}

#[test]
fn a_server_that_is_a_default_gateway_is_a_router_by_whatever_address() {
    let is_router = |table: &Table| match table.hop(server()) {
        Hop::Ready { next_hop, .. } => next_hop.is_router,
        Hop::NotReady { reason, .. } => panic!("{reason}"),
    };
    let mut table = table(server(), Some(Neighbor::Known(THEIRS)));
    table.gateways.insert((2, gateway()));
    for (mac, expected) in [(None, false), (Some(OURS), false), (Some(THEIRS), true)] {
        if let Some(mac) = mac {
            let gateway = Neighbor::Known(mac);
            table.neighbors.insert((2, self::gateway()), gateway);
        }
        assert_eq!(is_router(&table), expected, "{mac:?}");
    }
}

/// Puts VLAN interfaces below the one that the route leaves by: those of
/// `tags`, the innermost first, and interface 1 below them all.
fn tagged(tags: &[(u16, bool)]) -> Table {
    let mut table = table(server(), Some(Neighbor::Known(THEIRS)));
    let plain = table.links[&2].clone();
    let ethernet = Link {
        index: 1,
        name: "eth2".to_owned(),
        ..plain.clone()
    };
    table.links.insert(1, ethernet);
    for (index, (number, is_provider)) in (2..).zip(tags) {
        let is_lowest = index as usize == tags.len() + 1;
        let link = Link {
            index,
            name: format!("vlan{number}"),
            vlan: Some(VlanLink {
                lower: if is_lowest { 1 } else { index + 1 },
                number: *number,
                is_provider: *is_provider,
            }),
            ..plain.clone()
        };
        table.links.insert(index, link);
    }
    table
}

#[test]
fn vlan_interfaces_are_tags_above_the_one_that_frames_leave_by() {
    let cases = [
        (&[(42, false)][..], Vlan::Tagged(42)),
        (&[(42, false), (7, true)], Vlan::Stacked(7, 42)),
    ];
    for (tags, expected) in cases {
        match tagged(tags).hop(server()) {
            Hop::Ready {
                next_hop,
                interface,
                ..
            } => {
                assert_eq!((next_hop.interface_index, next_hop.vlan), (1, expected));
                assert_eq!(interface, "vlan42", "the one that the route names");
            }
            Hop::NotReady { reason, .. } => panic!("{reason}"),
        }
    }
}

#[test]
fn tags_that_are_not_served_are_a_reason() {
    let expected = "; expected one 802.1Q tag, or one within an 802.1ad tag";
    for (tags, what) in [
        (
            &[(42, true)][..],
            "vlan42 adds an 802.1ad tag next to the packet",
        ),
        (
            &[(42, false), (7, false)],
            "vlan42 lies within another 802.1Q VLAN",
        ),
        (
            &[(42, false), (7, true), (8, true)],
            "vlan42 adds more than two tags",
        ),
    ] {
        assert_eq!(reason(&tagged(tags)), format!("{what}{expected}"));
    }
    let mut moved = tagged(&[(42, false)]);
    moved.links.remove(&1);
    assert_eq!(
        reason(&moved),
        "the interface below vlan42 is not in this namespace"
    );
}

#[test]
fn what_a_route_says_of_its_mtu_goes_before_the_interfaces() {
    let mut table = table(server(), Some(Neighbor::Known(THEIRS)));
    let Some(Route::Via { mtu, .. }) = table.routes.get_mut(&server()) else {
        panic!("there is a route");
    };
    *mtu = Some(1400);
    assert!(matches!(
        table.hop(server()),
        Hop::Ready {
            path: Some(Path { mtu: 1400, .. }),
            ..
        }
    ));
}

#[test]
fn a_named_mac_address_is_the_hop_whatever_the_neighbour_answers() {
    const NAMED: MacAddress = MacAddress([2, 0, 0, 0, 0, 9]);
    for entry in [None, Some(Neighbor::Failed), Some(Neighbor::Known(THEIRS))] {
        let mut table = table(server(), entry);
        table.named.insert(server(), NAMED);
        assert!(
            matches!(table.hop(server()), Hop::Ready { next_hop, .. }
                if next_hop.destination == NAMED && next_hop.source == OURS),
            "{:?}",
            table.hop(server())
        );
        assert_eq!(table.probe_target(server()), None);
        table.links.get_mut(&2).expect("the link").running = false;
        assert_eq!(reason(&table), "eth2 is down or has no carrier");
    }
}

#[test]
fn being_asked_changes_nothing_until_there_is_an_answer() {
    for known in [Neighbor::Known(THEIRS), Neighbor::Failed] {
        let mut table = table(server(), Some(known));
        let before = table.hop(server());
        assert!(!table.note_neighbor((2, server()), Neighbor::Incomplete));
        assert_eq!(table.hop(server()), before);
    }
    let mut table = table(server(), Some(Neighbor::Failed));
    assert!(table.note_neighbor((2, server()), Neighbor::Known(THEIRS)));
    assert!(matches!(table.hop(server()), Hop::Ready { .. }));
    assert!(
        !table.note_neighbor((2, server()), Neighbor::Known(THEIRS)),
        "no news"
    );
}

fn is_pending(table: &Table) -> bool {
    match table.hop(server()) {
        Hop::NotReady { is_pending, .. } => is_pending,
        ready => panic!("expected a reason, got {ready:?}"),
    }
}

#[test]
fn only_what_is_being_asked_for_may_still_be_found() {
    assert!(is_pending(&Table::default()), "the route");
    assert!(is_pending(&table(server(), None)), "the MAC address");
    assert!(is_pending(&table(server(), Some(Neighbor::Incomplete))));
    assert!(!is_pending(&table(server(), Some(Neighbor::Failed))));
    for spoil in [
        |table: &mut Table| table.links.get_mut(&2).expect("the link").running = false,
        |table: &mut Table| table.links.get_mut(&2).expect("the link").mac = None,
        |table: &mut Table| table.links.clear(),
        |table: &mut Table| {
            let none = Route::None("there is none".to_owned());
            table.routes.insert(server(), none);
        },
        // Frames to our own MAC address go nowhere.
        |table: &mut Table| {
            table.note_neighbor((2, server()), Neighbor::Known(OURS));
        },
        |table: &mut Table| {
            table.named.insert(server(), OURS);
        },
    ] {
        let mut table = table(server(), Some(Neighbor::Known(THEIRS)));
        spoil(&mut table);
        assert!(!is_pending(&table), "{}", reason(&table));
    }
}

#[test]
fn a_vlan_is_as_down_as_the_interface_below_it() {
    let mut vlan = tagged(&[(42, false), (7, true)]);
    vlan.links.get_mut(&1).expect("the lowest").running = false;
    assert_eq!(reason(&vlan), "eth2 is down or has no carrier");
    assert!(!is_pending(&vlan));
}

#[test]
fn a_server_that_is_not_ready_has_a_reason() {
    assert_eq!(
        reason(&table(server(), None)),
        "172.16.1.211 is being asked for its MAC address on eth2"
    );
    assert_eq!(
        reason(&table(gateway(), Some(Neighbor::Failed))),
        "172.16.1.1 does not answer for its MAC address on eth2"
    );

    let mut down = table(server(), Some(Neighbor::Known(THEIRS)));
    down.links.get_mut(&2).expect("the link").running = false;
    assert_eq!(reason(&down), "eth2 is down or has no carrier");
    assert_eq!(down.probe_target(server()), None, "nobody hears a question");

    let mut tunnel = table(server(), None);
    tunnel.links.get_mut(&2).expect("the link").mac = None;
    assert_eq!(
        reason(&tunnel),
        "eth2 has no MAC address: frames to servers need one"
    );

    let mut gone = table(server(), Some(Neighbor::Known(THEIRS)));
    gone.links.clear();
    assert_eq!(reason(&gone), "its interface (index 2) is gone");

    let mut local = Table::default();
    assert_eq!(reason(&local), "the route is being looked up");
    local
        .routes
        .insert(server(), Route::None("there is no route to it".to_owned()));
    assert_eq!(reason(&local), "there is no route to it");
}
