//! Connecting: what is told, what is asked, and what waits for it.

use rtmp_proto::session::Phase;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ConnectSettings, ServerEvent, SessionError, Status};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::Command;

use crate::tools::{NOTHING, Policy, Server, call, connect, in_words, video};

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

/// What an accepted `connect` with these properties is answered.
fn result(properties: &[(&str, Value)]) -> Command {
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
}

#[test]
fn a_client_that_knows_enhanced_rtmp_hears_that_all_codecs_pass() {
    let app = ("app", Value::from("live"));
    let any = Value::StrictArray(vec!["*".into()]);
    let enhanced = result(&[app.clone(), ("fourCcList", any.clone())]);
    assert_eq!(enhanced.object.get("fourCcList"), Some(&any));
    assert_eq!(result(&[app]).object.get("fourCcList"), None);
}

#[test]
fn only_servers_and_tools_of_ours_hear_that_publications_are_marked() {
    for (asked, told) in [
        (("gopCache", true.into()), Some(true)),
        (("gopCache", false.into()), Some(true)),
        (("capabilities", 15.0.into()), None),
    ] {
        let result = result(&[("app", "live".into()), asked]);
        let marks = result.object.get("marksPublications");
        assert_eq!(marks.and_then(Value::as_bool), told);
    }
}

#[test]
fn the_object_encoding_is_the_clients() {
    for encoding in [0.0, 3.0] {
        let properties = [("app", "live".into()), ("objectEncoding", encoding.into())];
        let result = result(&properties);
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
    rtmp_proto::wire::chunk::encode_message(&message, 128, 3, &mut bytes);
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
        let refused = Status::error(code::CALL_FAILED, "connect first");
        let told = [ServerEvent::Refused(Box::new(refused))];
        assert_eq!(std::mem::take(&mut server.events), told, "{name}");
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
    rtmp_proto::wire::chunk::encode_message(&create, 128, 3, &mut bytes);
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
