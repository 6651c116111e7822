//! The number of records that a key may encrypt.

use std::io;

use rustls::SupportedCipherSuite;

use super::MAX_FRAGMENT;

/// Records that the delivery of streams leaves for what ends the connection: the rest of a
/// message, a WebSocket's close, `close_notify`.
const RESERVED: u64 = 1_024;

/// The records that a key may still encrypt (RFC 8446 §5.5), a lower bound.
#[derive(Debug)]
pub(super) struct KeyLimit {
    left: u64,
}

impl KeyLimit {
    /// The limit of a key of `suite` that has encrypted `used` records.
    pub(super) fn new(suite: SupportedCipherSuite, used: u64) -> Self {
        Self {
            left: max_records(suite).saturating_sub(used),
        }
    }

    /// The limit of a key that may encrypt `left` records more.
    pub(super) fn of_records(left: u64) -> Self {
        Self { left }
    }

    /// The records that it may still encrypt.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// No limit: the key is renewed.
    pub(super) fn none() -> Self {
        Self { left: u64::MAX }
    }

    /// A limit that lets the delivery make `left` calls more which send little.
    #[cfg(test)]
    pub(super) fn of_delivery(left: u64) -> Self {
        Self {
            left: RESERVED + left,
        }
    }

    /// Checks that more of a stream may be sent.
    ///
    /// # Errors
    /// `QuotaExceeded` if only the reserve is left.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.left > RESERVED {
            true => Ok(()),
            false => Err(exhausted()),
        }
    }

    /// Counts the records of a call that sends `bytes`.
    ///
    /// # Errors
    /// `QuotaExceeded` if the key may encrypt no more.
    pub(super) fn count(&mut self, bytes: usize) -> io::Result<()> {
        // The last one of a call need not be full.
        let records = bytes / MAX_FRAGMENT + 1;
        self.left = self.left.saturating_sub(records as u64);
        match self.left {
            0 => Err(exhausted()),
            _ => Ok(()),
        }
    }
}

/// The most records that a key of `suite` may encrypt.
pub(super) fn max_records(suite: SupportedCipherSuite) -> u64 {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
    }
}

/// The error of a connection whose key may encrypt no more records.
fn exhausted() -> io::Error {
    io::Error::new(
        io::ErrorKind::QuotaExceeded,
        "the key has encrypted as many TLS records as it may: connect again",
    )
}
