//! Knowledge that one agent leaves for the next: orders, results of checks, quorums, the
//! addresses that are held.
//!
//! A file beside the control socket, not a pinned map: its texts have any
//! length, people can read it, and orders survive where nothing can be pinned.
//! Like what is pinned it does not survive a reboot (`/run` is a tmpfs).

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::control::protocol::{Order, RateOrder};
use lb_model::config::{DiscoveredServer, Route, SynValidation, VirtualServer};
use lb_model::{Protocol, ServiceKey, ServiceTables};
use net_types::Network;
use vrrp::{InstanceSettings, Settings, VirtualAddress};

/// Maximum number of a master's adverts that a hand-over may take, however many the
/// others may miss: they may be set to take its place after the three of RFC 3768 §6.1
/// and RFC 5798 §6.1, `Master_Down_Interval`.
const MAX_ADVERTS_MISSED: u32 = 3;

/// All of it. What a later version adds has a default; what it no longer knows
/// is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// The operator's orders.
    pub orders: Vec<SavedOrder>,
    /// The servers that sources have named.
    pub discovered: Vec<SavedDiscovery>,
    /// The servers that operators have added.
    pub added: Vec<SavedAddition>,
    /// The operator's deny list.
    pub denied: Vec<SavedDenial>,
    /// The operator's order about new connections.
    pub connection_rate: Option<RateOrder>,
    /// The operator's order about the validation of sources.
    pub syn_validation: Option<SynValidation>,
    /// True while a flood has sources validated.
    pub is_validating: bool,
    /// The last result of each check.
    pub checks: Vec<SavedCheck>,
    /// The weights that follow from loads (`LOAD_CHECK`).
    pub load_weights: Vec<SavedLoadWeight>,
    /// The quorum of each service.
    pub quorums: Vec<SavedQuorum>,
    /// The addresses of servers that packets do not reach.
    pub cut_off: BTreeSet<IpAddr>,
    /// The virtual addresses that are held, and the static ones that were added.
    pub addresses: Vec<SavedAddress>,
    /// The routes that were set.
    pub routes: Vec<Route>,
    /// The tables of services with `lb_algo mh`.
    pub tables: Vec<ServiceTables>,
    /// The virtual routers to stay master of.
    pub handed_over: Option<HandOver>,
    /// Why the program that was to take over has ended before it had.
    // The name of the field is kept for older agents.
    #[serde(rename = "last_words")]
    pub exit_report: Option<String>,
}

impl Saved {
    /// What outlives a stop: the operators' orders, the servers that sources have named, and
    /// the tables, by which connections are found that other directors go on with.
    fn without_state(self) -> Self {
        Self {
            orders: self.orders,
            discovered: self.discovered,
            added: self.added,
            denied: self.denied,
            connection_rate: self.connection_rate,
            syn_validation: self.syn_validation,
            tables: self.tables,
            ..Self::default()
        }
    }

    /// Addresses that an earlier agent has added, each with its interface.
    pub fn added_addresses(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let addresses = self.addresses.iter();
        addresses.map(|added| (added.address, added.interface.clone()))
    }
}

/// A service, as it is saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedService {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub address: SocketAddr,
}

impl From<ServiceKey> for SavedService {
    fn from(ServiceKey { protocol, address }: ServiceKey) -> Self {
        Self { protocol, address }
    }
}

impl From<SavedService> for ServiceKey {
    fn from(SavedService { protocol, address }: SavedService) -> Self {
        Self { protocol, address }
    }
}

/// An order for a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOrder {
    /// The service of the server.
    pub service: SavedService,
    /// The server.
    pub server: SocketAddr,
    /// The order.
    pub order: Order,
}

/// The servers that a source has named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDiscovery {
    /// The source, as operators are told of it.
    pub source: String,
    /// Its servers.
    pub servers: Vec<DiscoveredServer>,
}

/// A server that an operator has added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAddition {
    /// The service, as the configuration names it.
    pub service: String,
    /// The server.
    pub server: DiscoveredServer,
}

impl SavedAddition {
    /// True if it is one of this service.
    pub fn is_of(&self, service: &VirtualServer) -> bool {
        service.address.to_string() == self.service
    }

    /// True if it has the address of `server`.
    pub fn is_at(&self, server: &DiscoveredServer) -> bool {
        (self.server.address, self.server.port) == (server.address, server.port)
    }
}

/// A network that an operator has denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedDenial {
    /// The network.
    pub network: Network,
    /// Time at which it is not denied any more, in seconds since 1970.
    pub until_s: Option<u64>,
}

