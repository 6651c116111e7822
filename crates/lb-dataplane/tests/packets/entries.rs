//! Connections and persistent clients as operators see them.

use std::collections::HashSet;

use lb_dataplane::{Connection, ConnectionState, Cursor, PersistentClient};

use packet_bed::frames::*;
use packet_bed::{Bed, Step, persistent, seconds, service, state};

/// All connections, read by pages.
fn connections(bed: &Bed, batch: usize) -> Vec<Connection> {
    let remembered = bed.dataplane.conntrack_snapshot();
    let (mut all, mut place) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = place {
        let (some, next) = remembered
            .connections(from, batch)
            .expect("the tables can be read");
        all.extend(some);
        place = next;
    }
    all
}

fn persistent_clients(bed: &Bed) -> Vec<PersistentClient> {
    let remembered = bed.dataplane.conntrack_snapshot();
    let (mut all, mut place) = (Vec::new(), Some(Cursor::default()));
    while let Some(from) = place {
        let (some, next) = remembered
            .persistent_clients(from, 100)
            .expect("the tables can be read");
        all.extend(some);
        place = next;
    }
    all
}

#[test]
#[ignore = "needs root"]
fn a_connection_is_shown_with_its_state_its_server_and_the_time_that_it_has_left() {
    let services = [service("172.16.1.200:1935", &["edge 1", "edge 2"])];
    let Some(mut bed) = Bed::shared(state(services)) else {
        return;
    };
    for (client, port, flags) in [
        (ALICE, 5000, &[S, A][..]),
        (BOB, 5001, &[S]),
        (CAROL, 5002, &[S, A, F]),
    ] {
        for flags in flags {
            bed.send(&tcp(client, port, flags));
        }
    }
    bed.step(&seconds(10));
    let mut shown: Vec<(String, ConnectionState, Option<String>, u64)> = connections(&bed, 100)
        .into_iter()
        .map(|connection| {
            assert_eq!(connection.service.to_string(), "172.16.1.200:1935");
            let server = connection.server.map(|server| server.to_string());
            let client = connection.client.to_string();
            // The test itself takes a moment.
            let tens = connection.expires_s.div_ceil(10) * 10;
            (client, connection.state, server, tens)
        })
        .collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    let server = |address: &str| Some(address.to_owned());
    assert_eq!(
        shown,
        [
            (
                "10.0.0.1:5000".to_owned(),
                ConnectionState::Established,
                server("172.16.1.210:1935"),
                890
            ),
            (
                "10.0.0.2:5001".to_owned(),
                ConnectionState::SynReceived,
                server("172.16.1.211:1935"),
                50
            ),
            (
                "10.0.1.1:5002".to_owned(),
                ConnectionState::FinWait,
                server("172.16.1.210:1935"),
                110
            ),
        ]
    );

    bed.step(&Step::Change(|state| {
        state.services[0].servers[0].alive = false;
    }));
    let gone = connections(&bed, 100);
    let gone = gone.iter().filter(|one| one.server.is_none()).count();
    assert_eq!(gone, 2, "whose server is gone");

    bed.step(&seconds(51));
    let left = connections(&bed, 100).len();
    assert_eq!(left, 2, "Bob's time is over, swept or not");
}

#[test]
#[ignore = "needs root"]
fn every_connection_is_met_once_however_few_are_read_at_a_time() {
    let Some(mut bed) = Bed::shared(state([service("172.16.1.200:1935", &["edge 1"])])) else {
        return;
    };
    for port in 5000..5300 {
        bed.send(&tcp(ALICE, port, S));
        if port % 2 == 0 {
            bed.send(&tcp(ALICE, port, A));
        }
    }
    for batch in [1, 7, 1000] {
        let all = connections(&bed, batch);
        let ports: HashSet<u16> = all.iter().map(|one| one.client.port()).collect();
        assert_eq!(all.len(), 300, "{batch} at a time");
        assert_eq!(ports, (5000..5300).collect(), "{batch} at a time");
    }
}

#[test]
#[ignore = "needs root"]
fn a_persistent_client_is_shown_once_with_its_network() {
    let service = persistent(service("172.16.1.200:1935", &["edge 1", "edge 2"]), 50, 24);
    let Some(mut bed) = Bed::shared(state([service])) else {
        return;
    };
    bed.send(&tcp(ALICE, 5000, S));
    bed.send(&tcp(ALICE, 5000, A));
    bed.send(&tcp(BOB, 5001, S));
    bed.send(&tcp(CAROL, 5002, S));
    let mut shown: Vec<(String, u8, Option<String>)> = persistent_clients(&bed)
        .into_iter()
        .map(|client| {
            assert!((45..=50).contains(&client.expires_s), "{client:?}");
            let server = client.server.map(|server| server.to_string());
            (client.client.to_string(), client.prefix_length, server)
        })
        .collect();
    shown.sort();
    assert_eq!(
        shown,
        [
            (
                "10.0.0.0".to_owned(),
                24,
                Some("172.16.1.210:1935".to_owned())
            ),
            (
                "10.0.1.0".to_owned(),
                24,
                Some("172.16.1.211:1935".to_owned())
            ),
        ]
    );
    bed.step(&seconds(51));
    assert_eq!(persistent_clients(&bed), [], "their time is over");
}
