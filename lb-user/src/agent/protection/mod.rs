//! Protection from floods: what is configured, what operators order, and what follows for
//! the data plane.

mod automatic;
pub(crate) mod deny_file;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::num::NonZeroU32;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lb_abi::Reason;
use lb_dataplane::{ConnectionRate, Dataplane, DeniedNetworks, Error, TableSizes};
use lb_model::config::{GlobalDefs, SynValidation};
use net_types::Network;

use super::saved::{Saved, SavedDenial};
use crate::control::protocol::{ListedDenial, ListedProtection, RateOrder};
use automatic::{Automatic, Reading, Thresholds};

/// Interval at which the key of the challenges is replaced.
const KEY_TIME: Duration = Duration::from_secs(60);

/// SYNs per second at which automatic validation begins.
const DEFAULT_SYN_RATE: u32 = 10_000;
/// Per cent of the table of half-open connections at which automatic validation begins.
const DEFAULT_HALF_OPEN_PERCENT: u8 = 50;

/// What the configuration says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProtectionPlan {
    /// When sources are validated.
    validation: SynValidation,
    /// SYNs per second at which automatic validation begins.
    syn_rate: u32,
    /// Half-open connections at which it begins, in per cent of their table.
    half_open_percent: u8,
    /// Limit of new connections per network.
    rate: Option<ConnectionRate>,
    /// The networks of the file.
    denied: Vec<Network>,
}

impl ProtectionPlan {
    /// Fills in the defaults. `denied`: the networks of the file.
    pub(crate) fn new(settings: &GlobalDefs, denied: Vec<Network>) -> Self {
        let number = |given: Option<u32>| given.and_then(NonZeroU32::new);
        let per_second = number(settings.lb_connection_rate);
        Self {
            validation: settings.lb_syn_validation.unwrap_or_default(),
            syn_rate: settings.lb_syn_validation_rate.unwrap_or(DEFAULT_SYN_RATE),
            half_open_percent: settings
                .lb_syn_validation_half_open
                .unwrap_or(DEFAULT_HALF_OPEN_PERCENT),
            rate: per_second.map(|per_second| ConnectionRate {
                per_second,
                burst: number(settings.lb_connection_burst).unwrap_or(per_second),
            }),
            denied,
        }
    }

    /// Refuses a file with more networks than the tables hold.
    ///
    /// # Errors
    /// As of [`DeniedNetworks::admit`].
    pub(crate) fn admit(&self, sizes: &TableSizes) -> Result<(), Error> {
        self.admit_with(&[], sizes)
    }

    /// The same, the networks that operators deny included.
    ///
    /// # Errors
    /// As of [`DeniedNetworks::admit`].
    pub(super) fn admit_with(
        &self,
        saved: &[SavedDenial],
        sizes: &TableSizes,
    ) -> Result<(), Error> {
        let by_order = saved.iter().map(|denial| denial.network);
        let by_file = self.denied.iter().copied();
        let denied: DeniedNetworks = by_file.chain(by_order).collect();
        denied.admit(sizes)
    }
}

/// What operators have ordered while the agent runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// Networks that they deny, until a time or for good.
    denials: BTreeMap<Network, Option<SystemTime>>,
    /// In place of the configured limit.
    rate: Option<RateOrder>,
    /// In place of the configured mode.
    validation: Option<SynValidation>,
}

/// The protection in force.
pub(super) struct Protection {
    plan: ProtectionPlan,
    orders: Orders,
    /// What follows from the two: the networks to deny.
    denied: DeniedNetworks,
    /// True once the data plane denies them.
    is_denied: bool,
    automatic: Automatic,
    key_due: Option<Instant>,
    /// Capacity of the table of half-open connections.
    half_open_entries: u32,
}

impl Protection {
    /// Before there is a plan. `validates`: an earlier agent has left validation on.
    pub(super) fn new(validates: bool, sizes: &TableSizes) -> Self {
        Self {
            plan: ProtectionPlan::default(),
            orders: Orders::default(),
            denied: DeniedNetworks::default(),
            is_denied: false,
            automatic: Automatic::new(validates, Instant::now()),
            key_due: None,
            half_open_entries: sizes.half_open,
        }
    }

    /// Takes up the orders that an earlier agent has saved, as far as they fit into tables of
    /// `sizes` beside the file of `plan`: a start must not fail by them.
    pub(super) fn inherit(&mut self, saved: &Saved, plan: &ProtectionPlan, sizes: &TableSizes) {
        let until = |s| UNIX_EPOCH + Duration::from_secs(s);
        let denials = saved.denied.iter();
        self.orders.denials = denials
            .map(|denial| (denial.network, denial.until_s.map(until)))
            .collect();
        self.drop_excess(plan, sizes);
        self.orders.rate = saved.connection_rate;
        self.orders.validation = saved.syn_validation;
        if saved.is_validating && !self.automatic.is_active() {
            // The data plane is a new one, and the flood may go on.
            self.automatic = Automatic::new(true, Instant::now());
        }
        self.on_denials_changed();
    }

