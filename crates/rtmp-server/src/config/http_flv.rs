//! `http_server` and `http_remux`: HTTP-FLV and WebSocket-FLV.

use std::net::SocketAddr;

use conf_kit::{Diagnostic, Diagnostics, Directive, Location};
use serde::{Serialize, Serializer};

use super::model::{Config, Vhost};
use super::schema::Globals;
use super::setting::{Setting, apply};
use super::tls::{HTTPS, TlsBlock, TlsListener};
use super::value::{socket_addresses, switch};

/// `http_server { enabled on; listen 8080; }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpServer {
    /// Addresses at which streams are served over HTTP.
    pub listen: Vec<SocketAddr>,
    /// True if pages of any site may play them (CORS).
    pub crossdomain: bool,
    /// The same over TLS; `None` where it is off.
    pub https: Option<TlsListener>,
    /// True if HTTPS offers HTTP/2.
    pub http2: bool,
}

impl Config {
    /// Addresses at which streams are served over HTTP; none where they are not.
    #[must_use]
    pub fn http_listen(&self) -> &[SocketAddr] {
        let server = self.http_server.as_ref();
        server.map_or(&[], |server| &server.listen)
    }

    /// Leaves an address that `http_api` and `http_server` share to the former. SRS serves
    /// both there.
    pub(super) fn separate_http(&mut self, diagnostics: &mut Diagnostics) {
        let (Some(api), Some(server)) = (&self.http_api, &mut self.http_server) else {
            return;
        };
        let api = api.listen;
        let before = server.listen.len();
        server.listen.retain(|&address| address != api);
        if server.listen.len() < before {
            let message = format!(
                "`http_server` has the address of `http_api`, {api}, where no streams are \
                 served: give one of them another port"
            );
            diagnostics.warn(&Location::whole("configuration"), message);
        }
        let serves = |it: &HttpServer| !it.listen.is_empty() || it.https.is_some();
        self.http_server = self.http_server.take().filter(serves);
    }

    /// Keeps the addresses of `old`, at which this process listens, and takes over what
    /// else is set.
    pub(crate) fn keep_http_listen(&mut self, old: &Self) {
        match (&mut self.http_server, &old.http_server) {
            (Some(server), Some(old)) => server.listen.clone_from(&old.listen),
            (server, old) => server.clone_from(old),
        }
    }
}

/// The same while it is read.
#[derive(Debug, Clone)]
pub(super) struct HttpServerBlock {
    pub(super) enabled: bool,
    /// `dir`, below which SRS serves the files of `hls_path`.
    pub(super) directory: String,
    pub(super) server: HttpServer,
    pub(super) https: TlsBlock,
}

/// `http_remux { … }` of a vhost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HttpRemux {
    /// True if the vhost's streams are served over HTTP.
    pub enabled: bool,
    /// The paths of the streams.
    pub mount: Mount,
    /// True if the kinds of media that `has_audio` and `has_video` deny are left out.
    pub drop_if_not_match: bool,
    /// True if streams have sound, as far as the file header says.
    pub has_audio: bool,
    /// True if streams have pictures, as far as the file header says.
    pub has_video: bool,
    /// True if the file header announces only what the stream has.
    pub guess_has_av: bool,
}

impl Default for HttpRemux {
    fn default() -> Self {
        Self {
            enabled: false,
            mount: Mount::default(),
            drop_if_not_match: true,
            has_audio: true,
            has_video: true,
            guess_has_av: true,
        }
    }
}

/// `mount`: `[vhost]/[app]/[stream].flv`, with directories before `[app]` if need be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// The directories, with a slash before each.
    directories: String,
}

const STREAMS: &str = "/[app]/[stream].flv";

impl Mount {
    /// Reads a mount; `None` if it is of another form.
    fn parse(text: &str) -> Option<Self> {
        let path = text.strip_prefix("[vhost]").unwrap_or(text);
        let directories = path.strip_suffix(STREAMS)?;
        let plain = directories.is_empty() || directories.starts_with('/');
        (plain && !directories.contains('[')).then(|| Self {
            directories: directories.to_owned(),
        })
    }

