//! Players on real sockets: what reaches them, and when they go.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc;
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::session::StreamKey;
use crate::stream::index::Retention;
use crate::stream::registry::Registry;
use crate::stream::{AppendError, MESSAGE_STREAM, Publication, StreamSettings};
use crate::wire::chunk::ChunkReader;
use crate::wire::{Limits, Message, MessageType};

/// Longer than anything here takes on the most loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const CHUNK_SIZE: u32 = 4_096;

/// A player that speaks in single bytes.
#[derive(Debug)]
pub(super) struct Speller;

impl Dialogue for Speller {
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
                b'r' => {
                    let payload = Bytes::from_static(b"reply");
                    let message = Message {
                        timestamp: 0,
                        message_type: REPLY,
                        stream_id: 0,
                        payload,
                    };
                    crate::wire::chunk::encode_message(&message, CHUNK_SIZE, 3, replies);
                }
                other => return Err(format!("cannot read {other}")),
            }
        }
        Ok(())
    }
}

const REPLY: MessageType = MessageType::COMMAND_AMF0;

struct Server {
    registry: Registry,
    fanout: Fanout<Speller>,
    departures: mpsc::Receiver<Departed<Speller>>,
    listener: TcpListener,
    next_id: u64,
}

pub(super) fn settings() -> StreamSettings {
    StreamSettings {
        chunk_size: CHUNK_SIZE,
        flush_after: Duration::ZERO,
        gop_cache: true,
        nodelay: false,
        retention: Retention {
            queue_length: Duration::from_secs(2),
            most_bytes: 256 << 20,
            most_messages: 1 << 18,
        },
    }
}

impl Server {
    fn start(workers: usize) -> Self {
        let doorbells = Doorbells::new(workers).unwrap();
        let (sender, departures) = mpsc::channel();
        let fanout = Fanout::start(doorbells.clone(), move |departed| {
            sender.send(departed).unwrap();
        });
        Self {
            registry: Registry::new(doorbells),
            fanout: fanout.unwrap(),
            departures,
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            next_id: 0,
        }
    }

    fn stream(&self, settings: &StreamSettings) -> Arc<Stream> {
        let key = StreamKey {
            vhost: "v".into(),
            app: "live".into(),
            stream: "s".into(),
        };
        self.registry.obtain(&key, settings, Instant::now())
    }

    fn join(&mut self, stream: &Arc<Stream>) -> Client {
        self.join_with(stream, |_| {})
    }

    fn join_with(
        &mut self,
        stream: &Arc<Stream>,
        adjust: impl FnOnce(&mut Joining<Speller>),
    ) -> Client {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let (socket, _) = self.listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        self.next_id += 1;
        let meter = Arc::new(Meter::default());
        let mut joining = Joining {
            id: self.next_id,
            socket,
            dialogue: Speller,
            stream: stream.clone(),
            stream_id: MESSAGE_STREAM,
            unsent: Vec::new(),
            requests: Vec::new(),
            meter: meter.clone(),
            gop_cache: None,
            send_timeout: PATIENCE,
            duration: None,
        };
        adjust(&mut joining);
        self.fanout.join(joining);
        Client {
            socket: client,
            reader: reader(),
            buffer: Vec::new(),
            id: self.next_id,
            meter,
        }
    }

    fn departure(&self) -> Departed<Speller> {
        self.departures.recv_timeout(PATIENCE).unwrap()
    }
}

/// However long the test takes, the player is not dropped.
fn patient(joining: &mut Joining<Speller>) {
    joining.send_timeout = Duration::from_secs(86_400);
}

pub(super) fn reader() -> ChunkReader {
    let mut reader = ChunkReader::new(&Limits::default());
    let mut size = Vec::new();
    let payload = Bytes::copy_from_slice(&CHUNK_SIZE.to_be_bytes());
    let message = Message {
        timestamp: 0,
        message_type: MessageType::SET_CHUNK_SIZE,
        stream_id: 0,
        payload,
    };
    crate::wire::chunk::encode_message(&message, 128, 2, &mut size);
    assert!(reader.read(&mut size.as_slice()).unwrap().is_some());
    reader
}

struct Client {
    socket: TcpStream,
    reader: ChunkReader,
    buffer: Vec<u8>,
    id: u64,
    meter: Arc<Meter>,
}

