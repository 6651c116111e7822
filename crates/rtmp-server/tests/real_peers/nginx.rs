//! Our client session against nginx-rtmp, and nginx-rtmp as a client of ours.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use netbed::{TIME_LIMIT, wait_for};
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose};
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Limits, Message, MessageType};

use rtmp_server::config::Role;

use crate::common::nginx::{Nginx, nginx};
use crate::common::server::{any_port, configuration, serve};
use crate::relay::{Relay, Reply};

/// A client session with a socket.
struct Client {
    session: ClientSession,
    connection: TcpStream,
    buffer: Vec<u8>,
    /// Bytes received and not yet read.
    input: Vec<u8>,
    out: Vec<u8>,
}

impl Client {
    fn connect(purpose: Purpose, address: SocketAddr) -> Client {
        let connection = TcpStream::connect(address).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let mut config =
            ClientConfig::new(purpose, &format!("rtmp://{address}/live"), "live", "camera");
        // As an edge of ours says it.
        config.gop_cache = (purpose == Purpose::Play).then_some(true);
        let mut out = Vec::new();
        let session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
        Client {
            session,
            connection,
            buffer: vec![0; 64 << 10],
            input: Vec::new(),
            out,
        }
    }

    /// The next event of what has been received.
    fn received(&mut self) -> Option<ClientEvent> {
        let mut input = &self.input[..];
        let event = self.session.read(&mut input, &mut self.out).unwrap();
        let taken = self.input.len() - input.len();
        self.input.drain(..taken);
        self.flush();
        event
    }

