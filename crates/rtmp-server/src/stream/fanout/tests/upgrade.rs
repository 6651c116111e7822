//! Players and their stream go on in another program.

use std::time::{Duration, Instant};

use super::support::{
    Client, Server, TestDialogue, append, headers, picture, publish, settings, sound,
    without_send_timeout,
};
use crate::hand_over::{Blob, HandedOver, Inherited};
use crate::stream::fanout::{Adopting, Delivery, PlayerPart};
use crate::stream::{
    FlvFraming, MessageRead, MessageReader, MessageReaderPart, Publication, RegistryPart,
    Retention, StreamSettings,
};
use crate::transport::StdTransport;

/// What is handed over, as it is written and read again.
fn rewritten<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    Blob::of(value).unwrap().read().unwrap()
}

/// Has another server, of `workers` workers, go on with what `server` has; as after an exec,
/// nothing of the old one is dropped. With `another_layout`, its logs have one.
fn upgrade(
    server: Server,
    publication: Publication,
    workers: usize,
    another_layout: bool,
) -> (Server, Publication) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut frozen = server.fanout.freeze(another_layout);
    let mut handed_over = HandedOver::default();
    let mut players: Vec<PlayerPart> = Vec::new();
    runtime.block_on(async {
        while let Some(part) = frozen.next().await {
            let part = part.unwrap();
            handed_over.extend(&part.handed_over);
            players.extend(part.players);
        }
    });
    let mut registry: RegistryPart = rewritten(&server.registry.part(&mut handed_over).unwrap());
    let publication_part = rewritten(&publication.part().unwrap());
    let stream_id = publication.stream().id();
    std::mem::forget((server, publication, frozen));

    if another_layout {
        registry
            .streams
            .iter_mut()
            .for_each(|it| it.of_another_layout());
    }
    // SAFETY: what had them is forgotten.
    let mut inherited = unsafe { Inherited::adopt(handed_over.numbers()) };
    let server = Server::start(workers);
    let taken = server
        .registry
        .take_over(registry, |_| None, &mut inherited);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].is_new_log, another_layout);
    let stream = taken[0].stream.clone();
    assert_eq!(stream.id(), stream_id);
    let players = players.iter().map(|part| {
        let mut part: PlayerPart = rewritten(part);
        if another_layout {
            part.wait_for_keyframe();
        }
        Adopting {
            socket: StdTransport::take_over(&part.socket, &mut inherited).unwrap(),
            dialogue: TestDialogue,
            stream: stream.clone(),
            delivery: match part.framing {
                None => Delivery::Chunks,
                Some(framing) => Delivery::Flv(stream.flv_log(framing).unwrap()),
            },
            meter: std::sync::Arc::default(),
            part,
        }
    });
    let players = players.collect();
    runtime.block_on(server.fanout.adopt(players));
    let publication = stream.resume_publication(&publication_part).unwrap();
    stream.end_publishers(stream.publisher_ids(), &[publication.id()]);
    assert!(stream.is_published());
    (server, publication)
}

/// Settings by which nobody is too far behind, however long the test takes.
fn patient() -> StreamSettings {
    let settings = settings();
    StreamSettings {
        retention: Retention {
            queue_length: Duration::from_secs(86_400),
            ..settings.retention
        },
        ..settings
    }
}

/// The times of the next pictures and keyframes that a player gets.
fn times(player: &mut Client, count: usize) -> Vec<u32> {
    player.told(count).into_iter().map(|told| told.1).collect()
}

#[test]
fn players_go_on_where_they_stood_whatever_they_had_taken() {
    const BEFORE: u32 = 800;
    const AFTER: u32 = 820;
    let mut server = Server::start(2);
    let stream = server.stream(&patient());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let mut reading = server.join(&stream);
    assert_eq!(reading.told(1), [("keyframe", 0)]);
    // This one takes nothing: its socket is full within some message.
    let mut slow = server.join_with(&stream, without_send_timeout);
    let mut paused = server.join(&stream);
    assert_eq!(paused.told(1), [("keyframe", 0)]);
    paused.say(b"p");
    drop(stream);
    for number in 1..BEFORE {
        publish(&mut publication, &[picture(number * 4, false)]);
    }
    let before: Vec<u32> = (1..BEFORE).map(|number| number * 4).collect();
    assert_eq!(times(&mut reading, before.len()), before);
    let (mut server, mut publication) = upgrade(server, publication, 1, false);
    assert_eq!(server.fanout.players(), [3]);
    for number in BEFORE..AFTER {
        publish(&mut publication, &[picture(number * 4, false)]);
    }
    let after: Vec<u32> = (BEFORE..AFTER).map(|number| number * 4).collect();
    assert_eq!(times(&mut reading, after.len()), after);
    let all: Vec<u32> = (0..AFTER).map(|number| number * 4).collect();
    assert_eq!(times(&mut slow, all.len()), all, "each picture once");
    // Who joins now begins at the keyframe of before.
    let stream = publication.stream().clone();
    let mut joined = server.join(&stream);
    assert_eq!(joined.told(1), [("keyframe", 0)]);
    publish(&mut publication, &[picture(AFTER * 4, true)]);
    assert_eq!(reading.told(1), [("keyframe", AFTER * 4)]);
}

