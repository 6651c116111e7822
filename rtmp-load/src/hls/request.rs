//! One HTTP connection of a player: one request after the other, each when the
//! last is answered.

use crate::{
    clock::Instant,
    dialogue::Outboxes,
    http::{
        self,
        response::{Head, Piece, ResponseError, ResponseReader},
    },
};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// The path with its query.
    pub(super) target: String,
    /// First byte, and number of bytes if that is known.
    pub(super) range: Option<(u64, Option<u64>)>,
}

impl Request {
    pub(super) fn of(target: String) -> Self {
        Self {
            target,
            range: None,
        }
    }
}

#[derive(Debug)]
struct Asked {
    request: Request,
    at: Instant,
    /// When something last came, or the request was sent.
    active_at: Instant,
    head: Option<Head>,
}

/// A connection's state: whether it is asked for something, and whether the
/// server will close it.
///
/// ```text
///        ┌─ ask ─▶ asked ─ answer ─▶┐
/// idle ◀─┴──────────────────────────┤
///   ▲                               └─ answer, Connection: close ─▶ closing
///   └───────────────────── closed ─────────────────────────────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Requester {
    /// The number of its connection.
    connection: usize,
    host: String,
    reader: ResponseReader,
    asked: Option<Asked>,
    closing: bool,
    /// To be asked when the connection has been closed.
    waiting: Option<(Request, Instant)>,
    /// True if the connection has brought an answer.
    used: bool,
}

impl Requester {
    pub(super) fn new(connection: usize, host: String) -> Self {
        Self {
            connection,
            host,
            reader: ResponseReader::default(),
            asked: None,
            closing: false,
            waiting: None,
            used: false,
        }
    }

    /// True if it is asked for nothing.
    pub(super) fn is_free(&self) -> bool {
        self.asked.is_none() && self.waiting.is_none()
    }

    /// Since when nothing has come of what it is asked for.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        let asked = self.asked.as_ref().map(|asked| asked.active_at);
        asked.or(self.waiting.as_ref().map(|(_, since)| *since))
    }

    /// Asks; only if it is free.
    pub(super) fn ask(&mut self, request: Request, now: Instant, out: &mut Outboxes) {
        if self.closing {
            self.waiting = Some((request, now));
            return;
        }
        let fields = match request.range {
            None => String::new(),
            Some((start, None)) => format!("Range: bytes={start}-\r\n"),
            Some((start, Some(length))) => {
                format!("Range: bytes={start}-{}\r\n", start + length.max(1) - 1)
            }
        };
        let out = &mut out[self.connection];
        http::get(&request.target, &self.host, &fields, out);
        self.asked = Some(Asked {
            request,
            at: now,
            active_at: now,
            head: None,
        });
    }

    /// Reads the next piece of the answer off `bytes`.
    ///
    /// # Errors
    /// If they are no answer to what it was asked.
    pub(super) fn read<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        now: Instant,
    ) -> Result<Option<Piece<'a>>, ResponseError> {
        let Some(asked) = &mut self.asked else {
            return match bytes.len() {
                0 => Ok(None),
                count => Err(ResponseError::Unasked(count)),
            };
        };
        asked.active_at = now;
        let piece = self.reader.read(bytes)?;
        if let Some(Piece::Head(head)) = &piece {
            asked.head = Some(head.clone());
        }
        Ok(piece)
    }

    /// The answer is complete, by the end of its connection if `closed`: when
    /// it was asked for, and its head.
    pub(super) fn finish(&mut self, closed: bool) -> Option<(Instant, Head)> {
        let asked = self.asked.take()?;
        let head = asked.head?;
        self.closing = head.closes && !closed;
        self.used = !closed;
        Some((asked.at, head))
    }

    /// The head of the answer that comes now.
    pub(super) fn head(&self) -> Option<&Head> {
        self.asked.as_ref()?.head.as_ref()
    }

    /// What it is asked for now.
    pub(super) fn request(&self) -> Option<&Request> {
        self.asked.as_ref().map(|asked| &asked.request)
    }

    /// Bytes of a body that are certain to come.
    pub(super) fn body_to_come(&self) -> u64 {
        match self.head() {
            Some(_) => self.reader.body_to_come(),
            None => 0,
        }
    }

    /// Takes note of bytes of the body that were thrown away unread.
    pub(super) fn skip(&mut self, bytes: usize, now: Instant) {
        self.reader.skip(bytes as u64);
        if let Some(asked) = &mut self.asked {
            asked.active_at = now;
        }
    }

    /// The connection has ended; true if that completes the answer. A request
    /// that the server did not begin to answer, since it was about to close a
    /// connection that had served before, is sent again (RFC 9112 §9.3.1).
    ///
    /// # Errors
    /// If it ended within an answer.
    pub(super) fn closed(
        &mut self,
        now: Instant,
        out: &mut Outboxes,
    ) -> Result<bool, ResponseError> {
        let used = std::mem::take(&mut self.used);
        self.closing = false;
        out[self.connection].clear();
        match self.asked.take() {
            None => {
                self.reader = ResponseReader::default();
                if let Some((request, _)) = self.waiting.take() {
                    self.ask(request, now, out);
                }
                Ok(false)
            }
            Some(asked) if used && asked.head.is_none() && self.reader.is_between_answers() => {
                self.ask(asked.request, now, out);
                Ok(false)
            }
            Some(asked) => {
                self.reader.closed()?;
                self.asked = Some(asked);
                Ok(true)
            }
        }
    }
}
