//! One fan-out worker: an epoll, its players, and the streams they play.

mod group;
mod part;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use slab::Slab;

use super::handoff::{Delivery, Dialogue, Joining, Reason, ReturnedPlayer};
use super::mailbox::{Command, Mailboxes};
use super::player::{Player, Scratch};
use super::report::{GroupReport, SocketReport};
use crate::stream::Stream;
use group::{Due, Group, GroupKind};

/// The number that epoll reports for the waker; for a player it is its slot.
const WAKER: u64 = u64::MAX;
/// The interval of checks for time-outs.
const TICK: Duration = Duration::from_secs(1);
/// Events taken from epoll at once.
const MAX_EVENTS: usize = 512;
/// Reads from one player before the others have their turn.
const MAX_READS: usize = 4;
/// Players that a flush sends to before who joins or speaks has a turn: about
/// a millisecond's work.
const MAX_SERVED: usize = 64;

/// Edge-triggered: a socket that takes bytes is not reported again and again while there is
/// nothing to send.
fn interest() -> EpollFlags {
    EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET
}

/// A worker, before and in its thread.
#[derive(Debug)]
pub(super) struct Worker<D, F> {
    number: usize,
    epoll: Epoll,
    mailboxes: Mailboxes<D>,
    returned: F,
    players: Slab<Player<D>>,
    groups: Slab<Group>,
    /// Keys in `groups` of the stream with this id, by their [`GroupKind`].
    groups_of: HashMap<u64, [Option<usize>; GroupKind::COUNT]>,
    /// Slots of players whose sockets may have more to read.
    unread: Vec<usize>,
    scratch: Scratch,
    /// The server drains.
    drains: bool,
}

