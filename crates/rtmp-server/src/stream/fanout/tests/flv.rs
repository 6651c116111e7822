//! Players of the log of FLV tags, with WebSocket frames and without.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::support::{
    Client, Server, TIME_LIMIT, headers, message, picture, publish, settings, sound,
    without_send_timeout,
};
use crate::stream::fanout::send_queue::unacknowledged;
use crate::stream::fanout::{Delivery, Joining, Reason};
use crate::stream::log::index::EntryKind;
use crate::stream::{FlvFraming, Publication, Stream};
use rtmp_proto::wire::{Message, MessageType};

/// A reader of FLV tags, in WebSocket frames or not.
struct Tags {
    socket: TcpStream,
    websocket: bool,
    /// Bytes of the present frame that are still to come.
    frame_left: usize,
    /// Replies that stood between two frames.
    replies: usize,
}

impl Tags {
    fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let mut done = 0;
        while done < count {
            if self.websocket && self.frame_left == 0 {
                self.frame_left = self.frame_header();
            }
            let end = match self.websocket {
                true => count.min(done + self.frame_left),
                false => count,
            };
            self.socket.read_exact(&mut bytes[done..end]).unwrap();
            self.frame_left -= if self.websocket { end - done } else { 0 };
            done = end;
        }
        bytes
    }

    /// The length of the next binary frame.
    fn frame_header(&mut self) -> usize {
        let read = |socket: &mut TcpStream, count: usize| {
            let mut bytes = vec![0; count];
            socket.read_exact(&mut bytes).unwrap();
            bytes
        };
        loop {
            match read(&mut self.socket, 2)[..] {
                [0x82, length @ 0..126] => return length.into(),
                [0x82, 126] => {
                    let length = read(&mut self.socket, 2);
                    return u16::from_be_bytes([length[0], length[1]]).into();
                }
                // The dialogue of these tests replies in RTMP: one chunk of 17 bytes.
                [3, 0] => {
                    read(&mut self.socket, 15);
                    self.replies += 1;
                }
                ref other => panic!("no frame begins with {other:x?}"),
            }
        }
    }

    fn message(&mut self) -> Message {
        let header = self.take(11);
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]);
        let timestamp = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let payload = self.take(length as usize);
        let previous = self.take(4);
        assert_eq!(previous, (11 + length).to_be_bytes());
        assert_eq!(self.frame_left, 0, "a frame holds one tag");
        message(MessageType(header[0]), timestamp, payload)
    }

    fn messages(&mut self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }
}

fn adjust(joining: &mut Joining<super::support::TestDialogue>, websocket: bool) {
    let framing = match websocket {
        true => FlvFraming::WebSocket,
        false => FlvFraming::Bare,
    };
    joining.delivery = Delivery::Flv(joining.stream.flv_log(framing).unwrap());
}

fn join(server: &mut Server, stream: &Arc<Stream>, websocket: bool) -> (Tags, Client) {
    let client = server.join_with(stream, |joining| {
        adjust(joining, websocket);
        without_send_timeout(joining);
    });
    (tags(&client, websocket), client)
}

fn tags(client: &Client, websocket: bool) -> Tags {
    Tags {
        socket: client.socket.try_clone().unwrap(),
        websocket,
        frame_left: 0,
        replies: 0,
    }
}

