//! Addresses and routes that this machine has, whoever leads: while the agent runs
//! (`static_ipaddress`, `static_routes`), or while services have their quorum (`announce`).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::Handle;
use service_kit::sleep_until;
use tokio::time::Instant;

use lb_model::config::{Config, Route};
use netlink::address::{self, Added};
use netlink::interfaces::Interfaces;
use vrrp::{Routes, VirtualAddress};

/// keepalived.conf(5), `default_interface`.
const DEFAULT_INTERFACE: &str = "eth0";

/// Interval at which addresses that have disappeared are added again.
const INTERVAL: Duration = Duration::from_secs(2);

/// Name of the addresses of services that routing daemons announce, in log lines.
pub const ANNOUNCE: &str = "announce";

/// Addresses and routes that are to be there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StaticPlan {
    /// Addresses.
    pub addresses: Vec<VirtualAddress>,
    /// Routes.
    pub routes: Vec<Route>,
}

impl StaticPlan {
    /// Addresses alone.
    pub fn of_addresses(addresses: Vec<VirtualAddress>) -> Self {
        Self {
            addresses,
            routes: Vec::new(),
        }
    }

    /// That of a configuration.
    pub fn new(config: &Config) -> Self {
        let default = config.global_defs.default_interface.as_deref();
        let interface = default.unwrap_or(DEFAULT_INTERFACE);
        let addresses = config.static_ipaddress.iter();
        Self {
            addresses: addresses
                .map(|given| VirtualAddress::from_config(given, interface))
                .collect(),
            routes: config.static_routes.clone(),
        }
    }
}

/// Addresses and routes that are kept.
///
/// Calling contract: [`plan`](Self::plan), then [`foresee`](Self::foresee), then save
/// [`addresses`](Self::addresses), then [`renew`](Self::renew). So a later agent knows whose an
/// address is, even if this one is killed in between.
#[derive(Debug)]
pub struct Statics {
    /// What is there, as far as it could be added.
    present: StaticPlan,
    /// What is to be there.
    wanted: StaticPlan,
    /// Addresses that the machine does not have, and that will be ours.
    foreseen: Vec<VirtualAddress>,
    /// Addresses that we, or an earlier agent, have added. Others belong to the
    /// machine, and stay.
    ours: BTreeSet<(IpAddr, String)>,
    /// Addresses that could not be added, as was said.
    missing: BTreeSet<(IpAddr, String)>,
    /// Addresses of the plan that the machine has by others, as was said.
    of_others: BTreeSet<(IpAddr, String)>,
    routes: Routes,
    due: Option<Instant>,
    /// What they are called in log lines.
    name: &'static str,
}

impl Statics {
    /// None yet, which are called `name` in log lines; `inherited`: addresses that an
    /// earlier agent has added.
    pub fn new(name: &'static str, inherited: impl IntoIterator<Item = (IpAddr, String)>) -> Self {
        Self {
            present: StaticPlan::default(),
            wanted: StaticPlan::default(),
            foreseen: Vec::new(),
            ours: inherited.into_iter().collect(),
            missing: BTreeSet::new(),
            of_others: BTreeSet::new(),
            routes: Routes::new(name.to_owned()),
            name,
            due: None,
        }
    }

    /// Takes for its own those addresses of `plan` that an earlier agent has added; the
    /// next plan decides what becomes of them.
    pub fn inherit(&mut self, plan: StaticPlan) {
        let inherited = plan.addresses.into_iter();
        let inherited = inherited.filter(|held| self.ours.contains(&key(held)));
        self.present.addresses = inherited.collect();
        self.wanted = self.present.clone();
    }

    /// Replaces what is to be there; [`renew`](Self::renew) sees to it.
    pub fn plan(&mut self, plan: StaticPlan) {
        self.wanted = plan;
    }

    /// Has [`addresses`](Self::addresses) name those, too, that [`renew`](Self::renew) will
    /// add. Returns true if there are any.
    pub fn foresee(&mut self, interfaces: &Interfaces) -> bool {
        let can_be_added = |held: &VirtualAddress| {
            let interface = interfaces.get(&held.interface);
            interface.is_some_and(|interface| !interface.addresses.contains(&held.address))
        };
        // What could not be added the last time is named once it has been: it may never be.
        let is_known = |held: &VirtualAddress| {
            let key = key(held);
            let known = [&self.ours, &self.missing, &self.of_others];
            known.iter().any(|known| known.contains(&key))
        };
        let wanted = self.wanted.addresses.iter();
        let new = wanted.filter(|held| !is_known(held) && can_be_added(held));
        self.foreseen = new.cloned().collect();
        !self.foreseen.is_empty()
    }

