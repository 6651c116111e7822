//! An answer as a value, whatever protocol carries it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http_flv::answer::Hint;
use http_flv::request::ByteRange;

use crate::server::hls::SessionUse;
use crate::stream::{HlsLog, Stream};

/// An answer.
#[derive(Debug)]
pub(in crate::server) struct Response {
    /// The status code.
    pub(in crate::server) status: u16,
    /// The header fields, but for the body's length and those of a connection.
    pub(in crate::server) fields: Vec<Field>,
    pub(in crate::server) body: Body,
    /// The session that the answer's bytes are counted for.
    pub(in crate::server) session: Option<SessionUse>,
    /// The stream for which they are counted, too.
    pub(in crate::server) stream: Option<Arc<Stream>>,
}

/// A header field.
pub(in crate::server) type Field = (&'static str, Cow<'static, str>);

/// The body of an answer.
#[derive(Debug, Clone)]
pub(in crate::server) enum Body {
    Empty,
    Text(Bytes),
    /// A part of a log of segments.
    Log(Arc<HlsLog>, Range<u64>),
}

impl Body {
    /// Its length, in bytes.
    pub(in crate::server) fn length(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Text(text) => text.len() as u64,
            Self::Log(_, range) => range.end - range.start,
        }
    }

    /// The bytes from `first` up to `end` of it.
    fn part(self, first: u64, end: u64) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Text(text) => {
                let index = |offset| usize::try_from(offset).unwrap_or(usize::MAX);
                Self::Text(text.slice(index(first)..index(end)))
            }
            Self::Log(log, range) => Self::Log(log, range.start + first..range.start + end),
        }
    }
}

/// `Cache-Control` of what changes.
const NO_CACHE: Field = ("Cache-Control", Cow::Borrowed("no-cache"));

impl Response {
    fn new(status: u16, fields: Vec<Field>, body: Body) -> Self {
        Self {
            status,
            fields,
            body,
            session: None,
            stream: None,
        }
    }

    /// A refusal, with the reason as its body.
    pub(in crate::server) fn refusal(status: u16, reason: &str, hint: Option<&Hint>) -> Self {
        let kind = Cow::Borrowed("text/plain; charset=utf-8");
        let mut fields = vec![("Content-Type", kind), NO_CACHE];
        fields.extend(
            hint.map(Hint::field)
                .map(|(name, value)| (name, value.into())),
        );
        Self::new(status, fields, Body::Text(format!("{reason}\n").into()))
    }

    /// The answer to `OPTIONS`.
    pub(in crate::server) fn options() -> Self {
        let methods = Cow::Borrowed(http_flv::answer::METHODS);
        Self::new(204, vec![("Allow", methods)], Body::Empty)
    }

    /// A playlist.
    pub(in crate::server) fn playlist(text: Body) -> Self {
        let kind = Cow::Borrowed("application/vnd.apple.mpegurl");
        Self::new(200, vec![("Content-Type", kind), NO_CACHE], text)
    }

    /// Bytes that no cache may keep.
    pub(in crate::server) fn secret(body: Body) -> Self {
        let kind = Cow::Borrowed("application/octet-stream");
        let no_store = ("Cache-Control", Cow::Borrowed("no-store"));
        Self::new(200, vec![("Content-Type", kind), no_store], body)
    }

    /// What never changes, or the `range` of it. Caches may keep it for `max_age_s`
    /// seconds.
    pub(in crate::server) fn media(
        kind: &'static str,
        max_age_s: u64,
        body: Body,
        range: Option<ByteRange>,
    ) -> Self {
        let length = body.length();
        let mut fields = vec![
            ("Content-Type", Cow::Borrowed(kind)),
            ("Cache-Control", format!("max-age={max_age_s}").into()),
            ("Accept-Ranges", Cow::Borrowed("bytes")),
        ];
        let Some(range) = range else {
            return Self::new(200, fields, body);
        };
        let Some((first, end)) = range.within(length) else {
            let mut response = Self::refusal(416, "there are no such bytes", None);
            let whole = format!("bytes */{length}").into();
            response.fields.push(("Content-Range", whole));
            return response;
        };
        let part = format!("bytes {first}-{}/{length}", end - 1);
        fields.push(("Content-Range", part.into()));
        Self::new(206, fields, body.part(first, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(range: Option<ByteRange>) -> Response {
        let body = Body::Text(Bytes::from_static(b"0123456789"));
        Response::media("video/mp4", 60, body, range)
    }

    fn field(response: &Response, name: &str) -> Option<String> {
        let mut fields = response.fields.iter();
        let field = fields.find(|(known, _)| *known == name);
        field.map(|(_, value)| value.to_string())
    }

    #[test]
    fn a_range_is_answered_with_its_bytes() {
        assert_eq!(media(None).status, 200);
        let part = media(Some(ByteRange::From(2, Some(4))));
        assert_eq!(part.status, 206);
        let range = field(&part, "Content-Range").unwrap();
        assert_eq!(range, "bytes 2-4/10");
        assert!(matches!(part.body, Body::Text(text) if text == "234"));
    }

    #[test]
    fn a_range_behind_the_end_is_refused_with_the_length() {
        let refused = media(Some(ByteRange::From(10, None)));
        assert_eq!(refused.status, 416);
        assert_eq!(field(&refused, "Content-Range").unwrap(), "bytes */10");
    }
}
