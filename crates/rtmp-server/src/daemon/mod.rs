//! The life of a server process: start ([`run`]), reload (SIGHUP), drain (SIGQUIT),
//! upgrade (SIGUSR2), stop (SIGTERM).

mod commands;
mod control;
mod descriptors;
mod listeners;
mod logging;
mod options;
mod pid_file;
mod reload;
mod sign;
mod signals;
mod upgrade;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_kit::systemd;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{self, Config, ConfigError, Directive, Loaded, Log, Role};
use crate::hand_over::Inherited;
use crate::http;
use crate::server::{Activity, EventKind, Protocol, Server, check_certificates};
use commands::{ask_for_upgrade, print_signed, rehearse, show_top};
use control::{Control, Waiter};
use listeners::{Listener, ListenerKind};
use logging::LogOutput;
use options::Command;
pub use options::Options;
use pid_file::PidFile;
use reload::{reload, reopen_log};
use signals::{SignalAction, Signals, ignore_other_signals};
use upgrade::{Belongings, Rehearsed, TakenOver, Upgrade};

/// Exit status for a wrong configuration.
const EXIT_CONFIGURATION: u8 = 2;
/// Time that a stop gives the connections to close gracefully.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Interval at which a stop checks if it is done.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The same of a drain, which may look at all connections of this machine.
const DRAIN_INTERVAL: Duration = Duration::from_millis(500);

