//! Reads HTTP/1.1 answers from a connection's bytes: heads, and bodies by
//! their framing (RFC 9112 §6). It believes nothing that contradicts itself.

use std::fmt;

/// The longest head that is believed, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The most fields of a head.
const MAX_FIELDS: usize = 64;
/// The longest line of a chunk's size or of a trailer, in bytes.
const MAX_LINE_BYTES: usize = 1024;

/// Answers that are no HTTP.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ResponseError {
    /// The head is no HTTP.
    #[error("the answer's head is no HTTP: {0}")]
    Head(String),
    /// The head does not end.
    #[error("the answer's head is longer than {MAX_HEAD_BYTES} bytes")]
    LongHead,
    /// Fields that say how long the body is, and contradict each other or mean nothing.
    #[error("the answer's head has {0}")]
    Framing(&'static str),
    /// A chunked body that is none.
    #[error("the answer's chunked body is broken: {0}")]
    Chunk(&'static str),
    /// Bytes behind an answer.
    #[error(
        "the server sent {0} bytes behind its answer, which no request asked for (is Content-Length \
         too small?)"
    )]
    Unasked(usize),
    /// The connection ended within an answer.
    #[error("the connection was closed with {0} of the answer still to come")]
    CutShort(Remainder),
}

/// The part of an answer that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remainder {
    /// The head, or its end.
    Head,
    /// So many bytes of the body.
    Bytes(u64),
    /// Some chunks.
    Chunks,
}

impl fmt::Display for Remainder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("the head"),
            Self::Bytes(count) => write!(f, "{count} bytes"),
            Self::Chunks => f.write_str("some chunks"),
        }
    }
}

/// The head of an answer, as far as a player needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// True if the connection ends with this answer.
    pub closes: bool,
    /// `Content-Range`, which says which bytes these are.
    pub content_range: Option<String>,
    /// `Sec-WebSocket-Accept`.
    pub websocket_accept: Option<String>,
}

/// A piece of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The head.
    Head(Head),
    /// Bytes of the body.
    Body(&'a [u8]),
    /// The end of the answer.
    End,
}

/// How the end of a body is known.
///
/// ```text
/// ChunkSize ─ n ─▶ ChunkBytes ─▶ ChunkEnd ─▶ ChunkSize
///     └─ 0 ─▶ Trailer ─ empty line ─▶ end
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    UntilClose,
    ChunkSize,
    ChunkBytes(u64),
    ChunkEnd,
    Trailer,
}

/// See the module's description. It reads one answer after the other.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    state: State,
    /// The head, or a line of a chunked body, that is not complete.
    partial: Vec<u8>,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
        }
    }
}

