//! `ingest NAME { … }`: streams that the server fetches by itself, as in SRS
//! (`srs_app_ingest.cpp`), with RTSP, FLV files and RTMP read natively.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use conf_kit::{Diagnostic, Diagnostics, Directive};
use rtmp_proto::session::{AppName, Parameters, StreamKey};
use rtmp_proto::wire::Limits;
use serde::{Serialize, Serializer};

use super::engine::{Engine, EngineOf, engine, named_block};
use super::model::{DEFAULT_VHOST, Vhost};
use super::origin::Origin;
use super::setting::{Setting, apply, settings};
use super::transcode::FFMPEG;
use super::units::milliseconds;
use super::value::switch;
use crate::redact::redacted_url;

/// One `ingest` of a vhost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ingest {
    /// Its name within the vhost; may be empty.
    pub name: String,
    /// True if it has an effect.
    pub enabled: bool,
    /// The source.
    pub input: IngestInput,
    /// The path of ffmpeg, or its name in `PATH`.
    pub ffmpeg: String,
    /// What becomes of it. Without an engine it is passed on as `live/NAME`.
    pub engines: Vec<Engine>,
}

/// `input { … }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IngestInput {
    /// `type`.
    pub kind: InputKind,
    /// The name of a file, or a URL, which may have secrets.
    #[serde(serialize_with = "serialize_redacted")]
    pub url: String,
    /// How RTP comes from an RTSP server.
    pub transport: RtpTransport,
    /// Time for which a source may be silent, and that a step of its beginning may take.
    #[serde(serialize_with = "milliseconds")]
    pub timeout: Duration,
    /// True if sound in G.711 is passed on, which few players can take.
    pub g711: bool,
}

/// Writes a URL without secrets.
fn serialize_redacted<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    redacted_url(url).serialize(serializer)
}

/// `type` of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// A file, which is repeated.
    File,
    /// A URL.
    Stream,
    /// A URL of a camera.
    Rtsp,
}

/// How RTP comes from an RTSP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RtpTransport {
    /// In the RTSP connection.
    Tcp,
    /// In datagrams.
    Udp,
}

/// A stream that an `ingest` makes. Of several outputs of an `ingest` each is one.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestJob {
    /// The vhost that has it.
    pub vhost: String,
    /// The name of the `ingest`.
    pub name: String,
    /// Its engine, from 0 on.
    pub number: usize,
    /// The source.
    pub input: IngestInput,
    /// What fetches it.
    pub work: IngestWork,
    /// The stream that it becomes; `None` if that is another server's.
    pub key: Option<StreamKey>,
}

/// What fetches the source of an `ingest`.
#[derive(Debug, Clone, PartialEq)]
pub enum IngestWork {
    /// An FLV file is read.
    FlvFile,
    /// An RTSP server is asked; the URL is without user and password.
    Rtsp,
    /// An RTMP server is asked.
    Rtmp,
    /// ffmpeg is run, which publishes.
    Ffmpeg {
        /// Its path, or its name in `PATH`.
        path: String,
        /// What it is to do.
        engine: Box<Engine>,
        /// Its output, the variables of the time left.
        output: String,
    },
}

impl IngestInput {
    /// Its URL without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        redacted_url(&self.url).into_owned()
    }

    /// How it can be read without ffmpeg.
    fn native(&self) -> Option<IngestWork> {
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        match (self.kind, scheme) {
            (InputKind::File, None) if has_flv_name(&self.url) => Some(IngestWork::FlvFile),
            (InputKind::Rtsp | InputKind::Stream, Some("rtsp")) => Some(IngestWork::Rtsp),
            (InputKind::Stream, Some("rtmp" | "rtmps")) => Some(IngestWork::Rtmp),
            _ => None,
        }
    }
}

fn has_flv_name(file: &str) -> bool {
    file.len() > 4
        && file.is_char_boundary(file.len() - 4)
        && file[file.len() - 4..].eq_ignore_ascii_case(".flv")
}

impl Ingest {
    /// The streams that it makes at a server that listens at `listen`.
    #[must_use]
    pub fn jobs(&self, vhost: &str, listen: &[SocketAddr]) -> Vec<IngestJob> {
        if !self.enabled || self.input.url.is_empty() {
            return Vec::new();
        }
        let of_its_own = Engine::copying(&format!(
            "rtmp://{}:[port]/live/{}?vhost=[vhost]",
            host(listen),
            match &*self.name {
                "" => "livestream",
                name => name,
            }
        ));
        let engines = match self.engines.as_slice() {
            [] => std::slice::from_ref(&of_its_own),
            engines => engines,
        };
        let job = |(number, engine): (usize, &Engine)| {
            self.job(vhost, listen, number, engine, &of_its_own.output)
        };
        engines.iter().enumerate().map(job).collect()
    }

