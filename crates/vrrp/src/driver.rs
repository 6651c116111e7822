//! The task that drives all virtual routers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, sleep_until, timeout_at};

use super::group::MemberAction;
use super::holder::Holder;
use super::instance::{Arrival, Instance};
use super::machine::{Action, Input, State};
use super::packet::PRIORITY_LEAVING;
use super::settings::{FileSettings, InstanceSettings, ScriptSettings, Settings};
use super::status::InstanceStatus;
use super::track_file::{FileNumber, RunningFile};
use super::track_script::{RunningScript, ScriptOutcome, ScriptResult, Streak};
use super::tracking::{self, Health, Standing, Tracked};
use super::unit::{Survivor, Unit, partition};
use super::{Event, Subject};
use netlink::interfaces::{Interfaces, Watcher};

/// Adverts that wait to be looked at; more are left in the sockets.
const ARRIVALS: usize = 64;

/// How soon sockets that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How much later than the protocol has it a busy successor may be heard.
const SLOWNESS: Duration = Duration::from_millis(250);

/// How long after its first advert a successor's announcements have arrived.
const ANNOUNCING: Duration = Duration::from_millis(50);

/// All virtual routers of this machine. Dropped, they stop as with
/// [`stop`](Self::stop), but nobody waits for it.
#[derive(Debug)]
pub struct Vrrp {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Command {
    Reload(Settings, oneshot::Sender<()>),
    Lacking(BTreeSet<IpAddr>, Duration),
    Status(oneshot::Sender<Vec<InstanceStatus>>),
    HandOver(oneshot::Sender<Vec<String>>),
    Stop,
}

impl Vrrp {
    /// Starts the virtual routers; must be called within a tokio runtime.
    ///
    /// # Errors
    /// The kernel gives no netlink socket. What a single virtual router misses
    /// makes it enter `fault`, and is no error.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        Self::lead_on(settings, Vec::new()).await
    }

    /// As [`Self::start`], after an earlier run has handed over, being master of
    /// `masters`: these go on as if nothing had happened, provided that their
    /// addresses are still there.
    ///
    /// # Errors
    /// As of [`Self::start`].
    pub async fn lead_on(settings: Settings, masters: Vec<String>) -> io::Result<Self> {
        let watcher = Watcher::start().await?;
        let netlink = netlink::Connection::open()?;
        let (commands, incoming) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let driver = Driver::new(watcher, netlink, sender, masters);
        let task = tokio::spawn(driver.run(settings, incoming));
        Ok(Self {
            commands,
            events,
            task,
        })
    }

    /// Waits for the next change of state. May be dropped without losing one.
    /// Never returns once everything has stopped.
    pub async fn next_event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Compares with what runs: virtual routers that stay keep their state,
    /// those that are gone leave. Returns the changes of state that nobody has
    /// fetched, up to the last of those that are gone.
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

    /// Tells at which addresses a service has lost its quorum, for the virtual
    /// routers that track that. None, until told. A quorum that is regained
    /// counts after `settling`.
    pub fn set_lacking(&self, addresses: BTreeSet<IpAddr>, settling: Duration) {
        // The task ends only with `stop`.
        let _ = self.commands.send(Command::Lacking(addresses, settling));
    }

    /// All virtual routers at the moment, as configured.
    pub async fn status(&self) -> Vec<InstanceStatus> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::Status(sender));
        receiver.await.unwrap_or_default()
    }

    /// Ends without leaving: addresses stay, and the network is told of nothing
    /// but that the masters are there. Returns their names, for
    /// [`Self::lead_on`].
    pub async fn hand_over(self) -> Vec<String> {
        let (sender, receiver) = oneshot::channel();
        let _ = self.commands.send(Command::HandOver(sender));
        let masters = receiver.await.unwrap_or_default();
        if let Err(error) = self.task.await {
            log::error!("the task that drives VRRP has failed: {error}");
        }
        masters
    }

    /// Leaves: masters say so, and their addresses are removed. Waits for their
    /// successors to be heard, as long as these may take by the protocol, a
    /// second or an interval: until then viewers' packets still come here.
    /// Returns the changes of state that nobody has fetched, these last ones
    /// included.
    pub async fn stop(mut self) -> Vec<Event> {
        let _ = self.commands.send(Command::Stop);
        if let Err(error) = (&mut self.task).await {
            log::error!("the task that drives VRRP has failed: {error}");
        }
        self.fetch_all()
    }
}

