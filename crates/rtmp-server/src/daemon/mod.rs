//! The life of a server process: start ([`run`]), reload (SIGHUP), drain (SIGQUIT),
//! stop (SIGTERM).

mod descriptors;
mod logging;
mod options;
mod pid_file;
mod sign;
mod signals;

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use service_kit::systemd;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Config, Loaded, Role, TlsListener};
use crate::http;
use crate::server::{Activity, EventKind, Protocol, Server, check_certificates, listen};
use crate::top::TopOptions;
use logging::LogOutput;
use options::Command;
pub use options::Options;
use pid_file::PidFile;
use sign::SignOptions;
use signals::{SignalAction, Signals, ignore_other_signals};

/// Exit status for a wrong configuration.
const EXIT_CONFIGURATION: u8 = 2;
/// Time that a stop gives the connections to close gracefully.
const STOP_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Interval at which a stop or a drain checks if it is done.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs the server until a signal ends it, checks the configuration (`-t`), or signs a
/// URL (`sign`). Returns the exit status: 0 after a stop, for a good configuration and a
/// signed URL, 1 if it could not run or sign, 2 for a wrong configuration.
#[must_use]
pub fn run(role: Role, options: &Options) -> ExitCode {
    match &options.command {
        Some(Command::Sign(sign)) => return print_signed(role, sign),
        Some(Command::Top(top)) => return show_top(role, top),
        None => {}
    }
    let loaded = match options.load(role) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
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
    match serve(role, options, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a signed URL.
fn print_signed(role: Role, sign: &SignOptions) -> ExitCode {
    let options = Options {
        conf: Some(sign.conf.clone()),
        ..Options::default()
    };
    let config = match options.load(role) {
        Ok(loaded) => loaded.config,
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let printed = sign
        .sign(&config)
        .and_then(|url| writeln!(std::io::stdout(), "{url}").context("cannot print the URL"));
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Shows a running server.
fn show_top(role: Role, top: &TopOptions) -> ExitCode {
    let options = Options {
        conf: top.conf.clone(),
        ..Options::default()
    };
    let config = match top.conf.as_ref().map(|_| options.load(role)).transpose() {
        Ok(loaded) => loaded.map(|loaded| loaded.config),
        Err(mistakes) => {
            systemd::print_error(&mistakes.to_string());
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let shown = runtime
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(top.show(config.as_ref())));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            systemd::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The listening sockets. They are opened before the process goes to the
/// background.
struct Listeners {
    rtmp: Vec<std::net::TcpListener>,
    http: Option<std::net::TcpListener>,
    http_flv: Vec<std::net::TcpListener>,
    https: Vec<std::net::TcpListener>,
    rtmps: Vec<std::net::TcpListener>,
    http_api_https: Vec<std::net::TcpListener>,
}

fn serve(role: Role, options: &Options, loaded: Loaded) -> anyhow::Result<()> {
    let Loaded { config, warnings } = loaded;
    let listeners = open_listeners(&config)?;
    let output = LogOutput::start(&config.log).with_context(|| {
        let file = config
            .log
            .destination()
            .map_or("?".into(), |path| path.display().to_string());
        format!("cannot write the log {file}: choose another by srs_log_file or --log-file")
    })?;
    let mut pid_file = config.pid.as_deref().map(PidFile::open).transpose()?;
    // Whoever started us sees only the exit of the foreground process: what can
    // fail has been tried before.
    if options.daemon {
        let (keep_directory, keep_output) = (true, config.log.destination().is_none());
        nix::unistd::daemon(keep_directory, keep_output).context("cannot go to the background")?;
    }
    if let Some(pid_file) = &mut pid_file {
        pid_file.write()?;
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
    let result = runtime.block_on(serve_until_signal(
        role, options, config, listeners, &output,
    ));
    runtime.shutdown_timeout(STOP_TIMEOUT);
    result
}

fn open_listeners(config: &Config) -> anyhow::Result<Listeners> {
    let bind = |&address: &SocketAddr, option: &str| {
        listen(address).with_context(|| {
            format!("cannot listen at {address}: choose another address or port by {option}")
        })
    };
    let tls = |listener: Option<&TlsListener>, option| {
        let addresses = listener.map_or(&[][..], |listener| &listener.listen);
        addresses
            .iter()
            .map(|address| bind(address, option))
            .collect::<anyhow::Result<Vec<_>>>()
    };
    let rtmp = config
        .listen
        .iter()
        .map(|address| bind(address, "`listen` or --listen"));
    Ok(Listeners {
        rtmp: rtmp.collect::<anyhow::Result<_>>()?,
        http: config
            .http_api
            .as_ref()
            .map(|api| bind(&api.listen, "`http_api { listen …; }` or --http-api"))
            .transpose()?,
        http_flv: config
            .http_listen()
            .iter()
            .map(|address| bind(address, "`http_server { listen …; }`"))
            .collect::<anyhow::Result<_>>()?,
        https: tls(config.https(), "`http_server { https { listen …; } }`")?,
        rtmps: tls(config.rtmps.as_ref(), "`rtmps { listen …; }`")?,
        http_api_https: tls(
            config.http_api_https.as_ref(),
            "`http_api { https { listen …; } }`",
        )?,
    })
}

/// Serves until a signal ends it.
async fn serve_until_signal(
    role: Role,
    options: &Options,
    config: Config,
    listeners: Listeners,
    output: &LogOutput,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot listen to signals")?;
    ignore_other_signals().context("cannot listen to signals")?;
    let name = match role {
        Role::Origin => "rtmp-origin",
        Role::Edge => "rtmp-edge",
    };
    let server = Server::start(role, config).context("cannot start")?;
    let mut accepting = Vec::new();
    for listener in listeners.rtmp {
        let listener = TcpListener::from_std(listener)?;
        log::info!(
            "{name} {} takes RTMP at {}",
            env!("CARGO_PKG_VERSION"),
            listener.local_addr()?
        );
        let task = tokio::spawn(server.clone().accept(listener, Protocol::Rtmp));
        accepting.push(AbortOnDropHandle::new(task));
    }
    for listener in listeners.http_flv {
        let listener = TcpListener::from_std(listener)?;
        log::info!(
            "{name} serves HTTP-FLV and HLS at {}",
            listener.local_addr()?
        );
        let task = tokio::spawn(server.clone().accept(listener, Protocol::HttpFlv));
        accepting.push(AbortOnDropHandle::new(task));
    }
    for listener in listeners.rtmps {
        let listener = TcpListener::from_std(listener)?;
        log::info!("{name} takes RTMPS at {}", listener.local_addr()?);
        let task = tokio::spawn(server.clone().accept(listener, Protocol::Rtmps));
        accepting.push(AbortOnDropHandle::new(task));
    }
    for listener in listeners.https {
        let listener = TcpListener::from_std(listener)?;
        log::info!(
            "{name} serves HTTP-FLV by HTTPS at {}",
            listener.local_addr()?
        );
        let task = tokio::spawn(server.clone().accept(listener, Protocol::Https));
        accepting.push(AbortOnDropHandle::new(task));
    }
    let mut _http = None;
    if let Some(listener) = listeners.http {
        let listener = TcpListener::from_std(listener)?;
        log::info!("the HTTP API answers at {}", listener.local_addr()?);
        let task = tokio::spawn(http::serve(listener, server.clone()));
        _http = Some(AbortOnDropHandle::new(task));
    }
    let mut _https = Vec::new();
    for listener in listeners.http_api_https {
        let listener = TcpListener::from_std(listener)?;
        log::info!(
            "the HTTP API answers by HTTPS at {}",
            listener.local_addr()?
        );
        let task = tokio::spawn(http::serve_https(listener, server.clone()));
        _https.push(AbortOnDropHandle::new(task));
    }
    let notify_ready = || systemd::ready(&format!("serving; the log goes to {output}"));
    notify_ready();
    let mut drain_until = None;
    loop {
        match signals.next(drain_until.map(|_| POLL_INTERVAL)).await {
            Some(SignalAction::Stop) => break,
            Some(SignalAction::Reload) => {
                systemd::reloading("reading the configuration again");
                reload(&server, options, output);
                notify_ready();
            }
            Some(SignalAction::ReopenLog) => reopen_log(&server, output),
            Some(SignalAction::Drain) => {
                let limit = server.config().drain_timeout;
                log::info!("draining: no new connections; viewers may finish for {limit:?}");
                systemd::status("draining: no new connections, viewers may finish");
                accepting.clear();
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
    systemd::stopping();
    log::info!(
        "stopping: {} connections are closed",
        server.clients().count()
    );
    accepting.clear();
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
    Ok(())
}

/// Number of connections that a drain waits for.
fn viewers(server: &Server) -> usize {
    let clients = server.clients().list();
    let viewing =
        |activity: Activity| matches!(activity, Activity::Playing(_) | Activity::Waiting(_));
    clients
        .iter()
        .filter(|client| viewing(client.activity()))
        .count()
}

/// SIGHUP: reads the configuration again and puts it in force. A wrong one changes
/// nothing.
fn reload(server: &Arc<Server>, options: &Options, output: &LogOutput) {
    let Loaded {
        mut config,
        warnings,
    } = match options.load(server.role()) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in &mistakes.diagnostics {
                log::error!("{mistake}");
            }
            let text = "reload failed: the configuration in force stays";
            log::error!("{text}");
            let text = format!("{text}: {mistakes}");
            let events = server.events();
            events.record(EventKind::ReloadFailed, None, None, text);
            return;
        }
    };
    for warning in warnings {
        log::warn!("{}", warning.sentence());
    }
    let old = server.config();
    let listens_at = |config: &Config| config.http_api.as_ref().map(|api| api.listen);
    let addresses = |listener: Option<&TlsListener>| listener.map(|it| it.listen.clone());
    let https = |config: &Config| {
        let api = config.http_api_https.as_ref();
        [addresses(config.https()), addresses(api)]
    };
    for (name, changed) in [
        ("listen", old.listen != config.listen),
        ("http_api", listens_at(&old) != listens_at(&config)),
        ("http_server", old.http_listen() != config.http_listen()),
        (
            "rtmps",
            addresses(old.rtmps.as_ref()) != addresses(config.rtmps.as_ref()),
        ),
        ("https", https(&old) != https(&config)),
        ("pid", old.pid != config.pid),
        ("server_id", old.server_id != config.server_id),
        ("workers", old.workers != config.workers),
    ] {
        if changed {
            log::warn!("`{name}` has changed: it takes effect at the next start");
        }
    }
    config.listen.clone_from(&old.listen);
    config.keep_http_api_listen(&old);
    config.keep_http_listen(&old);
    config.keep_tls_listen(&old);
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
        log::error!("cannot open the log, the old one stays in use: {error}");
    }
    descriptors::raise_limit(&config);
    server.reconfigure(config);
    log::info!("reloaded");
    let events = server.events();
    events.record(EventKind::Reload, None, None, "");
}

fn reopen_log(server: &Server, output: &LogOutput) {
    match output.reopen(&server.config().log) {
        Ok(()) => log::info!("log reopened: {output}"),
        Err(error) => log::error!("cannot reopen the log, the old one stays in use: {error}"),
    }
}