/// Runs the server until a signal ends it, checks the configuration (`-t`), or signs a
/// URL (`sign`). Returns the exit status: 0 after a stop, for a good configuration and a
/// signed URL, 1 if it could not run or sign, 2 for a wrong configuration.
#[must_use]
pub fn run(role: Role, options: &Options) -> ExitCode {
    match &options.command {
        Some(Command::Sign(sign)) => return print_signed(role, sign),
        Some(Command::Top(top)) => return show_top(role, top),
        Some(Command::Upgrade(upgrade)) => return ask_for_upgrade(role, upgrade),
        None => {}
    }
    let is_to_serve = !options.rehearse && !options.check;
    let before = match is_to_serve.then(upgrade::take_over).transpose() {
        Ok(before) => before.flatten(),
        Err(error) => {
            systemd::print_error(&format!("what was handed over cannot be read: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let mut compromises = Vec::new();
    let loaded = match load(role, options, before.as_ref(), &mut compromises) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if options.rehearse {
        return rehearse(&loaded.config);
    }
    if options.check {
        for warning in &loaded.warnings {
            eprintln!("{}", warning.sentence());
        }
        if let Err(error) = check_certificates(&loaded.config) {
            systemd::print_error(&error.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
        // An error does not matter: the exit status says the same.
        let _ = writeln!(std::io::stdout(), "the configuration is good");
        return ExitCode::SUCCESS;
    }
    match serve(role, options, loaded, before, compromises) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The configuration. After an upgrade it is that of the program `before`, if the file has become
/// wrong since the rehearsal: `compromises` gets what is to be told of that.
///
/// # Errors
/// It is wrong.
fn load(
    role: Role,
    options: &Options,
    before: Option<&TakenOver>,
    compromises: &mut Vec<String>,
) -> Result<Loaded, ConfigError> {
    options.load(role).or_else(|mistakes| {
        let former = before.map_or(&[][..], |it| &it.directives);
        // What is wrong may be the file of a slate.
        let former = [former.to_vec(), without_slates(former)];
        let mut former = former.iter().filter(|it| !it.is_empty());
        let Some(former) = former.find_map(|it| config::build(it, role).ok()) else {
            return Err(mistakes);
        };
        compromises.push(format!(
            "the configuration before stays in force: {mistakes}"
        ));
        Ok(former)
    })
}

/// `directives` without `slate`, in whatever blocks.
fn without_slates(directives: &[Directive]) -> Vec<Directive> {
    let others = directives.iter().filter(|it| it.keyword != "slate");
    let others = others.map(|it| Directive {
        children: it.children.as_deref().map(without_slates),
        ..it.clone()
    });
    others.collect()
}

/// Serves, in place of the program `before` if there was one. What cannot be as the configuration
/// says is then as it was, and is added to `compromises`: to end would throw everybody out.
fn serve(
    role: Role,
    options: &Options,
    loaded: Loaded,
    mut before: Option<TakenOver>,
    mut compromises: Vec<String>,
) -> anyhow::Result<()> {
    let upgrade = Upgrade::new().context("cannot find our own program")?;
    let Loaded {
        config,
        warnings,
        directives,
    } = loaded;
    let opened = match &mut before {
        Some(before) => listeners::open(&config, &before.listeners, &mut before.inherited),
        None => listeners::open(&config, &[], &mut Inherited::default()),
    };
    let is_upgrade = before.is_some();
    let mut or_compromise = |error: anyhow::Error| match is_upgrade {
        true => {
            compromises.push(format!("{error:#}"));
            Ok(())
        }
        false => Err(error),
    };
    for error in opened.errors {
        or_compromise(error)?;
    }
    let output = match LogOutput::start(&config.log) {
        Ok(output) => output,
        Err(error) => {
            or_compromise(error)?;
            start_former_log(role, before.as_ref())?
        }
    };
    let mut pid_file = before.as_mut().and_then(take_pid_file);
    if let (None, Some(path)) = (&pid_file, &config.pid) {
        match PidFile::open(path) {
            Ok(opened) => pid_file = Some(opened),
            Err(error) => or_compromise(error)?,
        }
    }
    // Whoever started us sees only the exit of the foreground process: what can
    // fail has been tried before.
    if options.daemon && before.is_none() {
        let (keep_directory, keep_output) = (true, config.log.destination().is_none());
        nix::unistd::daemon(keep_directory, keep_output).context("cannot go to the background")?;
    }
    if let Some(Err(error)) = pid_file.as_mut().map(PidFile::write) {
        or_compromise(error)?;
    }
    for compromise in &compromises {
        log::error!("upgrade: {compromise}");
    }
    for warning in warnings {
        log::warn!("{}", warning.sentence());
    }
    descriptors::raise_limit(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("async")
        .build()
        .context("cannot start the runtime")?;
    let process = Process {
        role,
        options,
        directives,
        listeners: opened.listeners,
        output,
        pid_file,
        upgrade,
    };
    let result = runtime.block_on(process.serve(config, before, &compromises));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}

/// The log where the program `before` had it, or at standard error.
fn start_former_log(role: Role, before: Option<&TakenOver>) -> anyhow::Result<LogOutput> {
    let former = before.and_then(|it| config::build(&it.directives, role).ok());
    let former = former.and_then(|it| LogOutput::start(&it.config.log).ok());
    former.map_or_else(|| LogOutput::start(&Log::console()), Ok)
}

/// The pid file that this process has had before.
fn take_pid_file(before: &mut TakenOver) -> Option<PidFile> {
    let (path, number) = before.pid_file.take()?;
    let descriptor = before.inherited.take(number).ok()?;
    Some(PidFile::take_over(path, descriptor))
}

/// A server's process.
struct Process<'a> {
    role: Role,
    options: &'a Options,
    /// The configuration in force.
    directives: Vec<Directive>,
    listeners: Vec<Listener>,
    output: LogOutput,
    pid_file: Option<PidFile>,
    upgrade: Upgrade,
}

/// The event that ends a process's wait.
enum ProcessEvent {
    Signal(Option<SignalAction>),
    /// Somebody asks for an upgrade.
    Asked(Waiter),
    Rehearsed(Box<Result<Rehearsed, String>>),
}

impl Process<'_> {
    /// Serves until a signal ends it, in place of the program `before` if there was one.
    async fn serve(
        mut self,
        config: Config,
        before: Option<TakenOver>,
        compromises: &[String],
    ) -> anyhow::Result<()> {
        let mut signals = Signals::new().context("cannot listen to signals")?;
        ignore_other_signals().context("cannot listen to signals")?;
        upgrade::listen_again().context("cannot listen to signals")?;
        let control = Control::listen(self.role);
        let (role, name) = (self.role, name(self.role));
        let server = match before {
            None => Server::start(role, config).context("cannot start")?,
            Some(before) => go_on(role, config, before, compromises).await?,
        };
        let mut accepting = Vec::new();
        for listener in &self.listeners {
            let socket = TcpListener::from_std(listener.socket.try_clone()?)?;
            let address = socket.local_addr()?;
            let task = match listener.kind {
                ListenerKind::Rtmp => {
                    log::info!(
                        "{name} {} takes RTMP at {address}",
                        env!("CARGO_PKG_VERSION")
                    );
                    tokio::spawn(server.clone().accept(socket, Protocol::Rtmp))
                }
                ListenerKind::Http => {
                    log::info!("{name} serves HTTP-FLV and HLS at {address}");
                    tokio::spawn(server.clone().accept(socket, Protocol::HttpFlv))
                }
                ListenerKind::Rtmps => {
                    log::info!("{name} takes RTMPS at {address}");
                    tokio::spawn(server.clone().accept(socket, Protocol::Rtmps))
                }
                ListenerKind::Https => {
                    log::info!("{name} serves HTTP-FLV by HTTPS at {address}");
                    tokio::spawn(server.clone().accept(socket, Protocol::Https))
                }
                ListenerKind::HttpApi | ListenerKind::HttpApiHttps => continue,
            };
            accepting.push(AbortOnDropHandle::new(task));
        }
        let mut _api = Vec::new();
        for listener in &self.listeners {
            let socket = TcpListener::from_std(listener.socket.try_clone()?)?;
            let address = socket.local_addr()?;
            let task = match listener.kind {
                ListenerKind::HttpApi => {
                    log::info!("the HTTP API answers at {address}");
                    tokio::spawn(http::serve(socket, server.clone()))
                }
                ListenerKind::HttpApiHttps => {
                    log::info!("the HTTP API answers by HTTPS at {address}");
                    tokio::spawn(http::serve_https(socket, server.clone()))
                }
                _ => continue,
            };
            _api.push(AbortOnDropHandle::new(task));
        }
        let output = self.output.clone();
        let notify_ready = || systemd::ready(&format!("serving; the log goes to {output}"));
        notify_ready();
        let mut drain_until = None;
        loop {
            let wait = drain_until.map(|_| DRAIN_INTERVAL);
            let event = tokio::select! {
                action = signals.next(wait) => ProcessEvent::Signal(action),
                waiter = control.next() => ProcessEvent::Asked(waiter),
                rehearsed = self.upgrade.rehearsed() => ProcessEvent::Rehearsed(Box::new(rehearsed)),
            };
            let action = match event {
                ProcessEvent::Signal(action) => action,
                ProcessEvent::Asked(waiter) => {
                    self.begin_upgrade(&server, Some(waiter), drain_until.is_some());
                    continue;
                }
                ProcessEvent::Rehearsed(rehearsed) => {
                    self.try_upgrade(&server, *rehearsed, drain_until.is_some())
                        .await;
                    continue;
                }
            };
            match action {
                Some(SignalAction::Stop) => break,
                Some(SignalAction::Reload) => {
                    systemd::reloading("reading the configuration again");
                    let reloaded = reload(&server, self.options, &self.output);
                    self.directives = reloaded.unwrap_or(self.directives);
                    notify_ready();
                }
                Some(SignalAction::ReopenLog) => reopen_log(&server, &self.output),
                Some(SignalAction::Upgrade) => {
                    self.begin_upgrade(&server, None, drain_until.is_some());
                }
                Some(SignalAction::Drain) => {
                    let limit = server.config().drain_timeout;
                    log::info!("draining: no new connections; viewers may finish for {limit:?}");
                    systemd::status("draining: no new connections, viewers may finish");
                    accepting.clear();
                    self.listeners.clear();
                    server.drain();
                    drain_until.get_or_insert(Instant::now() + limit);
                }
                None => {
                    let over = drain_until.is_some_and(|until| until <= Instant::now());
                    if over || viewers(&server) == 0 {
                        break;
                    }
                }
            }
        }
        accepting.clear();
        self.listeners.clear();
        stop(&server).await;
        Ok(())
    }

    fn begin_upgrade(&mut self, server: &Server, waiter: Option<Waiter>, drains: bool) {
        match drains {
            true => self.upgrade.refuse(server, waiter, DRAINS),
            false => self.upgrade.begin(waiter),
        }
    }

    /// Becomes the program that has rehearsed its start, or goes on.
    async fn try_upgrade(
        &mut self,
        server: &Server,
        rehearsed: Result<Rehearsed, String>,
        drains: bool,
    ) {
        let reason = match rehearsed {
            _ if drains => DRAINS.to_owned(),
            Ok(rehearsed) => {
                let belongings = Belongings {
                    listeners: self.listeners.iter().map(Listener::part).collect(),
                    pid_file: self.pid_file.as_ref().map(PidFile::part),
                    directives: &self.directives,
                };
                self.upgrade.execute(server, rehearsed, belongings).await
            }
            Err(reason) => reason,
        };
        self.upgrade.fail(server, &reason);
    }
}

/// Why a server that drains is not upgraded.
const DRAINS: &str = "the server drains, and is about to stop";

fn name(role: Role) -> &'static str {
    match role {
        Role::Origin => "rtmp-origin",
        Role::Edge => "rtmp-edge",
    }
}

/// Goes on with the server that the program `before` has had.
async fn go_on(
    role: Role,
    config: Config,
    before: TakenOver,
    compromises: &[String],
) -> anyhow::Result<Arc<Server>> {
    let TakenOver {
        server: part,
        inherited,
        waiters,
        version,
        frozen_at,
        mut steps,
        ..
    } = before;
    let begun = steps.since() - frozen_at;
    let server = Server::take_over(role, config, part, inherited, &mut steps).await;
    let server = server.context("cannot go on with what was handed over")?;
    let clients = server.clients().count();
    let text = format!(
        "{} {} goes on in place of {version} with {clients} connections; everybody has stood \
         still for {} ms",
        name(role),
        env!("CARGO_PKG_VERSION"),
        frozen_at.elapsed().as_millis()
    );
    log::info!(
        "upgrade: {text} (begun after {:.1} ms; {steps})",
        begun.as_secs_f64() * 1e3
    );
    let events = server.events();
    events.record(EventKind::Upgrade, None, None, &text);
    for compromise in compromises {
        events.record(EventKind::ReloadFailed, None, None, compromise);
    }
    let all = [&[text], compromises].concat().join("; but ");
    for waiter in waiters {
        waiter.answer(&format!("ok: {all}"));
    }
    Ok(server)
}

/// Stops the server.
async fn stop(server: &Server) {
    systemd::stopping();
    log::info!(
        "stopping: {} connections are closed",
        server.clients().count()
    );
    server.finish_ingests().await;
    server.dismiss_all();
    let until = Instant::now() + STOP_TIMEOUT;
    while server.clients().count() > 0 && Instant::now() < until {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    server.remove_files().await;
    tokio::join!(server.dvr().finish(), server.forwards().finish());
    server.flush_hooks().await;
    log::info!("stopped");
}

/// Number of connections that a drain waits for: not those of programs that the server has
/// started, such as a transcode's ffmpeg, which play for as long as it runs.
fn viewers(server: &Server) -> usize {
    let viewing =
        |activity: Activity| matches!(activity, Activity::Playing(_) | Activity::Waiting(_));
    let mut viewers = server.clients().list();
    viewers.retain(|client| viewing(client.activity()));
    // Programs connect to 127.0.0.1. While somebody else watches, or nobody does, nothing need be
    // known of them.
    let all_may_be_own = viewers.iter().all(|client| client.peer.ip().is_loopback());
    if all_may_be_own && !viewers.is_empty() {
        let own = server.programs().connections();
        viewers.retain(|client| !own.contains(&client.peer));
    }
    viewers.len()
}
