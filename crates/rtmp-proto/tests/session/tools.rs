//! A client made of words: what it says is written down, and what it hears.

use rtmp_proto::session::status::Status;
use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession, SessionError};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::chunk::{ChunkReader, csid, encode_message};
use rtmp_proto::wire::message::{Command, Control, data};
use rtmp_proto::wire::{Limits, Message, MessageType};

/// What is heard when nothing is said.
pub(crate) const NOTHING: [&str; 0] = [];

/// What a client hears when its `connect` is accepted.
pub(crate) const CONNECT_ACCEPTED: [&str; 5] = [
    "WindowAckSize(2500000)",
    "SetPeerBandwidth(2500000, Dynamic)",
    "SetChunkSize(60000)",
    "_result 1 NetConnection.Connect.Success",
    "onBWDone",
];

/// What a player hears when its play is accepted, on message stream 1.
pub(crate) const PLAY_ACCEPTED: [&str; 4] = [
    "StreamBegin(1)",
    "onStatus@1 NetStream.Play.Reset",
    "onStatus@1 NetStream.Play.Start",
    "data@1 |RtmpSampleAccess",
];

/// What a publisher hears when its publish is accepted, on message stream 1.
pub(crate) const PUBLISH_ACCEPTED: [&str; 2] = [
    "onFCPublish@1 NetStream.Publish.Start",
    "onStatus@1 NetStream.Publish.Start",
];

/// What a server's caller does with requests.
#[derive(Clone)]
pub(crate) enum Policy {
    Accept,
    Refuse(Status),
    /// Leaves the test to answer.
    Wait,
}

/// A server session and the client's end of its wire.
pub(crate) struct Server {
    pub session: ServerSession,
    pub policy: Policy,
    pub settings: ConnectSettings,
    reader: ChunkReader,
    pub events: Vec<ServerEvent>,
    pub out: Vec<u8>,
}

impl Server {
    /// After the handshake.
    pub(crate) fn new() -> Server {
        let mut server = Server::before_handshake();
        server
            .read(&[vec![3], vec![0; 1536 + 1536]].concat())
            .unwrap();
        assert_eq!(server.out.len(), 1 + 1536 + 1536);
        server.out.clear();
        server
    }

    pub(crate) fn before_handshake() -> Server {
        Server {
            session: ServerSession::new(&Limits::default()),
            policy: Policy::Accept,
            settings: ConnectSettings::default(),
            reader: ChunkReader::new(&Limits::default()),
            events: Vec::new(),
            out: Vec::new(),
        }
    }

    /// After `connect` to application `live`.
    pub(crate) fn connected() -> Server {
        let mut server = Server::new();
        server.say(&connect(&[("app", "live".into())]), 0).unwrap();
        server.events.clear();
        server
    }

    /// After `connect` and `createStream`.
    pub(crate) fn with_stream() -> Server {
        let mut server = Server::connected();
        let replies = server.say(&call("createStream", 2, &[]), 0).unwrap();
        assert_eq!(replies, ["_result 2 1"]);
        server
    }

    pub(crate) fn publishing() -> Server {
        let mut server = Server::with_stream();
        server
            .say(&call("publish", 3, &["camera".into(), "live".into()]), 1)
            .unwrap();
        server.events.clear();
        server
    }

    pub(crate) fn playing() -> Server {
        let mut server = Server::with_stream();
        server.say(&call("play", 3, &["camera".into()]), 1).unwrap();
        server.events.clear();
        server
    }

    /// Sends a command on a message stream and returns what comes back.
    pub(crate) fn say(
        &mut self,
        command: &Command,
        stream_id: u32,
    ) -> Result<Vec<String>, SessionError> {
        self.send(&command.to_message(stream_id))
    }

    pub(crate) fn send(&mut self, message: &Message) -> Result<Vec<String>, SessionError> {
        let csid = csid::for_message(message.message_type, message.stream_id);
        let mut bytes = Vec::new();
        encode_message(message, 128, csid, &mut bytes);
        self.bytes(&bytes)
    }