impl Client {
    /// The next message; `None` when the connection has been closed.
    fn message(&mut self) -> Option<Message> {
        loop {
            let mut input = self.buffer.as_slice();
            let message = self.reader.read(&mut input).unwrap();
            let left = input.len();
            self.buffer.drain(..self.buffer.len() - left);
            if message.is_some() {
                return message;
            }
            let mut bytes = [0; 65_536];
            match self.socket.read(&mut bytes).expect("no message came") {
                0 => return None,
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count)
            .map(|_| self.message().expect("the connection was closed"))
            .collect()
    }

    /// What kind each of the next messages is, and when.
    fn told(&mut self, count: usize) -> Vec<(&'static str, u32)> {
        self.messages(count)
            .iter()
            .map(|message| (kind(message), message.timestamp))
            .collect()
    }

    fn say(&mut self, letters: &[u8]) {
        self.socket.write_all(letters).unwrap();
    }
}

fn message(message_type: MessageType, timestamp: u32, payload: Vec<u8>) -> Message {
    Message {
        timestamp,
        message_type,
        stream_id: 7,
        payload: payload.into(),
    }
}

const PICTURE: usize = 10_000;

/// A picture whose every byte tells its time.
pub(super) fn picture(timestamp: u32, keyframe: bool) -> Message {
    let mut payload = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    let filling = timestamp.to_be_bytes();
    payload.extend(filling.iter().cycle().take(PICTURE));
    message(MessageType::VIDEO, timestamp, payload)
}

fn sound(timestamp: u32) -> Message {
    message(MessageType::AUDIO, timestamp, vec![0xaf, 1, 1, 2, 3])
}

fn headers() -> Vec<Message> {
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

fn kind(message: &Message) -> &'static str {
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

pub(super) fn publish(publication: &mut Publication, messages: &[Message]) {
    publication.append(messages, Instant::now()).unwrap();
}

#[test]
fn a_joining_player_gets_headers_and_the_newest_group_then_all_that_follows() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true), picture(40, false)]);
    publish(
        &mut publication,
        &[picture(80, true), sound(85), picture(120, false)],
    );
    let mut player = server.join(&stream);
    let beginning = player.told(6);
    assert_eq!(
        beginning,
        [
            ("data", 0),
            ("video header", 80),
            ("audio header", 80),
            ("keyframe", 80),
            ("sound", 85),
            ("picture", 120),
        ]
    );
    publish(&mut publication, &[picture(160, false)]);
    assert_eq!(
        player.message().unwrap().payload,
        picture(160, false).payload
    );
}

#[test]
fn a_header_too_large_to_keep_reaches_whoever_plays_and_nobody_who_joins() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let large = |first: &[u8], message_type| {
        let payload = [first, &vec![0; 1 << 20]].concat();
        message(message_type, 0, payload)
    };
    let metadata = large(b"\x02\0\x0aonMetaData\x08", MessageType::DATA_AMF0);
    publish(&mut publication, &headers()[1..]);
    publish(&mut publication, &[metadata, picture(0, true)]);
    let mut player = server.join(&stream);
    let beginning = [("video header", 0), ("audio header", 0), ("keyframe", 0)];
    assert_eq!(player.told(3), beginning);
    let video = large(&[0x17, 0, 0, 0, 0], MessageType::VIDEO);
    publish(&mut publication, &[video, picture(40, true)]);
    assert_eq!(player.told(2), [("video header", 0), ("keyframe", 40)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(2), [("audio header", 40), ("keyframe", 40)]);
}

#[test]
fn times_past_what_a_header_holds_reach_a_joining_player() {
    // Past 4.66 hours the time takes four more bytes in every chunk; past
    // 2³¹ and 2³² ms it still rises, modulo 2³².
    for start in [0x00ff_fff0, 0x7fff_fff0, 0xffff_fff0_u32] {
        let mut server = Server::start(1);
        let stream = server.stream(&settings());
        let mut publication = stream.publish(Instant::now()).unwrap();
        let sent = [picture(start, true), picture(start.wrapping_add(40), false)];
        publish(&mut publication, &headers());
        publish(&mut publication, &sent);
        let mut player = server.join(&stream);
        for _ in headers() {
            player.message().unwrap();
        }
        for picture in &sent {
            let got = player.message().unwrap();
            assert_eq!(
                (got.timestamp, &got.payload),
                (picture.timestamp, &picture.payload)
            );
        }
    }
}

#[test]
fn a_new_publishers_players_get_no_headers_of_the_last_one() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true)]);
    drop(publication);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(kind(&player.message().unwrap()), "keyframe");
}

