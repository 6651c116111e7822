//! Players that do not keep up.

use std::io::{self, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rtmp_proto::wire::MessageType;

use super::support::{
    Server, TIME_LIMIT, headers, kind, message, picture, publish, settings, without_send_timeout,
};
use crate::stream::fanout::Reason;
use crate::stream::log::MESSAGE_STREAM;

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
        without_send_timeout(joining);
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
    // What the kernel holds for it shall not be what is tested: a receive buffer without a
    // given size grows to megabytes.
    let mut slow = server.join_with(&stream, |joining| {
        without_send_timeout(joining);
        let socket = socket2::SockRef::from(joining.socket.tcp());
        socket.set_send_buffer_size(16_384).unwrap();
    });
    let socket = socket2::SockRef::from(&slow.socket);
    socket.set_recv_buffer_size(65_536).unwrap();
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
    let mut player = server.join_with(&stream, without_send_timeout);
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
    let mut player = server.join_with(&stream, without_send_timeout);
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
fn a_player_that_takes_nothing_is_dropped_in_the_end() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    let _stuck = server.join_with(&stream, |joining| {
        joining.send_timeout = Duration::from_millis(1);
    });
    let begun = Instant::now();
    let mut number = 0;
    let returned = loop {
        publish(&mut publication, &[picture(number * 40, number % 25 == 0)]);
        number += 1;
        if let Ok(returned) = server.departures.try_recv() {
            break returned;
        }
        assert!(
            begun.elapsed() < TIME_LIMIT,
            "the stuck player is still there"
        );
    };
    assert_eq!(returned.reason, Reason::Stalled);
}
