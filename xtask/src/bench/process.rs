//! The programs that are measured: built, started on their cores, ended.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use testbed::BIN_DIR_VARIABLE;

/// Debian's nginx.
pub(crate) const NGINX: &str = "/usr/sbin/nginx";
/// Its module nginx-rtmp, package `libnginx-mod-rtmp`.
pub(crate) const NGINX_RTMP: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
/// The most connections that servers are told to allow.
pub(crate) const MAX_CONNECTIONS: u32 = 20_000;
/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Builds these packages, or looks whether their programs are there, and says
/// where: those of `MILLRACE_BIN_DIR`, if that is set, are not built.
///
/// # Errors
/// If that fails.
pub(crate) fn build(skip: bool, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let given = std::env::var_os(BIN_DIR_VARIABLE).map(PathBuf::from);
    let skip = skip || given.is_some();
    let binaries = match given {
        Some(folder) => folder,
        None => target_folder()?.join("release"),
    };
    if skip {
        for program in packages.iter().map(|name| binaries.join(name)) {
            if !program.exists() {
                bail!(
                    "{} is not there; leave --no-build out to have it built",
                    program.display()
                );
            }
        }
        return Ok(binaries);
    }
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    cargo_build(&packages.collect::<Vec<_>>())?;
    Ok(binaries)
}

/// A release build.
///
/// # Errors
/// If it fails.
pub(crate) fn cargo_build(arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["build", "--release"]).args(arguments);
    if !command.status().context("starting cargo")?.success() {
        bail!("the release build failed");
    }
    Ok(())
}

/// This program lies in `target/PROFILE/`.
fn target_folder() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let folder = exe.parent().and_then(|profile| profile.parent());
    folder
        .map(PathBuf::from)
        .context("this program lies in no target folder")
}

/// The servers and the load generator inherit what is allowed here.
///
/// # Errors
/// If the limit cannot be raised.
pub(crate) fn allow_open_files() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

/// A command that will run on these cores only, all its threads from the first
/// instruction on; if `realtime`, before all else (`SCHED_FIFO`).
pub(crate) fn pinned(cores: &str, realtime: bool) -> Command {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", cores]);
    if realtime {
        command.args(["chrt", "--fifo", "1"]);
    }
    command
}

/// Starts a server and waits until it listens on a port of loopback; its output
/// goes to a file in `scratch`.
///
/// # Errors
/// If it ends or does not listen.
pub(crate) fn spawn(mut command: Command, port: u16, scratch: &Path) -> anyhow::Result<Child> {
    let log = scratch.join(format!("server-{port}.log"));
    let output = fs::File::create(&log)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .context("starting a server through taskset (Debian: util-linux)")?;
    let deadline = Instant::now() + START;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!(
                "{command:?} ended: {status}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
        if Instant::now() > deadline {
            end(&mut child);
            bail!(
                "{command:?} does not listen on port {port} after {} s",
                START.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(child)
}

/// nginx's master ends its worker when it is asked to, and leaves it behind
/// when it is killed.
pub(crate) fn end(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    // It may have ended by itself.
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let deadline = Instant::now() + START;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// If there is none.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The one child of a process, such as nginx's worker.
///
/// # Errors
/// If it has none.
pub(crate) fn only_child(pid: u32) -> anyhow::Result<u32> {
    let deadline = Instant::now() + START;
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.parse()?);
        }
        if Instant::now() > deadline {
            bail!("process {pid} has no worker process");
        }
        thread::sleep(Duration::from_millis(10));
    }
}
