//! HTTP-FLV and WebSocket-FLV: a request is answered with a stream, or refused.

mod play;
mod player;

pub(super) use play::{Play, PlayPart};
pub(super) use player::{FlvPlayer, FlvPlayerPart};