#[test]
fn every_player_of_every_worker_gets_every_message_whole() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut players: Vec<Client> = (0..10).map(|_| server.join(&stream)).collect();
    for player in &mut players {
        assert_eq!(player.told(1), [("keyframe", 0)]);
    }
    assert_eq!(server.fanout.players(), [5, 5]);
    let pictures: Vec<Message> = (1..50).map(|number| picture(number * 40, false)).collect();
    for picture in &pictures {
        publish(&mut publication, std::slice::from_ref(picture));
    }
    for player in &mut players {
        for (got, sent) in player.messages(pictures.len()).iter().zip(&pictures) {
            assert_eq!(
                (got.timestamp, &got.payload),
                (sent.timestamp, &sent.payload)
            );
        }
    }
}

#[test]
fn a_flush_of_many_players_leaves_nobody_out_while_others_come_and_go() {
    const PICTURES: u32 = 40;
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut players: Vec<Client> = (0..300).map(|_| server.join(&stream)).collect();
    for number in 1..PICTURES {
        publish(&mut publication, &[picture(number * 40, false)]);
        // One from the middle leaves, one joins, in every flush.
        players.remove(players.len() / 2);
        players.push(server.join(&stream));
    }
    let all: Vec<u32> = (0..PICTURES).map(|number| number * 40).collect();
    for player in &mut players {
        let times: Vec<u32> = player.told(all.len()).iter().map(|told| told.1).collect();
        assert_eq!(times, all);
    }
}

#[test]
fn without_gop_cache_a_player_begins_at_the_next_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&StreamSettings {
        gop_cache: false,
        ..settings()
    });
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true), picture(40, false)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(3).last(), Some(&("audio header", 40)));
    publish(
        &mut publication,
        &[
            picture(80, false),
            sound(90),
            picture(120, true),
            sound(130),
        ],
    );
    assert_eq!(player.told(2), [("keyframe", 120), ("sound", 130)]);
}

#[test]
fn a_player_that_comes_before_the_publisher_gets_all_from_the_first_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut player = server.join(&stream);
    while stream.players() == 0 {
        std::thread::yield_now();
    }
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true)]);
    let told: Vec<_> = player.told(4).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(told, ["data", "video header", "audio header", "keyframe"]);
}

#[test]
fn a_slow_player_is_moved_to_a_keyframe_between_two_messages_and_costs_no_memory() {
    a_slow_player_on(MESSAGE_STREAM);
}

#[test]
fn so_is_one_on_another_message_stream() {
    a_slow_player_on(16);
}

fn a_slow_player_on(stream_id: u32) {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    let mut player = server.join_with(&stream, |joining| {
        patient(joining);
        joining.stream_id = stream_id;
    });
    let mut attentive = server.join(&stream);
    // Far more than any socket buffers hold: 30 MB, a group each second.
    let mut most_memory = 0;
    for number in 0..3_000 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
        while attentive.message().unwrap().message_type != MessageType::VIDEO {}
        most_memory = most_memory.max(stream.memory().unwrap());
    }
    // Two seconds of queue and one of a group at 250 kB/s, and the blocks of
    // the file; the 30 MB that went through are not there.
    assert!(most_memory < 4 << 20, "{most_memory} bytes of log");
    let skips = player.meter.skips.load(Ordering::Relaxed);
    assert!(skips > 0, "the player that read nothing was never moved on");
    assert_eq!(attentive.meter.skips.load(Ordering::Relaxed), 0);

    let (mut leaps, mut last) = (0, None);
    loop {
        let message = player.message().unwrap();
        assert_eq!(message.stream_id, stream_id);
        match kind(&message) {
            "keyframe" | "picture" => {}
            _ => continue,
        }
        let whole = picture(message.timestamp, kind(&message) == "keyframe");
        assert!(
            message.payload == whole.payload,
            "a picture has come to harm"
        );
        if last.is_some_and(|last| message.timestamp != last + 40) {
            leaps += 1;
            assert_eq!(
                kind(&message),
                "keyframe",
                "a leap to a picture that needs others"
            );
        }
        last = Some(message.timestamp);
        if message.timestamp == 2_999 * 40 {
            break;
        }
    }
    assert!(leaps > 0);
}

