//! The client's side: what it says to which answer.

use rtmp_proto::session::status::{Level, Status, code};
use rtmp_proto::session::{ClientConfig, ClientEvent, ClientSession, Purpose};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::chunk::{ChunkReader, csid, encode_message};
use rtmp_proto::wire::message::{BandwidthLimit, Command, Control, UserControl, data};
use rtmp_proto::wire::{Limits, Message, MessageType};

use crate::tools::{Server, call, in_words, video};

const NOTHING: [&str; 0] = [];

/// A client session, and the server's end of its wire in the test's hands.
struct Client {
    session: ClientSession,
    reader: ChunkReader,
    events: Vec<ClientEvent>,
    out: Vec<u8>,
}

impl Client {
    /// After the handshake: `connect` has been sent.
    fn new(purpose: Purpose) -> Client {
        let config = ClientConfig::new(purpose, "rtmp://h/live", "live", "camera?token=x");
        Client::with(config)
    }

    fn with(config: ClientConfig) -> Client {
        let mut out = Vec::new();
        let mut session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
        assert_eq!(out.len(), 1 + 1536, "C0 and C1");
        out.clear();
        let answer = [vec![3], vec![0; 1536 + 1536]].concat();
        assert_eq!(session.read(&mut &answer[..], &mut out), Ok(None));
        // C2, then connect.
        out.drain(..1536);
        let reader = ChunkReader::new(&Limits::default());
        Client {
            session,
            reader,
            events: Vec::new(),
            out,
        }
    }

    /// After `connect`, `createStream` and the request; what the client says to
    /// that is lost.
    fn requested(purpose: Purpose) -> Client {
        let mut client = Client::new(purpose);
        client.hears(&call("_result", 1, &[Value::Null]).to_message(0));
        let create = if purpose == Purpose::Publish { 4 } else { 2 };
        client.hears(&call("_result", create, &[1.0.into()]).to_message(0));
        client.events.clear();
        client
    }

    fn started(purpose: Purpose) -> Client {
        let mut client = Client::requested(purpose);
        let code = match purpose {
            Purpose::Play => code::PLAY_START,
            Purpose::Publish => code::PUBLISH_START,
        };
        client.hears(&status(Level::Status, code));
        client.events.clear();
        client
    }

    /// Lets the client hear a message and returns what it says, in words.
    fn hears(&mut self, message: &Message) -> Vec<String> {
        let mut bytes = Vec::new();
        let csid = csid::for_message(message.message_type, message.stream_id);
        encode_message(message, 128, csid, &mut bytes);
        let mut input = &bytes[..];
        while let Some(event) = self.session.read(&mut input, &mut self.out).unwrap() {
            self.events.push(event);
        }
        assert!(input.is_empty());
        self.says()
    }

    fn messages(&mut self) -> Vec<Message> {
        let out = std::mem::take(&mut self.out);
        let mut input = &out[..];
        let mut messages = Vec::new();
        while let Some(message) = self.reader.read(&mut input).unwrap() {
            messages.push(message);
        }
        messages
    }

    fn says(&mut self) -> Vec<String> {
        self.messages().iter().map(in_words).collect()
    }
}

fn status(level: Level, code: &'static str) -> Message {
    let status = Status {
        level,
        ..Status::notice(code, "")
    };
    call("onStatus", 0, &[Value::Object(status.properties())]).to_message(1)
}

#[test]
fn connect_carries_the_url_and_what_the_caller_adds() {
    let mut config = ClientConfig::new(
        Purpose::Play,
        "rtmp://h:1936/live?vhost=a.net",
        "live?vhost=a.net",
        "camera",
    );
    config
        .connect_properties
        .push(("pageUrl".into(), "https://h/".into()));
    config.connect_arguments.push("secret".into());
    config.gop_cache = Some(true);
    let mut client = Client::with(config);
    let messages = client.messages();
    let [connect] = &messages[..] else {
        panic!("expected connect, got {messages:?}")
    };
    let connect = Command::parse(connect, 32).unwrap();
    assert_eq!(connect.name, "connect");
    assert_eq!(connect.transaction_id, 1.0);
    let property = |name: &str| connect.object.get(name).and_then(Value::as_str);
    assert_eq!(property("app"), Some("live?vhost=a.net"));
    assert_eq!(property("tcUrl"), Some("rtmp://h:1936/live?vhost=a.net"));
    assert_eq!(property("pageUrl"), Some("https://h/"));
    assert_eq!(connect.object.get("gopCache"), Some(&true.into()));
    assert_eq!(connect.arguments, ["secret".into()]);
}