struct TrackedScript {
    settings: ScriptSettings,
    streak: Streak,
    running: RunningScript,
}

struct TrackedFile {
    settings: FileSettings,
    /// What it says; `None` until it has been read.
    number: Option<i32>,
    _running: RunningFile,
}

/// A master that has left, and until when its successor is due.
struct Succession {
    unit: usize,
    member: usize,
    due: Instant,
}

struct Driver {
    interfaces: watch::Receiver<Arc<Interfaces>>,
    _watcher: Watcher,
    netlink: netlink::Connection,
    events: mpsc::UnboundedSender<Event>,
    units: Vec<Unit>,
    scripts: BTreeMap<String, TrackedScript>,
    files: BTreeMap<String, TrackedFile>,
    /// Addresses at which a service has lost its quorum; until when, if it has
    /// regained it.
    lacking: BTreeMap<IpAddr, Option<Instant>>,
    arrivals: mpsc::Sender<Arrival>,
    arrived: mpsc::Receiver<Arrival>,
    results: mpsc::UnboundedSender<ScriptResult>,
    finished: mpsc::UnboundedReceiver<ScriptResult>,
    numbers: mpsc::UnboundedSender<FileNumber>,
    read: mpsc::UnboundedReceiver<FileNumber>,
    next_channel: u64,
    /// Virtual routers that an earlier run has handed over, being master.
    handed_over: Vec<String>,
    /// Nothing starts before.
    start_at: Instant,
    /// When to look around though nothing has changed.
    look_at: Option<Instant>,
}

impl Driver {
    fn new(
        watcher: Watcher,
        netlink: netlink::Connection,
        events: mpsc::UnboundedSender<Event>,
        handed_over: Vec<String>,
    ) -> Self {
        let (arrivals, arrived) = mpsc::channel(ARRIVALS);
        let (results, finished) = mpsc::unbounded_channel();
        let (numbers, read) = mpsc::unbounded_channel();
        Self {
            interfaces: watcher.subscribe(),
            _watcher: watcher,
            netlink,
            events,
            units: Vec::new(),
            scripts: BTreeMap::new(),
            files: BTreeMap::new(),
            lacking: BTreeMap::new(),
            arrivals,
            arrived,
            results,
            finished,
            numbers,
            read,
            next_channel: 0,
            handed_over,
            start_at: now(),
            look_at: None,
        }
    }

