//! A standby publisher beside the first, and policies for a second one.

use rtmp_proto::session::Purpose;
use rtmp_proto::wire::{Message, MessageType};
use rtmp_server::config::Role;
use serde_json::json;

use crate::api_client::Api;
use crate::flv_client::FlvClient;
use crate::hooks::Site;
use crate::slate::slate_file;
use crate::support::{Client, TestServer, headers, keyframe, message, picture, publishing, until};

const HTTP_FLV: &str = "http_remux { enabled on; }";

/// An origin that serves HTTP-FLV, too, with these directives in its default vhost.
fn origin(vhost: &str) -> TestServer {
    let text = format!(
        "http_server {{ enabled on; }} \
         vhost __defaultVhost__ {{ min_latency on; {HTTP_FLV} {vhost} }}"
    );
    TestServer::start(Role::Origin, &text)
}

/// The same for an edge of `origin`.
fn edge(origin: &TestServer) -> TestServer {
    let text = format!(
        "http_server {{ enabled on; }} vhost __defaultVhost__ {{ \
         mode remote; origin {}; min_latency on; {HTTP_FLV} }}",
        origin.address
    );
    TestServer::start(Role::Edge, &text)
}

/// A first publisher of `s` with a keyframe, and a standby that has sent one.
pub(crate) async fn two_publishers(origin: &TestServer, standby: &[Message]) -> [Client; 2] {
    let mut first = origin.publisher("s").await;
    first.publish(&headers()).await;
    first.publish(&[keyframe(0), picture(40)]).await;
    origin.arrived("s", 5).await;
    let mut second = origin.publisher("s?backup=1").await;
    second.publish(standby).await;
    [first, second]
}

/// What a standby of the same headers has sent.
pub(crate) fn same() -> Vec<Message> {
    let group = [keyframe(500_000), picture(500_040)];
    headers().into_iter().chain(group).collect()
}

/// The same with other headers.
fn other() -> Vec<Message> {
    let mut messages = same();
    messages[1] = message(MessageType::VIDEO, 0, &[0x17, 0, 0, 0, 0, 9, 9, 9]);
    messages
}