/// A player that reads 15 kB for every second of a stream of 80 kB/s.
#[test]
fn a_slow_reader_gets_whole_groups_for_minutes_and_holds_nobody_up() {
    const PER_SECOND: u32 = 8;
    const SECONDS: u32 = 300;
    const READ_PER_SECOND: usize = 15_000;
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let mut slow = server.join_with(&stream, |joining| {
        patient(joining);
        // What the kernel holds for it shall not be what is tested.
        let socket = socket2::SockRef::from(&joining.socket);
        socket.set_send_buffer_size(16_384).unwrap();
    });
    slow.socket.set_nonblocking(true).unwrap();
    let mut attentive = server.join(&stream);
    let (mut most_memory, mut read) = (0, Vec::new());
    for number in 0..PER_SECOND * SECONDS {
        let sent = picture(number * 1_000 / PER_SECOND, number % PER_SECOND == 0);
        publish(&mut publication, std::slice::from_ref(&sent));
        assert_eq!(attentive.message().unwrap().timestamp, sent.timestamp);
        most_memory = most_memory.max(stream.memory().unwrap());
        if number % PER_SECOND == 0 {
            let mut bytes = [0; READ_PER_SECOND];
            match slow.socket.read(&mut bytes) {
                Ok(count) => read.extend_from_slice(&bytes[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
    // Two seconds of queue and one of a group, and the blocks of the file; not
    // the 24 MB that went through.
    assert!(most_memory < 4 << 20, "{most_memory} bytes of log");
    assert!(
        server.departures.try_recv().is_err(),
        "somebody was dropped"
    );
    assert_eq!(attentive.meter.skips.load(Ordering::Relaxed), 0);
    let mut input = read.as_slice();
    let (mut leaps, mut last) = (0, None);
    while let Some(message) = slow.reader.read(&mut input).unwrap() {
        let keyframe = kind(&message) == "keyframe";
        assert!(
            message.payload == picture(message.timestamp, keyframe).payload,
            "a picture has come to harm"
        );
        if last.is_some_and(|last| message.timestamp > last + 1_000 / PER_SECOND) {
            assert!(keyframe, "a leap to a picture that needs others");
            leaps += 1;
        }
        last = Some(message.timestamp);
    }
    let skips = slow.meter.skips.load(Ordering::Relaxed);
    assert!(leaps > 0 && skips >= leaps, "{leaps} leaps, {skips} skips");
    let last = last.unwrap();
    assert!(last > SECONDS * 900, "it was left behind at {last} ms");
}

#[test]
fn new_headers_within_what_a_slow_player_has_missed_are_given_to_it() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    let mut player = server.join_with(&stream, patient);
    let mut number = 0;
    // Until it is stuck and has been moved on at least once.
    while player.meter.skips.load(Ordering::Relaxed) == 0 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
        number += 1;
    }
    let renewed = message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9, 9, 9]);
    publish(&mut publication, std::slice::from_ref(&renewed));
    let missed = number;
    for number in missed..missed + 200 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
    }
    let skips = player.meter.skips.load(Ordering::Relaxed);
    let mut renewed_seen = false;
    for _ in 0.. {
        let got = player.message().unwrap();
        if got.payload == renewed.payload {
            renewed_seen = true;
        }
        if kind(&got) == "keyframe" && got.timestamp > missed * 40 {
            assert!(renewed_seen, "a keyframe without the header that it needs");
            break;
        }
    }
    assert!(skips > 0);
}

#[test]
fn replies_come_between_messages_even_when_one_is_half_sent() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let mut player = server.join_with(&stream, patient);
    let mut number = 0;
    while player.meter.skips.load(Ordering::Relaxed) == 0 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
        number += 1;
    }
    // It is stuck, most likely within a message.
    player.say(b"r");
    loop {
        let message = player.message().unwrap();
        match kind(&message) {
            "reply" => break,
            kind => {
                let whole = picture(message.timestamp, kind == "keyframe");
                assert!(
                    message.payload == whole.payload,
                    "a picture has come to harm"
                );
            }
        }
    }
}

#[test]
fn a_paused_player_gets_nothing_and_goes_on_where_it_was() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("keyframe", 0)]);
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(&mut publication, &[picture(40, false)]);
    player.say(b"r");
    assert_eq!(player.told(1), [("reply", 0)]);
    player.say(b"P");
    assert_eq!(player.told(1), [("picture", 40)]);
}

#[test]
fn a_player_that_pauses_while_it_waits_gets_nothing_before_it_goes_on() {
    let mut server = Server::start(1);
    let waiting = StreamSettings {
        gop_cache: false,
        ..settings()
    };
    let stream = server.stream(&waiting);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(&mut publication, &[picture(40, true), picture(80, false)]);
    player.say(b"r");
    assert_eq!(player.told(1), [("reply", 0)], "it has paused");
    player.say(b"P");
    assert_eq!(player.told(2), [("keyframe", 40), ("picture", 80)]);
}

