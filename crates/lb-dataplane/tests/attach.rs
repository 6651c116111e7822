//! Attaching to interfaces, in a network namespace that lives as long as the
//! test's thread. Needs root.

use std::collections::BTreeMap;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::loaded_programs;
use lb_abi::{Interface, maps};
use lb_dataplane::{AttachMode, Dataplane, Error, Options, TableSizes};
use lb_model::DesiredState;
use lb_model::{OrphanPolicy, Protocol, Scheduler, Service};
use nix::libc;
use nix::sched::CloneFlags;

use netbed::alone::ip;

/// Runs `test` beside a pair of interfaces, `near` and `far`.
fn with_interfaces(test: fn()) {
    netbed::alone::with_interfaces(CloneFlags::empty(), test);
}

/// Loads the data plane and attaches it, with no service.
fn attach(interfaces: &[&str], mode: AttachMode) -> Result<Dataplane, Error> {
    let mut loaded = load(interfaces, mode)?;
    loaded.apply(&DesiredState::default())?;
    Ok(loaded)
}

fn load(interfaces: &[&str], mode: AttachMode) -> Result<Dataplane, Error> {
    let tables = TableSizes {
        connections: 64,
        half_open: 64,
        templates: 64,
        services: 4,
        servers: 4,
        ring_places: 64,
        fragments: 64,
        denied: 64,
        proven: 64,
        rates: 64,
        maglev_places: 61,
    };
    Dataplane::load(&Options {
        interfaces: interfaces.iter().map(|name| (*name).to_owned()).collect(),
        mode,
        tables,
        pins: None,
        trace: false,
    })
}

#[test]
#[ignore = "needs root"]
fn a_veth_pair_gets_generic_mode_unless_native_is_asked_for() {
    with_interfaces(|| {
        let chosen = attach(&["near"], AttachMode::Auto).expect("generic mode works everywhere");
        let attachment = &chosen.attachments()[0];
        assert_eq!(attachment.interface, "near");
        assert_eq!(attachment.mode, AttachMode::Generic);
        let reason = attachment
            .native_refused
            .as_deref()
            .expect("a reason is given");
        assert!(reason.contains("peer"), "{reason}");
        assert!(ip("link show near").contains("xdpgeneric"));
        drop(chosen);

        let native = attach(&["near"], AttachMode::Native).expect("veth can do native mode");
        assert_eq!(native.attachments()[0].mode, AttachMode::Native);
        assert!(ip("-d link show near").contains("prog/xdp"));
    });
}

#[test]
#[ignore = "needs root"]
fn dropping_the_data_plane_detaches_it() {
    with_interfaces(|| {
        let loaded = attach(&["near", "far"], AttachMode::Generic).expect("attaches");
        assert_eq!(loaded.attachments().len(), 2);
        assert!(ip("link show far").contains("xdp"));
        drop(loaded);
        assert!(!ip("link show near").contains("xdp"));
        assert!(!ip("link show far").contains("xdp"));
    });
}

/// Entries of the program's map of interfaces, by index.
fn known_interfaces(dataplane: &Dataplane) -> BTreeMap<u32, [u8; 6]> {
    let program = loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == dataplane.program_id())
        .expect("our program is loaded");
    let ids = program.map_ids().expect("the kernel tells");
    let map = ids
        .into_iter()
        .flatten()
        .map(|id| MapData::from_id(id).expect("the map can be opened"))
        .find(|map| {
            let info = map.info().expect("the kernel tells");
            info.name_as_str() == Some(maps::INTERFACES)
        })
        .expect("our program knows interfaces");
    let map: HashMap<_, u32, Interface> = Map::HashMap(map).try_into().expect("as lb_abi says");
    map.iter()
        .map(|entry| entry.expect("can be read"))
        .map(|(index, interface)| (index, interface.mac.into()))
        .collect()
}

