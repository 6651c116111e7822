//! A server session whose events are checked against what may happen next.

use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession, SessionError, Status};
use rtmp_proto::wire::chunk::ChunkReader;
use rtmp_proto::wire::{Limits, Message, MessageType};

/// The state of a message stream, as the caller was told and has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stream {
    Idle,
    PublishAsked,
    Published,
    PlayAsked,
    PlayDeferred,
    Played,
}

impl Stream {
    /// True if a player's commands count on it, waiting or not.
    fn is_play(self) -> bool {
        matches!(self, Stream::PlayDeferred | Stream::Played)
    }
}

/// A server session, and what its caller must believe about it.
pub(super) struct CheckedSession {
    session: ServerSession,
    out: Vec<u8>,
    streams: [Stream; 17],
    connect_asked: bool,
    connected: bool,
    pub(super) refused: bool,
}

impl CheckedSession {
    /// After the handshake.
    pub(super) fn established() -> CheckedSession {
        let mut session = ServerSession::new(&Limits::default());
        let mut out = Vec::new();
        let handshake = [vec![3], vec![0; 1536 + 1536]].concat();
        assert_eq!(session.read(&mut &handshake[..], &mut out), Ok(None));
        out.clear();
        CheckedSession {
            session,
            out,
            streams: [Stream::Idle; 17],
            connect_asked: false,
            connected: false,
            refused: false,
        }
    }

    /// Reads on, and checks that what comes may come.
    pub(super) fn read(&mut self, input: &mut &[u8]) -> Result<Option<ServerEvent>, SessionError> {
        let waiting = self.waits();
        let before = input.len();
        let event = self.session.read(input, &mut self.out)?;
        if waiting || self.refused {
            assert_eq!(input.len(), before, "read on while a request waits");
            assert_eq!(event, None, "while a request waits");
        }
        if let Some(event) = &event {
            self.expect(event);
        }
        Ok(event)
    }

    fn waits(&self) -> bool {
        let asked = [Stream::PublishAsked, Stream::PlayAsked];
        self.connect_asked || self.streams.iter().any(|stream| asked.contains(stream))
    }

    fn expect(&mut self, event: &ServerEvent) {
        if !matches!(
            event,
            ServerEvent::Connect(_)
                | ServerEvent::Refused(_)
                | ServerEvent::Pong(_)
                | ServerEvent::Acknowledged(_)
                | ServerEvent::BufferLength { .. }
        ) {
            assert!(self.connected, "{event:?} before connect");
        }
        match event {
            ServerEvent::Connect(request) => {
                assert!(!self.connected, "connected twice");
                assert!(!request.app.is_empty());
                self.connect_asked = true;
            }
            ServerEvent::Publish(request) => {
                assert_eq!(*self.stream(request.stream_id), Stream::Idle, "{event:?}");
                *self.stream(request.stream_id) = Stream::PublishAsked;
            }
            ServerEvent::Play(request) => {
                assert_eq!(*self.stream(request.stream_id), Stream::Idle, "{event:?}");
                *self.stream(request.stream_id) = Stream::PlayAsked;
            }
            ServerEvent::Media(message) => {
                assert_eq!(
                    *self.stream(message.stream_id),
                    Stream::Published,
                    "{event:?}"
                );
                assert!(message.message_type.is_media());
            }
            ServerEvent::PublishEnded { stream_id } => {
                assert_eq!(*self.stream(*stream_id), Stream::Published, "{event:?}");
                *self.stream(*stream_id) = Stream::Idle;
            }
            ServerEvent::PlayEnded { stream_id } => {
                assert!(self.stream(*stream_id).is_play(), "{event:?}");
                *self.stream(*stream_id) = Stream::Idle;
            }
            ServerEvent::Pause { stream_id, .. }
            | ServerEvent::ReceiveAudio { stream_id, .. }
            | ServerEvent::ReceiveVideo { stream_id, .. } => {
                assert!(self.stream(*stream_id).is_play(), "{event:?}");
            }
            ServerEvent::Refused(_)
            | ServerEvent::BufferLength { .. }
            | ServerEvent::Acknowledged(_)
            | ServerEvent::Pong(_) => {}
        }
    }

