//! The thread that starts programs.

use std::io;
use std::process::Stdio;
use std::sync::mpsc;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::starts::starting;

/// Variables by which systemd takes a process for the service itself (sd_notify(3)).
const OF_THE_SERVICE: [&str; 4] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_FDS",
];

/// An order to start a program.
struct Order {
    command: Command,
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// Starts programs that end with this process, however it ends: the kernel kills them when
/// the thread that has started them ends (`PR_SET_PDEATHSIG`, prctl(2)), which is
/// therefore one that lives as long as this.
#[derive(Debug)]
pub struct Launcher {
    orders: mpsc::Sender<Order>,
}

impl Launcher {
    /// Starts the thread.
    ///
    /// # Errors
    /// No thread is left.
    pub fn start() -> io::Result<Self> {
        let (orders, received) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("launcher".to_owned())
            .spawn(move || {
                for mut order in received {
                    let _within = order.runtime.enter();
                    let _starting = starting();
                    // An error means that nobody waits for it: dropped, it is killed.
                    let _ = order.answer.send(order.command.spawn());
                }
            })?;
        Ok(Self { orders })
    }

    /// Starts a program, with nothing to read, in a process group of its own. What it
    /// writes goes nowhere unless `command` says where.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn launch(&self, mut command: Command) -> io::Result<Child> {
        command
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        for variable in OF_THE_SERVICE {
            command.env_remove(variable);
        }
        end_with_parent(&mut command);
        let (answer, answered) = oneshot::channel();
        let runtime = Handle::current();
        let order = Order {
            command,
            runtime,
            answer,
        };
        let gone = || io::Error::other("the thread that starts programs has ended");
        self.orders.send(order).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// Has the kernel kill the program when the thread that starts it ends.
#[expect(unsafe_code, reason = "what a child does before it is the program")]
fn end_with_parent(command: &mut Command) {
    // SAFETY: the closure makes one system call (prctl(2)), allocates nothing and takes no
    // lock: it may run in a child of a process with threads (fork(2), signal-safety(7)).
    unsafe {
        command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?));
    }
}