/// The result of a server's check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCheck {
    /// The service of the server.
    pub service: SavedService,
    /// The server.
    pub server: SocketAddr,
    /// The check, as the configuration names it.
    pub check: String,
    /// Number of the server's checks of the same name before it.
    pub place: usize,
    /// Why it fails; `None` if it succeeds.
    pub failure: Option<String>,
    /// The share of new connections that it asks for.
    pub weight: Option<u32>,
}

/// The weight that a server has by the loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedLoadWeight {
    /// The service of the server.
    pub service: SavedService,
    /// The server.
    pub server: SocketAddr,
    /// The weight, in parts of [`TOTAL`](super::load_shares::TOTAL).
    pub weight: u32,
}

/// A service's quorum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedQuorum {
    /// The service.
    pub service: SavedService,
    /// True if the service has it.
    pub gained: bool,
}

/// A virtual address that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_length: u8,
    /// Name of its interface.
    pub interface: String,
}

impl From<VirtualAddress> for SavedAddress {
    fn from(held: VirtualAddress) -> Self {
        Self {
            address: held.address,
            prefix_length: held.prefix_length,
            interface: held.interface,
        }
    }
}

/// Knowledge that an agent which goes hands to the one that comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// Names of the virtual routers that are master.
    pub masters: Vec<String>,
    /// When (CLOCK_MONOTONIC).
    pub at_ms: u64,
    /// The process, which is the same before and after.
    #[serde(default)]
    pub process: u32,
    /// Why the one that comes is the one that goes, if the program that was to
    /// take over could not be run.
    #[serde(default)]
    pub failure: Option<String>,
}

impl HandOver {
    /// A hand-over that takes place now.
    pub fn now(masters: Vec<String>) -> Self {
        Self {
            masters,
            at_ms: monotonic_ms(),
            process: process::id(),
            failure: None,
        }
    }

    /// True if nobody can have taken the place of a master yet with the settings of `router`,
    /// as the others have them.
    fn is_valid(&self, router: &InstanceSettings) -> bool {
        let adverts = router.policy.down_timer_adverts.min(MAX_ADVERTS_MISSED);
        let age = monotonic_ms().checked_sub(self.at_ms);
        age.is_some_and(|age_ms| Duration::from_millis(age_ms) < router.policy.interval * adverts)
    }
}

fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    Duration::from(now).as_millis() as u64
}

impl Saved {
    /// The virtual routers of `settings` that a predecessor was master of a
    /// moment ago, and meant us to be. They go on without listening first.
    pub fn masters_handed_over(&self, settings: &Settings) -> Vec<String> {
        let Some(given) = &self.handed_over else {
            return Vec::new();
        };
        let led = |name: &&String| {
            let mut instances = settings.instances.iter();
            let instance = instances.find(|instance| instance.name == **name);
            instance.is_some_and(|instance| given.is_valid(instance))
        };
        given.masters.iter().filter(led).cloned().collect()
    }
}

/// The file that it is saved in.
#[derive(Debug)]
pub struct SavedFile {
    path: PathBuf,
    /// The content that was last written, so that it is not written again.
    written: Option<Saved>,
}

impl SavedFile {
    /// The file of the agent that listens on `socket`.
    pub fn beside(socket: &Path) -> Self {
        Self {
            path: socket.with_extension("state.json"),
            written: None,
        }
    }

