//! A player of HTTP-FLV or WebSocket-FLV: one request, one answer, then tags
//! until the connection ends. No I/O.

use crate::{
    address::{Protocol, StreamAddress},
    flv_tags::{FlvError, FlvWalker, Tag},
    http::{
        self,
        response::{Head, Piece, ResponseError, ResponseReader},
        websocket::{FrameError, FrameReader, Key},
    },
};

/// The most of a refusal's body that is reported, in bytes.
const MAX_REASON_BYTES: usize = 200;

/// The reason for which a connection is at its end.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum FlvPlayerError {
    /// No HTTP.
    #[error("{0}")]
    Response(#[from] ResponseError),
    /// No WebSocket, or its end.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// No FLV.
    #[error("{0}")]
    Flv(#[from] FlvError),
    /// The server said no.
    #[error("refused: {status} {reason}")]
    Refused {
        /// The status code.
        status: u16,
        /// The server's words.
        reason: String,
    },
    /// The server did not agree to the WebSocket.
    #[error("the server answered 101 with a wrong Sec-WebSocket-Accept or none")]
    Accept,
    /// The answer ended in order.
    #[error("the server ended the stream")]
    End,
}

/// See the module's description.
pub(crate) struct FlvPlayer {
    response: ResponseReader,
    websocket: Option<WebSocket>,
    /// The head of a refusal, and its body so far.
    refusal: Option<(Head, Vec<u8>)>,
    walker: FlvWalker,
}

struct WebSocket {
    accept: String,
    frames: FrameReader,
}

impl FlvPlayer {
    /// Begins on a fresh connection by appending the request to `out`.
    pub(crate) fn new(address: &StreamAddress, checksums: bool, out: &mut Vec<u8>) -> Self {
        let (target, host) = (address.target(), address.host_field());
        let websocket = (address.protocol == Protocol::WebSocketFlv).then(|| {
            let Key { key, accept } = Key::new();
            let fields = format!(
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: \
                 13\r\nSec-WebSocket-Key: {key}\r\n"
            );
            http::get(&target, &host, &fields, out);
            WebSocket {
                accept,
                frames: FrameReader::default(),
            }
        });
        if websocket.is_none() {
            http::get(&target, &host, "", out);
        }
        Self {
            response: ResponseReader::default(),
            websocket,
            refusal: None,
            walker: FlvWalker::new(checksums),
        }
    }

    /// Takes bytes as they came; appends answers to `out`. `agreed` is called
    /// when the server begins the stream, `sink` for each tag.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut sink: impl FnMut(Option<Tag<'_>>),
    ) -> Result<(), FlvPlayerError> {
        while let Some(piece) = self.response.read(&mut bytes)? {
            match piece {
                Piece::Head(head) => {
                    if self.agrees(&head)? {
                        sink(None);
                    } else {
                        self.refusal = Some((head, Vec::new()));
                    }
                }
                Piece::Body(body) => match &mut self.refusal {
                    Some((_, reason)) => {
                        let room = MAX_REASON_BYTES.saturating_sub(reason.len());
                        reason.extend_from_slice(&body[..body.len().min(room)]);
                    }
                    None => self.stream(body, out, &mut sink)?,
                },
                Piece::End => return Err(self.end()),
            }
        }
        Ok(())
    }

    /// The connection has ended: what that means, if it is more than that.
    pub(crate) fn closed(&mut self) -> Option<FlvPlayerError> {
        match self.response.closed() {
            _ if self.refusal.is_some() => Some(self.end()),
            Ok(()) => None,
            Err(error) => Some(error.into()),
        }
    }

    /// True if the server begins the stream.
    fn agrees(&self, head: &Head) -> Result<bool, FlvPlayerError> {
        match &self.websocket {
            None => Ok(head.status == 200),
            Some(_) if head.status != 101 => Ok(false),
            Some(websocket) if head.websocket_accept.as_ref() == Some(&websocket.accept) => {
                Ok(true)
            }
            Some(_) => Err(FlvPlayerError::Accept),
        }
    }

    fn stream(
        &mut self,
        mut bytes: &[u8],
        out: &mut Vec<u8>,
        mut sink: impl FnMut(Option<Tag<'_>>),
    ) -> Result<(), FlvPlayerError> {
        let Some(websocket) = &mut self.websocket else {
            return Ok(self.walker.walk(bytes, |tag| sink(Some(tag)))?);
        };
        while let Some(payload) = websocket.frames.read(&mut bytes, out)? {
            self.walker.walk(payload, |tag| sink(Some(tag)))?;
        }
        Ok(())
    }

    fn end(&mut self) -> FlvPlayerError {
        match self.refusal.take() {
            None => FlvPlayerError::End,
            Some((head, body)) => {
                let body = String::from_utf8_lossy(&body);
                let reason = match body.trim() {
                    "" => head.reason,
                    body => format!("{} ({body})", head.reason),
                };
                FlvPlayerError::Refused {
                    status: head.status,
                    reason,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(url: &str) -> (FlvPlayer, String) {
        let mut out = Vec::new();
        let player = FlvPlayer::new(&StreamAddress::parse(url).unwrap(), false, &mut out);
        (player, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_refusal_says_the_servers_words() {
        for url in ["http://a/live/s.flv", "ws://a/live/s.flv"] {
            let (mut player, request) = player(url);
            assert!(
                request.starts_with("GET /live/s.flv HTTP/1.1\r\nHost: a\r\n"),
                "{request}"
            );
            let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nno stream\n";
            let error = player.receive(answer, &mut Vec::new(), |_| {}).unwrap_err();
            assert_eq!(error.to_string(), "refused: 404 Not Found (no stream)");
        }
    }

    #[test]
    fn a_refusal_may_end_with_the_connection() {
        let (mut player, _) = player("http://a/live/s.flv");
        let answer = b"HTTP/1.0 403 Forbidden\r\n\r\n";
        player.receive(answer, &mut Vec::new(), |_| {}).unwrap();
        let error = player.closed().unwrap();
        assert_eq!(error.to_string(), "refused: 403 Forbidden");
    }

    #[test]
    fn an_answer_to_another_websocket_is_refused() {
        let (mut player, _) = player("ws://a/live/s.flv");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n";
        let result = player.receive(answer, &mut Vec::new(), |_| {});
        assert_eq!(result, Err(FlvPlayerError::Accept));
    }

    #[test]
    fn a_body_shorter_than_its_length_is_found() {
        let (mut player, _) = player("http://a/live/s.flv");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nFLV";
        player.receive(answer, &mut Vec::new(), |_| {}).unwrap();
        let error = player.closed().unwrap().to_string();
        assert!(error.contains("96 bytes"), "{error}");
    }
}
