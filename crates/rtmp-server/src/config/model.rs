//! The configuration as the servers read it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use serde::{Serialize, Serializer};

use super::capacity::{Admission, Capacity};
use super::dvr::Dvr;
use super::exec::Exec;
use super::forward::Forward;
use super::hls::Hls;
use super::http_api::HttpApi;
use super::http_flv::{HttpRemux, HttpServer};
use super::ingest::Ingest;
use super::origin::Origin;
use super::quota::Quotas;
use super::security::{Action, Security};
use super::signed_urls::SignedUrls;
use super::slate::Slate;
use super::tls::{CertificateFiles, TlsListener};
use super::transcode::Transcode;
use super::units::{milliseconds, optional_milliseconds, seconds};
use crate::stream::SecondPublisher;

/// The vhost that takes whatever no other vhost claims.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// RTMP's registered port (IANA `macromedia-fcs`).
pub const DEFAULT_PORT: u16 = 1935;

/// A server's whole configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Addresses that RTMP connections are taken at.
    pub listen: Vec<SocketAddr>,
    /// Connections beyond this number are accepted and closed.
    pub max_connections: u32,
    /// Connections of one IPv4 address or IPv6 /64 beyond this number are closed; 0: none.
    pub max_connections_per_address: u32,
    /// What may be sent; `None`: it is not limited.
    pub capacity: Option<Capacity>,
    /// Who is refused beyond it.
    pub admission: Admission,
    /// Name of this server for hooks; `None` for a name that is drawn at each
    /// start.
    pub server_id: Option<String>,
    /// File that holds our process id while we run.
    pub pid: Option<PathBuf>,
    /// Destination and level of the log.
    pub log: Log,
    /// The HTTP API; `None` where it is off.
    pub http_api: Option<HttpApi>,
    /// Addresses that it answers at by HTTPS.
    pub http_api_https: Option<TlsListener>,
    /// HTTP-FLV and WebSocket-FLV; `None` where it is off.
    pub http_server: Option<HttpServer>,
    /// Addresses that RTMPS connections are taken at; `None` where it is off.
    pub rtmps: Option<TlsListener>,
    /// Fan-out threads; `None` for one per core that we may use.
    pub workers: Option<usize>,
    /// Bytes that the logs of all streams and the unfinished messages of all
    /// connections may take together; `None` for half of what the
    /// machine or the control group has.
    pub stream_memory: Option<u64>,
    /// Time that a handshake may take.
    #[serde(serialize_with = "milliseconds")]
    pub handshake_timeout: Duration,
    /// Time that a client may take from its coming to a `connect`.
    #[serde(serialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    /// Time for which a client may be silent that neither publishes nor plays.
    #[serde(serialize_with = "milliseconds")]
    pub idle_timeout: Duration,
    /// Time that a drain (SIGQUIT) leaves viewers to finish.
    #[serde(serialize_with = "seconds")]
    pub drain_timeout: Duration,
    /// `-loglevel` of ffmpeg in `ingest`.
    pub ff_log_level: String,
    /// Programs of `ingest`, `transcode` and `exec` that run at a time at most.
    pub max_programs: usize,
    /// The vhosts by name.
    pub vhosts: BTreeMap<String, Arc<Vhost>>,
}

impl Config {
    /// True if viewers are refused for whom there is no room.
    #[must_use]
    pub fn limits_viewers(&self) -> bool {
        self.admission.enabled.unwrap_or(self.capacity.is_some())
    }

    /// The vhost that serves `name`: its own, else the default one, else none.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<&Arc<Vhost>> {
        self.vhosts
            .get(name)
            .or_else(|| self.vhosts.get(DEFAULT_VHOST))
            .filter(|vhost| vhost.enabled)
    }
}

/// Destination and level of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Log {
    /// `srs_log_tank`: `file`, `console`, or unset.
    pub tank: Option<LogTank>,
    /// The least severe level that is written.
    pub level: String,
    /// The file of the tank `file`.
    pub file: Option<PathBuf>,
}

