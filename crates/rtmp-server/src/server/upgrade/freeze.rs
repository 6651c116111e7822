//! Everybody stands still, and what they have is written down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service_kit::stuck_thread;
use tokio::time::{sleep, timeout};

use super::parts::{CountersPart, ServerPart};
use super::{Phase, TaskParts};
use crate::hand_over::{HandOverError, HandedOver, Steps};
use crate::server::Server;
use crate::server::client::Client;
use crate::server::hls::HlsServerPart;
use crate::stream::fanout::{Frozen, PlayerPart};
use crate::stream::lock;

/// A disk that does not answer for so long, while media flows, hangs.
const DISK_LIMIT: Duration = Duration::from_secs(1);
/// Time for requests that have begun: those to hooks take 5 s at most.
const SETTLE_LIMIT: Duration = Duration::from_secs(15);
/// Time for notifications of hooks while media flows. What is not delivered is handed over; a
/// web server that has not answered is told again.
const HOOKS_LIMIT: Duration = Duration::from_secs(1);
/// The same while everybody stands still for the last time.
const LAST_HOOKS_LIMIT: Duration = Duration::from_millis(50);
/// Time for everybody to stand still.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// Time for connections that cannot be handed over to end in good order.
const GOODBYE_LIMIT: Duration = Duration::from_millis(1_500);
/// Interval at which that is looked for.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What everybody stands still for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A copy, which the program rehearses with.
    Rehearsal,
    /// What the program goes on with.
    HandOver,
}

/// A server that stands still, and what it hands over.
#[derive(Debug)]
pub(crate) struct FrozenServer {
    pub(crate) part: ServerPart,
    pub(crate) handed_over: HandedOver,
    /// The workers stand still until it is dropped.
    _workers: Frozen,
}

/// What the workers have written down.
#[derive(Debug, Default)]
struct Players {
    parts: Vec<PlayerPart>,
    handed_over: HandedOver,
}

