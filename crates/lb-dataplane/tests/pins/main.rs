//! A data plane that is kept when its agent ends, in a mount and network namespace that
//! live as long as the test's thread. Needs root.

mod adoption;
mod attachment;
mod directory;
mod other_versions;

use std::fs;
use std::path::PathBuf;

use lb_dataplane::{AttachMode, Dataplane, Options, TableSizes};
use lb_model::DesiredState;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;

use netbed::alone::ip;
use packet_bed::frames::*;
use packet_bed::{Bed, Verdict, persistent, service, state};

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

/// The number of the program on an interface, as `ip link` shows it.
fn program_on(interface: &str) -> Option<String> {
    let shown = ip(&format!("-d link show {interface}"));
    let mut words = shown.split_whitespace();
    words.find(|word| word.starts_with("prog/xdp"))?;
    words.find(|word| *word == "id")?;
    words.next().map(str::to_owned)
}
