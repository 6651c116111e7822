//! A worker without its thread: what happens between two of its flushes, step
//! by step.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtmp_proto::session::StreamKey;
use rtmp_proto::wire::{Message, MessageType};

use super::*;
use crate::stream::fanout::handoff::Meter;
use crate::stream::fanout::tests::support::{
    TIME_LIMIT, TestDialogue, append, joining, message, picture, publish, reader, settings, sound,
};
use crate::stream::{Publication, Registry, Stream, StreamSettings, Wakers};

/// Bytes that a socket here holds at most, or about.
const BUFFER: usize = 8_192;

/// Both ends of a player's connection, which hold little.
fn connection(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(BUFFER).unwrap();
    client
        .connect(&listener.local_addr().unwrap().into())
        .unwrap();
    client.set_nonblocking(true).unwrap();
    let (socket, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_nodelay(true).unwrap();
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_send_buffer_size(BUFFER).unwrap();
    (client.into(), socket)
}

/// A worker that forgets who leaves it.
type Forgetful = Worker<TestDialogue, fn(ReturnedPlayer<TestDialogue>)>;

/// A worker that may have `players`, and a stream for it.
fn worker(players: usize, settings: &StreamSettings) -> (Forgetful, Arc<Stream>) {
    let wakers = Wakers::new(1).unwrap();
    let mailboxes = Mailboxes::new(wakers.clone());
    (0..players).for_each(|_| mailboxes.add_player(0));
    let returned: fn(ReturnedPlayer<TestDialogue>) = |_| {};
    let worker = Worker::new(0, mailboxes, returned).unwrap();
    let key = StreamKey {
        vhost: "v".into(),
        app: "live".into(),
        stream: "s".into(),
    };
    let stream =
        Registry::new(wakers, u64::MAX, Instant::now()).obtain(&key, settings, Instant::now());
    (worker, stream)
}

#[test]
fn an_edge_is_sent_at_once_what_is_gathered_for_viewers() {
    const GATHERED: Duration = Duration::from_millis(350);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let settings = StreamSettings {
        mw_latency: GATHERED,
        ..settings()
    };
    let (mut worker, stream) = worker(2, &settings);
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    publish(&mut publication, &[sound(0)]);
    let mut join = |at_once| {
        let (client, socket) = connection(&listener);
        let received = socket.try_clone().unwrap();
        let joining = Joining {
            at_once,
            ..joining(1, socket, &stream)
        };
        let meter = joining.meter.clone();
        worker.join(joining, now);
        (client, received, move || {
            meter.bytes.load(Ordering::Relaxed)
        })
    };
    let (_viewer, viewers_socket, viewers_bytes) = join(false);
    let (_edge, edges_socket, edges_bytes) = join(true);
    for slot in 0..2 {
        worker.player_event(slot, EpollFlags::EPOLLOUT, now);
    }
    let begun = viewers_bytes();
    assert_eq!((begun > 0, edges_bytes()), (true, begun));

    for number in 1..=3 {
        let now = now + Duration::from_millis(20 * number);
        publish(
            &mut publication,
            &[sound(20 * u32::try_from(number).unwrap())],
        );
        worker.schedule_flush(stream.id(), now);
        worker.flush_due(now);
        assert_eq!(edges_bytes(), (number + 1) * begun, "message {number}");
        assert_eq!(viewers_bytes(), begun, "message {number}");
    }
    worker.flush_due(now + Duration::from_millis(20) + GATHERED);
    assert_eq!(viewers_bytes(), 4 * begun);
    // After a pause they have waited already.
    let later = now + 3 * GATHERED;
    publish(&mut publication, &[sound(1_050)]);
    worker.schedule_flush(stream.id(), later);
    worker.flush_due(later + Duration::from_millis(20));
    assert_eq!(viewers_bytes(), 5 * begun);
    // Nor does one wait for the acknowledgement of the one before.
    assert!(edges_socket.nodelay().unwrap());
    assert!(!viewers_socket.nodelay().unwrap());
}

#[test]
fn a_stream_is_forgotten_only_with_its_last_viewer_and_edge() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (mut worker, stream) = worker(2, &settings());
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    publish(&mut publication, &[sound(0)]);
    let mut clients = Vec::new();
    for at_once in [false, true] {
        let (client, socket) = connection(&listener);
        clients.push(client);
        worker.join(
            Joining {
                at_once,
                ..joining(1, socket, &stream)
            },
            now,
        );
    }
    worker.leave(0, Reason::Dismissed);
    worker.schedule_flush(stream.id(), now);
    assert_eq!((worker.groups.len(), worker.groups_of.len()), (1, 1));
    worker.leave(1, Reason::Dismissed);
    assert_eq!((worker.groups.len(), worker.groups_of.len()), (0, 0));
    assert_eq!(stream.players(), 0);
}