#[test]
#[ignore = "needs root"]
fn the_program_knows_the_addresses_of_its_interfaces_as_they_change() {
    with_interfaces(|| {
        ip("link set near address 02:00:00:00:00:0a");
        let mut loaded = attach(&["near"], AttachMode::Generic).expect("attaches");
        let index = loaded.attachments()[0].interface_index;
        let only = |mac| BTreeMap::from([(index, mac)]);
        assert_eq!(known_interfaces(&loaded), only([2, 0, 0, 0, 0, 0xa]));

        ip("link set near address 02:00:00:00:00:0b");
        assert_eq!(loaded.follow_interfaces(), [], "it is attached as it was");
        assert_eq!(known_interfaces(&loaded), only([2, 0, 0, 0, 0, 0xb]));

        ip("link del near");
        assert_eq!(loaded.follow_interfaces().len(), 1);
        assert_eq!(known_interfaces(&loaded), BTreeMap::new());

        ip("link add near address 02:00:00:00:00:0c type veth peer name far");
        loaded.follow_interfaces();
        let now: Vec<_> = known_interfaces(&loaded).into_values().collect();
        assert_eq!(now, [[2, 0, 0, 0, 0, 0xc]]);
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_not_there_is_named() {
    with_interfaces(|| match attach(&["near", "eth9"], AttachMode::Auto) {
        Err(Error::UnknownInterface { name }) => {
            assert_eq!(name, "eth9");
            assert!(
                !ip("link show near").contains("xdp"),
                "nothing stays attached"
            );
        }
        other => panic!("expected UnknownInterface, got {:?}", other.err()),
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_taken_says_by_what_and_how_to_free_it() {
    with_interfaces(|| {
        let _first = attach(&["near"], AttachMode::Generic).expect("attaches");
        let error = attach(&["near"], AttachMode::Generic)
            .err()
            .expect("one program at a time");
        let message = error.to_string();
        assert!(
            message.contains("near") && message.contains("xdp off"),
            "{message}"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn nothing_stays_attached_where_one_interface_refuses_and_the_next_state_tries_again() {
    with_interfaces(|| {
        let taken = attach(&["far"], AttachMode::Generic).expect("attaches");
        let mut second = load(&["near", "far"], AttachMode::Generic).expect("loads");
        second
            .apply(&DesiredState::default())
            .expect_err("one program at a time");
        assert!(!ip("link show near").contains("xdp"), "all or none");
        assert_eq!(second.attachments(), []);
        drop(taken);
        second
            .apply(&DesiredState::default())
            .expect("now it is free");
        assert_eq!(second.attachments().len(), 2);
        assert!(ip("link show near").contains("xdp"));
    });
}

/// The reason why native mode is refused on `interface`.
fn refusal(interface: &str) -> String {
    let error = attach(&[interface], AttachMode::Native).err();
    error.expect("native mode is refused").to_string()
}

#[test]
#[ignore = "needs root"]
fn what_cannot_do_native_mode_says_so_in_the_kernels_words() {
    with_interfaces(|| {
        let message = refusal("lo");
        let words = "underlying driver does not support xdp in native mode";
        assert!(message.to_lowercase().contains(words), "{message}");
        assert!(!ip("link show lo").contains("xdp"), "nothing is attached");
    });
}

#[test]
#[ignore = "needs root"]
fn a_driver_that_could_if_it_were_set_up_otherwise_says_what_is_wrong() {
    with_interfaces(|| {
        // Two queues would send to one.
        let set = std::process::Command::new("ethtool")
            .args(["-L", "far", "tx", "2"])
            .status();
        if !set.is_ok_and(|status| status.success()) {
            // A virtual machine of `cargo xtask test-kernels` has one processor.
            netbed::skip!("ethtool cannot give a veth another queue");
        }
        let message = refusal("near");
        assert!(message.contains("peer tx queues"), "{message}");
        assert!(message.contains("ethtool -L"), "{message}");
        assert!(!ip("link show near").contains("xdp"), "nothing is attached");
    });
}

/// Leaves the thread no more than these capabilities, by their numbers.
fn keep_capabilities(numbers: &[u32]) {
    const VERSION_3: u32 = 0x2008_0522;
    let kept = numbers
        .iter()
        .fold(0_u64, |kept, number| kept | 1 << number);
    let header = [VERSION_3, 0];
    // Effective, permitted, inheritable; the low halves, then the high ones.
    let words = [kept as u32, (kept >> 32) as u32];
    let data = words.map(|word| [word, word, 0]);
    // SAFETY: both are laid out as capset(2) says, and live until it returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_capset,
            header.as_ptr(),
            data.as_ptr().cast::<u32>(),
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
#[ignore = "needs root"]
fn three_capabilities_are_enough() {
    // linux/capability.h.
    const NET_ADMIN: u32 = 12;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    with_interfaces(|| {
        keep_capabilities(&[NET_ADMIN, PERFMON, BPF]);
        load_and_apply();
    });
}

fn load_and_apply() {
    let mut dataplane = load(&["near"], AttachMode::Auto).expect("loads");
    assert!(
        !ip("link show near").contains("xdp"),
        "nothing is attached before there is a state"
    );
    let desired = DesiredState {
        services: vec![Service {
            protocol: Protocol::Tcp,
            address: "172.16.1.200:1935".parse().expect("an address"),
            scheduler: Scheduler::Lc,
            hash_port: false,
            hash_fallback: false,
            one_packet: false,
            persistence: None,
            orphans: OrphanPolicy::Reset,
            sloppy: false,
            servers: Vec::new(),
        }],
        ..DesiredState::default()
    };
    dataplane
        .apply(&desired)
        .expect("the state is applied, and the program attached");
    assert!(ip("link show near").contains("xdp"));
    let remembered = dataplane.conntrack_snapshot();
    let (_, counts) = remembered.sweep().expect("the tables are swept");
    dataplane
        .correct_loads(&counts)
        .expect("the loads are written");
    dataplane.statistics(&counts).expect("counters are read");
    assert_eq!(dataplane.follow_interfaces(), []);
}