    /// Removes all that is ours.
    pub async fn clear(&mut self, handle: &Handle, interfaces: &Interfaces) {
        self.plan(StaticPlan::default());
        self.renew(handle, interfaces).await;
    }

    /// Waits until it is to be seen to that all is there; for ever, while there
    /// is nothing.
    pub async fn due(&self) {
        if self.wanted != self.present {
            return;
        }
        tokio::select! {
            () = sleep_until(self.due) => {}
            () = self.routes.due() => {}
        }
    }

    /// Adds what is to be there and is not, or not any more, and removes what is not to be there
    /// any more.
    pub async fn renew(&mut self, handle: &Handle, interfaces: &Interfaces) {
        let before = std::mem::replace(&mut self.present, self.wanted.clone());
        let mut gone = before.routes;
        gone.retain(|route| !self.present.routes.contains(route));
        self.routes.unset(handle, interfaces, &gone).await;
        for address in before.addresses {
            if !self.present.addresses.contains(&address) {
                self.remove(handle, interfaces, &address).await;
            }
        }
        self.add_all(handle, interfaces).await;
        self.foreseen.clear();
        self.routes.renew(handle, interfaces).await;
        let routes = self.present.routes.clone();
        self.routes.set(handle, interfaces, routes).await;
        self.due = (!self.present.addresses.is_empty()).then(|| Instant::now() + INTERVAL);
    }

    /// The addresses that are ours, or will be.
    pub fn addresses(&self) -> impl Iterator<Item = &VirtualAddress> {
        let addresses = self.present.addresses.iter();
        let ours = addresses.filter(|held| self.ours.contains(&key(held)));
        ours.chain(&self.foreseen)
    }

    async fn add_all(&mut self, handle: &Handle, interfaces: &Interfaces) {
        let name = self.name;
        for held in self.present.addresses.clone() {
            let VirtualAddress {
                address, interface, ..
            } = &held;
            let added = match held.on_interface(interfaces) {
                Some(on_interface) => address::add(handle, &on_interface)
                    .await
                    .map_err(|error| error.to_string()),
                None => Err(format!("there is no interface {interface}")),
            };
            let key = key(&held);
            match added {
                Ok(Added::New) => {
                    self.missing.remove(&key);
                    self.of_others.remove(&key);
                    if self.ours.insert(key) {
                        log::info!("{name}: {address} added to {interface}");
                    } else {
                        log::warn!("{name}: {address} was taken from {interface}; added again");
                    }
                }
                Ok(Added::AlreadyThere) => {
                    self.missing.remove(&key);
                    if !self.ours.contains(&key) && self.of_others.insert(key) {
                        self.log_other(address, interface);
                    }
                }
                Err(reason) => {
                    if self.missing.insert(key) {
                        log::error!("{name}: cannot add {address} to {interface} yet: {reason}");
                    }
                }
            }
        }
    }

    /// Says that an address is there which somebody else has added.
    fn log_other(&self, address: &IpAddr, interface: &str) {
        let name = self.name;
        if name == ANNOUNCE {
            log::warn!(
                "{name}: {address} is on {interface} already, by somebody else \
                 (`millrace-realserver`?): it stays there, and is announced, also without \
                 servers; name another interface, or remove it there"
            );
        } else {
            log::debug!("{name}: {address} is on {interface} already");
        }
    }

    async fn remove(&mut self, handle: &Handle, interfaces: &Interfaces, held: &VirtualAddress) {
        let VirtualAddress {
            address, interface, ..
        } = held;
        let name = self.name;
        self.missing.remove(&key(held));
        self.of_others.remove(&key(held));
        if !self.ours.remove(&key(held)) {
            return;
        }
        // With its interface an address is gone, too.
        let Some(on_interface) = held.on_interface(interfaces) else {
            return;
        };
        match address::remove(handle, &on_interface).await {
            Ok(_) => log::info!("{name}: {address} removed from {interface}"),
            Err(error) => {
                log::error!("{name}: cannot remove {address} from {interface}: {error}");
            }
        }
    }
}

fn key(held: &VirtualAddress) -> (IpAddr, String) {
    (held.address, held.interface.clone())
}
