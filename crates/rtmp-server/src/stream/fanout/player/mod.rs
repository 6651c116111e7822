//! One player: what it still has to get before the log, and its offset there.

mod part;
mod requests;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtmp_proto::wire::message::{Control, UserControl};
use serde::{Deserialize, Serialize};

pub(super) use requests::Scratch;

use super::handoff::{Joining, Meter, Reason, ReturnedPlayer};
use super::report::{Position, Standing};
use super::send_queue::unacknowledged;
use super::stall::StallTimer;
use crate::stream::log::headers::Header;
use crate::stream::log::index::{EntryKind, Filter, Index, JoinPoint, VideoFilter, View};
use crate::stream::log::{Log, MESSAGE_STREAM, wire_timestamp};
use crate::stream::{PerTrack, Stream};
use crate::transport::StdTransport;

/// The state of a player's delivery.
///
/// ```text
///               join point
///   Waiting ─────────────────▶ Following ─┐
///    │ ▲ ▲                       ▲ │      │ pause
///    │ │ └──── too far behind ───┼─┘      ▼
///    │ │                         └───── Paused
///    │ │   its offset is gone    resume   │
///    │ └──────────────────────────────────┘
///    │ ▲
///    │ │ resume
///    ▼ │
/// PausedWaiting
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PlayState {
    /// It gets the log from its offset on.
    Following,
    /// It gets nothing before the first join point at or after its offset.
    Waiting,
    /// It asked for a pause, and is to go on at its offset.
    Paused,
    /// It asked for a pause while it waited, and is to go on waiting.
    PausedWaiting,
}

/// A player at its worker.
#[derive(Debug)]
pub(super) struct Player<D> {
    id: u64,
    socket: StdTransport,
    pub(super) dialogue: D,
    /// Position of its stream among the worker's groups.
    pub(super) group: usize,
    /// Position of the player among the group's members.
    pub(super) member: usize,
    /// The message stream that it plays on.
    stream_id: u32,
    /// Bytes for this player alone, which go out before the log; they end
    /// where a message ends.
    private: Vec<u8>,
    private_sent: usize,
    /// Number of bytes of `private` that are replies.
    replies: usize,
    state: PlayState,
    /// Offset in the log of what comes next.
    offset: u64,
    filter: Filter,
    /// With a filter: the end of the run of kept messages that `offset` lies in.
    run_end: u64,
    /// Number of pictures before the place that it last moved to: those behind it
    /// are not in `meter` yet.
    pictures_counted: u64,
    /// The socket takes nothing until epoll says so.
    blocked: bool,
    stall: StallTimer,
    send_timeout: Duration,
    /// It gets each message at once, so none waits for an acknowledgement.
    at_once: bool,
    /// State of `TCP_NODELAY`: on until the beginning is out, then as the stream
    /// has it.
    nodelay: bool,
    /// Length of the stream that it wants, from where it begins.
    duration: Option<Duration>,
    /// The stream's time at which it has had that much, ms.
    until: Option<u64>,
    meter: Arc<Meter>,
}

impl<D> Player<D> {
    /// A player that begins at `view`'s join point if `gop_cache` says so and
    /// there is one, and otherwise waits for the next.
    pub(super) fn new(
        joining: Joining<D>,
        log: &Log,
        view: &View,
        gop_cache: bool,
        (group, member): (usize, usize),
    ) -> Self {
        let mut player = Self {
            id: joining.id,
            socket: joining.socket,
            dialogue: joining.dialogue,
            group,
            member,
            stream_id: joining.stream_id,
            private: joining.unsent,
            private_sent: 0,
            replies: 0,
            state: PlayState::Waiting,
            offset: 0,
            filter: Filter::of_tracks(joining.tracks),
            run_end: 0,
            pictures_counted: 0,
            blocked: false,
            stall: StallTimer::default(),
            send_timeout: joining.send_timeout,
            at_once: joining.at_once,
            nodelay: true,
            duration: joining.duration,
            until: None,
            meter: joining.meter,
        };
        player.meter.begin_play();
        match &view.join {
            Some(join) if gop_cache => player.begin(join, 0, log),
            _ => {
                for header in view.headers.since(0) {
                    player.write_header(header, view.timestamp, log);
                }
                player.offset = view.end;
            }
        }
        player
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.socket.tcp()
    }

    /// The lowest offset of the log that it may still read; none while it
    /// reads nothing.
    pub(super) fn low_water(&self) -> u64 {
        match self.state {
            PlayState::Following => self.offset,
            PlayState::Waiting | PlayState::Paused | PlayState::PausedWaiting => u64::MAX,
        }
    }