#[test]
fn what_a_player_reads_that_goes_on_between_two_flushes_is_not_given_back() {
    for other_at_once in [false, true] {
        a_player_goes_on_between_two_flushes(other_at_once);
    }
}

/// `other_at_once`: whether the one that joins meanwhile gets each message at
/// once.
fn a_player_goes_on_between_two_flushes(other_at_once: bool) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (mut worker, stream) = worker(2, &settings());
    let now = Instant::now();
    let mut publication = stream.publish(now).unwrap();
    let mut number = 0;
    let mut publish_seconds = |seconds: u32| {
        for _ in 0..seconds * 25 {
            publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
            number += 1;
        }
        (number - 1) * 40
    };

    // A player gets stuck within its first group, and pauses there.
    publish_seconds(2);
    let (mut client, socket) = connection(&listener);
    let received = socket.try_clone().unwrap();
    let say = |client: &mut TcpStream, worker: &mut Worker<_, _>, letter| {
        client.write_all(letter).unwrap();
        while received.peek(&mut [0]).is_err() {
            std::thread::yield_now();
        }
        worker.on_readable(0, now);
    };
    worker.join(joining(1, socket, &stream), now);
    worker.player_event(0, EpollFlags::EPOLLOUT, now);
    say(&mut client, &mut worker, b"p");
    worker.flush(0, now);
    // It goes on before the next flush: its place is still in the log.
    say(&mut client, &mut worker, b"P");
    // Meanwhile the log goes on far beyond what is kept for those who come …
    publish_seconds(60);
    // … and the worker looks at it, since somebody does.
    let (_other, socket) = connection(&listener);
    worker.join(
        Joining {
            at_once: other_at_once,
            ..joining(1, socket, &stream)
        },
        now,
    );
    let newest = publish_seconds(1);

    let (mut reader, mut read) = (reader(), Vec::new());
    let begun = Instant::now();
    loop {
        assert!(
            begun.elapsed() < TIME_LIMIT,
            "the newest picture never came"
        );
        worker.player_event(0, EpollFlags::EPOLLOUT, now);
        worker.flush(0, now);
        let mut bytes = [0; BUFFER];
        if let Ok(count) = client.read(&mut bytes) {
            read.extend_from_slice(&bytes[..count]);
        }
        let mut input = read.as_slice();
        let message = reader.read(&mut input).expect("what came is not the log");
        let left = input.len();
        read.drain(..read.len() - left);
        let Some(message) = message else { continue };
        let whole = picture(message.timestamp, message.timestamp.is_multiple_of(1_000));
        assert!(
            message.payload == whole.payload,
            "a picture has come to harm"
        );
        if message.timestamp == newest {
            break;
        }
    }
}

const GATHERED: Duration = Duration::from_millis(400);
/// Time between two parts of a flush to many.
const INTERVAL: Duration = Duration::from_millis(100);
/// Members of a crowd: a part of a flush is a quarter of them.
const CROWD: usize = 64;

fn settings_of_crowd(spreads: bool) -> StreamSettings {
    StreamSettings {
        mw_latency: GATHERED,
        spreads,
        ..settings()
    }
}

/// A small keyframe: a socket here takes many.
fn keyframe(timestamp: u32) -> Message {
    message(MessageType::VIDEO, timestamp, vec![0x17, 1, 0, 0, 0, 1])
}

/// Many viewers of a stream at one worker, on made-up time.
struct Crowd {
    worker: Forgetful,
    stream: Arc<Stream>,
    publication: Publication,
    listener: TcpListener,
    begin: Instant,
    clients: Vec<TcpStream>,
    meters: Vec<Arc<Meter>>,
}

impl Crowd {
    /// A crowd that has been sent a keyframe.
    fn gather(spreads: bool) -> Self {
        let (worker, stream) = worker(2 * CROWD, &settings_of_crowd(spreads));
        let begin = Instant::now();
        let publication = stream.publish(begin).unwrap();
        let mut crowd = Self {
            worker,
            stream,
            publication,
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
            begin,
            clients: Vec::new(),
            meters: Vec::new(),
        };
        crowd.append(0, keyframe(0));
        (0..CROWD).for_each(|_| crowd.join(0, true));
        crowd
    }