    /// The next event.
    fn next(&mut self) -> ClientEvent {
        loop {
            if let Some(event) = self.received() {
                return event;
            }
            match self.connection.read(&mut self.buffer) {
                Ok(0) => panic!("nginx has closed the connection"),
                Ok(len) => self.input.extend_from_slice(&self.buffer[..len]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("waiting for an event: {error}"),
            }
        }
    }

    /// Passes over events until this one comes.
    fn wait_for(&mut self, expected: &ClientEvent) {
        while self.next() != *expected {}
    }

    fn next_media(&mut self) -> Message {
        loop {
            if let ClientEvent::Media(message) = self.next() {
                return message;
            }
        }
    }

    /// The media that comes until nothing has come for `silence`.
    fn media_within(&mut self, silence: Duration) -> Vec<Message> {
        self.connection.set_read_timeout(Some(silence)).unwrap();
        let mut media = Vec::new();
        loop {
            match self.received() {
                Some(ClientEvent::Media(message)) => media.push(message),
                Some(_) => {}
                None => match self.connection.read(&mut self.buffer) {
                    Ok(0) => panic!("the server has closed the connection"),
                    Ok(len) => self.input.extend_from_slice(&self.buffer[..len]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => panic!("waiting for media: {error}"),
                },
            }
        }
        self.connection.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        media
    }

    fn publish(&mut self, message: &Message) {
        assert!(self.session.publish(message, &mut self.out));
        self.flush();
    }

    fn flush(&mut self) {
        self.connection
            .write_all(&std::mem::take(&mut self.out))
            .unwrap();
    }
}

/// A small stream: metadata, sequence headers, pictures and sound, one of them
/// larger than any chunk.
fn stream() -> Vec<Message> {
    let media = |timestamp, message_type, payload: Vec<u8>| Message {
        timestamp,
        message_type,
        stream_id: 1,
        payload: payload.into(),
    };
    let avc = b"\x17\x00\0\0\0\x01\x42\xc0\x0a\xff\xe1\0\x04\x67\x42\xc0\x0a\x01\0\x02\x68\xce";
    let picture = |kind: u8, size: usize| [vec![kind, 1, 0, 0, 0], vec![0x5a; size]].concat();
    vec![
        data::message(
            0,
            1,
            &["@setDataFrame".into(), "onMetaData".into(), metadata()],
        ),
        media(0, MessageType::VIDEO, avc.to_vec()),
        media(0, MessageType::AUDIO, vec![0xaf, 0, 0x12, 0x10]),
        media(0, MessageType::VIDEO, picture(0x17, 150_000)),
        media(0, MessageType::AUDIO, vec![0xaf, 1, 1, 2, 3]),
        media(23, MessageType::AUDIO, vec![0xaf, 1, 4, 5, 6]),
        media(40, MessageType::VIDEO, picture(0x27, 1)),
        media(80, MessageType::VIDEO, picture(0x27, 4096)),
    ]
}

fn metadata() -> rtmp_proto::wire::amf0::Value {
    rtmp_proto::wire::amf0::Value::EcmaArray(vec![
        ("width".into(), 160.0.into()),
        ("height".into(), 120.0.into()),
        ("videocodecid".into(), 7.0.into()),
    ])
}

fn pictures(stream: &[Message]) -> Vec<Message> {
    let of_video = |message: &&Message| message.message_type == MessageType::VIDEO;
    stream.iter().filter(of_video).cloned().collect()
}

#[test]
fn we_publish_to_nginx_and_play_from_it() {
    let nginx = nginx("meta copy;");
    let mut player = Client::connect(Purpose::Play, nginx.address);
    player.wait_for(&ClientEvent::Playing);
    let mut publisher = Client::connect(Purpose::Publish, nginx.address);
    publisher.wait_for(&ClientEvent::Publishing);
    for message in stream() {
        publisher.publish(&message);
    }
    let expected = pictures(&stream());
    let mut received = Vec::new();
    while received.len() < expected.len() {
        received.extend(pictures(&[player.next_media()]));
    }
    assert_eq!(received, expected);
}

#[test]
fn nginx_refuses_a_second_publisher_and_we_hear_it() {
    let nginx = nginx("meta copy;");
    let mut first = Client::connect(Purpose::Publish, nginx.address);
    first.wait_for(&ClientEvent::Publishing);
    let mut second = Client::connect(Purpose::Publish, nginx.address);
    assert_eq!(second.next(), ClientEvent::Connected);
    let answer = second.next();
    let ClientEvent::Rejected(status) = answer else {
        panic!("expected a rejection, got {answer:?}")
    };
    assert_eq!(status.code, "NetStream.Publish.BadName");
}

#[test]
fn nginx_pulls_from_us() {
    let relay = Relay::with_stream(Reply::Complete, stream());
    let nginx = nginx(&format!("meta copy; pull {} live=1;", relay.url()));
    let mut player = Client::connect(Purpose::Play, nginx.address);
    let expected = pictures(&stream());
    let mut received = Vec::new();
    while received.len() < expected.len() {
        received.extend(pictures(&[player.next_media()]));
    }
    let payloads = |messages: &[Message]| -> Vec<_> {
        messages
            .iter()
            .map(|message| message.payload.clone())
            .collect()
    };
    assert_eq!(payloads(&received), payloads(&expected));
    relay.record("nginx-pull");
}

#[test]
fn nginx_pushes_to_us() {
    let relay = Relay::start(Reply::Complete);
    let nginx = nginx(&format!("meta copy; push {};", relay.url()));
    let mut publisher = Client::connect(Purpose::Publish, nginx.address);
    publisher.wait_for(&ClientEvent::Publishing);
    // nginx connects to us while it takes what is published: what comes before
    // it is connected does not reach us, so the pictures go on until one has.
    let frames = stream();
    for message in &frames {
        publisher.publish(message);
    }
    relay.wait("nginx's publish", |state| {
        state.told.contains(&"Publish").then_some(())
    });
    for message in &frames {
        publisher.publish(message);
    }
    let expected = pictures(&frames);
    relay.wait("all pictures", |state| {
        let received = pictures(&state.stream);
        let payload = |message: &Message| message.payload.clone();
        let received: Vec<_> = received.iter().map(payload).collect();
        let expected: Vec<_> = expected.iter().map(payload).collect();
        received.ends_with(&expected).then_some(())
    });
    relay.record("nginx-push");
}

/// Starts an edge that pulls from `origin`, on `runtime`.
fn edge(runtime: &tokio::runtime::Runtime, origin: SocketAddr) -> SocketAddr {
    let vhost = format!("vhost __defaultVhost__ {{ mode remote; origin {origin}; }}");
    let _context = runtime.enter();
    serve(any_port(), Role::Edge, configuration(Role::Edge, &vhost)).address
}

/// A publisher at `nginx`, once the last one's connection has ended there.
fn publisher(nginx: &Nginx) -> Client {
    wait_for("nginx to let the next publisher in", || {
        let mut client = Client::connect(Purpose::Publish, nginx.address);
        loop {
            match client.next() {
                ClientEvent::Publishing => return Some(client),
                ClientEvent::Rejected(_) => return None,
                _ => {}
            }
        }
    })
}

#[test]
fn an_edge_of_nginx_gives_nobody_the_headers_of_a_former_publisher() {
    // What it says of a publisher's coming and going, beside stream EOF and begin.
    for notices in ["", "publish_notify on; play_restart on;"] {
        let nginx = nginx(&format!("meta copy; {notices}"));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let edge = edge(&runtime, nginx.address);
        let mut stays = Client::connect(Purpose::Play, edge);
        let mut first = publisher(&nginx);
        // nginx sends nothing of the past, and the edge may come late.
        let is_sound = |message: &Message| message.payload[..2] == [0xaf, 1];
        let soon = Duration::from_millis(50);
        wait_for("sound of the first publisher", || {
            stream().iter().for_each(|message| first.publish(message));
            stays.media_within(soon).iter().any(is_sound)
        });
        drop(first);

        let mut second = publisher(&nginx);
        let video: Vec<_> = pictures(&stream());
        let [header, keyframe, ..] = &video[..] else {
            unreachable!("the stream has pictures")
        };
        let marked = |time| {
            let payload = [&keyframe.payload[..9], b"of the second"].concat().into();
            Message {
                timestamp: time,
                payload,
                ..keyframe.clone()
            }
        };
        second.publish(header);
        let is_second = |message: &Message| message.payload.ends_with(b"of the second");
        let mut time = 0;
        wait_for("a picture of the second publisher", || {
            second.publish(&marked(time));
            time += 40;
            stays.media_within(soon).iter().any(is_second)
        });
        let mut joins = Client::connect(Purpose::Play, edge);
        let mut got = Vec::new();
        while !got.iter().any(is_second) {
            got.push(joins.next_media());
        }
        let [begins, picture] = &got[..] else {
            panic!("{notices}: {got:?}")
        };
        assert_eq!(begins.payload, header.payload);
        assert!(is_second(picture));
    }
}
