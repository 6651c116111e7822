//! `forward { … }` of a vhost: other servers that its streams are published at.

use std::fmt;
use std::path::PathBuf;

use conf_kit::{Diagnostic, Diagnostics, Directive};
use serde::{Serialize, Serializer};

use super::model::{HookUrl, Vhost};
use super::origin::Origin;
use super::setting::{Setting, apply, settings};
use super::value::switch;
use crate::redact::SHOWN_CHARACTERS;

/// The most servers that a stream is forwarded to.
pub(crate) const MAX_DESTINATIONS: usize = 16;
/// The longest URL of a destination, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// `forward { enabled on; destination …; backend URL; }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forward {
    /// True if the vhost's streams are forwarded.
    pub enabled: bool,
    /// `destination`: the servers, unless there is a backend.
    pub destinations: Vec<Destination>,
    /// `backend`: a web server that is asked for the servers of each publication.
    pub backend: Option<HookUrl>,
    /// `ca`: certificates of authorities for `rtmps://`; `None`: those of the system.
    pub ca: Option<PathBuf>,
}

/// A server that streams are forwarded to, and the name that a stream has there.
///
/// It is shown without its query and most of its stream's name, which may be secrets.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    pub(crate) server: Origin,
    /// The application with its parameters; `None`: the stream's own.
    pub(crate) app: Option<String>,
    /// The stream with its parameters; `None`: its own.
    pub(crate) stream: Option<String>,
}

impl Destination {
    /// Reads `host[:port]` or `rtmp[s]://host[:port][/app[/stream]][?parameters]`. As in SRS,
    /// parameters behind the application may have the stream behind them, too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_readable = text.len() <= MAX_URL_BYTES && !text.contains(char::is_control);
        let Some((scheme, rest)) = text.split_once("://").filter(|_| is_readable) else {
            let server = Origin::parse(text).filter(|_| is_readable)?;
            return Some(Self {
                server,
                app: None,
                stream: None,
            });
        };
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority);
        let server = Origin::parse(&format!("{scheme}://{authority}"))?;
        let path = path.trim_start_matches('/').trim_end_matches('/');
        let (names, query) = path.split_once('?').unwrap_or((path, ""));
        let parameters = match query {
            "" => String::new(),
            query => format!("?{query}"),
        };
        let (app, stream) = match (names.rsplit_once('/'), query.rsplit_once('/')) {
            (Some((app, stream)), _) => (app.to_owned(), Some(format!("{stream}{parameters}"))),
            (None, Some((query, stream))) => (format!("{names}?{query}"), Some(stream.to_owned())),
            (None, None) => (format!("{names}{parameters}"), None),
        };
        Some(Self {
            server,
            app: Some(app).filter(|app| !app.is_empty()),
            stream: stream.filter(|stream| !stream.is_empty()),
        })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.app.is_none() && self.stream.is_none() {
            return write!(f, "{}", self.server);
        }
        fn without_query(name: &str) -> &str {
            name.split('?').next().unwrap_or_default()
        }
        let app = self.app.as_deref().map_or("…", without_query);
        write!(f, "{}/{app}", self.server.url())?;
        let Some(stream) = self.stream.as_deref().map(without_query) else {
            return Ok(());
        };
        match stream.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => write!(f, "/{}…", &stream[..end]),
            None => write!(f, "/{stream}"),
        }
    }
}

/// As it is shown.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Destination {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads `forward { … }`.
pub(super) fn forward(vhost: &mut Vhost, children: &[Directive], diagnostics: &mut Diagnostics) {
    let mut forward = Forward::default();
    apply(
        &mut forward,
        children,
        FORWARD,
        "in `forward`",
        &[],
        diagnostics,
    );
    if forward.enabled && forward.backend.is_none() && forward.destinations.is_empty() {
        let enabled = children.iter().find(|it| it.keyword == "enabled");
        let location = enabled.map(|it| it.location.clone()).unwrap_or_default();
        let message = "`forward` names no server: give `destination HOST:PORT …;` or \
                       `backend URL;`";
        diagnostics.error(&location, message);
    }
    vhost.forward = forward;
}

/// Reads `forward HOST:PORT …;`, as SRS 2 has it.
pub(super) fn forward_to(vhost: &mut Vhost, directive: &Directive) -> Result<(), Diagnostic> {
    vhost.forward = Forward {
        enabled: true,
        destinations: destinations(directive)?,
        ..Forward::default()
    };
    Ok(())
}

settings! { Forward {
    ENABLED: "enabled", |forward, it| forward.enabled = switch(it)?;
    BACKEND: "backend", |forward, it| forward.backend = Some(backend(it)?);
    CA: "ca", |forward, it| forward.ca = Some(it.argument("a file name")?.into());
}}

