//! Whoever plays a stream at a fan-out worker, by either protocol.

use super::http_flv::FlvPlayer;
use super::player::PlayerDialogue;
use crate::stream::fanout::{Dialogue, Request};

/// A playing connection, without its socket.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box would cost each RTMP player an allocation"
)]
pub(super) enum Viewer {
    /// An RTMP player.
    Rtmp(PlayerDialogue),
    /// A player of HTTP-FLV or WebSocket-FLV.
    Flv(FlvPlayer),
}

impl Dialogue for Viewer {
    fn receive(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String> {
        match self {
            Self::Rtmp(player) => player.receive(input, replies, requests),
            Self::Flv(player) => player.receive(input, replies, requests),
        }
    }

    fn announce_drain(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Rtmp(player) => player.announce_drain(out),
            Self::Flv(player) => player.announce_drain(out),
        }
    }
}
