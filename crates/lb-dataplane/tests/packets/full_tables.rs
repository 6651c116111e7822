//! Full tables: the entries that were used last stay.

use lb_model::DesiredState;
use lb_model::Protocol;

use packet_bed::frames::*;
use packet_bed::{Bed, Verdict, persistent, service, small_tables, state};

fn deployment() -> DesiredState {
    let service = service("172.16.1.200:1935", &["edge 1", "edge 2", "edge 3"]);
    state([persistent(service, 300, 32)])
}

fn viewer(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [10, 1, high, low]
}

fn passer_by(number: u32) -> [u8; 4] {
    let [_, a, b, c] = number.to_be_bytes();
    [11, a, b, c]
}

/// Sends a frame without a check of the verdict, which takes longer.
fn pass_by(bed: &Bed, frame: &[u8]) {
    bed.dataplane.test_run(frame, 1).expect("the program runs");
}

const VIEWERS: u16 = 200;

/// Lets viewers connect, and returns their servers.
fn viewers(bed: &mut Bed) -> Vec<Verdict> {
    let connect = |number| {
        bed.send(&tcp(viewer(number), 5000, S));
        bed.send(&tcp(viewer(number), 5000, A))
    };
    (0..VIEWERS).map(connect).collect()
}

fn watch(bed: &mut Bed, homes: &[Verdict]) {
    for (number, home) in (0..).zip(homes) {
        let verdict = bed.send(&tcp(viewer(number), 5000, A));
        assert_eq!(verdict, *home, "viewer {number}");
    }
}

/// Viewers who connect again get the server that they had.
fn come_back(bed: &mut Bed, homes: &[Verdict]) {
    for (number, home) in (0..).zip(homes) {
        let verdict = bed.send(&tcp(viewer(number), 5001, S));
        assert_eq!(verdict, *home, "viewer {number}");
    }
}

fn crowd() -> u32 {
    8 * small_tables().connections
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_syns_takes_neither_connections_nor_clients_from_silent_viewers() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let homes = viewers(&mut bed);
    for number in 0..crowd() {
        pass_by(&bed, &tcp(passer_by(number), 5000, S));
    }
    watch(&mut bed, &homes);
    come_back(&mut bed, &homes);
}

#[test]
#[ignore = "needs root"]
fn a_handshake_is_completed_in_the_midst_of_a_flood() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    for number in 0..crowd() {
        pass_by(&bed, &tcp(passer_by(number), 5000, S));
    }
    for number in 0..VIEWERS {
        let home = bed.send(&tcp(viewer(number), 5000, S));
        for flood in 0..50 {
            let number = crowd() + u32::from(number) * 50 + flood;
            pass_by(&bed, &tcp(passer_by(number), 5000, S));
        }
        assert_eq!(bed.send(&tcp(viewer(number), 5000, A)), home);
    }
}

#[test]
#[ignore = "needs root"]
fn viewers_who_are_heard_of_stay_however_many_others_connect() {
    let Some(mut bed) = Bed::shared(deployment()) else {
        return;
    };
    let homes = viewers(&mut bed);
    let passers_by: Vec<u32> = (0..crowd()).collect();
    // Viewers acknowledge what they are sent.
    for some in passers_by.chunks(64) {
        for number in some {
            pass_by(&bed, &tcp(passer_by(*number), 5000, S));
            pass_by(&bed, &tcp(passer_by(*number), 5000, A));
        }
        watch(&mut bed, &homes);
    }
}

#[test]
#[ignore = "needs root"]
fn a_flood_of_datagrams_takes_nothing_from_flows_of_two() {
    let mut deployment = deployment();
    deployment.services[0].protocol = Protocol::Udp;
    let Some(mut bed) = Bed::shared(deployment) else {
        return;
    };
    let homes: Vec<Verdict> = (0..VIEWERS)
        .map(|number| {
            bed.send(&udp(viewer(number), 5000));
            bed.send(&udp(viewer(number), 5000))
        })
        .collect();
    for number in 0..crowd() {
        pass_by(&bed, &udp(passer_by(number), 5000));
    }
    for (number, home) in (0..).zip(&homes) {
        assert_eq!(bed.send(&udp(viewer(number), 5000)), *home, "{number}");
        assert_eq!(bed.send(&udp(viewer(number), 5001)), *home, "{number}");
    }
}
