//! What is answered whatever goes on: calls, control messages, nonsense.

use rtmp_proto::session::{ConnectSettings, ServerEvent, ServerSession, Status};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::{Command, Control, UserControl};
use rtmp_proto::wire::{Limits, Message, MessageType};

use crate::tools::{NOTHING, PLAY_ACCEPTED, Policy, Server, call, connect, in_words, video};

#[test]
fn calls_are_answered_if_they_want_an_answer() {
    for (name, expected) in [
        ("releaseStream", vec!["_result 4 undefined"]),
        ("FCPublish", vec!["_result 4 undefined"]),
        ("FCUnpublish", vec!["_result 4 undefined"]),
        ("getStreamLength", vec!["_result 4 0"]),
        (
            "FCSubscribe",
            vec!["_result 4 undefined", "onFCSubscribe NetStream.Play.Start"],
        ),
        (
            "FCUnsubscribe",
            vec!["_result 4 undefined", "onFCUnsubscribe NetStream.Play.Stop"],
        ),
        ("_checkbw", vec!["_result 4 null"]),
        ("seek", vec!["_result 4 null"]),
        ("nonsense", vec!["_result 4 null"]),
        ("", vec!["_result 4 null"]),
    ] {
        let mut server = Server::connected();
        let replies = server.say(&call(name, 4, &["camera".into()]), 0).unwrap();
        assert_eq!(replies, expected, "{name}");

        // Transaction 0 wants no answer, nor do transactions that are none.
        let unanswered: Vec<_> = expected
            .into_iter()
            .filter(|reply| !reply.starts_with("_result"))
            .collect();
        for transaction_id in [0.0, -1.0, f64::NAN] {
            let command = Command {
                transaction_id,
                ..call(name, 0, &["camera".into()])
            };
            assert_eq!(server.say(&command, 0).unwrap(), unanswered, "{name}");
        }
        assert_eq!(server.events, []);
    }
}

#[test]
fn answers_are_not_answered() {
    let mut server = Server::connected();
    for name in ["_result", "_error", "onStatus"] {
        assert_eq!(
            server.say(&call(name, 4, &[Value::Null]), 0).unwrap(),
            NOTHING,
            "{name}"
        );
    }
}

#[test]
fn answers_that_nobody_asked_for_are_not_given() {
    let mut server = Server::with_stream();
    let status = Status::publish_bad_name("");
    let Server { session, out, .. } = &mut server;
    session.accept_connect(&ConnectSettings::default(), out);
    session.refuse_connect(&status, out);
    for stream_id in [0, 1, 2, 17, u32::MAX] {
        assert!(!session.accept_publish(stream_id, out));
        assert!(!session.refuse_publish(stream_id, &status, out));
        assert!(!session.accept_play(stream_id, out));
        assert!(!session.refuse_play(stream_id, &status, out));
        assert!(!session.end_play(stream_id, out));
        session.defer_play(stream_id);
    }
    assert_eq!(server.heard(), NOTHING);
}

#[test]
fn unreadable_commands_and_unknown_messages_are_ignored() {
    let mut server = Server::publishing();
    for type_id in [0, 7, 10, 14, 16, 17, 19, 20, 21, 23, 255] {
        for payload in [&b""[..], b"\x00", b"\xff\xff", b"\x02\xff\xffabc"] {
            let message = Message {
                message_type: MessageType(type_id),
                payload: payload.to_vec().into(),
                ..video(1, b"")
            };
            assert_eq!(server.send(&message).unwrap(), NOTHING, "{message:?}");
        }
    }
    server.send(&video(1, b"\x17\x01")).unwrap();
    assert_eq!(server.events, [ServerEvent::Media(video(1, b"\x17\x01"))]);
}

#[test]
fn commands_in_amf3_are_obeyed() {
    let mut server = Server::connected();
    let message = call("createStream", 2, &[]).to_message(0);
    let payload = [&[0], &message.payload[..]].concat().into();
    let message = Message {
        message_type: MessageType::COMMAND_AMF3,
        payload,
        ..message
    };
    assert_eq!(server.send(&message).unwrap(), ["_result 2 1"]);
}

#[test]
fn pings_are_answered_and_pongs_told() {
    let mut server = Server::connected();
    let ping = Control::UserControl(UserControl::PingRequest(1234)).to_message();
    assert_eq!(server.send(&ping).unwrap(), ["PingResponse(1234)"]);

    server.session.ping(5678, &mut server.out);
    assert_eq!(server.heard(), ["PingRequest(5678)"]);
    let pong = Control::UserControl(UserControl::PingResponse(5678)).to_message();
    assert_eq!(server.send(&pong).unwrap(), NOTHING);
    assert_eq!(server.events, [ServerEvent::Pong(5678)]);
}

#[test]
fn buffer_lengths_and_acknowledgements_are_told() {
    let mut server = Server::playing();
    let buffer = UserControl::SetBufferLength {
        stream_id: 1,
        milliseconds: 3000,
    };
    server
        .send(&Control::UserControl(buffer).to_message())
        .unwrap();
    server
        .send(&Control::Acknowledgement(u32::MAX).to_message())
        .unwrap();
    assert_eq!(
        server.events,
        [
            ServerEvent::BufferLength {
                stream_id: 1,
                milliseconds: 3000
            },
            ServerEvent::Acknowledged(u32::MAX),
        ]
    );
}

#[test]
fn what_a_publisher_sends_is_acknowledged_as_it_asks_or_as_configured() {
    let picture = video(1, &[0x17; 1000]);
    let acknowledgements = |server: &mut Server| {
        let mut heard = Vec::new();
        for _ in 0..10 {
            heard.extend(server.send(&picture).unwrap());
        }
        assert!(
            heard
                .iter()
                .all(|reply| reply.starts_with("Acknowledgement")),
            "{heard:?}"
        );
        heard.len()
    };
    let mut server = Server::publishing();
    assert_eq!(acknowledgements(&mut server), 0, "nobody asked");
    server
        .send(&Control::WindowAckSize(4000).to_message())
        .unwrap();
    server.heard();
    assert_eq!(
        acknowledgements(&mut server),
        5,
        "one for every half window"
    );

    let mut server = Server::new();
    server.settings.in_ack_size = 4000;
    server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    server
        .say(&call("publish", 3, &["camera".into()]), 1)
        .unwrap();
    assert_eq!(acknowledgements(&mut server), 5);
}

#[test]
fn replies_use_the_announced_chunk_size_and_stand_alone() {
    // Whatever the server writes may have a stream's own chunks before and
    // after it: it must not refer to headers that came earlier.
    let mut server = Server::new();
    server.settings.chunk_size = 128;
    server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    server.policy = Policy::Wait;
    server.say(&call("play", 3, &["camera".into()]), 1).unwrap();
    assert!(server.out.is_empty());
    server.session.accept_play(1, &mut server.out);
    let reply = std::mem::take(&mut server.out);
    let mut fresh = rtmp_proto::wire::chunk::ChunkReader::new(&Limits::default());
    let mut input = &reply[..];
    let mut heard = Vec::new();
    while let Some(message) = fresh.read(&mut input).unwrap() {
        heard.push(in_words(&message));
    }
    assert_eq!(heard, PLAY_ACCEPTED);
}

#[test]
fn a_session_goes_from_thread_to_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<ServerSession>();
    is_send::<rtmp_proto::session::ClientSession>();
}