/// Waits until the server can send `client`, which reads nothing, no more through `sender`.
fn wait_until_full(sender: &TcpStream, client: &Client) {
    let sent = || client.meter.bytes.load(Ordering::Relaxed);
    let begun = Instant::now();
    loop {
        let (before, queued) = (sent(), unacknowledged(sender).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        if queued > 0 && sent() == before && unacknowledged(sender).unwrap() == queued {
            return;
        }
        assert!(
            begun.elapsed() < TIME_LIMIT,
            "the socket takes more and more"
        );
    }
}

fn published(server: &Server) -> (Arc<Stream>, Publication) {
    let stream = server.stream(&settings());
    let publication = stream.publish(Instant::now()).unwrap();
    (stream, publication)
}

#[test]
fn the_log_begins_with_the_newest_group_and_goes_on_with_the_stream() {
    for websocket in [false, true] {
        let mut server = Server::start(1);
        let (stream, mut publication) = published(&server);
        publish(&mut publication, &headers());
        publish(&mut publication, &[picture(0, true), picture(40, false)]);
        let group = [picture(80, true), sound(90), picture(120, false)];
        publish(&mut publication, &group);
        let (mut first, _client) = join(&mut server, &stream, websocket);
        let begun = first.messages(6);
        let kinds: Vec<_> = begun.iter().map(super::support::kind).collect();
        let expected = [
            "data",
            "video header",
            "audio header",
            "keyframe",
            "sound",
            "picture",
        ];
        assert_eq!(kinds, expected);
        let times: Vec<_> = begun.iter().map(|message| message.timestamp).collect();
        assert_eq!(times, [0, 80, 80, 80, 90, 120]);
        assert_eq!(begun[3..], group);
        // New headers, a new group: what joins there gets the new ones once.
        let header = message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9]);
        let news = [header.clone(), picture(160, true), picture(200, false)];
        publish(&mut publication, &news);
        assert_eq!(first.messages(3)[1..], news[1..]);
        let (mut second, _client) = join(&mut server, &stream, websocket);
        let begun = second.messages(5);
        let headers: Vec<_> = begun
            .iter()
            .filter(|it| it.payload[..2] == [0x17, 0])
            .collect();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[0].payload, header.payload);
        assert_eq!(begun[3..], news[1..]);
    }
}

#[test]
fn who_waits_for_the_first_keyframe_gets_each_header_once() {
    let mut server = Server::start(1);
    let (stream, mut publication) = published(&server);
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, false)]);
    let (mut player, _client) = join(&mut server, &stream, false);
    publish(&mut publication, &[picture(40, true)]);
    let kinds: Vec<_> = player
        .messages(4)
        .iter()
        .map(super::support::kind)
        .collect();
    assert_eq!(kinds, ["data", "video header", "audio header", "keyframe"]);
}

#[test]
fn a_slow_player_is_moved_to_a_keyframe_between_two_tags_and_frames_stay_whole() {
    for websocket in [false, true] {
        let mut server = Server::start(1);
        let (stream, mut publication) = published(&server);
        publish(&mut publication, &headers());
        publish(&mut publication, &[picture(0, true)]);
        let (mut player, client) = join(&mut server, &stream, websocket);
        let (mut attentive, _client) = join(&mut server, &stream, false);
        let mut most_memory = 0;
        for number in 1..3_000 {
            let sent = picture(number * 40, number % 25 == 0);
            publish(&mut publication, std::slice::from_ref(&sent));
            while attentive.message().timestamp != sent.timestamp {}
            most_memory = most_memory.max(stream.memory().unwrap());
        }
        assert!(most_memory < 8 << 20, "{most_memory} bytes of logs");
        assert!(
            client.meter.skips.load(Ordering::Relaxed) > 0,
            "it was never moved on"
        );
        let (mut leaps, mut last) = (0, None);
        while last != Some(2_999 * 40) {
            let message = player.message();
            let keyframe = super::support::kind(&message) == "keyframe";
            if !keyframe && super::support::kind(&message) != "picture" {
                continue;
            }
            assert!(
                message.payload == picture(message.timestamp, keyframe).payload,
                "a picture has come to harm"
            );
            if last.is_some_and(|last| message.timestamp != last + 40) {
                leaps += 1;
                assert!(keyframe, "a leap to a picture that needs others");
            }
            last = Some(message.timestamp);
        }
        assert!(leaps > 0);
    }
}