#[test]
fn who_joins_at_sound_gets_no_picture_before_a_keyframe() {
    let mut server = Server::start(1);
    let long = StreamSettings {
        retention: Retention {
            queue_length: Duration::from_secs(60),
            ..settings().retention
        },
        ..settings()
    };
    let stream = server.stream(&long);
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true), sound(5_000)]);
    publish(&mut publication, &[sound(10_020)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("sound", 10_020)]);
    let after = [picture(10_040, false), sound(10_060), picture(10_080, true)];
    publish(&mut publication, &after);
    let told = [("sound", 10_060), ("keyframe", 10_080)];
    assert_eq!(player.told(2), told);
    publish(&mut publication, &[picture(10_120, false)]);
    assert_eq!(player.told(1), [("picture", 10_120)]);
}

#[test]
fn empty_messages_are_not_kept() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    for message_type in [
        MessageType::DATA_AMF0,
        MessageType::DATA_AMF3,
        MessageType::VIDEO,
    ] {
        let empty = message(message_type, 0, Vec::new());
        publish(&mut publication, &vec![empty; 1_000]);
    }
    assert!(!stream.has_begun());
}

#[test]
fn a_player_paused_for_longer_than_the_queue_goes_on_at_a_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("keyframe", 0)]);
    player.say(b"pr");
    assert_eq!(player.told(1), [("reply", 0)]);
    let mut witness = server.join(&stream);
    for number in 1..=150 {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
    }
    // The worker has looked at all of it once the witness has it.
    while witness.message().unwrap().timestamp != 6_000 {}
    player.say(b"P");
    assert_eq!(player.told(1), [("keyframe", 6_000)]);
}

#[test]
fn pictures_can_be_turned_off_and_come_back_with_a_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("keyframe", 0)]);
    player.say(b"vr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(
        &mut publication,
        &[picture(40, false), sound(50), sound(60), picture(80, true)],
    );
    publish(&mut publication, &[sound(90)]);
    assert_eq!(
        player.told(3),
        [("sound", 50), ("sound", 60), ("sound", 90)]
    );
    player.say(b"Vr");
    assert_eq!(player.told(1), [("reply", 0)]);
    publish(
        &mut publication,
        &[picture(120, false), sound(130), picture(160, true)],
    );
    publish(&mut publication, &[picture(200, false)]);
    assert_eq!(
        player.told(3),
        [("sound", 130), ("keyframe", 160), ("picture", 200)]
    );
}

#[test]
fn a_player_with_a_duration_gets_that_much() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(1_000, true)]);
    let mut player = server.join_with(&stream, |joining| {
        joining.duration = Some(Duration::from_millis(80));
    });
    publish(
        &mut publication,
        &[picture(1_040, false), picture(1_080, false)],
    );
    assert_eq!(player.told(2), [("keyframe", 1_000), ("picture", 1_040)]);
    assert_eq!(server.departure().reason, Reason::Complete);
}

#[test]
fn a_player_that_leaves_takes_its_socket_and_dialogue_along() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("keyframe", 0)]);
    player.say(b"l");
    let mut departed = server.departure();
    assert_eq!((departed.id, &departed.reason), (player.id, &Reason::Asked));
    assert_eq!(stream.players(), 0);
    departed.socket.write_all(&departed.unsent).unwrap();
    departed.socket.write_all(b"").unwrap();
    drop(departed);
    assert_eq!(player.message(), None);
}

#[test]
fn small_packets_wait_only_where_messages_are_gathered_and_nobody_asked_otherwise() {
    let gathering = Duration::from_millis(5);
    for (flush_after, asked, expected) in [
        (gathering, false, false),
        (gathering, true, true),
        (Duration::ZERO, false, true),
    ] {
        let mut server = Server::start(1);
        let settings = StreamSettings {
            flush_after,
            nodelay: asked,
            ..settings()
        };
        let stream = server.stream(&settings);
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        let mut player = server.join(&stream);
        player.message().unwrap();
        player.say(b"l");
        let nodelay = server.departure().socket.nodelay().unwrap();
        assert_eq!(
            nodelay, expected,
            "gathering for {flush_after:?}, tcp_nodelay {asked}"
        );
    }
}

