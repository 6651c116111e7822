//! A data plane that is kept when its agent ends, in a mount and network namespace that
//! live as long as the test's thread. Needs root.

use std::fs;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData};
use lb_abi::{Flow, FlowKey, LAYOUT_VERSION, Layout, MEMORY_VERSION, maps};
use lb_dataplane::{AttachMode, Dataplane, Error, Options, Origin, TableSizes, remove_leftovers};
use lb_model::DesiredState;
use lb_model::{OrphanPolicy, Scheduler, Thresholds};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use netbed::alone::ip;
use packet_bed::frames::*;
use packet_bed::{Bed, Step, Verdict, persistent, service, small_tables, state};

/// Directory of the tests' pins.
const PINS: &str = "/sys/fs/bpf/millrace";

/// Runs `test` where it has a BPF file system of its own, and a pair of
/// interfaces, `near` and `far`; says so where the kernel does not let us.
fn alone(test: fn()) {
    netbed::alone::with_interfaces(CloneFlags::CLONE_NEWNS, move || {
        let none: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(none, "/", none, private, none).expect("our mounts are our own");
        let flags = MsFlags::empty();
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), flags, none).expect("a BPF file system");
        test();
    });
}

fn options(interfaces: &[&str], tables: TableSizes) -> Options {
    Options {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        mode: AttachMode::Generic,
        tables,
        pins: Some(PINS.into()),
        trace: false,
    }
}

fn load(options: &Options) -> Dataplane {
    Dataplane::load(options).expect("the data plane is loaded")
}

/// A data plane that an agent has set to `desired`.
fn agent(options: &Options, desired: &DesiredState) -> Bed {
    let mut dataplane = load(options);
    dataplane.apply(desired).expect("the state is applied");
    Bed::of(dataplane, desired.clone())
}

fn deployment() -> DesiredState {
    let servers = ["edge 1", "edge 2", "edge 3"];
    state([persistent(service("172.16.1.200:1935", &servers), 50, 32)])
}

/// Names of the pins.
fn pinned() -> Vec<PathBuf> {
    let entries = fs::read_dir(PINS).into_iter().flatten();
    entries
        .map(|entry| entry.expect("readable").path())
        .collect()
}

/// The one set of maps.
fn set() -> PathBuf {
    let is_set = |path: &PathBuf| path.to_string_lossy().contains("/set-");
    let sets: Vec<PathBuf> = pinned().into_iter().filter(is_set).collect();
    assert_eq!(sets.len(), 1, "{sets:?}");
    sets[0].clone()
}

/// Alice is at edge 1 and Bob at edge 2; Bob has sent the SYN of another connection.
fn with_viewers(bed: &mut Bed) {
    for (client, port, flags) in [
        (ALICE, 5000, S),
        (ALICE, 5000, A),
        (BOB, 5000, S),
        (BOB, 5000, A),
        (BOB, 5001, S),
    ] {
        bed.send(&tcp(client, port, flags));
    }
}

/// Connections, templates and turns are as `with_viewers` left them.
fn check_that_viewers_stay(bed: &mut Bed) {
    let to = |name| Verdict::To(name);
    assert_eq!(bed.send(&tcp(ALICE, 5000, A)), to("edge 1"), "a connection");
    assert_eq!(bed.send(&tcp(BOB, 5000, A)), to("edge 2"), "another");
    assert_eq!(
        bed.send(&tcp(BOB, 5001, A)),
        to("edge 2"),
        "a half-open one"
    );
    assert_eq!(bed.send(&tcp(BOB, 5002, S)), to("edge 2"), "persistence");
    assert_eq!(bed.send(&tcp(CAROL, 1, S)), to("edge 3"), "the next turn");
    let statistics = bed.statistics();
    let first = &statistics.services[0].servers[0];
    assert_eq!(first.traffic.connections, 1, "counted before");
    assert_eq!(first.traffic.packets_in, 3, "counted before and after");
    assert_eq!(first.active_connections, 1);
}

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

/// Makes the pins look as if another version had written them.
fn fabricate(layout: Layout) {
    let data = MapData::from_pin(set().join(maps::LAYOUT)).expect("it is pinned");
    let mut record: Array<_, Layout> = Map::Array(data).try_into().expect("a record");
    record.set(0, layout, 0).expect("it is written");
}

#[test]
#[ignore = "needs root"]
fn maps_of_another_layout_are_replaced_and_connections_carried_over() {
    alone(|| {
        let options = options(&[], small_tables());
        with_viewers(&mut agent(&options, &deployment()));
        // As an older version would: its layout has no such map yet.
        fs::remove_file(set().join(maps::FRAGMENTS)).expect("it was pinned");
        fabricate(Layout {
            version: LAYOUT_VERSION - 1,
            memory_version: MEMORY_VERSION,
        });
        let mut replacing = agent(&options, &deployment());
        let because = format!(
            "its layout is version {}, ours is {LAYOUT_VERSION}",
            LAYOUT_VERSION - 1
        );
        let carried_over = true;
        assert_eq!(
            *replacing.dataplane.origin(),
            Origin::Replaced {
                because,
                carried_over
            }
        );
        check_that_viewers_stay(&mut replacing);
    });
}

