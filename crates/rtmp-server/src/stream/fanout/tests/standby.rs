//! A standby goes on air: one timeline, and headers only where they change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rtmp_proto::wire::{Message, MessageType};

use super::support::{Client, Server, append, headers, kind, message, picture, settings, sound};
use crate::stream::{
    AppendError, Candidate, FlvFraming, Publication, Rank, SecondPublisher, Stream, StreamSettings,
    SwitchReason, Turns,
};

/// Other video headers than those of [`headers`].
fn other_headers() -> Vec<Message> {
    let mut headers = headers();
    headers[1] = message(MessageType::VIDEO, 0, vec![0x17, 0, 0, 0, 0, 9, 9, 9]);
    headers
}

fn standby(stream: &Arc<Stream>, now: Instant) -> Publication {
    let candidate = Candidate {
        rank: Rank::Backup,
        client: Some(2),
    };
    let publication = stream.publish_as(candidate, now).unwrap();
    assert!(!publication.is_on_air());
    publication
}

fn second(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A stream on air with a keyframe and a picture, a player that has got them, and a standby
/// that has sent nothing.
struct Scene {
    stream: Arc<Stream>,
    primary: Publication,
    standby: Publication,
    player: Client,
    now: Instant,
}

fn scene(server: &mut Server) -> Scene {
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut primary = stream.publish(now).unwrap();
    append(&mut primary, &headers(), now).unwrap();
    append(&mut primary, &[picture(0, true), picture(40, false)], now).unwrap();
    let mut player = server.join(&stream);
    player.messages(5);
    Scene {
        standby: standby(&stream, now),
        stream,
        primary,
        player,
        now,
    }
}

#[test]
fn viewers_get_nothing_of_a_standby_until_it_goes_on_air_at_its_newest_keyframe() {
    let mut server = Server::start(1);
    let Scene {
        mut primary,
        mut standby,
        mut player,
        now,
        ..
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    let group = [picture(90_000, true), sound(90_010), picture(90_040, false)];
    append(&mut standby, &group, now).unwrap();
    let news = [picture(80, false)];
    append(&mut primary, &news, now + second(1)).unwrap();
    append(&mut standby, &[picture(91_000, true)], now + second(1)).unwrap();
    let newer = [picture(91_040, false)];
    append(&mut standby, &newer, now + Duration::from_millis(1_400)).unwrap();
    assert_eq!(player.told(1), [("picture", 80)]);
    standby.follow(now + Duration::from_millis(1_499)).unwrap();
    assert!(!standby.is_on_air(), "nobody is silent yet");
    standby.follow(now + Duration::from_millis(1_500)).unwrap();
    assert!(standby.is_on_air());
    let switch = standby.take_switch().expect("it has been switched to");
    assert_eq!(switch.reason, SwitchReason::Silent);
    assert_eq!(player.told(2), [("keyframe", 120), ("picture", 160)]);
    append(&mut standby, &[picture(91_080, false)], now + second(2)).unwrap();
    assert_eq!(player.told(1), [("picture", 200)]);
    assert_eq!(player.begun, 0, "it is the same publication");
}

#[test]
fn a_publisher_of_a_picture_a_second_keeps_its_place_until_it_fails() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let begun = Instant::now();
    let at = |ms: u32| begun + Duration::from_millis(ms.into());
    let mut primary = stream.publish(begun).unwrap();
    append(&mut primary, &headers(), begun).unwrap();
    let send = |publication: &mut Publication, ms: u32| {
        append(publication, &[picture(ms, true)], at(ms)).unwrap();
    };
    for second in 0..4 {
        send(&mut primary, second * 1_000);
    }
    let mut standby = standby(&stream, at(3_000));
    append(&mut standby, &headers(), at(3_000)).unwrap();
    for second in 3..8 {
        send(&mut standby, second * 1_000 + 600);
        assert!(!standby.is_on_air(), "after {second} s");
        let deadline = standby.deadline(at(second * 1_000 + 600));
        assert!(deadline > Some(at(second * 1_000 + 1_400)), "{deadline:?}");
        send(&mut primary, (second + 1) * 1_000);
    }
    send(&mut standby, 8_600);
    standby.follow(at(9_499)).unwrap();
    assert!(!standby.is_on_air());
    standby.follow(at(9_500)).unwrap();
    assert!(standby.is_on_air());
}

#[test]
fn a_large_picture_on_a_slow_way_is_no_silence() {
    let mut server = Server::start(1);
    let Scene {
        primary,
        mut standby,
        now,
        ..
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    append(&mut standby, &[picture(0, true)], now).unwrap();
    let newer = now + Duration::from_millis(600);
    primary.note_arrival(now + Duration::from_millis(400));
    append(&mut standby, &[picture(600, false)], newer).unwrap();
    assert!(!standby.is_on_air());
    standby.follow(now + Duration::from_millis(900)).unwrap();
    assert!(standby.is_on_air());
    // It has been replaced, and does not speak for the other.
    primary.note_arrival(now + second(9));
    let standbys = standby.stream().standbys();
    assert_eq!(standbys, 1);
}

#[test]
fn a_standby_of_other_headers_begins_another_publication() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    append(&mut standby, &other_headers(), now).unwrap();
    append(&mut standby, &[picture(0, true), sound(10)], now).unwrap();
    drop(primary);
    assert!(stream.is_published());
    standby.follow(now).unwrap();
    let expected = ["data", "video header", "audio header", "keyframe", "sound"];
    let mut joined = server.join(&stream);
    for player in [&mut player, &mut joined] {
        let got = player.messages(5);
        assert_eq!(got.iter().map(kind).collect::<Vec<_>>(), expected);
        assert_eq!(got[1].payload, other_headers()[1].payload);
    }
    assert_eq!((player.begun, joined.begun), (1, 0));
}

#[test]
fn the_time_between_the_last_picture_and_the_standbys_keyframe_is_kept() {
    let mut server = Server::start(1);
    let Scene {
        primary,
        mut standby,
        mut player,
        now,
        ..
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    let keyframe = [picture(7_000, true)];
    append(&mut standby, &keyframe, now + Duration::from_millis(300)).unwrap();
    drop(primary);
    standby.follow(now + Duration::from_millis(700)).unwrap();
    assert_eq!(player.told(1), [("keyframe", 340)]);
}

#[test]
fn who_was_silent_waits_and_is_the_standby_of_the_other() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        mut primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    append(&mut standby, &[picture(0, true)], now + second(1)).unwrap();
    assert_eq!(player.told(1), [("keyframe", 1_040)]);
    // What had been under way on its connection comes late.
    let late = [
        picture(80, false),
        picture(1_080, true),
        picture(1_120, false),
    ];
    append(&mut primary, &late, now + second(1)).unwrap();
    assert!(!primary.is_on_air());
    assert_eq!(stream.standbys(), 1);
    drop(standby);
    let news = [picture(1_160, false)];
    append(&mut primary, &news, now + Duration::from_millis(1_040)).unwrap();
    let told = player.told(3);
    assert_eq!(
        told,
        [("keyframe", 1_080), ("picture", 1_120), ("picture", 1_160)]
    );
    drop(primary);
    assert!(!stream.is_published());
}

/// The primary goes on air again behind a standby of `headers`, and sends no headers again:
/// what somebody gets who joins then.
fn joins_after_the_return_behind(standby_headers: &[Message]) -> Vec<Message> {
    let mut server = Server::start(1);
    let Scene {
        stream,
        mut primary,
        mut standby,
        now,
        ..
    } = scene(&mut server);
    append(&mut standby, standby_headers, now).unwrap();
    append(&mut standby, &[picture(0, true)], now + second(1)).unwrap();
    append(&mut primary, &[picture(80, true)], now + second(1)).unwrap();
    assert!(standby.is_on_air() && !primary.is_on_air());
    drop(standby);
    primary.follow(now + second(1)).unwrap();
    assert!(primary.is_on_air());
    append(&mut primary, &[picture(120, false)], now + second(1)).unwrap();
    server.join(&stream).messages(5)
}

#[test]
fn who_joins_after_a_publisher_has_returned_gets_its_headers() {
    let expected = [
        "data",
        "video header",
        "audio header",
        "keyframe",
        "picture",
    ];
    for standby_headers in [headers(), other_headers()] {
        let got = joins_after_the_return_behind(&standby_headers);
        assert_eq!(got.iter().map(kind).collect::<Vec<_>>(), expected);
        assert_eq!(got[1].payload, headers()[1].payload);
        assert_eq!(got[3].payload, picture(80, true).payload);
    }
}

#[test]
fn a_publisher_that_has_not_noticed_another_one_on_air_begins_anew() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        mut primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    append(&mut standby, &other_headers(), now).unwrap();
    stream.order_switch(None).unwrap();
    append(&mut standby, &[picture(0, true)], now).unwrap();
    drop(standby);
    let late = [picture(80, false), picture(120, true)];
    append(&mut primary, &late, now).unwrap();
    let switch = primary.take_switch().expect("it is on air again");
    assert_eq!(switch.reason, SwitchReason::Ended);
    let expected = ["data", "video header", "audio header", "keyframe"];
    for headers in [other_headers(), headers()] {
        let got = player.messages(4);
        assert_eq!(got.iter().map(kind).collect::<Vec<_>>(), expected);
        assert_eq!(got[1].payload, headers[1].payload);
    }
    assert_eq!(player.begun, 2);
}

