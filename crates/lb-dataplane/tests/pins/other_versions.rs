//! Maps that another version has left.

use std::fs;

use aya::maps::{Array, HashMap, Map, MapData};
use lb_abi::{Flow, FlowKey, LAYOUT_VERSION, Layout, MEMORY_VERSION, maps};
use lb_dataplane::Origin;
use packet_bed::frames::*;
use packet_bed::{Verdict, small_tables};

use crate::{agent, alone, check_that_viewers_stay, deployment, options, set, with_viewers};

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
