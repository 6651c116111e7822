//! A state that does not fit changes nothing.

use lb_user::dataplane::state::Scheduler;
use lb_user::dataplane::{Error, TableSizes};

use crate::bed::frames::*;
use crate::bed::{Bed, Verdict, server, service, small_tables, state};

#[test]
fn a_state_that_is_refused_leaves_everything_as_it_was() {
    let two = || state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]);
    let tables = TableSizes {
        servers: 3,
        ring_places: 300,
        ..small_tables()
    };
    let Some(mut bed) = Bed::with_tables(two(), tables) else {
        return;
    };
    for flags in [S, A] {
        bed.send(&tcp(ALICE, 5000, flags));
    }
    let before = bed.statistics().services;

    // Each takes Alice's server away, and does not fit for another reason.
    let mut too_many_servers = two();
    too_many_servers.services[0].servers = (1..=4).map(|port| server("edge 2", port)).collect();
    let mut too_long_rings = state(["172.16.1.200:1935", "172.16.1.200:1936"].map(|address| {
        let mut hashed = service(address, &["edge 2"]);
        hashed.scheduler = Scheduler::Mh;
        hashed
    }));
    too_long_rings.services[0]
        .servers
        .push(server("edge 3", 1935));
    for (desired, what) in [
        (&too_many_servers, "real servers"),
        (&too_long_rings, "places in scheduling rings"),
    ] {
        match bed.dataplane.apply(desired) {
            Err(Error::TableFull { what: found, .. }) => assert_eq!(found, what),
            other => panic!("expected {what} to be too many, got {other:?}"),
        }
        assert_eq!(bed.send(&tcp(ALICE, 5000, A)), Verdict::To("edge 1"));
    }
    let changes = bed.dataplane.apply(&two()).expect("the former state");
    assert_eq!(changes, Default::default(), "nothing has to be restored");
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), Verdict::To("edge 1"));
    let after = bed.statistics().services;
    assert_eq!(
        after[0].servers[0].traffic.packets_in,
        before[0].servers[0].traffic.packets_in + 3
    );
}