/// Makes the pinned connections those of an older version, whose keys tell no port
/// of the service.
fn fabricate_keys_without_ports() {
    for (name, capacity) in [
        (maps::FLOWS, small_tables().connections),
        (maps::HALF_OPEN, small_tables().half_open),
    ] {
        let path = set().join(name);
        let data = MapData::from_pin(&path).expect("it is pinned");
        let table: HashMap<_, FlowKey, Flow> =
            Map::LruHashMap(data).try_into().expect("as lb_abi says");
        let flows: Vec<(FlowKey, Flow)> = table.iter().collect::<Result<_, _>>().expect("readable");
        fs::remove_file(&path).expect("it was pinned");
        let older = older::table(capacity);
        for (key, flow) in flows {
            let key = older::FlowKey {
                client: key.client,
                port: key.port,
                service: key.service,
            };
            older::insert(&older, &key, &flow);
        }
        older::pin(&older, &path);
    }
}

/// Maps of any shape, which aya cannot create.
mod older {
    use std::ffi::CString;
    use std::io;
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
    use std::os::unix::ffi::OsStrExt as _;
    use std::path::Path;

    use lb_abi::{Address, Flow};
    use nix::libc;

    #[repr(C)]
    pub(crate) struct FlowKey {
        pub(crate) client: Address,
        pub(crate) port: u16,
        pub(crate) service: u16,
    }

    /// An LRU table of connections.
    pub(crate) fn table(capacity: u32) -> OwnedFd {
        const BPF_MAP_CREATE: libc::c_long = 0;
        const BPF_MAP_TYPE_LRU_HASH: u32 = 9;
        let (key, value) = (size_of::<FlowKey>() as u32, size_of::<Flow>() as u32);
        let mut attributes = [BPF_MAP_TYPE_LRU_HASH, key, value, capacity, 0, 0];
        let fd = bpf(BPF_MAP_CREATE, &mut attributes);
        // SAFETY: the kernel has just opened it for us.
        unsafe { OwnedFd::from_raw_fd(fd as i32) }
    }

    pub(crate) fn insert(table: &OwnedFd, key: &FlowKey, flow: &Flow) {
        const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
        let (key, flow) = (std::ptr::from_ref(key), std::ptr::from_ref(flow));
        let mut attributes = [table.as_raw_fd() as u64, key as u64, flow as u64, 0];
        bpf(BPF_MAP_UPDATE_ELEM, &mut attributes);
    }

    pub(crate) fn pin(table: &OwnedFd, path: &Path) {
        const BPF_OBJ_PIN: libc::c_long = 6;
        let path = CString::new(path.as_os_str().as_bytes()).expect("no zero in it");
        let mut attributes = [path.as_ptr() as u64, table.as_raw_fd() as u64];
        bpf(BPF_OBJ_PIN, &mut attributes);
    }

    fn bpf<A>(command: libc::c_long, attributes: &mut A) -> libc::c_long {
        // SAFETY: the attributes are those of the command, and what they point to
        // lives until the call returns.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                std::ptr::from_mut(attributes),
                size_of::<A>(),
            )
        };
        assert!(result >= 0, "{}", io::Error::last_os_error());
        result
    }
}

#[test]
#[ignore = "needs root"]
fn connections_that_were_known_without_the_services_port_are_carried_over() {
    alone(|| {
        let options = options(&[], small_tables());
        with_viewers(&mut agent(&options, &deployment()));
        fabricate_keys_without_ports();
        fabricate(Layout {
            version: 7,
            memory_version: 2,
        });
        let mut replacing = agent(&options, &deployment());
        let origin = replacing.dataplane.origin();
        let is_carried_over = matches!(
            origin,
            Origin::Replaced {
                carried_over: true,
                ..
            }
        );
        assert!(is_carried_over, "{origin:?}");
        check_that_viewers_stay(&mut replacing);
    });
}

#[test]
#[ignore = "needs root"]
fn what_is_remembered_in_a_way_that_we_do_not_know_is_forgotten() {
    alone(|| {
        let options = options(&[], small_tables());
        with_viewers(&mut agent(&options, &deployment()));
        fabricate(Layout {
            version: LAYOUT_VERSION + 1,
            memory_version: MEMORY_VERSION + 1,
        });
        let mut replacing = agent(&options, &deployment());
        assert!(
            matches!(
                replacing.dataplane.origin(),
                Origin::Replaced {
                    carried_over: false,
                    ..
                }
            ),
            "{:?}",
            replacing.dataplane.origin()
        );
        assert_eq!(
            replacing.send(&tcp(ALICE, 5000, A)),
            Verdict::Stack("no-connection"),
            "nobody knows her"
        );
        assert_eq!(replacing.send(&tcp(ALICE, 5001, S)), Verdict::To("edge 1"));
    });
}

/// The number of the program on an interface, as `ip link` shows it.
fn program_on(interface: &str) -> Option<String> {
    let shown = ip(&format!("-d link show {interface}"));
    let mut words = shown.split_whitespace();
    words.find(|word| word.starts_with("prog/xdp"))?;
    words.find(|word| *word == "id")?;
    words.next().map(str::to_owned)
}

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
