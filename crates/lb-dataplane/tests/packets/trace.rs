//! The trace: a line for each decision, none for a packet of an established connection,
//! and none at all unless it is switched on.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use aya::maps::{Map, RingBuf};
use lb_abi::{TRACE_TARGET, maps};
use lb_model::OrphanPolicy;
use log::{Level, LevelFilter, Log, Metadata, Record};

use packet_bed::frames::*;
use packet_bed::{Bed, service, state};

/// Ends a test that has failed; no other test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The log of this process: lines of the program go to the test.
struct Lines(Mutex<Sender<String>>);

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TRACE_TARGET
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            assert_eq!(record.level(), Level::Debug);
            let sender = self.0.lock().expect("nobody panics with the lock");
            // The test that wanted it may be over.
            let _ = sender.send(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// To be called by one test only: it gets all lines.
fn lines() -> Receiver<String> {
    static LOG: OnceLock<Lines> = OnceLock::new();
    let (sender, receiver) = channel();
    let log = LOG.get_or_init(|| Lines(Mutex::new(sender)));
    log::set_logger(log).expect("no other log");
    log::set_max_level(LevelFilter::Debug);
    receiver
}

#[test]
#[ignore = "needs root"]
fn every_decision_is_told_and_nothing_else() {
    let lines = lines();
    let mut dropping = service("172.16.1.200:1936", &["edge 3"]);
    dropping.orphans = OrphanPolicy::Drop;
    let both = state([
        service("172.16.1.200:1935", &["edge 1", "edge 2"]),
        service("[2001:db8::c8]:1935", &["edge 1"]),
        dropping,
    ]);
    let Some(mut bed) = Bed::tracing(both.clone()) else {
        return;
    };
    let dropped = |flags| tcp_to(ALICE, 5000, VIP, 1936, flags);

    let told = |frame: Vec<u8>, bed: &mut Bed| {
        bed.send(&frame);
        lines.recv_timeout(PATIENCE).expect("a line is told")
    };
    let mut not_told: Vec<Vec<u8>> = Vec::new();

    assert_eq!(
        told(tcp(ALICE, 5000, S), &mut bed),
        "tcp from 10.0.0.1 port 5000 to 172.16.1.200 port 1935: \
         new connection, server 172.16.1.210 port 1935, forwarded"
    );
    // An established connection, on the slow and on the fast path; a packet for no service.
    not_told.push(tcp(ALICE, 5000, S));
    not_told.push(tcp(ALICE, 5000, A));
    not_told.push(tcp(ALICE, 5000, "P."));
    not_told.push(tcp_to(ALICE, 5000, VIP, 22, S));
    not_told.push(tagged(tcp_to(ALICE, 5000, VIP, 22, S), &[(0x8100, 7)]));
    not_told.push(icmp(8, 0, &tcp(ALICE, 1, S), 28));
    for frame in not_told.drain(..) {
        bed.send(&frame);
    }
    assert_eq!(
        told(tcp6(DAVE, 5000, S), &mut bed),
        "tcp from 2001:db8:1::1 port 5000 to 2001:db8::c8 port 1935: \
         new connection, server 172.16.1.210 port 1935, forwarded"
    );
    assert_eq!(
        told(tcp(BOB, 5000, A), &mut bed),
        "tcp from 10.0.0.2 port 5000 to 172.16.1.200 port 1935: no-connection"
    );
    assert_eq!(
        told(tcp(ALICE, 5000, S)[..40].to_vec(), &mut bed),
        "frame on interface 1: truncated"
    );
    assert_eq!(
        told(dropped(S), &mut bed),
        "tcp from 10.0.0.1 port 5000 to 172.16.1.200 port 1936: \
         new connection, server 172.16.1.212 port 1936, forwarded"
    );

    let mut dead = both;
    for service in &mut dead.services {
        for server in &mut service.servers {
            server.alive = false;
        }
    }
    bed.dataplane.apply(&dead).expect("applied");
    assert_eq!(
        told(tcp(ALICE, 5000, A), &mut bed),
        "tcp from 10.0.0.1 port 5000 to 172.16.1.200 port 1935: reset"
    );
    assert_eq!(
        told(tcp(BOB, 5000, S), &mut bed),
        "tcp from 10.0.0.2 port 5000 to 172.16.1.200 port 1935: no-server"
    );
    assert_eq!(
        told(dropped(A), &mut bed),
        "tcp from 10.0.0.1 port 5000 to 172.16.1.200 port 1936: dropped"
    );
    assert_eq!(lines.try_recv().ok(), None, "one line for each");
}

#[test]
#[ignore = "needs root"]
fn nothing_is_told_unless_asked_for() {
    let deployment = state([service("172.16.1.200:1935", &["edge 1"])]);
    let Some(mut bed) = Bed::shared(deployment) else {
        return;
    };
    let log = bed.maps().into_iter().find(|(name, _)| name == maps::TRACE);
    let (_, log) = log.expect("the program has a log");
    let mut lines: RingBuf<_> = Map::RingBuf(log).try_into().expect("a ring");
    bed.send(&tcp(ALICE, 5000, S));
    bed.send(&tcp(BOB, 5000, A));
    assert!(lines.next().is_none());
}
