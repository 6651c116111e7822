//! Holding the virtual addresses of one virtual router: added, removed and
//! announced in the order asked for, beside the adverts and never in their way.

use std::sync::Arc;
use std::time::Duration;

use rtnetlink::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::announcement::{FrameSender, frame};
use super::interfaces::Interfaces;
use super::settings::VirtualAddress;
use crate::netlink::address::{self, Added, InterfaceAddress};

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
    Announce(Vec<VirtualAddress>, u32),
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

    /// Tells the network where addresses are, so many times each.
    pub fn announce(&self, addresses: Vec<VirtualAddress>, repeat: u32) {
        self.order(Order::Announce(addresses, repeat));
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
}

impl Worker {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Hold(addresses) => {
                    for address in &addresses {
                        self.add(address).await;
                    }
                }
                Order::Release(addresses) => {
                    for address in &addresses {
                        self.remove(address).await;
                    }
                }
                Order::Announce(addresses, repeat) => self.announce(&addresses, repeat),
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
            Ok(()) => log::info!("{}: {address} removed from {interface}", self.name),
            Err(error) => {
                log::error!(
                    "{}: cannot remove {address} from {interface}: {error}",
                    self.name
                );
            }
        }
    }

    fn announce(&mut self, addresses: &[VirtualAddress], repeat: u32) {
        let frames: Vec<(u32, Vec<u8>)> = {
            let interfaces = self.interfaces.borrow();
            addresses
                .iter()
                .filter_map(|address| {
                    let interface = interfaces.get(&address.interface)?;
                    Some((interface.index, frame(address.address, interface.mac?)))
                })
                .collect()
        };
        for _ in 0..repeat {
            for (interface_index, frame) in &frames {
                if let Err(error) = self.send(*interface_index, frame) {
                    log::warn!("{}: addresses not announced: {error}", self.name);
                    return;
                }
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
