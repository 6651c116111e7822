//! Protocol control and user control messages (RTMP 1.0 §5.4, §7.1.7).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::envelope::{Message, MessageType};

/// A message about the connection itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Control {
    /// The sender's chunks are this long from now on, in bytes.
    SetChunkSize(u32),
    /// The unfinished message of this chunk stream will not be finished.
    Abort(u32),
    /// Bytes received so far, modulo 2³².
    Acknowledgement(u32),
    /// The receiver shall acknowledge whenever it has received this many bytes.
    WindowAckSize(u32),
    /// The receiver shall not have more than this many unacknowledged bytes
    /// under way.
    SetPeerBandwidth(u32, BandwidthLimit),
    /// An event of a message stream, or a ping.
    UserControl(UserControl),
}

/// The meaning of a [`Control::SetPeerBandwidth`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BandwidthLimit {
    /// Use this window.
    Hard,
    /// Use this window or the one in effect, whichever is smaller.
    Soft,
    /// As hard if the last one was hard, else ignore.
    Dynamic,
}

/// A user control event (RTMP 1.0 §7.1.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UserControl {
    /// This message stream is ready for use.
    StreamBegin(u32),
    /// Playback of this message stream has ended.
    StreamEof(u32),
    /// This message stream has no data for the moment.
    StreamDry(u32),
    /// The player's buffer for a message stream.
    SetBufferLength {
        /// The message stream.
        stream_id: u32,
        /// Length of the buffer, in milliseconds.
        milliseconds: u32,
    },
    /// This message stream is recorded, not live.
    StreamIsRecorded(u32),
    /// Answer with [`UserControl::PingResponse`] and the same timestamp.
    PingRequest(u32),
    /// The answer to [`UserControl::PingRequest`].
    PingResponse(u32),
    /// An event outside the specification (buffer empty, SWF verification).
    Other {
        /// The event type.
        event: u16,
        /// The bytes after it.
        data: Bytes,
    },
}

impl Control {
    /// Reads a control message; `None` if it is of another family or too
    /// short to mean anything.
    pub fn parse(message: &Message) -> Option<Control> {
        let payload = &message.payload;
        let word = || payload.get(..4).map(|mut bytes| bytes.get_u32());
        Some(match message.message_type {
            MessageType::SET_CHUNK_SIZE => Control::SetChunkSize(word()?),
            MessageType::ABORT => Control::Abort(word()?),
            MessageType::ACKNOWLEDGEMENT => Control::Acknowledgement(word()?),
            MessageType::WINDOW_ACK_SIZE => Control::WindowAckSize(word()?),
            MessageType::SET_PEER_BANDWIDTH => {
                // librtmp and others leave the type out: dynamic is what the
                // peers that leave it out expect.
                let limit = match payload.get(4) {
                    Some(0) => BandwidthLimit::Hard,
                    Some(1) => BandwidthLimit::Soft,
                    _ => BandwidthLimit::Dynamic,
                };
                Control::SetPeerBandwidth(word()?, limit)
            }
            MessageType::USER_CONTROL => Control::UserControl(UserControl::parse(payload)?),
            _ => return None,
        })
    }

    /// The message to send: message stream 0, timestamp 0.
    pub fn to_message(&self) -> Message {
        let mut payload = BytesMut::with_capacity(16);
        let message_type = match self {
            Control::SetChunkSize(bytes) => {
                payload.put_u32(*bytes);
                MessageType::SET_CHUNK_SIZE
            }
            Control::Abort(chunk_stream_id) => {
                payload.put_u32(*chunk_stream_id);
                MessageType::ABORT
            }
            Control::Acknowledgement(sequence_number) => {
                payload.put_u32(*sequence_number);
                MessageType::ACKNOWLEDGEMENT
            }
            Control::WindowAckSize(bytes) => {
                payload.put_u32(*bytes);
                MessageType::WINDOW_ACK_SIZE
            }
            Control::SetPeerBandwidth(bytes, limit) => {
                payload.put_u32(*bytes);
                payload.put_u8(match limit {
                    BandwidthLimit::Hard => 0,
                    BandwidthLimit::Soft => 1,
                    BandwidthLimit::Dynamic => 2,
                });
                MessageType::SET_PEER_BANDWIDTH
            }
            Control::UserControl(event) => {
                event.write(&mut payload);
                MessageType::USER_CONTROL
            }
        };
        Message {
            timestamp: 0,
            message_type,
            stream_id: 0,
            payload: payload.freeze(),
        }
    }
}

impl UserControl {
    fn parse(payload: &Bytes) -> Option<UserControl> {
        let event = payload.get(..2).map(|mut bytes| bytes.get_u16())?;
        let word = |at: usize| payload.get(at..at + 4).map(|mut bytes| bytes.get_u32());
        Some(match event {
            0 => UserControl::StreamBegin(word(2)?),
            1 => UserControl::StreamEof(word(2)?),
            2 => UserControl::StreamDry(word(2)?),
            3 => UserControl::SetBufferLength {
                stream_id: word(2)?,
                milliseconds: word(6)?,
            },
            4 => UserControl::StreamIsRecorded(word(2)?),
            6 => UserControl::PingRequest(word(2)?),
            7 => UserControl::PingResponse(word(2)?),
            _ => UserControl::Other {
                event,
                data: payload.slice(2..),
            },
        })
    }

    fn write(&self, out: &mut BytesMut) {
        let (event, word) = match self {
            UserControl::StreamBegin(stream_id) => (0, *stream_id),
            UserControl::StreamEof(stream_id) => (1, *stream_id),
            UserControl::StreamDry(stream_id) => (2, *stream_id),
            UserControl::SetBufferLength {
                stream_id,
                milliseconds,
            } => {
                out.put_u16(3);
                out.put_u32(*stream_id);
                out.put_u32(*milliseconds);
                return;
            }
            UserControl::StreamIsRecorded(stream_id) => (4, *stream_id),
            UserControl::PingRequest(timestamp) => (6, *timestamp),
            UserControl::PingResponse(timestamp) => (7, *timestamp),
            UserControl::Other { event, data } => {
                out.put_u16(*event);
                out.put_slice(data);
                return;
            }
        };
        out.put_u16(event);
        out.put_u32(word);
    }
}