#[test]
fn players_that_are_there_follow_a_change_of_how_small_packets_are_sent() {
    let mut server = Server::start(1);
    let gathering = StreamSettings {
        flush_after: Duration::from_millis(5),
        ..settings()
    };
    for (before, after) in [(gathering, settings()), (settings(), gathering)] {
        let stream = server.stream(&before);
        stream.apply(&before);
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true)]);
        let mut player = server.join(&stream);
        player.message().unwrap();
        stream.apply(&after);
        publish(&mut publication, &[picture(40, false)]);
        player.message().unwrap();
        player.say(b"l");
        let nodelay = server.departure().socket.nodelay().unwrap();
        assert_eq!(nodelay, after.flush_after.is_zero(), "then {after:?}");
    }
}

#[test]
fn a_closed_connection_is_noticed_without_a_message_of_the_stream() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let player = server.join(&stream);
    let id = player.id;
    drop(player);
    let departed = server.departure();
    assert_eq!((departed.id, departed.reason), (id, Reason::Closed));
}

#[test]
fn a_player_that_makes_no_sense_is_let_go_alone() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let mut mad = server.join(&stream);
    let mut sane = server.join(&stream);
    mad.say(b"?");
    assert_eq!(
        server.departure().reason,
        Reason::Misbehaved("cannot read 63".to_owned())
    );
    publish(&mut publication, &[picture(0, true)]);
    assert_eq!(sane.told(1), [("keyframe", 0)]);
}

#[test]
fn a_player_that_takes_nothing_is_dropped_in_the_end() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let _stuck = server.join_with(&stream, |joining| {
        joining.send_timeout = Duration::from_millis(1);
    });
    let begun = Instant::now();
    let mut number = 0;
    let departed = loop {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
        number += 1;
        if let Ok(departed) = server.departures.try_recv() {
            break departed;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the stuck player is still there"
        );
    };
    assert_eq!(departed.reason, Reason::Stalled);
}

#[test]
fn the_players_of_a_stream_that_ends_are_let_go() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let players = [server.join(&stream), server.join(&stream)];
    while stream.players() < players.len() {
        std::thread::yield_now();
    }
    stream.end();
    for _ in &players {
        assert_eq!(server.departure().reason, Reason::StreamOver);
    }
    let refused = publication.append(&[picture(0, true)], Instant::now());
    assert!(matches!(refused, Err(AppendError::Over)));
}

#[test]
fn one_player_can_be_dismissed() {
    let mut server = Server::start(2);
    let stream = server.stream(&settings());
    let _others = [server.join(&stream), server.join(&stream)];
    let player = server.join(&stream);
    server.fanout.dismiss(player.id);
    let departed = server.departure();
    assert_eq!(
        (departed.id, departed.reason),
        (player.id, Reason::Dismissed)
    );
}

#[test]
fn a_second_publisher_is_refused_unless_the_first_has_fallen_silent() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut first = stream.publish(now).unwrap();
    assert!(stream.publish(now + Duration::from_millis(1_900)).is_err());
    let silent = now + Duration::from_secs(2);
    let mut second = stream.publish(silent).unwrap();
    let refused = first.append(&[picture(0, true)], silent);
    assert!(matches!(refused, Err(AppendError::TakenOver)));
    drop(first);
    assert!(
        stream.is_published(),
        "the former publisher's end is not the present one's"
    );
    second.append(&[picture(0, true)], silent).unwrap();
}

#[test]
fn a_publisher_that_nobody_listens_to_is_not_silent() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let second = |number| now + Duration::from_secs(number);
    let publication = stream.publish(now).unwrap();
    publication.is_not_heard_until(second(10));
    assert_eq!(stream.publish(second(11)).unwrap_err(), crate::stream::Busy);
    let taken_over = stream.publish(second(12)).unwrap();
    publication.is_not_heard_until(second(100));
    assert!(
        stream.publish(second(14)).is_ok(),
        "its word counts no more"
    );
    drop(taken_over);
}

#[test]
fn a_stream_that_nobody_holds_is_forgotten_after_its_time() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let patience = Duration::from_secs(10);
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    let later = now + Duration::from_secs(3_600);
    drop(stream);
    publish(&mut publication, &[picture(0, true)]);
    server.registry.sweep(later, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "it has a publisher");
    drop(publication);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "its publisher may return");
    server.registry.sweep(later, |_| patience);
    assert_eq!(server.registry.list().len(), 0);
}

