//! When servers that our checks give up are left in place, and for how long.

use super::*;
use crate::checker::Probe;
use crate::checker::file::FileProbe;
use crate::checker::machine::Timing;
use crate::checker::tcp::{Connection, TcpProbe};
use lb_model::config::TrackFile;
use lb_model::{Forwarding, OrphanPolicy, Protocol, Scheduler, Thresholds};
use lb_script::{Factor, NumberFile};

const DETECTION: Duration = Duration::from_secs(20);
const SUCCESSION: Duration = Duration::from_secs(6);

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

fn key() -> ServiceKey {
    ServiceKey {
        protocol: Protocol::Tcp,
        address: address(1),
    }
}

/// A service whose servers are alive or not, each of its own number for weight.
fn desired(servers: &[(u8, bool)]) -> DesiredState {
    let servers = servers.iter().map(|(last, alive)| RealServer {
        address: address(*last),
        weight: u32::from(*last) * u32::from(*alive),
        thresholds: Thresholds::default(),
        keeps_templates: true,
        alive: *alive,
        forwarding: Forwarding::Direct,
        next_hop: None,
    });
    let service = Service {
        protocol: Protocol::Tcp,
        address: address(1),
        scheduler: Scheduler::Mh,
        hash_port: false,
        hash_fallback: false,
        one_packet: false,
        persistence: None,
        orphans: OrphanPolicy::Reset,
        sloppy: true,
        servers: servers.collect(),
    };
    DesiredState {
        services: vec![service],
        ..DesiredState::default()
    }
}

fn check(of: SocketAddr) -> CheckSpec {
    let (delay, timeout) = (Duration::from_secs(6), Duration::from_secs(5));
    CheckSpec {
        probe: Probe::Tcp(TcpProbe(Connection {
            to: of,
            from: None,
            timeout,
        })),
        timing: Timing {
            delay_loop: delay,
            delay_before_retry: delay,
            retry: 0,
            first_check: delay,
            warmup: delay,
            alpha: false,
        },
    }
}

fn file_check() -> CheckSpec {
    CheckSpec {
        probe: Probe::File(FileProbe {
            file: NumberFile::from(&TrackFile::default()),
            factor: Factor::from(&TrackFile::default()),
        }),
        timing: check(address(1)).timing,
    }
}

/// A director that leads, and its data plane.
struct Director {
    guard: PartitionGuard,
    applied: DesiredState,
    leads: bool,
    start: Instant,
}

impl Director {
    fn new(servers: &[(u8, bool)]) -> Self {
        Self {
            guard: PartitionGuard::default(),
            applied: desired(servers),
            leads: true,
            start: Instant::now(),
        }
    }

    /// Lets the checks find this at a second; returns who is left in place, alive and
    /// with its weight, and the events.
    fn find(
        &mut self,
        second: u64,
        servers: &[(u8, bool)],
    ) -> (Vec<(u8, bool, u32)>, Vec<GuardEvent>) {
        let mut next = desired(servers);
        let watched = Watched {
            failed: addresses(servers, false).collect(),
            witnesses: addresses(servers, true)
                .map(|server| (server, vec![check(server)]))
                .collect(),
            detection: DETECTION,
            succession: SUCCESSION,
        };
        let leads = self.leads;
        let events = self.guard.filter(
            &mut next,
            &self.applied,
            |_| leads.then(|| watched.clone()),
            self.at(second),
        );
        self.applied = next;
        let servers = &self.applied.services[0].servers;
        let in_place = servers.iter().map(|server| match server.address.ip() {
            std::net::IpAddr::V4(ip) => (ip.octets()[3], server.alive, server.weight),
            std::net::IpAddr::V6(_) => unreachable!("all are of IPv4"),
        });
        (in_place.collect(), events)
    }

    /// The events when nothing has been in doubt before.
    fn first_events(&self, next: &mut DesiredState, watched: &Watched) -> Vec<GuardEvent> {
        let mut guard = PartitionGuard::default();
        let watched = |_| Some(watched.clone());
        guard.filter(next, &self.applied, watched, self.at(0))
    }

    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }
}

fn addresses(servers: &[(u8, bool)], up: bool) -> impl Iterator<Item = SocketAddr> {
    let found = servers.iter().filter(move |(_, is_up)| *is_up == up);
    found.map(|(last, _)| address(*last))
}

fn begun(servers: &[u8], awaited: Awaited, witnesses: &[u8]) -> Vec<GuardEvent> {
    vec![GuardEvent::Begun(
        key(),
        servers.iter().map(|last| address(*last)).collect(),
        awaited,
        witnesses.iter().map(|last| check(address(*last))).collect(),
    )]
}

fn ended() -> Vec<GuardEvent> {
    vec![GuardEvent::Ended(key())]
}

#[test]
fn a_server_is_gone_as_soon_as_another_answers() {
    let mut director = Director::new(&[(2, true), (3, true)]);
    let one_gone = [(2, false), (3, true)];
    let (in_place, events) = director.find(0, &one_gone);
    assert_eq!(
        in_place,
        [(2, true, 0), (3, true, 3)],
        "nobody new goes there"
    );
    assert_eq!(events, begun(&[2], Awaited::Witness, &[3]));
    assert_eq!(director.find(1, &one_gone).1, [], "told once");

    let now = director.at(1);
    assert!(director.guard.confirm_dead(key(), now));
    assert_eq!(director.guard.deadline(), Some(now));
    let (in_place, events) = director.find(1, &one_gone);
    assert_eq!(in_place, [(2, false, 0), (3, true, 3)]);
    assert_eq!(events, ended());
    assert_eq!(director.find(2, &one_gone).1, [], "for good");
    assert!(!director.guard.confirm_dead(key(), now));
}

