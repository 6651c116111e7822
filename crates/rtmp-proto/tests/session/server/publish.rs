//! Publishing: how it begins, what arrives, and how it ends.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{PublishKind, ServerEvent, Status};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::data;
use rtmp_proto::wire::{Message, MessageType};

use crate::tools::{NOTHING, PUBLISH_ACCEPTED, Policy, Server, call, video};

#[test]
fn publish_names_a_stream_and_what_is_to_become_of_it() {
    for (kind, expected) in [
        (Value::from("live"), PublishKind::Live),
        ("record".into(), PublishKind::Record),
        ("append".into(), PublishKind::Append),
        ("nonsense".into(), PublishKind::Live),
        (Value::Null, PublishKind::Live),
    ] {
        let mut server = Server::with_stream();
        let replies = server
            .say(&call("publish", 3, &["camera?token=x".into(), kind]), 1)
            .unwrap();
        assert_eq!(replies, PUBLISH_ACCEPTED);
        let [ServerEvent::Publish(request)] = &server.events[..] else {
            panic!("expected a publish, got {:?}", server.events)
        };
        assert_eq!(request.stream_id, 1);
        assert_eq!(request.key.to_string(), "live/camera");
        assert_eq!(request.parameters.get("token"), Some("x"));
        assert_eq!(request.kind, expected);
    }
}

#[test]
fn media_right_behind_publish_waits_for_the_answer_and_is_not_lost() {
    let mut server = Server::with_stream();
    server.policy = Policy::Wait;
    let mut bytes = Vec::new();
    for message in [
        call("publish", 3, &["camera".into()]).to_message(1),
        video(1, b"\x17\x00"),
    ] {
        rtmp_proto::wire::chunk::encode_message(&message, 128, 5, &mut bytes);
    }
    let mut input = &bytes[..];
    let event = server.session.read(&mut input, &mut server.out).unwrap();
    assert!(matches!(event, Some(ServerEvent::Publish(_))), "{event:?}");
    assert_eq!(server.session.read(&mut input, &mut server.out), Ok(None));
    assert!(server.session.accept_publish(1, &mut server.out));
    let event = server.session.read(&mut input, &mut server.out).unwrap();
    assert_eq!(event, Some(ServerEvent::Media(video(1, b"\x17\x00"))));
}

#[test]
fn publish_may_be_refused_and_tried_again() {
    let mut server = Server::with_stream();
    let publish = call("publish", 3, &["camera".into()]);
    for status in [
        Status::publish_bad_name("busy"),
        Status::publish_denied("not from there"),
    ] {
        server.policy = Policy::Refuse(status.clone());
        let replies = server.say(&publish, 1).unwrap();
        assert_eq!(replies, [format!("onStatus@1 {}", status.code)]);
        server.events.clear();
        server.send(&video(1, b"\x17\x01")).unwrap();
        assert_eq!(server.events, [], "what is not published is ignored");
    }
    server.policy = Policy::Accept;
    assert_eq!(server.say(&publish, 1).unwrap(), PUBLISH_ACCEPTED);
}

#[test]
fn a_publish_may_be_ended_by_the_server() {
    let mut server = Server::publishing();
    let status = Status::error(code::PUBLISH_IDLE, "nothing came for 5 s");
    assert!(server.session.refuse_publish(1, &status, &mut server.out));
    assert_eq!(server.heard(), ["onStatus@1 NetStream.Publish.Idle"]);
    assert!(
        !server.session.refuse_publish(1, &status, &mut server.out),
        "there is none left"
    );
    server.send(&video(1, b"\x17\x01")).unwrap();
    assert_eq!(server.events, []);
}

#[test]
fn publish_again_on_the_same_stream_ends_the_first_publish() {
    let mut server = Server::publishing();
    server
        .say(&call("publish", 4, &["second".into()]), 1)
        .unwrap();
    let [
        ServerEvent::PublishEnded { stream_id: 1 },
        ServerEvent::Publish(request),
    ] = &server.events[..]
    else {
        panic!("expected an end and a publish, got {:?}", server.events)
    };
    assert_eq!(request.key.stream, "second");
}

#[test]
fn publishers_leave_by_fc_unpublish_close_delete_or_publish_false() {
    let success = "onStatus@1 NetStream.Unpublish.Success";
    for (leave, stream_id, heard) in [
        (
            call("FCUnpublish", 5, &["camera".into()]),
            0,
            vec![
                "onFCUnpublish@1 NetStream.Unpublish.Success",
                "_result 5 undefined",
                success,
            ],
        ),
        (call("closeStream", 0, &[]), 1, vec![success]),
        (call("deleteStream", 0, &[1.0.into()]), 0, vec![]),
        (call("deleteStream", 0, &[]), 1, vec![]),
        (call("publish", 0, &[false.into()]), 1, vec![success]),
    ] {
        let mut server = Server::publishing();
        assert_eq!(server.say(&leave, stream_id).unwrap(), heard, "{leave:?}");
        assert_eq!(
            server.events,
            [ServerEvent::PublishEnded { stream_id: 1 }],
            "{leave:?}"
        );
        server.say(&leave, stream_id).unwrap();
        assert_eq!(
            server.events.len(),
            1,
            "leaving twice is leaving once: {leave:?}"
        );
    }
}