#[test]
fn a_standby_whose_headers_change_before_its_first_frame_has_the_newest_in_force() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    drop(primary);
    standby.follow(now).unwrap();
    assert!(standby.is_on_air());
    let newest = other_headers().remove(1);
    append(&mut standby, &[newest.clone(), picture(0, true)], now).unwrap();
    assert_eq!(player.messages(2)[0].payload, newest.payload);
    let joined = server.join(&stream).messages(4);
    assert_eq!(joined[1].payload, newest.payload);
    assert_eq!(kind(&joined[3]), "keyframe");
}

#[test]
fn players_get_the_metadata_of_a_standby_in_the_form_for_players() {
    let mut server = Server::start(1);
    let Scene {
        primary,
        mut standby,
        mut player,
        now,
        ..
    } = scene(&mut server);
    let set = b"\x02\0\x0d@setDataFrame\x02\0\x0aonMetaData\x05".to_vec();
    let mut headers = other_headers();
    headers[0] = message(MessageType::DATA_AMF0, 0, set);
    append(&mut standby, &headers, now).unwrap();
    append(&mut standby, &[picture(0, true)], now).unwrap();
    drop(primary);
    standby.follow(now).unwrap();
    let got = player.messages(1);
    assert_eq!(got[0].payload, other_headers()[0].payload);
}

