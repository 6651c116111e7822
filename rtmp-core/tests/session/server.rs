//! The server's side: what each command does, in and out of order.

use rtmp_core::session::server::Phase;
use rtmp_core::session::status::code;
use rtmp_core::session::{
    ConnectSettings, PlayStart, PublishKind, ServerEvent, ServerSession, SessionError, Status,
};
use rtmp_core::wire::amf0::Value;
use rtmp_core::wire::message::{Command, Control, UserControl, data};
use rtmp_core::wire::{Limits, Message, MessageType};

use crate::tools::{Policy, Server, call, connect, in_words, video};

const NOTHING: [&str; 0] = [];

/// What a player hears when its play is accepted, on message stream 1.
const PLAY_ACCEPTED: [&str; 5] = [
    "StreamBegin(1)",
    "onStatus@1 NetStream.Play.Reset",
    "onStatus@1 NetStream.Play.Start",
    "data@1 |RtmpSampleAccess",
    "data@1 onStatus",
];

/// What a publisher hears when its publish is accepted, on message stream 1.
const PUBLISH_ACCEPTED: [&str; 2] = [
    "onFCPublish@1 NetStream.Publish.Start",
    "onStatus@1 NetStream.Publish.Start",
];

#[test]
fn connect_is_answered_with_windows_chunk_size_and_result() {
    let mut server = Server::new();
    assert_eq!(server.session.phase(), Phase::Connecting);
    let replies = server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    assert_eq!(
        replies,
        [
            "WindowAckSize(2500000)",
            "SetPeerBandwidth(2500000, Dynamic)",
            "SetChunkSize(60000)",
            "_result 1 NetConnection.Connect.Success",
            "onBWDone",
        ]
    );
    assert_eq!(server.session.phase(), Phase::Connected);
}

#[test]
fn the_settings_decide_windows_and_chunk_size() {
    let mut server = Server::new();
    server.settings = ConnectSettings {
        chunk_size: 4096,
        in_ack_size: 0,
        out_ack_size: 0,
    };
    let replies = server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    assert_eq!(replies[0], "SetChunkSize(4096)", "no window is asked for");
}

#[test]
fn connects_arguments_all_reach_the_caller() {
    let four_ccs = vec!["hvc1".into(), "av01".into(), "*".into()];
    let properties = [
        ("app", "live?token=x".into()),
        ("tcUrl", "rtmp://example.com/live?token=x".into()),
        ("pageUrl", "https://example.com/page".into()),
        ("flashVer", "FMLE/3.0".into()),
        ("fourCcList", Value::StrictArray(four_ccs)),
        ("videoCodecs", 252.0.into()),
        ("gopCache", false.into()),
    ];
    let mut command = connect(&properties);
    command.arguments = vec!["user".into(), "password".into()];
    let mut server = Server::new();
    server.say(&command, 0).unwrap();
    let [ServerEvent::Connect(request)] = &server.events[..] else {
        panic!("expected a connect, got {:?}", server.events)
    };
    assert_eq!(request.vhost, "example.com");
    assert_eq!(request.app, "live");
    assert_eq!(request.parameters.get("token"), Some("x"));
    assert_eq!(request.tc_url, "rtmp://example.com/live?token=x");
    assert_eq!(request.page_url, "https://example.com/page");
    assert_eq!(request.flash_ver, "FMLE/3.0");
    assert_eq!(request.four_cc_list, ["hvc1", "av01", "*"]);
    assert_eq!(request.gop_cache, Some(false));
    assert_eq!(request.object, command.object);
    assert_eq!(request.arguments, command.arguments);
}

#[test]
fn a_client_that_knows_enhanced_rtmp_hears_that_all_codecs_pass() {
    let result = |properties: &[(&str, Value)]| {
        let mut server = Server::new();
        server.policy = Policy::Wait;
        server.say(&connect(properties), 0).unwrap();
        server
            .session
            .accept_connect(&ConnectSettings::default(), &mut server.out);
        let messages = server.messages();
        let result = messages
            .iter()
            .find(|message| in_words(message).starts_with("_result"));
        Command::parse(result.unwrap(), 32).unwrap()
    };
    let app = ("app", Value::from("live"));
    let any = Value::StrictArray(vec!["*".into()]);
    let enhanced = result(&[app.clone(), ("fourCcList", any.clone())]);
    assert_eq!(enhanced.object.get("fourCcList"), Some(&any));
    assert_eq!(result(&[app]).object.get("fourCcList"), None);
}