#[test]
fn a_stream_that_nobody_has_published_is_forgotten_as_soon_as_nobody_wants_it() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let patience = Duration::from_secs(3_600);
    let seat = stream.take_seat();
    drop(stream);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 1, "somebody waits for it");
    // Whoever publishes nothing leaves nothing.
    drop(seat.stream().publish(now).unwrap());
    drop(seat);
    server.registry.sweep(now, |_| patience);
    assert_eq!(server.registry.list().len(), 0);
}

#[test]
fn a_player_that_waits_for_a_keyframe_is_sent_it_at_once() {
    let mut server = Server::start(1);
    for gop_cache in [true, false] {
        let gathering = StreamSettings {
            flush_after: Duration::from_secs(86_400),
            gop_cache,
            ..settings()
        };
        let stream = server.stream(&gathering);
        stream.apply(&gathering);
        let mut player = server.join(&stream);
        while stream.players() == 0 {
            std::thread::yield_now();
        }
        let mut publication = stream.publish(Instant::now()).unwrap();
        // The worker is told of each batch by itself.
        publish(&mut publication, &headers());
        publish(&mut publication, &[sound(5_980)]);
        publish(&mut publication, &[picture(5_990, false)]);
        publish(&mut publication, &[picture(6_000, true)]);
        let told = player.told(4);
        assert_eq!(
            told.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
            ["data", "video header", "audio header", "keyframe"]
        );
        stream.end();
        drop(publication);
        server.departure();
    }
}

#[test]
fn headers_that_come_before_the_first_frame_are_of_its_time() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    let mut player = server.join(&stream);
    while stream.players() == 0 {
        std::thread::yield_now();
    }
    publish(&mut publication, &[picture(6_000, true)]);
    let expected = [
        ("data", 0),
        ("video header", 6_000),
        ("audio header", 6_000),
        ("keyframe", 6_000),
    ];
    assert_eq!(player.told(4), expected);
}

/// A stream that an origin sends: headers, and a picture each 40 ms from
/// `group` up to `end`, with a keyframe every second.
fn from_origin(group: u32, end: u32) -> Vec<Message> {
    let mut messages = headers();
    for timestamp in (group..end).step_by(40) {
        messages.push(picture(timestamp, timestamp % 1_000 == 0));
        messages.push(sound(timestamp + 7));
    }
    messages
}

#[test]
fn an_origin_that_is_pulled_from_again_brings_only_what_is_new() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream.relay(now).unwrap();
    publication.append(&from_origin(7_000, 8_520), now).unwrap();
    let mut player = server.join(&stream);
    let seen = player.told(3 + 26).last().copied();
    assert_eq!(seen, Some(("sound", 8_487)));
    drop(publication);
    let later = now + Duration::from_secs(1);
    let mut publication = stream.relay(later).unwrap();
    // Its newest group, and what it has got meanwhile.
    for message in from_origin(8_000, 9_520) {
        publication.append(&[message], later).unwrap();
    }
    let mut expected = Vec::new();
    for timestamp in (8_520..9_520).step_by(40) {
        let keyframe = timestamp % 1_000 == 0;
        expected.push((if keyframe { "keyframe" } else { "picture" }, timestamp));
        expected.push(("sound", timestamp + 7));
    }
    assert_eq!(player.told(expected.len()), expected);
}

#[test]
fn new_headers_after_a_repeated_group_are_not_lost() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream.relay(now).unwrap();
    publication.append(&from_origin(0, 80), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 4);
    drop(publication);
    let mut publication = stream.relay(now).unwrap();
    let mut messages = from_origin(0, 80);
    let cue = message(MessageType::DATA_AMF0, 0, b"\x02\0\x01a".to_vec());
    messages.insert(6, cue.clone());
    let renewed = message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9, 9, 9]);
    messages.extend([renewed.clone(), picture(1_000, true), cue.clone()]);
    publication.append(&messages, now).unwrap();
    let header = player.message().unwrap();
    assert_eq!((header.timestamp, header.payload), (1_000, renewed.payload));
    assert_eq!(player.told(1), [("keyframe", 1_000)]);
    assert_eq!(player.message().unwrap().payload, cue.payload);
}

#[test]
fn another_stream_from_an_origin_is_not_taken_for_the_one_before() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut publication = stream.relay(now).unwrap();
    publication.append(&from_origin(0, 1_080), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 4);
    drop(publication);
    // Its time lies within what is known, its pictures are others.
    let mut publication = stream.relay(now).unwrap();
    let mut other = picture(1_000, true);
    other.payload = [other.payload.as_ref(), &[1]].concat().into();
    publication.append(&[other.clone()], now).unwrap();
    let got = player.message().unwrap();
    assert_eq!((got.timestamp, got.payload), (1_087, other.payload));
}

