//! The present health of everything that virtual routers track.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::mpsc;

use super::file::{FileNumber, FileSettings, RunningFile};
use super::script::{RunCounter, RunningScript, ScriptOutcome, ScriptResult, ScriptSettings};
use super::{Health, TrackedSubject};
use netlink::interfaces::Interfaces;

/// The scripts and files that are run and read, and the services without a
/// quorum.
#[derive(Debug)]
pub(crate) struct Watched {
    scripts: BTreeMap<String, WatchedScript>,
    files: BTreeMap<String, WatchedFile>,
    /// Addresses at which a service has lost its quorum. Where it has regained it,
    /// the time from which that counts.
    quorum_lost: BTreeMap<IpAddr, Option<Instant>>,
    results: mpsc::UnboundedSender<ScriptResult>,
    finished: mpsc::UnboundedReceiver<ScriptResult>,
    numbers: mpsc::UnboundedSender<FileNumber>,
    read: mpsc::UnboundedReceiver<FileNumber>,
}

#[derive(Debug)]
struct WatchedScript {
    settings: ScriptSettings,
    counter: RunCounter,
    running: RunningScript,
}

#[derive(Debug)]
struct WatchedFile {
    settings: FileSettings,
    /// Its number; `None` until it has been read.
    number: Option<i32>,
    _running: RunningFile,
}

impl Watched {
    pub(crate) fn new() -> Self {
        let (results, finished) = mpsc::unbounded_channel();
        let (numbers, read) = mpsc::unbounded_channel();
        Self {
            scripts: BTreeMap::new(),
            files: BTreeMap::new(),
            quorum_lost: BTreeMap::new(),
            results,
            finished,
            numbers,
            read,
        }
    }

    /// Waits until the health of a script or of a file changes. May be dropped
    /// without losing a change.
    pub(crate) async fn changed(&mut self) {
        loop {
            let has_changed = tokio::select! {
                Some(result) = self.finished.recv() => self.on_script_result(&result),
                Some(read) = self.read.recv() => self.on_file_number(&read),
            };
            if has_changed {
                return;
            }
        }
    }

    fn on_script_result(&mut self, ScriptResult { name, outcome }: &ScriptResult) -> bool {
        // A script that was taken out of the settings may still have sent a result.
        let Some(script) = self.scripts.get_mut(name) else {
            return false;
        };
        if !script.counter.count(outcome) {
            return false;
        }
        match outcome {
            ScriptOutcome::Success => log::info!("vrrp_script {name}: succeeds"),
            ScriptOutcome::Failure => log::warn!("vrrp_script {name}: fails"),
            ScriptOutcome::Refused(reason) if script.counter.health() == Health::Untracked => {
                log::warn!("vrrp_script {name} is not run, and counts for nothing: {reason}");
            }
            ScriptOutcome::Refused(reason) => {
                log::warn!("vrrp_script {name}: fails: it can be run no more: {reason}");
            }
        }
        true
    }

    fn on_file_number(&mut self, FileNumber { name, number }: &FileNumber) -> bool {
        let Some(file) = self.files.get_mut(name) else {
            return false;
        };
        if file.number.replace(*number) == Some(*number) {
            return false;
        }
        log::info!("track_file {name}: its number is {number}");
        true
    }

    /// Replaces the addresses at which a service has no quorum. Where one is
    /// regained, that counts from `settled` on.
    pub(crate) fn set_quorum_lost(&mut self, addresses: BTreeSet<IpAddr>, settled: Instant) {
        for (address, until) in &mut self.quorum_lost {
            if !addresses.contains(address) {
                until.get_or_insert(settled);
            }
        }
        let lost = addresses.into_iter().map(|address| (address, None));
        self.quorum_lost.extend(lost);
    }

    /// Lets quorums count whose services have had them for long enough.
    pub(crate) fn settle_quorums(&mut self, now: Instant) {
        self.quorum_lost
            .retain(|_, until| until.is_none_or(|until| until > now));
    }

    /// Time at which to call [`settle_quorums`](Self::settle_quorums) next.
    pub(crate) fn next_settled(&self) -> Option<Instant> {
        self.quorum_lost.values().copied().flatten().min()
    }

    /// The health of a subject, for virtual routers with these addresses.
    pub(crate) fn health_of<'a>(
        &self,
        subject: &TrackedSubject,
        interfaces: &Interfaces,
        mut addresses: impl Iterator<Item = &'a IpAddr>,
    ) -> Health {
        match subject {
            TrackedSubject::Interface(name) => match interfaces.get(name) {
                Some(interface) if interface.running => Health::Up,
                _ => Health::Down,
            },
            TrackedSubject::Script(name) => {
                let script = self.scripts.get(name);
                script.map_or(Health::Unknown, |script| script.counter.health())
            }
            TrackedSubject::File(name) => {
                let number = self.files.get(name).and_then(|file| file.number);
                number.map_or(Health::Unknown, Health::Number)
            }
            TrackedSubject::Quorum => match addresses.any(|it| self.quorum_lost.contains_key(it)) {
                true => Health::Down,
                false => Health::Up,
            },
        }
    }

    /// Runs these scripts and reads these files from now on. One whose settings
    /// have changed keeps its health until its first new result.
    pub(crate) fn configure(&mut self, scripts: Vec<ScriptSettings>, files: Vec<FileSettings>) {
        let mut before = std::mem::take(&mut self.scripts);
        for settings in scripts {
            let name = settings.name.clone();
            let script = match before.remove(&name) {
                Some(script) if script.settings == settings => script,
                earlier => {
                    let health = earlier.map(|script| script.counter.health());
                    WatchedScript {
                        counter: RunCounter::new(&settings, health),
                        running: RunningScript::start(settings.clone(), self.results.clone()),
                        settings,
                    }
                }
            };
            self.scripts.insert(name, script);
        }
        let mut before = std::mem::take(&mut self.files);
        for settings in files {
            let name = settings.name.clone();
            let file = match before.remove(&name) {
                Some(file) if file.settings == settings => file,
                earlier => WatchedFile {
                    number: earlier.and_then(|file| file.number),
                    _running: RunningFile::start(settings.clone(), self.numbers.clone()),
                    settings,
                },
            };
            self.files.insert(name, file);
        }
    }

    /// Stops the scripts; returns when nothing of them runs any more.
    pub(crate) async fn stop_scripts(&mut self) {
        for script in std::mem::take(&mut self.scripts).into_values() {
            script.running.end().await;
        }
    }
}
