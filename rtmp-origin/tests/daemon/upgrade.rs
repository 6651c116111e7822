//! SIGUSR2: what a server that is forwarded to sees of an upgrade.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use netbed::{TIME_LIMIT, wait_for};
use nix::sys::signal::Signal;
use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession};
use rtmp_proto::wire::{Limits, MessageType};

use crate::peer::{Peer, read_some};
use crate::{Origin, read};

/// Pictures of half a megabyte: more than the sockets on the way to a server take.
const PICTURES: u32 = 60;
const PICTURE_BYTES: usize = 500_000;

/// Has the origin become its program anew.
fn upgrade(origin: &Origin, times: usize) {
    origin.process.signal(Signal::SIGUSR2);
    wait_for("the upgrade", || {
        let log = read(&origin.path("origin.log"));
        log.matches("goes on in place of").count() == times
    });
}

/// A server that takes a publish, and no more of it before it is told to; the times of the
/// pictures that have come up to one of the time `last_ms`.
fn slow_target(
    listener: TcpListener,
    go_on: mpsc::Receiver<()>,
    last_ms: u32,
) -> JoinHandle<Vec<u32>> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(TIME_LIMIT)).unwrap();
        let mut session = ServerSession::new(&Limits::default());
        let (mut input, mut out) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        let mut is_accepted = false;
        loop {
            let mut unread = &input[..];
            let event = session.read(&mut unread, &mut out).unwrap();
            let read = input.len() - unread.len();
            input.drain(..read);
            match event {
                Some(ServerEvent::Connect(_)) => {
                    session.accept_connect(&ConnectSettings::default(), &mut out);
                }
                Some(ServerEvent::Publish(publish)) => {
                    session.accept_publish(publish.stream_id, &mut out);
                    is_accepted = true;
                }
                Some(ServerEvent::Media(message)) if message.message_type == MessageType::VIDEO => {
                    assert_eq!(message.payload.len(), PICTURE_BYTES);
                    assert!(message.payload[5..].iter().all(|byte| *byte == 0x55));
                    times.push(message.timestamp);
                    if message.timestamp == last_ms {
                        let another = listener.set_nonblocking(true).map(|()| listener.accept());
                        assert!(another.unwrap().is_err(), "it has connected again");
                        return times;
                    }
                }
                Some(_) => {}
                None => {
                    socket.write_all(&out).unwrap();
                    out.clear();
                    if std::mem::take(&mut is_accepted) {
                        go_on.recv_timeout(TIME_LIMIT).unwrap();
                    }
                    let count = read_some(&mut socket, &mut input);
                    assert!(count > 0, "the origin has closed the connection");
                }
            }
        }
    })
}

#[test]
fn a_forward_goes_on_to_the_byte_though_its_server_takes_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let (go_on, told) = mpsc::channel();
    let last_ms = (PICTURES + 9) * 40;
    let pictures = slow_target(listener, told, last_ms);
    let origin = Origin::start(&[
        "--log-file",
        "origin.log",
        "--min-latency",
        "on",
        "--set",
        &format!("forward {{ enabled on; destination {target}; }}"),
    ]);
    let mut publisher = Peer::publish(origin.address, "livestream").unwrap();
    let mut viewer = Peer::play(origin.address, "livestream");
    let mut send = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let sent = publisher.send_picture(number * 40, number == 0, PICTURE_BYTES);
            sent.unwrap();
            assert_eq!(viewer.next_picture(), Some(number * 40));
        }
    };
    send(0..1);
    wait_for("the forward", || {
        read(&origin.path("origin.log")).contains(&format!("forwarded to {target}"))
    });
    send(1..PICTURES);
    upgrade(&origin, 1);
    send(PICTURES..PICTURES + 5);
    upgrade(&origin, 2);
    send(PICTURES + 5..PICTURES + 10);
    go_on.send(()).unwrap();
    let expected: Vec<_> = (0..PICTURES + 10).map(|number| number * 40).collect();
    assert_eq!(pictures.join().unwrap(), expected);
}
