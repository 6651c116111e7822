//! `quota`: the publishers and players that there are, their rates, and who is refused for
//! them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rtmp_proto::session::StreamKey;

use super::client::{Activity, Client};
use super::counts::Counts;
use super::refusal::{Denial, RefusalReason};
use crate::config::{Action, Quota, Vhost};
use crate::stream::lock;

/// Time over which rates are measured: longer than `mw_latency` and most groups of
/// pictures, so that no burst counts for more than it is.
const RATE_PERIOD: Duration = Duration::from_secs(5);

/// The IPv4 address, or the first address of the IPv6 /64, that counts as one client's.
pub(super) fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

/// The reason why a quota lets nobody else in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Exceeded {
    /// As many do it as may.
    #[error("{holder} has its {limit} {clients} already (`quota`)")]
    Clients {
        /// The vhost or the application.
        holder: String,
        /// The limit.
        limit: u32,
        /// `publishers` or `players`.
        clients: &'static str,
    },
    /// As much is sent as may be.
    #[error("{holder} has reached its {limit} kbit/s (`quota`)")]
    Rate {
        /// The vhost or the application.
        holder: String,
        /// The limit.
        limit: u32,
    },
    /// The address has as many players as it may.
    #[error("this address has its {0} players already (`quota`)")]
    Address(u32),
}

impl Exceeded {
    /// The status over HTTP: 429 where it is the client's own doing (RFC 6585 §4).
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Address(_) => 429,
            Self::Clients { .. } | Self::Rate { .. } => 503,
        }
    }
}

impl From<Exceeded> for Denial {
    fn from(exceeded: Exceeded) -> Self {
        Self::new(RefusalReason::Quota, exceeded.to_string())
    }
}

/// A vhost, or one of its applications.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holder {
    vhost: String,
    application: Option<String>,
}

impl Holder {
    /// The two that `key` counts for: its vhost, and its application there.
    fn of(key: &StreamKey) -> [Self; 2] {
        [None, Some(key.app.clone())].map(|application| Self {
            vhost: key.vhost.clone(),
            application,
        })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.application {
            Some(application) => write!(f, "the application {application}"),
            None => write!(f, "the vhost {}", self.vhost),
        }
    }
}

/// The clients of a vhost or an application, and what they send and are sent.
#[derive(Debug, Default)]
struct Usage {
    publishers: u32,
    players: u32,
    /// Bytes from publishers and to players in intervals of the last [`RATE_PERIOD`].
    measured: VecDeque<(Duration, Bytes)>,
}

/// Bytes from publishers and to players.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    published: u64,
    played: u64,
}

impl Usage {
    fn clients(&self, action: Action) -> u32 {
        match action {
            Action::Publish => self.publishers,
            Action::Play => self.players,
        }
    }

    fn clients_mut(&mut self, action: Action) -> &mut u32 {
        match action {
            Action::Publish => &mut self.publishers,
            Action::Play => &mut self.players,
        }
    }

    /// The rate of the last [`RATE_PERIOD`], kbit/s.
    fn kbps(&self, action: Action) -> u64 {
        let bytes = self.measured.iter().map(|(_, bytes)| match action {
            Action::Publish => bytes.published,
            Action::Play => bytes.played,
        });
        let time: Duration = self.measured.iter().map(|(interval, _)| *interval).sum();
        let kilobits = u128::from(bytes.sum::<u64>()) * 8;
        u64::try_from(kilobits / time.as_millis().max(1)).unwrap_or(u64::MAX)
    }

    fn add_measured(&mut self, interval: Duration, bytes: Bytes) {
        self.measured.push_back((interval, bytes));
        let mut time: Duration = self.measured.iter().map(|(interval, _)| *interval).sum();
        while time > RATE_PERIOD
            && self.measured.len() > 1
            && let Some((oldest, _)) = self.measured.pop_front()
        {
            time -= oldest;
        }
    }

    /// Checks if one more client may do `action`.
    fn check(&self, quota: &Quota, holder: &Holder, action: Action) -> Result<(), Exceeded> {
        let present = self.clients(action);
        if let Some(limit) = quota.clients(action).filter(|&limit| present >= limit) {
            let clients = match action {
                Action::Publish => "publishers",
                Action::Play => "players",
            };
            return Err(Exceeded::Clients {
                holder: holder.to_string(),
                limit,
                clients,
            });
        }
        let kbps = self.kbps(action);
        match quota.kbps(action).filter(|&limit| kbps >= limit.into()) {
            Some(limit) => Err(Exceeded::Rate {
                holder: holder.to_string(),
                limit,
            }),
            None => Ok(()),
        }
    }
}

/// The clients of all vhosts, counted whether there are quotas or not: a reload may bring
/// some.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    counted: Mutex<Counted>,
    /// Time of the last measurement, and the bytes of each client at that time.
    measured: Mutex<Option<(Instant, HashMap<u64, Bytes>)>>,
}

#[derive(Debug, Default)]
struct Counted {
    usage: HashMap<Holder, Usage>,
    /// Players by vhost and [`counted_address`].
    addresses: Counts<(String, IpAddr)>,
}

