//! Both directions of a connection, and what a peer may send beside data.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::messages::{KEY_UPDATE_TYPE, Said, ServerMessages};
use crate::protection::Protection;
use crate::{BadSecret, Cipher, DirectionState, HEADER_BYTES, MAX_FRAGMENT, MAX_RECORD, Version};
use crate::{alert, content_type};

/// A `KeyUpdate` that wants no answer (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [KEY_UPDATE_TYPE, 0, 0, 1, 0];
/// The types of the messages by which client and server would begin a handshake anew
/// (RFC 5246 §7.4.1).
const CLIENT_HELLO_TYPE: u8 = 1;
const HELLO_REQUEST_TYPE: u8 = 0;
/// The most records in a row that hold no data, as BoringSSL counts them.
const MAX_RECORDS_WITHOUT_DATA: u8 = 32;

/// The side of a connection that we are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The peer is a client.
    #[default]
    Server,
    /// The peer is a server.
    Client,
}

/// What a record holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Data, at least a byte.
    Data(&'a [u8]),
    /// Nothing for those who use the connection.
    Nothing,
    /// The server's tickets for later handshakes: messages, whose bodies [`crate::tickets`]
    /// gives.
    Tickets(&'a [u8]),
    /// The peer sends nothing more.
    CloseNotify,
}

/// A record that has been decrypted.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it holds.
    pub content: Content<'a>,
    /// Bytes of the record.
    pub length: usize,
}

/// What came cannot be, or ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is none that the peer has sent.
    #[error("a TLS record cannot be decrypted")]
    Forged,
    /// It is longer than records may be.
    #[error("a TLS record is too long")]
    TooLong,
    /// The peer must not send it.
    #[error("the peer sent by TLS {0}")]
    Unexpected(&'static str),
    /// It cannot be read.
    #[error("the peer sent by TLS {0}")]
    Unreadable(&'static str),
    /// A field of it has a value that it must not have.
    #[error("the peer sent by TLS {0}")]
    Illegal(&'static str),
    /// The peer ends the connection.
    #[error("the peer sent the TLS alert {0}")]
    Alert(u8),
}

impl RecordError {
    /// The alert that the peer is sent for it.
    #[must_use]
    pub fn alert(&self) -> Option<u8> {
        Some(match self {
            Self::Forged => alert::BAD_RECORD_MAC,
            Self::TooLong => alert::RECORD_OVERFLOW,
            Self::Unexpected(_) => alert::UNEXPECTED_MESSAGE,
            Self::Unreadable(_) => alert::DECODE_ERROR,
            Self::Illegal(_) => alert::ILLEGAL_PARAMETER,
            Self::Alert(_) => return None,
        })
    }
}

/// What a connection knows after its handshake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Our side.
    #[serde(default)]
    pub role: Role,
    /// The version of TLS.
    pub version: Version,
    /// The cipher of both directions.
    pub cipher: Cipher,
    /// What we send.
    pub write: DirectionState,
    /// What the peer sends.
    pub read: DirectionState,
    /// The most records that one of our keys may protect (RFC 8446 §5.5). In TLS 1.3 another
    /// one is taken before; in TLS 1.2, the user of the connection counts.
    pub max_records: u64,
    /// The peer wants an answer.
    pub answer_due: bool,
    /// Records in a row that held no data.
    pub without_data: u8,
    /// The peer of TLS 1.2 has begun another handshake, which we have declined or shall.
    #[serde(default)]
    pub has_begun_anew: bool,
    /// What the server has said of TLS 1.3 itself.
    #[serde(default)]
    pub messages: ServerMessages,
}

impl State {
    /// That of a connection whose handshake has just been made.
    #[must_use]
    pub fn new(
        role: Role,
        version: Version,
        cipher: Cipher,
        [write, read]: [DirectionState; 2],
        max_records: u64,
    ) -> Self {
        Self {
            role,
            version,
            cipher,
            write,
            read,
            max_records,
            answer_due: false,
            without_data: 0,
            has_begun_anew: false,
            messages: ServerMessages::default(),
        }
    }
}

/// The records of a connection.
pub struct RecordLayer {
    role: Role,
    version: Version,
    cipher: Cipher,
    write: Protection,
    read: Protection,
    max_records: u64,
    answer_due: bool,
    without_data: u8,
    has_begun_anew: bool,
    messages: ServerMessages,
}

impl fmt::Debug for RecordLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            role,
            version,
            cipher,
            ..
        } = self;
        write!(f, "RecordLayer({role:?}, {version:?}, {cipher:?})")
    }
}

