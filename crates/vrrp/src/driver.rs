//! The task that drives all virtual routers: sockets, timers and commands in,
//! events out.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::sleep_until;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout_at};

use super::address_manager::AddressManager;
use super::event::Event;
use super::packet::PRIORITY_LEAVING;
use super::packet_queue::{Packet, PacketQueue};
use super::settings::{InstanceSettings, Settings};
use super::status::InstanceStatus;
use super::tracking::watched::Watched;
use super::unit::{KeptRouter, Unit, partition};
use netlink::interfaces::{Interfaces, Watcher};

/// Interval at which sockets that could not be opened are tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Time that a busy successor may take in addition to its skew.
const SUCCESSOR_MARGIN: Duration = Duration::from_millis(250);

/// Time after a successor's first advert in which its announcements arrive.
const ANNOUNCEMENT_DELAY: Duration = Duration::from_millis(50);

/// A command of [`Vrrp`](super::Vrrp).
#[derive(Debug)]
pub(crate) enum Command {
    Reload(Settings, oneshot::Sender<()>),
    /// Addresses at which a service has no quorum, and the time after which one
    /// that is regained counts.
    SetQuorumLost(BTreeSet<IpAddr>, Duration),
    Status(oneshot::Sender<Vec<InstanceStatus>>),
    /// Asks for the names of the masters.
    HandOver(oneshot::Sender<Vec<String>>),
    Stop,
}

/// The part of its life that the driver is in.
///
/// ```text
///              startup_delay over         Stop             successors there, or late
///   Delayed ──────────────────▶ Running ────────▶ Stopping ─────────────────────▶ (end)
///      │ │                         │                 ▲
///      │ └──────── Stop ───────────┼─────────────────┘
///      └──────── HandOver ─────────┴──▶ HandingOver ─── addresses stay ─────────▶ (end)
/// ```
#[derive(Debug)]
enum Phase {
    /// No virtual router starts, but for those that were handed over.
    Delayed {
        until: Instant,
    },
    Running,
    Stopping,
    HandingOver(oneshot::Sender<Vec<String>>),
}

/// The state of the task. It evaluates all units again ([`Self::reevaluate`])
/// whenever something that they depend on has changed: interfaces, scripts, files,
/// quorums, settings, sockets.
pub(crate) struct Driver {
    phase: Phase,
    interfaces: watch::Receiver<Arc<Interfaces>>,
    _watcher: Watcher,
    netlink: netlink::Connection,
    events: mpsc::UnboundedSender<Event>,
    units: Vec<Unit>,
    watched: Watched,
    packets: PacketQueue,
    received: mpsc::Receiver<Packet>,
    /// Virtual routers that an earlier run has handed over, being master.
    handed_over: Vec<String>,
    /// The address managers of removed virtual routers, until they are done.
    stopping: Vec<AddressManager>,
    /// Time at which to evaluate again though nothing has changed.
    reevaluate_at: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(
        watcher: Watcher,
        netlink: netlink::Connection,
        events: mpsc::UnboundedSender<Event>,
        handed_over: Vec<String>,
    ) -> Self {
        let (packets, received) = PacketQueue::new();
        Self {
            phase: Phase::Running,
            interfaces: watcher.subscribe(),
            _watcher: watcher,
            netlink,
            events,
            units: Vec::new(),
            watched: Watched::new(),
            packets,
            received,
            handed_over,
            stopping: Vec::new(),
            reevaluate_at: None,
        }
    }

    /// Runs until [`Command::Stop`] or [`Command::HandOver`].
    pub(crate) async fn run(
        mut self,
        settings: Settings,
        mut commands: mpsc::UnboundedReceiver<Command>,
    ) {
        self.phase = Phase::Delayed {
            until: now() + settings.startup_delay,
        };
        self.configure(settings);
        while matches!(self.phase, Phase::Delayed { .. } | Phase::Running) {
            self.step(&mut commands).await;
        }
        if let Phase::HandingOver(reply) = std::mem::replace(&mut self.phase, Phase::Stopping) {
            self.hand_over(reply).await;
        } else {
            self.stop().await;
        }
    }

