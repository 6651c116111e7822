//! Edges between origins and players.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, ClientEvent, Purpose};
use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;

use crate::support::{Client, TestServer, headers, keyframe, picture, publishing, sound, until};

/// The ids of the connections that pull from `origin`.
fn pulling(origin: &TestServer) -> Vec<u64> {
    let clients = origin.server.clients().list();
    clients
        .iter()
        .filter(|client| client.activity().name() == "play")
        .map(|client| client.id)
        .collect()
}

/// Number of connections that pull from `origin`.
fn pulls(origin: &TestServer) -> usize {
    pulling(origin).len()
}

/// The connection that pulls from `origin`.
fn pull(origin: &TestServer) -> Option<u64> {
    pulling(origin).first().copied()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_players_of_an_edge_cost_the_origin_one() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0), sound(10)]).await;
    let mut players = Vec::new();
    for _ in 0..5 {
        let mut player = edge.player("s").await;
        assert_eq!(player.frame().await, keyframe(0));
        assert_eq!(player.frame().await, sound(10));
        players.push(player);
    }
    assert_eq!(pulls(&origin), 1);
    publisher.publish(&[picture(40)]).await;
    for player in &mut players {
        assert_eq!(player.frame().await, picture(40));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pull_ends_after_the_last_player_and_begins_again_with_the_next() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "origin_linger 0;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    drop(player);
    until(|| pulls(&origin) == 0).await;
    publisher.publish(&[keyframe(40)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    assert_eq!(pulls(&origin), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pull_is_kept_for_a_player_that_comes_soon() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "origin_linger 600000;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    let first = pull(&origin);
    drop(player);
    until(|| edge.server.clients().count() == 0).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    assert_eq!(pull(&origin), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn players_stay_while_the_next_origin_takes_over_and_the_time_rises() {
    let (first, second) = (TestServer::origin(""), TestServer::origin(""));
    let edge = TestServer::edge(&[first.address, second.address], "");
    let mut publisher = first.publisher("s").await;
    publisher.publish(&[keyframe(50_000)]).await;
    let mut other = second.publisher("s").await;
    other.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await.timestamp, 50_000);
    first.stop().await;
    let next = player.frame().await;
    assert!(
        next.timestamp > 50_000,
        "the time fell to {}",
        next.timestamp
    );
    other.publish(&[picture(40)]).await;
    assert_eq!(player.frame().await.timestamp, next.timestamp + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn players_stay_until_their_origin_returns() {
    let origin = TestServer::origin("");
    let address = origin.address;
    let edge = TestServer::edge(&[address], "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(1_000)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    origin.stop().await;
    let stream = edge.server.streams()[0].clone();
    until(|| !stream.is_published()).await;
    let origin = TestServer::start_at(
        address,
        Role::Origin,
        "vhost __defaultVhost__ { min_latency on; }",
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    assert!(player.frame().await.timestamp > 1_000);
    assert_eq!(stream.players(), 1);
}

/// The messages of two encoders of one stream to two origins: the same.
fn same_stream() -> Vec<Message> {
    let frames = (0..50).map(|number| match number * 40 {
        time if time % 1_000 == 0 => numbered(keyframe(time)),
        time => numbered(picture(time)),
    });
    headers().into_iter().chain(frames).collect()
}

/// A frame that differs from all others.
fn numbered(mut frame: Message) -> Message {
    let payload = [&frame.payload[..], &frame.timestamp.to_be_bytes()];
    frame.payload = payload.concat().into();
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn no_picture_is_shown_twice_when_the_next_origin_has_the_same_stream() {
    let (first, second) = (TestServer::origin(""), TestServer::origin(""));
    let edge = TestServer::edge(&[first.address, second.address], "");
    let stream = same_stream();
    let (seen, coming) = stream.split_at(3 + 40);
    let mut publisher = first.publisher("s").await;
    publisher.publish(seen).await;
    first.arrived("s", 43).await;
    let mut player = edge.player("s").await;
    let joined = stream.iter().position(|message| message.timestamp == 1_000);
    let mut expected = stream[joined.unwrap()..].iter();
    for _ in 25..40 {
        assert_eq!(player.frame().await, *expected.next().unwrap());
    }
    let mut other = second.publisher("s").await;
    other.publish(seen).await;
    // It is ahead of what the edge has when the edge comes.
    let (meanwhile, after) = coming.split_at(5);
    other.publish(meanwhile).await;
    second.arrived("s", 48).await;
    first.stop().await;
    until(|| pulls(&second) == 1).await;
    other.publish(after).await;
    for _ in coming {
        // No header comes again either.
        assert_eq!(player.media().await, *expected.next().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_picture_is_shown_twice_when_an_origin_is_connected_to_again() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let stream = same_stream();
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&stream[..43]).await;
    origin.arrived("s", 43).await;
    let mut player = edge.player("s").await;
    let joined = stream.iter().position(|message| message.timestamp == 1_000);
    let mut expected = stream[joined.unwrap()..].iter();
    for _ in 25..40 {
        assert_eq!(player.frame().await, *expected.next().unwrap());
    }
    // The connection between the two breaks.
    let broken = pull(&origin).unwrap();
    assert!(origin.server.dismiss(broken));
    until(|| pull(&origin).is_some_and(|pull| pull != broken)).await;
    publisher.publish(&stream[43..]).await;
    for _ in 40..50 {
        assert_eq!(player.media().await, *expected.next().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_player_of_a_cold_edge_gets_its_group_at_once_and_its_headers_in_time() {
    let gathering = "min_latency off; mw_latency 10000;";
    let origin = TestServer::start(
        Role::Origin,
        &format!("vhost __defaultVhost__ {{ {gathering} }}"),
    );
    let text = format!(
        "vhost __defaultVhost__ {{ mode remote; origin {}; {gathering} }}",
        origin.address
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    // A keyframe takes several reads, in which players come.
    let mut large = keyframe(6_000);
    large.payload = [large.payload.as_ref(), &vec![7; 3_000_000]]
        .concat()
        .into();
    publisher.publish(std::slice::from_ref(&large)).await;
    for _ in 0..5 {
        let edge = TestServer::start(Role::Edge, &text);
        let mut player = edge.player("s").await;
        loop {
            let message = player.media().await;
            if message.message_type == MessageType::DATA_AMF0 {
                continue;
            }
            assert_eq!(message.timestamp, 6_000, "{:?}", &message.payload[..2]);
            if message.payload.len() == large.payload.len() {
                break;
            }
        }
    }
}

/// Headers, and two pictures of which the first can be joined at.
fn group(timestamp: u32) -> Vec<Message> {
    let mut messages = headers();
    messages.extend([keyframe(timestamp), picture(timestamp + 40)]);
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_edge_has_the_newest_group_whatever_its_origin_gives_players() {
    let origin = TestServer::origin("gop_cache off;");
    let middle = TestServer::edge(&[origin.address], "");
    let edge = TestServer::edge(&[middle.address], "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&group(0)).await;
    origin.arrived("s", 5).await;
    let mut direct = origin.player("s").await;
    direct.joined().await;
    for server in [&edge, &middle] {
        let mut player = server.player("s").await;
        assert_eq!(player.frame().await, keyframe(0));
        assert_eq!(player.frame().await, picture(40));
    }
    publisher.publish(&[picture(80), keyframe(120)]).await;
    assert_eq!(direct.frame().await, keyframe(120));
}

/// An origin and its edge, both without `gop_cache`; the publisher, whose
/// [`group`] of time 0 is there, and a player of the edge that came after it.
async fn without_gop_cache() -> (TestServer, TestServer, Client, Client) {
    let origin = TestServer::origin("gop_cache off;");
    let edge = TestServer::edge(&[origin.address], "gop_cache off;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&group(0)).await;
    origin.arrived("s", 5).await;
    let mut player = edge.player("s").await;
    player.joined().await;
    (origin, edge, publisher, player)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_player_of_an_edge_without_gop_cache_begins_in_the_past() {
    let (_origin, edge, mut publisher, mut first) = without_gop_cache().await;
    publisher.publish(&[picture(80), keyframe(120)]).await;
    assert_eq!(first.frame().await, keyframe(120));
    let mut second = edge.player("s").await;
    second.joined().await;
    publisher.publish(&[picture(160), keyframe(200)]).await;
    assert_eq!(second.frame().await, keyframe(200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_gop_cache_that_connects_again_misses_nothing() {
    let (origin, _edge, mut publisher, mut player) = without_gop_cache().await;
    publisher.publish(&[keyframe(80), picture(120)]).await;
    assert_eq!(player.frame().await, keyframe(80));
    assert_eq!(player.frame().await, picture(120));
    let broken = pull(&origin).unwrap();
    assert!(origin.server.dismiss(broken));
    until(|| pull(&origin).is_none_or(|pull| pull != broken)).await;
    publisher.publish(&[picture(160)]).await;
    assert_eq!(player.frame().await, picture(160));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_of_a_stream_that_no_origin_has_is_told() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let edge = TestServer::edge(&[origin.address], "play_wait_timeout 300;");
    let mut player = edge.player("nowhere").await;
    assert_eq!(player.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    player.closed().await;
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_only_the_second_origin_has_is_found_and_the_next_one_at_once() {
    let (empty, full) = (TestServer::origin(""), TestServer::origin(""));
    let edge = TestServer::edge(&[empty.address, full.address], "");
    let mut asked = None;
    for stream in ["s", "t"] {
        let mut publisher = full.publisher(stream).await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = edge.player(stream).await;
        assert_eq!(player.frame().await, keyframe(0));
        let clients = empty.server.clients();
        until(|| clients.count() == 0).await;
        let asked = *asked.get_or_insert(clients.changes());
        assert_eq!(clients.changes(), asked, "it is asked first only once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_patience_waits_for_its_origins_all_the_same() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let edge = TestServer::edge(&[origin.address], "play_wait_timeout 0;");
    let mut early = edge.player("s").await;
    assert_eq!(early.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn players_outlast_an_origin_that_is_away_for_longer_than_a_publisher_may_be() {
    let origin = TestServer::origin("");
    let address = origin.address;
    let edge = TestServer::edge(&[address], "publish_return_timeout 5000;");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(1_000)]).await;
    let mut player = edge.player("s").await;
    player.frame().await;
    let stream = edge.server.streams()[0].clone();
    origin.stop().await;
    until(|| stream.origins_unreachable()).await;
    // Beyond the time-out and the next look at it.
    let absence = std::time::Duration::from_millis(6_500);
    until(|| {
        let away = stream.unpublished_for(std::time::Instant::now());
        stream.has_ended() || away.is_some_and(|away| away > absence)
    })
    .await;
    assert!(!stream.has_ended(), "its players were let go");
    let origin = TestServer::start_at(
        address,
        Role::Origin,
        "vhost __defaultVhost__ { min_latency on; }",
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    assert!(player.frame().await.timestamp > 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_of_an_edge_whose_origin_is_down_is_told() {
    let gone = TestServer::origin("");
    let address = gone.address;
    gone.stop().await;
    let edge = TestServer::edge(&[address], "play_wait_timeout 300;");
    let mut player = edge.player("s").await;
    assert_eq!(player.refusal().await.code, code::PLAY_STREAM_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_may_be_the_origin_of_another() {
    let origin = TestServer::origin("");
    let middle = TestServer::edge(&[origin.address], "");
    let edge = TestServer::edge(&[middle.address], "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.frame().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_that_waits_at_an_edge_gets_the_publisher_that_comes() {
    let origin = TestServer::origin("play_wait_timeout 0;");
    let edge = TestServer::edge(&[origin.address], "play_wait_timeout 600000;");
    let mut player = edge.player("s").await;
    assert_eq!(player.event().await, Some(ClientEvent::Connected));
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    assert_eq!(player.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vhost_travels_to_the_origin() {
    let origin = TestServer::start(
        Role::Origin,
        "vhost a.example { min_latency on; } vhost __defaultVhost__ { }",
    );
    let text = format!(
        "vhost a.example {{ mode remote; origin {0}; }}
         vhost __defaultVhost__ {{ mode remote; origin {0}; vhost a.example; }}",
        origin.address
    );
    let edge = TestServer::start(Role::Edge, &text);
    let config = ClientConfig::new(Purpose::Publish, "rtmp://a.example/live", "live", "s");
    let mut publisher = Client::connect(origin.address, config).await;
    while publisher.event().await.unwrap() != ClientEvent::Publishing {}
    publisher.publish(&[keyframe(0)]).await;
    let config = ClientConfig::new(Purpose::Play, "rtmp://a.example/live", "live", "s");
    let mut player = Client::connect(edge.address, config).await;
    assert_eq!(player.frame().await, keyframe(0));
    // The default vhost is told to ask for the other one.
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_at_an_edge_goes_to_the_origin_and_comes_back() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let mut publisher = edge.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    let mut there = origin.player("s").await;
    assert_eq!(there.frame().await, keyframe(0));
    let mut here = edge.player("s").await;
    assert_eq!(here.frame().await, keyframe(0));
    publisher.publish(&[sound(20)]).await;
    assert_eq!(there.frame().await, sound(20));
    assert_eq!(here.frame().await, sound(20));
    drop(publisher);
    until(|| !origin.server.streams()[0].is_published()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origins_refusal_reaches_the_publisher_at_the_edge() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let _first = origin.publisher("s").await;
    let mut second = Client::connect(edge.address, publishing(edge.address, "s")).await;
    assert_eq!(second.refusal().await.code, code::PUBLISH_BAD_NAME);
    second.closed().await;

    let strict = TestServer::origin("security { enabled on; }");
    let edge = TestServer::edge(&[strict.address], "");
    let mut denied = Client::connect(edge.address, publishing(edge.address, "s")).await;
    assert_eq!(denied.refusal().await.code, code::PUBLISH_DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_at_an_edge_is_told_when_the_origin_goes() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let mut publisher = edge.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    origin.stop().await;
    publisher.refusal().await;
    publisher.closed().await;

    let mut late = Client::connect(edge.address, publishing(edge.address, "s")).await;
    assert_eq!(late.refusal().await.code, code::PUBLISH_DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_moves_running_pulls_to_the_new_origin_and_players_stay() {
    let (first, second) = (TestServer::origin(""), TestServer::origin(""));
    let edge = TestServer::edge(&[first.address], "");
    let mut publisher = first.publisher("s").await;
    publisher.publish(&[keyframe(50_000)]).await;
    let mut other = second.publisher("s").await;
    other.publish(&[keyframe(0)]).await;
    let mut player = edge.player("s").await;
    assert_eq!(player.frame().await.timestamp, 50_000);
    edge.reload(&format!(
        "vhost __defaultVhost__ {{ mode remote; origin {}; min_latency on; }}",
        second.address
    ));
    until(|| pulls(&first) == 0 && pulls(&second) == 1).await;
    assert!(player.frame().await.timestamp > 50_000);
    assert_eq!(edge.server.streams()[0].players(), 1);
}