#[test]
fn a_reply_stands_between_two_frames() {
    let mut server = Server::start(1);
    let (stream, mut publication) = published(&server);
    // More than a socket takes at once: the reply comes while a frame is under way.
    let group: Vec<_> = (0..400)
        .map(|number| picture(number * 4, number == 0))
        .collect();
    publish(&mut publication, &group);
    let mut sender = None;
    let client = server.join_with(&stream, |joining| {
        adjust(joining, true);
        without_send_timeout(joining);
        let socket = joining.socket.tcp().try_clone().unwrap();
        socket2::SockRef::from(&socket)
            .set_send_buffer_size(32 * 1024)
            .unwrap();
        sender = Some(socket);
    });
    let mut player = tags(&client, true);
    wait_until_full(&sender.unwrap(), &client);
    let mut client = client;
    client.say(b"r");
    let mut replied_after = None;
    for (number, sent) in group.iter().enumerate() {
        assert_eq!(player.message(), *sent);
        if player.replies > 0 {
            replied_after.get_or_insert(number);
        }
    }
    assert!(
        replied_after.is_some_and(|number| number + 1 < group.len()),
        "the reply came when all had been sent"
    );
}

#[test]
fn the_log_is_given_back_some_time_after_its_last_reader() {
    let mut server = Server::start(1);
    let (stream, mut publication) = published(&server);
    publish(&mut publication, &[picture(0, true)]);
    let chunks_alone = stream.memory().unwrap();
    let (mut player, client) = join(&mut server, &stream, false);
    player.message();
    let both = stream.memory().unwrap();
    assert!(both > chunks_alone);
    let now = Instant::now();
    let keep = |_: &Stream| Duration::from_secs(3_600);
    let sweep = |server: &Server, seconds| {
        server
            .registry
            .sweep(now + Duration::from_secs(seconds), keep);
    };
    sweep(&server, 100);
    drop((player, client));
    server.departure();
    sweep(&server, 200);
    assert_eq!(stream.memory().unwrap(), both, "a player may come back");
    sweep(&server, 300);
    assert_eq!(stream.memory().unwrap(), chunks_alone);
    // The next one begins with a copy again.
    publish(&mut publication, &[picture(40, false)]);
    let (mut player, _client) = join(&mut server, &stream, false);
    assert_eq!(player.messages(2), [picture(0, true), picture(40, false)]);
}

#[test]
fn no_log_of_tags_is_made_while_memory_is_short() {
    let server = Server::start(1);
    let (stream, mut publication) = published(&server);
    publish(&mut publication, &[picture(0, true)]);
    let pool = server.registry.logs().pool();
    let share = |limit| {
        pool.set_limit(limit);
        pool.share()
    };
    assert_eq!(share(1), 1);
    let refused = stream.flv_log(FlvFraming::Bare).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::OutOfMemory);
    assert_eq!(share(1 << 30), 1 << 30);
    let _log = stream.flv_log(FlvFraming::Bare).unwrap();
    assert_eq!(pool.share(), 1 << 30, "the stream counts once");
    assert_eq!(share(1), 1);
    stream
        .flv_log(FlvFraming::Bare)
        .expect("it is there already");
}

#[test]
fn a_log_of_tags_that_cannot_be_written_ends_its_players_alone() {
    let mut server = Server::start(1);
    let (stream, mut publication, mut viewer) = server.playing();
    let (mut player, _client) = join(&mut server, &stream, false);
    player.message();
    // The kernel refuses to write behind the greatest offset that a file can have.
    let log = stream.present_flv_logs().pop().unwrap();
    log.index()
        .push(EntryKind::Always, 0, i64::MAX.unsigned_abs());
    drop(log);
    publish(&mut publication, &[picture(40, false)]);
    assert_eq!(viewer.told(1), [("picture", 40)]);
    assert_eq!(server.departure().reason, Reason::LogLost);
    // Whoever comes next has a new one.
    let (mut player, _client) = join(&mut server, &stream, false);
    assert_eq!(player.messages(2), [picture(0, true), picture(40, false)]);
}
