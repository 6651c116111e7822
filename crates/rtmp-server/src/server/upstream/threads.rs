//! The runtime that streams are pulled on.

use std::future::pending;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::Role;

/// Starts the runtime for pulls: at an edge `count` threads of its own, at an
/// origin the present runtime.
///
/// Thousands of players that join at once keep the other threads busy with
/// handshakes and commands. Pulls on the same threads would wait behind them at
/// every step, and with them the media of those who play already.
///
/// The threads live as long as the tokio runtime within which this is called.
///
/// # Errors
/// No thread or descriptor left.
pub(in crate::server) fn start(role: Role, count: usize) -> io::Result<Handle> {
    if role == Role::Origin {
        return Ok(Handle::current());
    }
    let mut builder = Builder::new_multi_thread();
    let builder = builder.enable_all().worker_threads(count);
    let runtime = builder.thread_name("pull").build()?;
    let handle = runtime.handle().clone();
    let threads = Threads(Some(runtime));
    tokio::spawn(async move {
        let _threads = threads;
        pending::<()>().await;
    });
    Ok(handle)
}

/// Owns the threads: dropped, they end. The drop does not wait for them, since a
/// task must not block.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
