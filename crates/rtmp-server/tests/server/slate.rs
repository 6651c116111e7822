//! The slate, while nobody sends anything.

use http_flv::tag::{TagKind, file_header, write_tag};
use rtmp_proto::session::Purpose;
use rtmp_server::config::Role;
use serde_json::json;

use crate::api_client::Api;
use crate::support::{TestServer, eventually, headers, keyframe, picture, until};

/// A slate of a keyframe and two pictures, 300 ms long, that end with the byte `mark`.
pub(crate) fn slate_file(mark: u8) -> tempfile::NamedTempFile {
    let mut file = file_header(false, true).to_vec();
    let header = [0x17, 0, 0, 0, 0, 7, 7, 7];
    write_tag(TagKind::Video, 0, &header, &mut file);
    for (time, first) in [(0, 0x17), (130, 0x27), (260, 0x27)] {
        let payload = [first, 1, 0, 0, 0, mark];
        write_tag(TagKind::Video, time, &payload, &mut file);
    }
    let slate = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(slate.path(), file).unwrap();
    slate
}

/// The configuration of an origin with these directives of `publish`, which keeps players for
/// an hour.
fn publish(directives: &str) -> String {
    format!(
        "vhost __defaultVhost__ {{ min_latency on; publish_return_timeout 3600000; \
         publish {{ {directives} }} }}"
    )
}