#[test]
fn the_object_encoding_is_the_clients() {
    for encoding in [0.0, 3.0] {
        let mut server = Server::new();
        server.policy = Policy::Wait;
        let properties = [("app", "live".into()), ("objectEncoding", encoding.into())];
        server.say(&connect(&properties), 0).unwrap();
        server
            .session
            .accept_connect(&ConnectSettings::default(), &mut server.out);
        let messages = server.messages();
        let result = messages
            .iter()
            .find(|message| in_words(message).starts_with("_result"));
        let result = Command::parse(result.unwrap(), 32).unwrap();
        assert_eq!(
            result.arguments[0].get("objectEncoding"),
            Some(&encoding.into())
        );
    }
}

#[test]
fn connect_may_be_refused() {
    let mut server = Server::new();
    server.policy = Policy::Refuse(Status::connect_rejected("not from there"));
    let replies = server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    assert_eq!(replies, ["_error 1 NetConnection.Connect.Rejected"]);
    // Whatever follows is not heard.
    assert_eq!(
        server.say(&call("createStream", 2, &[]), 0).unwrap(),
        NOTHING
    );
    assert_eq!(server.session.phase(), Phase::Connecting);
}

#[test]
fn a_refusals_description_reaches_the_client() {
    let mut server = Server::new();
    server.policy = Policy::Refuse(Status::connect_rejected("not from there"));
    let mut bytes = Vec::new();
    let message = connect(&[("app", "live".into())]).to_message(0);
    rtmp_core::wire::chunk::encode_message(&message, 128, 3, &mut bytes);
    let mut input = &bytes[..];
    while let Some(event) = server.session.read(&mut input, &mut server.out).unwrap() {
        assert!(matches!(event, ServerEvent::Connect(_)), "{event:?}");
        let status = Status::connect_rejected("not from there");
        server.session.refuse_connect(&status, &mut server.out);
    }
    let messages = server.messages();
    let error = Command::parse(&messages[0], 32).unwrap();
    assert_eq!(
        Status::parse(&error.arguments[0]),
        Status::connect_rejected("not from there")
    );
}

#[test]
fn connect_without_application_is_refused_and_ends_the_connection() {
    for command in [connect(&[]), call("connect", 1, &[])] {
        let mut server = Server::new();
        let error = server.say(&command, 0).unwrap_err();
        assert!(matches!(error, SessionError::Name(_)), "{error:?}");
        assert_eq!(
            server.heard(),
            ["_error 1 NetConnection.Connect.InvalidApp"]
        );
        assert_eq!(server.events, []);
    }
}

#[test]
fn a_second_connect_is_an_error_and_changes_nothing() {
    let mut server = Server::with_stream();
    let replies = server.say(&connect(&[("app", "other".into())]), 0).unwrap();
    assert_eq!(replies, ["_error 1 NetConnection.Call.Failed"]);
    server
        .say(&call("publish", 3, &["camera".into()]), 1)
        .unwrap();
    let Some(ServerEvent::Publish(request)) = server.events.last() else {
        panic!("expected a publish, got {:?}", server.events)
    };
    assert_eq!(request.key.app, "live");
}

#[test]
fn before_connect_commands_fail_and_media_is_ignored() {
    let mut server = Server::new();
    for name in [
        "createStream",
        "publish",
        "play",
        "releaseStream",
        "FCPublish",
        "deleteStream",
        "pause",
        "closeStream",
        "FCUnpublish",
        "getStreamLength",
        "_checkbw",
        "seek",
        "nonsense",
    ] {
        let replies = server.say(&call(name, 7, &["camera".into()]), 1).unwrap();
        assert_eq!(replies, ["_error 7 NetConnection.Call.Failed"], "{name}");
    }
    assert_eq!(server.send(&video(1, b"\x17\x01")).unwrap(), NOTHING);
    assert_eq!(server.events, []);
    server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    assert_eq!(
        server.session.phase(),
        Phase::Connected,
        "it is not too late to connect"
    );
}