#[test]
fn a_director_that_is_cut_off_leaves_all_servers_in_place_until_another_leads() {
    let mut director = Director::new(&[(2, true), (3, true)]);
    director.find(0, &[(2, false), (3, true)]);
    let (in_place, events) = director.find(5, &[(2, false), (3, false)]);
    assert_eq!(in_place, [(2, true, 0), (3, true, 3)]);
    assert_eq!(events, begun(&[2, 3], Awaited::Succession, &[]));
    assert_eq!(director.guard.deadline(), Some(director.at(5) + SUCCESSION));
    let now = director.at(6);
    assert!(
        !director.guard.confirm_dead(key(), now),
        "an answer from before"
    );

    director.leads = false;
    let (in_place, events) = director.find(8, &[(2, false), (3, false)]);
    assert_eq!(in_place, [(2, false, 0), (3, false, 0)]);
    assert_eq!(events, ended());
}

#[test]
fn if_nobody_else_leads_the_servers_are_gone() {
    let mut director = Director::new(&[(2, true)]);
    let gone = [(2, false)];
    assert_eq!(director.find(0, &gone).0, [(2, true, 2)]);
    assert_eq!(director.find(5, &gone).0, [(2, true, 2)]);
    assert_eq!(director.find(6, &gone), (vec![(2, false, 0)], ended()));
    assert_eq!(director.guard.deadline(), None);
}

#[test]
fn servers_that_answer_again_have_lost_nothing() {
    let mut director = Director::new(&[(2, true), (3, true)]);
    director.find(0, &[(2, false), (3, false)]);
    let (in_place, events) = director.find(1, &[(2, true), (3, true)]);
    assert_eq!(in_place, [(2, true, 2), (3, true, 3)]);
    assert_eq!(events, ended());
}

#[test]
fn after_a_cut_each_server_is_given_the_time_to_be_found_again() {
    let mut director = Director::new(&[(2, true), (3, true)]);
    director.find(0, &[(2, false), (3, false)]);
    let one_back = [(2, true), (3, false)];
    let (in_place, events) = director.find(1, &one_back);
    assert_eq!(in_place, [(2, true, 2), (3, true, 0)]);
    assert_eq!(events, begun(&[3], Awaited::Recheck, &[]));
    let now = director.at(2);
    assert!(
        !director.guard.confirm_dead(key(), now),
        "that says nothing of 3"
    );

    let until = director.at(1) + DETECTION;
    assert_eq!(director.guard.deadline(), Some(until));
    let (in_place, events) = director.find(1 + DETECTION.as_secs(), &one_back);
    assert_eq!(in_place, [(2, true, 2), (3, false, 0)], "now it is gone");
    assert_eq!(events, ended());
}

#[test]
fn the_sorry_server_waits_for_the_decision() {
    let mut director = Director::new(&[(2, true)]);
    let mut next = desired(&[(2, false), (9, true)]);
    let watched = Watched {
        failed: [address(2)].into(),
        witnesses: BTreeMap::new(),
        detection: DETECTION,
        succession: SUCCESSION,
    };
    let now = director.at(0);
    let watched = |_| Some(watched.clone());
    director
        .guard
        .filter(&mut next, &director.applied, watched, now);
    assert_eq!(next, desired(&[(2, true)]));
}

#[test]
fn what_is_not_watched_or_led_or_was_dead_or_ordered_out_is_not_in_doubt() {
    let mut director = Director::new(&[(2, true), (3, true)]);
    director.leads = false;
    assert_eq!(director.find(0, &[(2, false), (3, true)]).1, []);

    let mut director = Director::new(&[(2, false), (3, true)]);
    assert_eq!(director.find(0, &[(2, false), (3, true)]).1, []);

    // Not alive though its checks succeed: the operator wants it so.
    let director = Director::new(&[(2, true), (3, true)]);
    let mut next = desired(&[(2, false), (3, true)]);
    let watched = Watched {
        failed: BTreeSet::new(),
        witnesses: [2, 3]
            .map(|last| (address(last), vec![check(address(last))]))
            .into(),
        detection: DETECTION,
        succession: SUCCESSION,
    };
    assert_eq!(director.first_events(&mut next, &watched), []);
}

#[test]
fn a_service_with_a_server_that_is_never_checked_is_not_in_doubt() {
    let director = Director::new(&[(2, true), (3, true)]);
    let mut next = desired(&[(2, false), (3, true)]);
    let watched = Watched {
        failed: [address(2)].into(),
        witnesses: [(address(3), Vec::new())].into(),
        detection: DETECTION,
        succession: SUCCESSION,
    };
    assert_eq!(director.first_events(&mut next, &watched), []);
}

#[test]
fn a_file_of_this_machine_is_no_witness() {
    let director = Director::new(&[(2, true), (3, true)]);
    let watched = |checks: Vec<CheckSpec>| Watched {
        failed: [address(2)].into(),
        witnesses: [(address(3), checks)].into(),
        detection: DETECTION,
        succession: SUCCESSION,
    };
    let mut next = desired(&[(2, false), (3, true)]);
    let both = watched(vec![file_check(), check(address(3))]);
    assert_eq!(
        director.first_events(&mut next, &both),
        begun(&[2], Awaited::Witness, &[3]),
        "only the check of the server decides"
    );
    let mut next = desired(&[(2, false), (3, true)]);
    let alone = watched(vec![file_check()]);
    assert_eq!(
        director.first_events(&mut next, &alone),
        [],
        "as if it were never checked"
    );
}