    /// Where it stands.
    pub(super) fn position(&self) -> Position {
        Position {
            id: self.id,
            standing: match self.state {
                PlayState::Following => Standing::Following(self.offset),
                PlayState::Waiting => Standing::Waiting,
                PlayState::Paused | PlayState::PausedWaiting => Standing::Paused,
            },
            blocked: self.blocked,
        }
    }

    /// True if it waits for a place in the log where it can begin.
    pub(super) fn waits(&self) -> bool {
        self.state == PlayState::Waiting
    }

    /// True if it has taken nothing for too long of what there is for it.
    pub(super) fn has_stalled(&mut self, now: Instant) -> bool {
        if !self.stall.is_running() {
            return false;
        }
        // A socket that cannot tell has ended: epoll says so.
        unacknowledged(self.socket.tcp())
            .is_ok_and(|queued| self.stall.has_expired(now, queued, self.send_timeout))
    }

    /// The socket takes more again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Sends what there is, as much as the socket takes.
    pub(super) fn serve(
        &mut self,
        stream: &Stream,
        log: &Log,
        view: &View,
        now: Instant,
    ) -> Result<(), Reason> {
        match self.state {
            PlayState::Following if self.offset < view.keep_from => {
                self.skip_to_keyframe(stream, log, view)?
            }
            PlayState::Waiting => self.begin_next(log, view),
            PlayState::Following | PlayState::Paused | PlayState::PausedWaiting => {}
        }
        while !self.blocked {
            if self.private_sent < self.private.len() {
                self.send_private(now)?;
            } else if self.state != PlayState::Following
                || !self.send_log(stream, log, view, now)?
            {
                return self.flush(now);
            }
        }
        Ok(())
    }

    /// Sends what TLS keeps back, which nothing follows at present.
    fn flush(&mut self, now: Instant) -> Result<(), Reason> {
        if self.socket.has_unsent() {
            let flushed = self.socket.flush().map(|()| 0);
            self.progress(flushed, now)?;
        }
        Ok(())
    }

    /// Sends of the private bytes what the socket takes.
    fn send_private(&mut self, now: Instant) -> Result<(), Reason> {
        let sent = self.socket.write(&self.private[self.private_sent..]);
        self.private_sent += self.progress(sent, now)?.unwrap_or(0);
        if self.private_sent == self.private.len() {
            // Freed, not cleared: thousands of players have nothing here.
            self.private = Vec::new();
            self.private_sent = 0;
            self.replies = 0;
        }
        Ok(())
    }

    /// Sends of the log what the socket takes; false if there is nothing more.
    fn send_log(
        &mut self,
        stream: &Stream,
        log: &Log,
        view: &View,
        now: Instant,
    ) -> Result<bool, Reason> {
        let end = self.run(log, view)?;
        if self.offset >= end {
            self.set_nodelay(self.at_once || stream.nodelay());
            return Ok(false);
        }
        if self.stream_id != MESSAGE_STREAM {
            let copied = log.readdressed(self.offset, end, self.stream_id);
            (self.private, self.offset) = copied.map_err(|error| Reason::Broken(error.kind()))?;
            return Ok(true);
        }
        let file = log.file();
        let sent = self.socket.send_file(
            end - self.offset,
            |socket| file.send(socket, self.offset, end),
            |bytes| file.read(self.offset, bytes),
        );
        self.offset += self.progress(sent, now)?.unwrap_or(0) as u64;
        Ok(true)
    }

