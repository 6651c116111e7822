//! The virtual addresses and routes of one virtual router: added, removed and
//! announced in the order of the commands, by a task of its own, so that adverts
//! never wait for the kernel.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rtnetlink::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::announcement::{FrameSender, frame};
use super::routes::Routes;
use super::settings::{Pauses, VirtualAddress};
use lb_model::config::Route;
use netlink::address::{self, Added};
use netlink::interfaces::Interfaces;

/// Time that the kernel has at the end to remove the addresses.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Adds, removes and announces addresses.
#[derive(Debug)]
pub(crate) struct AddressManager {
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Add(Vec<VirtualAddress>, Vec<Route>),
    Remove(Vec<VirtualAddress>, Vec<Route>),
    Announce(Vec<VirtualAddress>, u32, Pauses),
}

impl AddressManager {
    /// Starts with nothing to do. `name` is the virtual router's.
    pub(crate) fn start(
        name: String,
        handle: Handle,
        interfaces: watch::Receiver<Arc<Interfaces>>,
    ) -> Self {
        let (commands, incoming) = mpsc::unbounded_channel();
        let worker = Worker {
            routes: Routes::new(name.clone()),
            name,
            handle,
            interfaces,
            sender: None,
            announcements: Announcements::default(),
        };
        Self {
            commands,
            task: tokio::spawn(worker.run(incoming)),
        }
    }

    /// Adds addresses, and then routes, which may need them; what is there
    /// already stays. A route that cannot be added, or is taken away, is added as
    /// soon as that is possible.
    pub(crate) fn add(&self, addresses: Vec<VirtualAddress>, routes: Vec<Route>) {
        self.send(Command::Add(addresses, routes));
    }

    /// Removes routes and then addresses, also those that an earlier run has added.
    pub(crate) fn remove(&self, addresses: Vec<VirtualAddress>, routes: Vec<Route>) {
        self.send(Command::Remove(addresses, routes));
    }

    /// Announces each address to the network `repeat` times, with these pauses.
    /// [`remove`](Self::remove) ends what is not sent yet.
    pub(crate) fn announce(&self, addresses: Vec<VirtualAddress>, repeat: u32, pauses: Pauses) {
        self.send(Command::Announce(addresses, repeat, pauses));
    }

    fn send(&self, command: Command) {
        // The task ends only with the manager itself.
        let _ = self.commands.send(command);
    }

    /// Waits until all commands are carried out.
    pub(crate) async fn finish(self) {
        drop(self.commands);
        if timeout(FINISH_TIMEOUT, self.task).await.is_err() {
            log::error!("the kernel does not remove addresses; they may still be there");
        }
    }
}

struct Worker {
    name: String,
    handle: Handle,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    sender: Option<FrameSender>,
    announcements: Announcements,
    routes: Routes,
}

/// The announcements that are still to be sent.
#[derive(Debug, Default)]
struct Announcements {
    waiting: VecDeque<Announcement>,
    /// The end of the pause after the last that was sent.
    pause_ends: Option<Instant>,
}

/// An announcement of an address.
#[derive(Debug)]
struct Announcement {
    address: IpAddr,
    interface: String,
    /// Pause after it.
    pause: Duration,
}

impl Worker {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                () = self.announcements.due() => {
                    self.announce_due();
                    continue;
                }
                () = self.routes.due() => {
                    let interfaces = self.interfaces.borrow().clone();
                    self.routes.renew(&self.handle, &interfaces).await;
                    continue;
                }
            };
            let Some(command) = command else { return };
            match command {
                Command::Add(addresses, routes) => {
                    for address in &addresses {
                        self.add(address).await;
                    }
                    let interfaces = self.interfaces.borrow().clone();
                    self.routes.set(&self.handle, &interfaces, routes).await;
                }
                Command::Remove(addresses, routes) => {
                    self.announcements.waiting.clear();
                    let interfaces = self.interfaces.borrow().clone();
                    self.routes.unset(&self.handle, &interfaces, &routes).await;
                    for address in &addresses {
                        self.remove(address).await;
                    }
                }
                Command::Announce(addresses, repeat, pauses) => {
                    self.announce(&addresses, repeat, pauses);
                }
            }
        }
    }

    async fn add(&self, wanted: &VirtualAddress) {
        let VirtualAddress {
            address, interface, ..
        } = wanted;
        let Some(on_interface) = wanted.on_interface(&self.interfaces.borrow()) else {
            log::error!(
                "{}: no interface {interface} to add {address} to",
                self.name
            );
            return;
        };
        match address::add(&self.handle, &on_interface).await {
            Ok(Added::New) => log::info!("{}: {address} added to {interface}", self.name),
            Ok(Added::AlreadyThere) => {
                log::info!("{}: {address} is on {interface} already", self.name);
            }
            Err(error) => {
                log::error!(
                    "{}: cannot add {address} to {interface}: {error}",
                    self.name
                );
            }
        }
    }

    async fn remove(&self, wanted: &VirtualAddress) {
        let VirtualAddress {
            address, interface, ..
        } = wanted;
        // With its interface an address is gone, too.
        let Some(on_interface) = wanted.on_interface(&self.interfaces.borrow()) else {
            return;
        };
        match address::remove(&self.handle, &on_interface).await {
            Ok(_) => log::info!("{}: {address} removed from {interface}", self.name),
            Err(error) => {
                log::error!(
                    "{}: cannot remove {address} from {interface}: {error}",
                    self.name
                );
            }
        }
    }

    fn announce(&mut self, addresses: &[VirtualAddress], repeat: u32, pauses: Pauses) {
        if self.announcements.waiting.is_empty() {
            self.announcements.pause_ends = None;
        }
        for _ in 0..repeat {
            let announcements = addresses.iter().map(|address| Announcement {
                address: address.address,
                interface: address.interface.clone(),
                pause: match address.address {
                    IpAddr::V4(_) => pauses.arp,
                    IpAddr::V6(_) => pauses.neighbour_advertisement,
                },
            });
            self.announcements.waiting.extend(announcements);
        }
    }

    fn announce_due(&mut self) {
        let interfaces = self.interfaces.borrow().clone();
        let send = |announcement: &Announcement| {
            // As it is now: the MAC address may be another than a moment ago.
            let interface = interfaces.get(&announcement.interface);
            let Some((index, mac)) = interface.and_then(|it| Some((it.index, it.mac?))) else {
                return Ok(());
            };
            let sender = match self.sender.take() {
                Some(sender) => sender,
                None => FrameSender::open()?,
            };
            let sender = self.sender.insert(sender);
            sender.send(index, &frame(announcement.address, mac))
        };
        for error in self.announcements.send_due(Instant::now(), send) {
            log::warn!("{}: addresses not announced: {error}", self.name);
        }
    }
}

