//! Input of a player: commands for its dialogue, requests for its delivery.

use std::io;

use super::{PlayState, Player};
use crate::stream::fanout::handoff::{Dialogue, Reason, Request};
use crate::stream::log::Log;
use crate::stream::log::index::{Filter, VideoFilter, View};
use crate::transport::MAX_READ;

/// The most bytes of replies that a player may leave unread: then it only asks,
/// and does not read.
const MAX_REPLIES: usize = 64 * 1024;

/// Buffers that all players of a worker share.
#[derive(Debug)]
pub(in crate::stream::fanout) struct Scratch {
    input: Box<[u8]>,
    replies: Vec<u8>,
    requests: Vec<Request>,
}

impl Scratch {
    pub(in crate::stream::fanout) fn new() -> Self {
        Self {
            input: vec![0; MAX_READ].into(),
            replies: Vec::new(),
            requests: Vec::new(),
        }
    }
}

impl<D> Player<D> {
    /// Reads what the player has sent, and does what it asks; `true` if there
    /// may be more to read.
    pub(in crate::stream::fanout) fn receive(
        &mut self,
        log: &Log,
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
            Err(error) => return Err(error.into()),
        };
        scratch.replies.clear();
        scratch.requests.clear();
        let input = &scratch.input[..received];
        let received = self
            .dialogue
            .receive(input, &mut scratch.replies, &mut scratch.requests);
        self.queue_replies(log, &scratch.replies)?;
        received.map_err(Reason::Misbehaved)?;
        if self.replies > MAX_REPLIES {
            return Err(Reason::Misbehaved(
                "asks on and on and reads no answers".to_owned(),
            ));
        }
        for request in scratch.requests.drain(..) {
            self.fulfil(request, log, view)?;
        }
        Ok(true)
    }

    /// Tells the player that the server drains.
    pub(in crate::stream::fanout) fn announce_drain(
        &mut self,
        log: &Log,
        scratch: &mut Scratch,
    ) -> Result<(), Reason>
    where
        D: Dialogue,
    {
        scratch.replies.clear();
        self.dialogue.announce_drain(&mut scratch.replies);
        self.queue_replies(log, &scratch.replies)
    }

    /// Puts `replies` between two messages of the stream.
    fn queue_replies(&mut self, log: &Log, replies: &[u8]) -> Result<(), Reason> {
        if !replies.is_empty() {
            self.finish_message(log)?;
            self.private.extend_from_slice(replies);
            self.replies += replies.len();
        }
        Ok(())
    }

    /// Does what the player asked for before it came here.
    pub(in crate::stream::fanout) fn fulfil_all(
        &mut self,
        requests: Vec<Request>,
        log: &Log,
        view: &View,
    ) -> Result<(), Reason> {
        requests
            .into_iter()
            .try_for_each(|request| self.fulfil(request, log, view))
    }

    fn fulfil(&mut self, request: Request, log: &Log, view: &View) -> Result<(), Reason> {
        let filter = self.filter;
        match request {
            Request::Leave => {
                self.finish_message(log)?;
                return Err(Reason::Asked);
            }
            Request::Pause(true) => self.pause(log)?,
            Request::Pause(false) => self.resume(view),
            Request::Audio(audio) => {
                self.set_filter(Filter { audio, ..filter }, log)?;
            }
            Request::Video(false) => {
                let video = VideoFilter::None;
                self.set_filter(Filter { video, ..filter }, log)?;
            }
            Request::Video(true) => {
                if self.filter.video == VideoFilter::None {
                    let video = VideoFilter::FromKeyframe;
                    self.set_filter(Filter { video, ..filter }, log)?;
                }
            }
        }
        Ok(())
    }

    fn pause(&mut self, log: &Log) -> Result<(), Reason> {
        match self.state {
            PlayState::Following => {
                self.finish_message(log)?;
                let offset = self.offset;
                self.move_to(&log.index(), offset);
                self.state = PlayState::Paused;
            }
            PlayState::Waiting => self.state = PlayState::PausedWaiting,
            PlayState::Paused | PlayState::PausedWaiting => {}
        }
        Ok(())
    }

    fn resume(&mut self, view: &View) {
        match self.state {
            // What it has missed may have been given back meanwhile.
            PlayState::Paused if self.offset >= view.keep_from => self.state = PlayState::Following,
            PlayState::Paused | PlayState::PausedWaiting => self.state = PlayState::Waiting,
            PlayState::Following | PlayState::Waiting => return,
        }
        self.run_end = self.offset;
    }

    fn set_filter(&mut self, filter: Filter, log: &Log) -> Result<(), Reason> {
        self.finish_message(log)?;
        self.filter = filter;
        self.run_end = self.offset;
        Ok(())
    }
}