    fn drop_excess(&mut self, plan: &ProtectionPlan, sizes: &TableSizes) {
        let is_ipv4 = |network: Network| DeniedNetworks::canonical(network).first().is_ipv4();
        let by_file = plan.denied.iter().filter(|it| is_ipv4(**it)).count();
        let capacity = sizes.denied as usize;
        let mut room_v4 = capacity.saturating_sub(by_file);
        let mut room_v6 = capacity.saturating_sub(plan.denied.len() - by_file);
        let saved = self.orders.denials.len();
        self.orders.denials.retain(|network, _| {
            let room = if is_ipv4(*network) {
                &mut room_v4
            } else {
                &mut room_v6
            };
            let fits = *room > 0;
            *room = room.saturating_sub(1);
            fits
        });
        let dropped = saved - self.orders.denials.len();
        if dropped > 0 {
            log::error!(
                "{dropped} networks that operators deny are not denied any more: the table holds \
                 {capacity} of each address family, the file's included; raise --table denied=…"
            );
        }
    }

    /// Adds the orders to what a later agent is to know.
    pub(super) fn save(&self, saved: &mut Saved) {
        let denials = self.orders.denials.iter();
        saved.denied = denials
            .map(|(network, until)| SavedDenial {
                network: *network,
                until_s: until.map(|until| {
                    let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
                    since.as_secs()
                }),
            })
            .collect();
        saved.connection_rate = self.orders.rate;
        saved.syn_validation = self.orders.validation;
        saved.is_validating = self.automatic.is_active();
    }

    /// The orders, to be restored by [`Self::set_orders`] if they are refused.
    pub(super) fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Replaces the orders.
    pub(super) fn set_orders(&mut self, orders: Orders) {
        self.orders = orders;
        self.on_denials_changed();
    }

    fn on_denials_changed(&mut self) {
        self.denied = self.denied_with(&self.plan);
        self.is_denied = false;
    }

    /// The networks to deny by the orders and by `plan`.
    fn denied_with(&self, plan: &ProtectionPlan) -> DeniedNetworks {
        let by_file = plan.denied.iter();
        by_file.chain(self.orders.denials.keys()).copied().collect()
    }

    /// Refuses a configuration that does not fit into the tables beside the orders.
    ///
    /// # Errors
    /// As of [`DeniedNetworks::admit`].
    pub(super) fn admit(&self, plan: &ProtectionPlan, sizes: &TableSizes) -> Result<(), Error> {
        if plan.denied == self.plan.denied {
            return Ok(());
        }
        self.denied_with(plan).admit(sizes)
    }

    /// Puts another configuration in force; orders stay.
    pub(super) fn replace_plan(&mut self, plan: &ProtectionPlan) {
        let has_other_file = plan.denied != self.plan.denied;
        self.plan.clone_from(plan);
        if has_other_file {
            self.on_denials_changed();
        }
    }

    /// Denies a network, for a time or for good.
    pub(super) fn deny(&mut self, network: Network, timeout: Option<Duration>) {
        let until = timeout.and_then(|timeout| SystemTime::now().checked_add(timeout));
        let network = DeniedNetworks::canonical(network);
        self.orders.denials.insert(network, until);
        self.denied.insert(network);
        self.is_denied = false;
    }

    /// Takes an order to deny a network back.
    pub(super) fn allow(&mut self, network: Network) {
        let network = DeniedNetworks::canonical(network);
        self.orders.denials.remove(&network);
        self.on_denials_changed();
    }

    /// True if an order denies the network.
    pub(super) fn is_denied_by_order(&self, network: Network) -> bool {
        let network = DeniedNetworks::canonical(network);
        self.orders.denials.contains_key(&network)
    }

    /// True if the file denies the network.
    pub(super) fn is_denied_by_file(&self, network: Network) -> bool {
        let network = DeniedNetworks::canonical(network);
        let mut denied = self.plan.denied.iter();
        denied.any(|denied| DeniedNetworks::canonical(*denied) == network)
    }

    /// Takes the operator's order about the rate, or `None` for as configured.
    pub(super) fn order_rate(&mut self, order: Option<RateOrder>) {
        self.orders.rate = order;
    }

    /// Takes the operator's order about validation, or `None` for as configured.
    pub(super) fn order_validation(&mut self, order: Option<SynValidation>) {
        self.orders.validation = order;
    }

    fn rate(&self) -> Option<ConnectionRate> {
        match self.orders.rate {
            Some(RateOrder::Off) => None,
            Some(RateOrder::Limit(rate)) => Some(rate),
            None => self.plan.rate,
        }
    }

    fn validation(&self) -> SynValidation {
        self.orders.validation.unwrap_or(self.plan.validation)
    }

