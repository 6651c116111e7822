//! The directives of SRS that we know, and our own, as tables: those outside
//! of vhosts.

use conf_kit::{Diagnostic, Directive};

use super::capacity::{admission, admission_switch, capacity};
use super::http_api::{HttpApiBlock, http_api};
use super::http_flv::{HttpServerBlock, http_server};
use super::model::{Config, Log, LogTank, Vhost};
use super::setting::{NO_OTHER_PROTOCOL, Setting, apply};
use super::tls::{TLS_LISTENER, TlsBlock};
use super::value::{socket_addresses, switch};
use super::vhost_schema::{chunk_size, in_ack_size, out_ack_size, tcp_nodelay};

/// Values that the global scope gives to vhosts that do not set their own.
#[derive(Debug, Clone)]
pub(super) struct Globals {
    pub(super) config: Config,
    pub(super) vhost: Vhost,
    pub(super) http_api: HttpApiBlock,
    pub(super) http_server: HttpServerBlock,
    pub(super) rtmps: TlsBlock,
}

/// The directives outside every block.
pub(super) const GLOBAL: &[Setting<Globals>] = &[
    Setting::list("listen", listen),
    Setting::new("max_connections", |globals, directive| {
        globals.config.max_connections = directive.number(1..=1_000_000)?;
        Ok(())
    }),
    Setting::new("max_connections_per_address", |globals, directive| {
        globals.config.max_connections_per_address = directive.number(0..=1_000_000)?;
        Ok(())
    }),
    Setting::new("capacity", capacity),
    Setting::value_or_block("admission", admission_switch, admission),
    Setting::new("pid", |globals, directive| {
        globals.config.pid = Some(directive.argument("a file name")?.into());
        Ok(())
    }),
    // We stay in the foreground, whatever it says: see `--help`.
    Setting::new("daemon", |_, directive| switch(directive).map(|_| ())),
    Setting::new("srs_log_tank", |globals, directive| {
        const TANKS: [(&str, LogTank); 2] =
            [("console", LogTank::Console), ("file", LogTank::File)];
        globals.config.log.tank = Some(directive.choice(&TANKS, "`console` or `file`")?);
        Ok(())
    }),
    Setting::new("srs_log_level", |globals, directive| {
        let expected = "one of `error`, `warn`, `info`, `verbose` (`debug`), `trace`";
        log_level(&mut globals.config.log, directive, &LEVELS, expected)
    }),
    Setting::new("srs_log_level_v2", |globals, directive| {
        let expected = "one of `error`, `warn`, `info`, `debug`, `trace`";
        log_level(&mut globals.config.log, directive, &LEVELS_V2, expected)
    }),
    Setting::new("srs_log_file", |globals, directive| {
        globals.config.log.file = Some(directive.argument("a file name")?.into());
        Ok(())
    }),
    Setting::new("server_id", |globals, directive| {
        globals.config.server_id = Some(directive.argument("a name")?.to_owned());
        Ok(())
    }),
    Setting::new("workers", |globals, directive| {
        globals.config.workers = Some(directive.number(1..=1024)?);
        Ok(())
    }),
    Setting::new("stream_memory", |globals, directive| {
        let megabytes: u64 = directive.number(16..=1 << 30)?;
        globals.config.stream_memory = Some(megabytes << 20);
        Ok(())
    }),
    Setting::new("handshake_timeout", |globals, directive| {
        globals.config.handshake_timeout = directive.milliseconds(100..=600_000)?;
        Ok(())
    }),
    Setting::new("connect_timeout", |globals, directive| {
        globals.config.connect_timeout = directive.milliseconds(100..=600_000)?;
        Ok(())
    }),
    Setting::new("idle_timeout", |globals, directive| {
        globals.config.idle_timeout = directive.milliseconds(100..=3_600_000)?;
        Ok(())
    }),
    Setting::new("drain_timeout", |globals, directive| {
        globals.config.drain_timeout = directive.seconds_within(0..=86_400)?;
        Ok(())
    }),
    Setting::new("chunk_size", global_chunk_size),
    Setting::new("in_ack_size", |globals, directive| {
        in_ack_size(&mut globals.vhost, directive)
    }),
    Setting::new("out_ack_size", |globals, directive| {
        out_ack_size(&mut globals.vhost, directive)
    }),
    Setting::new("tcp_nodelay", |globals, directive| {
        tcp_nodelay(&mut globals.vhost, directive)
    }),
    Setting::block("rtmp", |globals, children, diagnostics| {
        apply(globals, children, RTMP, "in `rtmp`", &[], diagnostics);
    }),
    Setting::block("http_api", http_api),
    Setting::ignored("ff_log_dir", "what ffmpeg says last is in our own log"),
    Setting::new("ff_log_level", |globals, directive| {
        let expected = "a level of ffmpeg's, such as `info` or `warning`";
        directive
            .argument(expected)?
            .clone_into(&mut globals.config.ff_log_level);
        Ok(())
    }),
    Setting::new("max_programs", |globals, directive| {
        globals.config.max_programs = directive.number(0..=10_000)?;
        Ok(())
    }),
    Setting::ignored("utc_time", "log lines are in UTC"),
    Setting::ignored("work_dir", "start us in the directory that you want"),
    Setting::ignored("asprocess", "a supervisor watches us, we watch no parent"),
    Setting::ignored("inotify_auto_reload", "reload with SIGHUP"),
    Setting::ignored("auto_reload_for_docker", "reload with SIGHUP"),
    Setting::ignored("grace_start_wait", "a drain begins at once"),
    Setting::ignored("grace_final_wait", "set `drain_timeout`"),
    Setting::ignored("force_grace_quit", "SIGQUIT drains, SIGTERM stops"),
    Setting::ignored(
        "disable_daemon_for_docker",
        "we always stay in the foreground",
    ),
    Setting::ignored("tcmalloc_release_rate", "no tcmalloc is used"),
    Setting::ignored("query_latest_version", "nobody is asked for versions"),
    Setting::ignored("first_wait_for_qlv", "nobody is asked for versions"),
    Setting::ignored("pithy_print_ms", "each session has its closing line"),
    Setting::ignored("empty_ip_ok", "clients without an address are taken"),
    Setting::ignored("is_full", "any file is read"),
    Setting::ignored("in_docker", "a container is nothing special"),
    Setting::block("rtmps", |globals, children, diagnostics| {
        globals
            .rtmps
            .read(children, TLS_LISTENER, "in `rtmps`", diagnostics);
    }),
    Setting::ignored("rtsp_server", NO_OTHER_PROTOCOL),
    Setting::block("http_server", http_server),
    // Its name in SRS 2.
    Setting::block("http_stream", http_server),
    Setting::ignored("rtc_server", NO_OTHER_PROTOCOL),
    Setting::ignored("srt_server", NO_OTHER_PROTOCOL),
    Setting::ignored("stream_caster", NO_OTHER_PROTOCOL),
    Setting::ignored("heartbeat", "ask the HTTP API instead"),
    Setting::ignored("stats", "ask the HTTP API instead"),
    Setting::ignored("exporter", "scrape `/metrics` at the address of `http_api`"),
    Setting::ignored("tencentcloud_cls", "logs go to a file or to the console"),
    Setting::ignored("tencentcloud_apm", "there is no tracing"),
    Setting::ignored("circuit_breaker", "there is none"),
    Setting::ignored("threads", "set `workers`"),
];

