//! WebSocket frames from a server, and the few that a player sends (RFC 6455).

use data_encoding::BASE64;
use sha1::{Digest, Sha1};

/// What a server appends to a client's key (RFC 6455 §1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest payload of a control frame, in bytes (RFC 6455 §5.5).
const MAX_CONTROL_BYTES: u64 = 125;
const MAX_HEADER_BYTES: usize = 10;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASK: u8 = 0x80;

/// Opcodes (RFC 6455 §5.2).
mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

/// A server's bytes that are no WebSocket frames, or its goodbye.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A frame that a server may not send.
    #[error("the server sent a WebSocket frame {0}")]
    Forbidden(&'static str),
    /// A frame of a kind that carries no FLV.
    #[error("the server sent a WebSocket frame with opcode {0}, where only binary ones carry FLV")]
    Opcode(u8),
    /// A close frame.
    #[error("the server closed the WebSocket with status {code}{}", if reason.is_empty() { String::new() } else { format!(" ({reason})") })]
    Closed {
        /// The status code; 1005 if there is none (RFC 6455 §7.1.5).
        code: u16,
        /// The server's words.
        reason: String,
    },
}

/// The request's key and what a server has to answer to it.
pub(crate) struct Key {
    /// `Sec-WebSocket-Key`.
    pub key: String,
    /// `Sec-WebSocket-Accept`.
    pub accept: String,
}

impl Key {
    /// A random one.
    pub(crate) fn new() -> Self {
        let key = BASE64.encode(&fastrand::u128(..).to_be_bytes());
        let accept = BASE64.encode(&Sha1::digest(format!("{key}{GUID}")));
        Self { key, accept }
    }
}

/// Reads frames; see the module's description.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    header: Vec<u8>,
    /// The frame whose payload is being read.
    open: Option<Frame>,
    /// True within a message of several frames.
    continues: bool,
    /// The payload of a control frame.
    control: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    remaining: u64,
}

impl FrameReader {
    /// Reads the next bytes of binary messages off `bytes`; `None` if it needs
    /// more. Answers to pings are appended to `out`.
    ///
    /// # Errors
    /// The connection is of no more use.
    pub(crate) fn read<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>, FrameError> {
        loop {
            let frame = match self.open {
                Some(frame) => frame,
                None => match self.header(bytes)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let count = frame.remaining.min(bytes.len() as u64) as usize;
            let (payload, rest) = bytes.split_at(count);
            *bytes = rest;
            let remaining = frame.remaining - count as u64;
            self.open = (remaining > 0).then_some(Frame { remaining, ..frame });
            if frame.opcode < opcode::CLOSE {
                match payload.is_empty() {
                    false => return Ok(Some(payload)),
                    true if remaining > 0 => return Ok(None),
                    true => continue,
                }
            }
            self.control.extend_from_slice(payload);
            if remaining > 0 {
                return Ok(None);
            }
            self.control(frame.opcode, out)?;
            self.control.clear();
        }
    }

    /// Reads a frame's header (RFC 6455 §5.2); `None` if it is not complete.
    fn header(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        loop {
            if let [first, second, length @ ..] = self.header.as_slice() {
                let wanted = match second & !MASK {
                    126 => 2,
                    127 => 8,
                    _ => 0,
                };
                if length.len() == wanted {
                    let length = match wanted {
                        0 => u64::from(second & !MASK),
                        _ => length
                            .iter()
                            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
                    };
                    let frame = self.check(*first, *second, length)?;
                    self.header.clear();
                    self.open = Some(frame);
                    return Ok(Some(frame));
                }
            }
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(None);
            };
            debug_assert!(self.header.len() < MAX_HEADER_BYTES);
            self.header.push(*first);
            *bytes = rest;
        }
    }

