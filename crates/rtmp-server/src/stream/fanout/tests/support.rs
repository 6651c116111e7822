//! A server of nothing but fan-out, its players, and what they are sent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::chunk::ChunkReader;
use rtmp_proto::wire::message::{Control, UserControl};
use rtmp_proto::wire::{Limits, Message, MessageType};

use crate::hand_over::{Blob, HandOverError};
use crate::stream::fanout::{Delivery, Dialogue, Fanout, Joining, Meter, Request, ReturnedPlayer};
use crate::stream::log::MESSAGE_STREAM;
use crate::stream::{
    AppendError, MediaMessage, PerTrack, Publication, Registry, Retention, Stream, StreamSettings,
    Wakers,
};

pub(crate) use netbed::TIME_LIMIT;

const CHUNK_SIZE: u32 = 4_096;

/// A player that speaks in single bytes.
#[derive(Debug)]
pub(crate) struct TestDialogue;

impl Dialogue for TestDialogue {
    fn receive(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        requests: &mut Vec<Request>,
    ) -> Result<(), String> {
        for letter in input {
            match letter {
                b'p' => requests.push(Request::Pause(true)),
                b'P' => requests.push(Request::Pause(false)),
                b'v' => requests.push(Request::Video(false)),
                b'V' => requests.push(Request::Video(true)),
                b'l' => requests.push(Request::Leave),
                b'r' => reply(replies),
                other => return Err(format!("cannot read {other}")),
            }
        }
        Ok(())
    }

    fn announce_drain(&mut self, replies: &mut Vec<u8>) {
        reply(replies);
    }

    fn part(&self) -> Result<Blob, HandOverError> {
        Blob::of(&())
    }
}

fn reply(replies: &mut Vec<u8>) {
    let message = Message {
        timestamp: 0,
        message_type: REPLY,
        stream_id: 0,
        payload: Bytes::from_static(b"reply"),
    };
    rtmp_proto::wire::chunk::encode_message(&message, CHUNK_SIZE, 3, replies);
}

const REPLY: MessageType = MessageType::COMMAND_AMF0;

pub(crate) struct Server {
    pub registry: Registry,
    pub fanout: Fanout<TestDialogue>,
    pub departures: mpsc::Receiver<ReturnedPlayer<TestDialogue>>,
    listener: TcpListener,
    next_id: u64,
}

pub(crate) fn settings() -> StreamSettings {
    let of_tests = StreamSettings::of_tests();
    StreamSettings {
        chunk_size: CHUNK_SIZE,
        retention: Retention {
            queue_length: Duration::from_secs(2),
            ..of_tests.retention
        },
        ..of_tests
    }
}

/// A player that wants all of `stream`.
pub(crate) fn joining(id: u64, socket: TcpStream, stream: &Arc<Stream>) -> Joining<TestDialogue> {
    Joining {
        id,
        socket: socket.into(),
        dialogue: TestDialogue,
        stream: stream.clone(),
        delivery: Delivery::Chunks,
        tracks: PerTrack::BOTH,
        stream_id: MESSAGE_STREAM,
        unsent: Vec::new(),
        requests: Vec::new(),
        meter: Arc::new(Meter::default()),
        gop_cache: None,
        at_once: false,
        send_timeout: TIME_LIMIT,
        duration: None,
    }
}

impl Server {
    pub(crate) fn start(workers: usize) -> Self {
        let wakers = Wakers::new(workers).unwrap();
        let (sender, departures) = mpsc::channel();
        let fanout = Fanout::start(wakers.clone(), move |returned| {
            sender.send(returned).unwrap();
        });
        Self {
            registry: Registry::new(wakers, u64::MAX, Instant::now()),
            fanout: fanout.unwrap(),
            departures,
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            next_id: 0,
        }
    }

    pub(crate) fn stream(&self, settings: &StreamSettings) -> Arc<Stream> {
        let key = StreamKey {
            vhost: "v".into(),
            app: "live".into(),
            stream: "s".into(),
        };
        self.registry.obtain(&key, settings, Instant::now())
    }

    /// A stream with a keyframe at 0 and a player that has been told of it.
    pub(crate) fn playing(&mut self) -> (Arc<Stream>, Publication, Client) {
        let stream = self.stream(&settings());
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        let mut player = self.join(&stream);
        assert_eq!(player.told(1), [("keyframe", 0)]);
        (stream, publication, player)
    }

    pub(crate) fn join(&mut self, stream: &Arc<Stream>) -> Client {
        self.join_with(stream, |_| {})
    }

    pub(crate) fn join_with(
        &mut self,
        stream: &Arc<Stream>,
        adjust: impl FnOnce(&mut Joining<TestDialogue>),
    ) -> Client {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        self.next_id += 1;
        let mut joining = joining(self.next_id, socket, stream);
        let meter = joining.meter.clone();
        adjust(&mut joining);
        let stream_id = joining.stream_id;
        self.fanout.join(joining);
        Client {
            socket: client,
            reader: reader(),
            buffer: Vec::new(),
            id: self.next_id,
            meter,
            stream_id,
            begun: 0,
        }
    }

