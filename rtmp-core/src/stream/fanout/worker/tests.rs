//! A worker without its thread: what happens between two of its flushes, step
//! by step.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use super::*;
use crate::session::StreamKey;
use crate::stream::fanout::tests::support::{
    PATIENCE, Speller, joining, picture, publish, reader, settings,
};
use crate::stream::registry::Registry;

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
    let buffers = socket2::SockRef::from(&socket);
    buffers.set_send_buffer_size(BUFFER).unwrap();
    (client.into(), socket)
}

#[test]
fn what_a_player_reads_that_goes_on_between_two_flushes_is_not_given_back() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let doorbells = Doorbells::new(1).unwrap();
    let desks: Arc<[Desk<Speller>]> = Arc::new([Desk {
        letters: Mutex::default(),
        players: AtomicUsize::new(2),
    }]);
    let mut worker = Worker::new(0, desks, doorbells.clone(), |_| {}).unwrap();
    let key = StreamKey {
        vhost: "v".into(),
        app: "live".into(),
        stream: "s".into(),
    };
    let now = Instant::now();
    let stream = Registry::new(doorbells).obtain(&key, &settings(), now);
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
        worker.hear(0, now);
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
    worker.join(joining(1, socket, &stream), now);
    let newest = publish_seconds(1);

    let (mut reader, mut read) = (reader(), Vec::new());
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "the newest picture never came");
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