    fn job(
        &self,
        vhost: &str,
        listen: &[SocketAddr],
        number: usize,
        engine: &Engine,
        default_output: &str,
    ) -> IngestJob {
        let output = match &*engine.output {
            "" => default_output,
            output => output,
        };
        let output = with_place(output, vhost, listen);
        let key = local_stream(&output, listen);
        let output = at_listener(output, listen);
        let is_plain = !engine.transcodes() || self.engines.is_empty();
        let native = self.input.native().filter(|_| is_plain && key.is_some());
        let work = native.unwrap_or_else(|| IngestWork::Ffmpeg {
            path: self.ffmpeg.clone(),
            engine: Box::new(match is_plain {
                true => Engine::copying(&engine.output),
                false => engine.clone(),
            }),
            output,
        });
        IngestJob {
            vhost: vhost.to_owned(),
            name: self.name.clone(),
            number,
            input: self.input.clone(),
            work,
            key,
        }
    }
}

/// `url` with SRS's variables of a server and a vhost, and without the default vhost, as
/// SRS writes it.
fn with_place(url: &str, vhost: &str, listen: &[SocketAddr]) -> String {
    let url = url
        .replace("[vhost]", vhost)
        .replace("[port]", &port(listen));
    let url = url.replace(&format!("vhost={DEFAULT_VHOST}"), "");
    let url = url.replace("?&", "?").replace("?/", "/");
    url.trim_end_matches('?').to_owned()
}

/// `url`; if it names a stream of the server that listens at `listen`, by a loopback address at
/// which it does not, with an address at which it does.
pub(crate) fn at_listener(url: String, listen: &[SocketAddr]) -> String {
    if local_stream(&url, listen).is_none() {
        return url;
    }
    let Some((authority, origin, port)) = server_of(&url) else {
        return url;
    };
    let ip = match origin.host() {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    let at_port = || listen.iter().filter(|it| it.port() == port);
    if at_port().any(|it| it.ip().is_unspecified() || Some(it.ip()) == ip) {
        return url;
    }
    match at_port().next() {
        Some(address) => url.replacen(authority, &address.to_string(), 1),
        None => url,
    }
}

/// The address at which a server that listens at `listen` takes RTMP from itself, as in a URL.
pub(crate) fn host(listen: &[SocketAddr]) -> String {
    match listen.first().map(SocketAddr::ip) {
        Some(IpAddr::V4(ip)) if !ip.is_unspecified() => ip.to_string(),
        Some(IpAddr::V6(ip)) if !ip.is_unspecified() => format!("[{ip}]"),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    }
}

/// `[port]`: the first that a server listens at.
#[must_use]
pub fn port(listen: &[SocketAddr]) -> String {
    listen.first().map_or(0, SocketAddr::port).to_string()
}

/// The stream at the server that listens at `listen` which `url` names, as far as the
/// configuration tells; `None` if it is another server's. Its vhost is the one that is asked
/// for, which may fall to the default one.
#[must_use]
pub fn local_stream(url: &str, listen: &[SocketAddr]) -> Option<StreamKey> {
    let (_, origin, port) = server_of(url)?;
    let host = origin.host();
    let is_loopback = host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || listen.iter().any(|it| it.ip() == ip));
    if !is_loopback || !listen.iter().any(|it| it.port() == port) {
        return None;
    }
    stream_of(url).map(|(key, _)| key)
}

/// The server that an `rtmp://` URL names: as it is written, as it is read, and its port.
pub(crate) fn server_of(url: &str) -> Option<(&str, Origin, u16)> {
    let authority = url.strip_prefix("rtmp://")?.split(['/', '?']).next()?;
    let origin = Origin::parse(authority)?;
    let (_, port) = origin.authority.rsplit_once(':')?;
    let port = port.parse().ok()?;
    Some((authority, origin, port))
}

/// The stream that an `rtmp://` URL names, whoever serves it.
pub(crate) fn named_stream(url: &str) -> Option<StreamKey> {
    stream_of(url).map(|(key, _)| key)
}

/// The stream that an `rtmp://` or `rtmps://` URL names, and its parameters.
fn stream_of(url: &str) -> Option<(StreamKey, Parameters)> {
    let limits = Limits::default();
    let app = AppName::parse("", url, &limits).ok()?;
    let parameters = app.parameters.clone();
    let name = app.stream("", &limits).ok()?;
    Some((name.key, parameters))
}

