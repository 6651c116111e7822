//! One player: what it still has to get before the log, and its offset there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtmp_proto::wire::chunk::{csid, encode_message};
use rtmp_proto::wire::message::{Control, UserControl};

use super::patience::Patience;
use super::queue::unacknowledged;
use super::{Departed, Dialogue, Joining, Meter, Reason, Request};
use crate::stream::encoding::wire_timestamp;
use crate::stream::file::Sent;
use crate::stream::headers::Header;
use crate::stream::index::{Filter, Index, JoinPoint, Part, VideoFilter, View};
use crate::stream::{MESSAGE_STREAM, Stream};

/// Replies that a player leaves unread may pile up to this many bytes: then it
/// only asks, and does not listen.
const MAX_REPLIES: usize = 64 * 1024;

/// Where a player stands in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stance {
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
    socket: TcpStream,
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
    /// How many bytes of `private` are replies.
    replies: usize,
    stance: Stance,
    /// What comes next from the log.
    offset: u64,
    filter: Filter,
    /// With a filter: where the run of kept messages ends that it stands in.
    run_end: u64,
    /// Pictures that lie before the place where it last leapt to.
    pictures_at_leap: u64,
    /// The socket takes nothing until epoll says so.
    blocked: bool,
    patience: Patience,
    send_timeout: Duration,
    /// It gets each message at once, so none waits for an acknowledgement.
    at_once: bool,
    /// What `TCP_NODELAY` is: on until the beginning is out, then as the
    /// stream has it.
    nodelay: bool,
    /// How much of the stream it wants.
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
        stream: &Stream,
        view: &View,
        gop_cache: bool,
        place: (usize, usize),
    ) -> Self {
        let mut player = Self {
            id: joining.id,
            socket: joining.socket,
            dialogue: joining.dialogue,
            group: place.0,
            member: place.1,
            stream_id: joining.stream_id,
            private: joining.unsent,
            private_sent: 0,
            replies: 0,
            stance: Stance::Waiting,
            offset: 0,
            filter: Filter::EVERYTHING,
            run_end: 0,
            pictures_at_leap: 0,
            blocked: false,
            patience: Patience::default(),
            send_timeout: joining.send_timeout,
            at_once: joining.at_once,
            nodelay: true,
            duration: joining.duration,
            until: None,
            meter: joining.meter,
        };
        match &view.join {
            Some(join) if gop_cache => player.begin(join, 0, stream),
            _ => {
                for header in view.headers.since(0) {
                    player.write_header(header, view.timestamp, stream);
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
        &self.socket
    }

    /// The lowest offset of the log that it may still read; none while it
    /// reads nothing.
    pub(super) fn low_water(&self) -> u64 {
        match self.stance {
            Stance::Following => self.offset,
            Stance::Waiting | Stance::Paused | Stance::PausedWaiting => u64::MAX,
        }
    }

    /// Whether it waits for a place in the log where it can begin.
    pub(super) fn waits(&self) -> bool {
        self.stance == Stance::Waiting
    }

    /// Whether it has taken nothing for too long of what there is for it.
    pub(super) fn has_stalled(&mut self, now: Instant) -> bool {
        if !self.patience.is_tried() {
            return false;
        }
        // A socket that cannot tell has ended: epoll says so.
        unacknowledged(&self.socket)
            .is_ok_and(|queued| self.patience.is_over(now, queued, self.send_timeout))
    }

    /// The socket takes more again.
    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    /// Sends what there is, as much as the socket takes.
    pub(super) fn serve(
        &mut self,
        stream: &Stream,
        view: &View,
        now: Instant,
    ) -> Result<(), Reason> {
        match self.stance {
            Stance::Following if self.offset < view.keep_from => self.move_on(stream, view)?,
            Stance::Waiting => self.begin_next(stream, view),
            Stance::Following | Stance::Paused | Stance::PausedWaiting => {}
        }
        while !self.blocked {
            if self.private_sent < self.private.len() {
                let sent = self.socket.write(&self.private[self.private_sent..]);
                let Some(sent) = self.progress(sent, now)? else {
                    continue;
                };
                self.private_sent += sent;
                if self.private_sent == self.private.len() {
                    self.private = Vec::new();
                    self.private_sent = 0;
                    self.replies = 0;
                }
                continue;
            }
            if self.stance != Stance::Following {
                return Ok(());
            }
            let end = self.run(stream, view)?;
            if self.offset >= end {
                self.settle_nodelay(self.at_once || stream.nodelay());
                return Ok(());
            }
            if self.stream_id != MESSAGE_STREAM {
                let copied = stream.readdressed(self.offset, end, self.stream_id);
                (self.private, self.offset) =
                    copied.map_err(|error| Reason::Broken(error.kind()))?;
                continue;
            }
            let sent = match stream.log.send(self.socket.as_fd(), self.offset, end) {
                Ok(Sent::Bytes(sent)) => Ok(sent),
                Ok(Sent::Blocked) => Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => Err(error),
            };
            let Some(sent) = self.progress(sent, now)? else {
                continue;
            };
            self.offset += sent as u64;
        }
        Ok(())
    }

    /// How many bytes went out, or none where nothing was decided.
    fn progress(&mut self, sent: io::Result<usize>, now: Instant) -> Result<Option<usize>, Reason> {
        match sent {
            Ok(sent) => {
                self.patience.end();
                self.meter.bytes.fetch_add(sent as u64, Ordering::Relaxed);
                Ok(Some(sent))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.blocked = true;
                self.patience.begin(now);
                Ok(None)
            }
            Err(error) => Err(Reason::Broken(error.kind())),
        }
    }

    /// The end of what may be sent now from the offset on; with a filter, the
    /// offset leaps over what is left out.
    fn run(&mut self, stream: &Stream, view: &View) -> Result<u64, Reason> {
        let mut end = view.end;
        if let Some(until) = self.until
            && until <= view.timestamp
        {
            end = stream.index().first_at(until);
            if self.offset >= end {
                return Err(Reason::Complete);
            }
        }
        if self.offset == self.run_end && self.filter != Filter::EVERYTHING {
            if self.filter.audio && view.pictures == self.pictures_at_leap {
                // Sound alone has come, as it does all day in a radio's stream.
                self.run_end = end;
            } else {
                let index = stream.index();
                let kept = index.kept(self.offset, end, &mut self.filter);
                self.leap(&index, kept.start);
                self.run_end = kept.end;
            }
        }
        Ok(if self.offset < self.run_end {
            self.run_end.min(end)
        } else {
            end
        })
    }

    /// Puts the offset elsewhere, and counts the pictures up to here.
    fn leap(&mut self, index: &Index, offset: u64) {
        let seen = index.pictures_before(self.offset) - self.pictures_at_leap;
        self.meter.pictures.fetch_add(seen, Ordering::Relaxed);
        self.pictures_at_leap = index.pictures_before(offset);
        self.offset = offset;
    }

    /// Begins at `join`, with the headers that have come in the log since
    /// `seen`, stamped with the time of the join point.
    fn begin(&mut self, join: &JoinPoint, seen: u64, stream: &Stream) {
        for header in join.headers.since(seen) {
            self.write_header(header, join.timestamp, stream);
        }
        self.stance = Stance::Following;
        self.offset = join.offset;
        self.run_end = join.offset;
        if join.part == Part::Audio && self.filter.video == VideoFilter::All {
            self.filter.video = VideoFilter::FromKeyframe;
        }
        self.pictures_at_leap = stream.index().pictures_before(join.offset);
        if let Some(duration) = self.duration.take() {
            let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            self.until = Some(join.timestamp.saturating_add(duration));
        }
    }

    /// Begins at the first place that comes after what it has had, if there is
    /// one.
    fn begin_next(&mut self, stream: &Stream, view: &View) {
        let seen = self.offset;
        let Some(join) = view.join_from(seen) else {
            return;
        };
        if view.publication > 0 && view.publication >= seen {
            // It has not come by the log's own word.
            let begin = Control::UserControl(UserControl::StreamBegin(self.stream_id));
            let chunk_size = stream.chunk_size;
            encode_message(
                &begin.to_message(),
                chunk_size,
                csid::CONTROL,
                &mut self.private,
            );
        }
        self.begin(join, seen, stream);
    }

    /// It is too far behind: on to the newest keyframe, or to the next one.
    fn move_on(&mut self, stream: &Stream, view: &View) -> Result<(), Reason> {
        self.finish_message(stream)?;
        self.meter.skips.fetch_add(1, Ordering::Relaxed);
        let seen = self.offset;
        self.leap(&stream.index(), seen);
        self.stance = Stance::Waiting;
        self.begin_next(stream, view);
        Ok(())
    }

    /// Takes the rest of a half-sent message to the private bytes, so that
    /// other bytes may follow.
    fn finish_message(&mut self, stream: &Stream) -> Result<(), Reason> {
        if self.stance != Stance::Following {
            return Ok(());
        }
        let boundary = stream.index().boundary(self.offset);
        if boundary > self.offset {
            let rest = stream.log.copy(self.offset, boundary);
            self.private
                .extend(rest.map_err(|error| Reason::Broken(error.kind()))?);
            self.offset = boundary;
        }
        Ok(())
    }

    fn write_header(&mut self, header: &Header, timestamp: u64, stream: &Stream) {
        let mut message = header.message(self.stream_id);
        message.timestamp = wire_timestamp(header.class, timestamp);
        let chunk_stream = csid::for_message(header.message_type, self.stream_id);
        encode_message(&message, stream.chunk_size, chunk_stream, &mut self.private);
    }

    fn settle_nodelay(&mut self, nodelay: bool) {
        if self.nodelay != nodelay {
            self.nodelay = nodelay;
            // Whether small packets may wait is a matter of taste: a socket
            // that cannot be told does as well.
            let _ = self.socket.set_nodelay(nodelay);
        }
    }

    /// Reads what the player has sent, and does what it asks; `true` if there
    /// may be more to read.
    pub(super) fn receive(
        &mut self,
        stream: &Stream,
        view: &View,
        scratch: &mut Scratch,
    ) -> Result<bool, Reason>
    where
        D: Dialogue,
    {
        let received = match self.socket.read(&mut scratch.input) {
            Ok(0) => return Err(Reason::Closed),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(Reason::Broken(error.kind())),
        };
        scratch.replies.clear();
        scratch.requests.clear();
        let input = &scratch.input[..received];
        let heard = self
            .dialogue
            .receive(input, &mut scratch.replies, &mut scratch.requests);
        if !scratch.replies.is_empty() {
            self.finish_message(stream)?;
            self.private.extend_from_slice(&scratch.replies);
            self.replies += scratch.replies.len();
        }
        heard.map_err(Reason::Misbehaved)?;
        if self.replies > MAX_REPLIES {
            return Err(Reason::Misbehaved(
                "asks on and on and reads no answers".to_owned(),
            ));
        }
        for request in scratch.requests.drain(..) {
            self.fulfil(request, stream, view)?;
        }
        Ok(true)
    }

    /// Does what the player asked for before it came here.
    pub(super) fn fulfil_all(
        &mut self,
        requests: Vec<Request>,
        stream: &Stream,
        view: &View,
    ) -> Result<(), Reason> {
        requests
            .into_iter()
            .try_for_each(|request| self.fulfil(request, stream, view))
    }

    fn fulfil(&mut self, request: Request, stream: &Stream, view: &View) -> Result<(), Reason> {
        match request {
            Request::Leave => {
                self.finish_message(stream)?;
                return Err(Reason::Asked);
            }
            Request::Pause(true) => self.pause(stream)?,
            Request::Pause(false) => self.go_on(view),
            Request::Audio(audio) => {
                self.set_filter(
                    Filter {
                        audio,
                        ..self.filter
                    },
                    stream,
                )?;
            }
            Request::Video(false) => {
                self.set_filter(
                    Filter {
                        video: VideoFilter::None,
                        ..self.filter
                    },
                    stream,
                )?;
            }
            Request::Video(true) => {
                if self.filter.video == VideoFilter::None {
                    let video = VideoFilter::FromKeyframe;
                    self.set_filter(
                        Filter {
                            video,
                            ..self.filter
                        },
                        stream,
                    )?;
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, stream: &Stream) -> Result<(), Reason> {
        match self.stance {
            Stance::Following => {
                self.finish_message(stream)?;
                let offset = self.offset;
                self.leap(&stream.index(), offset);
                self.stance = Stance::Paused;
            }
            Stance::Waiting => self.stance = Stance::PausedWaiting,
            Stance::Paused | Stance::PausedWaiting => {}
        }
        Ok(())
    }

    fn go_on(&mut self, view: &View) {
        match self.stance {
            // What it has missed may have been given back meanwhile.
            Stance::Paused if self.offset >= view.keep_from => self.stance = Stance::Following,
            Stance::Paused | Stance::PausedWaiting => self.stance = Stance::Waiting,
            Stance::Following | Stance::Waiting => return,
        }
        self.run_end = self.offset;
    }

    fn set_filter(&mut self, filter: Filter, stream: &Stream) -> Result<(), Reason> {
        self.finish_message(stream)?;
        self.filter = filter;
        self.run_end = self.offset;
        Ok(())
    }

    /// Ends the player's stay here.
    pub(super) fn depart(mut self, stream: &Stream, reason: Reason) -> Departed<D> {
        if self.stance == Stance::Following {
            let index = stream.index();
            let offset = self.offset;
            self.leap(&index, offset);
        }
        let connected = !matches!(reason, Reason::Closed | Reason::Broken(_));
        if connected && self.finish_message(stream).is_err() {
            // The rest of the message cannot be had: nothing may follow it.
            self.private.clear();
            self.private_sent = 0;
        }
        self.private.drain(..self.private_sent);
        Departed {
            id: self.id,
            socket: self.socket,
            dialogue: self.dialogue,
            unsent: self.private,
            reason,
        }
    }
}

/// Buffers that all players of a worker share.
#[derive(Debug)]
pub(super) struct Scratch {
    input: Box<[u8]>,
    replies: Vec<u8>,
    requests: Vec<Request>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        const INPUT: usize = 16 * 1024;
        Self {
            input: vec![0; INPUT].into(),
            replies: Vec::new(),
            requests: Vec::new(),
        }
    }
}