#[test]
fn a_player_connects_creates_a_stream_and_plays() {
    let mut client = Client::new(Purpose::Play);
    client.says();
    assert_eq!(
        client.hears(&call("_result", 1, &[Value::Null]).to_message(0)),
        ["WindowAckSize(2500000)", "createStream 2"]
    );
    assert_eq!(
        client.hears(&call("_result", 2, &[5.0.into()]).to_message(0)),
        [
            "play@5 3 String(\"camera?token=x\") -2000",
            "SetBufferLength { stream_id: 5, milliseconds: 1000 }",
        ]
    );
    assert_eq!(client.events, [ClientEvent::Connected]);
    assert_eq!(
        client.hears(&status(Level::Status, code::PLAY_START)),
        NOTHING
    );
    assert_eq!(
        client.events,
        [ClientEvent::Connected, ClientEvent::Playing]
    );
}

#[test]
fn a_publisher_announces_itself_and_publishes() {
    let mut client = Client::new(Purpose::Publish);
    client.says();
    assert_eq!(
        client.hears(&call("_result", 1, &[Value::Null]).to_message(0)),
        [
            "SetChunkSize(60000)",
            "releaseStream 2 String(\"camera?token=x\")",
            "FCPublish 3 String(\"camera?token=x\")",
            "createStream 4",
        ]
    );
    assert_eq!(
        client.hears(&call("_result", 4, &[1.0.into()]).to_message(0)),
        ["publish@1 5 String(\"camera?token=x\") String(\"live\")"]
    );
    assert!(
        !client
            .session
            .publish(&video(0, b"\x17\x00"), &mut client.out),
        "not yet"
    );
    client.hears(&status(Level::Status, code::PUBLISH_START));
    assert_eq!(
        client.events,
        [ClientEvent::Connected, ClientEvent::Publishing]
    );
    assert!(
        client
            .session
            .publish(&video(0, b"\x17\x00"), &mut client.out)
    );
    assert_eq!(client.messages(), [video(1, b"\x17\x00")]);
}

#[test]
fn errors_to_what_is_only_announced_do_not_matter() {
    let mut client = Client::new(Purpose::Publish);
    client.hears(&call("_result", 1, &[Value::Null]).to_message(0));
    client.hears(&call("_error", 2, &[Value::Null]).to_message(0));
    client.hears(&call("_error", 3, &[Value::Null]).to_message(0));
    assert_eq!(
        client.hears(&call("_result", 4, &[1.0.into()]).to_message(0)),
        ["publish@1 5 String(\"camera?token=x\") String(\"live\")"]
    );
    assert_eq!(client.events, [ClientEvent::Connected]);
}

#[test]
fn answers_to_other_transactions_are_ignored() {
    let mut client = Client::new(Purpose::Play);
    client.says();
    for transaction in [0, 2, 7] {
        let result = call("_result", transaction, &[1.0.into()]).to_message(0);
        assert_eq!(client.hears(&result), NOTHING);
    }
    assert_eq!(client.events, []);
}

#[test]
fn a_refused_connect_says_why() {
    let refusal = Status::connect_rejected("not from there");
    let mut client = Client::new(Purpose::Play);
    client.says();
    let info = Value::Object(refusal.properties());
    assert_eq!(
        client.hears(&call("_error", 1, &[info]).to_message(0)),
        NOTHING
    );
    assert_eq!(client.events, [ClientEvent::Rejected(refusal)]);
    // And that is the end.
    assert_eq!(
        client.hears(&call("_result", 1, &[Value::Null]).to_message(0)),
        NOTHING
    );
    assert_eq!(client.events.len(), 1);
}

#[test]
fn a_refusal_without_reason_is_still_one() {
    let mut client = Client::new(Purpose::Play);
    client.hears(&call("_error", 1, &[]).to_message(0));
    let [ClientEvent::Rejected(status)] = &client.events[..] else {
        panic!("expected a rejection, got {:?}", client.events)
    };
    assert_eq!(status.code, code::CALL_FAILED);
    assert_eq!(status.level, Level::Error);
}

#[test]
fn a_stream_that_cannot_be_created_is_a_rejection() {
    for answer in [
        call("_error", 2, &[]),
        call("_result", 2, &[]),
        call("_result", 2, &[Value::Null]),
        call("_result", 2, &[(-1.0).into()]),
        call("_result", 2, &[f64::NAN.into()]),
    ] {
        let mut client = Client::new(Purpose::Play);
        client.hears(&call("_result", 1, &[Value::Null]).to_message(0));
        client.hears(&answer.to_message(0));
        assert!(
            matches!(client.events.last(), Some(ClientEvent::Rejected(_))),
            "{answer:?}: {:?}",
            client.events
        );
    }
}

