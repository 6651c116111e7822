//! The part of the model that is about health checks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Script, Seconds, bounds};

/// One health check of a real server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Kind of check.
    #[serde(flatten)]
    pub kind: CheckKind,
    /// Addresses and ports of its connection.
    #[serde(flatten)]
    pub connection: ConnectionOptions,
    /// Times of the check.
    #[serde(flatten)]
    pub timing: CheckTiming,
}

impl Check {
    /// The word in keepalived.conf of a check that connects to a port.
    pub fn connecting_word(&self) -> Option<&'static str> {
        match self.kind {
            CheckKind::Tcp => Some("TCP_CHECK"),
            CheckKind::Http { .. } => Some("HTTP_GET"),
            CheckKind::Https { .. } => Some("SSL_GET"),
            CheckKind::Udp { .. } => Some("UDP_CHECK"),
            CheckKind::Dns { .. } => Some("DNS_CHECK"),
            CheckKind::Smtp { .. } => Some("SMTP_CHECK"),
            CheckKind::Rtmp { .. } => Some("RTMP_CHECK"),
            CheckKind::Flv { .. } => Some("FLV_CHECK"),
            // Its port is the HTTP API's unless it says another.
            CheckKind::Load { .. }
            | CheckKind::Misc { .. }
            | CheckKind::File { .. }
            | CheckKind::Ping => None,
        }
    }
}

/// The kinds of health check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CheckKind {
    /// A TCP connection can be made.
    #[serde(rename = "TCP_CHECK")]
    Tcp,
    /// Pages come over HTTP, and are right.
    #[serde(rename = "HTTP_GET")]
    Http {
        /// The pages.
        #[schemars(length(min = 1))]
        url: Vec<UrlCheck>,
    },
    /// Pages come over HTTP on TLS, and are right.
    #[serde(rename = "SSL_GET")]
    Https {
        /// The pages.
        #[schemars(length(min = 1))]
        url: Vec<UrlCheck>,
        /// Names the host in the TLS handshake (RFC 6066 §3).
        #[serde(default)]
        enable_sni: bool,
    },
    /// A program succeeds.
    #[serde(rename = "MISC_CHECK")]
    Misc {
        /// The program.
        misc_path: Script,
        /// Time that it may run; default `delay_loop`.
        misc_timeout: Option<Seconds>,
        /// Its exit status sets the weight: 2 to 255 for 0 to 253.
        #[serde(default)]
        misc_dynamic: bool,
    },
    /// A UDP port does not refuse, or answers as it should.
    #[serde(rename = "UDP_CHECK")]
    Udp {
        /// Bytes that are sent.
        payload: Option<String>,
        /// Bytes that must come back, `x` for any digit; empty for anything.
        require_reply: Option<String>,
        /// Shortest reply in bytes; default 0.
        min_reply_length: Option<u16>,
        /// Longest reply in bytes; default 255.
        max_reply_length: Option<u16>,
    },
    /// A DNS server answers a query, over UDP.
    #[serde(rename = "DNS_CHECK")]
    Dns {
        /// Type of the record that is asked for; default SOA.
        record_type: Option<RecordType>,
        /// Name that is asked for; default `.`, the root.
        name: Option<String>,
    },
    /// An SMTP server greets, and answers `HELO`.
    #[serde(rename = "SMTP_CHECK")]
    Smtp {
        /// Name that the check gives in `HELO`; default the host's.
        helo_name: Option<String>,
    },
    /// The number in a file is no failure; it is added to the server's weight.
    #[serde(rename = "FILE_CHECK")]
    File {
        /// Name of the `track_file`.
        track_file: String,
        /// Factor of the number; default the file's own weight. 0: any number but 0
        /// is a failure.
        weight: Option<i32>,
        /// Changes the sign of the number; with weight 0, 0 is the failure.
        #[serde(default)]
        reverse: bool,
    },
    /// The host answers an ICMP echo request.
    #[serde(rename = "PING_CHECK")]
    Ping,
    /// The server speaks RTMP, and plays a stream if one is named. keepalived
    /// does not know this check.
    #[serde(rename = "RTMP_CHECK")]
    Rtmp {
        /// The application; default `live`.
        app: Option<String>,
        /// The stream whose media must come.
        stream: Option<String>,
        /// Time that the first media may take; default 10.
        play_timeout: Option<Seconds>,
        /// Host of the URL that the server is told; default `virtualhost` of
        /// the server or service, or else the address.
        virtualhost: Option<String>,
    },
    /// The server plays a stream over HTTP-FLV, at `/APP/STREAM.flv`. keepalived does
    /// not know this check.
    #[serde(rename = "FLV_CHECK")]
    Flv {
        /// The application; default `live`.
        app: Option<String>,
        /// The stream whose media must come; a query may follow it (`livestream?key=…`).
        stream: String,
        /// Time that the first media may take; default 10.
        play_timeout: Option<Seconds>,
        /// Host to ask for; default `virtualhost` of the server or service, or else the
        /// address.
        virtualhost: Option<String>,
        /// Speaks TLS, and names `virtualhost` in the handshake (RFC 6066 §3).
        #[serde(default)]
        tls: bool,
    },
    /// The server's HTTP API says what it sends and may send; servers share new connections
    /// by the room that they have. keepalived does not know this check.
    #[serde(rename = "LOAD_CHECK")]
    Load {
        /// URL of the answer; a host name is looked up for each check. Default
        /// `/api/v1/load` at port 1985 of the real server.
        url: Option<String>,
        /// User of the API, where it asks for one.
        username: Option<String>,
        /// The user's password.
        password: Option<String>,
    },
}

