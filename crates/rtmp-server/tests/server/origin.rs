//! An origin, its publishers and its players.

use std::net::SocketAddr;
use std::time::Duration;

use netbed::TIME_LIMIT;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, ClientEvent, Purpose};
use rtmp_proto::wire::MessageType;
use rtmp_proto::wire::amf0::Value;
use rtmp_proto::wire::chunk::encode_message;
use rtmp_proto::wire::message::Command;
use rtmp_server::config::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{
    Client, TestServer, headers, keep_log, keyframe, log_lines, message, picture, sound, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_metadata_headers_and_the_newest_group() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher
        .publish(&[keyframe(40), sound(45), keyframe(80), picture(120)])
        .await;
    origin.arrived("s", 7).await;
    let mut player = origin.player("s").await;
    let mut got = Vec::new();
    for _ in 0..5 {
        let media = player.media().await;
        got.push((media.message_type, media.timestamp, media.payload[0]));
    }
    assert_eq!(
        got,
        [
            (MessageType::DATA_AMF0, 0, 2),
            (MessageType::VIDEO, 80, 0x17),
            (MessageType::AUDIO, 80, 0xaf),
            (MessageType::VIDEO, 80, 0x17),
            (MessageType::VIDEO, 120, 0x27),
        ]
    );
    publisher.publish(&[sound(130)]).await;
    assert_eq!(player.media().await, sound(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_told_bad_name_and_the_first_goes_on() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.media().await, keyframe(0));
    let tc_url = format!("rtmp://{}/live", origin.address);
    let config = ClientConfig::new(Purpose::Publish, &tc_url, "live", "s");
    let mut second = Client::connect(origin.address, config).await;
    assert_eq!(second.refusal().await.code, code::PUBLISH_BAD_NAME);
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.media().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_returns_finds_its_players_and_the_time_goes_on() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(60_000)]).await;
    let mut player = origin.player("s").await;
    assert_eq!(player.frame().await.timestamp, 60_000);
    drop(publisher);
    until(|| !origin.server.streams()[0].is_published()).await;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0), sound(23)]).await;
    let first = player.frame().await;
    assert!(
        first.timestamp > 60_000,
        "the time fell to {}",
        first.timestamp
    );
    let second = player.frame().await;
    assert_eq!(
        second.timestamp - first.timestamp,
        23,
        "sound and pictures have parted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_stream_is_not_found_after_the_wait() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let mut player = origin.player("nowhere").await;
    assert_eq!(player.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    player.closed().await;
    until(|| origin.server.clients().count() == 0).await;
    until(|| origin.server.streams().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_may_come_before_its_publisher() {
    let origin = TestServer::origin("play_wait_timeout 600000;");
    let mut player = origin.player("s").await;
    assert_eq!(player.event().await, Some(ClientEvent::Connected));
    let waits = || {
        let clients = origin.server.clients().list();
        clients
            .iter()
            .any(|client| client.activity().name() == "wait")
    };
    let publishing = async {
        until(waits).await;
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        publisher
    };
    let (media, _publisher) = tokio::join!(player.media(), publishing);
    assert_eq!(media, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_beside_a_publish_leaves_the_publish_alone() {
    let origin = TestServer::origin("");
    for (name, refusal) in [
        ("play", code::PLAY_FAILED),
        ("publish", code::PUBLISH_DENIED),
    ] {
        let mut publisher = origin.publisher(name).await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = origin.player(name).await;
        player.frame().await;
        let request = Command::new(name, 0.0, vec!["other".into()]);
        publisher.send(&request.to_message(2)).await;
        assert_eq!(publisher.refusal().await.code, refusal);
        publisher.send(&picture(40)).await;
        assert_eq!(player.media().await, picture(40));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_publisher_is_given_up_and_its_players_stay() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    // Now that the player is there, which may have taken its time.
    origin.reload("vhost __defaultVhost__ { min_latency on; publish_normal_timeout 100; }");
    assert_eq!(publisher.refusal().await.code, code::PUBLISH_IDLE);
    publisher.closed().await;
    let stream = origin.server.streams()[0].clone();
    until(|| !stream.is_published()).await;
    assert_eq!(stream.players(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_publisher_whose_stream_is_taken_over_is_told_so() {
    let origin = TestServer::origin("publish_1stpkt_timeout 600000;");
    let mut silent = origin.publisher("s").await;
    let taking_over = async {
        loop {
            let tc_url = format!("rtmp://{}/live", origin.address);
            let config = ClientConfig::new(Purpose::Publish, &tc_url, "live", "s");
            let mut next = Client::connect(origin.address, config).await;
            assert_eq!(next.event().await, Some(ClientEvent::Connected));
            if next.event().await == Some(ClientEvent::Publishing) {
                return next;
            }
            next.closed().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let taken_over = tokio::time::timeout(TIME_LIMIT, taking_over).await;
    let _next = taken_over.expect("it was never silent for long enough");
    assert_eq!(silent.refusal().await.code, code::PUBLISH_BAD_NAME);
    silent.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_never_sends_is_given_up() {
    let origin = TestServer::origin("publish_1stpkt_timeout 100;");
    origin.publisher("s").await.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_a_publisher_that_does_not_return_are_told_the_end() {
    let origin = TestServer::origin("publish_return_timeout 0;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    drop(publisher);
    assert_eq!(player.event().await, Some(ClientEvent::Ended));
    player.closed().await;
    until(|| origin.server.streams().is_empty()).await;
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_is_told_so_before_the_close() {
    let origin = TestServer::origin("security { enabled on; allow play all; }");
    let tc_url = format!("rtmp://{}/live", origin.address);
    let config = ClientConfig::new(Purpose::Publish, &tc_url, "live", "s");
    let mut publisher = Client::connect(origin.address, config).await;
    assert_eq!(publisher.refusal().await.code, code::PUBLISH_DENIED);
    publisher.closed().await;

    let other = TestServer::start(Role::Origin, "vhost only.example { }");
    let mut stranger = other.player("s").await;
    assert_eq!(stranger.refusal().await.code, code::CONNECT_REJECTED);
    stranger.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_two_vhosts_do_not_meet() {
    let origin = TestServer::start(
        Role::Origin,
        "vhost a.example { min_latency on; } vhost __defaultVhost__ { play_wait_timeout 0; }",
    );
    let config = ClientConfig::new(Purpose::Publish, "rtmp://a.example/live", "live", "s");
    let mut publisher = Client::connect(origin.address, config).await;
    while publisher.event().await.unwrap() != ClientEvent::Publishing {}
    publisher.publish(&[keyframe(0)]).await;
    let mut elsewhere = origin.player("s").await;
    assert_eq!(elsewhere.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    let app = "live?vhost=a.example";
    let config = ClientConfig::new(Purpose::Play, "rtmp://127.0.0.1/live", app, "s?token=x");
    let mut here = Client::connect(origin.address, config).await;
    assert_eq!(here.media().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_closed() {
    let text = "max_connections 1; vhost __defaultVhost__ { }";
    let origin = TestServer::start(Role::Origin, text);
    let mut first = origin.player("s").await;
    assert_eq!(first.event().await, Some(ClientEvent::Connected));
    let mut second = TcpStream::connect(origin.address).await.unwrap();
    let read = tokio::time::timeout(TIME_LIMIT, second.read(&mut [0]))
        .await
        .unwrap();
    assert!(
        matches!(read, Ok(0) | Err(_)),
        "the second was served: {read:?}"
    );
    drop(first);
    until(|| origin.server.clients().count() == 0).await;
    let mut third = origin.player("s").await;
    assert_eq!(third.event().await, Some(ClientEvent::Connected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_can_stop_and_play_again_on_its_connection() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    let stream = origin.server.streams()[0].clone();
    player
        .send(&Command::new("closeStream", 0.0, vec![]).to_message(1))
        .await;
    until(|| stream.players() == 0).await;
    publisher.publish(&[keyframe(40)]).await;
    origin.arrived("s", 2).await;
    let again = Command::new("play", 0.0, vec![Value::String("s".into())]);
    player.send(&again.to_message(1)).await;
    assert_eq!(player.media().await, keyframe(40));
    // Without a stop between: as a playlist's next entry.
    publisher.publish(&[keyframe(80)]).await;
    assert_eq!(player.media().await, keyframe(80));
    player.send(&again.to_message(1)).await;
    assert_eq!(player.media().await, keyframe(80));
    assert_eq!(stream.players(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dismissed_connection_ends_whatever_it_does() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    let mut waiting = origin.player("absent").await;
    let clients = || origin.server.clients().list();
    let waits = || clients().iter().any(|it| it.activity().name() == "wait");
    assert_eq!(waiting.event().await, Some(ClientEvent::Connected));
    tokio::select! {
        event = waiting.event() => panic!("there is nothing to hear yet: {event:?}"),
        () = until(waits) => {}
    }
    assert_eq!(clients().len(), 3);
    for client in clients() {
        assert!(origin.server.dismiss(client.id));
    }
    assert_eq!(publisher.refusal().await.code, "NetStream.Failed");
    assert_eq!(waiting.refusal().await.code, code::PLAY_FAILED);
    assert_eq!(player.event().await, Some(ClientEvent::Ended));
    for client in [&mut publisher, &mut player, &mut waiting] {
        client.closed().await;
    }
    until(|| origin.server.clients().count() == 0).await;
    assert!(!origin.server.dismiss(1), "nobody is there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_messages_reach_players_whole() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    let cue = message(
        MessageType::DATA_AMF0,
        0,
        b"\x02\0\x0aonCuePoint\x02\0\x03abc\x0b\x01\x02",
    );
    publisher.publish(std::slice::from_ref(&cue)).await;
    assert_eq!(player.media().await.payload, cue.payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_connection_and_no_other() {
    let origin = TestServer::origin("");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    let mut mad = TcpStream::connect(origin.address).await.unwrap();
    mad.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(TIME_LIMIT, mad.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "the connection is still open");
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.media().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reaches_streams_that_are_there() {
    let origin = TestServer::origin("mw_latency 0;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    origin.reload("vhost __defaultVhost__ { min_latency on; gop_cache off; chunk_size 200; }");
    let mut late = origin.player("s").await;
    while late.event().await.unwrap() != ClientEvent::Playing {}
    let stream = origin.server.streams()[0].clone();
    until(|| stream.players() == 2).await;
    // Larger than the new chunk size: the log's is another, and was told.
    let mut long = keyframe(40);
    long.payload = [long.payload.as_ref(), &[7; 1_000]].concat().into();
    publisher.publish(std::slice::from_ref(&long)).await;
    assert_eq!(
        late.media().await,
        long,
        "without gop_cache it begins with the next keyframe"
    );
    assert_eq!(player.media().await, long);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reaches_publishers_that_are_there() {
    let origin = TestServer::origin("publish_normal_timeout 600000;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    // It is silent, and had ten minutes for that.
    origin.reload("vhost __defaultVhost__ { publish_normal_timeout 100; }");
    publisher.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answers_is_let_go() {
    keep_log();
    for (directive, text) in [
        (
            "send_timeout",
            "vhost __defaultVhost__ { send_timeout 1000; }",
        ),
        (
            "idle_timeout",
            "idle_timeout 1000; vhost __defaultVhost__ { send_timeout 60000; }",
        ),
    ] {
        let peer = reads_no_answers(&TestServer::start(Role::Origin, text)).await;
        let expected = format!("no data accepted within the {directive}");
        let lines = log_lines(&format!("{peer}: "));
        assert!(
            lines.iter().any(|line| line.contains(&expected)),
            "{lines:?}"
        );
    }
}

/// Sends requests to `origin` and reads no answers until the connection is closed.
/// Returns the address of the client.
async fn reads_no_answers(origin: &TestServer) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let socket = socket.connect(origin.address).await.unwrap();
    let address = socket.local_addr().unwrap();
    let tc_url = format!("rtmp://{}/live", origin.address);
    let config = ClientConfig::new(Purpose::Play, &tc_url, "live", "s");
    let mut client = Client::over(socket, config);
    assert_eq!(client.event().await, Some(ClientEvent::Connected));
    let mut question = Command::new("getStreamLength", 0.0, vec!["s".into()]);
    question.transaction_id = 9.0;
    let mut bytes = Vec::new();
    encode_message(&question.to_message(0), 128, 3, &mut bytes);
    let questions = bytes.repeat(1_000);
    let asking = async {
        // Until the server has closed.
        while client.socket.write_all(&questions).await.is_ok() {}
    };
    let asked = tokio::time::timeout(TIME_LIMIT, asking).await;
    assert!(asked.is_ok(), "the server waits for ever");
    until(|| origin.server.clients().count() == 0).await;
    address
}