    /// Number of bytes that went out; none where the socket takes nothing, or the
    /// call has to be made again.
    fn progress(&mut self, sent: io::Result<usize>, now: Instant) -> Result<Option<usize>, Reason> {
        match sent {
            Ok(sent) => {
                self.stall.stop();
                self.meter.bytes.fetch_add(sent as u64, Ordering::Relaxed);
                Ok(Some(sent))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                self.stall.start(now);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The end of what may be sent now from the offset on; with a filter, the
    /// offset moves over what is left out.
    fn run(&mut self, log: &Log, view: &View) -> Result<u64, Reason> {
        let mut end = view.end;
        if let Some(until) = self.until
            && until <= view.timestamp
        {
            end = log.index().first_at(until);
            if self.offset >= end {
                return Err(Reason::Complete);
            }
        }
        if self.offset == self.run_end && self.filter != Filter::EVERYTHING {
            let all_headers = self.filter.headers == PerTrack::BOTH;
            if self.filter.audio && all_headers && view.pictures == self.pictures_counted {
                // Sound alone has come, as it does all day in a radio's stream.
                self.run_end = end;
            } else {
                let index = log.index();
                let kept = index.kept(self.offset, end, &mut self.filter);
                self.move_to(&index, kept.start);
                self.run_end = kept.end;
            }
        }
        Ok(if self.offset < self.run_end {
            self.run_end.min(end)
        } else {
            end
        })
    }

    /// Moves the offset elsewhere, and counts the pictures up to here.
    fn move_to(&mut self, index: &Index, offset: u64) {
        let seen = index.pictures_before(self.offset) - self.pictures_counted;
        self.meter.pictures.fetch_add(seen, Ordering::Relaxed);
        self.pictures_counted = index.pictures_before(offset);
        self.offset = offset;
    }

    /// Begins at `join`, with the headers that have come in the log since
    /// `seen`, stamped with the time of the join point.
    fn begin(&mut self, join: &JoinPoint, seen: u64, log: &Log) {
        for header in join.headers.since(seen) {
            self.write_header(header, join.timestamp, log);
        }
        self.state = PlayState::Following;
        self.offset = join.offset;
        self.run_end = join.offset;
        if join.kind == EntryKind::Audio && self.filter.video == VideoFilter::All {
            self.filter.video = VideoFilter::FromKeyframe;
        }
        self.pictures_counted = log.index().pictures_before(join.offset);
        if let Some(duration) = self.duration.take() {
            let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.until = Some(join.timestamp.saturating_add(duration));
        }
    }

    /// Begins at the first place that comes after what it has had, if there is
    /// one.
    fn begin_next(&mut self, log: &Log, view: &View) {
        let seen = self.offset;
        let Some(join) = view.join_from(seen) else {
            return;
        };
        if view.publication > 0 && view.publication >= seen {
            // The StreamBegin in the log lies before the join point.
            let begin = Control::UserControl(UserControl::StreamBegin(self.stream_id));
            log.framing().encode(&begin.to_message(), &mut self.private);
        }
        self.begin(join, seen, log);
    }

    /// It is too far behind: goes on at the newest keyframe, or waits for the
    /// next.
    fn skip_to_keyframe(&mut self, stream: &Stream, log: &Log, view: &View) -> Result<(), Reason> {
        self.finish_message(log)?;
        self.meter.skips.fetch_add(1, Ordering::Relaxed);
        stream.totals.skips.fetch_add(1, Ordering::Relaxed);
        let seen = self.offset;
        self.move_to(&log.index(), seen);
        self.state = PlayState::Waiting;
        self.begin_next(log, view);
        Ok(())
    }

    /// Takes the rest of a half-sent message to the private bytes, so that other
    /// bytes may follow.
    fn finish_message(&mut self, log: &Log) -> Result<(), Reason> {
        if self.state != PlayState::Following {
            return Ok(());
        }
        let boundary = log.index().boundary(self.offset);
        if boundary > self.offset {
            let rest = log.file().copy(self.offset, boundary);
            let rest = rest.map_err(|error| Reason::Broken(error.kind()))?;
            self.private.extend_from_slice(&rest);
            self.offset = boundary;
        }
        Ok(())
    }

    fn write_header(&mut self, header: &Header, timestamp: u64, log: &Log) {
        if !self.filter.keeps_header(header.track()) {
            return;
        }
        let mut message = header.message(self.stream_id);
        message.timestamp = wire_timestamp(header.class, timestamp);
        log.framing().encode(&message, &mut self.private);
    }

    fn set_nodelay(&mut self, nodelay: bool) {
        if self.nodelay != nodelay {
            self.nodelay = nodelay;
            // Whether small packets may wait is a matter of taste: a socket
            // that cannot be told does as well.
            let _ = self.socket.tcp().set_nodelay(nodelay);
        }
    }

    /// Ends the player's stay here.
    pub(super) fn hand_back(
        mut self,
        stream: &Stream,
        log: &Log,
        reason: Reason,
    ) -> ReturnedPlayer<D> {
        stream.count_sent(self.meter.end_play());
        if self.state == PlayState::Following {
            let index = log.index();
            let offset = self.offset;
            self.move_to(&index, offset);
        }
        let connected = !matches!(reason, Reason::Closed | Reason::Broken(_));
        if connected && self.finish_message(log).is_err() {
            // The rest of the message cannot be had: nothing may follow it.
            self.private.clear();
            self.private_sent = 0;
        }
        self.private.drain(..self.private_sent);
        ReturnedPlayer {
            id: self.id,
            socket: self.socket,
            dialogue: self.dialogue,
            unsent: self.private,
            reason,
        }
    }
}