/// The two places a log can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTank {
    /// Standard error.
    Console,
    /// The file of `srs_log_file`.
    File,
}

impl Log {
    /// One to standard error.
    pub(crate) fn console() -> Self {
        Self {
            tank: Some(LogTank::Console),
            level: "info".to_owned(),
            file: None,
        }
    }

    /// The file to write to, or `None` for standard error.
    #[must_use]
    pub fn destination(&self) -> Option<&PathBuf> {
        match self.tank {
            Some(LogTank::Console) => None,
            Some(LogTank::File) | None => self.file.as_ref(),
        }
    }
}

/// The settings of one vhost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vhost {
    /// Its name, which is part of every key of its streams.
    pub name: String,
    /// True if it is served at all.
    pub enabled: bool,
    /// Largest chunk that we send, in bytes.
    pub chunk_size: u32,
    /// Bytes after which the peer should acknowledge what we sent.
    pub out_ack_size: u32,
    /// Bytes after which we acknowledge what the peer sent; 0 leaves it to
    /// the peer's own Window Acknowledgement Size.
    pub in_ack_size: u32,
    /// True if a player starts at the newest keyframe rather than the next.
    pub gop_cache: bool,
    /// A player that joins is not sent a group of more messages than this; 0:
    /// any group.
    pub gop_cache_max_frames: u32,
    /// A player further behind than this is moved on to a keyframe.
    #[serde(serialize_with = "seconds")]
    pub queue_length: Duration,
    /// The most bytes that are kept of one stream, whatever its timestamps say.
    pub queue_bytes: u32,
    /// True if messages are sent as soon as they are in the log.
    pub min_latency: bool,
    /// Time for which messages are gathered otherwise.
    #[serde(serialize_with = "milliseconds")]
    pub mw_latency: Duration,
    /// Rate at which a player is sent to at most, in kbit/s; 0: no limit.
    pub max_pacing_rate: u32,
    /// Time for which a publisher's input is gathered before it is read.
    #[serde(serialize_with = "optional_milliseconds")]
    pub mr: Option<Duration>,
    /// The same time while `mr` is off: the two directives may come in any order.
    #[serde(skip)]
    pub(super) mr_latency: Duration,
    /// True if players' sockets keep `TCP_NODELAY` while they play.
    pub tcp_nodelay: bool,
    /// Time that a publisher may take to its first message.
    #[serde(serialize_with = "milliseconds")]
    pub publish_1stpkt_timeout: Duration,
    /// Time for which a publisher may be silent later.
    #[serde(serialize_with = "milliseconds")]
    pub publish_normal_timeout: Duration,
    /// Time for which a stream without publisher is kept for the publisher's return.
    #[serde(serialize_with = "milliseconds")]
    pub publish_return_timeout: Duration,
    /// What becomes of a second publisher that is not marked as a standby.
    pub second_publisher: SecondPublisher,
    /// Silence of a publisher after which a standby takes its place.
    #[serde(serialize_with = "milliseconds")]
    pub standby_after: Duration,
    /// Time for which a publisher that has returned sends steadily before it takes the place
    /// of a marked standby; `None`: it waits until that ends.
    #[serde(serialize_with = "optional_milliseconds")]
    pub standby_return: Option<Duration>,
    /// The file that is shown while nobody publishes a stream that players are left of.
    pub slate: Option<Slate>,
    /// Time without a publisher after which it is shown.
    #[serde(serialize_with = "milliseconds")]
    pub slate_after: Duration,
    /// Time for which a publication's pictures are held back for want of a keyframe.
    #[serde(serialize_with = "milliseconds")]
    pub keyframe_timeout: Duration,
    /// Time for which a player waits for a stream that is not there.
    #[serde(serialize_with = "milliseconds")]
    pub play_wait_timeout: Duration,
    /// Time that a player may take nothing of what we send.
    #[serde(serialize_with = "milliseconds")]
    pub send_timeout: Duration,
    /// Who may publish and play.
    pub security: Security,
    /// The signatures that URLs need.
    pub signed_urls: SignedUrls,
    /// How many may publish and play, and how much.
    pub quotas: Quotas,
    /// From which pages a browser's player may come.
    pub referers: Referers,
    /// Web servers that get requests and notifications.
    pub http_hooks: HttpHooks,
    /// Its streams over HTTP.
    pub http_remux: HttpRemux,
    /// The certificate for TLS clients that name this vhost (SNI).
    pub certificate: Option<CertificateFiles>,
    /// Its streams as HLS.
    pub hls: Hls,
    /// Recordings of its streams.
    pub dvr: Dvr,
    /// Other servers that its streams are published at.
    pub forward: Forward,
    /// Streams that the server fetches by itself.
    pub ingests: Vec<Ingest>,
    /// What ffmpeg makes of its streams.
    pub transcodes: Vec<Transcode>,
    /// Programs that run while a stream is published.
    pub exec: Exec,
    /// Servers that an edge pulls from; `None` at an origin.
    pub upstream: Option<Upstream>,
}

