//! Stream addresses: what stands in `rtmp://host:port/app/stream?query` and in the URLs of
//! HTTP-FLV, WebSocket-FLV and HLS.
//!
//! Read by hand: application and stream are cut as RTMP clients cut them, which no library
//! for URLs knows.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
};

/// The port on which RTMP servers listen unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 1935;
/// The port of HTTP and WebSocket servers.
const HTTP_PORT: u16 = 80;
/// The port of all of them with TLS.
const TLS_PORT: u16 = 443;
/// Stands in an address for the number of the stream.
pub(crate) const STREAM_NUMBER: &str = "{}";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// RTMP.
    Rtmp,
    /// Nothing but bytes: they are counted from the first on.
    Raw,
    /// FLV as the body of an HTTP answer.
    HttpFlv,
    /// FLV in the binary messages of a WebSocket.
    WebSocketFlv,
    /// HTTP Live Streaming (RFC 8216bis), with low latency where the server offers it.
    Hls,
}

impl Protocol {
    fn of(scheme: &str, path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match scheme {
            "rtmp" => Some(Self::Rtmp),
            "tcp" => Some(Self::Raw),
            "http" if path.ends_with(".flv") => Some(Self::HttpFlv),
            "http" if path.ends_with(".m3u8") => Some(Self::Hls),
            "ws" => Some(Self::WebSocketFlv),
            _ => None,
        }
    }

    fn scheme(self, secure: bool) -> &'static str {
        match (self, secure) {
            (Self::Rtmp, false) => "rtmp",
            (Self::Rtmp, true) => "rtmps",
            (Self::Raw, _) => "tcp",
            (Self::HttpFlv | Self::Hls, false) => "http",
            (Self::HttpFlv | Self::Hls, true) => "https",
            (Self::WebSocketFlv, false) => "ws",
            (Self::WebSocketFlv, true) => "wss",
        }
    }

    /// The port where an address names none, if there is one.
    fn port(self, secure: bool) -> Option<u16> {
        match self {
            Self::Raw => None,
            _ if secure => Some(TLS_PORT),
            Self::Rtmp => Some(DEFAULT_PORT),
            Self::HttpFlv | Self::WebSocketFlv | Self::Hls => Some(HTTP_PORT),
        }
    }
}

/// A parsed stream address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamAddress {
    /// By which it is played.
    pub protocol: Protocol,
    /// True if its connections have TLS.
    pub secure: bool,
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
    #[error(
        "{0}: expected rtmp://HOST[:PORT]/APP/STREAM, http://HOST[:PORT]/APP/STREAM.flv or .m3u8, \
         ws://HOST[:PORT]/APP/STREAM.flv, the same as rtmps, https or wss (or tcp://HOST:PORT to count bare bytes)"
    )]
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
        let (plain, secure) = match scheme {
            "rtmps" => ("rtmp", true),
            "https" => ("http", true),
            "wss" => ("ws", true),
            plain => (plain, false),
        };
        let protocol =
            Protocol::of(plain, rest).ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_authority(authority);
        if host.is_empty() {
            return Err(AddressError::NoHost(text.to_owned()));
        }
        let port =
            match port {
                Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                    AddressError::Port {
                        address: text.to_owned(),
                        port: port.to_owned(),
                    }
                })?,
                None => protocol
                    .port(secure)
                    .ok_or_else(|| AddressError::NoPort(text.to_owned()))?,
            };
        let (app, stream) = split_path(path);
        if protocol == Protocol::Rtmp && (app.is_empty() || stream.is_empty()) {
            return Err(AddressError::NoStream(text.to_owned()));
        }
        Ok(Self {
            protocol,
            secure,
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
        format!("{}/{}", self.origin(), self.app)
    }

    /// The request target of HTTP (RFC 9112 §3.2.1).
    pub fn target(&self) -> String {
        match self.app.as_str() {
            "" => format!("/{}", self.stream),
            app => format!("/{app}/{}", self.stream),
        }
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        let scheme = self.protocol.scheme(self.secure);
        format!("{scheme}://{}", self.authority())
    }

    /// The host as it stands in HTTP's field `Host`.
    pub fn host_field(&self) -> String {
        self.authority()
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
        match self.port {
            port if self.protocol.port(self.secure) == Some(port) => host,
            port => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for StreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())?;
        match self.protocol {
            Protocol::Raw => Ok(()),
            _ => f.write_str(&self.target()),
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
            "http://a/live/s.flv?token=b/c",
            "ws://a:8080/s.flv",
            "https://a/live/s.flv",
            "rtmps://a/live/s",
            "wss://a:80/s.flv",
            "http://[::1]:8080/live/room/s.m3u8?hls_ctx=1",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn the_path_says_what_comes_by_http() {
        for (text, protocol) in [
            ("http://a/live/s.flv?x=.m3u8", Protocol::HttpFlv),
            ("http://a/live/s.m3u8", Protocol::Hls),
            ("ws://a/live/s.flv", Protocol::WebSocketFlv),
        ] {
            let address = parsed(text);
            assert_eq!((address.protocol, address.port), (protocol, 80), "{text}");
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
            ("http:///s.flv", "no host"),
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
