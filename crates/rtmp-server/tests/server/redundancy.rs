//! Edges that pull from two origins at once.

use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use serde_json::Value;

use crate::api_client::Api;
use crate::flv_client::FlvClient;
use crate::slate::slate_file;
use crate::support::{Client, TestServer, eventually, headers, message, until};

/// Pictures of a group.
const GROUP: u32 = 10;

/// The picture number `number` of `encoder`, at 25 a second.
fn picture(encoder: u8, number: u32) -> Message {
    let first = match number.is_multiple_of(GROUP) {
        true => 0x17,
        false => 0x27,
    };
    let mut payload = vec![first, 1, 0, 0, 0, encoder];
    payload.extend(number.to_be_bytes());
    message(MessageType::VIDEO, number * 40, &payload)
}

/// Two origins with a publisher each, and an edge that pulls from both.
struct Bed {
    origins: Vec<TestServer>,
    edge: TestServer,
    publishers: Vec<Client>,
    encoders: [u8; 2],
}

const REDUNDANT: &str = "origin_redundancy 2; http_remux { enabled on; }";

fn edge_of(servers: &[&TestServer], vhost: &str) -> TestServer {
    TestServer::start(Role::Edge, &edge_text(servers, vhost))
}

fn edge_text(servers: &[&TestServer], vhost: &str) -> String {
    let addresses: Vec<_> = servers.iter().map(|it| it.address.to_string()).collect();
    format!(
        "http_server {{ enabled on; }} vhost __defaultVhost__ {{ mode remote; origin {}; {vhost} }}",
        addresses.join(" ")
    )
}

impl Bed {
    /// Each of `encoders` publishes at one origin.
    async fn new(encoders: [u8; 2], vhost: &str) -> Self {
        let origins = vec![TestServer::origin(""), TestServer::origin("")];
        let edge = edge_of(&[&origins[0], &origins[1]], vhost);
        let mut publishers = Vec::new();
        for origin in &origins {
            let mut publisher = origin.publisher("s").await;
            publisher.publish(&headers()).await;
            publishers.push(publisher);
        }
        Self {
            origins,
            edge,
            publishers,
            encoders,
        }
    }

    /// The encoder numbered `encoder` sends these pictures.
    async fn send(&mut self, encoder: usize, numbers: std::ops::Range<u32>) {
        let id = self.encoders[encoder];
        let pictures: Vec<_> = numbers.map(|number| picture(id, number)).collect();
        self.publishers[encoder].publish(&pictures).await;
    }

    async fn send_both(&mut self, numbers: std::ops::Range<u32>) {
        for encoder in [0, 1] {
            self.send(encoder, numbers.clone()).await;
        }
    }

    /// The first origin dies.
    async fn kill_first(&mut self) {
        self.origins.remove(0).stop().await;
        self.publishers.remove(0);
        self.encoders = [self.encoders[1]; 2];
    }
}

/// Waits until the edge's pulls of its only stream are as `holds` says.
async fn pulls(api: &Api, holds: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    eventually(async || {
        let streams = api.get("/api/v1/streams").await;
        let pulls = streams["streams"][0]["pulls"].as_array()?.clone();
        holds(&pulls).then_some(pulls)
    })
    .await
}

fn are_aligned(pulls: &[Value]) -> bool {
    pulls.len() == 2 && pulls.iter().all(|pull| pull["aligned"] == true)
}

fn flow(pulls: &[Value]) -> bool {
    pulls.len() == 2 && pulls.iter().all(|pull| pull["state"] == "flowing")
}

