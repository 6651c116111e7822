//! A thread that lives in network and mount namespaces of its own.
//!
//! Working through a resident thread has three merits over entering named
//! namespaces: nothing has a name that would have to be removed, tests can open
//! sockets on any host of the bed from their own process, and the root
//! directory of the owner (a chroot, say) stays as it is.

use std::any::Any;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::gettid;

type Job = Box<dyn FnOnce() + Send>;

/// Namespaces of one host, alive as long as this value or a process in them.
#[derive(Debug)]
pub(crate) struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    net: File,
    thread_id: i32,
}

impl Namespace {
    /// Creates the namespaces. What is started from within joins `pid_namespace`.
    pub(crate) fn create(name: &str, pid_namespace: &File) -> Result<Self> {
        let pid_namespace = pid_namespace
            .try_clone()
            .context("cannot duplicate a file descriptor")?;
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (report, ready) = mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let entered = enter(&pid_namespace);
                let failed = entered.is_err();
                // The creator waits for this message; it cannot have gone away.
                let _ = report.send(entered);
                if failed {
                    return;
                }
                for job in inbox {
                    job();
                }
            })
            .context("cannot start a thread")?;
        let (net, thread_id) = ready
            .recv()
            .expect("the thread reports before anything else")
            .with_context(|| format!("cannot create the namespaces of {name}"))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            net,
            thread_id,
        })
    }

    /// Runs `job` inside the namespaces and returns what it returns.
    ///
    /// Jobs of one host run one after another. They cannot start threads: their
    /// children belong to the bed's PID namespace, where threads of this
    /// process cannot be (clone(2), `EINVAL`).
    pub(crate) fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, result) = mpsc::sync_channel::<Result<T, Box<dyn Any + Send>>>(1);
        let job = Box::new(move || {
            // The receiver waits below and cannot have gone away.
            let _ = answer.send(panic::catch_unwind(AssertUnwindSafe(job)));
        });
        let jobs = self.jobs.as_ref().expect("present until drop");
        jobs.send(job).expect("the thread lives until drop");
        match result.recv().expect("the thread answers every job") {
            Ok(value) => value,
            Err(panic) => panic::resume_unwind(panic),
        }
    }

    /// A path by which `ip` finds the network namespace.
    pub(crate) fn net_path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.net.as_raw_fd()).into()
    }

    /// The directory of `/proc` that shows these namespaces.
    pub(crate) fn proc_path(&self) -> PathBuf {
        format!("/proc/{}/task/{}", process::id(), self.thread_id).into()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A job's panic has been handed to its caller already.
            let _ = thread.join();
        }
    }
}

/// Moves the calling thread into fresh namespaces.
fn enter(pid_namespace: &File) -> Result<(File, i32)> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .context("unshare(2) failed (needs root, or CAP_SYS_ADMIN)")?;
    // What is mounted from here on must not show up outside.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("cannot make the mounts private (in a chroot, bind-mount its root on itself)")?;
    // sysfs shows the network devices of the namespace that mounted it, and
    // /run holds the sockets and pid files that daemons agree about: both are
    // each host's own, as they are on real machines; so are pinned maps.
    mount_over("sysfs", Path::new("/sys"))?;
    mount_over("tmpfs", Path::new("/run"))?;
    let bpf = Path::new("/sys/fs/bpf");
    if bpf.is_dir() {
        mount_over("bpf", bpf)?;
    }
    let net = File::open("/proc/thread-self/ns/net").context("cannot open /proc")?;
    setns(pid_namespace.as_fd(), CloneFlags::CLONE_NEWPID)
        .context("cannot join the bed's PID namespace")?;
    Ok((net, gettid().as_raw()))
}

fn mount_over(kind: &str, point: &Path) -> Result<()> {
    fs::create_dir_all(point).with_context(|| format!("no directory {}", point.display()))?;
    mount(
        Some(kind),
        point,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("cannot mount {kind} on {}", point.display()))
}