#[test]
fn an_order_switches_at_the_standbys_next_keyframe() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        mut primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    append(&mut standby, &headers(), now).unwrap();
    append(&mut standby, &[picture(0, true)], now).unwrap();
    assert_eq!(stream.order_switch(None), Ok(Some(2)));
    append(&mut standby, &[picture(40, false)], now).unwrap();
    append(&mut primary, &[picture(80, false)], now).unwrap();
    append(&mut standby, &[picture(80, true)], now).unwrap();
    assert_eq!(player.told(2), [("picture", 80), ("keyframe", 120)]);
    append(&mut primary, &[picture(120, false)], now).unwrap();
    append(&mut standby, &[picture(120, false)], now).unwrap();
    assert_eq!(player.told(1), [("picture", 160)]);
}

#[test]
fn a_second_publisher_takes_over_at_once_where_the_policy_says_so() {
    let mut server = Server::start(1);
    let stream = server.stream(&StreamSettings {
        turns: Turns {
            second_publisher: SecondPublisher::TakeOver,
            ..Turns::default()
        },
        ..settings()
    });
    let now = Instant::now();
    let mut first = stream.publish(now).unwrap();
    append(&mut first, &[picture(0, true)], now).unwrap();
    let mut player = server.join(&stream);
    player.messages(1);
    let mut second = stream.publish(now).unwrap();
    assert!(second.is_on_air());
    let refused = append(&mut first, &[picture(40, false)], now);
    assert!(matches!(refused, Err(AppendError::TakenOver)));
    append(&mut second, &[picture(0, true)], now).unwrap();
    assert_eq!(player.messages(1).iter().map(kind).next(), Some("keyframe"));
}

