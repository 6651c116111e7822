//! Configuration: SRS's `.conf` grammar, the same as JSON, and command-line
//! flags, all read into one tree of directives and from there into [`Config`].

mod capacity;
pub mod conf;
mod dvr;
pub(crate) mod dvr_naming;
mod engine;
mod exec;
mod file;
mod forward;
mod hls;
mod http_api;
mod http_flv;
mod ingest;
pub mod json;
mod model;
mod origin;
mod quota;
mod schema;
mod security;
mod setting;
mod signed_urls;
mod slate;
mod tls;
mod transcode;
mod units;
mod value;
mod vhost_schema;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use capacity::{Admission, Capacity, Overflow};
use conf_kit::Diagnostics;
pub use conf_kit::{ConfigError, Diagnostic, Directive, Location};
pub use dvr::{Dvr, DvrFormat, DvrPlan};
pub use engine::Engine;
pub use exec::{Exec, ExecProgram};
pub use file::read_file;
pub(crate) use forward::MAX_DESTINATIONS;
pub use forward::{Destination, Forward};
use hls::DEFAULT_DIRECTORY;
pub use hls::{Hls, HlsFiles, HlsKeys, PlaylistPath};
use http_api::HttpApiBlock;
pub use http_api::{HttpApi, RawApi};
use http_flv::HttpServerBlock;
pub use http_flv::{HttpRemux, HttpServer, Mount};
pub use ingest::{
    Ingest, IngestInput, IngestJob, IngestWork, InputKind, RtpTransport, local_stream, port,
    rtmp_source,
};
pub(crate) use ingest::{at_listener, host, named_stream, server_of};
pub use model::{
    Config, DEFAULT_PORT, DEFAULT_VHOST, HookUrl, HttpHooks, Log, LogTank, Referers, Upstream,
    Vhost,
};
pub use origin::Origin;
pub use quota::{Quota, Quotas};
use schema::{GLOBAL, Globals};
pub use security::{Action, Rule, Security};
use setting::apply;
pub use signed_urls::SignedUrls;
pub use slate::Slate;
use slate::check_slate;
use tls::TlsBlock;
pub use tls::{CertificateFiles, TlsListener};
pub use transcode::Transcode;
use vhost_schema::{MR_LATENCY, VHOST};

use crate::stream::SecondPublisher;

/// The server that a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes publishers and serves players: it serves the vhosts without an origin.
    Origin,
    /// Pulls from origins: it serves the vhosts with an origin.
    Edge,
}

/// A configuration and what the operator should know about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should know.
    pub warnings: Vec<Diagnostic>,
    /// What it was made of.
    pub directives: Vec<Directive>,
}