    fn validates(&self) -> bool {
        match self.validation() {
            SynValidation::Off => false,
            SynValidation::Automatic => self.automatic.is_active(),
            SynValidation::Always => true,
        }
    }

    /// Has the data plane do what follows. Returns true if other networks than before are
    /// denied, whose connections are to be removed.
    ///
    /// # Errors
    /// Too many networks, and nothing of these has changed; or a map cannot be written.
    pub(super) fn enforce(&mut self, dataplane: &mut Dataplane) -> Result<bool, Error> {
        let has_others = !self.is_denied && *dataplane.denied() != self.denied;
        if !self.is_denied {
            // Even if the tables hold these already: an agent that was killed may have left
            // the flag behind that has them looked up.
            dataplane.deny(&self.denied)?;
            self.is_denied = true;
        }
        dataplane.limit_connections(self.rate())?;
        if self.validation() != SynValidation::Automatic {
            self.automatic.reset();
        }
        self.renew_key(dataplane)?;
        // Without a key anybody could answer challenges.
        dataplane.validate_sources(self.validates() && dataplane.has_cookie_key())?;
        Ok(has_others)
    }

    /// Replaces the key of the challenges if it is due.
    fn renew_key(&mut self, dataplane: &mut Dataplane) -> Result<(), Error> {
        let now = Instant::now();
        if self.key_due.is_some_and(|due| now < due) {
            return Ok(());
        }
        match random_key() {
            Ok(key) => {
                dataplane.replace_cookie_key(key)?;
                self.key_due = Some(now + KEY_TIME);
            }
            Err(error) if dataplane.has_cookie_key() => {
                log::error!("SYN validation keeps its key: cannot read /dev/urandom: {error}");
                self.key_due = Some(now + KEY_TIME);
            }
            // Asked again with the next reading.
            Err(error) => {
                log::error!(
                    "SYN validation has no key, and is off: cannot read /dev/urandom: {error}"
                );
            }
        }
        Ok(())
    }

    /// Reads the counters, and drops denials whose time is over. Returns what operators
    /// are to know; [`enforce`](Self::enforce) is due.
    ///
    /// # Errors
    /// A map cannot be read.
    pub(super) fn update(&mut self, dataplane: &Dataplane) -> Result<Vec<String>, Error> {
        let mut messages = self.drop_expired(SystemTime::now());
        let now = Instant::now();
        self.automatic.record(reading(dataplane)?, now);
        if self.validation() == SynValidation::Automatic
            && let Some(change) = self.automatic.decide(self.thresholds(), now)
        {
            log::warn!("{change}");
            messages.push(change.to_string());
        }
        Ok(messages)
    }

    fn drop_expired(&mut self, now: SystemTime) -> Vec<String> {
        let mut messages = Vec::new();
        self.orders.denials.retain(|network, until| {
            let is_over = until.is_some_and(|until| until <= now);
            if is_over {
                let message = format!("{network} is not denied any more: its time is over");
                log::info!("{message}");
                messages.push(message);
            }
            !is_over
        });
        if !messages.is_empty() {
            self.on_denials_changed();
        }
        messages
    }

    fn thresholds(&self) -> Thresholds {
        let percent = u64::from(self.plan.half_open_percent);
        Thresholds {
            syns_per_s: self.plan.syn_rate.into(),
            half_open: (u64::from(self.half_open_entries) * percent / 100).max(1),
        }
    }

    /// The state as operators see it.
    pub(super) fn listed(&self) -> ListedProtection {
        let load = self.automatic.load();
        ListedProtection {
            syn_validation: self.validation(),
            validating: self.validates(),
            syns_per_s: load.syns_per_s,
            half_open: load.half_open,
            connection_rate: self.rate(),
            denied: self.denied.len(),
        }
    }

    /// The deny list: first what operators have ordered.
    pub(super) fn listed_denials(&self) -> Vec<ListedDenial> {
        let now = SystemTime::now();
        let ordered = self
            .orders
            .denials
            .iter()
            .map(|(network, until)| ListedDenial {
                network: *network,
                by_file: false,
                remaining_s: until
                    .map(|until| until.duration_since(now).unwrap_or_default().as_secs()),
            });
        let by_file = self.plan.denied.iter().map(|network| ListedDenial {
            network: network.truncated(),
            by_file: true,
            remaining_s: None,
        });
        ordered.chain(by_file).collect()
    }
}

fn reading(dataplane: &Dataplane) -> Result<Reading, Error> {
    let handshakes = dataplane.handshakes()?;
    Ok(Reading {
        opened: handshakes.opened,
        completed: handshakes.completed,
        refused: dataplane.packets_with(Reason::Challenged)? + handshakes.refused,
        proven: dataplane.packets_with(Reason::SourceProven)?,
    })
}

fn random_key() -> io::Result<[u64; 2]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let key = u128::from_ne_bytes(bytes);
    Ok([key as u64, (key >> 64) as u64])
}

#[cfg(test)]
mod tests;