    fn stream(&mut self, id: u32) -> &mut Stream {
        assert!((1..=16).contains(&id), "message stream {id}");
        &mut self.streams[id as usize]
    }

    /// Answers a request as two bits of `policy` say for its kind.
    pub(super) fn answer(&mut self, event: &ServerEvent, policy: u8) {
        let status = Status::publish_denied("no");
        let CheckedSession { session, out, .. } = self;
        match event {
            ServerEvent::Connect(_) => {
                self.connect_asked = false;
                if policy & 3 == 3 {
                    session.refuse_connect(&status, out);
                    self.refused = true;
                } else {
                    session.accept_connect(&ConnectSettings::default(), out);
                    self.connected = true;
                }
            }
            ServerEvent::Publish(request) => {
                let id = request.stream_id;
                if policy >> 2 & 3 == 3 {
                    assert!(session.refuse_publish(id, &status, out));
                    *self.stream(id) = Stream::Idle;
                } else {
                    assert!(session.accept_publish(id, out));
                    *self.stream(id) = Stream::Published;
                }
            }
            ServerEvent::Play(request) => {
                let id = request.stream_id;
                match policy >> 4 & 3 {
                    3 => {
                        assert!(session.refuse_play(id, &status, out));
                        *self.stream(id) = Stream::Idle;
                    }
                    2 => {
                        session.defer_play(id);
                        *self.stream(id) = Stream::PlayDeferred;
                    }
                    _ => {
                        assert!(session.accept_play(id, out));
                        *self.stream(id) = Stream::Played;
                    }
                }
            }
            _ => {}
        }
    }

    /// Accepts, refuses or ends something on a stream, whether it is there or
    /// not; the session must agree on whether it is.
    pub(super) fn interfere(&mut self, what: u8, id: u32) {
        let status = Status::stream_not_found("no");
        let stream = if (1..=16).contains(&id) {
            *self.stream(id)
        } else {
            Stream::Idle
        };
        let play_waits = matches!(stream, Stream::PlayAsked | Stream::PlayDeferred);
        let plays = play_waits || stream == Stream::Played;
        let publishes = matches!(stream, Stream::PublishAsked | Stream::Published);
        let CheckedSession { session, out, .. } = self;
        let (done, expected, after) = match what % 6 {
            0 => (session.accept_play(id, out), play_waits, Stream::Played),
            1 => (session.refuse_play(id, &status, out), plays, Stream::Idle),
            2 => (
                session.end_play(id, out),
                stream == Stream::Played,
                Stream::Idle,
            ),
            3 => (
                session.refuse_publish(id, &status, out),
                publishes,
                Stream::Idle,
            ),
            4 => {
                let waits = stream == Stream::PublishAsked;
                (session.accept_publish(id, out), waits, Stream::Published)
            }
            _ => {
                session.ping(id, out);
                session.accept_connect(&ConnectSettings::default(), out);
                if self.connect_asked {
                    self.connect_asked = false;
                    self.connected = true;
                }
                return;
            }
        };
        assert_eq!(done, expected, "{what} on {stream:?} {id}");
        if done {
            *self.stream(id) = after;
        }
    }

    /// The session's output, which is whole messages and in proportion to its
    /// input; acknowledgements left out.
    pub(super) fn said(&mut self, heard_bytes: usize) -> Vec<Message> {
        assert!(
            self.out.len() <= 4096 + 64 * heard_bytes,
            "{} bytes",
            self.out.len()
        );
        let mut reader = ChunkReader::new(&Limits::default());
        let mut input = &self.out[..];
        let mut messages = Vec::new();
        while let Some(message) = reader.read(&mut input).expect("what we say is RTMP") {
            if message.message_type != MessageType::ACKNOWLEDGEMENT {
                messages.push(message);
            }
        }
        assert_eq!(reader.buffered_capacity(), 0, "half a message");
        messages
    }
}
