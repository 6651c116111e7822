//! The head of a player's request (RFC 9112), with what a server of streams needs of
//! it.

use crate::websocket;

/// The longest head, in bytes.
pub const MAX_HEAD_BYTES: usize = 8 * 1024;
/// The longest request target, in bytes.
pub const MAX_TARGET_BYTES: usize = 2 * 1024;
/// The most header fields.
const MAX_FIELDS: usize = 64;

/// The methods that are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Plays.
    Get,
    /// Asks for the head of the answer alone.
    Head,
    /// Asks what is allowed, as browsers do before a request to another site.
    Options,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// The path, with `%xx` decoded; it begins with `/`. `*` with [`Method::Options`].
    pub path: String,
    /// What follows the `?`, as it came.
    pub query: String,
    /// The host that was asked for, without its port, in lower case; empty if none was.
    pub host: String,
    /// The page that embeds the player; empty if it does not say.
    pub referer: String,
    /// The site of that page, such as `https://host:8080`; empty if it does not say.
    /// Browsers say it of WebSockets, and no referer (RFC 6455 §4.1).
    pub origin: String,
    /// The value of `Sec-WebSocket-Accept` if it asks for a WebSocket.
    pub websocket: Option<String>,
    /// The part of the body that is asked for.
    pub range: Option<ByteRange>,
    /// True if the connection may have further requests. None may follow a body, which
    /// nobody reads.
    pub keep_alive: bool,
    /// True if it is HTTP/1.0, where a connection that stays is said to.
    pub is_version_1_0: bool,
    /// Length of the head, in bytes.
    pub head_bytes: usize,
}

/// One range of bytes (RFC 9110 §14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first on, to the last or to the end.
    From(u64, Option<u64>),
    /// So many from the end.
    Last(u64),
}

impl ByteRange {
    /// Reads `bytes=…`; `None` for several ranges and other units, which a server may
    /// ignore.
    fn parse(value: &str) -> Option<Self> {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        match (first.trim(), last.trim()) {
            ("", last) => number(last).map(Self::Last),
            (first, "") => number(first).map(|first| Self::From(first, None)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, Some(last)))
            }
        }
    }

    /// The first byte, and the one behind the last, in a body of `length` bytes; `None` if
    /// the body has none of them.
    #[must_use]
    pub fn within(self, length: u64) -> Option<(u64, u64)> {
        let (first, end) = match self {
            Self::From(first, last) => {
                let end = last.map_or(length, |last| last.saturating_add(1));
                (first, end.min(length))
            }
            Self::Last(count) => (length.saturating_sub(count), length),
        };
        (first < end).then_some((first, end))
    }
}

/// The reason for which a request's head is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The bytes are no request, or one that RFC 9112 forbids.
    #[error("bad request: {0}")]
    Malformed(&'static str),
    /// Another method than [`Method`] knows.
    #[error("the method is none of GET, HEAD, OPTIONS")]
    Method,
    /// The target is longer than [`MAX_TARGET_BYTES`].
    #[error("the request target is longer than {MAX_TARGET_BYTES} bytes")]
    TargetTooLong,
    /// The head is longer than [`MAX_HEAD_BYTES`], or has too many fields.
    #[error(
        "the request head is longer than {MAX_HEAD_BYTES} bytes or has over {MAX_FIELDS} fields"
    )]
    TooLarge,
    /// A version of the WebSocket protocol other than 13.
    #[error("the WebSocket protocol has version 13 here")]
    WebSocketVersion,
}

impl HeadError {
    /// The status code of the answer (RFC 9110 §15.5, RFC 6585).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Method => 405,
            Self::TargetTooLong => 414,
            Self::WebSocketVersion => 426,
            Self::TooLarge => 431,
        }
    }
}

/// Reads the head at the front of `input`, all that has come so far; `None` if it is
/// not complete. What follows the head is not looked at.
///
/// # Errors
/// The bytes begin with no request that is answered.
pub fn parse(input: &[u8]) -> Result<Option<Request>, HeadError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    let status = head.parse(&input[..input.len().min(MAX_HEAD_BYTES)]);
    let head_bytes = match status {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() < MAX_HEAD_BYTES => {
            return match head.path {
                Some(target) if target.len() > MAX_TARGET_BYTES => Err(HeadError::TargetTooLong),
                _ => Ok(None),
            };
        }
        Ok(httparse::Status::Partial) if has_long_target(input) => {
            return Err(HeadError::TargetTooLong);
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::TooLarge);
        }
        Err(_) => return Err(HeadError::Malformed("it is no HTTP/1 request")),
    };
    let method = match head.method {
        Some("GET") => Method::Get,
        Some("HEAD") => Method::Head,
        Some("OPTIONS") => Method::Options,
        _ => return Err(HeadError::Method),
    };
    let target = head.path.unwrap_or_default();
    if target.len() > MAX_TARGET_BYTES {
        return Err(HeadError::TargetTooLong);
    }
    let fields = Fields(head.headers);
    let host = fields.only("host", "more than one Host")?;
    if host.is_none() && head.version == Some(1) {
        // RFC 9112 §3.2.
        return Err(HeadError::Malformed("it has no Host"));
    }
    let (authority, target) = split_target(method, target)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // The host of an absolute target counts before the field (RFC 9112 §3.2.2).
    let host = authority.unwrap_or(host.unwrap_or_default());
    Ok(Some(Request {
        method,
        path: decode(path)?,
        query: query.to_owned(),
        host: without_port(host).to_ascii_lowercase(),
        referer: fields.get("referer").unwrap_or_default().to_owned(),
        origin: fields.get("origin").unwrap_or_default().to_owned(),
        websocket: websocket_accept(method, &fields)?,
        range: fields.get("range").and_then(ByteRange::parse),
        keep_alive: fields.keep_alive(head.version == Some(1)),
        is_version_1_0: head.version == Some(0),
        head_bytes,
    }))
}

