//! A player for the program that the process becomes.

use bytes::Bytes;

use super::Player;
use crate::hand_over::{HandOverError, HandedOver};
use crate::stream::fanout::handoff::Dialogue;
use crate::stream::fanout::part::{Adopting, PlayerPart};
use crate::stream::log::Log;
use crate::stream::{FlvFraming, Stream};

impl<D: Dialogue> Player<D> {
    /// The player for the program that the process becomes.
    ///
    /// # Errors
    /// It cannot be written down.
    pub(in crate::stream::fanout) fn part(
        &self,
        stream: &Stream,
        framing: Option<FlvFraming>,
        handed_over: &mut HandedOver,
    ) -> Result<PlayerPart, HandOverError> {
        Ok(PlayerPart {
            id: self.id,
            socket: self.socket.part(handed_over),
            stream: stream.id(),
            framing,
            stream_id: self.stream_id,
            private: Bytes::copy_from_slice(&self.private[self.private_sent..]),
            replies: self.replies,
            state: self.state,
            offset: self.offset,
            filter: self.filter,
            run_end: self.run_end,
            pictures_counted: self.pictures_counted,
            blocked: self.blocked,
            stall: self.stall.clone(),
            send_timeout: self.send_timeout,
            at_once: self.at_once,
            nodelay: self.nodelay,
            duration: self.duration,
            until: self.until,
            dialogue: self.dialogue.part()?,
        })
    }

    /// Has it not be within a message: the rest of that is its own.
    pub(in crate::stream::fanout) fn end_message(&mut self, log: &Log) {
        // What cannot be read cannot be sent either: its next flush says so.
        let _ = self.finish_message(log);
    }
}

impl<D> Player<D> {
    /// Goes on with a player that this process has had before.
    pub(in crate::stream::fanout) fn adopt(
        adopting: Adopting<D>,
        (group, member): (usize, usize),
    ) -> Self {
        let part = adopting.part;
        Self {
            id: part.id,
            socket: adopting.socket,
            dialogue: adopting.dialogue,
            group,
            member,
            stream_id: part.stream_id,
            private: part.private.into(),
            private_sent: 0,
            replies: part.replies,
            state: part.state,
            offset: part.offset,
            filter: part.filter,
            run_end: part.run_end,
            pictures_counted: part.pictures_counted,
            blocked: part.blocked,
            stall: part.stall,
            send_timeout: part.send_timeout,
            at_once: part.at_once,
            nodelay: part.nodelay,
            duration: part.duration,
            until: part.until,
            meter: adopting.meter,
        }
    }
}