#[test]
fn a_standby_may_be_the_first_who_sends_anything() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let primary = stream.publish(now).unwrap();
    let mut standby = standby(&stream, now);
    let group = [picture(5_000, true), sound(5_003), picture(5_040, false)];
    append(&mut standby, &group, now).unwrap();
    drop(primary);
    standby.follow(now).unwrap();
    let mut player = server.join(&stream);
    let expected = [("keyframe", 5_000), ("sound", 5_003), ("picture", 5_040)];
    assert_eq!(player.told(3), expected);
}

#[test]
fn a_dead_standby_whose_place_another_has_taken_is_told_so() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let _primary = stream.publish(now).unwrap();
    let mut standbys: Vec<_> = (0..4).map(|_| standby(&stream, now)).collect();
    let candidate = Candidate {
        rank: Rank::Backup,
        client: None,
    };
    assert!(stream.publish_as(candidate, now).is_err());
    let mut state = stream.state();
    state.mark_unchanged();
    let _another = stream.publish_as(candidate, now + second(2)).unwrap();
    assert!(state.has_changed().unwrap(), "the displaced one is to look");
    let displaced = standbys[0].follow(now + second(2));
    assert!(matches!(displaced, Err(AppendError::TakenOver)));
    let late = append(&mut standbys[0], &[picture(0, true)], now + second(3));
    assert!(matches!(late, Err(AppendError::TakenOver)), "{late:?}");
    append(&mut standbys[1], &[picture(0, true)], now + second(3)).unwrap();
}

#[test]
fn a_standby_of_sound_alone_begins_at_its_newest_sound() {
    let mut server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let audio_header = headers().pop().unwrap();
    let mut primary = stream.publish(now).unwrap();
    append(&mut primary, &[audio_header.clone(), sound(0)], now).unwrap();
    let mut player = server.join(&stream);
    player.messages(2);
    let mut standby = standby(&stream, now);
    let sounds = [audio_header, sound(500), sound(520), sound(540)];
    append(&mut standby, &sounds, now).unwrap();
    drop(primary);
    standby.follow(now).unwrap();
    assert_eq!(player.told(1), [("sound", 40)]);
}

#[test]
fn players_of_flv_tags_and_those_that_join_later_get_the_standby_too() {
    let mut server = Server::start(1);
    let Scene {
        stream,
        primary,
        mut standby,
        mut player,
        now,
    } = scene(&mut server);
    let flv = stream.flv_log(FlvFraming::Bare).unwrap();
    append(&mut standby, &headers(), now).unwrap();
    append(&mut standby, &[picture(0, true), picture(40, false)], now).unwrap();
    drop(primary);
    standby.follow(now).unwrap();
    assert_eq!(player.told(2), [("keyframe", 80), ("picture", 120)]);
    let mut joined = server.join(&stream);
    let told: Vec<_> = joined.told(5).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(
        told,
        [
            "data",
            "video header",
            "audio header",
            "keyframe",
            "picture"
        ]
    );
    assert_eq!(stream.pictures(), 4);
    drop(flv);
}

#[test]
fn time_without_media_goes_on_while_publishers_come_and_go_that_send_nothing() {
    let server = Server::start(1);
    let stream = server.stream(&settings());
    let now = Instant::now();
    let mut first = stream.publish(now).unwrap();
    append(&mut first, &[picture(0, true)], now).unwrap();
    assert_eq!(stream.without_media_for(now + second(3)), None, "it sends");
    drop(first);
    for number in 1..4 {
        let without_media = || stream.without_media_for(now + second(3));
        assert_eq!(without_media(), Some(second(3)), "{number} have gone");
        let silent = stream.publish(now + second(number)).unwrap();
        assert_eq!(without_media(), Some(second(3)), "it has sent nothing");
        drop(silent);
    }
    let mut last = stream.publish(now + second(4)).unwrap();
    append(&mut last, &[picture(0, true)], now + second(4)).unwrap();
    assert_eq!(stream.without_media_for(now + second(9)), None, "it sends");
    // Another one that is put on air by its end, and has sent nothing.
    let _standby = standby(&stream, now + second(5));
    drop(last);
    let absence = stream.without_media_for(now + second(9));
    assert_eq!(absence, Some(second(5)));
}
