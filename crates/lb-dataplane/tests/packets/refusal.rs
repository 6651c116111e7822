//! A state that does not fit changes nothing.

use lb_dataplane::{Error, TableSizes};
use lb_model::Scheduler;

use packet_bed::frames::*;
use packet_bed::{Bed, Verdict, server, service, small_tables, state};

#[test]
#[ignore = "needs root"]
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

#[test]
#[ignore = "needs root"]
fn what_would_not_fit_once_its_servers_live_is_refused_while_they_are_down() {
    let tables = TableSizes {
        ring_places: 260,
        servers: 400,
        ..small_tables()
    };
    let Some(mut bed) = Bed::with_tables(state([]), tables) else {
        return;
    };
    let down = |address: &str, scheduler, servers: u16| {
        let mut service = service(address, &[]);
        service.scheduler = scheduler;
        service.servers = (1..=servers).map(|port| server("edge 2", port)).collect();
        for server in &mut service.servers {
            server.next_hop = None;
        }
        service
    };
    let hashed = ["172.16.1.200:1935", "172.16.1.200:1936"];
    let hashed = hashed.map(|address| down(address, Scheduler::Mh, 1));
    assert!(matches!(
        bed.dataplane.apply(&state(hashed)),
        Err(Error::TableFull {
            wanted: 502,
            limit: 260,
            ..
        })
    ));
    let compared = down("172.16.1.200:1935", Scheduler::Wlc, 257);
    assert!(matches!(
        bed.dataplane.apply(&state([compared])),
        Err(Error::TooManyToCompare { wanted: 257, .. })
    ));
}

#[test]
#[ignore = "needs root"]
fn weights_that_want_more_room_than_there_is_are_rounded() {
    let tables = TableSizes {
        ring_places: 100,
        ..small_tables()
    };
    let mut services = ["172.16.1.200:1935", "172.16.1.200:1936"].map(|address| {
        let mut service = service(address, &["edge 1", "edge 2"]);
        service.scheduler = Scheduler::Wrr;
        service
    });
    for service in &mut services {
        service.servers[0].weight = 401;
        service.servers[1].weight = 100;
    }
    let Some(mut bed) = Bed::with_tables(state(services), tables) else {
        return;
    };
    let mut first = 0;
    for client in 0..100 {
        let to = bed.send(&tcp([10, 1, 0, client], 4000, S));
        first += u32::from(to == Verdict::To("edge 1"));
    }
    assert!((75..=85).contains(&first), "{first} of 100");
}
