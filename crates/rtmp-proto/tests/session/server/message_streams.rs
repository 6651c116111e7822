//! Message streams and the names on them.

use rtmp_proto::session::{ServerEvent, Status};
use rtmp_proto::wire::amf0::Value;

use crate::tools::{PLAY_ACCEPTED, PUBLISH_ACCEPTED, Server, call, connect, video};

#[test]
fn streams_get_the_lowest_free_id() {
    let mut server = Server::connected();
    let create = call("createStream", 2, &[]);
    assert_eq!(server.say(&create, 0).unwrap(), ["_result 2 1"]);
    assert_eq!(server.say(&create, 0).unwrap(), ["_result 2 2"]);
    assert_eq!(server.say(&create, 0).unwrap(), ["_result 2 3"]);
    server
        .say(&call("deleteStream", 0, &[2.0.into()]), 0)
        .unwrap();
    assert_eq!(server.say(&create, 0).unwrap(), ["_result 2 2"]);
    assert_eq!(server.say(&create, 0).unwrap(), ["_result 2 4"]);
}

#[test]
fn one_connection_may_publish_one_stream_and_play_another() {
    let mut server = Server::publishing();
    server.say(&call("createStream", 4, &[]), 0).unwrap();
    let replies = server.say(&call("play", 5, &["other".into()]), 2).unwrap();
    assert_eq!(replies[2], "onStatus@2 NetStream.Play.Start");
    server.events.clear();
    server.send(&video(1, b"\x17\x01")).unwrap();
    server.say(&call("closeStream", 0, &[]), 2).unwrap();
    assert_eq!(
        server.events,
        [
            ServerEvent::Media(video(1, b"\x17\x01")),
            ServerEvent::PlayEnded { stream_id: 2 }
        ]
    );
}

#[test]
fn a_closed_stream_may_be_used_again() {
    let mut server = Server::publishing();
    server.say(&call("closeStream", 0, &[]), 1).unwrap();
    let play = call("play", 6, &["camera".into()]);
    assert_eq!(server.say(&play, 1).unwrap(), PLAY_ACCEPTED);
}

#[test]
fn publish_and_play_without_create_stream_are_taken_for_stream_1() {
    for stream_id in [0, 1] {
        let mut server = Server::connected();
        let replies = server
            .say(&call("publish", 2, &["camera".into()]), stream_id)
            .unwrap();
        assert_eq!(replies, PUBLISH_ACCEPTED);
        let mut server = Server::connected();
        let replies = server
            .say(&call("play", 2, &["camera".into()]), stream_id)
            .unwrap();
        assert_eq!(replies, PLAY_ACCEPTED);
    }
}

#[test]
fn publish_and_play_on_an_impossible_stream_are_refused() {
    for stream_id in [17, 1000, u32::MAX] {
        let mut server = Server::connected();
        let at = format!("onStatus@{stream_id}");
        let replies = server
            .say(&call("publish", 2, &["camera".into()]), stream_id)
            .unwrap();
        assert_eq!(replies, [format!("{at} NetStream.Publish.BadName")]);
        let replies = server
            .say(&call("play", 2, &["camera".into()]), stream_id)
            .unwrap();
        assert_eq!(replies, [format!("{at} NetStream.Play.Failed")]);
        let why = "no such message stream";
        let refusals = [Status::publish_bad_name(why), Status::play_failed(why)];
        assert_eq!(server.events, refusals.map(refused));
    }
}

#[test]
fn the_streams_own_virtual_host_goes_before_the_connections() {
    let mut server = Server::new();
    let url = "rtmp://example.com/live";
    server
        .say(
            &connect(&[("app", "live".into()), ("tcUrl", url.into())]),
            0,
        )
        .unwrap();
    for (name, vhost) in [("camera", "example.com"), ("camera?vhost=a.net", "a.net")] {
        server.say(&call("play", 3, &[name.into()]), 1).unwrap();
        let Some(ServerEvent::Play(request)) = server.events.last() else {
            panic!("expected a play, got {:?}", server.events)
        };
        assert_eq!(request.key.vhost, vhost);
    }
}

#[test]
fn publish_and_play_without_a_name_are_refused() {
    for arguments in [vec![], vec!["".into()], vec![Value::Null], vec![7.0.into()]] {
        let mut server = Server::with_stream();
        let replies = server.say(&call("publish", 3, &arguments), 1).unwrap();
        assert_eq!(
            replies,
            ["onStatus@1 NetStream.Publish.BadName"],
            "{arguments:?}"
        );
        let replies = server.say(&call("play", 3, &arguments), 1).unwrap();
        assert_eq!(
            replies,
            ["onStatus@1 NetStream.Play.Failed"],
            "{arguments:?}"
        );
        let why = "the stream has no name";
        let refusals = [Status::publish_bad_name(why), Status::play_failed(why)];
        assert_eq!(server.events, refusals.map(refused));
    }
}

/// What the caller is told of a refusal.
fn refused(status: Status) -> ServerEvent {
    ServerEvent::Refused(Box::new(status))
}

#[test]
fn the_stream_may_stand_in_the_application() {
    let mut server = Server::new();
    let url = "rtmp://h/live/room/camera";
    let properties = [("app", "live/room/camera".into()), ("tcUrl", url.into())];
    server.say(&connect(&properties), 0).unwrap();
    assert_eq!(
        server.say(&call("publish", 3, &["".into()]), 1).unwrap(),
        PUBLISH_ACCEPTED
    );
    let Some(ServerEvent::Publish(request)) = server.events.last() else {
        panic!("expected a publish, got {:?}", server.events)
    };
    assert_eq!(request.key.to_string(), "h/live/room/camera");
    assert_eq!(request.key.app, "live/room");
}

#[test]
fn a_bad_name_does_not_end_what_is_under_way() {
    let mut server = Server::publishing();
    server.say(&call("publish", 3, &["".into()]), 1).unwrap();
    server.send(&video(1, b"\x17\x01")).unwrap();
    let why = Status::publish_bad_name("the stream has no name");
    assert_eq!(
        server.events,
        [refused(why), ServerEvent::Media(video(1, b"\x17\x01"))]
    );
}