/// One client's part of the counts, as long as it is held.
#[derive(Debug)]
pub(super) struct Permit {
    quotas: Arc<Quotas>,
    key: Arc<StreamKey>,
    action: Action,
    /// Its address, if it plays.
    address: Option<IpAddr>,
}

impl Quotas {
    /// Counts a client that is about to publish or play `key` of `vhost`.
    ///
    /// # Errors
    /// A quota is exhausted.
    pub(super) fn acquire(
        self: &Arc<Self>,
        vhost: &Vhost,
        key: &Arc<StreamKey>,
        action: Action,
        peer: IpAddr,
    ) -> Result<Permit, Exceeded> {
        let limits = &vhost.quotas;
        let mut counted = lock(&self.counted);
        let of_application = limits.applications.get(&key.app);
        let holders = Holder::of(key);
        let unused = Usage::default();
        for (holder, quota) in holders.iter().zip([Some(&limits.vhost), of_application]) {
            if let Some(quota) = quota {
                let usage = counted.usage.get(holder).unwrap_or(&unused);
                usage.check(quota, holder, action)?;
            }
        }
        let address = (action == Action::Play).then(|| counted_address(peer));
        if let Some(address) = address {
            let limit = limits.players_per_address;
            let place = (key.vhost.clone(), address);
            if !counted.addresses.add(place, limit) {
                return Err(Exceeded::Address(limit));
            }
        }
        for holder in holders {
            *counted.usage.entry(holder).or_default().clients_mut(action) += 1;
        }
        Ok(Permit {
            quotas: self.clone(),
            key: key.clone(),
            action,
            address,
        })
    }

    /// Counts a client that this process has counted before, whatever the limits say now.
    pub(super) fn resume(
        self: &Arc<Self>,
        key: Arc<StreamKey>,
        action: Action,
        peer: IpAddr,
    ) -> Permit {
        let mut counted = lock(&self.counted);
        let address = (action == Action::Play).then(|| counted_address(peer));
        if let Some(address) = address {
            counted.addresses.add((key.vhost.clone(), address), 0);
        }
        for holder in Holder::of(&key) {
            *counted.usage.entry(holder).or_default().clients_mut(action) += 1;
        }
        drop(counted);
        Permit {
            quotas: self.clone(),
            key,
            action,
            address,
        }
    }