#[test]
fn what_is_sent_behind_a_request_waits_for_the_answer() {
    let mut server = Server::new();
    server.policy = Policy::Wait;
    server.say(&connect(&[("app", "live".into())]), 0).unwrap();
    let mut bytes = Vec::new();
    let create = call("createStream", 2, &[]).to_message(0);
    rtmp_core::wire::chunk::encode_message(&create, 128, 3, &mut bytes);
    let mut input = &bytes[..];
    assert_eq!(server.session.read(&mut input, &mut server.out), Ok(None));
    assert_eq!(input.len(), bytes.len(), "nothing is taken");
    assert_eq!(server.heard(), NOTHING);

    server
        .session
        .accept_connect(&ConnectSettings::default(), &mut server.out);
    assert_eq!(server.session.read(&mut input, &mut server.out), Ok(None));
    assert!(input.is_empty());
    assert_eq!(server.heard().last().unwrap(), "_result 2 1");
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
        rtmp_core::wire::chunk::encode_message(&message, 128, 5, &mut bytes);
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
fn play_says_where_to_begin_and_how_long() {
    use PlayStart::*;
    let n = Value::Number;
    for (arguments, start, duration_ms, reset) in [
        (vec![], LiveOrRecorded, None, true),
        (vec![n(-2.0)], LiveOrRecorded, None, true),
        (vec![n(-2000.0)], LiveOrRecorded, None, true),
        (vec![n(-1.0)], Live, None, true),
        (vec![n(-1000.0)], Live, None, true),
        (vec![n(0.0)], Recorded(0), None, true),
        (vec![n(5000.0), n(-1.0)], Recorded(5000), None, true),
        (vec![n(-1000.0), n(10_000.0)], Live, Some(10_000), true),
        (vec![n(-1000.0), n(0.0)], Live, None, true),
        (vec![n(-1000.0), n(-1.0), false.into()], Live, None, false),
        (vec![n(-1000.0), n(-1.0), n(0.0)], Live, None, false),
        (
            vec![n(f64::NAN), n(f64::NAN), n(f64::NAN)],
            LiveOrRecorded,
            None,
            true,
        ),
        (
            vec![n(1e300), n(1e300)],
            Recorded(u32::MAX),
            Some(u32::MAX),
            true,
        ),
        (
            vec![Value::Null, Value::Null, Value::Null],
            LiveOrRecorded,
            None,
            true,
        ),
    ] {
        let mut server = Server::with_stream();
        let arguments = [vec!["camera?token=x".into()], arguments].concat();
        let replies = server.say(&call("play", 3, &arguments), 1).unwrap();
        assert_eq!(replies, PLAY_ACCEPTED);
        let [ServerEvent::Play(request)] = &server.events[..] else {
            panic!("expected a play, got {:?}", server.events)
        };
        assert_eq!(request.key.to_string(), "live/camera");
        assert_eq!(request.parameters.get("token"), Some("x"));
        let said = (request.start, request.duration_ms, request.reset);
        assert_eq!(said, (start, duration_ms, reset), "{arguments:?}");
    }
}

#[test]
fn an_absent_stream_is_refused_at_once_or_after_a_wait() {
    let play = call("play", 3, &["camera".into()]);
    let not_found = Status::stream_not_found("nobody publishes live/camera");
    let mut server = Server::with_stream();
    server.policy = Policy::Refuse(not_found.clone());
    assert_eq!(
        server.say(&play, 1).unwrap(),
        ["onStatus@1 NetStream.Play.StreamNotFound"]
    );

    let mut server = Server::with_stream();
    server.policy = Policy::Wait;
    assert_eq!(server.say(&play, 1).unwrap(), NOTHING);
    server.session.defer_play(1);
    // The wait does not keep the player from being heard.
    let ping = Control::UserControl(UserControl::PingRequest(7)).to_message();
    assert_eq!(server.send(&ping).unwrap(), ["PingResponse(7)"]);
    assert!(server.session.refuse_play(1, &not_found, &mut server.out));
    assert_eq!(server.heard(), ["onStatus@1 NetStream.Play.StreamNotFound"]);
    assert!(
        !server.session.accept_play(1, &mut server.out),
        "it has been refused"
    );
}

#[test]
fn a_waiting_play_may_be_accepted_later() {
    let mut server = Server::with_stream();
    server.policy = Policy::Wait;
    server.say(&call("play", 3, &["camera".into()]), 1).unwrap();
    server.session.defer_play(1);
    assert!(server.session.accept_play(1, &mut server.out));
    assert_eq!(server.heard(), PLAY_ACCEPTED);
}

#[test]
fn a_waiting_player_may_lose_patience() {
    for leave in [
        call("closeStream", 0, &[]),
        call("deleteStream", 0, &[1.0.into()]),
    ] {
        let mut server = Server::with_stream();
        server.policy = Policy::Wait;
        server.say(&call("play", 3, &["camera".into()]), 1).unwrap();
        server.session.defer_play(1);
        server.events.clear();
        server.say(&leave, 1).unwrap();
        assert_eq!(server.events, [ServerEvent::PlayEnded { stream_id: 1 }]);
        assert!(!server.session.accept_play(1, &mut server.out));
        assert_eq!(server.heard(), NOTHING);
    }
}

#[test]
fn a_play_may_be_ended_by_the_server_in_good_order() {
    let mut server = Server::playing();
    assert!(server.session.end_play(1, &mut server.out));
    let expected = [
        "StreamEof(1)",
        "data@1 onPlayStatus",
        "onStatus@1 NetStream.Play.Stop",
    ];
    assert_eq!(server.heard(), expected);
    assert!(!server.session.end_play(1, &mut server.out), "it has ended");
}

#[test]
fn play_again_on_the_same_stream_ends_the_first_play() {
    let mut server = Server::playing();
    let replies = server.say(&call("play", 4, &["second".into()]), 1).unwrap();
    assert_eq!(replies, PLAY_ACCEPTED);
    let [
        ServerEvent::PlayEnded { stream_id: 1 },
        ServerEvent::Play(request),
    ] = &server.events[..]
    else {
        panic!("expected an end and a play, got {:?}", server.events)
    };
    assert_eq!(request.key.stream, "second");
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
fn pause_is_answered_and_told() {
    let mut server = Server::playing();
    let replies = server
        .say(&call("pause", 0, &[true.into(), 1000.0.into()]), 1)
        .unwrap();
    assert_eq!(
        replies,
        ["onStatus@1 NetStream.Pause.Notify", "StreamEof(1)"]
    );
    let replies = server
        .say(&call("pause", 0, &[false.into(), 1000.0.into()]), 1)
        .unwrap();
    assert_eq!(
        replies,
        ["onStatus@1 NetStream.Unpause.Notify", "StreamBegin(1)"]
    );
    let told = [true, false].map(|paused| ServerEvent::Pause {
        stream_id: 1,
        paused,
    });
    assert_eq!(server.events, told);
}

#[test]
fn receive_audio_and_video_are_told() {
    let mut server = Server::playing();
    for (name, argument) in [
        ("receiveAudio", vec![false.into()]),
        ("receiveAudio", vec![true.into()]),
        ("receiveVideo", vec![false.into()]),
        ("receiveVideo", vec![]),
    ] {
        assert_eq!(server.say(&call(name, 0, &argument), 1).unwrap(), NOTHING);
    }
    let audio = |receive| ServerEvent::ReceiveAudio {
        stream_id: 1,
        receive,
    };
    let video = |receive| ServerEvent::ReceiveVideo {
        stream_id: 1,
        receive,
    };
    assert_eq!(
        server.events,
        [audio(false), audio(true), video(false), video(true)]
    );
}

#[test]
fn what_is_meant_for_players_means_nothing_to_others() {
    for mut server in [
        Server::connected(),
        Server::with_stream(),
        Server::publishing(),
    ] {
        server.events.clear();
        for name in ["pause", "pauseRaw", "receiveAudio", "receiveVideo"] {
            for stream_id in [0, 1, 2, 17, u32::MAX] {
                let replies = server
                    .say(&call(name, 0, &[true.into()]), stream_id)
                    .unwrap();
                assert_eq!(replies, NOTHING, "{name} on {stream_id}");
            }
        }
        assert_eq!(server.events, []);
    }
}

#[test]
fn players_leave_by_close_delete_or_play_false() {
    for (leave, stream_id) in [
        (call("closeStream", 0, &[]), 1),
        (call("deleteStream", 0, &[1.0.into()]), 0),
        (call("deleteStream", 0, &[]), 1),
        (call("play", 0, &[false.into()]), 1),
    ] {
        let mut server = Server::playing();
        assert_eq!(server.say(&leave, stream_id).unwrap(), NOTHING);
        assert_eq!(
            server.events,
            [ServerEvent::PlayEnded { stream_id: 1 }],
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
fn a_closed_stream_may_be_used_again() {
    let mut server = Server::publishing();
    server.say(&call("closeStream", 0, &[]), 1).unwrap();
    let play = call("play", 6, &["camera".into()]);
    assert_eq!(server.say(&play, 1).unwrap(), PLAY_ACCEPTED);
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
        assert_eq!(server.events, []);
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
        assert_eq!(server.events, []);
    }
}

#[test]
fn a_bad_name_does_not_end_what_is_under_way() {
    let mut server = Server::publishing();
    server.say(&call("publish", 3, &["".into()]), 1).unwrap();
    server.send(&video(1, b"\x17\x01")).unwrap();
    assert_eq!(server.events, [ServerEvent::Media(video(1, b"\x17\x01"))]);
}

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
    let mut fresh = rtmp_core::wire::chunk::ChunkReader::new(&Limits::default());
    let mut input = &reply[..];
    let mut heard = Vec::new();
    while let Some(message) = fresh.read(&mut input).unwrap() {
        heard.push(in_words(&message));
    }
    assert_eq!(heard, PLAY_ACCEPTED);
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
fn a_session_goes_from_thread_to_thread() {
    fn is_send<T: Send + 'static>() {}
    is_send::<ServerSession>();
    is_send::<rtmp_core::session::ClientSession>();
}