    /// The content that an earlier agent has saved. A file that is not understood is as good as
    /// none.
    pub fn read(&self) -> Saved {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    log::warn!("cannot read {}: {error}", self.path.display());
                }
                return Saved::default();
            }
        };
        serde_json::from_str(&text).unwrap_or_else(|error| {
            log::warn!("{} is not understood: {error}", self.path.display());
            Saved::default()
        })
    }

    /// Saves, in one step.
    pub fn write(&mut self, saved: Saved) {
        if self.written.as_ref() == Some(&saved) {
            return;
        }
        match self.try_write(&saved) {
            Ok(()) => self.written = Some(saved),
            Err(error) => log::warn!(
                "cannot write {}: {error}; a restart will not know what is there now",
                self.path.display()
            ),
        }
    }

    /// Has the file be as it was before this agent wrote it, when `saved` was read.
    pub fn restore(&mut self, saved: Saved) {
        if saved == Saved::default() {
            self.forget(false);
        } else {
            self.write(saved);
        }
    }

    fn try_write(&self, saved: &Saved) -> io::Result<()> {
        let new = self.path.with_extension("json.new");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(serde_json::to_string_pretty(saved)?.as_bytes())?;
        fs::rename(new, &self.path)
    }

    /// Writes why this process has ended before it had taken over, if it was to:
    /// whoever has asked for the upgrade reads it.
    pub fn write_exit_report(&mut self, reason: String) {
        let saved = self.read();
        let successor = saved.handed_over.as_ref().map(|given| given.process);
        if successor == Some(process::id()) {
            self.write(Saved {
                exit_report: Some(reason),
                ..saved
            });
        }
    }

    /// Forgets all, or all but orders and tables: orders hold until they are taken back,
    /// also if the service is stopped and started.
    pub fn forget(&mut self, keep_orders: bool) {
        let written = self.written.take().filter(|_| keep_orders);
        let kept = written.map(Saved::without_state).unwrap_or_default();
        if kept != Saved::default() {
            self.write(kept);
        } else if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let service = SavedService {
            protocol: Protocol::Tcp,
            address: "10.0.0.1:80".parse().expect("an address"),
        };
        let server = "10.0.0.2:80".parse().expect("an address");
        Saved {
            orders: vec![SavedOrder {
                service,
                server,
                order: Order::Weight(3),
            }],
            quorums: vec![SavedQuorum {
                service,
                gained: true,
            }],
            denied: vec![SavedDenial {
                network: "192.0.2.0/24".parse().expect("a network"),
                until_s: None,
            }],
            connection_rate: Some(RateOrder::Off),
            syn_validation: Some(SynValidation::Always),
            tables: vec![ServiceTables {
                address: service.address,
                places: 251,
                hash_port: false,
                servers: Vec::new(),
                generations: Vec::new(),
            }],
            handed_over: Some(HandOver::now(vec!["VI_1".to_owned()])),
            ..Saved::default()
        }
    }

    #[test]
    fn what_is_saved_is_read_again_and_orders_and_tables_outlive_a_stop() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("lb-user.sock");
        let mut file = SavedFile::beside(&socket);
        assert_eq!(file.read(), Saved::default());
        file.write(saved());
        assert_eq!(SavedFile::beside(&socket).read(), saved_as(&file));
        file.forget(true);
        let after = SavedFile::beside(&socket).read();
        assert_eq!(after, saved().without_state());
        assert_eq!(after.quorums, []);
        assert_eq!(after.tables, saved().tables);
        file.forget(false);
        assert_eq!(fs::read_dir(&directory).expect("readable").count(), 0);
    }

    fn saved_as(file: &SavedFile) -> Saved {
        file.written.clone().expect("written")
    }

    #[test]
    fn a_file_that_is_not_understood_is_as_good_as_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = SavedFile::beside(&directory.path().join("lb-user.sock"));
        fs::write(&file.path, "{\"orders\": 5").expect("written");
        assert_eq!(file.read(), Saved::default());
        fs::write(&file.path, "{\"of a later version\": 5}").expect("written");
        assert_eq!(file.read(), Saved::default());
    }

    #[test]
    fn a_hand_over_holds_until_others_may_have_missed_their_adverts() {
        let router = |name: &str, id: u8, version: u8, interval: &str, adverts: u32| {
            format!(
                "vrrp_instance {name} {{ interface eth0\nvirtual_router_id {id}\nversion {version}\n\
                 advert_int {interval}\ndown_timer_adverts {adverts}\nvirtual_ipaddress {{ 10.0.0.1 }} }}\n"
            )
        };
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keepalived.conf");
        let text = [
            router("VI_1", 1, 2, "1", 100),
            router("VI_2", 2, 3, "0.5", 3),
            router("VI_3", 3, 2, "1", 1),
        ];
        let text = text.concat();
        fs::write(&file, text).expect("written");
        let loaded = lb_config::load(&file).expect("it is right");
        let settings = Settings::from_config(&loaded.config).expect("settings");
        let mut saved = saved();
        let mut masters_after = |age_ms: u64| {
            let masters = ["VI_1", "VI_2", "VI_3", "VI_gone"]
                .map(str::to_owned)
                .into();
            let mut given = HandOver::now(masters);
            given.at_ms = given.at_ms.saturating_sub(age_ms);
            saved.handed_over = Some(given);
            saved.masters_handed_over(&settings)
        };
        assert_eq!(masters_after(0), ["VI_1", "VI_2", "VI_3"]);
        assert_eq!(masters_after(1_000), ["VI_1", "VI_2"]);
        assert_eq!(masters_after(1_500), ["VI_1"]);
        assert_eq!(masters_after(3_000), Vec::<String>::new());
    }
}
