//! Names of streams: virtual host, application, stream, parameters.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::wire::Limits;

/// A stream's full name. Parameters are no part of it: players and publishers
/// with different tokens meet on the same stream.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct StreamKey {
    /// The virtual host: as requested in a session's events; the server puts
    /// in its place the configured one that it falls to.
    pub vhost: String,
    /// The application, e.g. `live`.
    pub app: String,
    /// The stream, e.g. `livestream`.
    pub stream: String,
}

impl StreamKey {
    /// The stream that a path names whose last part is `stream` and whose others are `app`, at
    /// `vhost`. Nothing but the path has a say in it: a signature may be the path's.
    ///
    /// # Errors
    /// A name that is too long, or that no client can publish by, as [`AppName`] reads it.
    pub fn at_path(
        vhost: &str,
        app: &str,
        stream: &str,
        limits: &Limits,
    ) -> Result<StreamKey, NameError> {
        for part in app.split('/').chain([stream]) {
            let is_read_otherwise =
                part == DEFAULT_INSTANCE || clean(part) != part || part.contains(['/', '?']);
            if part.is_empty() || is_read_otherwise {
                return Err(NameError::Unpublishable);
            }
        }
        for name in [vhost, app, stream] {
            check_length(name, limits)?;
        }
        Ok(StreamKey {
            vhost: vhost.to_owned(),
            app: app.to_owned(),
            stream: stream.to_owned(),
        })
    }
}

/// `vhost/app/stream`, without the default virtual host.
impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.vhost.is_empty() && self.vhost != DEFAULT_VHOST {
            write!(f, "{}/", self.vhost)?;
        }
        write!(f, "{}/{}", self.app, self.stream)
    }
}

/// The virtual host of requests whose own is not configured.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";

/// The parameters that name a virtual host, the first one first.
const VHOST_PARAMETERS: [&str; 2] = ["vhost", "domain"];

/// The parameters of an application's or stream's name (`?token=x&…`), as they
/// came, without the `?`; empty if there are none.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Parameters(pub String);

impl Parameters {
    /// The value of the first parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .split('&')
            .find_map(|pair| match pair.split_once('=') {
                Some((key, value)) => (key == name).then_some(value),
                None => (pair == name).then_some(""),
            })
    }

    /// All but those that name a virtual host.
    #[must_use]
    pub fn without_vhost(&self) -> Parameters {
        let others = self.0.split('&').filter(|pair| {
            let key = pair.split('=').next();
            !key.is_some_and(|key| VHOST_PARAMETERS.contains(&key))
        });
        Parameters(others.collect::<Vec<_>>().join("&"))
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// With a leading `?` if there are any, as to append them to a name.
impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            Ok(())
        } else {
            write!(f, "?{}", self.0)
        }
    }
}

/// The reason for which a name cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Longer than [`Limits::name_bytes`].
    #[error("limit exceeded: a name of {len} bytes; at most {allowed} are allowed")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
        /// The limit.
        allowed: u32,
    },
    /// No name at all.
    #[error("the {0} has no name")]
    Missing(&'static str),
    /// Nobody can publish by this name.
    #[error("no stream has this name")]
    Unpublishable,
}

/// The name in `connect`: an application on a virtual host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AppName {
    /// The requested virtual host: from the parameters, else the host of
    /// tcUrl; empty if neither names one.
    pub vhost: String,
    /// The application, without parameters and `_definst_`.
    pub app: String,
    /// The application's parameters.
    pub parameters: Parameters,
}

/// The name in `publish` and `play`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamName {
    /// The stream, at the virtual host that its parameters or the
    /// application's name.
    pub key: StreamKey,
    /// The stream's parameters.
    pub parameters: Parameters,
}

impl AppName {
    /// Reads `connect`'s `app` and `tcUrl`.
    ///
    /// The application is `app`, or the path of `tcUrl` where a client leaves
    /// `app` out. The virtual host is that of `app`'s parameters, of `tcUrl`'s,
    /// or `tcUrl`'s host.
    ///
    /// # Errors
    /// A name that is too long, or no application.
    pub fn parse(app: &str, tc_url: &str, limits: &Limits) -> Result<AppName, NameError> {
        let (host, path) = split_url(tc_url);
        let in_app = Name::parse(app);
        let in_url = Name::parse(path);
        let vhost = in_app
            .vhost
            .or(in_url.vhost)
            .unwrap_or_else(|| clean(host).to_ascii_lowercase());
        let app = if in_app.path.is_empty() {
            in_url.path
        } else {
            in_app.path
        };
        let parameters = if in_app.parameters.is_empty() {
            in_url.parameters
        } else {
            in_app.parameters
        };
        check("application", &app, limits)?;
        check_length(&vhost, limits)?;
        Ok(AppName {
            vhost,
            app,
            parameters,
        })
    }

    /// Reads the stream name of `publish` and `play`.
    ///
    /// Clients cut one and the same URL into application and stream in different
    /// places: of `rtmp://host/a/b/c`, ffmpeg takes `a/b` for the application,
    /// librtmp `a`, and OBS what stands in the field of that name, which may be
    /// all. Here the stream is what follows the last slash of both together, as
    /// SRS has it.
    ///
    /// # Errors
    /// A name that is too long, or none.
    pub fn stream(&self, name: &str, limits: &Limits) -> Result<StreamName, NameError> {
        let mut name = Name::parse(name);
        if name.path.is_empty() && !self.app.contains('/') {
            name = self.parameters.tail().unwrap_or(name);
        }
        let path = format!("{}/{}", self.app, name.path);
        let (app, stream) = path
            .trim_end_matches('/')
            .rsplit_once('/')
            .ok_or(NameError::Missing("stream"))?;
        let vhost = name.vhost.as_ref().unwrap_or(&self.vhost);
        for part in [vhost, app, stream] {
            check_length(part, limits)?;
        }
        Ok(StreamName {
            key: StreamKey {
                vhost: vhost.clone(),
                app: app.to_owned(),
                stream: stream.to_owned(),
            },
            parameters: name.parameters,
        })
    }

