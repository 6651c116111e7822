//! What a stream is called: virtual host, application, stream, parameters.

use std::fmt;

use crate::wire::Limits;

/// A stream's full name. Parameters are no part of it: players and publishers
/// with different tokens meet on the same stream.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamKey {
    /// The virtual host: as requested in a session's events; the server puts
    /// in its place the configured one that it falls to.
    pub vhost: String,
    /// The application, e.g. `live`.
    pub app: String,
    /// The stream, e.g. `livestream`.
    pub stream: String,
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

/// The parameters of an application's or stream's name (`?token=x&…`), as they
/// came, without the `?`; empty if there are none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
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

    /// Whether there are none.
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

/// Why a name cannot be used.
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
}

/// What `connect` names: an application on a virtual host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppName {
    /// The requested virtual host: from the parameters, else the host of
    /// tcUrl; empty if neither names one.
    pub vhost: String,
    /// The application, without parameters and `/_definst_`.
    pub app: String,
    /// The application's parameters.
    pub parameters: Parameters,
}

/// What `publish` and `play` name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamName {
    /// A virtual host named in the stream's parameters.
    pub vhost: Option<String>,
    /// The stream, without parameters.
    pub stream: String,
    /// The stream's parameters.
    pub parameters: Parameters,
}

impl AppName {
    /// Reads `connect`'s `app` and `tcUrl`.
    ///
    /// # Errors
    /// A name that is too long, or no application.
    pub fn parse(app: &str, tc_url: &str, limits: &Limits) -> Result<AppName, NameError> {
        unimplemented!("{app} {tc_url} {limits:?}")
    }
}

impl StreamName {
    /// Reads the stream name of `publish` and `play`.
    ///
    /// # Errors
    /// A name that is too long, or none.
    pub fn parse(name: &str, limits: &Limits) -> Result<StreamName, NameError> {
        unimplemented!("{name} {limits:?}")
    }
}