impl<D: Dialogue, F: Fn(ReturnedPlayer<D>)> Worker<D, F> {
    pub(super) fn new(number: usize, mailboxes: Mailboxes<D>, returned: F) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let waker = EpollEvent::new(EpollFlags::EPOLLIN, WAKER);
        epoll.add(mailboxes.wakers().waker(number).descriptor(), waker)?;
        Ok(Self {
            number,
            epoll,
            mailboxes,
            returned,
            players: Slab::new(),
            groups: Slab::new(),
            groups_of: HashMap::new(),
            unread: Vec::new(),
            scratch: Scratch::new(),
            drains: false,
        })
    }

    /// Serves until it is told to stop; then all players are let go.
    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::empty(); MAX_EVENTS];
        let mut news = Vec::new();
        let mut next_tick = Instant::now() + TICK;
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout(next_tick)) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                // EBADF, EFAULT, EINVAL (epoll_wait(2)): a fault of ours. A worker that
                // returned would leave its players hanging.
                Err(error) => panic!("fan-out worker {}: epoll_wait: {error}", self.number),
            };
            let now = Instant::now();
            let mut woken = false;
            for event in &events[..count] {
                match usize::try_from(event.data()) {
                    Ok(slot) if event.data() != WAKER => {
                        self.player_event(slot, event.events(), now);
                    }
                    _ => woken = true,
                }
            }
            for slot in std::mem::take(&mut self.unread) {
                self.on_readable(slot, now);
            }
            if woken {
                let waker = self.mailboxes.wakers().waker(self.number);
                waker.take(&mut news);
                for stream in news.drain(..) {
                    self.schedule_flush(stream, now);
                }
                if self.run_commands(now) {
                    self.dismiss_all();
                    return;
                }
            }
            self.flush_due(now);
            if now >= next_tick {
                next_tick = now + TICK;
                self.drop_stalled(now);
            }
        }
    }

    fn timeout(&self, next_tick: Instant) -> EpollTimeout {
        if !self.unread.is_empty() {
            return EpollTimeout::ZERO;
        }
        let now = Instant::now();
        let flushes = self.groups.iter().filter_map(|(_, it)| it.next_flush(now));
        let next = flushes.fold(next_tick, Instant::min);
        let left = next.saturating_duration_since(now);
        // Rounded up: waking before the time would only mean waiting again.
        let milliseconds = left.as_micros().div_ceil(1_000);
        u16::try_from(milliseconds).map_or(EpollTimeout::MAX, EpollTimeout::from)
    }

    /// A publisher has appended to the stream, or it has ended.
    fn schedule_flush(&mut self, stream: u64, now: Instant) {
        let Some(groups) = self.groups_of.get(&stream) else {
            return;
        };
        for &group in groups.iter().flatten() {
            self.groups[group].schedule_flush(self.number, now);
        }
    }

    /// Key of the group of `stream` for players who get `delivery`.
    fn group(&mut self, stream: &Arc<Stream>, delivery: &Delivery, at_once: bool) -> usize {
        let kind = GroupKind::of(delivery, at_once);
        let place = &mut self.groups_of.entry(stream.id()).or_default()[kind as usize];
        *place.get_or_insert_with(|| {
            let log = match delivery {
                Delivery::Chunks => &stream.log,
                Delivery::Flv(flv) => &flv.log,
            };
            let at_once = kind == GroupKind::AtOnce;
            self.groups.insert(Group {
                stream: stream.clone(),
                log: log.clone(),
                kind,
                members: Vec::new(),
                view: log.view(self.number, at_once, u64::MAX),
                low_water: u64::MAX,
                waiting: false,
                beginning: 0,
                mw_deadline: None,
                flush: None,
            })
        })
    }

    /// Forgets a group whose last player has left.
    fn remove_group(&mut self, key: usize) {
        let group = self.groups.remove(key);
        group.log.remove_reader(self.number, group.at_once());
        if let Entry::Occupied(mut groups) = self.groups_of.entry(group.stream.id()) {
            groups.get_mut()[group.kind as usize] = None;
            if groups.get().iter().all(Option::is_none) {
                groups.remove();
            }
        }
    }

    /// Does what others ask; `true` if that is to stop.
    fn run_commands(&mut self, now: Instant) -> bool {
        for command in self.mailboxes.take(self.number) {
            match command {
                Command::Join(joining) => self.join(*joining, now),
                Command::Adopt(players, done) => {
                    for player in players {
                        self.adopt(player, now);
                    }
                    // Whoever asked may have given up.
                    let _ = done.send(());
                }
                Command::Freeze {
                    at_boundary,
                    part,
                    thaw,
                } => self.freeze(at_boundary, part, &thaw),
                Command::Dismiss(id) => {
                    let found = self.players.iter().find(|(_, player)| player.id() == id);
                    if let Some(slot) = found.map(|(slot, _)| slot) {
                        self.leave(slot, Reason::Dismissed);
                    }
                }
                Command::DismissAll => self.dismiss_all(),
                Command::AnnounceDrain => {
                    self.drains = true;
                    self.announce_drain(now);
                }
                // Whoever asked may have given up.
                Command::Report(answer) => {
                    let _ = answer.send(self.report());
                }
                Command::Inspect(ids, answer) => {
                    let _ = answer.send(self.inspect(&ids));
                }
                Command::Stop => return true,
            }
        }
        false
    }

    /// Where all players stand. It copies numbers only: what they mean is worked out by
    /// whoever asks.
    fn report(&self) -> Vec<GroupReport> {
        let groups = self.groups.iter().map(|(_, group)| GroupReport {
            stream: group.stream.clone(),
            log: group.log.clone(),
            positions: group
                .members
                .iter()
                .map(|&slot| self.players[slot].position())
                .collect(),
        });
        groups.collect()
    }

    /// The connections of the players with these ids, in their order, that are here.
    fn inspect(&self, ids: &[u64]) -> Vec<SocketReport> {
        let players = self.players.iter().map(|(_, player)| player);
        players
            .filter(|player| ids.binary_search(&player.id()).is_ok())
            .filter_map(|player| SocketReport::of(player.id(), player.socket()))
            .collect()
    }

    fn join(&mut self, mut joining: Joining<D>, now: Instant) {
        let requests = std::mem::take(&mut joining.requests);
        let stream = joining.stream.clone();
        stream.log.readers().add_player(self.number);
        let group = self.group(&stream, &joining.delivery, joining.at_once);
        let slot = self.players.vacant_key();
        let entry = &mut self.groups[group];
        entry.look(self.number);
        let place = (group, entry.members.len());
        let gop_cache = joining.gop_cache.unwrap_or_else(|| stream.gop_cache());
        let mut player = Player::new(joining, &entry.log, &entry.view, gop_cache, place);
        entry.members.push(slot);
        entry.note_position(&player);
        if stream.has_ended() || entry.log.is_abandoned() {
            // Its last news were told before this player counted.
            entry.mw_deadline = Some(Due::at_once(now));
        }
        let mut asked = player.fulfil_all(requests, &entry.log, &entry.view);
        if self.drains && asked.is_ok() {
            // It may have been on its way here when all were told.
            asked = player.announce_drain(&entry.log, &mut self.scratch);
        }
        let registered = self
            .epoll
            .add(player.socket(), EpollEvent::new(interest(), slot as u64));
        self.players.insert(player);
        match (registered, asked) {
            // Epoll reports the new socket as writable: it is served then.
            (Ok(()), Ok(())) => {}
            (Ok(()), Err(reason)) => self.leave(slot, reason),
            (Err(error), _) => self.leave(slot, Reason::Broken(io::Error::from(error).kind())),
        }
    }

    fn player_event(&mut self, slot: usize, events: EpollFlags, now: Instant) {
        let Some(player) = self.players.get_mut(slot) else {
            return;
        };
        if events.contains(EpollFlags::EPOLLOUT) {
            player.unblock();
            let group = &mut self.groups[player.group];
            let served = player.serve(&group.stream, &group.log, &group.view, now);
            group.note_position(player);
            if let Err(reason) = served {
                self.leave(slot, reason);
                return;
            }
        }
        let inbound = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLHUP
            | EpollFlags::EPOLLERR;
        if events.intersects(inbound) {
            self.on_readable(slot, now);
        }
    }

    /// Reads what a player has sent, and sends the answers.
    fn on_readable(&mut self, slot: usize, now: Instant) {
        let Some(player) = self.players.get_mut(slot) else {
            return;
        };
        let group = &mut self.groups[player.group];
        for _ in 0..MAX_READS {
            let more = player
                .receive(&group.log, &group.view, &mut self.scratch)
                .and_then(|more| {
                    let served = player.serve(&group.stream, &group.log, &group.view, now);
                    served.map(|()| more)
                });
            group.note_position(player);
            match more {
                Ok(true) => {}
                Ok(false) => return,
                Err(reason) => {
                    self.leave(slot, reason);
                    return;
                }
            }
        }
        self.unread.push(slot);
    }

    /// Begins the flushes that are due, and goes on with those under way. One
    /// that is due again while it is under way begins when that has ended.
    fn flush_due(&mut self, now: Instant) {
        let due = |group: &Group| group.next_flush(now).is_some_and(|at| at <= now);
        let groups: Vec<usize> = self
            .groups
            .iter()
            .filter(|(_, group)| due(group))
            .map(|(key, _)| key)
            .collect();
        for group in groups {
            if self.groups[group].beginning > 0 {
                self.serve_beginning(group, now);
            } else {
                self.flush(group, now);
            }
        }
    }

    /// Sends to those who have waited for a place to begin, to the next few at a time; the
    /// others have their turn when it comes. As with a flush, from the last to the first.
    fn serve_beginning(&mut self, key: usize, now: Instant) {
        let group = &mut self.groups[key];
        group.beginning = group.beginning.min(group.members.len());
        let mut served = 0;
        let mut leaving = Vec::new();
        while group.beginning > 0 && served < MAX_SERVED {
            group.beginning -= 1;
            let slot = group.members[group.beginning];
            let player = &mut self.players[slot];
            if !player.waits() {
                continue;
            }
            served += 1;
            if let Err(reason) = player.serve(&group.stream, &group.log, &group.view, now) {
                leaving.push((slot, reason));
            }
            group.note_position(player);
        }
        for (slot, reason) in leaving {
            self.leave(slot, reason);
        }
    }

    /// Sends a stream's news to its players here, to the next few at a time.
    fn flush(&mut self, key: usize, now: Instant) {
        let group = &mut self.groups[key];
        let mut flush = group.take_flush(self.number, now);
        let end = flush.left;
        flush.left = end.saturating_sub(MAX_SERVED).max(flush.left_by_part);
        let mut leaving = Vec::new();
        for &slot in group.members[flush.left..end].iter().rev() {
            if flush.abandoned {
                leaving.push((slot, Reason::LogLost));
                continue;
            }
            let player = &mut self.players[slot];
            match player.serve(&group.stream, &group.log, &group.view, now) {
                Ok(()) if flush.ended => leaving.push((slot, Reason::StreamEnded)),
                Ok(()) => {
                    flush.low_water = flush.low_water.min(player.low_water());
                    flush.waiting |= player.waits();
                }
                Err(reason) => leaving.push((slot, reason)),
            }
        }
        if flush.left > flush.left_by_part {
            group.keep(flush);
            // Sessions that wait for this core are a player's on its way here,
            // or a publisher's.
            std::thread::yield_now();
        } else {
            self.mailboxes.count_flush(self.number, flush.due.elapsed());
            group.finish_part(flush, now);
        }
        for (slot, reason) in leaving {
            self.leave(slot, reason);
        }
    }

    fn drop_stalled(&mut self, now: Instant) {
        let stalled: Vec<usize> = self
            .players
            .iter_mut()
            .filter_map(|(slot, player)| player.has_stalled(now).then_some(slot))
            .collect();
        for slot in stalled {
            self.leave(slot, Reason::Stalled);
        }
    }

    fn announce_drain(&mut self, now: Instant) {
        let slots: Vec<usize> = self.players.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let player = &mut self.players[slot];
            let group = &mut self.groups[player.group];
            let told = player
                .announce_drain(&group.log, &mut self.scratch)
                .and_then(|()| player.serve(&group.stream, &group.log, &group.view, now));
            group.note_position(player);
            if let Err(reason) = told {
                self.leave(slot, reason);
            }
        }
    }

    fn dismiss_all(&mut self) {
        let slots: Vec<usize> = self.players.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.leave(slot, Reason::Dismissed);
        }
    }

    /// Takes a player out of everything here, and hands it on.
    fn leave(&mut self, slot: usize, reason: Reason) {
        let player = self.players.remove(slot);
        // A socket that epoll does not know any more is gone from it all right.
        let _ = self.epoll.delete(player.socket().as_fd());
        let (key, member) = (player.group, player.member);
        let group = &mut self.groups[key];
        group.members.swap_remove(member);
        if let Some(&moved) = group.members.get(member) {
            self.players[moved].member = member;
        }
        let returned = player.hand_back(&group.stream, &group.log, reason);
        let stream = group.stream.clone();
        if group.members.is_empty() {
            self.remove_group(key);
        }
        stream.log.readers().remove_player(self.number);
        self.mailboxes.remove_player(self.number);
        (self.returned)(returned);
    }
}

#[cfg(test)]
mod tests;