    /// The name without parameters that [`stream`](Self::stream) has no use
    /// for.
    #[must_use]
    pub fn without_idle_parameters(mut self) -> AppName {
        if !self.parameters.0.contains('/') {
            self.parameters = Parameters::default();
        }
        self
    }

    /// Bytes of memory held beside the structure itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.vhost.capacity() + self.app.capacity() + self.parameters.0.capacity()
    }
}

impl Parameters {
    /// The stream that follows an application's parameters: `key` in
    /// `token=x/key`, which has its own parameters or takes those before it.
    fn tail(&self) -> Option<Name> {
        let end = self.0.find('?').unwrap_or(self.0.len());
        let slash = self.0[..end].rfind('/')?;
        let mut name = Name::parse(&self.0[slash + 1..]);
        if name.parameters.is_empty() {
            name.parameters = Parameters(self.0[..slash].to_owned());
        }
        Some(name)
    }
}

/// An application's or stream's name in its parts.
struct Name {
    /// Without slashes at its ends and `_definst_`.
    path: String,
    parameters: Parameters,
    vhost: Option<String>,
}

impl Name {
    fn parse(name: &str) -> Name {
        let name = clean(name);
        let (path, query) = name.split_once('?').unwrap_or((&name, ""));
        let (path, dotted_vhost) = split_dotted_vhost(path);
        let (query, dotted_in_query) = split_dotted_vhost(query);
        let (query, after_vhost) = split_at_vhost(query);
        let parameters = Parameters(query);
        let named = || {
            let mut names = VHOST_PARAMETERS.iter();
            names.find_map(|name| parameters.get(name).filter(|vhost| !vhost.is_empty()))
        };
        let vhost = dotted_vhost.or(dotted_in_query).or_else(named);
        // No virtual host has a slash in its name: what follows one goes on
        // with the path.
        let (vhost, after_dotted) = match vhost.and_then(|vhost| vhost.split_once('/')) {
            Some((vhost, rest)) => (Some(vhost), split_query(rest).0),
            None => (vhost, ""),
        };
        let parts: Vec<&str> = [path, after_dotted, after_vhost]
            .iter()
            .flat_map(|part| part.split('/'))
            .filter(|part| !part.is_empty() && *part != DEFAULT_INSTANCE)
            .collect();
        Name {
            path: parts.join("/"),
            vhost: vhost.filter(|vhost| !vhost.is_empty()).map(str::to_owned),
            parameters,
        }
    }
}

/// The instance of an application when none is meant, which clients made for
/// Flash Media Server put between application and stream.
const DEFAULT_INSTANCE: &str = "_definst_";

/// A path that stands among parameters, and those that follow it.
fn split_query(path: &str) -> (&str, &str) {
    path.split_once(['?', '&']).unwrap_or((path, ""))
}

/// Splits `vhost=example.com/path?more` into parameters (`vhost=example.com&more`)
/// and path, as `rtmp://host/live?vhost=example.com/livestream` has them.
fn split_at_vhost(query: &str) -> (String, &str) {
    let mut at = 0;
    for pair in query.split('&') {
        let key = pair.split('=').next();
        let slash = pair.find('/');
        if let (Some(key), Some(slash)) = (key, slash)
            && VHOST_PARAMETERS.contains(&key)
        {
            let (before, rest) = query.split_at(at + slash);
            let rest = &rest[1..];
            let (path, more) = split_query(rest);
            let parameters: Vec<_> = [before, more]
                .into_iter()
                .filter(|it| !it.is_empty())
                .collect();
            return (parameters.join("&"), path);
        }
        at += pair.len() + 1;
    }
    (query.to_owned(), "")
}

/// Splits `live...vhost...example.com`, the form for clients that cannot put a
/// `?` in a name. What comes before names no virtual host any more.
fn split_dotted_vhost(name: &str) -> (&str, Option<&str>) {
    let named = VHOST_PARAMETERS
        .iter()
        .filter_map(|parameter| name.split_once(&format!("...{parameter}...")))
        .min_by_key(|(path, _)| path.len());
    match named {
        Some((path, vhost)) => (path, Some(vhost.split("...").next().unwrap_or(vhost))),
        None => (name, None),
    }
}

/// `rtmp://user@host:port/path` into host and path; empty where there is none.
fn split_url(url: &str) -> (&str, &str) {
    let Some((_, rest)) = url.split_once("://") else {
        return ("", "");
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // rtmp://host?vhost=X names no application, but a host all the same.
    let authority = authority.split('?').next().unwrap_or(authority);
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let host = match host_and_port.strip_prefix('[') {
        Some(ipv6) => ipv6.split(']').next().unwrap_or(ipv6),
        None => host_and_port.split(':').next().unwrap_or(host_and_port),
    };
    (host, path)
}

/// Without blanks and control characters, which no log line should have and
/// which pasted names have at their ends.
fn clean(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control() && !c.is_whitespace())
        .collect()
}

fn check(what: &'static str, name: &str, limits: &Limits) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Missing(what));
    }
    check_length(name, limits)
}

fn check_length(name: &str, limits: &Limits) -> Result<(), NameError> {
    let (len, allowed) = (name.len(), limits.name_bytes);
    if len > allowed as usize {
        Err(NameError::TooLong { len, allowed })
    } else {
        Ok(())
    }
}