/// True if the first line of an incomplete head is not over after so many bytes as a
/// target may have.
fn has_long_target(input: &[u8]) -> bool {
    !input[..MAX_TARGET_BYTES].contains(&b'\n')
}

/// The header fields of a request.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let named = self
            .0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name));
        // Bytes beyond ASCII say nothing in the fields that are read here.
        named.map(|field| str::from_utf8(field.value).unwrap_or_default().trim())
    }

    fn get(&self, name: &'static str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// The only field of this name.
    fn only(
        &self,
        name: &'static str,
        mistake: &'static str,
    ) -> Result<Option<&'a str>, HeadError> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(HeadError::Malformed(mistake)),
            (first, None) => Ok(first),
        }
    }

    /// True if the connection stays after the answer (RFC 9112 §9.3).
    fn keep_alive(&self, is_version_1_1: bool) -> bool {
        let has_body = self.get("transfer-encoding").is_some()
            || self.all("content-length").any(|length| length != "0");
        let stays = match is_version_1_1 {
            true => !self.has("connection", "close"),
            false => self.has("connection", "keep-alive"),
        };
        stays && !has_body
    }

    /// True if a comma-separated field has this word.
    fn has(&self, name: &'static str, word: &str) -> bool {
        let mut words = self.all(name).flat_map(|value| value.split(','));
        words.any(|listed| listed.trim().eq_ignore_ascii_case(word))
    }
}

impl Request {
    /// The page that embeds the player, or else its site; empty if neither is known.
    #[must_use]
    pub fn page(&self) -> &str {
        match &*self.referer {
            "" => &self.origin,
            referer => referer,
        }
    }

    /// True if a page of another host asks. A site that keeps its name to itself, as
    /// `null` does, is another one.
    #[must_use]
    pub fn is_of_another_site(&self) -> bool {
        let (_, site) = self.origin.split_once("://").unwrap_or(("", ""));
        !self.origin.is_empty() && !without_port(site).eq_ignore_ascii_case(&self.host)
    }
}

/// The host of an absolute target, and the target without it.
fn split_target(method: Method, target: &str) -> Result<(Option<&str>, &str), HeadError> {
    if target.starts_with('/') || (target == "*" && method == Method::Options) {
        return Ok((None, target));
    }
    let after = ["http://", "https://", "ws://", "wss://"]
        .iter()
        .find_map(|scheme| target.strip_prefix(scheme));
    let after = after.ok_or(HeadError::Malformed("its target is no path"))?;
    let slash = after.find('/').unwrap_or(after.len());
    let path = &after[slash..];
    Ok((
        Some(&after[..slash]),
        if path.is_empty() { "/" } else { path },
    ))
}

/// A host without the port behind it.
fn without_port(host: &str) -> &str {
    if let Some(address) = host.strip_prefix('[') {
        // An IPv6 address in brackets.
        return address.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// `path` with `%xx` decoded (RFC 3986 §2.1).
fn decode(path: &str) -> Result<String, HeadError> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let decoded = match *after {
            [high, low, ..] => digit(high).zip(digit(low)),
            _ => None,
        };
        let (high, low) = decoded.ok_or(HeadError::Malformed("a % without two digits"))?;
        bytes.push(u8::try_from(16 * high + low).expect("two hexadecimal digits"));
        rest = &after[2..];
    }
    let path = String::from_utf8(bytes);
    let path = path.map_err(|_| HeadError::Malformed("its path is not in UTF-8"))?;
    if path.chars().any(char::is_control) {
        return Err(HeadError::Malformed("its path has control characters"));
    }
    Ok(path)
}

/// The value of `Sec-WebSocket-Accept` for a request that asks for a WebSocket (RFC
/// 6455 §4.2.1).
fn websocket_accept(method: Method, fields: &Fields<'_>) -> Result<Option<String>, HeadError> {
    if method != Method::Get || !fields.has("upgrade", "websocket") {
        return Ok(None);
    }
    if !fields.has("connection", "upgrade") {
        return Err(HeadError::Malformed(
            "Upgrade without `Connection: Upgrade`",
        ));
    }
    if fields.get("sec-websocket-version") != Some("13") {
        return Err(HeadError::WebSocketVersion);
    }
    let key = fields.only("sec-websocket-key", "more than one Sec-WebSocket-Key")?;
    let accept = key.and_then(websocket::accept);
    accept
        .map(Some)
        .ok_or(HeadError::Malformed("no Sec-WebSocket-Key of 16 bytes"))
}

#[cfg(test)]
mod tests;