    fn check(&mut self, first: u8, second: u8, length: u64) -> Result<Frame, FrameError> {
        if second & MASK != 0 {
            return Err(FrameError::Forbidden("that is masked (RFC 6455 §5.1)"));
        }
        if first & RESERVED != 0 {
            return Err(FrameError::Forbidden(
                "with reserved bits, though no extension was agreed",
            ));
        }
        let ends = first & FIN != 0;
        let opcode = first & 0x0f;
        match opcode {
            opcode::CONTINUATION if !self.continues => {
                return Err(FrameError::Forbidden("that continues no message"));
            }
            opcode::BINARY if self.continues => {
                return Err(FrameError::Forbidden(
                    "that begins a message within another",
                ));
            }
            opcode::CONTINUATION | opcode::BINARY => self.continues = !ends,
            opcode::CLOSE..=opcode::PONG if !ends || length > MAX_CONTROL_BYTES => {
                return Err(FrameError::Forbidden(
                    "of control that is longer than 125 bytes or in pieces",
                ));
            }
            opcode::CLOSE..=opcode::PONG => {}
            _ => return Err(FrameError::Opcode(opcode)),
        }
        Ok(Frame {
            opcode,
            remaining: length,
        })
    }

    fn control(&self, opcode: u8, out: &mut Vec<u8>) -> Result<(), FrameError> {
        match opcode {
            opcode::PING => {
                // Clients mask what they send (RFC 6455 §5.3).
                let mask = fastrand::u32(..).to_be_bytes();
                out.extend_from_slice(&[FIN | opcode::PONG, MASK | self.control.len() as u8]);
                out.extend_from_slice(&mask);
                let masked = self.control.iter().zip(mask.iter().cycle());
                out.extend(masked.map(|(byte, mask)| byte ^ mask));
                Ok(())
            }
            opcode::CLOSE => {
                let code = self.control.first_chunk::<2>();
                let reason = self.control.get(2..).unwrap_or_default();
                Err(FrameError::Closed {
                    code: code.map_or(1005, |code| u16::from_be_bytes(*code)),
                    reason: String::from_utf8_lossy(reason).into_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(frames: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, Option<FrameError>) {
        let (mut payload, mut out) = (Vec::new(), Vec::new());
        let mut reader = FrameReader::default();
        for mut bytes in frames.chunks(step) {
            loop {
                match reader.read(&mut bytes, &mut out) {
                    Ok(Some(bytes)) => payload.extend_from_slice(bytes),
                    Ok(None) => break,
                    Err(error) => return (payload, out, Some(error)),
                }
            }
        }
        (payload, out, None)
    }

    #[test]
    fn messages_are_read_however_they_are_cut_and_pings_are_answered() {
        let mut frames = b"\x02\x03abc\x89\x02hi\x80\x02de\x82\x00".to_vec();
        frames.extend_from_slice(b"\x82\x7e\x01\x00");
        frames.extend_from_slice(&[b'f'; 256]);
        frames.extend_from_slice(b"\x82\x7f\0\0\0\0\0\0\0\x01g");
        for step in 1..frames.len() {
            let (payload, out, error) = read(&frames, step);
            assert_eq!(error, None, "{step} bytes at a time");
            assert_eq!(payload, [&b"abcde"[..], &[b'f'; 256], b"g"].concat());
            assert_eq!(out[..2], [0x8a, 0x82]);
            let pong: Vec<u8> = (0..2).map(|at| out[6 + at] ^ out[2 + at]).collect();
            assert_eq!(pong, b"hi");
        }
    }

    #[test]
    fn frames_that_a_server_may_not_send_are_refused() {
        let table: [(&[u8], &str); 7] = [
            (b"\x82\x81\0\0\0\0a", "masked"),
            (b"\xc2\x01a", "reserved"),
            (b"\x80\x01a", "continues no message"),
            (b"\x02\x01a\x82\x01a", "within another"),
            (b"\x09\x00", "in pieces"),
            (b"\x81\x01a", "opcode 1"),
            (b"\x88\x05\x03\xe9bye", "status 1001 (bye)"),
        ];
        for (frames, expected) in table {
            let error = read(frames, 100).2.expect(expected).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_accept_value_is_that_of_the_standards_example() {
        let accept = BASE64.encode(&Sha1::digest(format!("dGhlIHNhbXBsZSBub25jZQ=={GUID}")));
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
