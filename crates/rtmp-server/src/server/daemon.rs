//! A server's life: start, reload, drain, stop.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_kit::systemd;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clients::Activity;
use super::logging::LogOutput;
use super::options::Options;
use super::pid_file::PidFile;
use super::{Server, descriptors, listen};
use crate::config::{Config, Loaded, Role};
use crate::http;

/// The exit status of a wrong configuration.
const EXIT_CONFIGURATION: u8 = 2;
/// How long a stop waits for peers to take their farewell.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How often a stop or a drain looks whether it is done.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the server to its end.
#[must_use]
pub fn run(role: Role, options: &Options) -> ExitCode {
    let loaded = match options.load(role) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    if options.check {
        for warning in &loaded.warnings {
            eprintln!("{warning}");
        }
        // The exit status says it to whoever does not read.
        let _ = writeln!(std::io::stdout(), "the configuration is good");
        return ExitCode::SUCCESS;
    }
    match serve(role, options, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// What was opened before we went to the background.
struct Opened {
    rtmp: Vec<std::net::TcpListener>,
    http: Option<std::net::TcpListener>,
}

fn serve(role: Role, options: &Options, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, warnings } = loaded;
    let opened = open(&config)?;
    let output = LogOutput::start(&config.log).with_context(|| {
        let file = config
            .log
            .destination()
            .map_or("?".into(), |path| path.display().to_string());
        format!("cannot write the log {file}: choose another by srs_log_file or --log-file")
    })?;
    let mut pid_file = config.pid.as_deref().map(PidFile::open).transpose()?;
    // What can fail has been tried: whoever started us sees only our end.
    if options.daemon {
        let (keep_directory, keep_output) = (true, config.log.destination().is_none());
        nix::unistd::daemon(keep_directory, keep_output).context("cannot go to the background")?;
    }
    if let Some(pid_file) = &mut pid_file {
        pid_file.write()?;
    }
    for warning in warnings {
        log::warn!("{warning}");
    }
    descriptors::raise_limit(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("async")
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(live(role, options, config, opened, &output));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}

fn open(config: &Config) -> anyhow::Result<Opened> {
    let bind = |&address: &SocketAddr, option: &str| {
        listen(address).with_context(|| {
            format!("cannot listen at {address}: choose another address or port by {option}")
        })
    };
    let rtmp = config
        .listen
        .iter()
        .map(|address| bind(address, "`listen` or --listen"));
    Ok(Opened {
        rtmp: rtmp.collect::<anyhow::Result<_>>()?,
        http: config
            .http_api
            .as_ref()
            .map(|address| bind(address, "`http_api { listen …; }` or --http-api"))
            .transpose()?,
    })
}

/// Serves until a signal ends it.
async fn live(
    role: Role,
    options: &Options,
    config: Config,
    opened: Opened,
    output: &LogOutput,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot listen to signals")?;
    ignore_other_signals().context("cannot listen to signals")?;
    let name = match role {
        Role::Origin => "rtmp-origin",
        Role::Edge => "rtmp-edge",
    };
    let server = Server::start(role, config).context("cannot start the fan-out")?;
    let mut accepting = Vec::new();
    for listener in opened.rtmp {
        let listener = TcpListener::from_std(listener)?;
        log::info!(
            "{name} {} takes RTMP at {}",
            env!("CARGO_PKG_VERSION"),
            listener.local_addr()?
        );
        accepting.push(Abort(tokio::spawn(server.clone().accept(listener))));
    }
    let mut _http = None;
    if let Some(listener) = opened.http {
        let listener = TcpListener::from_std(listener)?;
        log::info!("the HTTP API answers at {}", listener.local_addr()?);
        _http = Some(Abort(tokio::spawn(http::serve(listener, server.clone()))));
    }
    let tell_ready = || systemd::ready(&format!("serving; the log goes to {output}"));
    tell_ready();
    let mut drain_until = None;
    loop {
        match signals.next(drain_until.map(|_| POLL_INTERVAL)).await {
            Some(Wish::Stop) => break,
            Some(Wish::Reload) => {
                systemd::reloading("reading the configuration again");
                reload(&server, options, output);
                tell_ready();
            }
            Some(Wish::ReopenLog) => reopen_log(&server, output),
            Some(Wish::Drain) => {
                let patience = server.config().drain_timeout;
                log::info!("draining: nobody new is taken; viewers may finish for {patience:?}");
                systemd::status("draining: nobody new is taken, viewers may finish");
                accepting.clear();
                server.drain();
                drain_until.get_or_insert(Instant::now() + patience);
            }
            None => {
                let over = drain_until.is_some_and(|until| until <= Instant::now());
                if over || viewers(&server) == 0 {
                    break;
                }
            }
        }
    }
    systemd::stopping();
    log::info!(
        "stopping: {} connections are told",
        server.clients().count()
    );
    accepting.clear();
    server.dismiss_all();
    let until = Instant::now() + STOP_TIMEOUT;
    while server.clients().count() > 0 && Instant::now() < until {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    server.hooks.all_told().await;
    log::info!("stopped");
    Ok(())
}

/// A task that ends with its owner.
struct Abort<T>(JoinHandle<T>);

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connections that a drain waits for.
fn viewers(server: &Server) -> usize {
    let clients = server.clients().list();
    let viewing =
        |activity: Activity| matches!(activity, Activity::Playing(_) | Activity::Waiting(_));
    clients
        .iter()
        .filter(|client| viewing(client.activity()))
        .count()
}

/// What an operator wants by a signal.
enum Wish {
    Stop,
    Drain,
    Reload,
    ReopenLog,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    user1: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
        })
    }

    /// The next wish; none if nobody had one within `patience`.
    async fn next(&mut self, patience: Option<Duration>) -> Option<Wish> {
        let pause = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Some(Wish::Stop),
            _ = self.interrupt.recv() => Some(Wish::Stop),
            _ = self.quit.recv() => Some(Wish::Drain),
            _ = self.hangup.recv() => Some(Wish::Reload),
            _ = self.user1.recv() => Some(Wish::ReopenLog),
            () = pause => None,
        }
    }
}

