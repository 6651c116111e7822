//! Playing: how it begins, what a player asks for meanwhile, and how it ends.

use rtmp_proto::session::{PlayStart, ServerEvent, Status};
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::message::{Control, UserControl};

use crate::tools::{NOTHING, PLAY_ACCEPTED, Policy, Server, call};

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
    assert_eq!(
        server.heard(),
        ["StreamEof(1)", "onStatus@1 NetStream.Play.Stop"]
    );
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
fn a_player_that_waits_is_heard_as_one_that_plays() {
    for at in [0, 1] {
        let mut server = Server::with_stream();
        server.policy = Policy::Wait;
        server.say(&call("play", 3, &["camera".into()]), 1).unwrap();
        server.session.defer_play(1);
        server.events.clear();
        let no_video = call("receiveVideo", 0, &[false.into()]);
        assert_eq!(server.say(&no_video, at).unwrap(), NOTHING);
        let pause = call("pause", 0, &[true.into(), 0.0.into()]);
        assert_eq!(
            server.say(&pause, at).unwrap(),
            ["onStatus@1 NetStream.Pause.Notify", "StreamEof(1)"]
        );
        let told = [
            ServerEvent::ReceiveVideo {
                stream_id: 1,
                receive: false,
            },
            ServerEvent::Pause {
                stream_id: 1,
                paused: true,
            },
        ];
        assert_eq!(server.events, told);
    }
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