/// `url` of `LOAD_CHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadUrl {
    /// True if TLS is spoken.
    pub tls: bool,
    /// The server.
    pub host: LoadHost,
    /// Path with query.
    pub path: String,
}

/// The server that a [`LoadUrl`] names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LoadHost {
    /// Address and port.
    Address(SocketAddr),
    /// Name, as of a host, and port.
    Name(String, u16),
}

impl fmt::Display for LoadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl LoadHost {
    /// Reads `address[:port]` or `name[:port]`.
    fn parse(authority: &str, default_port: u16) -> Option<Self> {
        let bare = authority
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        if let Some(address) = bare {
            let address = IpAddr::V6(address.parse().ok()?);
            return Some(Self::Address(SocketAddr::new(address, default_port)));
        }
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Address(address));
        }
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, port.parse().ok().filter(|port| *port != 0)?),
            None => (authority, default_port),
        };
        if let Ok(address) = name.parse::<Ipv4Addr>() {
            return Some(Self::Address(SocketAddr::new(address.into(), port)));
        }
        // RFC 1123 §2.1; the last label of a name is no number, so that a mistyped address
        // is none (WHATWG URL, *ends in a number*).
        let is_label = |label: &str| {
            let mut bytes = label.bytes();
            (1..=63).contains(&label.len())
                && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = name.strip_suffix('.').unwrap_or(name);
        let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = labels.len() <= 253
            && labels.split('.').all(is_label)
            && !labels.rsplit('.').next().is_some_and(is_number);
        is_name.then(|| Self::Name(name.to_owned(), port))
    }
}

impl LoadUrl {
    /// What it must be, for people.
    pub const EXPECTED: &'static str = "a URL such as `http://10.0.0.3:1985/api/v1/load`";

    /// Reads `http[s]://host[:port][/path]`; the port is 80, or 443, where there is none.
    pub fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let port = if tls { 443 } else { 80 };
        let host = LoadHost::parse(authority, port)?;
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        Some(Self { tls, host, path })
    }
}

/// `type` of `DNS_CHECK` (RFC 1035 §3.2.2, RFC 3596 §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// An IPv4 address.
    A,
    /// A name server.
    Ns,
    /// The name that an alias stands for.
    Cname,
    /// The start of a zone.
    Soa,
    /// A mail exchange.
    Mx,
    /// A text.
    Txt,
    /// An IPv6 address.
    Aaaa,
}

