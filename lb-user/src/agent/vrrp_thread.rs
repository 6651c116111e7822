//! A thread for the virtual routers: their adverts go out in time whatever the
//! agent's loop is busy with. Loading the program takes the kernel's verifier a
//! second, carrying a million connections over several; adverts may be due every
//! 10 ms.

use std::convert::Infallible;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use vrrp::{Settings, Vrrp};

/// The thread. Whatever still runs on it when this is dropped ends.
#[derive(Debug)]
pub(super) struct VrrpThread {
    runtime: Handle,
    _alive: oneshot::Sender<Infallible>,
}

impl VrrpThread {
    /// Starts it.
    ///
    /// # Errors
    /// The system gives no thread, or nothing to wait with.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (alive, end) = oneshot::channel::<Infallible>();
        thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || {
                let _ = runtime.block_on(end);
            })?;
        Ok(Self {
            runtime: handle,
            _alive: alive,
        })
    }

    /// Starts virtual routers there; those in `masters` stay master
    /// ([`Vrrp::resume`]).
    ///
    /// # Errors
    /// As of [`Vrrp::resume`].
    pub(super) async fn resume(
        &self,
        settings: Settings,
        masters: Vec<String>,
    ) -> io::Result<Vrrp> {
        let started = self.runtime.spawn(Vrrp::resume(settings, masters));
        started.await.map_err(io::Error::other)?
    }
}