impl Server {
    /// Waits until requests that have begun are answered; further ones wait. Connections that
    /// cannot be handed over are asked to connect again.
    ///
    /// # Errors
    /// It takes too long, or a disk hangs; the server goes on.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        check_disks().await?;
        self.safepoint.set_phase(Phase::Settling);
        if !self.safepoint.settled(SETTLE_LIMIT).await {
            self.safepoint.set_phase(Phase::Running);
            let limit = SETTLE_LIMIT.as_secs();
            return Err(format!(
                "requests of clients are not answered within {limit} s: are hooks or origins slow?"
            ));
        }
        self.end_unportable().await;
        // What is queued for the disk is not waited for while everybody stands still.
        self.hls.flush_files().await;
        self.dvr.pause().await;
        Ok(())
    }

    /// Ends what cannot be handed over, directly before everybody stands still for the last
    /// time. Recorders stand still from now on.
    ///
    /// # Errors
    /// A disk hangs; the server goes on.
    pub(crate) async fn conclude(&self) -> Result<(), String> {
        // Some have connected again since they were ended first.
        self.end_unportable().await;
        self.hls.flush_files().await;
        self.hooks.flush(HOOKS_LIMIT).await;
        let all_stand_still = self.dvr.pause().await;
        let checked = check_disks().await;
        checked.inspect_err(|_| self.go_on())?;
        if !all_stand_still {
            log::warn!(
                "upgrade: the disk is too slow: recordings that wait for it, and those of the \
                 same threads, are not handed over, and their files are finished as after a \
                 crash"
            );
        }
        Ok(())
    }

    /// Ends the connections that cannot be handed over, in good order.
    async fn end_unportable(&self) {
        let unportable = || -> Vec<Arc<Client>> {
            let mut clients = self.clients.list();
            clients.retain(|client| !client.is_portable());
            clients
        };
        let ending = unportable();
        if ending.is_empty() {
            return;
        }
        log::info!(
            "upgrade: {} connections by HTTP/2 and their requests end, and may connect again",
            ending.len()
        );
        for client in ending {
            self.clients.dismiss(client.id);
            self.fanout.dismiss(client.id);
        }
        let ended = async {
            while !unportable().is_empty() {
                sleep(POLL_INTERVAL).await;
            }
        };
        // Those that are left end with this program.
        let _ = timeout(GOODBYE_LIMIT, ended).await;
    }

    /// Has everybody stand still, and writes down what the server has. `at_boundary`: no player
    /// is within a message of the log. `steps` get what the time has gone by with.
    ///
    /// # Errors
    /// Somebody does not stand still, or cannot be written down; the server goes on.
    pub(crate) async fn freeze(
        &self,
        purpose: Purpose,
        at_boundary: bool,
        steps: &mut Steps,
    ) -> Result<FrozenServer, String> {
        self.safepoint.set_phase(Phase::Frozen);
        // Wakes the connections, which look whether they are to stand still.
        self.config.send_modify(|_| {});
        let frozen = self.try_freeze(purpose, at_boundary, steps).await;
        if frozen.is_err() {
            self.go_on();
        }
        frozen
    }

    async fn try_freeze(
        &self,
        purpose: Purpose,
        at_boundary: bool,
        steps: &mut Steps,
    ) -> Result<FrozenServer, String> {
        let all_stand = || async {
            match self.safepoint.all_stand_still(FREEZE_LIMIT).await {
                true => Ok(()),
                false => Err("a connection does not stand still".to_owned()),
            }
        };
        // Tasks first: they hand players to the workers.
        all_stand().await?;
        steps.end("connections");
        let mut workers = self.fanout.freeze(at_boundary);
        let players = timeout(FREEZE_LIMIT, collect(&mut workers)).await;
        let players = players.map_err(|_| "a fan-out worker does not stand still".to_owned())?;
        // Players that have left a worker meanwhile are tasks' now.
        all_stand().await?;
        steps.end("players");
        let tasks = self.safepoint.take_parts();
        let mut handed_over = HandedOver::default();
        // Who publishes stands still: packagers have all that there is to package.
        let hls = timeout(FREEZE_LIMIT, self.hls.part(&mut handed_over)).await;
        let hls = hls.map_err(|_| "a packager of HLS does not stand still".to_owned())??;
        steps.end("HLS");
        // They hear of the last segments of HLS. For a copy nobody waits for them.
        if purpose == Purpose::HandOver {
            self.hooks.flush(LAST_HOOKS_LIMIT).await;
            steps.end("hooks");
        }
        let written = players.and_then(|players| self.write_down(players, tasks, hls));
        let (part, others) = written.map_err(|error| format!("something {error}"))?;
        handed_over.extend(&others);
        steps.end("rest");
        Ok(FrozenServer {
            part,
            handed_over,
            _workers: workers,
        })
    }

    fn write_down(
        &self,
        players: Players,
        tasks: TaskParts,
        hls: HlsServerPart,
    ) -> Result<(ServerPart, HandedOver), HandOverError> {
        if let Some(failure) = tasks.failure {
            return Err(failure);
        }
        let mut handed_over = tasks.handed_over;
        handed_over.extend(&players.handed_over);
        let registry = self.registry.part(&mut handed_over)?;
        let recordings = self.dvr.parts(&mut handed_over);
        let good = lock(&self.last_good_origins);
        let good = good
            .iter()
            .map(|(vhost, origin)| (vhost.clone(), origin.to_string()));
        let part = ServerPart {
            id: self.id.clone(),
            started: self.started,
            clients: self.clients.part(),
            registry,
            players: players.parts,
            connections: tasks.connections,
            http: tasks.http,
            hls,
            pulls: tasks.pulls,
            forwards: tasks.forwards,
            slates: tasks.slates,
            legs: tasks.legs,
            merged: self.pulls.part()?,
            counters: CountersPart {
                refusals: self
                    .refusals
                    .counts()
                    .map(|(reason, count)| (reason.name().to_owned(), count))
                    .collect(),
                switches: self
                    .switches
                    .counts()
                    .map(|(reason, count)| (reason.name().to_owned(), count))
                    .collect(),
                last_good_origins: good.collect(),
                flush_times: self.flush_times().map(|times| times.counts()).collect(),
                lag_times: self.lag_times.counts(),
                totals: self.total_counts(),
                hooks: self.hooks.part(),
            },
            notifications: self.hooks.hold_undelivered(),
            load: Some(self.load.part(Instant::now())),
            events: self.events.part(),
            dvr_orders: self.dvr.orders(),
            recordings,
            program_outputs: self.programs.outputs(),
            descriptors: handed_over.numbers().to_vec(),
        };
        Ok((part, handed_over))
    }

    /// Has media flow again where everybody stands; further requests wait, so that what is to
    /// be handed over stays of the same kinds.
    ///
    /// # Errors
    /// Somebody does not go on in time; the others do.
    pub(crate) async fn unfreeze(&self, frozen: FrozenServer) -> Result<(), String> {
        drop(frozen);
        self.go_on_in(Phase::Settling);
        // Whoever has not gone on would not write itself down a second time.
        if self.safepoint.all_go_on(FREEZE_LIMIT).await {
            return Ok(());
        }
        self.go_on();
        Err("a connection does not go on".to_owned())
    }

    /// Goes on where everybody stands.
    pub(crate) fn thaw(&self, frozen: FrozenServer) {
        drop(frozen);
        self.go_on();
    }

    /// There is no upgrade any more.
    pub(crate) fn go_on(&self) {
        self.go_on_in(Phase::Running);
    }

    fn go_on_in(&self, phase: Phase) {
        // Nobody has listened to publishers meanwhile.
        let now = Instant::now();
        for stream in self.registry.list() {
            stream.excuse_silence(now);
        }
        self.pulls.excuse_silence(now);
        self.hooks.go_on();
        self.dvr.go_on();
        self.safepoint.set_phase(phase);
    }
}

/// Checks that the kernel lets all threads go.
///
/// # Errors
/// One waits for a disk, and everybody would stand still for as long as it does.
async fn check_disks() -> Result<(), String> {
    match stuck_thread(DISK_LIMIT).await {
        None => Ok(()),
        Some(thread) => Err(format!(
            "a disk does not answer, which the thread {thread} waits for: nobody could go on \
             before it does; try again then"
        )),
    }
}

async fn collect(workers: &mut Frozen) -> Result<Players, HandOverError> {
    let mut players = Players::default();
    while let Some(part) = workers.next().await {
        let part = part?;
        players.parts.extend(part.players);
        players.handed_over.extend(&part.handed_over);
    }
    Ok(players)
}
