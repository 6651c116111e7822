//! WebSocket frames around what a player is sent (RFC 6455 §5.2): the payload is the log,
//! from wherever the player stands.

use std::io;

use http_flv::websocket;

use super::Player;

/// The longest frame, in bytes. What else a player is sent, such as the answer to a ping,
/// stands between two frames, and the rest of the one under way is copied for that.
const MAX_BYTES: u64 = 65_535;

/// A frame whose header is sent, or is among the private bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    /// Bytes of its payload that are still to come out of the log. They are there: a
    /// frame is begun for what the log has.
    left: u64,
}

impl<D> Player<D> {
    /// Bytes of the log that the frame under way has promised; 0 between two frames, and
    /// without WebSocket.
    pub(super) fn frame_left(&self) -> u64 {
        self.frame.map_or(0, |frame| frame.left)
    }

    /// The end of what may be sent of the log, which goes on to `end`, in the frame under
    /// way. `None` if a frame has been begun: its header is to be sent first.
    pub(super) fn frame_end(&mut self, end: u64) -> Option<u64> {
        let Some(frame) = &mut self.frame else {
            return Some(end);
        };
        if frame.left > 0 {
            return Some(end.min(self.offset + frame.left));
        }
        frame.left = (end - self.offset).min(MAX_BYTES);
        websocket::write_binary_header(frame.left, &mut self.private);
        None
    }

    /// `sent` bytes of the log have gone out.
    pub(super) fn leave_frame(&mut self, sent: u64) {
        if let Some(frame) = &mut self.frame {
            frame.left -= sent;
        }
    }

    /// Adds `bytes` to the private ones: the rest of the frame under way, and what comes
    /// after that in a frame of its own.
    pub(super) fn finish_frame(&mut self, bytes: &[u8]) {
        let Some(frame) = &mut self.frame else {
            self.private.extend_from_slice(bytes);
            return;
        };
        let rest = usize::try_from(frame.left).unwrap_or(usize::MAX);
        let (rest, own) = bytes.split_at(rest.min(bytes.len()));
        self.private.extend_from_slice(rest);
        if !own.is_empty() {
            websocket::write_binary_header(own.len() as u64, &mut self.private);
            self.private.extend_from_slice(own);
        }
        frame.left = 0;
    }

    /// Writes private bytes to the socket. The header of a frame waits in the socket for the
    /// payload, which follows at once.
    pub(super) fn write_private(&mut self) -> io::Result<usize> {
        let more = self.frame_left() > 0;
        self.socket.write(&self.private[self.private_sent..], more)
    }
}