/// Waits until the API shows a standby of `s` that has a keyframe.
pub(crate) async fn ready(api: &Api) -> String {
    loop {
        let streams = api.get("/api/v1/streams").await;
        let standby = &streams["streams"][0]["standby"][0];
        if standby["ready"] == true {
            return standby["cid"].as_str().unwrap().to_owned();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Each picture of a player by FLV tags; headers as `None`.
async fn next_picture(player: &mut FlvClient) -> Option<u32> {
    loop {
        let tag = player.tag().await;
        if tag.kind == 9 {
            return (tag.payload[1] != 0).then_some(tag.timestamp);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_each_protocol_stay_at_origin_and_edge_when_the_first_publisher_ends() {
    for (standby, has_headers) in [(same(), false), (other(), true)] {
        let origin = origin("");
        let edge = edge(&origin);
        let api = Api::of(&origin).await;
        let [first, mut second] = two_publishers(&origin, &standby).await;
        ready(&api).await;
        let (mut rtmp, mut flv) = (Vec::new(), Vec::new());
        for server in [&origin, &edge] {
            let mut player = server.player("s").await;
            assert_eq!(player.frame().await, keyframe(0));
            assert_eq!(player.frame().await, picture(40));
            rtmp.push(player);
            let http = server.http.unwrap();
            let (player, _) = FlvClient::playing(http, "/live/s.flv").await;
            flv.push(player);
            let (player, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
            flv.push(player);
        }
        for player in &mut flv {
            assert_eq!(next_picture(player).await, None);
            assert_eq!(next_picture(player).await, Some(0));
            assert_eq!(next_picture(player).await, Some(40));
        }
        drop(first);
        for player in &mut rtmp {
            if has_headers {
                let header = player.media().await;
                assert_eq!(header.message_type, MessageType::DATA_AMF0);
            }
            let [one, two] = [player.frame().await, player.frame().await];
            assert_eq!(one.payload, keyframe(0).payload);
            assert!(one.timestamp > 40, "{one:?}");
            assert_eq!(two.timestamp, one.timestamp + 40);
        }
        second.publish(&[picture(500_080)]).await;
        for player in &mut rtmp {
            assert_eq!(player.frame().await.payload, picture(0).payload);
        }
        for player in &mut flv {
            if has_headers {
                assert_eq!(next_picture(player).await, None);
            }
            let mut last = 40;
            for _ in 0..3 {
                let time = next_picture(player).await.expect("no header again");
                assert!(time > last, "{time} after {last}");
                last = time;
            }
        }
        let players = origin.server.streams()[0].players();
        assert_eq!(players, 4, "three of the origin's own and the edge");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_silent_gives_way_and_is_the_standby_then() {
    let origin = TestServer::origin("publish { standby_after 200; }");
    let api = Api::of(&origin).await;
    let [mut first, mut second] = two_publishers(&origin, &same()).await;
    let mut player = origin.player("s").await;
    player.frame().await;
    player.frame().await;
    // The standby is not silent.
    let sending = tokio::spawn(async move {
        for number in 0.. {
            second.publish(&[keyframe(600_000 + number * 20)]).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        second
    });
    assert_eq!(player.frame().await.payload, keyframe(0).payload);
    let streams = origin.server.streams();
    until(|| streams[0].is_published()).await;
    first.publish(&[keyframe(80)]).await;
    let waiting = ready(&api).await;
    let clients = api.get("/api/v1/clients").await;
    let kinds: Vec<_> = clients["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|client| client["type"].clone())
        .collect();
    assert_eq!(kinds, [json!("standby"), json!("publish"), json!("play")]);
    assert_eq!(clients["clients"][0]["id"], waiting);
    let metrics = api.ask("GET", "/metrics").await.body;
    for line in [
        "millrace_publisher_switches_total{reason=\"silent\"} 1",
        "millrace_stream_standbys{vhost=\"__defaultVhost__\",app=\"live\",stream=\"s\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in:\n{metrics}");
    }
    sending.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_switches_through_the_api() {
    let origin = TestServer::origin("");
    let api = Api::of(&origin).await;
    let [_first, mut second] = two_publishers(&origin, &same()).await;
    let standby = ready(&api).await;
    let stream = async || api.get("/api/v1/streams").await["streams"][0].clone();
    let mut player = origin.player("s").await;
    player.frame().await;
    player.frame().await;
    let id = origin.server.streams()[0].id();
    let path = format!("/api/v1/streams/{id}/switch");
    assert_eq!(api.ask("GET", &path).await.status, 405);
    let nobody = api.ask("POST", &format!("{path}?client=999")).await;
    assert_eq!(nobody.code(), (200, 2049));
    let unknown = api.ask("POST", "/api/v1/streams/0/switch").await;
    assert_eq!(unknown.code(), (200, 2048));
    assert_eq!(api.ask("POST", &path).await.code(), (200, 0));
    assert_eq!(stream().await["standby"][0]["ordered"], true);
    let on_air = stream().await["publish"]["cid"].clone();
    let taken_back = format!("{path}?client={}", on_air.as_str().unwrap());
    assert_eq!(api.ask("POST", &taken_back).await.code(), (200, 0));
    assert_eq!(stream().await["standby"][0]["ordered"], false);
    assert_eq!(api.ask("POST", &path).await.code(), (200, 0));
    second.publish(&[picture(500_080), keyframe(500_120)]).await;
    let frame = player.frame().await;
    assert_eq!(frame.payload, keyframe(0).payload);
    until(|| {
        let clients = origin.server.clients().list();
        let publisher = clients
            .iter()
            .find(|it| it.id.to_string() == standby)
            .unwrap();
        publisher.activity().name() == "publish"
    })
    .await;
    assert_eq!(stream().await["publish"]["cid"], standby);
    assert_eq!(stream().await["standby"][0]["ordered"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_judge_a_standby_and_hear_when_it_goes_on_air() {
    let site = Site::default();
    let address = site.start().await;
    let hook = |name: &str| format!("{name} http://{address}/zero;");
    let hooks = ["on_publish", "on_unpublish", "on_switch"]
        .map(hook)
        .concat();
    let origin = TestServer::origin(&format!("http_hooks {{ enabled on; {hooks} }}"));
    let api = Api::of(&origin).await;
    let [first, second] = two_publishers(&origin, &same()).await;
    let standby = ready(&api).await;
    drop(first);
    until(|| site.actions().len() == 3).await;
    assert_eq!(site.actions(), ["on_publish", "on_publish", "on_switch"]);
    let asked = site.asked.lock().unwrap().clone();
    assert_eq!(asked[1]["param"], "?backup=1");
    assert_eq!(asked[2]["client_id"], standby);
    assert_eq!(asked[2]["former_client_id"], asked[0]["client_id"]);
    assert_eq!(asked[2]["reason"], "ended");
    drop(second);
    until(|| site.actions().len() == 4).await;
    assert_eq!(site.actions()[3], "on_unpublish");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_that_is_not_marked_is_treated_by_the_policy() {
    let refusing = TestServer::origin("");
    let _first = refusing.publisher("s").await;
    let refusal = refusing.refused(Purpose::Publish, "s").await;
    assert_eq!(refusal.code, "NetStream.Publish.BadName");

    let taking_over = TestServer::origin("publish { second_publisher takeover; }");
    let mut first = taking_over.publisher("s").await;
    first.publish(&[keyframe(0)]).await;
    let mut second = taking_over.publisher("s").await;
    assert_eq!(first.refusal().await.code, "NetStream.Publish.BadName");
    second.publish(&[keyframe(0)]).await;
    taking_over.arrived("s", 2).await;

    for directive in ["backup on;", "second_publisher standby;"] {
        let keeping = TestServer::origin(&format!("publish {{ {directive} }}"));
        let mut first = keeping.publisher("s").await;
        first.publish(&[keyframe(0)]).await;
        keeping.arrived("s", 1).await;
        let mut player = keeping.player("s").await;
        player.frame().await;
        let mut second = keeping.publisher("s").await;
        second.publish(&[keyframe(70_000)]).await;
        first.publish(&[picture(40)]).await;
        assert_eq!(player.frame().await, picture(40));
        drop(first);
        assert_eq!(player.frame().await.payload, keyframe(0).payload);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_passes_the_mark_of_a_standby_on_to_its_origin() {
    let origin = TestServer::origin("");
    let edge = TestServer::edge(&[origin.address], "");
    let api = Api::of(&origin).await;
    let mut first = origin.publisher("s").await;
    first.publish(&[keyframe(0)]).await;
    origin.arrived("s", 1).await;
    let config = publishing(edge.address, "s?backup=1");
    let mut second = Client::connect(edge.address, config).await;
    second.may_publish().await;
    second.publish(&[keyframe(0)]).await;
    ready(&api).await;
}

/// Sends the headers of a publisher again and again, so that it is neither silent nor ready.
fn keep_alive(mut publisher: Client) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            publisher.publish(&headers()).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
}

/// A server whose stream `s` has a slate on air or a marked standby, with these directives
/// of `publish`, and the player that sees it.
async fn without_unmarked(slate: Option<&str>, publish: &str) -> (TestServer, Vec<Client>) {
    let slate = slate.map(|file| format!("slate {file}; slate_after 100;"));
    let slate = slate.as_deref();
    let server = TestServer::origin(&format!("publish {{ {publish} {} }}", slate.unwrap_or("")));
    let marked = if slate.is_none() { "s?backup=1" } else { "s" };
    let mut encoder = server.publisher(marked).await;
    encoder.publish(&[keyframe(0)]).await;
    let mut player = server.player("s").await;
    player.frame().await;
    if slate.is_none() {
        return (server, vec![player, encoder]);
    }
    drop(encoder);
    assert_eq!(player.frame().await.payload[5], 0x99);
    (server, vec![player])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_treated_by_the_policy_beside_a_slate_and_a_marked_one() {
    let file = slate_file(0x99);
    let slate = file.path().display().to_string();
    for slate in [Some(slate.as_str()), None] {
        let (refusing, _peers) = without_unmarked(slate, "").await;
        let first = keep_alive(refusing.publisher("s").await);
        let refusal = refusing.refused(Purpose::Publish, "s").await;
        assert_eq!(refusal.code, "NetStream.Publish.BadName");
        first.abort();

        let policy = "second_publisher takeover;";
        let (taking_over, _peers) = without_unmarked(slate, policy).await;
        let mut first = taking_over.publisher("s").await;
        let _second = taking_over.publisher("s").await;
        assert_eq!(first.refusal().await.code, "NetStream.Publish.BadName");
    }
}
