//! Loading the program and making its maps.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aya::maps::lpm_trie::Key;
use aya::maps::{MapData, MapError};
use aya::programs::{ProgramError, TestRunOptions, TestRunResult, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_obj::{Map, Object, ParseError};
use landlock::{
    AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus,
};
use lb_abi::{
    Address, DirectoryEntry, Flow, FlowKey, FragmentKey, FragmentTarget, HandshakeCounters,
    LAYOUT_VERSION, Layout, Load, MEMORY_VERSION, PeerKey, Protection, REASONS, Server,
    ServerCounters, ServerOwner, ServiceOwner, TABLE_GENERATIONS, TableHeader, Template,
    TemplateKey, maps,
};
use nix::time::{ClockId, clock_getres};

use super::peers::max_keys;
use super::pins::PinnedSet;
use super::rings::is_prime;
use super::service_table::geometry;
use super::{Error, TableSizes, TestRun, trace};

/// The program as `cargo xtask build-ebpf` left it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_EBPF_OBJECT"));

const PROGRAM: &str = "millrace";

/// The first kernel with everything that the program needs; what came last is
/// frames in several buffers (`BPF_F_XDP_HAS_FRAGS`).
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 18, 0);

/// Creates the maps and has the program verified. With `set`, the maps are
/// those that are pinned there, and are pinned there if they are not. With
/// `trace`, the program tells its decisions.
pub(crate) fn load(
    tables: &TableSizes,
    set: Option<&PinnedSet>,
    trace: bool,
) -> Result<Ebpf, Error> {
    if !is_prime(tables.maglev_places) {
        return Err(Error::MaglevNotPrime {
            places: tables.maglev_places,
        });
    }
    raise_locked_memory_limit();
    let object = PARSED.take().map_err(|error| load_error(error.into()))?;
    if let Some(set) = set {
        make_maps(tables, set, &object)?;
    }
    drop(object);
    let geometry = geometry(tables);
    let tick_ns = tick_ns();
    let trace = trace::Setting::new(trace);
    let mut loader: EbpfLoader<'_> = LOADER.take();
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(maps::GEOMETRY, &geometry, true)
        .override_global(maps::TICK_NS, &tick_ns, true);
    trace.give(&mut loader);
    for (name, shape) in shapes(tables) {
        loader.map_max_entries(name, shape.entries);
        if let Some(set) = set {
            loader.map_pin_path(name, set.map(name));
        }
    }
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    program(&mut ebpf)
        .load()
        .map_err(|error| load_error(error.into()))?;
    Ok(ebpf)
}

/// Makes the maps of `object` that `set` lacks, where the loader finds them. The loader would do
/// it as well, but one after the other; the kernel takes some 40 ms of a processor for clearing
/// their memory. These have no types of their own (BTF), which nobody asks for but
/// `bpftool map dump`.
fn make_maps(tables: &TableSizes, set: &PinnedSet, object: &Object) -> Result<(), Error> {
    let all = shapes(tables).into_iter();
    let mut missing: Vec<_> = all.filter(|(name, _)| !set.map(name).exists()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    // The largest first, so that none is left over when all others are made.
    missing.sort_by_key(|(_, shape)| Reverse(shape.bytes()));
    let missing = Mutex::new(missing.into_iter());
    let next = || {
        missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    let make_rest = || -> Result<(), MapError> {
        while let Some((name, shape)) = next() {
            make_map(object, name, shape, set)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("maps".to_owned());
        // Without the thread we make all of them.
        let helper = helper.spawn_scoped(scope, make_rest);
        let ours = make_rest();
        let theirs = helper.map(|helper| helper.join().expect("it does not panic"));
        ours.and(theirs.unwrap_or(Ok(())))
    })
    .map_err(|error| load_error(error.into()))
}

/// Makes one map of `object`, and pins it.
fn make_map(
    object: &Object,
    name: &'static str,
    shape: Shape,
    set: &PinnedSet,
) -> Result<(), MapError> {
    let Some(declared) = object.maps.get(name) else {
        return Ok(());
    };
    let map = Map::new_from_params(
        declared.map_type(),
        declared.key_size(),
        declared.value_size(),
        shape.entries,
        declared.map_flags(),
    );
    let map = MapData::create(map, name, None)?;
    map.pin(set.map(name)).map_err(|error| MapError::PinError {
        name: Some(name.to_owned()),
        error,
    })
}

/// Begins what loading needs that depends on no configuration, in threads of its own, while the
/// caller does what has to be done before. [`Dataplane::load`] finds it done.
///
/// [`Dataplane::load`]: crate::Dataplane::load
pub fn warm_up() {
    PARSED.begin();
    LOADER.begin();
}

/// The embedded object.
static PARSED: Prepared<Result<Object, ParseError>> = Prepared::new(|| Object::parse(OBJECT));

static LOADER: Prepared<EbpfLoader<'static>> = Prepared::new(|| {
    // What the kernel can do, which is kept for all threads; reads files, too.
    aya::features();
    if let Err(error) = deny_reading() {
        log::debug!("the kernel's types will be read: {error}");
    }
    let mut loader = EbpfLoader::new();
    // The program refers to none of the kernel's types (BTF).
    loader.btf(None);
    loader
});