    /// Measures the rates of vhosts and applications; to be called every second or so, where
    /// it may take milliseconds.
    pub(super) fn measure(&self, clients: &[Arc<Client>], now: Instant) {
        let mut measured = lock(&self.measured);
        let before = measured.take();
        let mut present = HashMap::with_capacity(clients.len());
        let mut by_stream: HashMap<Arc<StreamKey>, Bytes> = HashMap::new();
        for client in clients {
            let bytes = Bytes {
                published: client.received.load(Ordering::Relaxed),
                played: client.meter.bytes.load(Ordering::Relaxed),
            };
            present.insert(client.id, bytes);
            let activity = client.activity();
            let (Some((at, before)), Some(key)) = (&before, activity.stream()) else {
                continue;
            };
            let before = match before.get(&client.id) {
                Some(before) => *before,
                // The program before this one has served it: of no known time.
                None if client.age(now) > now.saturating_duration_since(*at) => bytes,
                None => Bytes::default(),
            };
            let publishes = matches!(activity, Activity::Publishing(_) | Activity::StandingBy(_));
            let sum = by_stream.entry(key.clone()).or_default();
            if publishes {
                sum.published += bytes.published - before.published;
            } else {
                sum.played += bytes.played - before.played;
            }
        }
        *measured = Some((now, present));
        let Some((at, _)) = before else {
            return;
        };
        let mut sums: HashMap<Holder, Bytes> = HashMap::new();
        for (key, bytes) in by_stream {
            for holder in Holder::of(&key) {
                let sum = sums.entry(holder).or_default();
                sum.published += bytes.published;
                sum.played += bytes.played;
            }
        }
        let interval = now.saturating_duration_since(at);
        // Whoever joins waits for this lock.
        for (holder, usage) in &mut lock(&self.counted).usage {
            let bytes = sums.get(holder).copied().unwrap_or_default();
            usage.add_measured(interval, bytes);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counted = lock(&self.quotas.counted);
        for holder in Holder::of(&self.key) {
            if let Entry::Occupied(mut usage) = counted.usage.entry(holder) {
                *usage.get_mut().clients_mut(self.action) -= 1;
                if usage.get().publishers == 0 && usage.get().players == 0 {
                    usage.remove();
                }
            }
        }
        if let Some(address) = self.address {
            let place = (self.key.vhost.clone(), address);
            counted.addresses.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Role};
    use crate::server::clients::{Clients, ConnectionLimits};

    const VHOST: &str = "__defaultVhost__";

    fn vhost(quota: &str) -> Arc<Vhost> {
        let text = format!("vhost {VHOST} {{ quota {{ {quota} }} }}");
        let mut config = config::load(&text, Role::Origin).unwrap().config;
        config.vhosts.remove(VHOST).unwrap()
    }

    fn key(app: &str) -> Arc<StreamKey> {
        Arc::new(StreamKey {
            vhost: VHOST.to_owned(),
            app: app.to_owned(),
            stream: "s".to_owned(),
        })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_vhost_and_an_application_have_as_many_clients_as_they_may() {
        let quotas = Arc::new(Quotas::default());
        let vhost = vhost("players 3; application live { players 2; publishers 1; }");
        let acquire = |app, action| quotas.acquire(&vhost, &key(app), action, address("::1"));
        let publisher = acquire("live", Action::Publish).unwrap();
        let refused = acquire("live", Action::Publish).unwrap_err();
        let text = "the application live has its 1 publishers already (`quota`)";
        assert_eq!((refused.status(), &*refused.to_string()), (503, text));
        let first = acquire("live", Action::Play).unwrap();
        let _second = acquire("live", Action::Play).unwrap();
        acquire("live", Action::Play).unwrap_err();
        let _third = acquire("other", Action::Play).unwrap();
        let refused = acquire("other", Action::Play).unwrap_err();
        let text = "the vhost __defaultVhost__ has its 3 players already (`quota`)";
        assert_eq!(refused.to_string(), text);
        drop((first, publisher));
        let _fourth = acquire("live", Action::Play).unwrap();
        let _publisher = acquire("live", Action::Publish).unwrap();
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let quotas = Arc::new(Quotas::default());
        let vhost = vhost("players_per_address 1;");
        let play = |peer| quotas.acquire(&vhost, &key("live"), Action::Play, address(peer));
        let first = play("2001:db8::1").unwrap();
        let refused = play("2001:db8::ffff:1").unwrap_err();
        assert_eq!(refused, Exceeded::Address(1));
        assert_eq!(refused.status(), 429);
        let _other = play("2001:db8:0:1::1").unwrap();
        let _ipv4 = play("192.0.2.1").unwrap();
        play("::ffff:192.0.2.1").unwrap_err();
        let _other = play("::ffff:192.0.2.2").unwrap();
        drop(first);
        let _again = play("2001:db8::2").unwrap();
    }

    #[test]
    fn who_was_counted_before_a_reload_counts_after_it() {
        let quotas = Arc::new(Quotas::default());
        let acquire =
            |vhost: &Vhost| quotas.acquire(vhost, &key("live"), Action::Play, address("::1"));
        let _first = acquire(&vhost("")).unwrap();
        acquire(&vhost("players 1;")).unwrap_err();
    }

    #[test]
    fn what_the_program_before_has_sent_is_of_no_known_time() {
        let quotas = Arc::new(Quotas::default());
        let vhost = vhost("kbps_out 800;");
        let acquire = || quotas.acquire(&vhost, &key("live"), Action::Play, address("::1"));
        let clients = Clients::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let limits = ConnectionLimits {
            all: 2,
            per_address: 0,
        };
        let play = |since, bytes| {
            let client = clients.add("[::1]:5".parse().unwrap(), limits, since);
            let client = client.unwrap();
            client.set_activity(Activity::Playing(key("live")));
            client.meter.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let _permit = acquire().unwrap();
        quotas.measure(&clients.list(), start + second);
        // One that is taken over when something has been measured already, and a new one.
        play(start, 1_000_000_000);
        quotas.measure(&clients.list(), start + 2 * second);
        acquire().map(drop).unwrap();
        play(start + 2 * second, 1_000_000_000);
        quotas.measure(&clients.list(), start + 3 * second);
        acquire().map(drop).unwrap_err();
    }

    #[test]
    fn nobody_is_let_in_beyond_a_rate_until_it_falls() {
        let quotas = Arc::new(Quotas::default());
        let vhost = vhost("kbps_out 800;");
        let acquire = || quotas.acquire(&vhost, &key("live"), Action::Play, address("::1"));
        let clients = Clients::default();
        let mut now = Instant::now();
        let limits = ConnectionLimits {
            all: 1,
            per_address: 0,
        };
        let player = clients
            .add("[::1]:5".parse().unwrap(), limits, now)
            .unwrap();
        player.set_activity(Activity::Playing(key("live")));
        let _permit = acquire().unwrap();
        let mut second = |bytes| {
            player.meter.bytes.fetch_add(bytes, Ordering::Relaxed);
            now += Duration::from_secs(1);
            quotas.measure(&clients.list(), now);
            acquire().map(drop)
        };
        // What it had before the first measurement is of no known time.
        second(1_000_000).unwrap();
        second(99_000).unwrap();
        let limit = 800;
        let holder = "the vhost __defaultVhost__".to_owned();
        let refused = Err(Exceeded::Rate { holder, limit });
        assert_eq!(second(101_000), refused);
        assert_eq!(second(300_000), refused);
        for _ in 0..2 {
            assert_eq!(second(0), refused, "the mean of five seconds");
        }
        second(0).unwrap();
    }
}