#[test]
fn a_file_that_is_played_again_is_not_taken_for_the_stream_that_goes_on() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.retention.queue_length = Duration::from_secs(30);
    let stream = server.stream(&settings);
    let now = Instant::now();
    let mut publication = stream.relay(now).unwrap();
    publication.append(&from_origin(0, 9_000), now).unwrap();
    let mut player = server.join(&stream);
    player.told(3 + 50);
    drop(publication);
    // The log has its first pictures, but not where an origin would begin.
    let mut publication = stream.relay(now).unwrap();
    publication.append(&from_origin(0, 80), now).unwrap();
    let time = 8_967 + 40;
    let expected = [
        ("data", 0),
        ("video header", time),
        ("audio header", time),
        ("keyframe", time),
        ("sound", time + 7),
        ("picture", time + 40),
        ("sound", time + 47),
    ];
    assert_eq!(player.told(expected.len()), expected);
}

/// Appends each of `messages` when its time has come, from `now` on.
fn append_in_real_time(publication: &mut Publication, now: Instant, messages: &[Message]) {
    for message in messages {
        let later = now + Duration::from_millis(message.timestamp.into());
        publication
            .append(std::slice::from_ref(message), later)
            .unwrap();
    }
}

#[test]
fn another_stream_that_begins_alike_is_not_left_out_for_long() {
    let mut server = Server::start(1);
    let mut settings = settings();
    settings.retention.queue_length = Duration::from_secs(30);
    let stream = server.stream(&settings);
    let now = Instant::now();
    let pictures = |end: u32| (0..end).step_by(40).map(|time| picture(time, time == 0));
    let mut publication = stream.relay(now).unwrap();
    let first: Vec<_> = pictures(9_000).collect();
    publication.append(&first, now).unwrap();
    let mut player = server.join(&stream);
    player.told(first.len());
    drop(publication);
    let mut publication = stream.relay(now).unwrap();
    let mut other: Vec<_> = pictures(3_000).collect();
    other.push(picture(3_000, true));
    append_in_real_time(&mut publication, now, &other);
    assert_eq!(player.told(1), [("keyframe", 8_960 + 3_000)]);
}

#[test]
fn nor_is_sound_alone_whose_clock_falls_back() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let sounds = |end: u32| (0..end).step_by(20).map(sound).collect::<Vec<_>>();
    let mut publication = stream.relay(now).unwrap();
    publication.append(&sounds(9_000), now).unwrap();
    let mut player = server.join(&stream);
    assert_eq!(player.told(1), [("sound", 8_980)]);
    drop(publication);
    let mut publication = stream.relay(now).unwrap();
    publication.append(&[sound(8_980)], now).unwrap();
    append_in_real_time(&mut publication, now, &sounds(4_000));
    let first = player.told(1)[0];
    assert!(
        first.1 > 8_980 && first.1 < 8_980 + 3_000,
        "goes on at {first:?}"
    );
}

/// A picture of the second track (Enhanced RTMP v2, one track per message).
fn second_track(timestamp: u32) -> Message {
    // Enhanced, a keyframe, multitrack; one track of coded frames, H.264, 1.
    let mut payload = b"\x96\x01avc1\x01\0\0\0".to_vec();
    payload.extend(timestamp.to_be_bytes());
    message(MessageType::VIDEO, timestamp, payload)
}

#[test]
fn tracks_of_one_time_are_whole_where_the_connection_broke_between_them() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let tracks = |time: u32| [picture(time, time == 0), second_track(time)];
    let group: Vec<_> = [0, 40, 80].into_iter().flat_map(tracks).collect();
    let mut publication = stream.relay(now).unwrap();
    // All but the second track's last picture.
    publication.append(&group[..5], now).unwrap();
    let mut player = server.join(&stream);
    player.told(5);
    drop(publication);
    let mut publication = stream.relay(now).unwrap();
    publication.append(&group, now).unwrap();
    publication.append(&tracks(120), now).unwrap();
    for expected in [&group[5], &tracks(120)[0], &tracks(120)[1]] {
        let got = player.message().unwrap();
        assert_eq!(
            (got.timestamp, &got.payload),
            (expected.timestamp, &expected.payload)
        );
    }
}