    /// Waits for one thing to happen, and handles it.
    async fn step(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let deadline = self.deadline();
        tokio::select! {
            Some(packet) = self.received.recv() => self.on_packet(packet),
            () = sleep_until(deadline) => self.on_timer(),
            () = self.watched.changed() => self.reevaluate(),
            Ok(()) = self.interfaces.changed() => self.reevaluate(),
            command = commands.recv() => self.on_command(command.unwrap_or(Command::Stop)),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let of_units = self.units.iter().filter_map(Unit::deadline);
        of_units.chain(self.reevaluate_at).min()
    }

    fn on_timer(&mut self) {
        for unit in &mut self.units {
            unit.on_timer(now());
        }
        if self.reevaluate_at.is_some_and(|at| at <= now()) {
            self.reevaluate();
        }
    }

    fn on_packet(&mut self, Packet { channel, received }: Packet) {
        let found = self.units.iter_mut().find_map(|unit| {
            let mut members = unit.members().iter();
            let member = members.position(|member| member.has_channel(channel))?;
            Some((unit, member))
        });
        // Sockets that were closed meanwhile have no owner any more.
        let Some((unit, member)) = found else { return };
        match received {
            Ok(received) => unit.on_packet(now(), member, &received),
            Err(error) => {
                unit.on_receive_error(member, &error);
                self.reevaluate();
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Reload(settings, done) => {
                self.configure(settings);
                // Whoever asked may have gone.
                let _ = done.send(());
            }
            Command::SetQuorumLost(addresses, settling) => {
                self.watched.set_quorum_lost(addresses, now() + settling);
                self.reevaluate();
            }
            Command::Status(reply) => {
                let status = self.units.iter().flat_map(Unit::status).collect();
                // Whoever asked may have gone.
                let _ = reply.send(status);
            }
            Command::HandOver(reply) => self.phase = Phase::HandingOver(reply),
            Command::Stop => self.phase = Phase::Stopping,
        }
    }

    /// Works out priorities and faults anew, and starts the units that can start.
    fn reevaluate(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        self.watched.settle_quorums(now());
        if matches!(self.phase, Phase::Delayed { until } if until <= now()) {
            self.phase = Phase::Running;
        }
        let is_running = matches!(self.phase, Phase::Running);
        for unit in &mut self.units {
            let undecided = unit.evaluate(now(), &self.watched, &interfaces, &mut self.packets);
            let may_start = is_running && !undecided;
            if let Some(mode) = unit.start_mode(&self.handed_over, may_start, &interfaces) {
                unit.start(now(), mode, &interfaces);
            }
        }
        let mut members = self.units.iter().flat_map(Unit::members);
        let next = match self.phase {
            Phase::Delayed { until } => Some(until),
            _ => members
                .any(|member| member.has_failed_sockets())
                .then(|| now() + RETRY_INTERVAL),
        };
        self.reevaluate_at = next.into_iter().chain(self.watched.next_settled()).min();
    }

    /// Brings everything in line with settings: virtual routers that stay keep
    /// their state, those that are gone stop.
    fn configure(&mut self, mut settings: Settings) {
        let interfaces = self.interfaces.borrow().clone();
        for instance in &mut settings.instances {
            instance.fit_on(&interfaces);
        }
        self.watched.configure(settings.scripts, settings.files);
        self.stop_all_but(&settings.instances);
        let units = self.units.drain(..);
        let mut kept: Vec<KeptRouter> = units.flat_map(Unit::into_kept_routers).collect();
        for (group, members) in partition(settings.groups, settings.instances) {
            let start_address_manager = |name: &str| {
                let handle = self.netlink.handle.clone();
                AddressManager::start(name.to_owned(), handle, self.interfaces.clone())
            };
            let events = self.events.clone();
            let unit = Unit::new(
                now(),
                group,
                members,
                &mut kept,
                start_address_manager,
                events,
            );
            self.units.push(unit);
        }
        self.reevaluate();
    }

    fn stop_all_but(&mut self, wanted: &[InstanceSettings]) {
        for unit in &mut self.units {
            let stopping = unit.stop_members(now(), |instance| {
                wanted.iter().any(|wanted| instance.is_same_router(wanted))
            });
            self.stopping.extend(stopping);
        }
    }

    /// Ends without a change to addresses, and replies with the masters' names.
    async fn hand_over(mut self, reply: oneshot::Sender<Vec<String>>) {
        // Before the last adverts: killed scripts may take a moment to end.
        self.watched.stop_scripts().await;
        let mut masters = Vec::new();
        for unit in self.units.drain(..) {
            let (names, address_managers) = unit.hand_over();
            masters.extend(names);
            self.stopping.extend(address_managers);
        }
        self.finish().await;
        // Whoever asked may have gone.
        let _ = reply.send(masters);
    }

    /// Stops all virtual routers, and ends when their successors have taken over.
    async fn stop(mut self) {
        let mut successors = Vec::new();
        for (index, unit) in self.units.iter_mut().enumerate() {
            let masters = unit.masters();
            successors.extend(masters.map(|member| Successor {
                unit: index,
                member,
                due: now() + unit.members()[member].settings.max_skew() + SUCCESSOR_MARGIN,
            }));
            unit.stop(now());
        }
        self.wait_for_successors(successors).await;
        let units = self.units.drain(..);
        self.stopping
            .extend(units.flat_map(Unit::into_address_managers));
        self.finish().await;
    }

    /// Waits until another router has advertised in the place of each master. There may be
    /// none, which cannot be known: a backup sends nothing.
    async fn wait_for_successors(&mut self, mut awaited: Vec<Successor>) {
        if awaited.is_empty() {
            return;
        }
        while let Some(deadline) = drop_overdue(&mut awaited, now()) {
            let packet = match timeout_at(deadline.into(), self.received.recv()).await {
                Ok(Some(packet)) => packet,
                Ok(None) => return,
                // Others may be waited for longer.
                Err(_) => continue,
            };
            let Ok(received) = packet.received else {
                continue;
            };
            awaited.retain(|Successor { unit, member, .. }| {
                let unit = &mut self.units[*unit];
                let advert = match unit.members()[*member].has_channel(packet.channel) {
                    true => unit.check(*member, &received),
                    false => None,
                };
                advert.is_none_or(|advert| advert.priority == PRIORITY_LEAVING)
            });
        }
        // Its announcements follow its first advert.
        sleep(ANNOUNCEMENT_DELAY).await;
    }

    /// Waits until all changes to addresses are made.
    async fn finish(self) {
        for address_manager in self.stopping {
            address_manager.finish().await;
        }
    }
}

/// The router that is to take over from a master that has stopped.
struct Successor {
    /// Index of the master's unit.
    unit: usize,
    /// Its index in that unit.
    member: usize,
    /// Time after which it is not waited for.
    due: Instant,
}

/// Drops those that are not waited for any more; returns when the next one is not.
fn drop_overdue(awaited: &mut Vec<Successor>, now: Instant) -> Option<Instant> {
    awaited.retain(|successor| successor.due > now);
    awaited.iter().map(|successor| successor.due).min()
}

/// tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_successor_is_waited_for_until_its_own_time_is_over() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut awaited: Vec<Successor> = [(0, 2), (1, 1)]
            .map(|(unit, seconds)| Successor {
                unit,
                member: 0,
                due: at(seconds),
            })
            .into();
        assert_eq!(drop_overdue(&mut awaited, start), Some(at(1)));
        assert_eq!(awaited.len(), 2);
        assert_eq!(drop_overdue(&mut awaited, at(1)), Some(at(2)));
        assert_eq!(awaited[0].unit, 0, "the other is late");
        assert_eq!(drop_overdue(&mut awaited, at(2)), None);
    }
}
