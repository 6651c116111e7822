//! Loading the program and attaching it to interfaces.

use std::ffi::CString;
use std::io;

use aya::maps::MapError;
use aya::programs::{ProgramError, TestRun as _, TestRunOptions, Xdp, XdpMode};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use lb_common::{HALVES, maps};

use super::description::geometry;
use super::rings::is_prime;
use super::{AttachMode, Attachment, Error, Options, TableSizes, TestRun};

/// The program as `cargo xtask build-ebpf` left it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LB_EBPF_OBJECT"));

const PROGRAM: &str = "millrace";

/// The first kernel with everything that the program needs; what came last is
/// frames in several buffers (`BPF_F_XDP_HAS_FRAGS`).
const OLDEST_KERNEL: KernelVersion = KernelVersion::new(5, 18, 0);

/// Driver that delivers what native XDP transmits only under conditions.
const VETH: &str = "veth";

/// Creates the maps and has the program verified.
pub fn load(options: &Options) -> Result<Ebpf, Error> {
    if !is_prime(options.tables.maglev_places) {
        return Err(Error::MaglevNotPrime {
            places: options.tables.maglev_places,
        });
    }
    raise_locked_memory_limit();
    let geometry = geometry(&options.tables);
    let mut loader = EbpfLoader::new();
    loader
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global(maps::GEOMETRY, &geometry, true);
    for (name, entries) in capacities(&options.tables) {
        loader.map_max_entries(name, entries);
    }
    let mut ebpf = loader.load(OBJECT).map_err(load_error)?;
    program(&mut ebpf)
        .load()
        .map_err(|error| load_error(error.into()))?;
    Ok(ebpf)
}

/// The loaded program.
pub fn program(ebpf: &mut Ebpf) -> &mut Xdp {
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
pub fn id(ebpf: &Ebpf) -> u32 {
    xdp(ebpf)
        .info()
        .expect("the kernel tells of a program that we hold")
        .id()
}

/// Runs the program on `frame` (BPF_PROG_TEST_RUN).
pub fn test_run(ebpf: &Ebpf, frame: &[u8], repeat: u32) -> Result<TestRun, Error> {
    // Room for what a program may put in front.
    let mut out = vec![0; frame.len() + 256];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        repeat,
        ..TestRunOptions::default()
    };
    let result = xdp(ebpf)
        .test_run(options)
        .map_err(|error| Error::TestRun(Box::new(error)))?;
    out.truncate(result.data_size_out as usize);
    Ok(TestRun {
        action: result.return_value,
        frame: out,
        duration: result.duration,
    })
}

fn capacities(sizes: &TableSizes) -> [(&'static str, u32); 14] {
    let geometry = geometry(sizes);
    [
        (maps::DIRECTORY, geometry.directory_places * HALVES),
        (maps::SERVICES, geometry.services * HALVES),
        (maps::SERVERS, geometry.servers * HALVES),
        (maps::RINGS, geometry.ring_places * HALVES),
        (maps::CURSORS, sizes.services),
        (maps::FLOWS, sizes.connections),
        (maps::HALF_OPEN, sizes.half_open),
        (maps::TEMPLATES, sizes.templates),
        (maps::NEW_TEMPLATES, sizes.half_open),
        (maps::FRAGMENTS, sizes.fragments),
        (maps::LOADS, sizes.servers),
        (maps::LOAD_CORRECTIONS, sizes.servers),
        (maps::SERVER_COUNTERS, sizes.servers),
        (maps::HALVES, HALVES),
    ]
}

/// Kernels before 5.11 count maps as locked memory. Where the limit may not be
/// raised, the load itself tells whether that matters.
fn raise_locked_memory_limit() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        log::debug!("cannot raise RLIMIT_MEMLOCK: {error}");
    }
}

fn load_error(error: EbpfError) -> Error {
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

/// What an older kernel says of what it does not know helps nobody.
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

/// Attaches `program` to `interface` as `mode` asks. Detached on drop of the
/// program.
pub fn attach(program: &mut Xdp, interface: &str, mode: AttachMode) -> Result<Attachment, Error> {
    let interface_index = index_of(interface)?;
    let attached = |mode, native_refused| Attachment {
        interface: interface.to_owned(),
        interface_index,
        mode,
        native_refused,
    };
    let native_refused = match mode {
        AttachMode::Generic => None,
        AttachMode::Native => {
            return match try_attach(program, interface_index, XdpMode::Driver) {
                Ok(()) => Ok(attached(AttachMode::Native, None)),
                Err(reason) => Err(Error::Attach {
                    interface: interface.to_owned(),
                    mode: "native",
                    reason,
                }),
            };
        }
        AttachMode::Auto if driver_of(interface).is_some_and(|driver| driver == VETH) => Some(
            "a veth pair delivers what native XDP transmits only if the peer runs an XDP \
             program too; ask for native mode where it does"
                .to_owned(),
        ),
        AttachMode::Auto => match try_attach(program, interface_index, XdpMode::Driver) {
            Ok(()) => return Ok(attached(AttachMode::Native, None)),
            Err(reason) => Some(reason),
        },
    };
    match try_attach(program, interface_index, XdpMode::Skb) {
        Ok(()) => Ok(attached(AttachMode::Generic, native_refused)),
        Err(reason) => Err(Error::Attach {
            interface: interface.to_owned(),
            mode: "generic",
            reason,
        }),
    }
}

fn try_attach(program: &mut Xdp, interface_index: u32, mode: XdpMode) -> Result<(), String> {
    let error = match program.attach_to_if_index(interface_index, mode) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let code = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    Err(match code {
        Some(nix::libc::EBUSY) => "another XDP program is attached; `ip link` shows it, \
                                   `ip link set … xdp off` removes it"
            .to_owned(),
        Some(nix::libc::EOPNOTSUPP) => "the driver has no native XDP".to_owned(),
        Some(nix::libc::EPERM) => "this needs CAP_NET_ADMIN and CAP_BPF".to_owned(),
        _ => with_causes(&error),
    })
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn index_of(interface: &str) -> Result<u32, Error> {
    nix::net::if_::if_nametoindex(interface).map_err(|_| Error::UnknownInterface {
        name: interface.to_owned(),
    })
}

/// Name of the driver of `interface`, as `ethtool -i` shows it.
fn driver_of(interface: &str) -> Option<String> {
    use nix::libc;
    use std::os::fd::AsRawFd as _;

    /// `struct ethtool_drvinfo` of linux/ethtool.h.
    #[repr(C)]
    struct DriverInformation {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    const ETHTOOL_GDRVINFO: u32 = 3;

    let name = CString::new(interface).ok()?;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").ok()?;
    let mut information = DriverInformation {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: an `ifreq` is plain data for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut information).cast();
    // SAFETY: the request names a structure of the size that this command
    // fills, and both live until the call returns.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    let driver = information.driver.split(|byte| *byte == 0).next()?;
    (result == 0).then(|| String::from_utf8_lossy(driver).into_owned())
}
