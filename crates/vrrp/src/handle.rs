//! The virtual routers as the rest of a program sees them.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::driver::{Command, Driver};
use super::event::Event;
use super::settings::Settings;
use super::status::InstanceStatus;
use netlink::interfaces::Watcher;

/// All virtual routers of this machine. Dropped, they stop as with
/// [`stop`](Self::stop), but nobody waits for it.
#[derive(Debug)]
pub struct Vrrp {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<()>,
}

/// What virtual routers need of the kernel before they start: netlink sockets, and the
/// interfaces as they are and become.
#[derive(Debug)]
pub struct Prepared {
    watcher: Watcher,
    netlink: netlink::Connection,
}

impl Prepared {
    /// Opens the sockets and reads the interfaces; must be called within the tokio runtime
    /// in which the virtual routers are to run.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub async fn new() -> io::Result<Self> {
        Ok(Self {
            watcher: Watcher::start().await?,
            netlink: netlink::Connection::open()?,
        })
    }

    /// Starts the virtual routers, as [`Vrrp::resume`].
    pub fn resume(self, settings: Settings, masters: Vec<String>) -> Vrrp {
        let (commands, incoming) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let driver = Driver::new(self.watcher, self.netlink, sender, masters);
        let task = tokio::spawn(driver.run(settings, incoming));
        Vrrp {
            commands,
            events,
            task,
        }
    }
}

impl Vrrp {
    /// Starts the virtual routers; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no netlink socket. What a single virtual router misses
    /// makes it enter `fault`, and is no error.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        Self::resume(settings, Vec::new()).await
    }

    /// As [`Self::start`], after an earlier run has handed over, being master of
    /// `masters`: these go on as if nothing had happened, provided that their
    /// addresses are still there.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn resume(settings: Settings, masters: Vec<String>) -> io::Result<Self> {
        Ok(Prepared::new().await?.resume(settings, masters))
    }

    /// Waits for the next change of state. May be dropped without losing one.
    /// Never returns once everything has stopped.
    pub async fn next_event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Replaces the settings: virtual routers that stay keep their state, those
    /// that are gone stop. Returns the changes of state that
    /// [`next_event`](Self::next_event) has not returned, up to the last of those
    /// that are gone.
    pub async fn reload(&mut self, settings: Settings) -> Vec<Event> {
        let (sender, done) = oneshot::channel();
        // The task ends only with `stop`.
        let _ = self.commands.send(Command::Reload(settings, sender));
        let _ = done.await;
        self.fetch_all()
    }

    fn fetch_all(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Sets the addresses at which a service has lost its quorum, for the virtual
    /// routers that track that; none at first. A quorum that is regained counts
    /// after `settling`.
    pub fn set_quorum_lost(&self, addresses: BTreeSet<IpAddr>, settling: Duration) {
        // The task ends only with `stop`.
        let _ = self
            .commands
            .send(Command::SetQuorumLost(addresses, settling));
    }

    /// All virtual routers at the moment, as configured.
    pub async fn status(&self) -> Vec<InstanceStatus> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Status(sender));
        receiver.await.unwrap_or_default()
    }

    /// Ends without a change for the network: addresses stay, and masters send a
    /// last advert with their priority. Returns the masters' names, for
    /// [`Self::resume`].
    pub async fn hand_over(self) -> Vec<String> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::HandOver(sender));
        let masters = receiver.await.unwrap_or_default();
        if let Err(error) = self.task.await {
            log::error!("the task that drives VRRP has failed: {error}");
        }
        masters
    }

    /// Stops: masters advertise that they leave (priority 0), and their addresses
    /// are removed. Waits for the adverts of their successors, as long as these may
    /// take by the protocol, a second or an interval: until then viewers' packets
    /// still come here. Returns the changes of state that
    /// [`next_event`](Self::next_event) has not returned, the last ones included.
    pub async fn stop(mut self) -> Vec<Event> {
        let _ = self.commands.send(Command::Stop);
        if let Err(error) = (&mut self.task).await {
            log::error!("the task that drives VRRP has failed: {error}");
        }
        self.fetch_all()
    }
}