#[test]
fn a_log_of_another_layout_begins_anew_at_a_keyframe() {
    let mut server = Server::start(1);
    let stream = server.stream(&patient());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &headers());
    publish(&mut publication, &[picture(0, true)]);
    let mut reading = server.join(&stream);
    let mut slow = server.join_with(&stream, without_send_timeout);
    drop(stream);
    let begin = ["data", "video header", "audio header", "keyframe"];
    let kinds =
        |told: Vec<(&'static str, u32)>| -> Vec<_> { told.into_iter().map(|it| it.0).collect() };
    assert_eq!(kinds(reading.told(4)), begin);
    for number in 1..400 {
        publish(&mut publication, &[picture(number * 4, false)]);
    }
    assert_eq!(times(&mut reading, 399).last(), Some(&(399 * 4)));
    let (_server, mut publication) = upgrade(server, publication, 1, true);
    publish(&mut publication, &[picture(1_600, false)]);
    publish(&mut publication, &[picture(1_604, true), sound(1_604)]);
    assert_eq!(kinds(reading.told(4)), begin);
    assert_eq!(reading.told(1), [("sound", 1_604)]);
    // What this one had begun to get ends where a message does; then come the same.
    loop {
        let (kind, time) = slow.told(1)[0];
        if (kind, time) == ("keyframe", 1_604) {
            break;
        }
        assert!(time < 1_600 || kind != "picture", "{kind} {time}");
    }
    assert_eq!(slow.told(1), [("sound", 1_604)]);
}

#[test]
fn a_log_of_tags_goes_on_beside_the_chunks() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let mut publication = stream.publish(Instant::now()).unwrap();
    publish(&mut publication, &[picture(0, true)]);
    let log = stream.flv_log(FlvFraming::WebSocket).unwrap();
    publish(&mut publication, &[picture(40, false)]);
    drop((log, stream));
    let (_server, mut publication) = upgrade(server, publication, 2, false);
    let stream = publication.stream().clone();
    assert!(stream.has_flv_log(FlvFraming::WebSocket));
    assert!(!stream.has_flv_log(FlvFraming::Bare));
    let now = Instant::now();
    append(&mut publication, &[picture(80, false)], now).unwrap();
    assert_eq!(stream.pictures(), 3);
}

/// The times of the messages that `reader` gets up to the log's end.
fn read_all(reader: &mut MessageReader) -> Vec<u32> {
    let mut times = Vec::new();
    loop {
        // Less than a picture: one message a time.
        match reader.read(1).unwrap() {
            MessageRead::Messages(messages) => times.extend(messages.iter().map(|it| it.timestamp)),
            MessageRead::Nothing => return times,
            MessageRead::Skipped => panic!("it is not too slow"),
        }
    }
}

#[test]
fn a_reader_of_messages_goes_on_where_it_stood() {
    for (another_layout, expected) in [(false, vec![80, 120, 160]), (true, vec![160])] {
        let server = Server::start(1);
        let stream = server.stream(&settings());
        let mut publication = stream.publish(Instant::now()).unwrap();
        publish(&mut publication, &[picture(0, true), picture(40, false)]);
        let mut reader = MessageReader::new(&stream).unwrap();
        assert_eq!(read_all(&mut reader), [0, 40]);
        publish(&mut publication, &[picture(80, false)]);
        let part: MessageReaderPart = rewritten(&reader.part());
        std::mem::forget((reader, stream));
        let (_server, mut publication) = upgrade(server, publication, 1, another_layout);
        let stream = publication.stream().clone();
        let mut reader = match another_layout {
            false => MessageReader::take_over(&stream, &part),
            true => MessageReader::new(&stream),
        }
        .unwrap();
        publish(&mut publication, &[picture(120, false), picture(160, true)]);
        assert_eq!(read_all(&mut reader), expected);
        assert_eq!(reader.offset(), stream.log.index().end());
    }
}