/// Expects that `/metrics` has these of `s`.
async fn assert_metrics(api: &Api, expected: [(&str, u64); 2]) {
    let metrics = api.ask("GET", "/metrics").await.body;
    for (name, value) in expected {
        let labels = "vhost=\"__defaultVhost__\",app=\"live\",stream=\"s\"";
        let line = format!("millrace_stream_{name}{{{labels}}} {value}\n");
        assert!(metrics.contains(&line), "{line} is not in:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slate_is_shown_while_nobody_publishes_and_gives_way_at_a_keyframe() {
    let slate = slate_file(0x99);
    let file = slate.path().display();
    let directives = format!("publish {{ slate {file}; slate_after 100; }}");
    let origin = TestServer::origin(&directives);
    let edge = TestServer::edge(&[origin.address], "");
    let api = Api::of(&origin).await;
    let mut first = origin.publisher("s").await;
    first.publish(&headers()).await;
    first.publish(&[keyframe(0), picture(40)]).await;
    let mut players = [origin.player("s").await, edge.player("s").await];
    for player in &mut players {
        assert_eq!(player.frame().await, keyframe(0));
        assert_eq!(player.frame().await, picture(40));
    }
    drop(first);
    let mut last = [40; 2];
    for (player, last) in players.iter_mut().zip(&mut last) {
        // More than one turn of the file.
        for _ in 0..7 {
            let frame = player.frame().await;
            assert_eq!(frame.payload[5], 0x99, "{frame:?}");
            assert!(frame.timestamp > *last, "{frame:?} after {last}");
            *last = frame.timestamp;
        }
    }
    let streams = api.get("/api/v1/streams").await;
    let stream = &streams["streams"][0];
    assert_eq!(stream["publish"]["slate"], true);
    assert_eq!(stream["standby"], json!([]));
    assert_metrics(&api, [("slate", 1), ("published", 0)]).await;
    let mut second = origin.publisher("s").await;
    second.publish(&headers()).await;
    second.publish(&[picture(0), keyframe(40)]).await;
    for player in &mut players {
        loop {
            let frame = player.frame().await;
            if frame.payload[5] != 0x99 {
                assert_eq!(frame.payload, keyframe(0).payload);
                break;
            }
        }
    }
    second.publish(&[picture(80)]).await;
    for player in &mut players {
        assert_eq!(player.frame().await.payload, picture(0).payload);
    }
    let streams = api.get("/api/v1/streams").await;
    assert_eq!(streams["streams"][0]["publish"]["slate"], false);
    assert_metrics(&api, [("slate", 0), ("published", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slate_that_a_reload_replaces_gives_way_to_the_new_one() {
    // An hour would pass until it came, if it did not follow the old one at once.
    let files = [(slate_file(0x99), 100), (slate_file(0xaa), 3_599_999)];
    let [old, new] = files.each_ref().map(|(file, after)| {
        let file = file.path().display();
        publish(&format!("slate {file}; slate_after {after};"))
    });
    let origin = TestServer::start(Role::Origin, &old);
    let mut first = origin.publisher("s").await;
    first.publish(&[keyframe(0)]).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    drop(first);
    assert_eq!(player.frame().await.payload[5], 0x99);
    // The same file, read anew: another one would begin with its keyframe.
    origin.reload(&old);
    for _ in 0..3 {
        assert_eq!(player.frame().await.payload[5], 0x99);
    }
    origin.reload(&new);
    let mut last = 0;
    let frame = loop {
        let frame = player.frame().await;
        assert!(frame.timestamp > last, "{frame:?} after {last}");
        last = frame.timestamp;
        if frame.payload[5] == 0xaa {
            break frame;
        }
    };
    assert_eq!(frame.payload[0], 0x17, "it begins with its keyframe");
    let next = player.frame().await;
    assert_eq!((next.payload[5], next.timestamp), (0xaa, last + 130));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slate_begins_and_ends_with_reloads() {
    let slate = slate_file(0x99);
    let file = slate.path().display();
    let [soon, late] = [100, 3_599_999].map(|after| {
        let directives = format!("slate {file}; slate_after {after};");
        publish(&directives)
    });
    let without = publish("");
    for before in [&without, &late] {
        let origin = TestServer::start(Role::Origin, before);
        let mut first = origin.publisher("s").await;
        first.publish(&[keyframe(0)]).await;
        let mut player = origin.player("s").await;
        player.frame().await;
        let stream = origin.server.streams().remove(0);
        drop(first);
        until(|| !stream.is_published()).await;
        origin.reload(&soon);
        assert_eq!(player.frame().await.payload[5], 0x99, "it is configured");
        origin.reload(&without);
        until(|| !stream.is_published()).await;
        origin.reload(&soon);
        until(|| stream.is_published()).await;
        assert_eq!(player.frame().await.payload[5], 0x99, "it is so again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slate_is_shown_over_a_publisher_that_has_sent_nothing() {
    let slate = slate_file(0x99);
    let file = slate.path().display();
    let [soon, late] = [100, 3_599_999].map(|after| {
        let directives = format!("slate {file}; slate_after {after};");
        publish(&directives)
    });
    for before in [&publish(""), &late] {
        let origin = TestServer::start(Role::Origin, before);
        let api = Api::of(&origin).await;
        let mut first = origin.publisher("s").await;
        first.publish(&[keyframe(0)]).await;
        let mut player = origin.player("s").await;
        player.frame().await;
        let stream = origin.server.streams().remove(0);
        drop(first);
        until(|| !stream.is_published()).await;
        let mut second = origin.publisher("s").await;
        // Headers are nothing to see.
        second.publish(&headers()).await;
        origin.arrived("s", 1 + headers().len() as u64).await;
        origin.reload(&soon);
        assert_eq!(player.frame().await.payload[5], 0x99);
        let streams = api.get("/api/v1/streams").await;
        assert_eq!(streams["streams"][0]["publish"]["slate"], true);
        assert_eq!(streams["streams"][0]["standby"][0]["ready"], false);
        assert_metrics(&api, [("slate", 1), ("published", 0)]).await;
        second.publish(&[keyframe(0)]).await;
        let mut payloads = Vec::new();
        while !payloads.contains(&keyframe(0).payload) {
            payloads.push(player.media().await.payload);
        }
        let configuration = &headers()[1].payload;
        assert!(payloads.contains(configuration), "{payloads:?}");
        let streams = api.get("/api/v1/streams").await;
        assert_eq!(streams["streams"][0]["publish"]["slate"], false);
        assert_eq!(streams["streams"][0]["standby"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_has_published_has_no_slate() {
    let slate = slate_file(0x99);
    let file = slate.path().display();
    let directives = format!("play_wait_timeout 300; publish {{ slate {file}; slate_after 100; }}");
    let origin = TestServer::origin(&directives);
    let refusal = origin.refused(Purpose::Play, "s").await;
    assert_eq!(refusal.code, "NetStream.Play.StreamNotFound");
    // Somebody who publishes nothing does not change that.
    drop(origin.publisher("s").await);
    let refusal = origin.refused(Purpose::Play, "s").await;
    assert_eq!(refusal.code, "NetStream.Play.StreamNotFound");
}

/// The slate says of itself in its metadata that it is one: an encoder that has none must not
/// leave them in force.
#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_without_metadata_ends_the_slate_at_edges_too() {
    let slate = slate_file(0x99);
    let file = slate.path().display();
    let origin = TestServer::origin(&format!("publish {{ slate {file}; slate_after 100; }}"));
    let edge = TestServer::edge(&[origin.address], "");
    let apis = [Api::of(&origin).await, Api::of(&edge).await];
    let is_shown = async |expected: bool| {
        for api in &apis {
            eventually(async || {
                let streams = api.get("/api/v1/streams").await;
                let slate = &streams["streams"][0]["publish"]["slate"];
                (*slate == expected).then_some(())
            })
            .await;
        }
    };
    let come = async || {
        let mut encoder = origin.publisher("s").await;
        encoder.publish(&headers()[1..]).await;
        encoder.publish(&[keyframe(0), picture(40)]).await;
        encoder
    };
    let mut encoder = come().await;
    let mut player = edge.player("s").await;
    player.frame().await;
    for _ in 0..2 {
        drop(encoder);
        is_shown(true).await;
        encoder = come().await;
        is_shown(false).await;
        for api in &apis {
            assert_metrics(api, [("slate", 0), ("published", 1)]).await;
        }
    }
}
