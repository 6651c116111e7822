//! What an agent finds of the one before: adopted as it is, or taken over by other tables.

use lb_dataplane::{Dataplane, Error, Options, Origin, TableSizes};
use lb_model::{OrphanPolicy, Scheduler, Thresholds};
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, service, small_tables, state};

use crate::{
    agent, alone, check_that_viewers_stay, deployment, load, options, pinned, program_on, set,
    with_viewers,
};

#[test]
#[ignore = "needs root"]
fn a_data_plane_is_adopted_with_all_that_it_remembers() {
    alone(|| {
        let options = options(&[], small_tables());
        let mut former = agent(&options, &deployment());
        assert_eq!(*former.dataplane.origin(), Origin::New);
        with_viewers(&mut former);
        drop(former);

        let adopted = load(&options);
        assert_eq!(*adopted.origin(), Origin::Adopted);
        assert_eq!(adopted.known_hops().len(), 3);
        let mut adopted = Bed::of(adopted, deployment());
        // Before anything is applied, and after.
        assert_eq!(
            adopted.send(&tcp(ALICE, 5000, "P.")),
            Verdict::To("edge 1"),
            "forwarded as if nothing had happened"
        );
        drop(adopted);
        let mut adopted = agent(&options, &deployment());
        let bed = &mut adopted;
        assert_eq!(bed.send(&tcp(BOB, 5000, A)), Verdict::To("edge 2"));
        let changes = bed.dataplane.apply(&deployment()).expect("applied");
        assert_eq!(changes.servers_added, 0);
        drop(adopted);
        let mut adopted = agent(&options, &deployment());
        // One packet more than `check_that_viewers_stay` counts.
        let before = adopted.statistics().services[0].servers[0].traffic;
        assert_eq!((before.connections, before.packets_in), (1, 3));
        assert_eq!(adopted.send(&tcp(CAROL, 1, S)), Verdict::To("edge 3"));
    });
}

#[test]
#[ignore = "needs root"]
fn who_balances_beside_us_is_known_before_the_next_state_and_not_after_it_leaves() {
    alone(|| {
        const EDGE_1: [u8; 6] = [2, 0, 0, 1, 0, 0];
        let from_edge_1 = |port| patched(tcp(ALICE, port, S), 6, &EDGE_1);
        let options = options(&[], small_tables());
        drop(agent(&options, &deployment()));
        let mut adopted = Bed::of(load(&options), deployment());
        let verdict = adopted.send(&from_edge_1(5000));
        assert_eq!(verdict, Verdict::Stack("balanced-before"));
        drop(adopted);

        let mut desired = deployment();
        desired.services[0].servers.remove(0);
        let mut adopted = agent(&options, &desired);
        let verdict = adopted.send(&from_edge_1(5001));
        assert!(matches!(verdict, Verdict::To(_)), "{verdict:?}");
        adopted.step(&Step::Apply(deployment()));
        let verdict = adopted.send(&from_edge_1(5002));
        assert_eq!(verdict, Verdict::Stack("balanced-before"));
    });
}

