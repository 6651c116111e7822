//! The handshake before any chunk (RTMP 1.0 §5.2), simple or with digests.
//!
//! `rml_rtmp` knows both forms and tells them apart; around it stands a cap on
//! what it is given. The peer's third packet (C2 or S2) is not verified: Flash
//! players never passed that check.

use std::fmt;

use rml_rtmp::handshake::{Handshake as Inner, HandshakeProcessResult, PeerType};
use serde::{Deserialize, Serialize};

/// Bytes that a peer sends in its handshake: version, first and second packet.
const HANDSHAKE_LEN: usize = 1 + 1536 + 1536;

/// The reason for which a handshake failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first byte is not 3: encryption (6, 8), HTTP or something else.
    #[error("the peer does not begin with RTMP version 3")]
    Version,
    /// Anything else that the handshake's implementation did not like.
    #[error("handshake failed: {0}")]
    Failed(String),
}

/// Bytes of the peer's third packet, which ends its handshake.
const LAST_PACKET_LEN: usize = 1536;

/// One side of a handshake in progress.
///
/// The caller passes the peer's bytes to [`Handshake::read`] as they come, and
/// sends what it appends, until it returns true. It can be written down and
/// read again as long as it [is portable](Handshake::is_portable).
#[derive(Serialize, Deserialize)]
pub struct Handshake {
    /// Answers the peer's first two packets; then the third is only counted,
    /// and thousands that join at a time hold nothing while they wait for it.
    #[serde(skip)]
    inner: Option<Box<Inner>>,
    /// Bytes of the peer's handshake still to come.
    missing: usize,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("missing", &self.missing)
            .finish_non_exhaustive()
    }
}

impl Handshake {
    /// The side that was connected to; it speaks second.
    pub fn server() -> Handshake {
        Handshake {
            inner: None,
            missing: HANDSHAKE_LEN,
        }
    }

    /// The side that connects; appends its first packets (C0, C1) to `out`.
    ///
    /// # Errors
    /// If no digest can be made.
    pub fn client(out: &mut Vec<u8>) -> Result<Handshake, HandshakeError> {
        let mut inner = Box::new(Inner::new(PeerType::Client));
        let packets = inner.generate_outbound_p0_and_p1().map_err(failed)?;
        out.extend_from_slice(&packets);
        Ok(Handshake {
            inner: Some(inner),
            missing: HANDSHAKE_LEN,
        })
    }

    /// False from the first byte of the peer's first two packets to the last: what is
    /// kept meanwhile cannot be written down.
    #[must_use]
    pub fn is_portable(&self) -> bool {
        self.inner.is_none()
    }

    /// Takes handshake bytes off the front of `input` and never more than
    /// those; appends what is to be sent to `out`. `true`: the handshake is
    /// complete, and what is left of `input` is chunks.
    ///
    /// # Errors
    /// The peer does not speak RTMP, or not this version.
    pub fn read(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, HandshakeError> {
        self.answer(input, out)?;
        let counted = input.len().min(self.missing);
        *input = &input[counted..];
        self.missing -= counted;
        Ok(self.missing == 0)
    }

    /// Takes what there is of the peer's first two packets.
    fn answer(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HandshakeError> {
        let unanswered = self.missing.saturating_sub(LAST_PACKET_LEN);
        let (taken, rest) = input.split_at(input.len().min(unanswered));
        if self.missing == HANDSHAKE_LEN && taken.first().is_some_and(|&version| version != 3) {
            return Err(HandshakeError::Version);
        }
        *input = rest;
        self.missing -= taken.len();
        if taken.is_empty() {
            return Ok(());
        }
        let inner = self
            .inner
            .get_or_insert_with(|| Box::new(Inner::new(PeerType::Server)));
        match inner.process_bytes(taken).map_err(failed)? {
            HandshakeProcessResult::InProgress { response_bytes }
            | HandshakeProcessResult::Completed { response_bytes, .. } => {
                out.extend_from_slice(&response_bytes);
            }
        }
        if self.missing <= LAST_PACKET_LEN {
            self.inner = None;
        }
        Ok(())
    }

    /// Bytes of memory held beside the handshake itself, but for what has come
    /// of a packet.
    pub fn heap_bytes(&self) -> usize {
        self.inner.as_ref().map_or(0, |inner| size_of_val(&**inner))
    }
}

fn failed(error: rml_rtmp::handshake::HandshakeError) -> HandshakeError {
    HandshakeError::Failed(error.to_string())
}