/// `url` of `HTTP_GET` and `SSL_GET`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UrlCheck {
    /// Path with query.
    pub path: String,
    /// Status codes that are right; default 200 to 299.
    #[serde(default)]
    pub status_code: Vec<StatusCodes>,
    /// MD5 of the body, in hexadecimal digits (genhash(1)).
    pub digest: Option<String>,
    /// Host to ask for; default that of the server or service, or the address.
    pub virtualhost: Option<String>,
    /// Regular expression to look for in the body.
    pub regex: Option<String>,
    /// The regular expression must not be found.
    #[serde(default)]
    pub regex_no_match: bool,
}

/// Status codes from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusCodes(
    #[schemars(range(min = *bounds::STATUS_CODE.start(), max = *bounds::STATUS_CODE.end()))] pub u16,
    #[schemars(range(min = *bounds::STATUS_CODE.start(), max = *bounds::STATUS_CODE.end()))] pub u16,
);

/// Addresses and ports that a check connects to and from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionOptions {
    /// Address to connect to; default the real server's.
    pub connect_ip: Option<IpAddr>,
    /// Port to connect to; default the real server's.
    pub connect_port: Option<u16>,
    /// Local address to connect from.
    pub bindto: Option<IpAddr>,
    /// Local port to connect from.
    pub bind_port: Option<u16>,
}

/// Times of a check, and failures that it may have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckTiming {
    /// Counts the server as down until its first success.
    pub alpha: Option<bool>,
    /// Time that a connection may take; default 5.
    pub connect_timeout: Option<Seconds>,
    /// Further failures that an up server is allowed; default 1.
    pub retry: Option<u32>,
    /// Delay after a failure that is not yet the last allowed one; default 1.
    pub delay_before_retry: Option<Seconds>,
    /// Upper bound of the random delay of the first check; default `delay_loop`.
    pub warmup: Option<Seconds>,
    /// Delay between checks; default 60.
    pub delay_loop: Option<Seconds>,
}

impl CheckTiming {
    /// These settings, and those of `outer` where these say nothing.
    #[must_use]
    pub fn or(&self, outer: &Self) -> Self {
        Self {
            alpha: self.alpha.or(outer.alpha),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
            delay_loop: self.delay_loop.or(outer.delay_loop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_of_a_load_names_an_address_or_a_host() {
        for (url, tls, address, path) in [
            (
                "http://10.0.0.3:1985/api/v1/load",
                false,
                "10.0.0.3:1985",
                "/api/v1/load",
            ),
            ("https://10.0.0.3", true, "10.0.0.3:443", "/"),
            (
                "http://[2001:db8::1]?x=1",
                false,
                "[2001:db8::1]:80",
                "/?x=1",
            ),
            ("http://[::1]:7/a", false, "[::1]:7", "/a"),
            ("http://10.0.0.3:8080/", false, "10.0.0.3:8080", "/"),
            ("http://edge/", false, "edge:80", "/"),
            (
                "https://edge-1.example.org:8443/a",
                true,
                "edge-1.example.org:8443",
                "/a",
            ),
        ] {
            let parsed = LoadUrl::parse(url).expect(url);
            let is_address = matches!(parsed.host, LoadHost::Address(_));
            assert_eq!(is_address, address.parse::<SocketAddr>().is_ok(), "{url}");
            assert_eq!(parsed.host.to_string(), address);
            assert_eq!((parsed.tls, &*parsed.path), (tls, path), "{url}");
        }
        for wrong in [
            "",
            "10.0.0.3",
            "ftp://10.0.0.3/",
            "http:///load",
            "http://10.0.0.300/",
            "http://10.0.0.3:0/",
            "http://edge:0/",
            "http://edge:x/",
            "http://-edge/",
            "http://user@edge/",
        ] {
            assert_eq!(LoadUrl::parse(wrong), None, "{wrong}");
        }
    }
}
