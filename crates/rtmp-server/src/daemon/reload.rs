//! SIGHUP and SIGUSR1: the configuration is read again, the log opened again.

use std::sync::Arc;

use super::logging::LogOutput;
use super::{Options, descriptors};
use crate::config::{Config, Directive, Loaded, TlsListener};
use crate::server::{EventKind, Server};

/// SIGHUP: reads the configuration again and puts it in force; returns what it is made of. A
/// wrong one changes nothing.
pub(super) fn reload(
    server: &Arc<Server>,
    options: &Options,
    output: &LogOutput,
) -> Option<Vec<Directive>> {
    let Loaded {
        mut config,
        warnings,
        directives,
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
            return None;
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
    Some(directives)
}

pub(super) fn reopen_log(server: &Server, output: &LogOutput) {
    match output.reopen(&server.config().log) {
        Ok(()) => log::info!("log reopened: {output}"),
        Err(error) => log::error!("cannot reopen the log, the old one stays in use: {error}"),
    }
}
