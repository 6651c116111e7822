//! The bounds of the memory that streams and connections take together.

use netbed::TIME_LIMIT;
use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, Purpose};
use rtmp_proto::wire::chunk::encode_message;
use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use tokio::io::AsyncWriteExt;

use crate::support::{Client, TestServer, headers, keyframe, message, picture, until};

/// Length of the chunks that our client session sends, in bytes.
const CHUNK_SIZE: u32 = 60_000;

/// An origin whose streams may take 16 MB: 12 for logs, 4 for messages.
fn small_origin() -> TestServer {
    let vhost = "min_latency on; publish_normal_timeout 600000;";
    let text = format!("stream_memory 16; vhost __defaultVhost__ {{ {vhost} }}");
    TestServer::start(Role::Origin, &text)
}

/// A picture of 100 kB, by a clock that stands still.
fn timeless(first: bool) -> Message {
    let mut payload = vec![0x55; 100_000];
    let kind = if first { 0x17 } else { 0x27 };
    payload[..5].copy_from_slice(&[kind, 1, 0, 0, 0]);
    message(MessageType::VIDEO, 0, &payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_take_nothing_from_the_viewers_of_a_stream_that_takes_little() {
    const FLOODS: usize = 6;
    let origin = small_origin();
    let limit = origin.server.log_memory().limit();
    let mut honest = origin.publisher("honest").await;
    honest.publish(&headers()).await;
    honest.publish(&[keyframe(0)]).await;
    let mut viewer = origin.player("honest").await;
    assert_eq!(viewer.frame().await, keyframe(0));
    let mut floods = Vec::new();
    for number in 0..FLOODS {
        floods.push(origin.publisher(&format!("flood{number}")).await);
    }
    for round in 0..100 {
        for (number, flood) in floods.iter_mut().enumerate() {
            flood.publish(&[timeless(round == 0)]).await;
            origin.arrived(&format!("flood{number}"), round + 1).await;
        }
        // A message is counted as arrived a moment before room is made for it.
        until(|| origin.server.log_memory().used() <= limit).await;
        let time = u32::try_from(40 * (round + 1)).unwrap();
        honest.publish(&[picture(time)]).await;
        assert_eq!(viewer.frame().await, picture(time));
    }
    // Who joins has all of the group.
    let mut late = origin.player("honest").await;
    assert_eq!(late.frame().await, keyframe(0));
    assert_eq!(late.frame().await, picture(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_new_may_publish_where_streams_lose_their_newest_groups() {
    let origin = small_origin();
    let mut flood = origin.publisher("flood").await;
    for number in 0..150 {
        flood.publish(&[timeless(number == 0)]).await;
    }
    origin.arrived("flood", 150).await;
    // It goes on: some seconds after the last loss everybody is welcome again.
    let flooding = tokio::spawn(async move {
        loop {
            flood.publish(&[timeless(false)]).await;
        }
    });
    let tc_url = format!("rtmp://{}/live", origin.address);
    let config = ClientConfig::new(Purpose::Publish, &tc_url, "live", "new");
    let mut new = Client::connect(origin.address, config).await;
    let refusal = new.refusal().await;
    flooding.abort();
    assert_eq!(refusal.code, code::PUBLISH_DENIED);
    assert!(refusal.description.contains("stream_memory"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_groups_go_before_anybody_is_refused() {
    let origin = small_origin();
    let mut publisher = origin.publisher("s").await;
    for _ in 0..150 {
        publisher.publish(&[timeless(true)]).await;
    }
    origin.arrived("s", 150).await;
    let pool = origin.server.log_memory();
    // A message is counted as arrived a moment before room is made for it.
    until(|| pool.used() <= pool.limit()).await;
    let mut new = origin.publisher("new").await;
    new.publish(&[keyframe(0)]).await;
    let mut viewer = origin.player("new").await;
    assert_eq!(viewer.frame().await, keyframe(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_messages_of_all_connections_are_bounded_together() {
    const HELD: usize = 1_000_000;
    let origin = small_origin();
    let pool = origin.server.message_memory();
    let mut honest = origin.publisher("honest").await;
    let huge = message(MessageType::VIDEO, 0, &vec![0x55; 2 * HELD]);
    let mut bytes = Vec::new();
    encode_message(&huge, CHUNK_SIZE, 6, &mut bytes);
    bytes.truncate(HELD);
    let mut holders = Vec::new();
    let refused = loop {
        let mut holder = origin.publisher(&format!("holder{}", holders.len())).await;
        let (before, connected) = (pool.used(), origin.server.clients().count());
        // Who is let go meanwhile does not take all of it.
        let _ = holder.socket.write_all(&bytes).await;
        let ended = || origin.server.clients().count() < connected;
        until(|| ended() || pool.used() >= before + HELD as u64 / 2).await;
        if pool.is_exhausted() || ended() {
            break holder.refusal().await;
        }
        holders.push(holder);
        assert!(holders.len() < 9, "nobody is refused");
    };
    assert!(refused.description.contains("stream_memory"), "{refused}");
    until(|| !pool.is_exhausted()).await;
    honest.publish(&[keyframe(0)]).await;
    let mut viewer = origin.player("honest").await;
    assert_eq!(viewer.frame().await, keyframe(0));
    // What a connection held is free when it has gone.
    drop((holders, honest, viewer));
    until(|| pool.used() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_within_a_group_that_is_too_long_waits_for_the_next() {
    let origin = TestServer::origin("play { gop_cache_max_frames 10; }");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    for _ in 0..9 {
        publisher.publish(&[picture(0)]).await;
    }
    origin.arrived("s", 13).await;
    let mut early = origin.player("s").await;
    assert_eq!(early.frame().await, keyframe(0), "ten messages are allowed");
    publisher.publish(&[picture(0)]).await;
    origin.arrived("s", 14).await;
    let mut late = origin.player("s").await;
    late.joined().await;
    publisher.publish(&[keyframe(40)]).await;
    assert_eq!(late.frame().await, keyframe(40));
    for _ in 0..10 {
        assert_eq!(
            early.frame().await,
            picture(0),
            "who was there loses nothing"
        );
    }
    assert_eq!(early.frame().await, keyframe(40));
}

#[tokio::test(flavor = "current_thread")]
async fn of_many_connections_that_arrive_together_few_are_on_their_way_at_a_time() {
    const MANY: usize = 100;
    let origin = TestServer::origin("");
    // Nobody is accepted before this thread waits. Each is over as soon as it is looked at.
    for _ in 0..MANY {
        drop(std::net::TcpStream::connect(origin.address).unwrap());
    }
    let clients = origin.server.clients();
    let mut at_a_time = 0;
    let all_have_gone = async {
        while clients.changes() < 2 * MANY as u64 {
            at_a_time = at_a_time.max(clients.count());
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(TIME_LIMIT, all_have_gone).await;
    in_time.expect("some are still there");
    assert!(at_a_time <= 10, "{at_a_time} of {MANY} at a time");
}