/// The player gets these pictures next, and nothing between them.
async fn ensure_next(player: &mut Client, encoder: u8, numbers: std::ops::Range<u32>) {
    for number in numbers {
        assert_eq!(player.frame().await, picture(encoder, number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_miss_nothing_when_one_of_two_origins_dies_whatever_their_protocol() {
    for vhost in ["min_latency on;", "mw_latency 5;"] {
        let mut bed = Bed::new([0, 0], &format!("{REDUNDANT} {vhost}")).await;
        bed.send_both(0..4).await;
        let behind = edge_of(&[&bed.edge], "min_latency on;");
        let mut players = [bed.edge.player("s").await, behind.player("s").await];
        let http = bed.edge.http.unwrap();
        let (mut flv, _) = FlvClient::playing(http, "/live/s.flv").await;
        for player in &mut players {
            ensure_next(player, 0, 0..4).await;
        }
        let api = Api::of(&bed.edge).await;
        pulls(&api, are_aligned).await;
        // Each of them is ahead for a while.
        bed.send(1, 4..9).await;
        bed.send(0, 4..13).await;
        bed.send(1, 9..12).await;
        for player in &mut players {
            ensure_next(player, 0, 4..13).await;
        }
        let firsts = pulls(&api, |pulls| {
            let first = |pull: &Value| pull["pictures_first"].as_u64().unwrap();
            pulls.iter().map(first).sum::<u64>() == 13
        });
        assert!(firsts.await.iter().any(|pull| pull["leads"] == true));
        bed.kill_first().await;
        bed.send(0, 12..25).await;
        for player in &mut players {
            ensure_next(player, 0, 13..25).await;
        }
        let mut shown = Vec::new();
        while shown.len() < 25 {
            let tag = flv.tag().await;
            if tag.kind == 9 && tag.payload[1] == 1 {
                shown.push(tag.timestamp);
            }
        }
        assert_eq!(shown, (0..25).map(|number| number * 40).collect::<Vec<_>>());
        pulls(&api, |pulls| !are_aligned(pulls)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_returns_is_merged_again() {
    let mut bed = Bed::new([0, 0], &format!("{REDUNDANT} min_latency on;")).await;
    bed.send_both(0..4).await;
    let mut player = bed.edge.player("s").await;
    ensure_next(&mut player, 0, 0..4).await;
    let api = Api::of(&bed.edge).await;
    pulls(&api, are_aligned).await;
    let address = bed.origins[0].address;
    bed.kill_first().await;
    bed.send(0, 4..9).await;
    let origin = TestServer::start_at(
        address,
        Role::Origin,
        "vhost __defaultVhost__ { min_latency on; }",
    );
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    let group: Vec<_> = (10..12).map(|number| picture(0, number)).collect();
    publisher.publish(&group).await;
    bed.send(0, 9..11).await;
    pulls(&api, are_aligned).await;
    ensure_next(&mut player, 0, 4..12).await;
    bed.origins.remove(0).stop().await;
    publisher.publish(&[picture(0, 12)]).await;
    ensure_next(&mut player, 0, 12..13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_encoders_that_differ_one_is_played_and_the_other_follows_at_a_keyframe() {
    let mut bed = Bed::new([1, 2], &format!("{REDUNDANT} min_latency on;")).await;
    bed.send_both(0..3).await;
    let mut player = bed.edge.player("s").await;
    let api = Api::of(&bed.edge).await;
    let played = player.frame().await;
    let first = usize::from(played == picture(2, 0));
    let (on_air, other) = (bed.encoders[first], bed.encoders[1 - first]);
    assert_eq!(played, picture(on_air, 0));
    pulls(&api, flow).await;
    bed.send_both(3..12).await;
    ensure_next(&mut player, on_air, 1..12).await;
    let pulled = pulls(&api, flow).await;
    assert!(
        pulled.iter().all(|pull| pull["aligned"] == false),
        "{pulled:?}"
    );
    let leading = pulled.iter().position(|pull| pull["leads"] == true);
    assert_eq!(
        pulled[leading.unwrap()]["origin"],
        bed.origins[first].address.to_string()
    );
    bed.origins.remove(first).stop().await;
    let mut last = picture(on_air, 11).timestamp;
    for number in 10..12 {
        let frame = player.frame().await;
        assert_eq!(frame.payload, picture(other, number).payload);
        assert!(frame.timestamp > last, "{} after {last}", frame.timestamp);
        last = frame.timestamp;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_silent_gives_way_to_one_that_is_not() {
    let vhost = format!("{REDUNDANT} min_latency on; publish {{ standby_after 100; }}");
    let mut bed = Bed::new([1, 2], &vhost).await;
    bed.send_both(0..3).await;
    let mut player = bed.edge.player("s").await;
    let api = Api::of(&bed.edge).await;
    let first = usize::from(player.frame().await == picture(2, 0));
    let (on_air, other) = (bed.encoders[first], bed.encoders[1 - first]);
    ensure_next(&mut player, on_air, 1..3).await;
    pulls(&api, flow).await;
    let mut number = 3;
    let leads = async || {
        let streams = api.get("/api/v1/streams").await;
        streams["streams"][0]["pull"]["origin"] == bed.origins[1 - first].address.to_string()
    };
    while !leads().await {
        let next = picture(other, number);
        bed.publishers[1 - first].publish(&[next]).await;
        number += 1;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let frame = player.frame().await;
    assert_eq!(frame.payload[0], 0x17, "it begins at a keyframe");
    assert_eq!(frame.payload[5], other);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_seconds_behind_takes_over_when_the_other_dies() {
    let vhost = format!("{REDUNDANT} min_latency on; publish {{ standby_after 100; }}");
    let mut bed = Bed::new([0, 0], &vhost).await;
    bed.send(0, 0..4).await;
    let mut player = bed.edge.player("s").await;
    ensure_next(&mut player, 0, 0..4).await;
    // Ten seconds, as far as the timestamps say.
    bed.send(0, 4..250).await;
    ensure_next(&mut player, 0, 4..250).await;
    bed.send(1, 0..12).await;
    let api = Api::of(&bed.edge).await;
    let pulled = pulls(&api, flow).await;
    assert!(!are_aligned(&pulled), "{pulled:?}");
    bed.kill_first().await;
    let address = bed.origins[0].address.to_string();
    let leads = |pulls: &[Value]| {
        let mut pulls = pulls.iter();
        pulls.any(|pull| pull["leads"] == true && pull["origin"] == address)
    };
    let mut number = 12;
    loop {
        bed.send(0, number..number + 1).await;
        number += 1;
        let streams = api.get("/api/v1/streams").await;
        if leads(streams["streams"][0]["pulls"].as_array().unwrap()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(number < 240, "nothing was shown until {number}");
    let mut last = picture(0, 249).timestamp;
    let mut next = None;
    while next != Some(number) {
        let frame = player.frame().await;
        assert!(frame.timestamp > last, "{} after {last}", frame.timestamp);
        last = frame.timestamp;
        let shown = u32::from_be_bytes(frame.payload[6..].try_into().unwrap());
        match next {
            None => assert!(shown.is_multiple_of(GROUP), "{shown} is no keyframe"),
            Some(next) => assert_eq!(shown, next),
        }
        next = Some(shown + 1);
    }
}

/// The byte that tells the slate's pictures from an encoder's.
const SLATE: u8 = 0x99;

/// Two origins that show this slate soon after the encoder has gone.
fn origins_with(slate: &tempfile::NamedTempFile) -> [TestServer; 2] {
    let file = slate.path().display();
    let vhost = format!("publish {{ slate {file}; slate_after 100; }}");
    [(); 2].map(|()| TestServer::origin(&vhost))
}

/// Publishes these pictures at `origin`.
async fn publisher(origin: &TestServer, encoder: u8, numbers: std::ops::Range<u32>) -> Client {
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    let pictures: Vec<_> = numbers.map(|number| picture(encoder, number)).collect();
    publisher.publish(&pictures).await;
    publisher
}

/// The player gets a picture of `encoder`, maybe after others, and times go on.
async fn until_shown(player: &mut Client, encoder: u8) {
    let mut last = 0;
    loop {
        let frame = player.frame().await;
        assert!(frame.timestamp >= last, "{} after {last}", frame.timestamp);
        last = frame.timestamp;
        if frame.payload[1] == 1 && frame.payload[5] == encoder {
            break;
        }
    }
}

/// Waits until the servers say of their only stream if it is the slate.
async fn until_slate(servers: &[&TestServer], is_slate: bool) {
    for server in servers {
        let api = Api::of(server).await;
        eventually(async || {
            let streams = api.get("/api/v1/streams").await;
            let slate = &streams["streams"][0]["publish"]["slate"];
            (*slate == is_slate).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_at_either_origin_takes_the_place_of_the_slate_of_both() {
    let slate = slate_file(SLATE);
    let origins = origins_with(&slate);
    let edge = edge_of(
        &[&origins[0], &origins[1]],
        &format!("{REDUNDANT} min_latency on;"),
    );
    let behind = edge_of(&[&edge], "min_latency on;");
    let publishers = [
        publisher(&origins[0], 0, 0..3).await,
        publisher(&origins[1], 0, 0..3).await,
    ];
    let mut players = [edge.player("s").await, behind.player("s").await];
    for player in &mut players {
        ensure_next(player, 0, 0..3).await;
    }
    until_slate(&[&edge, &behind], false).await;
    drop(publishers);
    for (number, origin) in (1_u8..).zip(&origins) {
        for player in &mut players {
            until_shown(player, SLATE).await;
        }
        until_slate(&[&edge, &behind], true).await;
        let _back = publisher(origin, number, 0..2).await;
        for player in &mut players {
            until_shown(player, number).await;
        }
        until_slate(&[&edge, &behind], false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_goes_from_the_slate_of_one_origin_to_the_programme_of_another() {
    let slate = slate_file(SLATE);
    let origins = origins_with(&slate);
    let edge = edge_of(&[&origins[0], &origins[1]], "min_latency on;");
    let mut on_air = publisher(&origins[0], 7, 0..3).await;
    let mut player = edge.player("s").await;
    ensure_next(&mut player, 7, 0..3).await;
    // The second time the other one has a slate, too.
    for (number, origin) in [(1, &origins[1]), (2, &origins[0]), (3, &origins[1])] {
        drop(on_air);
        until_shown(&mut player, SLATE).await;
        until_slate(&[&edge], true).await;
        on_air = publisher(origin, number, 0..2).await;
        until_shown(&mut player, number).await;
        until_slate(&[&edge], false).await;
        let address = origin.address.to_string();
        let is_from = |pulls: &[Value]| pulls.len() == 1 && pulls[0]["origin"] == address;
        pulls(&Api::of(&edge).await, is_from).await;
    }
    drop(on_air);
    until_shown(&mut player, SLATE).await;
    // The one that it has gone over to dies: the first one is asked again.
    let [first, second] = origins;
    second.stop().await;
    let _on_air = publisher(&first, 4, 0..2).await;
    until_shown(&mut player, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_one_origin_has_is_played_and_the_other_is_asked_meanwhile() {
    let origins = [TestServer::origin(""), TestServer::origin("")];
    let edge = edge_of(
        &[&origins[0], &origins[1]],
        &format!("{REDUNDANT} min_latency on;"),
    );
    let mut publisher = origins[1].publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[picture(0, 0)]).await;
    let mut player = edge.player("s").await;
    ensure_next(&mut player, 0, 0..1).await;
    let mut late = origins[0].publisher("s").await;
    late.publish(&headers()).await;
    late.publish(&[picture(0, 0)]).await;
    pulls(&Api::of(&edge).await, are_aligned).await;
    let stream = edge.server.streams()[0].clone();
    assert!(!stream.origins_unreachable());
    drop(player);
    let mut again = edge.player("s").await;
    ensure_next(&mut again, 0, 0..1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_redundancy_follows_the_configuration() {
    let mut bed = Bed::new([0, 0], "min_latency on; origin_linger 0;").await;
    bed.send_both(0..3).await;
    let mut player = bed.edge.player("s").await;
    ensure_next(&mut player, 0, 0..3).await;
    let api = Api::of(&bed.edge).await;
    let alone = pulls(&api, |pulls| pulls.len() == 1).await;
    assert_eq!(alone[0].get("aligned"), None);
    let text = |vhost: &str| edge_text(&[&bed.origins[0], &bed.origins[1]], vhost);
    let alone = text("min_latency on; origin_linger 0;");
    let redundant = text("min_latency on; origin_linger 0; origin_redundancy 2;");
    bed.edge.reload(&redundant);
    pulls(&api, are_aligned).await;
    bed.send_both(3..5).await;
    ensure_next(&mut player, 0, 3..5).await;
    bed.edge.reload(&alone);
    pulls(&api, |pulls| {
        pulls.len() == 1 && pulls[0]["state"] == "flowing"
    })
    .await;
    bed.send_both(5..7).await;
    ensure_next(&mut player, 0, 5..7).await;
    drop(player);
    let origins = &bed.origins;
    until(|| origins.iter().all(|it| it.server.clients().count() == 1)).await;
}