settings! { Ingest {
    ENABLED: "enabled", |ingest, it| ingest.enabled = switch(it)?;
    FFMPEG_PATH: "ffmpeg",
        |ingest, it| ingest.ffmpeg = it.argument("the path of ffmpeg")?.to_owned();
}}

const INGEST: &[Setting<Ingest>] = &[
    ENABLED,
    FFMPEG_PATH,
    Setting::block("input", |ingest, children, diagnostics| {
        apply(
            &mut ingest.input,
            children,
            INPUT,
            "in `input`",
            &[],
            diagnostics,
        );
    }),
    Setting::any("engine", |ingest, directive, diagnostics| {
        ingest
            .engines
            .extend(engine(directive, EngineOf::Ingest, diagnostics));
    }),
];

settings! { IngestInput {
    TYPE: "type", |input, it| input.kind = kind(it)?;
    URL: "url", |input, it| input.url = it.argument("a file name or a URL")?.to_owned();
    TRANSPORT: "transport", |input, it| input.transport = transport(it)?;
    TIMEOUT: "timeout", |input, it| input.timeout = it.milliseconds(100..=3_600_000)?;
    G711: "g711", |input, it| input.g711 = switch(it)?;
}}

const INPUT: &[Setting<IngestInput>] = &[TYPE, URL, TRANSPORT, TIMEOUT, G711];

fn kind(directive: &Directive) -> Result<InputKind, Diagnostic> {
    const KINDS: [(&str, InputKind); 3] = [
        ("file", InputKind::File),
        ("stream", InputKind::Stream),
        ("rtsp", InputKind::Rtsp),
    ];
    directive.choice(&KINDS, "`file`, `stream` or `rtsp`")
}

fn transport(directive: &Directive) -> Result<RtpTransport, Diagnostic> {
    const WORDS: [(&str, RtpTransport); 2] =
        [("tcp", RtpTransport::Tcp), ("udp", RtpTransport::Udp)];
    directive.choice(&WORDS, "`tcp` or `udp`")
}

/// Reads `ingest [NAME] { … }`.
pub(super) fn ingest(vhost: &mut Vhost, directive: &Directive, diagnostics: &mut Diagnostics) {
    let Some((name, children)) = diagnostics.take(named_block(directive)) else {
        return;
    };
    let mut ingest = Ingest {
        name: name.to_owned(),
        enabled: false,
        input: IngestInput {
            kind: InputKind::File,
            url: String::new(),
            transport: RtpTransport::Tcp,
            timeout: Duration::from_secs(10),
            g711: false,
        },
        ffmpeg: FFMPEG.to_owned(),
        engines: Vec::new(),
    };
    apply(
        &mut ingest,
        children,
        INGEST,
        "in `ingest`",
        &["engine"],
        diagnostics,
    );
    if ingest.enabled {
        check(&ingest.input, directive, diagnostics);
    }
    match vhost.ingests.iter_mut().find(|it| it.name == name) {
        Some(known) => {
            let message = format!("`ingest {name}` was already given: this one holds");
            diagnostics.warn(&directive.location, message);
            *known = ingest;
        }
        None => vhost.ingests.push(ingest),
    }
}

/// Checks what can be known of an input before it is read.
fn check(input: &IngestInput, directive: &Directive, diagnostics: &mut Diagnostics) {
    let shown = input.shown();
    if input.url.is_empty() {
        // As in SRS, which says so and goes on.
        let message = "`ingest` has no input, and no effect: give `input { url …; }`";
        diagnostics.warn(&directive.location, message);
        return;
    }
    let mut refuse = |message: String| diagnostics.push(directive.error(message));
    if input.kind == InputKind::Rtsp && !input.url.starts_with("rtsp://") {
        refuse(format!(
            "`type rtsp` takes a URL like rtsp://host/path, found `{shown}`: others are `type \
             stream`, which ffmpeg reads"
        ));
    } else if input.native() == Some(IngestWork::Rtmp) && rtmp_source(&input.url).is_none() {
        refuse(format!(
            "`{shown}` names no stream: expected rtmp://host/app/stream"
        ));
    } else if input.native() == Some(IngestWork::Rtsp) && url::Url::parse(&input.url).is_err() {
        refuse(format!(
            "`{shown}` is no URL: in users and passwords `/`, `?`, `#` and `@` are written \
             %2F, %3F, %23 and %40"
        ));
    }
}

/// The server and the stream that an `rtmp://` or `rtmps://` URL names.
#[must_use]
pub fn rtmp_source(url: &str) -> Option<(Origin, StreamKey, Parameters)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, it)| it);
    let origin = Origin::parse(&format!("{scheme}://{host}"))?;
    let (key, parameters) = stream_of(url)?;
    Some((origin, key, parameters))
}

#[cfg(test)]
mod tests;