    /// The application and the stream at `path`; `None` if no stream can be there.
    #[must_use]
    pub fn stream<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let path = path.strip_prefix(self.directories.as_str())?;
        let (app, stream) = path
            .strip_prefix('/')?
            .strip_suffix(".flv")?
            .rsplit_once('/')?;
        (!app.is_empty() && !stream.is_empty()).then_some((app, stream))
    }
}

impl Serialize for Mount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("[vhost]{}{STREAMS}", self.directories))
    }
}

/// Reads `http_server { … }`.
pub(super) fn http_server(
    globals: &mut Globals,
    children: &[Directive],
    diagnostics: &mut Diagnostics,
) {
    let block = &mut globals.http_server;
    block.enabled = false;
    apply(
        block,
        children,
        HTTP_SERVER,
        "in `http_server`",
        &[],
        diagnostics,
    );
}

/// Reads `http_remux { … }`.
pub(super) fn http_remux(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut block = Remux::default();
    apply(
        &mut block,
        children,
        HTTP_REMUX,
        "in `http_remux`",
        &[],
        diagnostics,
    );
    if let Some(warning) = block.not_served {
        block.settings.enabled = false;
        diagnostics.push(warning);
    }
    vhost.http_remux = block.settings;
}

const HTTP_SERVER: &[Setting<HttpServerBlock>] = &[
    Setting::new("enabled", |block, directive| {
        block.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::list("listen", |block, directive| {
        block.server.listen = socket_addresses(directive)?;
        Ok(())
    }),
    Setting::new("crossdomain", |block, directive| {
        block.server.crossdomain = switch(directive)?;
        Ok(())
    }),
    Setting::block("https", |block, children, diagnostics| {
        block.https.read(children, HTTPS, "in `https`", diagnostics);
    }),
    Setting::new("dir", |block, directive| {
        directive
            .argument("a directory")?
            .clone_into(&mut block.directory);
        Ok(())
    }),
];

/// `http_remux { … }` while it is read.
#[derive(Default)]
struct Remux {
    settings: HttpRemux,
    /// The mount is one that is not served.
    not_served: Option<Diagnostic>,
}

const HTTP_REMUX: &[Setting<Remux>] = &[
    Setting::new("enabled", |block, directive| {
        block.settings.enabled = switch(directive)?;
        Ok(())
    }),
    Setting::new("mount", mount),
    Setting::new("drop_if_not_match", |block, directive| {
        block.settings.drop_if_not_match = switch(directive)?;
        Ok(())
    }),
    Setting::new("has_audio", |block, directive| {
        block.settings.has_audio = switch(directive)?;
        Ok(())
    }),
    Setting::new("has_video", |block, directive| {
        block.settings.has_video = switch(directive)?;
        Ok(())
    }),
    Setting::new("guess_has_av", |block, directive| {
        block.settings.guess_has_av = switch(directive)?;
        Ok(())
    }),
    Setting::ignored(
        "fast_cache",
        "players begin at the newest keyframe: see `gop_cache`",
    ),
    Setting::ignored(
        "hstrs",
        "an edge pulls a stream whenever a player asks for it",
    ),
];

fn mount(block: &mut Remux, directive: &Directive) -> Result<(), Diagnostic> {
    let text = directive.argument("a path such as `[vhost]/[app]/[stream].flv`")?;
    block.not_served = None;
    if let Some(mount) = Mount::parse(text) {
        block.settings.mount = mount;
        return Ok(());
    }
    let other_format = [".ts", ".mp3", ".aac"];
    let why = if other_format.iter().any(|format| text.ends_with(format)) {
        "streams are served as .flv only"
    } else {
        "it is not `[vhost]/[app]/[stream].flv`, where directories may stand before `[app]`"
    };
    // No error: SRS's files must load as they are.
    let message =
        format!("`mount {text}` has no effect, this vhost is not served over HTTP: {why}");
    block.not_served = Some(Diagnostic::warning(&directive.location, message));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, Role, load};

    #[test]
    fn streams_are_served_over_http_where_both_blocks_say_so() {
        let config = load("", Role::Origin).unwrap().config;
        assert_eq!(config.http_server, None);
        let text = "http_server { enabled on; listen 8081 127.0.0.1:80; crossdomain off; } \
                    vhost v { http_remux { enabled on; mount [vhost]/x/[app]/[stream].flv; \
                    has_audio off; guess_has_av off; } }";
        let Loaded {
            config, warnings, ..
        } = load(text, Role::Origin).unwrap();
        assert_eq!(warnings, []);
        let server = config.http_server.unwrap();
        assert_eq!((server.listen.len(), server.crossdomain), (2, false));
        let remux = &config.vhosts["v"].http_remux;
        assert!(remux.enabled && !remux.has_audio && !remux.guess_has_av);
        assert_eq!(remux.mount.stream("/x/live/a.flv"), Some(("live", "a")));
        assert_eq!(remux.mount.stream("/live/a.flv"), None);
    }

    #[test]
    fn an_address_that_the_http_api_has_serves_no_streams() {
        let api = "http_api { enabled on; listen 8080; \
                   auth { enabled on; username a; password b; } }";
        let loaded = load(
            &format!("{api} http_server {{ enabled on; listen 8080; }}"),
            Role::Origin,
        )
        .unwrap();
        assert_eq!(loaded.config.http_server, None);
        assert_eq!(loaded.warnings.len(), 1);
        let loaded = load(
            &format!("{api} http_server {{ enabled on; listen 8080 81; }}"),
            Role::Origin,
        );
        assert_eq!(loaded.unwrap().config.http_listen().len(), 1);
    }

    #[test]
    fn a_reload_keeps_the_addresses_and_takes_over_the_rest() {
        let config = |text: &str| load(text, Role::Origin).unwrap().config;
        let old = config("http_server { enabled on; listen 81; }");
        let mut new = config("http_server { enabled on; listen 82; crossdomain off; }");
        new.keep_http_listen(&old);
        assert_eq!(new.http_listen(), old.http_listen());
        assert!(!new.http_server.is_some_and(|server| server.crossdomain));
        let mut off = config("");
        off.keep_http_listen(&old);
        assert_eq!(off.http_server, old.http_server);
    }

    #[test]
    fn a_path_names_application_and_stream() {
        let mount = Mount::default();
        for (path, stream) in [
            ("/live/a.flv", Some(("live", "a"))),
            ("/a/b/c.d.flv", Some(("a/b", "c.d"))),
            ("/live/.flv", None),
            ("/a.flv", None),
            ("//a.flv", None),
            ("/live/a.ts", None),
            ("/live/a", None),
            ("*", None),
        ] {
            assert_eq!(mount.stream(path), stream, "{path}");
        }
    }

    #[test]
    fn what_is_not_served_is_a_warning() {
        let remux = |text: &str| {
            load(
                &format!("vhost v {{ http_remux {{ enabled on; {text} }} }}"),
                Role::Origin,
            )
        };
        for mount in [
            "[vhost]/[app]/[stream].ts",
            "[vhost]/[app]/[stream].mp3",
            "[vhost]/[app]/[stream].aac",
            "[vhost]/[stream].flv",
            "[app].flv",
            "ossrs.net/[app]/[stream].flv",
            "[vhost]/[vhost]/[app]/[stream].flv",
        ] {
            let loaded = remux(&format!("mount {mount};")).unwrap();
            assert_eq!(loaded.warnings.len(), 1, "{mount}");
            assert!(!loaded.config.vhosts["v"].http_remux.enabled, "{mount}");
        }
        let loaded = load(
            "vhost v { http_remux { enabled off; mount ossrs.net/a.flv; } }",
            Role::Origin,
        );
        assert_eq!(loaded.unwrap().warnings.len(), 1);
        let warnings = remux("fast_cache 30; hstrs on;").unwrap().warnings;
        assert_eq!(warnings.len(), 2);
        let server = load("http_server { enabled on; dir ./x; }", Role::Origin).unwrap();
        assert_eq!(server.warnings.len(), 0);
    }
}
