//! Records of TLS 1.3 (RFC 8446 §5) and TLS 1.2 (RFC 5246 §6.2) after the handshake: a
//! server's side or a client's, as bytes. No I/O, no clock.
//!
//! Whoever has made the handshake gives the secrets of both directions. What a connection
//! knows then, a [`State`], can be written down, and another program goes on with it.
//!
//! ```text
//! bytes of the peer ──▶ RecordLayer::open ──▶ Content: data, close_notify, tickets, nothing
//! data ──▶ RecordLayer::seal ──▶ records      RecordLayer::answer ──▶ what it wants to hear
//! ```

mod layer;
mod messages;
mod protection;

pub use layer::{Content, Opened, RecordError, RecordLayer, Role, State};
pub use messages::{ServerMessages, tickets};
pub use protection::{BadSecret, Cipher, DirectionState, Secret, Version};

/// The most bytes of payload in a record (RFC 8446 §5.1).
pub const MAX_FRAGMENT: usize = 1 << 14;
/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 5;
/// The most bytes of a record: header, payload, what a cipher may add (RFC 5246 §6.2.3).
pub const MAX_RECORD: usize = HEADER_BYTES + MAX_FRAGMENT + 2_048;

/// Content types (RFC 8446 §5.1).
pub mod content_type {
    /// An alert.
    pub const ALERT: u8 = 21;
    /// A message of the handshake.
    pub const HANDSHAKE: u8 = 22;
    /// Data.
    pub const APPLICATION_DATA: u8 = 23;
}

/// Levels and descriptions of alerts (RFC 8446 §6, RFC 5246 §7.2).
pub mod alert {
    /// Level: the connection goes on.
    pub const WARNING: u8 = 1;
    /// Level: the connection ends.
    pub const FATAL: u8 = 2;

    /// The sender sends nothing more.
    pub const CLOSE_NOTIFY: u8 = 0;
    /// What came is inappropriate.
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    /// A record cannot be decrypted.
    pub const BAD_RECORD_MAC: u8 = 20;
    /// A record is too long.
    pub const RECORD_OVERFLOW: u8 = 22;
    /// A field has a value that it must not have.
    pub const ILLEGAL_PARAMETER: u8 = 47;
    /// A message cannot be read.
    pub const DECODE_ERROR: u8 = 50;
    /// A user has cancelled something: a `close_notify` follows.
    pub const USER_CANCELED: u8 = 90;
    /// The handshake is not begun anew (TLS 1.2).
    pub const NO_RENEGOTIATION: u8 = 100;
}
