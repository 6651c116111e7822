//! The dialogue of a player with its server, in the protocol of its address:
//! bytes of its connections in, requests and media out. No I/O.
//!
//! A player of HLS has two connections, as browsers do: one for playlists,
//! which a server may hold back, and one for media. All others have one.

use std::{sync::Arc, time::Duration};

use crate::{
    address::{Protocol, StreamAddress},
    client::{self, Client, ClientError, Role},
    clock::Instant,
    flv_player::{FlvPlayer, FlvPlayerError},
    hls::{HlsError, HlsPlayer},
    media::Unit,
    player::Rules,
};

/// The most connections of a player.
pub(crate) const MAX_CONNECTIONS: usize = 2;

/// What is to be sent on each connection, which is opened if it is not.
pub(crate) type Outboxes = [Vec<u8>; MAX_CONNECTIONS];

/// An event of the dialogue.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The server agreed to send the stream.
    Agreed,
    /// Audio, video or data of the stream.
    Media(Unit<'a>),
    /// The player of HLS plays parts.
    LowLatency,
    /// An HTTP request of HLS was answered.
    Answered,
    /// The next unit's time has nothing to do with the last one's.
    Discontinuity,
    /// The buffer was empty for this long.
    Stalled(Duration),
    /// The server did something against the rules that can be played.
    Oddity(&'static str),
}

/// What the end of a connection means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// The end of the dialogue.
    Ends,
    /// Nothing: another connection is opened when there is something to send.
    GoesOn,
}

/// The reason for which a dialogue is at its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialogueError {
    /// In RTMP.
    #[error(transparent)]
    Rtmp(#[from] ClientError),
    /// In HTTP-FLV or WebSocket-FLV.
    #[error(transparent)]
    Flv(#[from] FlvPlayerError),
    /// In HLS.
    #[error(transparent)]
    Hls(#[from] HlsError),
}

/// See the module's description.
pub(crate) enum Dialogue {
    /// Bytes are counted and not read.
    Raw,
    /// RTMP.
    Rtmp(Client),
    /// HTTP-FLV and WebSocket-FLV.
    Flv(Box<FlvPlayer>),
    /// HLS.
    Hls(Box<HlsPlayer>),
}

impl Dialogue {
    /// Begins; the first request is appended to `out`. `inspects` is false if
    /// media is only counted behind the first keyframe.
    ///
    /// # Errors
    /// If no handshake can be made.
    pub(crate) fn new(
        address: &Arc<StreamAddress>,
        rules: &Rules,
        inspects: bool,
        now: Instant,
        out: &mut Outboxes,
    ) -> Result<Self, DialogueError> {
        Ok(match address.protocol {
            Protocol::Raw => Self::Raw,
            Protocol::Rtmp => {
                let address = Arc::clone(address);
                let client = Client::new(Role::Player, address, rules.verify, &mut out[0])?;
                Self::Rtmp(client)
            }
            Protocol::HttpFlv | Protocol::WebSocketFlv => {
                Self::Flv(Box::new(FlvPlayer::new(address, rules.verify, &mut out[0])))
            }
            Protocol::Hls => {
                Self::Hls(Box::new(HlsPlayer::new(address, rules, inspects, now, out)))
            }
        })
    }

    /// Takes bytes as they came on a connection; appends answers to `out`.
    ///
    /// # Errors
    /// The player's connections are of no more use.
    pub(crate) fn receive(
        &mut self,
        connection: usize,
        now: Instant,
        bytes: &[u8],
        out: &mut Outboxes,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), DialogueError> {
        match self {
            Self::Raw => {}
            Self::Rtmp(client) => client.receive(bytes, &mut out[0], |event| match event {
                client::Event::Agreed => sink(Event::Agreed),
                client::Event::Media(message) => sink(Event::Media(Unit::of_flv(
                    message.type_id,
                    message.timestamp,
                    message.head,
                    message.tail,
                ))),
            })?,
            Self::Flv(player) => player.receive(bytes, &mut out[0], |tag| match tag {
                None => sink(Event::Agreed),
                Some(tag) => sink(Event::Media(Unit::of_flv(
                    tag.type_id,
                    tag.timestamp,
                    tag.head,
                    tag.tail,
                ))),
            })?,
            Self::Hls(player) => player.receive(connection, now, bytes, out, sink)?,
        }
        Ok(())
    }

    /// The number of bytes to come on a connection that may be thrown away
    /// unread.
    pub(crate) fn discardable(&self, connection: usize) -> usize {
        match self {
            Self::Raw | Self::Rtmp(_) | Self::Flv(_) => usize::MAX,
            Self::Hls(player) => player.discardable(connection),
        }
    }

    /// Takes note of bytes that were thrown away unread.
    ///
    /// # Errors
    /// See [`Dialogue::receive`].
    pub(crate) fn discard(
        &mut self,
        connection: usize,
        now: Instant,
        bytes: usize,
        out: &mut Outboxes,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), DialogueError> {
        match self {
            Self::Raw | Self::Flv(_) => {}
            Self::Rtmp(client) => client.discard(bytes, &mut out[0]),
            Self::Hls(player) => player.discard(connection, now, bytes, out, sink)?,
        }
        Ok(())
    }

    /// The server has closed a connection in order.
    ///
    /// # Errors
    /// If it did so within an answer, or after a refusal.
    pub(crate) fn closed(
        &mut self,
        connection: usize,
        now: Instant,
        out: &mut Outboxes,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<Closed, DialogueError> {
        match self {
            Self::Raw | Self::Rtmp(_) => Ok(Closed::Ends),
            Self::Flv(player) => match player.closed() {
                Some(error) => Err(error.into()),
                None => Ok(Closed::Ends),
            },
            Self::Hls(player) => {
                player.closed(connection, now, out, sink)?;
                Ok(Closed::GoesOn)
            }
        }
    }

    /// The time at which [`Dialogue::wake`] is to be called, if it is.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        match self {
            Self::Hls(player) => player.wakes_at(),
            _ => None,
        }
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Instant, out: &mut Outboxes) {
        if let Self::Hls(player) = self {
            player.wake(now, out);
        }
    }

    /// Since when the server owes something, if it does; `last_byte` is the
    /// time at which anything came.
    pub(crate) fn waits_since(&self, last_byte: Instant) -> Option<Instant> {
        match self {
            Self::Hls(player) => player.waits_since(),
            _ => Some(last_byte),
        }
    }

    /// True if the server sends what it gets without being asked, so that a
    /// silence is a stall.
    pub(crate) fn brings_at_once(&self) -> bool {
        !matches!(self, Self::Hls(_))
    }

    /// For how long a player that keeps a buffer has had nothing to show.
    pub(crate) fn standstill(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Hls(player) => Some(player.standstill(now)),
            _ => None,
        }
    }
}
