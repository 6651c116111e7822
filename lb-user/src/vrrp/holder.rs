//! Holding the virtual addresses of one virtual router: added, removed and
//! announced in the order asked for, beside the adverts and never in their way.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rtnetlink::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::announcement::{FrameSender, frame};
use super::settings::{Pauses, VirtualAddress};
use crate::netlink::address::{self, Added, InterfaceAddress};
use crate::netlink::interfaces::Interfaces;

/// How long the end waits for the kernel to remove the addresses.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);

/// Holds addresses when told to.
#[derive(Debug)]
pub struct Holder {
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Hold(Vec<VirtualAddress>),
    Release(Vec<VirtualAddress>),
    Announce(Vec<VirtualAddress>, u32, Pauses),
}

impl Holder {
    /// Starts with nothing to do. `name` is the virtual router's.
    pub fn start(
        name: String,
        handle: Handle,
        interfaces: watch::Receiver<Arc<Interfaces>>,
    ) -> Self {
        let (orders, incoming) = mpsc::unbounded_channel();
        let worker = Worker {
            name,
            handle,
            interfaces,
            sender: None,
            waiting: VecDeque::new(),
            due: Instant::now(),
        };
        Self {
            orders,
            task: tokio::spawn(worker.run(incoming)),
        }
    }

    /// Adds addresses; those that are there already stay.
    pub fn hold(&self, addresses: Vec<VirtualAddress>) {
        self.order(Order::Hold(addresses));
    }

    /// Removes addresses, whoever added them.
    pub fn release(&self, addresses: Vec<VirtualAddress>) {
        self.order(Order::Release(addresses));
    }

    /// Tells the network where addresses are, so many times each, with these
    /// pauses; until it is to release addresses.
    pub fn announce(&self, addresses: Vec<VirtualAddress>, repeat: u32, pauses: Pauses) {
        self.order(Order::Announce(addresses, repeat, pauses));
    }

    fn order(&self, order: Order) {
        // The task ends only with the holder itself.
        let _ = self.orders.send(order);
    }

    /// Waits until everything asked for is done.
    pub async fn finish(self) {
        drop(self.orders);
        if timeout(PATIENCE_AT_END, self.task).await.is_err() {
            log::error!("the kernel does not remove addresses; they may still be there");
        }
    }
}

struct Worker {
    name: String,
    handle: Handle,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    sender: Option<FrameSender>,
    /// Announcements that wait for the end of a pause.
    waiting: VecDeque<Announcement>,
    /// When the next of them is due.
    due: Instant,
}

/// A frame that tells where an address is.
#[derive(Debug)]
struct Announcement {
    interface_index: u32,
    frame: Vec<u8>,
    /// How long to wait after it.
    pause: Duration,
}

impl Worker {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                () = sleep_until(self.due), if !self.waiting.is_empty() => {
                    self.announce_next();
                    continue;
                }
            };
            let Some(order) = order else { return };
            match order {
                Order::Hold(addresses) => {
                    for address in &addresses {
                        self.add(address).await;
                    }
                }
                Order::Release(addresses) => {
                    self.waiting.clear();
                    for address in &addresses {
                        self.remove(address).await;
                    }
                }
                Order::Announce(addresses, repeat, pauses) => {
                    self.announce(&addresses, repeat, pauses);
                }
            }
        }
    }

    fn on_interface(&self, address: &VirtualAddress) -> Option<InterfaceAddress> {
        let interface_index = self.interfaces.borrow().get(&address.interface)?.index;
        Some(InterfaceAddress {
            interface_index,
            address: address.address,
            prefix_length: address.prefix_length,
            label: address.label.clone(),
        })
    }

    async fn add(&self, wanted: &VirtualAddress) {
        let VirtualAddress {
            address, interface, ..
        } = wanted;
        let Some(on_interface) = self.on_interface(wanted) else {
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
        let Some(on_interface) = self.on_interface(wanted) else {
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
        if self.waiting.is_empty() {
            self.due = Instant::now();
        }
        let interfaces = self.interfaces.borrow().clone();
        for _ in 0..repeat {
            self.waiting.extend(addresses.iter().filter_map(|address| {
                let interface = interfaces.get(&address.interface)?;
                Some(Announcement {
                    interface_index: interface.index,
                    frame: frame(address.address, interface.mac?),
                    pause: match address.address {
                        IpAddr::V4(_) => pauses.arp,
                        IpAddr::V6(_) => pauses.neighbour_advertisement,
                    },
                })
            }));
        }
    }

    /// Sends what is due now, up to the next pause.
    fn announce_next(&mut self) {
        while let Some(announcement) = self.waiting.pop_front() {
            let Announcement {
                interface_index,
                frame,
                pause,
            } = announcement;
            if let Err(error) = self.send(interface_index, &frame) {
                log::warn!("{}: addresses not announced: {error}", self.name);
                // It is as bad for those that follow there; other interfaces
                // are none the worse for it.
                self.waiting
                    .retain(|other| other.interface_index != interface_index);
            }
            if !pause.is_zero() {
                self.due = Instant::now() + pause;
                return;
            }
        }
    }

    fn send(&mut self, interface_index: u32, frame: &[u8]) -> std::io::Result<()> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => FrameSender::open()?,
        };
        self.sender.insert(sender).send(interface_index, frame)
    }
}
