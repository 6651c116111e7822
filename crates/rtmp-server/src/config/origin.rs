//! `origin`: the servers that an edge pulls from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use conf_kit::{Diagnostic, Directive};
use serde::{Serialize, Serializer};

use super::model::DEFAULT_PORT;

/// RTMPS's port, where a URL names none.
const DEFAULT_RTMPS_PORT: u16 = 443;

/// The address of an origin: `host:port`, or `rtmps://host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// True if it is connected to by TLS.
    pub tls: bool,
    /// `host:port`.
    pub authority: String,
}

impl Origin {
    /// Reads `[rtmp://|rtmps://]host[:port]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (tls, text) = match text.split_once("://") {
            Some(("rtmp", rest)) => (false, rest),
            Some(("rtmps", rest)) => (true, rest),
            Some(_) => return None,
            None => (false, text),
        };
        let default_port = if tls {
            DEFAULT_RTMPS_PORT
        } else {
            DEFAULT_PORT
        };
        let authority = authority(text, default_port)?;
        Some(Self { tls, authority })
    }

    /// Its host: a name or an address, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// `rtmp://host:port` or `rtmps://host:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rtmps" } else { "rtmp" };
        format!("{scheme}://{}", self.authority)
    }
}

/// As it is written in the configuration.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rtmps://" } else { "" };
        write!(f, "{scheme}{}", self.authority)
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `host:port` of `host` or `host:port`.
fn authority(text: &str, default_port: u16) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, default_port).to_string());
    }
    let (host, port) = match text.rsplit_once(':') {
        Some(_) if text.ends_with(']') => (text, default_port),
        Some((host, port)) => (host, port.parse().ok().filter(|&port: &u16| port != 0)?),
        None => (text, default_port),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let plausible = match bare {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '[', ']']),
    };
    plausible.then(|| format!("{host}:{port}"))
}

/// One or more origins.
pub(super) fn origins(directive: &Directive) -> Result<Vec<Origin>, Diagnostic> {
    let expected = "one or several `host`, `host:port` or `rtmps://host[:port]`";
    let words = directive.words(expected)?;
    let read: Option<_> = words.iter().map(|word| Origin::parse(word)).collect();
    read.ok_or_else(|| directive.expects(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_an_address_or_a_url_without_a_path() {
        for (text, url, host) in [
            ("a", "rtmp://a:1935", "a"),
            ("a:7", "rtmp://a:7", "a"),
            ("rtmp://a", "rtmp://a:1935", "a"),
            ("rtmps://a", "rtmps://a:443", "a"),
            ("rtmps://a:1443", "rtmps://a:1443", "a"),
            ("::1", "rtmp://[::1]:1935", "::1"),
            ("[::1]", "rtmp://[::1]:1935", "::1"),
            ("rtmps://[::1]:7", "rtmps://[::1]:7", "::1"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!((&*origin.url(), origin.host()), (url, host), "{text}");
        }
        for wrong in [
            "",
            "http://a",
            "rtmps://",
            "rtmps://a/live",
            "a:0",
            "a:x",
            "[a]:7",
        ] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }
}
