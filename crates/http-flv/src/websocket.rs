//! WebSocket frames (RFC 6455 §5): a server's are written, a client's read.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// The longest frame of data that a client may send, in bytes: a player has nothing to
/// say.
pub const MAX_DATA_BYTES: u64 = 64 * 1024;
/// The longest payload of a control frame, in bytes (RFC 6455 §5.5).
pub const MAX_CONTROL_BYTES: usize = 125;
/// The longest header of a client's frame, in bytes.
const MAX_HEADER_BYTES: usize = 14;

/// The code of a close that is nobody's fault (RFC 6455 §7.4.1).
pub const NORMAL_CLOSURE: u16 = 1000;
/// The code of a close because the server stops.
pub const GOING_AWAY: u16 = 1001;
/// The code of a close because the client has broken the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const RESERVED: u8 = 0x70;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2);
/// `None` if that is no key, which has 16 bytes.
#[must_use]
pub fn accept(key: &str) -> Option<String> {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let bytes = BASE64.decode(key.as_bytes()).ok()?;
    if bytes.len() != 16 {
        return None;
    }
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    Some(BASE64.encode(&hash))
}

/// Appends the header of a binary frame of `length` bytes: 2, 4 or 10 bytes.
pub fn write_binary_header(length: u64, out: &mut Vec<u8>) {
    write_header(BINARY, length, out);
}

/// Appends a close frame with this code.
pub fn write_close(code: u16, out: &mut Vec<u8>) {
    write_header(CLOSE, 2, out);
    out.extend_from_slice(&code.to_be_bytes());
}

/// Appends the answer to a ping, with the payload of that.
pub fn write_pong(payload: &[u8], out: &mut Vec<u8>) {
    write_header(PONG, payload.len() as u64, out);
    out.extend_from_slice(payload);
}

fn write_header(opcode: u8, length: u64, out: &mut Vec<u8>) {
    out.push(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

/// What a client says that concerns the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A ping with this payload, which is to be answered.
    Ping(Vec<u8>),
    /// It wants to close. Nothing of what follows counts.
    Close,
}

/// The rule that a client has broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// RFC 6455 §5.1.
    #[error("a WebSocket frame is not masked")]
    Unmasked,
    /// RFC 6455 §5.2: no extension has been agreed on.
    #[error("a WebSocket frame has reserved bits or an unknown opcode")]
    Reserved,
    /// RFC 6455 §5.4.
    #[error("a WebSocket frame continues nothing, or a message begins within another")]
    Fragments,
    /// RFC 6455 §5.5.
    #[error("a WebSocket control frame is fragmented, too long or has half a code")]
    Control,
    /// RFC 6455 §5.2: not the shortest form, or the first of 64 bits is set.
    #[error("a WebSocket frame has its length in no valid form")]
    LengthForm,
    /// More than [`MAX_DATA_BYTES`].
    #[error("a WebSocket frame is longer than {MAX_DATA_BYTES} bytes")]
    TooLong,
}

/// The part of a frame that comes next.
///
/// ```text
///           header complete            payload complete
///   Header ─────────────────▶ Payload ──────────────────▶ Header
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    /// The header.
    Header,
    /// The payload of a frame of this opcode, of which so much is to come, in bytes.
    Payload {
        opcode: u8,
        left: u64,
        mask: [u8; 4],
    },
}

/// Reads a client's frames, cut anywhere. Data is skipped.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FrameReader {
    state: State,
    /// Bytes of a header that is not complete.
    header: [u8; MAX_HEADER_BYTES],
    header_len: usize,
    /// The payload of a control frame, unmasked.
    control: Vec<u8>,
    /// A message has begun that is not complete.
    in_message: bool,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self {
            state: State::Header,
            header: [0; MAX_HEADER_BYTES],
            header_len: 0,
            control: Vec::new(),
            in_message: false,
        }
    }
}