    fn at(&self, ms: u32) -> Instant {
        self.begin + Duration::from_millis(ms.into())
    }

    fn join(&mut self, ms: u32, gop_cache: bool) {
        let (client, socket) = connection(&self.listener);
        self.clients.push(client);
        let joining = Joining {
            gop_cache: Some(gop_cache),
            ..joining(1, socket, &self.stream)
        };
        self.meters.push(joining.meter.clone());
        let slot = self.worker.players.vacant_key();
        self.worker.join(joining, self.at(ms));
        let now = self.at(ms);
        self.worker.player_event(slot, EpollFlags::EPOLLOUT, now);
    }

    /// What the publisher sends, of which the worker is not told.
    fn append(&mut self, ms: u32, message: Message) {
        let now = self.at(ms);
        append(&mut self.publication, &[message], now).unwrap();
    }

    fn bytes(&self) -> Vec<u64> {
        let bytes = self.meters.iter();
        bytes.map(|it| it.bytes.load(Ordering::Relaxed)).collect()
    }

    /// Does all that is due; says who has been sent something, in the order of joining.
    fn serve(&mut self, ms: u32) -> Vec<usize> {
        let (now, before) = (self.at(ms), self.bytes());
        let is_due = |worker: &Forgetful| {
            let mut groups = worker.groups.iter();
            groups.any(|(_, it)| it.next_flush(now).is_some_and(|at| at <= now))
        };
        while is_due(&self.worker) {
            self.worker.flush_due(now);
            for (_, group) in &self.worker.groups {
                let kept = |slot: &usize| self.worker.players[*slot].low_water() >= group.low_water;
                assert!(group.members.iter().all(kept), "the log may be cut");
            }
        }
        let sent = before.iter().zip(self.bytes()).enumerate();
        sent.filter(|(_, (before, after))| *before < after)
            .map(|(member, _)| member)
            .collect()
    }

    /// The worker is told that the publisher has sent `message`, and does what is due.
    fn publish(&mut self, ms: u32, message: Message) -> Vec<usize> {
        self.append(ms, message);
        self.wake(ms)
    }

    fn wake(&mut self, ms: u32) -> Vec<usize> {
        self.worker.schedule_flush(self.stream.id(), self.at(ms));
        self.serve(ms)
    }

    /// Milliseconds at which somebody has a turn.
    fn next(&self) -> u128 {
        let now = self.begin;
        let groups = self.worker.groups.iter();
        let next = groups.filter_map(|(_, it)| it.next_flush(now)).min();
        next.map_or(0, |at| (at - now).as_millis())
    }
}

#[test]
fn many_viewers_are_sent_what_is_gathered_one_part_after_another() {
    let mut crowd = Crowd::gather(true);
    let message = crowd.bytes()[0];
    // A message each 100 ms, and a part of the players each 100 ms: after 400 ms everybody has
    // had its turn once, later ones with more of what came meanwhile.
    crowd.publish(100, keyframe(100));
    for step in 2..=12 {
        let before = crowd.bytes();
        let served = crowd.serve(100 * step);
        assert_eq!(served.len(), CROWD / 4, "part {step}");
        if step > 6 {
            let after = crowd.bytes();
            let sent = served.iter().map(|&it| after[it] - before[it]);
            let sent: Vec<_> = sent.collect();
            assert_eq!(sent, [4 * message; CROWD / 4], "part {step}");
        }
        let served = crowd.publish(100 * step, keyframe(100 * step));
        assert_eq!(served, [0; 0], "after part {step}");
    }
}

#[test]
fn who_waits_gets_its_keyframe_at_once_and_the_others_have_their_turns() {
    for spreads in [false, true] {
        let mut crowd = Crowd::gather(spreads);
        crowd.publish(100, sound(100));
        crowd.join(150, false);
        crowd.serve(200);
        assert_eq!(crowd.bytes()[CROWD], 0);
        assert_eq!(crowd.publish(240, sound(240)), [0; 0], "{spreads}");
        assert_eq!(crowd.publish(250, keyframe(250)), [CROWD], "{spreads}");
        let turns: Vec<_> = (3..=6).map(|it| crowd.serve(100 * it).len()).collect();
        let expected = if spreads {
            // Whoever had its turn at 200 ms has the next one at 600 ms.
            [CROWD / 4; 4]
        } else {
            [0, 0, CROWD, 0]
        };
        assert_eq!(turns, expected, "{spreads}");
    }
}

