//! A worker without its thread: what happens between two of its flushes, step
//! by step.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rtmp_proto::session::StreamKey;

use super::*;
use crate::stream::fanout::tests::support::{
    TIME_LIMIT, TestDialogue, append, joining, picture, publish, reader, settings, sound,
};
use crate::stream::{Registry, Stream, StreamSettings, Wakers};

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

#[test]
fn many_viewers_are_sent_what_is_gathered_one_part_after_another() {
    const GATHERED: Duration = Duration::from_millis(400);
    const PLAYERS: usize = 64;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let settings = StreamSettings {
        mw_latency: GATHERED,
        spreads: true,
        ..settings()
    };
    let (mut worker, stream) = worker(PLAYERS, &settings);
    let begin = Instant::now();
    let mut publication = stream.publish(begin).unwrap();
    append(&mut publication, &[sound(0)], begin).unwrap();
    let mut clients = Vec::new();
    let mut meters = Vec::new();
    for slot in 0..PLAYERS {
        let (client, socket) = connection(&listener);
        clients.push(client);
        let joining = joining(1, socket, &stream);
        meters.push(joining.meter.clone());
        worker.join(joining, begin);
        worker.player_event(slot, EpollFlags::EPOLLOUT, begin);
    }
    let bytes = || -> Vec<u64> {
        let bytes = meters.iter().map(|it| it.bytes.load(Ordering::Relaxed));
        bytes.collect()
    };
    let message = bytes()[0];
    // A message each 100 ms, and a part of the players each 100 ms: after 400 ms everybody has
    // had its turn once, later ones with more of what came meanwhile.
    let mut calls = 0;
    for step in 1..=12_u32 {
        let now = begin + Duration::from_millis(100) * step;
        let before = bytes();
        worker.flush_due(now);
        let after = bytes();
        let sent = || {
            before
                .iter()
                .zip(&after)
                .map(|(before, after)| after - before)
        };
        let served = sent().filter(|it| *it > 0).count();
        let expected = if step < 2 { 0 } else { PLAYERS / 4 };
        assert_eq!(served, expected, "part {step}");
        if step > 6 {
            assert!(
                sent().all(|it| it == 0 || it == 4 * message),
                "part {step}: {:?}",
                sent().collect::<Vec<_>>()
            );
        }
        calls += served;
        append(&mut publication, &[sound(100 * step)], now).unwrap();
        worker.schedule_flush(stream.id(), now);
    }
    assert_eq!(calls, 11 * PLAYERS / 4);
}
