//! The threads that streams are pulled on.

use std::future::pending;
use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::config::Role;

/// Where streams are pulled: at an edge, on `count` threads of their own.
///
/// Players that come in masses keep the others busy with handshakes and
/// commands; what they come for would wait its turn behind them at every step
/// of its way here, and so would the pictures of those who play already.
///
/// The threads live as long as the tokio runtime within which this is called.
///
/// # Errors
/// No thread or descriptor left.
pub fn start(role: Role, count: usize) -> io::Result<Handle> {
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

/// Dropped, they end. Nobody waits for them: tasks must not.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