#[test]
fn refusals_are_final_whatever_their_level() {
    for (purpose, code, level) in [
        (Purpose::Publish, code::PUBLISH_BAD_NAME, Level::Error),
        (Purpose::Publish, code::PUBLISH_BAD_NAME, Level::Status),
        (Purpose::Publish, code::PUBLISH_DENIED, Level::Error),
        (Purpose::Play, code::PLAY_STREAM_NOT_FOUND, Level::Error),
        (Purpose::Play, code::PLAY_STREAM_NOT_FOUND, Level::Status),
        (Purpose::Play, code::PLAY_FAILED, Level::Error),
        (Purpose::Play, "NetStream.Something.New", Level::Error),
    ] {
        let mut client = Client::requested(purpose);
        client.hears(&status(level, code));
        let expected = Status {
            level,
            ..Status::notice(code, "")
        };
        assert_eq!(client.events, [ClientEvent::Rejected(expected)]);
        assert!(
            !client
                .session
                .publish(&video(0, b"\x17\x00"), &mut client.out)
        );
        client.hears(&video(1, b"\x17\x00"));
        assert_eq!(client.events.len(), 1, "nothing comes after it");
    }
}

#[test]
fn a_publish_that_the_server_ends_is_rejected_late() {
    let mut client = Client::started(Purpose::Publish);
    client.hears(&status(Level::Error, code::PUBLISH_BAD_NAME));
    assert!(
        matches!(client.events[..], [ClientEvent::Rejected(_)]),
        "{:?}",
        client.events
    );
    assert!(
        !client
            .session
            .publish(&video(0, b"\x17\x00"), &mut client.out)
    );
}

#[test]
fn other_statuses_are_told() {
    let mut client = Client::started(Purpose::Play);
    for code in [
        code::PLAY_RESET,
        code::PLAY_UNPUBLISH_NOTIFY,
        code::PLAY_PUBLISH_NOTIFY,
    ] {
        client.events.clear();
        client.hears(&status(Level::Status, code));
        assert_eq!(
            client.events,
            [ClientEvent::Status(Status::notice(code, ""))]
        );
    }
    client.events.clear();
    client.hears(&status(Level::Warning, code::PLAY_INSUFFICIENT_BW));
    assert_eq!(client.events.len(), 1);
}

#[test]
fn a_publication_that_follows_another_is_told() {
    let begin = Control::UserControl(UserControl::StreamBegin(1)).to_message();
    let mut client = Client::requested(Purpose::Play);
    client.hears(&begin);
    assert_eq!(client.events, [], "the answer to a play begins so");
    let mut client = Client::started(Purpose::Play);
    client.hears(&begin);
    assert_eq!(client.events, [ClientEvent::StreamBegin]);
}

#[test]
fn the_streams_media_is_told_and_the_servers_own_data_is_not() {
    let mut client = Client::started(Purpose::Play);
    let info = |code: &'static str| Value::Object(Status::notice(code, "").properties());
    for own in [
        data::message(
            0,
            1,
            &["|RtmpSampleAccess".into(), true.into(), true.into()],
        ),
        data::message(0, 1, &["onStatus".into(), info(code::DATA_START)]),
        data::message(
            0,
            1,
            &["onPlayStatus".into(), info("NetStream.Play.Switch")],
        ),
    ] {
        client.hears(&own);
        assert_eq!(client.events, [], "{}", in_words(&own));
    }
    let metadata = data::message(7, 1, &["onMetaData".into(), Value::EcmaArray(vec![])]);
    let audio = Message {
        message_type: MessageType::AUDIO,
        ..video(1, b"\xaf\x01")
    };
    let all = [
        metadata,
        audio,
        video(1, b"\x17\x01"),
        data::message(7, 1, &["onStatus".into(), "of the camera".into()]),
    ];
    for message in &all {
        client.hears(message);
    }
    assert_eq!(client.events, all.map(ClientEvent::Media));
}

#[test]
fn media_before_the_status_is_not_lost() {
    let mut client = Client::requested(Purpose::Play);
    client.hears(&video(1, b"\x17\x00"));
    assert_eq!(client.events, [ClientEvent::Media(video(1, b"\x17\x00"))]);
}

#[test]
fn an_aggregate_is_told_in_its_parts() {
    let mut client = Client::started(Purpose::Play);
    let part = b"\x09\0\0\x02\0\0\0\0\0\0\0\x17\x01\0\0\0\x0d";
    let payload = [&part[..], part].concat().into();
    let aggregate = Message {
        message_type: MessageType::AGGREGATE,
        payload,
        ..video(1, b"")
    };
    client.hears(&aggregate);
    client.hears(&video(1, b"\x27\x01"));
    let expected = [&b"\x17\x01"[..], b"\x17\x01", b"\x27\x01"];
    assert_eq!(
        client.events,
        expected.map(|bytes| ClientEvent::Media(video(1, bytes)))
    );
}