#[test]
fn a_keyframe_that_is_seen_before_the_worker_is_told_is_sent_at_once_to_who_waits() {
    // Seen by a part of a flush, of which it is no member …
    let mut crowd = Crowd::gather(true);
    crowd.publish(100, sound(100));
    crowd.serve(200);
    crowd.join(250, false);
    crowd.append(290, keyframe(290));
    let served = crowd.serve(300);
    assert_eq!((served.len(), served.last()), (17, Some(&CROWD)));
    assert_eq!(crowd.wake(300), [0; 0]);
    // … and by another one that joins.
    for spreads in [false, true] {
        let mut crowd = Crowd::gather(spreads);
        crowd.join(50, false);
        crowd.append(100, keyframe(100));
        crowd.join(100, true);
        assert_eq!(crowd.wake(100), [CROWD], "{spreads}");
    }
}

#[test]
fn viewers_who_come_and_go_between_two_parts_leave_no_one_out() {
    let mut crowd = Crowd::gather(true);
    let message = crowd.bytes()[0];
    for step in 1..=8 {
        let ms = 100 * step;
        crowd.serve(ms);
        // One that has had its turn, and one that has not; and others come.
        if step == 2 || step == 3 {
            let number = usize::try_from(step).unwrap();
            for slot in [CROWD - number, number] {
                crowd.worker.leave(slot, Reason::Dismissed);
            }
            crowd.join(ms, true);
        }
        crowd.publish(ms, keyframe(ms));
    }
    (9..=16).for_each(|step| drop(crowd.serve(100 * step)));
    assert_eq!(crowd.worker.players.len(), CROWD - 2);
    let bytes = crowd.bytes();
    for (member, bytes) in bytes.into_iter().enumerate() {
        let number = if member < CROWD {
            let left = [2, 3, CROWD - 3, CROWD - 2].contains(&member);
            if left { continue } else { 9 }
        } else {
            // It begins with the keyframe before.
            8 - u64::try_from(member - CROWD).unwrap()
        };
        assert_eq!(bytes, number * message, "member {member}");
    }
    assert_eq!(crowd.next(), 0, "nobody lacks anything");
}

#[test]
fn a_stream_that_ends_between_two_parts_lets_all_viewers_go() {
    for told in [false, true] {
        let mut crowd = Crowd::gather(true);
        crowd.publish(100, sound(100));
        crowd.serve(200);
        crowd.stream.end();
        if told {
            crowd.wake(250);
        } else {
            crowd.serve(300);
        }
        assert_eq!(crowd.worker.players.len(), 0, "{told}");
    }
}

#[test]
fn a_reload_ends_the_spreading_in_the_middle_of_a_flush() {
    let mut crowd = Crowd::gather(true);
    crowd.publish(100, sound(100));
    assert_eq!(crowd.serve(200).len(), CROWD / 4);
    crowd.publish(250, sound(250));
    crowd.stream.apply(&settings_of_crowd(false));
    // The others, and those of the first part, who lack what came after it.
    assert_eq!(crowd.serve(300).len(), CROWD);
    crowd.publish(350, sound(350));
    let turns: Vec<_> = (4..=7).map(|it| crowd.serve(100 * it).len()).collect();
    assert_eq!(turns, [0; 4]);
    crowd.publish(700, sound(700));
    assert_eq!(crowd.serve(750).len(), CROWD);

    // `min_latency`: what comes next is sent at once.
    crowd.stream.apply(&settings_of_crowd(true));
    crowd.publish(800, sound(800));
    assert_eq!(crowd.serve(900).len(), CROWD / 4);
    crowd.stream.apply(&StreamSettings {
        mw_latency: Duration::ZERO,
        ..settings_of_crowd(true)
    });
    assert_eq!(crowd.publish(950, sound(950)).len(), CROWD);
    assert_eq!(crowd.publish(960, sound(960)).len(), CROWD);
}

#[test]
fn parts_keep_their_distance_when_one_is_late() {
    let mut crowd = Crowd::gather(true);
    crowd.publish(100, sound(100));
    let interval = INTERVAL.as_millis();
    for (served, expected) in [(200, 300), (320, 400), (590, 590 + interval / 2)] {
        crowd.serve(served);
        assert_eq!(crowd.next(), expected, "after {served} ms");
    }
}