/// Makes a configuration of `directives`; later ones override earlier ones of
/// another source, as the command line does the file.
///
/// # Errors
/// All mistakes that were found, in order.
pub fn build(directives: &[Directive], role: Role) -> Result<Loaded, ConfigError> {
    let mut diagnostics = Diagnostics::new(Location::whole("configuration"));
    let (vhost_blocks, globals_only): (Vec<_>, Vec<_>) = directives
        .iter()
        .cloned()
        .partition(|directive| directive.keyword == "vhost");
    let mut globals = defaults();
    apply(
        &mut globals,
        &globals_only,
        GLOBAL,
        "outside of a vhost",
        &[],
        &mut diagnostics,
    );
    let Globals {
        mut config,
        vhost: template,
        http_api,
        http_server,
        rtmps,
    } = globals;
    let http_directory = http_server.directory;
    let https = http_api.https.clone().listener();
    config.http_api = http_api.finish(&mut diagnostics);
    config.http_api_https = https.filter(|_| config.http_api.is_some());
    config.rtmps = rtmps.listener();
    config.http_server = http_server.enabled.then_some(HttpServer {
        http2: http_server.https.http2,
        https: http_server.https.listener(),
        ..http_server.server
    });
    config.separate_http(&mut diagnostics);

    let mut vhosts: Vec<Vhost> = Vec::new();
    // Last place of each, for mistakes of all of it.
    let mut locations: Vec<Location> = Vec::new();
    for block in &vhost_blocks {
        let ([name], Some(children)) = (block.arguments.as_slice(), &block.children) else {
            let message = "a vhost is written `vhost NAME { … }`";
            diagnostics.error(&block.location, message);
            continue;
        };
        let known = vhosts.iter().position(|vhost| vhost.name == *name);
        if let Some(earlier) = known.map(|position| &locations[position])
            && earlier.source() == block.location.source()
            && earlier.has_line()
        {
            let message = format!(
                "the vhost `{name}` was already given at {earlier}: \
                 this completes it, where SRS takes the first alone"
            );
            diagnostics.warn(&block.location, message);
        }
        let position = known.unwrap_or_else(|| {
            vhosts.push(Vhost {
                name: name.clone(),
                ..template.clone()
            });
            locations.push(block.location.clone());
            vhosts.len() - 1
        });
        locations[position] = block.location.clone();
        apply(
            &mut vhosts[position],
            children,
            VHOST,
            "in a vhost",
            &["ingest", "transcode"],
            &mut diagnostics,
        );
    }
    if vhosts.is_empty() {
        vhosts.push(template);
        locations.push(Location::default());
    }
    for (vhost, location) in vhosts.iter_mut().zip(&locations) {
        vhost.hls.locate_below(&http_directory);
        vhost.upstream = vhost.upstream.take().filter(Upstream::is_meant);
        check_slate(vhost, location, &mut diagnostics);
    }
    assign(&mut vhosts, &locations, role, &mut diagnostics);
    dvr::warn_of_overlaps(&vhosts, &locations, &mut diagnostics);
    for (vhost, location) in vhosts.iter().zip(&locations) {
        if vhost.enabled && vhost.upstream.is_some() {
            warn_of_origins_own(vhost, location, &mut diagnostics);
        }
        let is_alone = |it: &Upstream| it.redundancy > it.origins.len() && it.origins.len() == 1;
        if vhost.enabled && vhost.upstream.as_ref().is_some_and(is_alone) {
            let name = &vhost.name;
            let message = format!(
                "the vhost `{name}` names one origin: `origin_redundancy` has no effect, name \
                 another one in `origin`"
            );
            diagnostics.warn(location, message);
        }
    }
    let (mistakes, warnings): (Vec<_>, Vec<_>) = diagnostics
        .into_list()
        .into_iter()
        .partition(Diagnostic::is_error);
    if !mistakes.is_empty() {
        return Err(ConfigError {
            diagnostics: mistakes,
        });
    }
    config.vhosts = vhosts
        .into_iter()
        .map(|vhost| (vhost.name.clone(), Arc::new(vhost)))
        .collect();
    Ok(Loaded {
        config,
        warnings,
        directives: directives.to_vec(),
    })
}

/// Warns of what has no effect in a vhost that pulls from an origin.
fn warn_of_origins_own(vhost: &Vhost, location: &Location, diagnostics: &mut Diagnostics) {
    let name = &vhost.name;
    for (word, is_set, instead) in [
        ("dvr", vhost.dvr.enabled, "record there"),
        ("forward", vhost.forward.enabled, "forward from there"),
        (
            "ingest",
            vhost.ingests.iter().any(|it| it.enabled),
            "ingest there",
        ),
        (
            "transcode",
            vhost.transcodes.iter().any(|it| it.enabled),
            "transcode there",
        ),
        ("exec", !vhost.exec.publish.is_empty(), "run it there"),
    ] {
        if is_set {
            let message = format!(
                "the vhost `{name}` pulls from an origin: `{word}` has no effect, {instead}"
            );
            diagnostics.warn(location, message);
        }
    }
}

/// True if directives of this name stand outside of vhosts.
#[must_use]
pub(crate) fn is_global(name: &str) -> bool {
    name == "vhost" || GLOBAL.iter().any(|setting| setting.is_called(name))
}

/// True if directives of this name stand in vhosts.
#[must_use]
pub(crate) fn is_of_vhosts(name: &str) -> bool {
    VHOST.iter().any(|setting| setting.is_called(name))
}