impl Announcements {
    /// Waits until some are due; for ever, while there are none.
    async fn due(&self) {
        match self.pause_ends {
            _ if self.waiting.is_empty() => std::future::pending().await,
            Some(pause_ends) => sleep_until(pause_ends).await,
            None => {}
        }
    }

    /// Sends those that are due `now`, up to the next pause. Returns the errors.
    fn send_due(
        &mut self,
        now: Instant,
        mut send: impl FnMut(&Announcement) -> io::Result<()>,
    ) -> Vec<io::Error> {
        let mut errors = Vec::new();
        self.pause_ends = None;
        while let Some(announcement) = self.waiting.pop_front() {
            if let Err(error) = send(&announcement) {
                errors.push(error);
                // The others of this interface would fail, too; those of other
                // interfaces go on.
                self.waiting
                    .retain(|other| other.interface != announcement.interface);
            }
            if !announcement.pause.is_zero() {
                self.pause_ends = Some(now + announcement.pause);
                break;
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKEN: &str = "eth2";

    /// One address on each of these interfaces, announced `repeat` times.
    fn announcements(interfaces: &[&str], repeat: usize, pause: Duration) -> Announcements {
        let all = (0..repeat).flat_map(|_| interfaces);
        let waiting = all.map(|interface| Announcement {
            address: IpAddr::from([10, 0, 0, 1]),
            interface: (*interface).to_owned(),
            pause,
        });
        Announcements {
            waiting: waiting.collect(),
            pause_ends: None,
        }
    }

    /// Sends what is due; returns where it was tried, and what went wrong.
    fn send_due(announcements: &mut Announcements, now: Instant) -> (Vec<String>, usize) {
        let mut tried = Vec::new();
        let errors = announcements.send_due(now, |announcement| {
            tried.push(announcement.interface.clone());
            match announcement.interface.as_str() {
                BROKEN => Err(io::ErrorKind::NetworkDown.into()),
                _ => Ok(()),
            }
        });
        (tried, errors.len())
    }

    #[test]
    fn an_interface_that_cannot_send_keeps_no_other_from_it() {
        let mut announcements = announcements(&["eth1", BROKEN, "eth3"], 3, Duration::ZERO);
        let (tried, errors) = send_due(&mut announcements, Instant::now());
        let expected = ["eth1", BROKEN, "eth3", "eth1", "eth3", "eth1", "eth3"];
        assert_eq!(tried, expected);
        assert_eq!(errors, 1, "said once");
        assert!(announcements.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_follows_what_is_sent_and_what_cannot_be_sent() {
        let pause = Duration::from_millis(100);
        let mut announcements = announcements(&[BROKEN, "eth1"], 2, pause);
        let begun = Instant::now();
        let mut tried = Vec::new();
        for _ in 0..3 {
            let due = timeout(Duration::from_secs(3600), announcements.due()).await;
            due.expect("some are left");
            let (now_tried, _) = send_due(&mut announcements, Instant::now());
            tried.extend(now_tried.into_iter().map(|name| (name, begun.elapsed())));
        }
        let expected = [(BROKEN, 0), ("eth1", 1), ("eth1", 2)];
        let expected = expected.map(|(name, pauses)| (name.to_owned(), pause * pauses));
        assert_eq!(tried, expected);
        let more = timeout(Duration::from_secs(3600), announcements.due()).await;
        assert!(more.is_err(), "nothing is left");
    }
}