impl Vhost {
    /// Time that a message may wait in the log for others to be sent with.
    #[must_use]
    pub fn effective_mw_latency(&self) -> Duration {
        if self.min_latency {
            Duration::ZERO
        } else {
            self.mw_latency
        }
    }
}

/// An edge's upstream side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// The origins, tried in turn.
    pub origins: Vec<Origin>,
    /// The certificates of authorities that an origin's must come from; `None` for those
    /// that the system trusts.
    pub ca: Option<PathBuf>,
    /// `mode`, if it is given.
    pub remote: Option<bool>,
    /// The vhost to ask for upstream, where it is not the viewer's.
    pub vhost: Option<String>,
    /// True if the viewer's parameters travel upstream.
    pub token_traverse: bool,
    /// Number of origins that each stream is pulled from at once.
    pub redundancy: usize,
    /// Time that one connection attempt, with handshake and commands, may take.
    #[serde(serialize_with = "milliseconds")]
    pub connect_timeout: Duration,
    /// Time for which a connected origin may be silent.
    #[serde(serialize_with = "milliseconds")]
    pub read_timeout: Duration,
    /// Time for which players are kept while no origin can be reached.
    #[serde(serialize_with = "milliseconds")]
    pub return_timeout: Duration,
    /// Time for which an upstream connection is kept after the last player.
    #[serde(serialize_with = "milliseconds")]
    pub linger: Duration,
}

impl Upstream {
    /// True if the vhost is to pull: not if it is `local`, nor if it names no origin.
    pub(super) fn is_meant(&self) -> bool {
        self.remote.unwrap_or(!self.origins.is_empty())
    }
}

/// `refer`, `refer_publish`, `refer_play`: the hosts of pages (`pageUrl`) that
/// a client may come from. An empty list allows every client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Referers {
    /// For every client.
    pub all: Vec<String>,
    /// For publishers.
    pub publish: Vec<String>,
    /// For players.
    pub play: Vec<String>,
}

impl Referers {
    /// True if a client of the page `page_url` may do `action`.
    #[must_use]
    pub fn permit(&self, action: Action, page_url: &str) -> bool {
        let particular = match action {
            Action::Publish => &self.publish,
            Action::Play => &self.play,
        };
        [&self.all, particular].iter().all(|hosts| {
            hosts.is_empty()
                || hosts
                    .iter()
                    .any(|host| is_within(page_host(page_url), host))
        })
    }
}

/// The host of `scheme://host[:port]/path`.
fn page_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?', '#', ':']).next().unwrap_or_default()
}