#[test]
fn the_end_of_the_stream_is_told_however_the_server_says_it() {
    let complete = Value::Object(Status::notice(code::PLAY_COMPLETE, "").properties());
    for end in [
        status(Level::Status, code::PLAY_STOP),
        status(Level::Status, code::PLAY_COMPLETE),
        data::message(0, 1, &["onPlayStatus".into(), complete]),
        Control::UserControl(UserControl::StreamEof(1)).to_message(),
    ] {
        let mut client = Client::started(Purpose::Play);
        client.hears(&end);
        assert_eq!(client.events, [ClientEvent::Ended], "{}", in_words(&end));
        // Some servers go on when the publisher returns.
        client.hears(&video(1, b"\x17\x00"));
        assert_eq!(client.events.len(), 2);
    }
}

#[test]
fn a_server_that_closes_is_believed() {
    let mut client = Client::started(Purpose::Play);
    client.hears(&call("close", 0, &[]).to_message(0));
    assert!(
        matches!(client.events[..], [ClientEvent::Rejected(_)]),
        "{:?}",
        client.events
    );
}

#[test]
fn pings_are_answered_and_windows_kept() {
    let mut client = Client::started(Purpose::Play);
    let ping = Control::UserControl(UserControl::PingRequest(99)).to_message();
    assert_eq!(client.hears(&ping), ["PingResponse(99)"]);
    client.hears(&Control::SetPeerBandwidth(4000, BandwidthLimit::Hard).to_message());
    client.hears(&Control::WindowAckSize(4000).to_message());
    let heard: Vec<_> = (0..10)
        .flat_map(|_| client.hears(&video(1, &[0x27; 1000])))
        .collect();
    assert_eq!(heard.len(), 5, "one for every half window: {heard:?}");
}

#[test]
fn the_servers_calls_and_nonsense_are_ignored() {
    let mut client = Client::started(Purpose::Play);
    for message in [
        call("onBWDone", 0, &[]).to_message(0),
        call("onFCSubscribe", 0, &[]).to_message(0),
        call("_onbwcheck", 9, &[]).to_message(0),
        call("onStatus", 0, &[Value::Null]).to_message(1),
        Message {
            message_type: MessageType::COMMAND_AMF0,
            ..video(1, b"\xff")
        },
        Message {
            message_type: MessageType(99),
            ..video(1, b"\xff")
        },
        Message {
            message_type: MessageType::COMMAND_AMF3,
            ..video(1, b"")
        },
    ] {
        assert_eq!(
            client.hears(&message),
            NOTHING,
            "{}",
            message.message_type.0
        );
    }
    assert_eq!(
        client.events,
        [ClientEvent::Status(Status::notice("", ""))],
        "an empty status is one all the same"
    );
}

#[test]
fn leaving_is_said() {
    for (purpose, words) in [
        (Purpose::Play, vec!["deleteStream 1"]),
        (
            Purpose::Publish,
            vec!["FCUnpublish 6 String(\"camera?token=x\")", "deleteStream 1"],
        ),
    ] {
        let mut client = Client::started(purpose);
        client.session.close(&mut client.out);
        assert_eq!(client.says(), words);
        client.session.close(&mut client.out);
        assert_eq!(client.says(), NOTHING, "once");
        client.hears(&video(1, b"\x17\x00"));
        assert_eq!(client.events, []);
    }
    // There is nothing to leave before the request, nor in the handshake.
    let mut client = Client::new(Purpose::Play);
    client.says();
    client.session.close(&mut client.out);
    assert_eq!(client.says(), NOTHING);
    let mut out = Vec::new();
    let config = ClientConfig::new(Purpose::Play, "rtmp://h/live", "live", "camera");
    let mut session = ClientSession::new(config, &Limits::default(), &mut out).unwrap();
    session.close(&mut out);
    assert_eq!(session.read(&mut &[3; 5000][..], &mut out), Ok(None));
}

#[test]
fn our_client_and_our_server_understand_each_other() {
    for purpose in [Purpose::Play, Purpose::Publish] {
        let config = ClientConfig::new(purpose, "rtmp://h/live", "live", "camera?token=x");
        let mut to_server = Vec::new();
        let mut client = ClientSession::new(config, &Limits::default(), &mut to_server).unwrap();
        let mut server = Server::before_handshake();
        let mut events = Vec::new();
        while !to_server.is_empty() {
            server.read(&std::mem::take(&mut to_server)).unwrap();
            let to_client = std::mem::take(&mut server.out);
            let mut input = &to_client[..];
            while let Some(event) = client.read(&mut input, &mut to_server).unwrap() {
                events.push(event);
            }
        }
        let started = match purpose {
            Purpose::Play => ClientEvent::Playing,
            Purpose::Publish => ClientEvent::Publishing,
        };
        assert_eq!(events[0], ClientEvent::Connected);
        assert!(events.contains(&started), "{events:?}");
        assert!(!client.marks_publications(), "it has not asked for it");
    }
}
