//! Whoever plays a stream at a fan-out worker, by either protocol.

use std::sync::Arc;

use rtmp_proto::session::ServerSession;

use super::Server;
use super::client::Client;
use super::http_flv::{FlvPlayer, FlvPlayerPart};
use super::player::{DialoguePart, PlayerDialogue};
use crate::hand_over::{Blob, HandOverError};
use crate::stream::Subscription;
use crate::stream::fanout::{Dialogue, PlayerPart, Request};

/// A playing connection, without its socket.
#[derive(Debug)]
pub(super) enum Viewer {
    /// An RTMP player.
    Rtmp(PlayerDialogue),
    /// A player of HTTP-FLV or WebSocket-FLV.
    Flv(FlvPlayer),
}

impl Viewer {
    /// Goes on with a viewer that this process has had before.
    ///
    /// # Errors
    /// It is of another form, or something that it needs is missing.
    pub(super) fn take_over(
        part: &PlayerPart,
        server: &Server,
        client: Arc<Client>,
        subscription: Subscription,
    ) -> Result<Self, HandOverError> {
        let dialogue = &part.dialogue;
        match part.framing {
            None => {
                let (dialogue, stream_id) = (dialogue.read()?, part.stream_id);
                PlayerDialogue::take_over(dialogue, server, client, subscription, stream_id)
                    .map(Self::Rtmp)
            }
            Some(_) => {
                let dialogue = dialogue.read()?;
                FlvPlayer::take_over(dialogue, server, client, subscription).map(Self::Flv)
            }
        }
    }
}

/// Checks that this program can go on with a viewer.
///
/// # Errors
/// Why it cannot.
pub(super) fn check(part: &PlayerPart) -> Result<(), HandOverError> {
    part.socket.check()?;
    match part.framing {
        None => drop(part.dialogue.read::<DialoguePart<ServerSession>>()?),
        Some(_) => drop(part.dialogue.read::<FlvPlayerPart>()?),
    }
    Ok(())
}

impl Dialogue for Viewer {
    fn part(&self) -> Result<Blob, HandOverError> {
        match self {
            Self::Rtmp(player) => player.part(),
            Self::Flv(player) => player.part(),
        }
    }

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