const FORWARD: &[Setting<Forward>] = &[
    ENABLED,
    Setting::list("destination", |forward, directive| {
        forward.destinations = destinations(directive)?;
        Ok(())
    }),
    BACKEND,
    CA,
];

fn backend(directive: &Directive) -> Result<HookUrl, Diagnostic> {
    let expected = "a URL such as `http://127.0.0.1:8085/api/v1/forward`";
    HookUrl::parse(directive.argument(expected)?).ok_or_else(|| directive.expects(expected))
}

fn destinations(directive: &Directive) -> Result<Vec<Destination>, Diagnostic> {
    let expected = "one or several `host:port`, or URLs such as `rtmps://host/app/stream`";
    let words = directive.words(expected)?;
    if words.len() > MAX_DESTINATIONS {
        let message = format!("a stream is forwarded to {MAX_DESTINATIONS} servers at most");
        return Err(directive.error(message));
    }
    let mut destinations = Vec::new();
    for word in words {
        // The message does not repeat it: it may have a secret.
        let destination = Destination::parse(word);
        let destination = destination
            .ok_or_else(|| directive.error(format!("`{}` takes {expected}", directive.keyword)))?;
        if !destinations.contains(&destination) {
            destinations.push(destination);
        }
    }
    Ok(destinations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Role};

    fn load(directives: &str) -> Result<Forward, String> {
        let text = format!("vhost v {{ {directives} }}");
        let loaded = config::load(&text, Role::Origin);
        let loaded = loaded.map_err(|error| error.to_string())?;
        assert_eq!(loaded.warnings, []);
        Ok(loaded.config.vhosts["v"].forward.clone())
    }

    #[test]
    fn the_block_is_read_as_srs_reads_it() {
        let read = load(
            "forward { enabled on; destination 127.0.0.1:1936 b; \
             backend http://127.0.0.1:8085/api/v1/forward; }",
        );
        let read = read.unwrap();
        assert!(read.enabled);
        let shown: Vec<_> = read.destinations.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:1936", "b:1935"]);
        assert_eq!(read.backend.unwrap().authority, "127.0.0.1:8085");
        let old = load("forward 127.0.0.1:19350;").unwrap();
        assert!(old.enabled && old.destinations.len() == 1);
        assert_eq!(load("").unwrap(), Forward::default());
    }

    #[test]
    fn what_cannot_be_forwarded_to_is_refused_without_a_secret() {
        for (wrong, part) in [
            ("forward { enabled on; }", "names no server"),
            ("forward { enabled on; destination; }", "destination"),
            (
                "forward { destination ftp://b/secret; }",
                "rtmps://host/app",
            ),
            ("forward { backend b; }", "http://127.0.0.1:8085"),
            ("forward { destinatoin b; }", "destination"),
        ] {
            let error = load(wrong).unwrap_err();
            assert!(error.contains(part), "{wrong}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let many: String = (0..17).map(|number| format!(" h{number}")).collect();
        let error = load(&format!("forward {{ destination{many}; }}")).unwrap_err();
        assert!(error.contains("16 servers"), "{error}");
    }

    #[test]
    fn a_url_has_an_application_a_stream_and_parameters_and_shows_no_secret() {
        for (text, app, stream, shown) in [
            ("b:7", None, None, "b:7"),
            ("rtmp://b", None, None, "b:1935"),
            ("rtmps://b", None, None, "rtmps://b:443"),
            ("rtmp://b/x", Some("x"), None, "rtmp://b:1935/x"),
            (
                "rtmp://b/x?k=secret",
                Some("x?k=secret"),
                None,
                "rtmp://b:1935/x",
            ),
            ("rtmp://b/x/s", Some("x"), Some("s"), "rtmp://b:1935/x/s"),
            (
                "rtmps://b:7/x/y/abcd-secret?t=a/b",
                Some("x/y"),
                Some("abcd-secret?t=a/b"),
                "rtmps://b:7/x/y/abcd…",
            ),
            (
                "rtmp://b/x?vhost=v/s",
                Some("x?vhost=v"),
                Some("s"),
                "rtmp://b:1935/x/s",
            ),
        ] {
            let read = Destination::parse(text).unwrap();
            let names = (read.app.as_deref(), read.stream.as_deref());
            assert_eq!(names, (app, stream), "{text}");
            assert_eq!(read.to_string(), shown);
            assert_eq!(format!("{read:?}"), shown);
        }
        for wrong in [
            "",
            "http://b",
            "rtmp://",
            "rtmp://u:p@b/x",
            "b/x",
            "rtmp://b/x\ny",
        ] {
            assert_eq!(Destination::parse(wrong), None, "{wrong}");
        }
    }
}