/// Leaves to the other server the vhosts that are its own: a file may have those
/// of both. One that has no others is a mistake.
fn assign(vhosts: &mut [Vhost], locations: &[Location], role: Role, diagnostics: &mut Diagnostics) {
    let (why, other, way_out) = match role {
        Role::Origin => (
            "pulls from an origin",
            "rtmp-edge",
            "such a configuration is for rtmp-edge",
        ),
        Role::Edge => (
            "names no `origin` to pull from",
            "rtmp-origin",
            "give `origin HOST:PORT;` in it, or --origin HOST:PORT",
        ),
    };
    let is_ours = |vhost: &Vhost| vhost.upstream.is_some() == (role == Role::Edge);
    let any_is_ours = vhosts.iter().any(|vhost| vhost.enabled && is_ours(vhost));
    for (vhost, location) in vhosts.iter_mut().zip(locations) {
        let lacks_origin = vhost
            .upstream
            .as_ref()
            .is_some_and(|it| it.origins.is_empty());
        if !vhost.enabled || (is_ours(vhost) && !lacks_origin) {
            continue;
        }
        let name = &vhost.name;
        if is_ours(vhost) || !any_is_ours {
            let message = format!("the vhost `{name}` {why}: {way_out}");
            diagnostics.error(location, message);
        } else {
            let message = format!("the vhost `{name}` {why}: it is left to {other}");
            diagnostics.warn(location, message);
            vhost.enabled = false;
        }
    }
}

fn defaults() -> Globals {
    let any = |port| SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    Globals {
        config: Config {
            listen: vec![any(DEFAULT_PORT)],
            max_connections: 1_000,
            max_connections_per_address: 0,
            capacity: None,
            admission: Admission::default(),
            pid: None,
            log: Log {
                tank: None,
                level: "info".to_owned(),
                file: None,
            },
            http_api: None,
            http_api_https: None,
            http_server: None,
            rtmps: None,
            workers: None,
            stream_memory: None,
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            server_id: None,
            drain_timeout: Duration::from_secs(300),
            ff_log_level: "info".to_owned(),
            max_programs: 100,
            vhosts: std::collections::BTreeMap::new(),
        },
        vhost: Vhost {
            name: DEFAULT_VHOST.to_owned(),
            enabled: true,
            chunk_size: 60_000,
            out_ack_size: 2_500_000,
            in_ack_size: 0,
            gop_cache: true,
            gop_cache_max_frames: 2_500,
            queue_length: Duration::from_secs(30),
            queue_bytes: 256 << 20,
            min_latency: false,
            mw_latency: Duration::from_millis(350),
            max_pacing_rate: 0,
            mr: None,
            mr_latency: MR_LATENCY,
            tcp_nodelay: false,
            publish_1stpkt_timeout: Duration::from_secs(20),
            publish_normal_timeout: Duration::from_secs(5),
            publish_return_timeout: Duration::from_secs(30),
            second_publisher: SecondPublisher::Refuse,
            standby_after: Duration::from_millis(500),
            standby_return: None,
            slate: None,
            slate_after: Duration::from_secs(3),
            keyframe_timeout: Duration::from_secs(8),
            play_wait_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            security: Security::default(),
            signed_urls: SignedUrls::default(),
            quotas: Quotas::default(),
            referers: Referers::default(),
            http_hooks: HttpHooks::default(),
            http_remux: HttpRemux::default(),
            certificate: None,
            hls: Hls::default(),
            dvr: Dvr::default(),
            forward: Forward::default(),
            ingests: Vec::new(),
            transcodes: Vec::new(),
            exec: Exec::default(),
            upstream: None,
        },
        http_api: HttpApiBlock::new(any(1985)),
        http_server: HttpServerBlock {
            enabled: false,
            directory: DEFAULT_DIRECTORY.to_owned(),
            server: HttpServer {
                listen: vec![any(8080)],
                crossdomain: true,
                https: None,
                http2: true,
            },
            https: TlsBlock::new(8088),
        },
        rtmps: TlsBlock::new(1443),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::load;