/// True if `host` is `domain` or lies below it.
fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// `http_hooks { … }`: the URLs of requests and notifications, by event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HttpHooks {
    /// Requests when a client connects.
    pub on_connect: Vec<HookUrl>,
    /// Notifications when a connection has ended.
    pub on_close: Vec<HookUrl>,
    /// Requests before a stream is published.
    pub on_publish: Vec<HookUrl>,
    /// Notifications when a stream is no longer published.
    pub on_unpublish: Vec<HookUrl>,
    /// Requests before a stream is played.
    pub on_play: Vec<HookUrl>,
    /// Notifications when a client has stopped playing.
    pub on_stop: Vec<HookUrl>,
    /// Notifications when a segment of HLS has been written to a file.
    pub on_hls: Vec<HookUrl>,
    /// URLs that are fetched then, with variables for what they name.
    pub on_hls_notify: Vec<HookUrl>,
    /// Notifications when another publisher, which had waited, is on air.
    pub on_switch: Vec<HookUrl>,
    /// Notifications when a file of a recording is finished.
    pub on_dvr: Vec<HookUrl>,
}

impl HttpHooks {
    /// All URLs.
    pub fn all(&self) -> impl Iterator<Item = &HookUrl> {
        [
            &self.on_connect,
            &self.on_close,
            &self.on_publish,
            &self.on_unpublish,
            &self.on_play,
            &self.on_stop,
            &self.on_hls,
            &self.on_hls_notify,
            &self.on_switch,
            &self.on_dvr,
        ]
        .into_iter()
        .flatten()
    }
}

/// An `http://` or `https://` URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HookUrl {
    /// True if it is `https://`.
    pub tls: bool,
    /// `host:port` to connect to.
    pub authority: String,
    /// Path and query to ask for.
    #[serde(serialize_with = "serialize_path")]
    pub path: String,
}

/// Writes a path without its query, which may have a secret.
fn serialize_path<S: Serializer>(path: &str, serializer: S) -> Result<S::Ok, S::Error> {
    without_query(path).serialize(serializer)
}

fn without_query(path: &str) -> &str {
    path.split_once('?').map_or(path, |(path, _)| path)
}

impl HookUrl {
    /// Reads `http[s]://host[:port][/path]`.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority()?;
        let host = authority.host();
        let port = match authority.port_u16() {
            Some(port) => Some(port).filter(|&port| port != 0)?,
            // A user's name, or a port that is none.
            None if authority.as_str() != host => return None,
            None if tls => 443,
            None => 80,
        };
        if host.is_empty() || authority.as_str().contains('@') {
            return None;
        }
        let query = uri
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        Some(Self {
            tls,
            authority: format!("{host}:{port}"),
            path: format!("{}{query}", uri.path()),
        })
    }

    /// Its host: a name or an address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// Without its query, which may have a secret.
impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(
            f,
            "{scheme}://{}{}",
            self.authority,
            without_query(&self.path)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_permits_its_own_host_and_those_below_it() {
        let referers = Referers {
            play: vec!["example.com".to_owned()],
            ..Referers::default()
        };
        for (page, permitted) in [
            ("http://example.com/player.html", true),
            ("https://www.example.com:8080/", true),
            ("example.com", true),
            ("http://badexample.com/", false),
            ("http://example.com.evil.net/", false),
            ("", false),
        ] {
            assert_eq!(referers.permit(Action::Play, page), permitted, "{page}");
            assert!(referers.permit(Action::Publish, page), "{page}");
        }
    }

    #[test]
    fn a_hooks_url_is_taken_apart_and_shown_without_its_query() {
        for (url, host, whole) in [
            ("http://a:8085/api/v1?x=y", "a", "http://a:8085/api/v1"),
            ("http://a", "a", "http://a:80/"),
            ("https://a/b", "a", "https://a:443/b"),
            ("https://a:8443?x", "a", "https://a:8443/"),
            ("http://[::1]:80/", "::1", "http://[::1]:80/"),
            ("https://[::1]/", "::1", "https://[::1]:443/"),
        ] {
            let read = HookUrl::parse(url).unwrap();
            assert_eq!((read.host(), &*read.to_string()), (host, whole));
        }
        for wrong in [
            "rtmp://a/",
            "a:80",
            "/a",
            "http://",
            "http://a:x/",
            "http://a:0/",
            "http://:/",
            "http://user@a/",
        ] {
            assert_eq!(HookUrl::parse(wrong), None, "{wrong}");
        }
    }
}
