//! The players of a worker for the program that the process becomes, and those that it has
//! from the one before.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use nix::sys::epoll::EpollEvent;
use tokio::sync::mpsc::UnboundedSender;

use super::group::Due;
use super::{Worker, interest};
use crate::hand_over::HandOverError;
use crate::stream::fanout::handoff::{Dialogue, Reason, ReturnedPlayer};
use crate::stream::fanout::part::{Adopting, WorkerPart};
use crate::stream::fanout::player::Player;

impl<D: Dialogue, F: Fn(ReturnedPlayer<D>)> Worker<D, F> {
    /// Writes down all players, and stands still until nobody holds the sender of `thaw`.
    pub(super) fn freeze(
        &mut self,
        at_boundary: bool,
        part: UnboundedSender<Result<WorkerPart, HandOverError>>,
        thaw: &Receiver<()>,
    ) {
        if at_boundary {
            for (_, player) in &mut self.players {
                player.end_message(&self.groups[player.group].log);
            }
        }
        // Whoever asked may have given up: then nobody holds the sender either.
        let _ = part.send(self.part());
        drop(part);
        let _ = thaw.recv();
    }

    fn part(&self) -> Result<WorkerPart, HandOverError> {
        let mut part = WorkerPart::default();
        for (_, player) in &self.players {
            let group = &self.groups[player.group];
            let framing = group.framing();
            let player = player.part(&group.stream, framing, &mut part.handed_over)?;
            part.players.push(player);
        }
        Ok(part)
    }

    /// Goes on with a player that this process has had before.
    pub(super) fn adopt(&mut self, adopting: Adopting<D>, now: Instant) {
        let (stream, at_once) = (adopting.stream.clone(), adopting.part.at_once);
        stream.log.readers().add_player(self.number);
        let key = self.group(&stream, &adopting.delivery, at_once);
        let slot = self.players.vacant_key();
        let group = &mut self.groups[key];
        let player = Player::adopt(adopting, (key, group.members.len()));
        group.members.push(slot);
        group.note_position(&player);
        group.view = group
            .log
            .view(self.number, group.at_once(), group.low_water);
        // What came before is sent at once.
        group.mw_deadline = Some(Due::at_once(now));
        let event = EpollEvent::new(interest(), slot as u64);
        let registered = self.epoll.add(player.socket(), event);
        self.players.insert(player);
        if let Err(error) = registered {
            self.leave(slot, Reason::Broken(io::Error::from(error).kind()));
        }
    }
}