impl ResponseReader {
    /// Reads the next piece off `bytes`; `None` if it needs more of them.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) fn read<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, ResponseError> {
        loop {
            match self.state {
                State::Head => return self.head(bytes),
                State::Length(0) => return Ok(Some(self.end())),
                State::Length(remaining) => {
                    let taken = take(bytes, remaining);
                    self.state = State::Length(remaining - taken.len() as u64);
                    return Ok(body(taken));
                }
                State::UntilClose => return Ok(body(take(bytes, u64::MAX))),
                State::ChunkSize => {
                    let Some(line) = self.line(bytes)? else {
                        return Ok(None);
                    };
                    self.state = match chunk_size(&line)? {
                        0 => State::Trailer,
                        size => State::ChunkBytes(size),
                    };
                }
                State::ChunkBytes(0) => self.state = State::ChunkEnd,
                State::ChunkBytes(remaining) => {
                    let taken = take(bytes, remaining);
                    self.state = State::ChunkBytes(remaining - taken.len() as u64);
                    return Ok(body(taken));
                }
                State::ChunkEnd => match self.line(bytes)? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.state = State::ChunkSize,
                    Some(_) => return Err(ResponseError::Chunk("more bytes than its size")),
                },
                State::Trailer => match self.line(bytes)? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => return Ok(Some(self.end())),
                    Some(_) => {}
                },
            }
        }
    }

    /// Bytes that are certain to belong to the body that is being read.
    pub(crate) fn body_to_come(&self) -> u64 {
        match self.state {
            State::Length(remaining) => remaining,
            _ => 0,
        }
    }

    /// Takes note of bytes of the body that were thrown away unread.
    pub(crate) fn skip(&mut self, bytes: u64) {
        if let State::Length(remaining) = &mut self.state {
            *remaining = remaining.saturating_sub(bytes);
        }
    }

    /// True if no byte of an answer has come since the last one ended.
    pub(crate) fn is_between_answers(&self) -> bool {
        self.state == State::Head && self.partial.is_empty()
    }

    /// The connection has ended, which may end an answer.
    ///
    /// # Errors
    /// If it was not at its end.
    pub(crate) fn closed(&mut self) -> Result<(), ResponseError> {
        let missing = match self.state {
            State::UntilClose | State::Length(0) => {
                self.end();
                return Ok(());
            }
            State::Head => Remainder::Head,
            State::Length(remaining) => Remainder::Bytes(remaining),
            _ => Remainder::Chunks,
        };
        Err(ResponseError::CutShort(missing))
    }

    fn end(&mut self) -> Piece<'static> {
        self.state = State::Head;
        self.partial.clear();
        Piece::End
    }

    fn head<'a>(&mut self, bytes: &mut &'a [u8]) -> Result<Option<Piece<'a>>, ResponseError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let held = self.partial.len();
        let room = MAX_HEAD_BYTES - held;
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let length = match response.parse(&self.partial) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.partial.len() == MAX_HEAD_BYTES => {
                return Err(ResponseError::LongHead);
            }
            Ok(httparse::Status::Partial) => {
                *bytes = &[];
                return Ok(None);
            }
            Err(error) => return Err(ResponseError::Head(error.to_string())),
        };
        let (head, state) = understand(&response)?;
        *bytes = &bytes[length - held..];
        self.partial.clear();
        self.state = state;
        Ok(Some(Piece::Head(head)))
    }

    /// A line of a chunked body without its end; `None` if it is not complete.
    fn line(&mut self, bytes: &mut &[u8]) -> Result<Option<Vec<u8>>, ResponseError> {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(bytes.len(), |end| end + 1);
        if self.partial.len() + length > MAX_LINE_BYTES {
            return Err(ResponseError::Chunk("a line that is too long"));
        }
        self.partial.extend_from_slice(&bytes[..length]);
        *bytes = &bytes[length..];
        if end.is_none() {
            return Ok(None);
        }
        let line = std::mem::take(&mut self.partial);
        match line.strip_suffix(b"\r\n") {
            Some(line) => Ok(Some(line.to_vec())),
            None => Err(ResponseError::Chunk("a line that does not end in CR LF")),
        }
    }
}

fn take<'a>(bytes: &mut &'a [u8], most: u64) -> &'a [u8] {
    let count = usize::try_from(most).map_or(bytes.len(), |most| most.min(bytes.len()));
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn body(bytes: &[u8]) -> Option<Piece<'_>> {
    (!bytes.is_empty()).then_some(Piece::Body(bytes))
}

/// A chunk's size, behind which extensions may stand (RFC 9112 §7.1).
fn chunk_size(line: &[u8]) -> Result<u64, ResponseError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = digits.trim_ascii_end();
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    std::str::from_utf8(digits)
        .ok()
        .filter(|_| is_hex)
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(ResponseError::Chunk("a size that is no number"))
}