/// The directives of `rtmp { … }`, where SRS 7 has them.
const RTMP: &[Setting<Globals>] = &[
    Setting::list("listen", listen),
    Setting::new("chunk_size", global_chunk_size),
];

fn listen(globals: &mut Globals, directive: &Directive) -> Result<(), Diagnostic> {
    globals.config.listen = socket_addresses(directive)?;
    Ok(())
}

fn global_chunk_size(globals: &mut Globals, directive: &Directive) -> Result<(), Diagnostic> {
    chunk_size(&mut globals.vhost, directive)
}

/// `srs_log_level`: SRS's `trace` is what others call `info`.
const LEVELS: [(&str, &str); 6] = [
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("trace", "info"),
    ("verbose", "debug"),
    ("debug", "debug"),
];

/// `srs_log_level_v2`: SRS 6 names the levels as others do.
const LEVELS_V2: [(&str, &str); 5] = [
    ("error", "error"),
    ("warn", "warn"),
    ("info", "info"),
    ("debug", "debug"),
    ("trace", "trace"),
];

fn log_level(
    log: &mut Log,
    directive: &Directive,
    levels: &[(&str, &str)],
    expected: &str,
) -> Result<(), Diagnostic> {
    directive
        .choice(levels, expected)?
        .clone_into(&mut log.level);
    Ok(())
}
