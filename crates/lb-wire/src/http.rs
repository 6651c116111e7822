//! HTTP/1 as far as checks speak it: a request, the head of its answer, a chunked body
//! (RFC 9112).

use data_encoding::BASE64;

/// The longest head of an answer that is read, in bytes.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Number of header fields of an answer that are understood.
const MAX_HEADERS: usize = 100;

/// The longest line with a chunk's size that is read, in bytes.
const MAX_SIZE_LINE_BYTES: usize = 1024;

/// The request for a page. HTTP/1.0: the body comes in one piece, of most servers.
pub fn request(path: &str, host: &str) -> String {
    request_as(path, host, None)
}

/// The same for a user with a password (RFC 7617).
pub fn request_as(path: &str, host: &str, credentials: Option<(&str, &str)>) -> String {
    let authorization = credentials.map_or(String::new(), |(user, password)| {
        let basic = BASE64.encode(format!("{user}:{password}").as_bytes());
        format!("Authorization: Basic {basic}\r\n")
    });
    format!(
        "GET {path} HTTP/1.0\r\nUser-Agent: Millrace\r\nHost: {host}\r\n\
         {authorization}Connection: close\r\n\r\n"
    )
}

/// The head of an answer, as far as it matters.
#[derive(Debug)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Length of the body, where the server says so: it may keep the connection
    /// open behind it.
    pub content_length: Option<usize>,
    /// True if the body is chunked. SRS sends streams so, whatever the request's version.
    pub is_chunked: bool,
}

impl Head {
    /// The head that `bytes` begin with, and its length; `None` while it is not whole.
    ///
    /// # Errors
    /// It is none, or too long.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, String> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        let length = match head.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD_BYTES => {
                return Err("the answer's header does not end".to_owned());
            }
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(error) => return Err(format!("the answer is not HTTP: {error}")),
        };
        let value = |name: &str| {
            let mut headers = head.headers.iter();
            let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
            str::from_utf8(header.value).ok().map(str::trim)
        };
        let coding = value("transfer-encoding");
        let head = Self {
            status: head.code.unwrap_or_default(),
            content_length: value("content-length").and_then(|value| value.parse().ok()),
            is_chunked: coding.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")),
        };
        Ok(Some((head, length)))
    }
}

/// Takes the chunks' framing off a body (RFC 9112 §7.1).
///
/// ```text
/// size line ──▶ data ──▶ CRLF, the next size line ──▶ …
/// ```
#[derive(Debug, Default)]
pub struct Chunks {
    /// The size line, while it is not whole.
    line: Vec<u8>,
    /// Bytes of data that are left of the chunk.
    left: usize,
}

impl Chunks {
    /// Hands the data in `bytes` to `sink`, piece by piece. What follows the last chunk,
    /// of size 0, is no data.
    ///
    /// # Errors
    /// The body is not chunked; or what `sink` says.
    pub fn take(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (data, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= data.len();
                bytes = rest;
                sink(data)?;
                continue;
            }
            let (first, rest) = bytes.split_at(1);
            bytes = rest;
            // The end of the data before.
            if self.line.is_empty() && matches!(first, b"\r" | b"\n") {
                continue;
            }
            self.line.extend(first);
            match httparse::parse_chunk_size(&self.line) {
                Ok(httparse::Status::Complete((_, size))) => {
                    self.left = usize::try_from(size).unwrap_or(usize::MAX);
                    self.line.clear();
                }
                Ok(httparse::Status::Partial) if self.line.len() < MAX_SIZE_LINE_BYTES => {}
                _ => return Err("the answer's chunks have no sizes".to_owned()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The data in `body`, of which `piece` bytes come at a time.
    fn data(body: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        for bytes in body.chunks(piece) {
            chunks.take(bytes, |some| {
                data.extend(some);
                Ok(())
            })?;
        }
        Ok(data)
    }

    #[test]
    fn chunks_are_read_however_they_are_cut() {
        let body = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        for piece in 1..=body.len() {
            assert_eq!(data(body, piece), Ok(b"abc0123456789".to_vec()), "{piece}");
        }
        let wrong = Err("the answer's chunks have no sizes".to_owned());
        assert_eq!(data(b"FLV\x01", 4), wrong);
        assert_eq!(data(&[b'0'; MAX_SIZE_LINE_BYTES], 100), wrong);
    }

    #[test]
    fn the_head_says_how_the_body_comes() {
        let parse = |bytes: &[u8]| Head::parse(bytes).expect("it is right");
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_none());
        let bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3";
        let (head, length) = parse(bytes).expect("it is whole");
        assert_eq!((head.status, head.content_length), (200, None));
        assert!(head.is_chunked);
        assert_eq!(length, bytes.len() - 1);
        let (head, _) = parse(b"HTTP/1.0 404 No\r\ncontent-length: 7\r\n\r\n").expect("whole");
        assert_eq!((head.status, head.content_length), (404, Some(7)));
        assert!(!head.is_chunked);
    }
}