    pub(crate) fn departure(&self) -> ReturnedPlayer<TestDialogue> {
        self.departures.recv_timeout(TIME_LIMIT).unwrap()
    }
}

/// However long the test takes, the player is not dropped.
pub(crate) fn without_send_timeout(joining: &mut Joining<TestDialogue>) {
    joining.send_timeout = Duration::from_secs(86_400);
}

pub(crate) fn reader() -> ChunkReader {
    let mut reader = ChunkReader::new(&Limits::default());
    let mut size = Vec::new();
    let payload = Bytes::copy_from_slice(&CHUNK_SIZE.to_be_bytes());
    let message = Message {
        timestamp: 0,
        message_type: MessageType::SET_CHUNK_SIZE,
        stream_id: 0,
        payload,
    };
    rtmp_proto::wire::chunk::encode_message(&message, 128, 2, &mut size);
    assert!(reader.read(&mut size.as_slice()).unwrap().is_some());
    reader
}

pub(crate) struct Client {
    pub socket: TcpStream,
    pub reader: ChunkReader,
    buffer: Vec<u8>,
    pub id: u64,
    pub meter: Arc<Meter>,
    /// The message stream that it plays on.
    stream_id: u32,
    /// Number of times that it has been told that another publication begins.
    pub begun: usize,
}

impl Client {
    /// The next message of the stream; `None` when the connection has been closed.
    pub(crate) fn message(&mut self) -> Option<Message> {
        loop {
            let mut input = self.buffer.as_slice();
            let message = self.reader.read(&mut input).unwrap();
            let left = input.len();
            self.buffer.drain(..self.buffer.len() - left);
            match message {
                Some(message) if message.message_type == MessageType::USER_CONTROL => {
                    let begin = Control::UserControl(UserControl::StreamBegin(self.stream_id));
                    assert_eq!(Control::parse(&message), Some(begin));
                    self.begun += 1;
                    continue;
                }
                Some(message) => return Some(message),
                None => {}
            }
            let mut bytes = [0; 65_536];
            match self.socket.read(&mut bytes).expect("no message came") {
                0 => return None,
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    pub(crate) fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count)
            .map(|_| self.message().expect("the connection was closed"))
            .collect()
    }

    /// The kind of each of the next messages, and its time.
    pub(crate) fn told(&mut self, count: usize) -> Vec<(&'static str, u32)> {
        self.messages(count)
            .iter()
            .map(|message| (kind(message), message.timestamp))
            .collect()
    }

    pub(crate) fn say(&mut self, letters: &[u8]) {
        self.socket.write_all(letters).unwrap();
    }
}

pub(crate) fn message(message_type: MessageType, timestamp: u32, payload: Vec<u8>) -> Message {
    Message {
        timestamp,
        message_type,
        stream_id: 7,
        payload: payload.into(),
    }
}

const PICTURE: usize = 10_000;

/// A picture whose every byte tells its time.
pub(crate) fn picture(timestamp: u32, keyframe: bool) -> Message {
    let mut payload = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    let filling = timestamp.to_be_bytes();
    payload.extend(filling.iter().cycle().take(PICTURE));
    message(MessageType::VIDEO, timestamp, payload)
}

pub(crate) fn sound(timestamp: u32) -> Message {
    message(MessageType::AUDIO, timestamp, vec![0xaf, 1, 1, 2, 3])
}

pub(crate) fn headers() -> Vec<Message> {
    vec![
        message(
            MessageType::DATA_AMF0,
            0,
            b"\x02\0\x0aonMetaData\x05".to_vec(),
        ),
        message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 1, 2, 3]),
        message(MessageType::AUDIO, 0, vec![0xaf, 0, 0x12, 0x10]),
    ]
}

pub(crate) fn kind(message: &Message) -> &'static str {
    match (message.message_type, &message.payload[..2]) {
        (MessageType::VIDEO, [0x17, 0]) => "video header",
        (MessageType::VIDEO, [0x17, 1]) => "keyframe",
        (MessageType::VIDEO, _) => "picture",
        (MessageType::AUDIO, [0xaf, 0]) => "audio header",
        (MessageType::AUDIO, _) => "sound",
        (MessageType::DATA_AMF0, _) => "data",
        (REPLY, _) => "reply",
        _ => "something else",
    }
}

pub(crate) fn append(
    publication: &mut Publication,
    messages: &[Message],
    now: Instant,
) -> Result<(), AppendError> {
    let messages: Vec<_> = messages.iter().cloned().map(MediaMessage::from).collect();
    publication.append(&messages, now)
}

pub(crate) fn publish(publication: &mut Publication, messages: &[Message]) {
    append(publication, messages, Instant::now()).unwrap();
}