impl RecordLayer {
    /// Goes on with a connection.
    ///
    /// # Errors
    /// A secret is none of the cipher's.
    pub fn new(state: State) -> Result<Self, BadSecret> {
        let State {
            version, cipher, ..
        } = state;
        Ok(Self {
            role: state.role,
            version,
            cipher,
            write: Protection::new(version, cipher, state.write)?,
            read: Protection::new(version, cipher, state.read)?,
            max_records: state.max_records,
            answer_due: state.answer_due,
            without_data: state.without_data,
            has_begun_anew: state.has_begun_anew,
            messages: state.messages,
        })
    }

    /// What is to be known to go on with it. One of both may go on, and no more: a number
    /// that protects two records gives their contents away.
    #[must_use]
    pub fn state(&self) -> State {
        State {
            role: self.role,
            version: self.version,
            cipher: self.cipher,
            write: self.write.state(),
            read: self.read.state(),
            max_records: self.max_records,
            answer_due: self.answer_due,
            without_data: self.without_data,
            has_begun_anew: self.has_begun_anew,
            messages: self.messages.clone(),
        }
    }

    /// Decrypts the record at the beginning of `bytes` in its place; `None` if it has not
    /// come as a whole.
    ///
    /// # Errors
    /// It cannot be, or ends the connection: nothing that follows is to be read.
    pub fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<Opened<'a>>, RecordError> {
        let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let outer_type = header[0];
        let length = HEADER_BYTES + usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length > MAX_RECORD {
            return Err(RecordError::TooLong);
        }
        // All else is sent before a handshake ends, or by nobody who has the key.
        if self.version == Version::Tls13 && outer_type != content_type::APPLICATION_DATA {
            return Err(RecordError::Unexpected("a record that is not encrypted"));
        }
        let Some(record) = bytes.get_mut(..length) else {
            return Ok(None);
        };
        let (content_type, payload) = self.read.open(record)?;
        let payload = &record[payload];
        if self.messages.is_within() && content_type != content_type::HANDSHAKE {
            let what = "another record within a message of the handshake";
            return Err(RecordError::Unexpected(what));
        }
        let content = match content_type {
            content_type::APPLICATION_DATA if payload.is_empty() => Content::Nothing,
            content_type::APPLICATION_DATA => Content::Data(payload),
            content_type::ALERT => self.read_alert(payload)?,
            content_type::HANDSHAKE => self.read_handshake(payload)?,
            _ => return Err(RecordError::Unexpected("a record of an unknown type")),
        };
        self.without_data = match content {
            Content::Data(_) | Content::CloseNotify => 0,
            Content::Nothing | Content::Tickets(_)
                if self.without_data >= MAX_RECORDS_WITHOUT_DATA =>
            {
                return Err(RecordError::Unexpected("too many records without data"));
            }
            Content::Nothing | Content::Tickets(_) => self.without_data + 1,
        };
        Ok(Some(Opened { content, length }))
    }

    fn read_alert(&self, payload: &[u8]) -> Result<Content<'static>, RecordError> {
        let &[level, description] = payload else {
            return Err(RecordError::Unreadable("an alert of another length"));
        };
        match (level, description) {
            (alert::WARNING | alert::FATAL, alert::CLOSE_NOTIFY) => Ok(Content::CloseNotify),
            (alert::WARNING, alert::USER_CANCELED) => Ok(Content::Nothing),
            // They have no warnings in TLS 1.3 (RFC 8446 §6).
            (alert::WARNING, _) if self.version == Version::Tls12 => Ok(Content::Nothing),
            (alert::WARNING | alert::FATAL, _) => Err(RecordError::Alert(description)),
            _ => Err(RecordError::Illegal("an alert of no known level")),
        }
    }

    fn read_handshake<'a>(&mut self, payload: &'a [u8]) -> Result<Content<'a>, RecordError> {
        match (self.role, self.version, payload) {
            (Role::Client, Version::Tls13, _) => match self.messages.read(payload)? {
                Said::Nothing => Ok(Content::Nothing),
                Said::Tickets(messages) => Ok(Content::Tickets(messages)),
                Said::KeyUpdate { wants_answer } => self.follow_key_update(wants_answer),
            },
            // Whole, and alone: keys do not change within a record (RFC 8446 §5.1).
            (Role::Server, Version::Tls13, &[KEY_UPDATE_TYPE, 0, 0, 1, wants_answer @ (0 | 1)]) => {
                self.follow_key_update(wants_answer == 1)
            }
            (Role::Server, Version::Tls13, [KEY_UPDATE_TYPE, 0, 0, 1, _]) => Err(
                RecordError::Illegal("a change of its key with an unknown wish"),
            ),
            (Role::Server, Version::Tls12, [CLIENT_HELLO_TYPE, ..])
            | (Role::Client, Version::Tls12, [HELLO_REQUEST_TYPE, 0, 0, 0]) => self.decline(),
            _ => Err(RecordError::Unexpected("a message of the handshake")),
        }
    }

    /// The peer has taken its next key.
    fn follow_key_update(&mut self, wants_answer: bool) -> Result<Content<'static>, RecordError> {
        let renewed = self.read.renew();
        renewed.map_err(|_| RecordError::Unexpected("another key"))?;
        self.answer_due |= wants_answer;
        Ok(Content::Nothing)
    }

    /// The peer of TLS 1.2 begins a handshake anew.
    fn decline(&mut self) -> Result<Content<'static>, RecordError> {
        // The answers would have no bound, as rustls has it.
        if self.has_begun_anew {
            return Err(RecordError::Unexpected("another handshake again"));
        }
        self.has_begun_anew = true;
        self.answer_due = true;
        Ok(Content::Nothing)
    }

    /// True if [`RecordLayer::answer`] has something to say before `bytes` of data are sent.
    #[must_use]
    pub fn has_answer(&self, bytes: usize) -> bool {
        // One is left for it.
        let records = self
            .write
            .number
            .saturating_add(fragments(bytes) as u64 + 1);
        let is_used_up =
            self.version == Version::Tls13 && self.write.number > 0 && records > self.max_records;
        self.answer_due || is_used_up
    }

    /// Appends to `out` what the peer is to hear of the connection itself: that we take our
    /// next key, or that we do not begin another handshake.
    pub fn answer(&mut self, out: &mut Vec<u8>) {
        self.answer_due = false;
        match self.version {
            Version::Tls12 => self.append_alert(alert::WARNING, alert::NO_RENEGOTIATION, out),
            Version::Tls13 => {
                self.append(content_type::HANDSHAKE, &KEY_UPDATE, out);
                let renewed = self.write.renew();
                renewed.expect("a traffic secret has the length of its cipher's hash");
            }
        }
    }

    /// Appends an alert to `out`.
    pub fn append_alert(&mut self, level: u8, description: u8, out: &mut Vec<u8>) {
        self.append(content_type::ALERT, &[level, description], out);
    }

    /// Appends a record to `out`, of at most [`MAX_FRAGMENT`] bytes.
    pub fn append(&mut self, content_type: u8, payload: &[u8], out: &mut Vec<u8>) {
        let (start, prefix) = (out.len(), self.write.prefix());
        out.resize(start + prefix, 0);
        out.extend_from_slice(payload);
        out.resize(out.len() + self.write.suffix(), 0);
        self.write.seal(content_type, &mut out[start..]);
    }

    /// Bytes of the first record before its payload.
    #[must_use]
    pub fn prefix(&self) -> usize {
        self.write.prefix()
    }

    /// Encrypts data of `length` bytes, which stand in `buffer` behind [`RecordLayer::prefix`]
    /// bytes, in their place; returns the length of the records. The buffer has room for
    /// [`MAX_RECORD`] bytes for each [`MAX_FRAGMENT`] bytes of data.
    pub fn seal(&mut self, buffer: &mut [u8], length: usize) -> usize {
        let (prefix, suffix) = (self.write.prefix(), self.write.suffix());
        let stride = prefix + MAX_FRAGMENT + suffix;
        let count = fragments(length);
        // The first payload is in its place already. The last one goes first: it makes room.
        for index in (1..count).rev() {
            let from = prefix + index * MAX_FRAGMENT;
            let to = prefix + length.min((index + 1) * MAX_FRAGMENT);
            buffer.copy_within(from..to, index * stride + prefix);
        }
        let end = length + count * (prefix + suffix);
        for record in buffer[..end].chunks_mut(stride) {
            self.write.seal(content_type::APPLICATION_DATA, record);
        }
        end
    }
}

/// Records that hold `bytes` of data.
fn fragments(bytes: usize) -> usize {
    bytes.div_ceil(MAX_FRAGMENT)
}