/// What a thread of its own makes, before it is needed or when it is.
struct Prepared<T: 'static> {
    make: fn() -> T,
    begun: Mutex<Option<JoinHandle<T>>>,
}

impl<T: Send> Prepared<T> {
    const fn new(make: fn() -> T) -> Self {
        let begun = Mutex::new(None);
        Self { make, begun }
    }

    fn begin(&self) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.get_or_insert_with(|| thread::spawn(self.make));
    }

    fn take(&self) -> T {
        self.begin();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let thread = begun.take().expect("begun above");
        thread.join().expect("it does not panic")
    }
}

/// Takes the right to read files from the calling thread, for good; other threads keep it.
///
/// aya 0.14 makes no loader without reading the kernel's types, 5 MB, which takes some 28 ms of
/// a processor that makes maps meanwhile. It goes on without them where they cannot be read.
///
/// # Errors
/// The kernel has no Landlock (landlock(7)), or does not use it.
fn deny_reading() -> Result<(), RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::ReadFile)?
        .create()?
        .restrict_self()?;
    debug_assert_eq!(status.ruleset, RulesetStatus::FullyEnforced);
    Ok(())
}

/// Nanoseconds from one timer tick to the next: the resolution of the coarse
/// clocks (clock_getres(2)).
fn tick_ns() -> u64 {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).expect("Linux has this clock");
    Duration::from(tick).as_nanos() as u64
}

/// The loaded program.
pub(crate) fn program(ebpf: &mut Ebpf) -> &mut Xdp {
    let program = ebpf
        .program_mut(PROGRAM)
        .expect("the embedded object has our program");
    program.try_into().expect("our program is an XDP program")
}

fn xdp(ebpf: &Ebpf) -> &Xdp {
    let program = ebpf
        .program(PROGRAM)
        .expect("the embedded object has our program");
    program.try_into().expect("our program is an XDP program")
}

/// The kernel's number of the loaded program.
pub(crate) fn id(ebpf: &Ebpf) -> u32 {
    xdp(ebpf)
        .info()
        .expect("the kernel tells of a program that we hold")
        .id()
}

/// Runs the program on `frame` (BPF_PROG_TEST_RUN).
pub(crate) fn test_run(ebpf: &Ebpf, frame: &[u8], repeat: u32) -> Result<TestRun, Error> {
    run_on(xdp(ebpf), frame, repeat)
}

/// Runs a program of any kind that reads frames on `frame` (BPF_PROG_TEST_RUN).
pub(crate) fn run_on<P>(program: &P, frame: &[u8], repeat: u32) -> Result<TestRun, Error>
where
    P: for<'a> aya::programs::TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    // Room for what a program may put in front.
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat,
        ..TestRunOptions::default()
    };
    let result = program
        .test_run(options)
        .map_err(|error| Error::TestRun(Box::new(error)))?;
    out.truncate(result.data_size_out as usize);
    Ok(TestRun {
        action: result.return_value,
        frame: out,
        duration: result.duration,
    })
}

/// The layout of the maps that [`load`] makes.
pub(crate) fn layout() -> Layout {
    Layout {
        version: LAYOUT_VERSION,
        memory_version: MEMORY_VERSION,
    }
}

/// Sizes of a map's keys and values, and its capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Size of a key.
    pub key_bytes: u32,
    /// Size of a value.
    pub value_bytes: u32,
    /// Capacity.
    pub entries: u32,
}

impl Shape {
    fn of<K, V>(entries: u32) -> Self {
        Self {
            key_bytes: size_of::<K>() as u32,
            value_bytes: size_of::<V>() as u32,
            entries,
        }
    }

    /// Bytes of all entries.
    fn bytes(&self) -> u64 {
        u64::from(self.key_bytes + self.value_bytes) * u64::from(self.entries)
    }

    /// Returns true if entries of the other map can be written to this one.
    pub(crate) fn has_entries_like(&self, other: &Self) -> bool {
        (self.key_bytes, self.value_bytes) == (other.key_bytes, other.value_bytes)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} entries of {} and {} bytes",
            self.entries, self.key_bytes, self.value_bytes
        )
    }
}