/// What a head means, and how its body ends (RFC 9112 §6.3).
fn understand(response: &httparse::Response<'_, '_>) -> Result<(Head, State), ResponseError> {
    let status = response.code.unwrap_or_default();
    let mut head = Head {
        status,
        reason: response.reason.unwrap_or_default().to_owned(),
        closes: response.version == Some(0),
        content_range: None,
        websocket_accept: None,
    };
    let mut length = None;
    let mut chunked = false;
    for field in response.headers.iter() {
        let value = String::from_utf8_lossy(field.value);
        let value = value.trim();
        match field.name.to_ascii_lowercase().as_str() {
            "connection" if has_token(value, "close") => head.closes = true,
            "connection" if has_token(value, "keep-alive") => head.closes = false,
            "content-length" => {
                let is_number =
                    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let number = value.parse::<u64>().ok().filter(|_| is_number);
                let number = number.ok_or(ResponseError::Framing(
                    "a Content-Length that is no number of bytes",
                ))?;
                if length.is_some_and(|length| length != number) {
                    return Err(ResponseError::Framing("two different Content-Lengths"));
                }
                length = Some(number);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") && !chunked => {
                chunked = true;
            }
            "transfer-encoding" => {
                return Err(ResponseError::Framing(
                    "a Transfer-Encoding other than chunked",
                ));
            }
            "content-range" => head.content_range = Some(value.to_owned()),
            "sec-websocket-accept" => head.websocket_accept = Some(value.to_owned()),
            _ => {}
        }
    }
    let state = match (length, chunked) {
        (Some(_), true) => {
            return Err(ResponseError::Framing(
                "both Content-Length and Transfer-Encoding",
            ));
        }
        // What follows 101 is another protocol's.
        _ if status == 101 => State::UntilClose,
        _ if status < 200 || status == 204 || status == 304 => State::Length(0),
        (None, true) => State::ChunkSize,
        (Some(length), false) => State::Length(length),
        (None, false) => State::UntilClose,
    };
    Ok((head, state))
}

fn has_token(value: &str, token: &str) -> bool {
    value
        .split(',')
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads it all, so many bytes at a time; the bodies, and then an error.
    fn bodies(text: &[u8], step: usize) -> (Vec<String>, Option<ResponseError>) {
        let mut reader = ResponseReader::default();
        let mut bodies = Vec::new();
        for mut bytes in text.chunks(step) {
            loop {
                match reader.read(&mut bytes) {
                    Ok(None) => break,
                    Ok(Some(Piece::Head(_))) => bodies.push(String::new()),
                    Ok(Some(Piece::Body(body))) => {
                        let text = std::str::from_utf8(body).unwrap();
                        bodies.last_mut().unwrap().push_str(text);
                    }
                    Ok(Some(Piece::End)) => {}
                    Err(error) => return (bodies, Some(error)),
                }
            }
        }
        (bodies, None)
    }

    const TWO: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst\
        HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nsec\r\n3\r\nond\r\n0\r\nT: 1\r\n\r\n";

    #[test]
    fn answers_are_read_one_after_the_other_however_they_are_cut() {
        for step in 1..=TWO.len() {
            assert_eq!(
                bodies(TWO, step),
                (vec!["first".to_owned(), "second".to_owned()], None),
                "{step} bytes at a time"
            );
        }
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let mut reader = ResponseReader::default();
        let mut bytes = &b"HTTP/1.1 200 OK\r\n\r\nall"[..];
        assert!(matches!(reader.read(&mut bytes), Ok(Some(Piece::Head(_)))));
        assert_eq!(reader.read(&mut bytes), Ok(Some(Piece::Body(b"all"))));
        assert_eq!(reader.closed(), Ok(()));
    }

    #[test]
    fn a_connection_that_ends_within_an_answer_says_what_is_missing() {
        let table: [(&[u8], &str); 3] = [
            (b"HTTP/1.1 200", "the head"),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall",
                "6 bytes",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall",
                "some chunks",
            ),
        ];
        for (mut bytes, expected) in table {
            let mut reader = ResponseReader::default();
            while reader.read(&mut bytes).unwrap().is_some() {}
            let error = reader.closed().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_refused() {
        let table = [
            (
                "Content-Length: 1\r\nContent-Length: 2\r\n",
                "two different",
            ),
            ("Content-Length: +1\r\n", "no number"),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
                "both",
            ),
            ("Transfer-Encoding: gzip\r\n", "other than chunked"),
        ];
        for (fields, expected) in table {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            let error = bodies(text.as_bytes(), 1000).1.expect(fields).to_string();
            assert!(error.contains(expected), "{fields}: {error}");
        }
        for (text, expected) in [
            (&b"RTMP/1.1 200 OK\r\n\r\n"[..], "no HTTP"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
                "no number",
            ),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
                "more bytes",
            ),
        ] {
            let error = bodies(text, 1000).1.unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let endless = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'a'; MAX_HEAD_BYTES]].concat();
        assert_eq!(bodies(&endless, 1000).1, Some(ResponseError::LongHead));
    }
}
