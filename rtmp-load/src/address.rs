//! Stream addresses: what stands in `rtmp://host:port/app/stream?query`.
//!
//! Read by hand: application and stream are cut as RTMP clients cut them, which no library
//! for URLs knows.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
};

/// The port on which RTMP servers listen unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 1935;
/// Stands in an address for the number of the stream.
pub(crate) const STREAM_NUMBER: &str = "{}";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// Nothing but bytes: they are counted from the first on.
    Raw,
}

/// A parsed stream address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAddress {
    /// `rtmp` or `tcp`.
    pub protocol: Protocol,
    /// Name or number of the host, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Application, possibly with slashes.
    pub app: String,
    /// Stream name, with its query if there is one.
    pub stream: String,
}

/// An address that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("{0}: expected rtmp://HOST[:PORT]/APP/STREAM (or tcp://HOST:PORT to count bare bytes)")]
    Scheme(String),
    /// No host between the slashes.
    #[error("{0}: has no host; expected rtmp://HOST[:PORT]/APP/STREAM")]
    NoHost(String),
    /// The part behind the colon is no port.
    #[error("{address}: `{port}` is not a port; expected a number from 1 to 65535")]
    Port {
        /// The whole address.
        address: String,
        /// The part that is wrong.
        port: String,
    },
    /// No application or no stream name.
    #[error("{0}: names no application and stream; expected rtmp://HOST[:PORT]/APP/STREAM")]
    NoStream(String),
    /// A raw address without port.
    #[error("{0}: has no port; expected tcp://HOST:PORT")]
    NoPort(String),
}

/// A host that has no usable address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// The resolver said no.
    #[error(
        "{host}: cannot be resolved ({error}); give an IP address or a name this machine knows"
    )]
    Failed {
        /// The host's name.
        host: String,
        /// The resolver's error.
        error: std::io::Error,
    },
    /// The resolver knows the name but no address.
    #[error("{0}: has no address")]
    Nothing(String),
}

impl StreamAddress {
    /// Parses an address.
    ///
    /// # Errors
    /// If a part is missing or wrong; the message says which.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let protocol = match scheme {
            "rtmp" => Protocol::Rtmp,
            "tcp" => Protocol::Raw,
            _ => return Err(AddressError::Scheme(text.to_owned())),
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_authority(authority);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port = match port {
            Some(port) => {
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| AddressError::Port {
                        address: text.to_owned(),
                        port: port.to_owned(),
                    })?
            }
            None if protocol == Protocol::Raw => return Err(AddressError::NoPort(text.to_owned())),
            None => DEFAULT_PORT,
        };
        let (app, stream) = split_path(path);
        if protocol == Protocol::Rtmp && (app.is_empty() || stream.is_empty()) {
            return Err(AddressError::NoStream(text.to_owned()));
        }
        Ok(Self {
            protocol,
            host: host.to_owned(),
            port,
            app: app.to_owned(),
            stream: stream.to_owned(),
        })
    }

    /// True if the stream's number is to be put into this address.
    pub fn is_numbered(&self) -> bool {
        self.app.contains(STREAM_NUMBER) || self.stream.contains(STREAM_NUMBER)
    }

    /// This address for stream `number`.
    pub fn numbered(&self, number: u32) -> Self {
        let number = number.to_string();
        Self {
            app: self.app.replace(STREAM_NUMBER, &number),
            stream: self.stream.replace(STREAM_NUMBER, &number),
            ..self.clone()
        }
    }

    /// The `tcUrl` of the *connect* command.
    pub fn tc_url(&self) -> String {
        format!("rtmp://{}/{}", self.authority(), self.app)
    }

    /// Asks the resolver for the host's first address.
    ///
    /// # Errors
    /// If there is none.
    pub fn resolve(&self) -> Result<SocketAddr, ResolveError> {
        let host = || self.host.clone();
        (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| ResolveError::Failed {
                host: host(),
                error,
            })?
            .next()
            .ok_or_else(|| ResolveError::Nothing(host()))
    }

    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.protocol, self.port) {
            (Protocol::Rtmp, DEFAULT_PORT) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.protocol {
            Protocol::Rtmp => write!(
                f,
                "rtmp://{}/{}/{}",
                self.authority(),
                self.app,
                self.stream
            ),
            Protocol::Raw => write!(f, "tcp://{}", self.authority()),
        }
    }
}

fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, rest.strip_prefix(':'));
    }
    match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

/// The stream's name is what follows the last slash before the query; in
/// `live?vhost=example.com/stream`, where none stands there, the last one before
/// the stream's own query.
fn split_path(path: &str) -> (&str, &str) {
    let mut queries = path.match_indices('?').map(|(at, _)| at);
    let of_app = queries.next().unwrap_or(path.len());
    let of_stream = queries.next().unwrap_or(path.len());
    let slash = path[..of_app].rfind('/');
    match slash.or_else(|| path[..of_stream].rfind('/')) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => ("", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> StreamAddress {
        StreamAddress::parse(text).unwrap()
    }

    #[test]
    fn the_stream_is_what_follows_the_last_slash() {
        let plain = parsed("rtmp://origin/live/livestream");
        assert_eq!((plain.host.as_str(), plain.port), ("origin", 1935));
        assert_eq!(
            (plain.app.as_str(), plain.stream.as_str()),
            ("live", "livestream")
        );
        let nested = parsed("rtmp://10.0.0.1:19350/live/room/cam1?token=a/b");
        assert_eq!(
            (nested.app.as_str(), nested.stream.as_str()),
            ("live/room", "cam1?token=a/b")
        );
        assert_eq!(nested.port, 19350);
    }

    #[test]
    fn the_application_may_have_a_query_of_its_own() {
        for (text, app, stream) in [
            ("rtmp://a/live?vhost=b/s", "live?vhost=b", "s"),
            (
                "rtmp://a/live?vhost=b/s?token=c/d",
                "live?vhost=b",
                "s?token=c/d",
            ),
            ("rtmp://a/live/s?vhost=b/c", "live", "s?vhost=b/c"),
        ] {
            let address = parsed(text);
            assert_eq!(
                (address.app.as_str(), address.stream.as_str()),
                (app, stream)
            );
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn a_host_may_be_a_bracketed_ipv6_address() {
        let address = parsed("rtmp://[2001:db8::1]:1936/live/s");
        assert_eq!((address.host.as_str(), address.port), ("2001:db8::1", 1936));
        assert_eq!(address.tc_url(), "rtmp://[2001:db8::1]:1936/live");
    }

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in [
            "rtmp://a/live/s",
            "rtmp://a:19/live/s?vhost=x",
            "tcp://127.0.0.1:9",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn streams_are_numbered_where_the_braces_stand() {
        let address = parsed("rtmp://a/live/s{}");
        assert!(address.is_numbered());
        assert_eq!(address.numbered(17).stream, "s17");
    }

    #[test]
    fn a_wrong_address_is_told_what_is_wrong_with_it() {
        let table = [
            ("http://a/live/s", "expected rtmp://"),
            ("a/live/s", "expected rtmp://"),
            ("rtmp:///live/s", "no host"),
            ("rtmp://a:0/live/s", "`0` is not a port"),
            ("rtmp://a:port/live/s", "`port` is not a port"),
            ("rtmp://a/live", "no application and stream"),
            ("rtmp://a", "no application and stream"),
            ("tcp://a", "no port"),
        ];
        for (text, expected) in table {
            let error = StreamAddress::parse(text).unwrap_err().to_string();
            assert!(
                error.contains(expected) && error.contains(text),
                "{text}: {error}"
            );
        }
    }
}
