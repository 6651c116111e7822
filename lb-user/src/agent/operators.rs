//! The owner of what connects the agent with its operators: signals, the control
//! socket, HTTP, events, scripts, upgrades.

use std::path::Path;

use anyhow::Context as _;
use service_kit::{sleep_until, unix_ms};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::change::Change;
use super::keepalived_files;
use super::logging::log_refusal;
use super::options::RunOptions;
use super::saved::HandOver;
use super::signals::{KeepalivedFile, SignalRequest, Signals, UpgradeSignal};
use super::upgrade::Upgrade;
use crate::control::credentials;
use crate::control::event_log::EventLog;
use crate::control::http::HttpServer;
use crate::control::protocol::{self, EventKind, Response};
use crate::control::told_tables::ToldTables;
use crate::control::{self, Call};
use lb_model::config::{Config, Script};
use lb_script::{Runnable, ScriptRunner};
use vrrp::{InstanceStatus, Settings};

/// Operators' requests come in here, and whatever they want to know of goes out.
///
/// Calling contract: wait for [`next`](Self::next) and answer what it brings. Every
/// change of state is given to [`report`](Self::report), or
/// [`report_vrrp`](Self::report_vrrp), after the data plane does what follows from it:
/// a script may rely on that.
pub(super) struct Operators {
    signals: Signals,
    calls: mpsc::Receiver<Call>,
    /// Keeps the control socket open; its requests arrive by `calls`. The socket
    /// disappears when this is dropped, which tells `lb-user stop` that all is done.
    _control: control::Server,
    /// Where requests are sent that arrive by `calls`.
    call_sender: mpsc::Sender<Call>,
    /// Keeps HTTP open, if it was asked for; its requests arrive by `calls`, too.
    http: Option<HttpServer>,
    /// The latest events, and whoever follows them.
    events: EventLog,
    /// The configuration in force: it names scripts, and the user that they run as.
    config: Config,
    scripts: ScriptRunner,
    /// Decides whether SIGUSR2 asks for an upgrade.
    upgrade_signal: UpgradeSignal,
    upgrade: Upgrade,
}

/// Something that an operator wants, or that one waits for.
pub(super) enum Event {
    /// A request on the control socket, or over HTTP.
    Call(Call),
    /// A request by a signal.
    Signal(SignalRequest),
    /// SIGUSR2 has asked for an upgrade.
    UpgradeDue,
    /// The program that is installed now can take over, or cannot, for this reason.
    Rehearsed(Result<(), String>),
    /// The rehearsal has passed, and no script runs any more: the program can take
    /// over now.
    UpgradeReady,
}