    async fn run(mut self, settings: Settings, mut commands: mpsc::UnboundedReceiver<Command>) {
        self.start_at = now() + settings.startup_delay;
        self.configure(settings);
        let mut leaving = Vec::new();
        loop {
            let deadline = self.deadline();
            tokio::select! {
                Some(arrival) = self.arrived.recv() => self.take(arrival),
                () = sleep_until(deadline.unwrap_or_else(now).into()), if deadline.is_some() => {
                    self.tick();
                }
                Some(result) = self.finished.recv() => self.count(&result),
                Some(read) = self.read.recv() => self.take_number(&read),
                Ok(()) = self.interfaces.changed() => self.look_around(),
                command = commands.recv() => match command {
                    Some(Command::Reload(settings, done)) => {
                        leaving.extend(self.configure(settings));
                        // Whoever asked may have gone.
                        let _ = done.send(());
                    }
                    Some(Command::Lacking(addresses, settling)) => {
                        self.set_lacking(addresses, now() + settling);
                    }
                    // Whoever asked may have gone.
                    Some(Command::Status(asker)) => drop(asker.send(self.status())),
                    Some(Command::HandOver(asker)) => {
                        for script in std::mem::take(&mut self.scripts).into_values() {
                            script.running.end().await;
                        }
                        let (masters, holders) = self.hand_over();
                        leaving.extend(holders);
                        for holder in leaving {
                            holder.finish().await;
                        }
                        drop(asker.send(masters));
                        return;
                    }
                    Some(Command::Stop) | None => break,
                },
            }
        }
        let masters = self.stop();
        self.wait_for_successors(masters).await;
        let members = self.units.drain(..).flat_map(|unit| unit.members);
        leaving.extend(members.map(|member| member.holder));
        for holder in leaving {
            holder.finish().await;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let of_units = self.units.iter().filter_map(|unit| unit.group.deadline());
        of_units.chain(self.look_at).min()
    }

    /// Time has passed.
    fn tick(&mut self) {
        for unit in 0..self.units.len() {
            let actions = self.units[unit].group.tick(now());
            self.carry_out(unit, actions);
        }
        if self.look_at.is_some_and(|at| at <= now()) {
            self.look_around();
        }
    }

    /// Something was received.
    fn take(&mut self, arrival: Arrival) {
        let found = self.units.iter().enumerate().find_map(|(unit, of)| {
            let member = of
                .members
                .iter()
                .position(|member| member.has_channel(arrival.channel));
            member.map(|member| (unit, member))
        });
        // Sockets that were closed meanwhile have no owner any more.
        let Some((unit, member)) = found else { return };
        let instance = &mut self.units[unit].members[member];
        match arrival.received {
            Ok(received) => {
                if let Some(heard) = instance.check(&received) {
                    let group = &mut self.units[unit].group;
                    let actions = group.handle(now(), member, Input::Heard(heard));
                    self.carry_out(unit, actions);
                }
            }
            Err(error) => {
                instance.disconnect(&error);
                self.look_around();
            }
        }
    }

    /// A tracked script has been run.
    fn count(&mut self, result: &ScriptResult) {
        let Some(script) = self.scripts.get_mut(&result.name) else {
            return;
        };
        if script.streak.count(&result.outcome) {
            let name = &result.name;
            match &result.outcome {
                ScriptOutcome::Success => log::info!("vrrp_script {name}: succeeds"),
                ScriptOutcome::Failure => log::warn!("vrrp_script {name}: fails"),
                ScriptOutcome::Refused(reason) if script.streak.health() == Health::Untracked => {
                    log::warn!("vrrp_script {name} is not run, and counts for nothing: {reason}");
                }
                ScriptOutcome::Refused(reason) => {
                    log::warn!("vrrp_script {name}: fails: it can be run no more: {reason}");
                }
            }
            self.look_around();
        }
    }

    /// A tracked file has been read.
    fn take_number(&mut self, FileNumber { name, number }: &FileNumber) {
        let Some(file) = self.files.get_mut(name) else {
            return;
        };
        if file.number.replace(*number) != Some(*number) {
            log::info!("track_file {name}: it says {number}");
            self.look_around();
        }
    }

    /// Services have lost or regained their quorum.
    fn set_lacking(&mut self, addresses: BTreeSet<IpAddr>, settled: Instant) {
        for (address, until) in &mut self.lacking {
            if !addresses.contains(address) {
                until.get_or_insert(settled);
            }
        }
        let lacking = addresses.into_iter().map(|address| (address, None));
        self.lacking.extend(lacking);
        self.look_around();
    }

    /// Interfaces, scripts or settings have changed: what follows?
    fn look_around(&mut self) {
        let interfaces = self.interfaces.borrow_and_update().clone();
        let present = now();
        self.lacking
            .retain(|_, until| until.is_none_or(|until| until > present));
        for unit in 0..self.units.len() {
            let mut undecided = false;
            for member in 0..self.units[unit].members.len() {
                undecided |= self.examine(unit, member, &interfaces);
            }
            let Unit { members, group, .. } = &mut self.units[unit];
            for (index, member) in members.iter_mut().enumerate() {
                if let Some(reason) = group.fault_of(index) {
                    member.renew_fault(reason);
                }
            }
            let waiting = self.units[unit].is_waiting();
            if waiting && self.is_handed_over(unit, &interfaces) {
                let actions = self.units[unit].group.lead_on(now());
                self.carry_out(unit, actions);
                for member in &self.units[unit].members {
                    // Their addresses are followed by the interfaces; nothing
                    // tells when a route is gone.
                    let routes = member.settings.routes.clone();
                    member.holder.hold(Vec::new(), routes);
                }
            } else if waiting && !undecided && self.start_at <= now() {
                let members = &self.units[unit].members;
                let holding = members.iter().all(|member| member.is_holding(&interfaces));
                if !holding {
                    // Half of what an earlier run held is of no use.
                    for member in members {
                        let routes = member.settings.routes.clone();
                        let addresses = member.leftovers(&interfaces);
                        member.holder.release(addresses, routes);
                    }
                }
                let actions = self.units[unit].group.start(now(), holding);
                self.carry_out(unit, actions);
            }
        }
        let in_trouble = |unit: &Unit| unit.members.iter().any(Instance::is_in_trouble);
        let look_at = if self.start_at > now() {
            Some(self.start_at)
        } else {
            self.units.iter().any(in_trouble).then(|| now() + RETRY)
        };
        let settled = self.lacking.values().copied().flatten();
        self.look_at = look_at.into_iter().chain(settled).min();
    }

    /// Whether a unit led a moment ago, and can go on. It then waits for nothing:
    /// what is tracked is looked at later, as it is with any master.
    fn is_handed_over(&self, unit: usize, interfaces: &Interfaces) -> bool {
        self.units[unit].members.iter().all(|member| {
            self.handed_over.contains(&member.settings.name)
                && member.local_address().is_some()
                && member.is_holding(interfaces)
        })
    }

    /// Finds out how one member is; returns whether that is not known yet.
    fn examine(&mut self, unit: usize, member: usize, interfaces: &Interfaces) -> bool {
        let standing = self.standing(unit, member, interfaces);
        let Unit { members, group, .. } = &mut self.units[unit];
        let instance = &mut members[member];
        let missing = instance.connect(interfaces, &mut self.next_channel, &self.arrivals);
        let fault = standing.fault.or(missing);
        group
            .machine_mut(member)
            .set_local(instance.local_address());
        let is_master = group.machine(member).state() == State::Master;
        if is_master && instance.has_lost_addresses(interfaces) {
            let addresses = &instance.settings.addresses;
            log::warn!(
                "{}: its addresses were taken away; added again",
                instance.settings.name
            );
            instance.holder.hold(addresses.clone(), Vec::new());
            instance.announce(addresses.clone());
        }
        let moved = instance.moved_addresses(interfaces);
        if is_master && !moved.is_empty() {
            log::info!(
                "{}: the MAC address of its interface has changed; its addresses are announced",
                instance.settings.name
            );
            instance.announce(moved);
        }
        let mut actions = Vec::new();
        if group.machine(member).priority() != standing.priority {
            let name = &instance.settings.name;
            log::info!("{name}: its priority is {} now", standing.priority);
            actions = group.handle(now(), member, Input::Priority(standing.priority));
        }
        actions.extend(group.set_fault(now(), member, fault));
        self.carry_out(unit, actions);
        standing.undecided
    }

    fn standing(&self, unit: usize, member: usize, interfaces: &Interfaces) -> Standing {
        let Unit {
            members,
            settings: group,
            ..
        } = &self.units[unit];
        let settings = &members[member].settings;
        let mut tracked: Vec<Tracked> = settings.tracked.clone();
        if let Some(group) = group {
            // Within a group, members' own weights do not count, lest their
            // priorities contradict each other: keepalived 2.2.7 leaves out
            // scripts and files with a weight, and takes that of an interface
            // for 0. A quorum counts for all members alike.
            tracked.retain(|own| own.weight == 0 || !own.subject.has_own_weight());
            for own in &mut tracked {
                if own.subject != tracking::Subject::Quorum {
                    own.weight = 0;
                }
            }
            tracked.extend(group.tracked.iter().cloned());
        }
        tracking::standing(settings.priority, &tracked, |subject| match subject {
            tracking::Subject::Interface(name) => match interfaces.get(name) {
                Some(interface) if interface.running => Health::Up,
                _ => Health::Down,
            },
            tracking::Subject::Script(name) => self
                .scripts
                .get(name)
                .map_or(Health::Unknown, |script| script.streak.health()),
            tracking::Subject::File(name) => self
                .files
                .get(name)
                .and_then(|file| file.number)
                .map_or(Health::Unknown, Health::Number),
            tracking::Subject::Quorum => {
                let held = members.iter().flat_map(|member| &member.settings.addresses);
                let mut held = held.map(|held| &held.address);
                match held.any(|address| self.lacking.contains_key(address)) {
                    true => Health::Down,
                    false => Health::Up,
                }
            }
        })
    }

    fn carry_out(&mut self, unit: usize, actions: Vec<MemberAction>) {
        let mut last = None;
        for MemberAction { member, action } in actions {
            let Unit { members, group, .. } = &mut self.units[unit];
            let instance = &mut members[member];
            let addresses = || instance.settings.addresses.clone();
            match action {
                Action::Advertise { priority } => instance.advertise(priority),
                Action::AddAddresses => {
                    let routes = instance.settings.routes.clone();
                    instance.holder.hold(addresses(), routes);
                }
                Action::RemoveAddresses => {
                    let routes = instance.settings.routes.clone();
                    instance.holder.release(addresses(), routes);
                }
                Action::Announce { repeat } => {
                    let pauses = instance.settings.pauses;
                    instance.holder.announce(addresses(), repeat, pauses);
                }
                Action::Entered(state, cause) => {
                    instance.note(state, cause.clone());
                    last = Some(cause.clone());
                    let name = instance.settings.name.clone();
                    let priority = group.machine(member).priority();
                    let subject = Subject::Instance;
                    self.tell(Event {
                        subject,
                        name,
                        state,
                        cause,
                        priority,
                    });
                }
            }
        }
        let Unit {
            group,
            told,
            settings,
            ..
        } = &mut self.units[unit];
        if let (Some(settings), Some(cause), Some(state)) = (settings, last, group.state())
            && *told != Some(state)
        {
            *told = Some(state);
            let (subject, name) = (Subject::Group, settings.name.clone());
            self.tell(Event {
                subject,
                name,
                state,
                cause,
                priority: 0,
            });
        }
    }

    fn tell(&self, event: Event) {
        let level = match event.state {
            State::Fault => log::Level::Warn,
            State::Init | State::Backup | State::Master => log::Level::Info,
        };
        log::log!(level, "{event}");
        // Nobody listens while the end is waited for.
        let _ = self.events.send(event);
    }

    /// Brings everything in line with settings; returns what is being left.
    fn configure(&mut self, mut settings: Settings) -> Vec<Holder> {
        let interfaces = self.interfaces.borrow().clone();
        for instance in &mut settings.instances {
            instance.fit_on(&interfaces);
        }
        self.configure_scripts(settings.scripts);
        self.configure_files(settings.files);
        let leaving = self.leave_all_but(&settings.instances);
        let mut survivors: Vec<Survivor> = self
            .units
            .drain(..)
            .flat_map(Unit::into_survivors)
            .collect();
        for (group, members) in partition(settings.groups, settings.instances) {
            let start_holder = |name: &str| {
                let handle = self.netlink.handle.clone();
                Holder::start(name.to_owned(), handle, self.interfaces.clone())
            };
            let unit = Unit::new(now(), group, members, &mut survivors, start_holder);
            self.units.push(unit);
            let last = self.units.len() - 1;
            let actions = self.units[last].group.reconcile(now());
            self.carry_out(last, actions);
        }
        self.look_around();
        leaving
    }

    /// A script that is to be run otherwise is still taken to be as it was.
    fn configure_scripts(&mut self, wanted: Vec<ScriptSettings>) {
        let mut before = std::mem::take(&mut self.scripts);
        for settings in wanted {
            let name = settings.name.clone();
            let script = match before.remove(&name) {
                Some(script) if script.settings == settings => script,
                earlier => {
                    let health = earlier.map(|script| script.streak.health());
                    TrackedScript {
                        streak: Streak::new(&settings, health),
                        running: RunningScript::start(settings.clone(), self.results.clone()),
                        settings,
                    }
                }
            };
            self.scripts.insert(name, script);
        }
    }

    /// A file that is somewhere else now still says what it said, until it is
    /// read.
    fn configure_files(&mut self, wanted: Vec<FileSettings>) {
        let mut before = std::mem::take(&mut self.files);
        for settings in wanted {
            let name = settings.name.clone();
            let file = match before.remove(&name) {
                Some(file) if file.settings == settings => file,
                earlier => TrackedFile {
                    number: earlier.and_then(|file| file.number),
                    _running: RunningFile::start(settings.clone(), self.numbers.clone()),
                    settings,
                },
            };
            self.files.insert(name, file);
        }
    }

    /// Stops the virtual routers that are not wanted any more.
    fn leave_all_but(&mut self, wanted: &[InstanceSettings]) -> Vec<Holder> {
        let mut leaving = Vec::new();
        for unit in 0..self.units.len() {
            for member in (0..self.units[unit].members.len()).rev() {
                let instance = &self.units[unit].members[member];
                if wanted.iter().any(|wanted| instance.is_same_router(wanted)) {
                    continue;
                }
                let actions = self.units[unit].group.retire(now(), member);
                self.carry_out(unit, actions);
                self.units[unit].group.forget(member);
                leaving.push(self.units[unit].members.remove(member).holder);
            }
        }
        leaving
    }

    fn status(&self) -> Vec<InstanceStatus> {
        self.units.iter().flat_map(Unit::status).collect()
    }

    /// Takes everything apart, and leaves it as it is. The last adverts give the
    /// successor the longest time.
    fn hand_over(&mut self) -> (Vec<String>, Vec<Holder>) {
        let mut masters = Vec::new();
        let mut holders = Vec::new();
        for Unit { group, members, .. } in self.units.drain(..) {
            for (index, mut member) in members.into_iter().enumerate() {
                let machine = group.machine(index);
                if machine.state() == State::Master {
                    member.advertise(machine.priority());
                    masters.push(member.settings.name);
                }
                holders.push(member.holder);
            }
        }
        (masters, holders)
    }

    /// All leave. Returns the sockets of those that led.
    fn stop(&mut self) -> Vec<Succession> {
        let mut masters = Vec::new();
        for unit in 0..self.units.len() {
            let Unit { members, group, .. } = &self.units[unit];
            for (member, instance) in members.iter().enumerate() {
                if group.machine(member).state() == State::Master {
                    masters.push(Succession {
                        unit,
                        member,
                        due: now() + instance.settings.longest_skew() + SLOWNESS,
                    });
                }
            }
            let actions = self.units[unit].group.stop(now());
            self.carry_out(unit, actions);
        }
        masters
    }

    /// Waits until another master is heard in each one's place. There need not
    /// be any other: a backup is silent.
    async fn wait_for_successors(&mut self, mut awaited: Vec<Succession>) {
        let Some(last) = awaited.iter().map(|succession| succession.due).max() else {
            return;
        };
        while !awaited.is_empty() {
            let Ok(Some(arrival)) = timeout_at(last.into(), self.arrived.recv()).await else {
                return;
            };
            let Ok(received) = arrival.received else {
                continue;
            };
            awaited.retain(|Succession { unit, member, .. }| {
                let instance = &mut self.units[*unit].members[*member];
                let heard = match instance.has_channel(arrival.channel) {
                    true => instance.check(&received),
                    false => None,
                };
                heard.is_none_or(|heard| heard.priority == PRIORITY_LEAVING)
            });
        }
        // Its announcements follow its first advert.
        sleep(ANNOUNCING).await;
    }
}

/// tokio's clock, which tests can stop.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
