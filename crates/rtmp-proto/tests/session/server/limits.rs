//! What a client may ask of the server, and what it costs.

use rtmp_proto::session::{NameError, ServerSession, SessionError};
use rtmp_proto::wire::Limit;
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::{Control, UserControl};
use rtmp_proto::wire::{Message, MessageType};

use crate::tools::{Server, call, connect, video};

fn limit(limit: Limit, allowed: u32) -> SessionError {
    SessionError::Limit { limit, allowed }
}

#[test]
fn create_stream_without_end_comes_to_one() {
    let mut server = Server::connected();
    let create = call("createStream", 2, &[]);
    for id in 1..=16 {
        assert_eq!(server.say(&create, 0).unwrap(), [format!("_result 2 {id}")]);
    }
    assert_eq!(
        server.say(&create, 0),
        Err(limit(Limit::MessageStreams, 16))
    );
    assert_eq!(
        server.heard(),
        ["_error 2 NetConnection.Call.Failed"],
        "it is told why"
    );
}

#[test]
fn create_and_delete_may_go_on_for_ever() {
    let mut server = Server::connected();
    for _ in 0..1000 {
        assert_eq!(
            server.say(&call("createStream", 2, &[]), 0).unwrap(),
            ["_result 2 1"]
        );
        server
            .say(&call("deleteStream", 0, &[1.0.into()]), 0)
            .unwrap();
    }
}

#[test]
fn a_name_too_long_ends_the_connection_with_a_status() {
    let long = Value::String("x".repeat(513));
    let error = SessionError::Name(NameError::TooLong {
        len: 513,
        allowed: 512,
    });
    let mut server = Server::new();
    assert_eq!(
        server.say(&connect(&[("app", long.clone())]), 0),
        Err(error.clone())
    );
    assert_eq!(
        server.heard(),
        ["_error 1 NetConnection.Connect.InvalidApp"]
    );
    for (name, status) in [
        ("publish", "NetStream.Publish.BadName"),
        ("play", "NetStream.Play.Failed"),
    ] {
        let mut server = Server::with_stream();
        assert_eq!(
            server.say(&call(name, 3, std::slice::from_ref(&long)), 1),
            Err(error.clone())
        );
        assert_eq!(server.heard(), [format!("onStatus@1 {status}")]);
    }
}

#[test]
fn before_connect_64_kilobytes_are_enough() {
    let expected = limit(Limit::BytesBeforeConnect, 64 << 10);
    // Complete messages, however small ...
    let ping = Control::UserControl(UserControl::PingResponse(0)).to_message();
    let mut server = Server::new();
    let (sent, error) = (0..)
        .find_map(|n| Some((n, server.send(&ping).err()?)))
        .unwrap();
    assert_eq!(error, expected);
    let ping_len = 12 + 6;
    assert_eq!(sent, (64 << 10) / ping_len, "pings of {ping_len} bytes");
    // ... and one that is never complete.
    let mut server = Server::new();
    let header = [6, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0];
    server.bytes(&header).unwrap();
    let outcome = (0..1000).find_map(|_| server.bytes(&[0xc6; 129]).err());
    assert_eq!(outcome, Some(expected));
    // After connect there is no such limit.
    let mut server = Server::publishing();
    for _ in 0..100 {
        server.send(&video(1, &[0x17; 10_000])).unwrap();
    }
    assert_eq!(server.events.len(), 100);
    // And a long connect is no crime.
    let mut server = Server::new();
    let page = Value::String("x".repeat(50_000));
    assert!(
        server
            .say(&connect(&[("app", "live".into()), ("pageUrl", page)]), 0)
            .is_ok()
    );
}

#[test]
fn a_command_longer_than_64_kilobytes_ends_the_connection() {
    let mut server = Server::connected();
    let long = Message {
        message_type: MessageType::COMMAND_AMF0,
        ..video(0, &[5; (64 << 10) + 1])
    };
    assert_eq!(
        server.send(&long),
        Err(limit(Limit::CommandBytes, 64 << 10))
    );
}

#[test]
fn deeply_nested_arguments_are_left_out() {
    // 16 kB of nested objects abort the process of servers that recurse.
    let mut payload = call("createStream", 2, &[]).to_message(0).payload.to_vec();
    payload.extend(b"\x03\x00\x01a".repeat(4096));
    let message = Message {
        message_type: MessageType::COMMAND_AMF0,
        ..video(0, &payload)
    };
    assert_eq!(Server::connected().send(&message).unwrap(), ["_result 2 1"]);
}

#[test]
fn a_session_that_plays_takes_less_than_a_kilobyte() {
    // What is on the heap: the chunk streams that a player uses (control,
    // commands, play), the names, one byte per message stream. An allocator's
    // overhead comes to 16 bytes for each.
    let in_place = size_of::<ServerSession>();
    let server = Server::playing();
    let heap = server.session.heap_bytes();
    assert!(
        in_place + heap + 5 * 16 < 1024,
        "{in_place} in place, {heap} on the heap"
    );
    assert!(heap > 100, "{heap} bytes cannot be all");
}