    /// Sends bytes and returns what comes back, in words; after an error,
    /// `heard` has it.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<String>, SessionError> {
        self.read(bytes)?;
        Ok(self.heard())
    }

    /// Lets the session read bytes; what it says stays in `out`.
    pub(crate) fn read(&mut self, mut input: &[u8]) -> Result<(), SessionError> {
        while let Some(event) = self.session.read(&mut input, &mut self.out)? {
            self.answer(&event);
            self.events.push(event);
        }
        Ok(())
    }

    /// What the server has said since the last time, in words.
    pub(crate) fn heard(&mut self) -> Vec<String> {
        self.messages().iter().map(in_words).collect()
    }

    /// What the server has said since the last time.
    pub(crate) fn messages(&mut self) -> Vec<Message> {
        let out = std::mem::take(&mut self.out);
        let mut input = &out[..];
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut input).unwrap() {
            messages.push(message);
        }
        messages
    }

    fn answer(&mut self, event: &ServerEvent) {
        let Server { session, out, .. } = self;
        match (event, &self.policy) {
            (_, Policy::Wait) => {}
            (ServerEvent::Connect(_), Policy::Accept) => {
                session.accept_connect(&self.settings, out);
            }
            (ServerEvent::Connect(_), Policy::Refuse(status)) => {
                session.refuse_connect(status, out);
            }
            (ServerEvent::Publish(request), Policy::Accept) => {
                assert!(session.accept_publish(request.stream_id, out));
            }
            (ServerEvent::Publish(request), Policy::Refuse(status)) => {
                assert!(session.refuse_publish(request.stream_id, status, out));
            }
            (ServerEvent::Play(request), Policy::Accept) => {
                assert!(session.accept_play(request.stream_id, out));
            }
            (ServerEvent::Play(request), Policy::Refuse(status)) => {
                assert!(session.refuse_play(request.stream_id, status, out));
            }
            _ => {}
        }
    }
}

/// `connect` with these properties.
pub(crate) fn connect(properties: &[(&str, Value)]) -> Command {
    let object = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    Command {
        object: Value::Object(object),
        ..Command::new("connect", 1.0, vec![])
    }
}

pub(crate) fn call(name: &str, transaction: u32, arguments: &[Value]) -> Command {
    Command::new(name, f64::from(transaction), arguments.to_vec())
}

pub(crate) fn video(stream_id: u32, payload: &[u8]) -> Message {
    Message {
        timestamp: 40,
        message_type: MessageType::VIDEO,
        stream_id,
        payload: payload.to_vec().into(),
    }
}

/// A message as a table shows it: `_result 2 1`, `onStatus@1
/// NetStream.Play.Start`, `SetChunkSize(60000)`, `data@1 onStatus`.
pub(crate) fn in_words(message: &Message) -> String {
    let at = match message.stream_id {
        0 => String::new(),
        id => format!("@{id}"),
    };
    if let Some(control) = Control::parse(message) {
        return match control {
            Control::UserControl(event) => format!("{event:?}"),
            control => format!("{control:?}"),
        };
    }
    if message.message_type.is_command() {
        let command = Command::parse(message, 32).unwrap();
        let code = |value: &Value| value.get("code").and_then(Value::as_str).map(str::to_owned);
        let mut words = format!("{}{at}", command.name);
        if command.transaction_id != 0.0 {
            words += &format!(" {}", command.transaction_id);
        }
        for argument in &command.arguments {
            words += &match argument {
                Value::Null => " null".to_owned(),
                Value::Undefined => " undefined".to_owned(),
                Value::Number(number) => format!(" {number}"),
                other => format!(" {}", code(other).unwrap_or_else(|| format!("{other:?}"))),
            };
        }
        return words;
    }
    if message.message_type == MessageType::DATA_AMF0 {
        let name = data::name(message).unwrap_or_default();
        return format!("data{at} {}", name.escape_ascii());
    }
    format!("{:?}{at}", message.message_type)
}