impl Operators {
    /// Opens the control socket.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) async fn start(
        options: &RunOptions,
        config: Config,
        signals: Signals,
        upgrade: Upgrade,
    ) -> anyhow::Result<Self> {
        /// Requests that may wait for the loop.
        const BACKLOG: usize = 16;
        let (call_sender, calls) = mpsc::channel(BACKLOG);
        let events = EventLog::default();
        let control =
            control::Server::start(&options.socket, call_sender.clone(), events.clone()).await?;
        Ok(Self {
            signals,
            calls,
            _control: control,
            call_sender,
            http: None,
            events,
            config,
            scripts: ScriptRunner::start(),
            upgrade_signal: UpgradeSignal::default(),
            upgrade,
        })
    }

    /// Opens HTTP if `options` ask for it, where `tables` are told.
    ///
    /// # Errors
    /// It cannot be opened, or its password cannot be read.
    pub(super) async fn open_http(
        &mut self,
        options: &RunOptions,
        tables: ToldTables,
    ) -> anyhow::Result<()> {
        let credentials = options.http_auth.as_deref().map(credentials::read);
        let credentials = credentials.transpose()?;
        let Some(address) = options.http else {
            return Ok(());
        };
        let calls = self.call_sender.clone();
        let http = HttpServer::start(address, calls, self.events.clone(), tables, credentials);
        let http = http.await.with_context(|| {
            format!("cannot serve HTTP on {address}; choose another address with --http")
        })?;
        self.http = Some(http);
        Ok(())
    }

    /// An earlier agent has handed over to this one.
    pub(super) fn on_hand_over(&mut self, handed_over: &HandOver) {
        self.upgrade.on_hand_over(handed_over);
    }

    /// Waits for the next event. May be dropped without losing one.
    ///
    /// # Errors
    /// The kernel gives no signals.
    pub(super) async fn next(&mut self) -> anyhow::Result<Event> {
        Ok(tokio::select! {
            Some(call) = self.calls.recv() => Event::Call(call),
            request = self.signals.next() => Event::Signal(request?),
            () = sleep_until(self.upgrade_signal.due()) => {
                self.upgrade_signal.clear();
                Event::UpgradeDue
            }
            outcome = self.upgrade.rehearsed() => Event::Rehearsed(outcome),
            // A script that ran on would be nobody's child afterwards, and those
            // that wait would never run.
            () = self.scripts.done(), if self.upgrade.is_rehearsed() => Event::UpgradeReady,
        })
    }

    /// Logs and publishes changes, and runs their scripts.
    pub(super) fn report(&self, changes: Vec<Change>) {
        for change in changes {
            log::log!(change.level(), "{change}");
            let is_warning = change.level() <= log::Level::Warn;
            self.record(change.kind(), is_warning, change.to_string());
            if let (Some(subject), Some(script)) = (change.subject(), change.script()) {
                self.run_script(subject, script.clone());
            }
        }
    }

    /// Publishes what has become of a virtual router, which has been logged, and runs
    /// its scripts. `former`: the configuration that names them, where the one in
    /// force does not know the virtual router any more.
    pub(super) fn report_vrrp(&self, event: &vrrp::Event, former: Option<&Config>) {
        let config = former.unwrap_or(&self.config);
        for script in vrrp::notify_scripts(event, config) {
            self.run_script(event.subject_name(), script);
        }
        self.record(EventKind::Vrrp, false, event.to_string());
    }

    /// Tells whoever follows the events of something about the agent that an operator
    /// should look at.
    pub(super) fn publish(&self, message: String) {
        self.record(EventKind::Agent, true, message);
    }

    /// Tells whoever follows the events of something that is as it should be.
    pub(super) fn inform(&self, message: String) {
        self.record(EventKind::Agent, false, message);
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    fn record(&self, kind: EventKind, warning: bool, message: String) {
        self.events.publish(protocol::Event {
            time_ms: unix_ms(),
            kind,
            warning,
            message,
        });
    }

    /// Runs a script, after those about the same subject.
    pub(super) fn run_script(&self, subject: String, script: Script) {
        let script = Runnable::new(script, &self.config.global_defs);
        self.scripts.run(subject, script);
    }

    /// Puts another configuration in force, and returns the former one.
    pub(super) fn replace_config(&mut self, config: Config) -> Config {
        std::mem::replace(&mut self.config, config)
    }

    /// Writes a file that keepalived would write on a signal.
    pub(super) fn write_keepalived_file(
        &mut self,
        file: KeepalivedFile,
        settings: &Settings,
        status: &[InstanceStatus],
    ) {
        match file {
            KeepalivedFile::Data => self.upgrade_signal.on_data(now()),
            KeepalivedFile::Stats | KeepalivedFile::Json => {}
        }
        keepalived_files::write(file, &self.config, settings, status);
    }

    /// SIGUSR2 has come: it asks for an upgrade, unless a tool has sent it that wants
    /// keepalived's files.
    pub(super) fn on_upgrade_signal(&mut self) {
        self.upgrade_signal.on_stats(now());
    }

    /// Has the installed program rehearse its start; the loop goes on meanwhile.
    /// `waiter` is told the outcome. Without pins (`is_pinned`) an upgrade is refused.
    pub(super) fn begin_upgrade(
        &mut self,
        waiter: Option<oneshot::Sender<Response>>,
        is_pinned: bool,
    ) {
        if let Some(waiter) = waiter {
            self.upgrade.add_waiter(waiter);
        }
        if is_pinned {
            self.upgrade.begin();
        } else {
            let reason =
                "the data plane is not pinned, so that viewers would notice; restart instead";
            self.refuse_upgrade(reason.to_owned());
        }
    }

    /// Takes the outcome of a rehearsal.
    pub(super) fn on_rehearsal(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => log::info!("upgrade: rehearsal passed; waiting for running scripts"),
            Err(reason) => self.refuse_upgrade(reason),
        }
    }

    fn refuse_upgrade(&mut self, reason: String) {
        log_refusal("not upgraded", &reason);
        self.upgrade.answer(&Response::Refused(reason));
    }

    /// Tells those who wait for the upgrade that it takes place.
    pub(super) fn grant_upgrade(&mut self) {
        self.upgrade.answer(&Response::Done(Vec::new()));
    }

    /// Why the last upgrade has failed, if it has.
    pub(super) fn upgrade_failure(&self) -> Option<&str> {
        self.upgrade.failure()
    }

    /// The program that takes over at an upgrade.
    pub(super) fn program(&self) -> &Path {
        self.upgrade.program()
    }

    /// Waits for the scripts that were run, and closes the control socket.
    pub(super) async fn finish(self) {
        self.scripts.finish().await;
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}