/// Outlives the signals that would end a process by default and mean nothing
/// here, but may well be sent: tools of SRS's and keepalived's send SIGUSR2 and
/// real-time signals. The first of each is logged. (SIGPIPE is ignored by Rust.)
fn ignore_other_signals() -> std::io::Result<()> {
    use nix::libc;
    let named = [
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
    ];
    for number in named.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        let mut received = signal(SignalKind::from_raw(number))?;
        tokio::spawn(async move {
            if received.recv().await.is_some() {
                log::warn!("signal {number} has no meaning here, and is ignored from now on");
            }
            while received.recv().await.is_some() {}
        });
    }
    Ok(())
}

/// Puts the file's present contents in force; a wrong file changes nothing.
fn reload(server: &Arc<Server>, options: &Options, output: &LogOutput) {
    let Loaded {
        mut config,
        warnings,
    } = match options.load(server.role()) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in mistakes.0 {
                log::error!("{mistake}");
            }
            log::error!("nothing was reloaded: the configuration in force stays");
            return;
        }
    };
    for warning in warnings {
        log::warn!("{warning}");
    }
    let old = server.config();
    for (name, changed) in [
        ("listen", old.listen != config.listen),
        ("http_api", old.http_api != config.http_api),
        ("pid", old.pid != config.pid),
        ("server_id", old.server_id != config.server_id),
        ("workers", old.workers != config.workers),
    ] {
        if changed {
            log::warn!("`{name}` has changed: it takes effect at the next start");
        }
    }
    config.listen.clone_from(&old.listen);
    config.http_api = old.http_api;
    config.pid.clone_from(&old.pid);
    config.server_id.clone_from(&old.server_id);
    config.workers = old.workers;
    let chunks_change = config.vhosts.iter().any(|(name, vhost)| {
        old.vhosts
            .get(name)
            .is_some_and(|old| old.chunk_size != vhost.chunk_size)
    });
    if chunks_change {
        log::warn!("`chunk_size` has changed: streams that are there keep theirs to their end");
    }
    if let Err(error) = output.reopen(&config.log) {
        log::error!("the log stays where it is: {error}");
    }
    descriptors::raise_limit(&config);
    server.reconfigure(config);
    log::info!("reloaded");
}

fn reopen_log(server: &Server, output: &LogOutput) {
    match output.reopen(&server.config().log) {
        Ok(()) => log::info!("log reopened: {output}"),
        Err(error) => log::error!("the log cannot be reopened, the old one goes on: {error}"),
    }
}
