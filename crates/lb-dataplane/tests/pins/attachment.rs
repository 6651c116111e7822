//! Programs on interfaces that come and go.

use lb_dataplane::{AttachMode, Options, Origin, TableSizes};
use netbed::alone::ip;
use packet_bed::small_tables;

use crate::{agent, alone, deployment, load, options, pinned, program_on};

#[test]
#[ignore = "needs root"]
fn a_program_stays_attached_and_is_replaced_in_place() {
    alone(|| {
        let options = options(&["near"], small_tables());
        let former = agent(&options, &deployment());
        let first = program_on("near").expect("attached");
        assert_eq!(first, former.dataplane.program_id().to_string());
        drop(former);
        assert_eq!(program_on("near"), Some(first.clone()), "without an agent");

        for tables in [
            small_tables(),
            TableSizes {
                servers: 32,
                ..small_tables()
            },
        ] {
            let options = Options {
                tables,
                ..options.clone()
            };
            let before = program_on("near");
            let mut dataplane = load(&options);
            if matches!(dataplane.origin(), Origin::Replaced { .. }) {
                assert_eq!(
                    program_on("near"),
                    before,
                    "it serves until there is a state"
                );
            }
            dataplane.apply(&deployment()).expect("applied");
            let attachment = &dataplane.attachments()[0];
            assert_eq!(attachment.interface, "near");
            assert_eq!(attachment.mode, AttachMode::Generic);
            assert_eq!(program_on("near"), Some(dataplane.program_id().to_string()));
            let links = pinned()
                .iter()
                .filter(|path| path.to_string_lossy().contains("link-"))
                .count();
            assert_eq!(links, 1, "{:?}", pinned());
        }
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_no_longer_asked_for_is_let_go() {
    alone(|| {
        drop(agent(
            &options(&["near", "far"], small_tables()),
            &deployment(),
        ));
        assert!(program_on("far").is_some());
        let _adopted = agent(&options(&["near"], small_tables()), &deployment());
        assert_eq!(program_on("far"), None);
        assert!(program_on("near").is_some());
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_comes_back_is_attached_again() {
    alone(|| {
        let mut bed = agent(&options(&["near"], small_tables()), &deployment());
        assert_eq!(
            bed.dataplane.follow_interfaces(),
            [],
            "nothing has happened"
        );
        ip("link del near");
        let changed = bed.dataplane.follow_interfaces();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].lost.as_deref(), Some("the interface is gone"));
        assert_eq!(bed.dataplane.attachments(), changed);
        assert_eq!(bed.dataplane.follow_interfaces(), [], "told once");

        ip("link add near type veth peer name far");
        let changed = bed.dataplane.follow_interfaces();
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].lost, None);
        let program = bed.dataplane.program_id().to_string();
        assert_eq!(program_on("near"), Some(program));
        bed.dataplane.remove().expect("removed");
        assert_eq!(program_on("near"), None);
    });
}