#[test]
#[ignore = "needs root"]
fn an_agent_that_finds_other_servers_configured_voids_only_those_that_left() {
    alone(|| {
        let options = options(&[], small_tables());
        with_viewers(&mut agent(&options, &deployment()));

        let mut desired = deployment();
        desired.services[0].servers.remove(0);
        desired.services[0].servers.reverse();
        let mut adopted = agent(&options, &desired);
        assert_eq!(adopted.send(&tcp(BOB, 5000, A)), Verdict::To("edge 2"));
        assert!(
            matches!(adopted.send(&tcp(ALICE, 5000, A)), Verdict::Reset(_)),
            "her server is gone"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn connections_of_a_service_that_is_gone_are_treated_as_it_was_configured() {
    alone(|| {
        let options = options(&[], small_tables());
        let mut desired = deployment();
        desired.services[0].orphans = OrphanPolicy::Drop;
        with_viewers(&mut agent(&options, &desired));

        let mut next = load(&options);
        let changes = next.apply(&state([])).expect("applied");
        assert_eq!(changes.removed_servers.len(), 3, "{changes:?}");
        for departed in changes.removed_servers {
            assert_eq!(departed.orphans, OrphanPolicy::Drop, "{departed:?}");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_rehearsal_tells_what_would_be_refused_and_changes_nothing() {
    alone(|| {
        let options = options(&["near"], small_tables());
        let mut bed = agent(&options, &deployment());
        with_viewers(&mut bed);
        let before = (pinned(), program_on("near"));
        let rehearse = |options: &Options| Dataplane::rehearse(options, &deployment());
        let with = |tables| Options {
            tables,
            ..options.clone()
        };
        rehearse(&options).expect("it would be adopted");
        let larger = TableSizes {
            servers: 128,
            ..small_tables()
        };
        rehearse(&with(larger)).expect("it would be replaced");
        let smaller = TableSizes {
            servers: 2,
            ..small_tables()
        };
        let refused = rehearse(&with(smaller)).expect_err("three servers do not fit");
        assert!(
            matches!(refused, Error::TableFull { wanted: 3, .. }),
            "{refused}"
        );
        let elsewhere = Options {
            interfaces: vec!["nowhere".to_owned()],
            ..options.clone()
        };
        let refused = rehearse(&elsewhere).expect_err("there is no such interface");
        assert!(
            matches!(refused, Error::UnknownInterface { .. }),
            "{refused}"
        );
        assert_eq!((pinned(), program_on("near")), before);
        check_that_viewers_stay(&mut bed);
    });
}

#[test]
#[ignore = "needs root"]
fn tables_of_another_size_take_over_connections_templates_and_counters() {
    alone(|| {
        with_viewers(&mut agent(&options(&[], small_tables()), &deployment()));
        let larger = TableSizes {
            connections: 4096,
            servers: 128,
            ..small_tables()
        };
        let options = options(&[], larger);
        let mut replacing = agent(&options, &deployment());
        let Origin::Replaced {
            because,
            carried_over: true,
        } = replacing.dataplane.origin()
        else {
            panic!("{:?}", replacing.dataplane.origin());
        };
        assert!(because.contains("SERVERS has 128 entries"), "{because}");
        set();
        check_that_viewers_stay(&mut replacing);
        drop(replacing);
        assert_eq!(*load(&options).origin(), Origin::Adopted, "from now on");
    });
}

#[test]
#[ignore = "needs root"]
fn a_server_that_is_full_still_is_in_tables_of_another_size() {
    alone(|| {
        let mut desired = state([service("172.16.1.200:1935", &["edge 1", "edge 2"])]);
        desired.services[0].scheduler = Scheduler::Fo;
        desired.services[0].servers[0].thresholds = Thresholds { upper: 2, lower: 1 };
        let to = |name| Verdict::To(name);
        let mut bed = agent(&options(&[], small_tables()), &desired);
        for port in [5000, 5001] {
            assert_eq!(bed.send(&tcp(ALICE, port, S)), to("edge 1"));
        }
        bed.send(&tcp(ALICE, 5000, R));
        bed.step(&packet_bed::seconds(20));
        bed.step(&Step::Sweep);
        assert_eq!(bed.send(&tcp(BOB, 1, S)), to("edge 2"), "one is not fewer");
        drop(bed);
        let larger = TableSizes {
            servers: 128,
            ..small_tables()
        };
        let mut replacing = agent(&options(&[], larger), &desired);
        assert!(replacing.statistics().services[0].servers[0].is_full);
        assert_eq!(replacing.send(&tcp(BOB, 2, S)), to("edge 2"), "it still is");
        replacing.send(&tcp(ALICE, 5001, R));
        replacing.step(&packet_bed::seconds(20));
        replacing.step(&Step::Sweep);
        assert_eq!(replacing.send(&tcp(BOB, 3, S)), to("edge 1"), "it has none");
    });
}
