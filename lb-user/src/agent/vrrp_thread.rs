//! A thread for the virtual routers: their adverts go out in time whatever the
//! agent's loop is busy with. Loading the program takes the kernel's verifier a
//! second, carrying a million connections over several; adverts may be due every
//! 10 ms.

use std::convert::Infallible;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use vrrp::{Prepared, Settings, Vrrp};

/// The thread. Whatever still runs on it when this is dropped ends.
#[derive(Debug)]
pub(super) struct VrrpThread {
    runtime: Handle,
    /// `None` once virtual routers have been started.
    prepared: Option<JoinHandle<io::Result<Prepared>>>,
    _alive: oneshot::Sender<Infallible>,
}

impl VrrpThread {
    /// Starts it, and has it prepare what virtual routers need while the rest of the agent
    /// starts.
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
            prepared: Some(handle.spawn(Prepared::new())),
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
        &mut self,
        settings: Settings,
        masters: Vec<String>,
    ) -> io::Result<Vrrp> {
        let prepared = self.prepared.take();
        let started = self.runtime.spawn(async move {
            let prepared = match prepared {
                Some(prepared) => prepared.await.map_err(io::Error::other)??,
                None => Prepared::new().await?,
            };
            Ok(prepared.resume(settings, masters))
        });
        started.await.map_err(io::Error::other)?
    }
}