#[test]
fn fc_unpublish_does_not_guess_between_two_streams() {
    let mut server = Server::publishing();
    server.say(&call("createStream", 4, &[]), 0).unwrap();
    server
        .say(&call("publish", 5, &["second".into()]), 2)
        .unwrap();
    server.events.clear();
    let replies = server
        .say(&call("FCUnpublish", 6, &["second".into()]), 0)
        .unwrap();
    assert_eq!(replies, ["_result 6 undefined"]);
    server
        .say(&call("deleteStream", 0, &[2.0.into()]), 0)
        .unwrap();
    assert_eq!(server.events, [ServerEvent::PublishEnded { stream_id: 2 }]);
}

#[test]
fn a_published_streams_media_and_data_are_events() {
    let mut server = Server::publishing();
    let metadata = data::message(0, 1, &["@setDataFrame".into(), "onMetaData".into()]);
    let audio = Message {
        message_type: MessageType::AUDIO,
        ..video(1, b"\xaf\x00")
    };
    for message in [metadata, audio, video(1, b"\x17\x00"), video(1, b"")] {
        assert_eq!(server.send(&message).unwrap(), NOTHING);
        assert_eq!(server.events.last(), Some(&ServerEvent::Media(message)));
    }
}

#[test]
fn what_a_server_tells_its_players_is_no_part_of_a_relays_stream() {
    let mut server = Server::publishing();
    let info = |code: &'static str| Value::Object(Status::notice(code, "").properties());
    for foreign in [
        data::message(0, 1, &["|RtmpSampleAccess".into(), true.into()]),
        data::message(0, 1, &["onStatus".into(), info(code::DATA_START)]),
        data::message(0, 1, &["onPlayStatus".into(), info(code::PLAY_COMPLETE)]),
    ] {
        assert_eq!(server.send(&foreign).unwrap(), NOTHING);
        assert_eq!(server.events, []);
    }
    let own = data::message(0, 1, &["onStatus".into(), "of the camera".into()]);
    server.send(&own).unwrap();
    assert_eq!(server.events, [ServerEvent::Media(own)]);
}

#[test]
fn media_of_streams_that_are_not_published_is_ignored() {
    let mut server = Server::publishing();
    for stream_id in [2, 16, 17, u32::MAX] {
        assert_eq!(
            server.send(&video(stream_id, b"\x17\x01")).unwrap(),
            NOTHING
        );
    }
    assert_eq!(server.events, []);
    let mut server = Server::playing();
    server.send(&video(1, b"\x17\x01")).unwrap();
    server.send(&video(0, b"\x17\x01")).unwrap();
    assert_eq!(server.events, []);
}

#[test]
fn media_on_message_stream_0_belongs_to_the_one_stream_that_is_published() {
    let mut server = Server::publishing();
    server.send(&video(0, b"\x17\x01")).unwrap();
    assert_eq!(server.events, [ServerEvent::Media(video(1, b"\x17\x01"))]);

    server.say(&call("createStream", 4, &[]), 0).unwrap();
    server
        .say(&call("publish", 5, &["second".into()]), 2)
        .unwrap();
    server.events.clear();
    server.send(&video(0, b"\x17\x01")).unwrap();
    assert_eq!(server.events, [], "there is no telling which");
    server.send(&video(2, b"\x17\x01")).unwrap();
    assert_eq!(server.events, [ServerEvent::Media(video(2, b"\x17\x01"))]);
}

#[test]
fn an_aggregates_parts_are_events_of_their_own() {
    let part = |type_id: u8, payload: &[u8]| {
        let mut bytes = vec![type_id, 0, 0, payload.len() as u8, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(payload);
        bytes.extend([0, 0, 0, 11 + payload.len() as u8]);
        bytes
    };
    let payload = [part(9, b"\x17\x01"), part(8, b"\xaf\x01")].concat();
    let aggregate = Message {
        message_type: MessageType::AGGREGATE,
        payload: payload.into(),
        ..video(1, b"")
    };
    let audio = Message {
        message_type: MessageType::AUDIO,
        ..video(1, b"\xaf\x01")
    };
    let mut server = Server::publishing();
    server.send(&aggregate).unwrap();
    let expected = [video(1, b"\x17\x01"), audio].map(ServerEvent::Media);
    assert_eq!(server.events, expected);

    let mut server = Server::playing();
    server.send(&aggregate).unwrap();
    assert_eq!(server.events, [], "nothing is published here");
}