/// Every map that is pinned, with its shape for tables of `sizes`.
pub(crate) fn shapes(sizes: &TableSizes) -> [(&'static str, Shape); maps::PINNED.len()] {
    let geometry = geometry(sizes);
    let places = geometry.directory_places * TABLE_GENERATIONS;
    [
        (maps::LAYOUT, Shape::of::<u32, Layout>(1)),
        (maps::HEAD, Shape::of::<u32, TableHeader>(1)),
        (maps::DIRECTORY, Shape::of::<u32, DirectoryEntry>(places)),
        (
            maps::SERVERS,
            Shape::of::<u32, Server>(geometry.servers * TABLE_GENERATIONS),
        ),
        (
            maps::RINGS,
            Shape::of::<u32, u32>(geometry.ring_places * TABLE_GENERATIONS),
        ),
        (maps::CURSORS, Shape::of::<u32, u64>(sizes.services)),
        (
            maps::PEERS,
            Shape::of::<PeerKey, u32>(max_keys(sizes.servers)),
        ),
        (maps::PROTECTION, Shape::of::<u32, Protection>(1)),
        (maps::DENIED_V4, Shape::of::<Key<u32>, u32>(sizes.denied)),
        (
            maps::DENIED_V6,
            Shape::of::<Key<Address>, u32>(sizes.denied),
        ),
        (maps::PROVEN, Shape::of::<Address, u64>(sizes.proven)),
        (maps::RATES, Shape::of::<Address, u64>(sizes.rates)),
        (maps::HANDSHAKES, Shape::of::<u32, HandshakeCounters>(1)),
        (maps::FLOWS, Shape::of::<FlowKey, Flow>(sizes.connections)),
        (maps::HALF_OPEN, Shape::of::<FlowKey, Flow>(sizes.half_open)),
        (
            maps::TEMPLATES,
            Shape::of::<TemplateKey, Template>(sizes.templates),
        ),
        (
            maps::NEW_TEMPLATES,
            Shape::of::<TemplateKey, Template>(sizes.half_open),
        ),
        (
            maps::FRAGMENTS,
            Shape::of::<FragmentKey, FragmentTarget>(sizes.fragments),
        ),
        (maps::LOADS, Shape::of::<u32, Load>(sizes.servers)),
        (
            maps::LOAD_CORRECTIONS,
            Shape::of::<u32, Load>(sizes.servers),
        ),
        (maps::FULL, Shape::of::<u32, u32>(sizes.servers)),
        (
            maps::SERVER_COUNTERS,
            Shape::of::<u32, ServerCounters>(sizes.servers),
        ),
        (maps::REASONS, Shape::of::<u32, u64>(REASONS.len() as u32)),
        (
            maps::SERVICE_OWNERS,
            Shape::of::<u32, ServiceOwner>(sizes.services),
        ),
        (
            maps::SERVER_OWNERS,
            Shape::of::<u32, ServerOwner>(sizes.servers),
        ),
    ]
}

/// Kernels before 5.11 count maps as locked memory. Where the limit may not be
/// raised, the load itself tells whether that matters.
pub(crate) fn raise_locked_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        log::debug!("cannot raise RLIMIT_MEMLOCK: {error}");
    }
}

pub(crate) fn load_error(error: EbpfError) -> Error {
    let code = match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. })
        | EbpfError::ProgramError(ProgramError::LoadError { io_error, .. }) => {
            io_error.raw_os_error()
        }
        _ => None,
    };
    if code == Some(nix::libc::EPERM) {
        return Error::MissingCapability {
            operation: "to load an XDP program",
            capabilities: "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)",
        };
    }
    if let Some(error) = unsupported_kernel(&error) {
        return error;
    }
    match error {
        EbpfError::ProgramError(ProgramError::LoadError { verifier_log, .. }) => Error::Verifier {
            log: last_lines(&verifier_log.to_string(), 30),
        },
        other => Error::Load(Box::new(other)),
    }
}

/// An older kernel's error for a feature that it does not know, in clear terms: its own
/// is no help.
fn unsupported_kernel(error: &EbpfError) -> Option<Error> {
    let EbpfError::ProgramError(ProgramError::LoadError { io_error, .. }) = error else {
        return None;
    };
    let running = KernelVersion::current().ok()?;
    (running < OLDEST_KERNEL).then(|| Error::MissingKernelFeature {
        release: kernel_release(),
        feature: "XDP programs for frames in several buffers",
        since: "5.18",
        source: Box::new(io::Error::from(io_error.kind())),
    })
}

fn kernel_release() -> String {
    let release = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    if release.is_empty() {
        "of unknown release".to_owned()
    } else {
        release
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_refers_to_no_type_of_the_kernel() {
        let object = Object::parse(OBJECT).expect("it can be parsed");
        assert!(
            !object.has_btf_relocations(),
            "a loader without the kernel's types would leave the relocations out"
        );
    }

    #[test]
    fn a_thread_that_denies_itself_to_read_leaves_others_alone() {
        let read = || std::fs::read("/proc/self/status").map_err(|error| error.kind());
        let denied = thread::spawn(move || {
            deny_reading().expect("the kernel has Landlock");
            read()
        });
        let denied = denied.join().expect("it does not panic");
        assert_eq!(denied, Err(io::ErrorKind::PermissionDenied));
        assert!(read().is_ok());
    }
}