impl FrameReader {
    /// Takes bytes off the front of `input` up to the next event; `None` when all of
    /// it has been taken.
    ///
    /// # Errors
    /// The client has broken a rule: the connection has to end.
    pub fn read(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        loop {
            match self.state {
                State::Header => {
                    if !self.read_header(input)? {
                        return Ok(None);
                    }
                }
                State::Payload { opcode, left, mask } => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (payload, rest) = input.split_at(taken);
                    *input = rest;
                    if is_control(opcode) {
                        let at = self.control.len();
                        let masks = mask.iter().cycle().skip(at % mask.len());
                        let unmasked = payload.iter().zip(masks).map(|(byte, mask)| byte ^ mask);
                        self.control.extend(unmasked);
                    }
                    let left = left - taken as u64;
                    if left > 0 {
                        self.state = State::Payload { opcode, left, mask };
                        return Ok(None);
                    }
                    self.state = State::Header;
                    let control = std::mem::take(&mut self.control);
                    match opcode {
                        PING => return Ok(Some(Event::Ping(control))),
                        CLOSE if control.len() == 1 => return Err(FrameError::Control),
                        CLOSE => return Ok(Some(Event::Close)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Takes the bytes of a header; false if it is not complete.
    fn read_header(&mut self, input: &mut &[u8]) -> Result<bool, FrameError> {
        while self.header_len < self.header_bytes()? {
            let Some((&first, rest)) = input.split_first() else {
                return Ok(false);
            };
            *input = rest;
            self.header[self.header_len] = first;
            self.header_len += 1;
        }
        let [first, second, rest @ ..] = &self.header;
        let opcode = first & 0xf;
        let (left, mask) = match second & !MASKED {
            126 => {
                let length = u16::from_be_bytes([rest[0], rest[1]]);
                (u64::from(length), &rest[2..6])
            }
            127 => {
                let length = rest[..8].try_into().expect("eight bytes");
                (u64::from_be_bytes(length), &rest[8..12])
            }
            short => (u64::from(short), &rest[..4]),
        };
        let shortest = match second & !MASKED {
            126 => left >= 126,
            127 => left > u64::from(u16::MAX) && left >> 63 == 0,
            _ => true,
        };
        if !shortest {
            return Err(FrameError::LengthForm);
        }
        if left > MAX_DATA_BYTES {
            return Err(FrameError::TooLong);
        }
        let mask = mask.try_into().expect("four bytes");
        self.state = State::Payload { opcode, left, mask };
        self.header_len = 0;
        if !is_control(opcode) {
            self.in_message = first & FIN == 0;
        }
        Ok(true)
    }

    /// The length of the header, as far as its first bytes tell.
    fn header_bytes(&self) -> Result<usize, FrameError> {
        let [first, second, ..] = self.header;
        if self.header_len == 1 {
            let opcode = first & 0xf;
            if first & RESERVED != 0 || !matches!(opcode, CONTINUATION..=BINARY | CLOSE..=PONG) {
                return Err(FrameError::Reserved);
            }
            match opcode {
                CONTINUATION if !self.in_message => return Err(FrameError::Fragments),
                TEXT | BINARY if self.in_message => return Err(FrameError::Fragments),
                CLOSE..=PONG if first & FIN == 0 => return Err(FrameError::Control),
                _ => {}
            }
        }
        if self.header_len < 2 {
            return Ok(2);
        }
        if second & MASKED == 0 {
            return Err(FrameError::Unmasked);
        }
        let length = second & !MASKED;
        if is_control(first & 0xf) && usize::from(length) > MAX_CONTROL_BYTES {
            return Err(FrameError::Control);
        }
        Ok(match length {
            126 => 8,
            127 => MAX_HEADER_BYTES,
            _ => 6,
        })
    }
}

fn is_control(opcode: u8) -> bool {
    opcode >= CLOSE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 250];

    /// A client's frame, with its length in the shortest form.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            length @ 0..126 => out.push(MASKED | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                out.push(MASKED | 126);
                out.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                out.push(MASKED | 127);
                out.extend((length as u64).to_be_bytes());
            }
        }
        out.extend(MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        out.extend(masked.map(|(byte, mask)| byte ^ mask));
        out
    }

    /// What a client says that sends `bytes`, `step` at a time.
    fn read(bytes: &[u8], step: usize) -> Result<Vec<Event>, FrameError> {
        let mut reader = FrameReader::default();
        let mut events = Vec::new();
        for mut part in bytes.chunks(step) {
            while let Some(event) = reader.read(&mut part)? {
                events.push(event);
            }
            assert!(part.is_empty());
        }
        Ok(events)
    }

    #[test]
    fn a_servers_header_has_2_4_or_10_bytes() {
        let header = |length| {
            let mut out = Vec::new();
            write_binary_header(length, &mut out);
            out
        };
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(65_535), [0x82, 126, 255, 255]);
        assert_eq!(header(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn data_is_skipped_and_pings_and_closes_are_told() {
        let mut bytes = frame(FIN | TEXT, &[7; 300]);
        bytes.extend(frame(BINARY, b"a part"));
        bytes.extend(frame(FIN | PING, b"ping"));
        bytes.extend(frame(FIN | CONTINUATION, &[0; 65_536]));
        bytes.extend(frame(FIN | PONG, b"unasked"));
        bytes.extend(frame(FIN | CLOSE, &1000_u16.to_be_bytes()));
        let events = [Event::Ping(b"ping".to_vec()), Event::Close];
        for step in [1, 2, 7, 1_000_000] {
            assert_eq!(read(&bytes, step).unwrap(), events, "{step}");
        }
    }

    #[test]
    fn who_breaks_a_rule_is_found_out() {
        let cases: &[(&[u8], FrameError)] = &[
            (&[FIN | TEXT, 5], FrameError::Unmasked),
            (&[FIN | 0x40 | TEXT], FrameError::Reserved),
            (&[FIN | 3], FrameError::Reserved),
            (&[FIN | 11], FrameError::Reserved),
            (&[FIN | CONTINUATION], FrameError::Fragments),
            (&[PING], FrameError::Control),
            (&[FIN | PING, MASKED | 126], FrameError::Control),
            (
                &[FIN | TEXT, MASKED | 126, 0, 125, 0, 0, 0, 0],
                FrameError::LengthForm,
            ),
            (
                &[
                    FIN | TEXT,
                    MASKED | 127,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    255,
                    255,
                    0,
                    0,
                    0,
                    0,
                ],
                FrameError::LengthForm,
            ),
            (
                &[FIN | TEXT, MASKED | 127, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0],
                FrameError::TooLong,
            ),
        ];
        for (bytes, error) in cases {
            assert_eq!(read(bytes, 1), Err(*error), "{bytes:?}");
        }
        let within = [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat();
        assert_eq!(read(&within, 1), Err(FrameError::Fragments));
        assert_eq!(read(&frame(FIN | CLOSE, b"x"), 1), Err(FrameError::Control));
    }

    proptest! {
        #[test]
        fn what_is_told_does_not_depend_on_the_cuts(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            step in 1_usize..20,
        ) {
            prop_assert_eq!(read(&bytes, step), read(&bytes, 200));
        }
    }
}
