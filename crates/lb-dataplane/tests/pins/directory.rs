//! The directory of pins: whose it is, and what is removed from it.

use std::fs;
use std::path::{Path, PathBuf};

use lb_abi::maps;
use lb_dataplane::{Dataplane, Error, Options, Origin, remove_leftovers};
use packet_bed::small_tables;

use crate::{
    PINS, agent, alone, check_that_viewers_stay, deployment, load, options, program_on,
    with_viewers,
};

#[test]
#[ignore = "needs root"]
fn what_is_removed_is_gone_altogether() {
    alone(|| {
        let options = options(&["near"], small_tables());
        agent(&options, &deployment())
            .dataplane
            .remove()
            .expect("removed");
        assert_eq!(program_on("near"), None);
        assert!(!Path::new(PINS).exists());

        drop(agent(&options, &deployment()));
        let removed = remove_leftovers(Path::new(PINS)).expect("removed");
        assert_eq!(removed.len(), 2, "{removed:?}");
        assert_eq!(removed[0], "XDP program on near");
        assert_eq!(program_on("near"), None);
        assert!(!Path::new(PINS).exists());
        assert_eq!(
            remove_leftovers(Path::new(PINS)).expect("nothing to do"),
            Vec::<String>::new()
        );
    });
}

#[test]
#[ignore = "needs root"]
fn two_agents_do_not_share_a_directory() {
    alone(|| {
        let options = options(&["near"], small_tables());
        let first = agent(&options, &deployment());
        let refused = |result: Option<Error>| matches!(result, Some(Error::PinsInUse { .. }));
        assert!(refused(Dataplane::load(&options).err()));
        assert!(refused(remove_leftovers(Path::new(PINS)).err()));
        assert!(program_on("near").is_some());
        drop(first);
        load(&options);
    });
}

#[test]
#[ignore = "needs root"]
fn where_nothing_can_be_pinned_the_data_plane_runs_unpinned_and_says_why() {
    alone(|| {
        let elsewhere = tempfile::tempdir().expect("a directory");
        let path = elsewhere.path().join("millrace");
        let options = Options {
            pins: Some(path.clone()),
            ..options(&["near"], small_tables())
        };
        let bed = agent(&options, &deployment());
        let Origin::Unpinned {
            because: Some(because),
        } = bed.dataplane.origin()
        else {
            panic!("{:?}", bed.dataplane.origin());
        };
        assert!(because.contains("no BPF file system"), "{because}");
        assert!(program_on("near").is_some());
        drop(bed);
        assert_eq!(program_on("near"), None, "it goes with the agent");
        assert!(!path.exists());
    });
}

#[test]
#[ignore = "needs root"]
fn a_set_that_a_killed_agent_did_not_finish_is_swept_away() {
    alone(|| {
        let options = options(&["near"], small_tables());
        with_viewers(&mut agent(&options, &deployment()));
        let half_made = Path::new(PINS).join("set-9");
        fs::create_dir(&half_made).expect("made");
        fs::hard_link(
            set_numbered(1).join(maps::FLOWS),
            half_made.join(maps::FLOWS),
        )
        .expect("a second name");
        let mut adopted = agent(&options, &deployment());
        assert!(!half_made.exists());
        check_that_viewers_stay(&mut adopted);
    });
}

fn set_numbered(number: u32) -> PathBuf {
    Path::new(PINS).join(format!("set-{number}"))
}
