//! Requests over HTTP/1.1: connections that stay, ranges, and what is bounded.

use tokio::io::AsyncWriteExt;

use super::client::{HlsClient, beside};
use super::{PLAYLIST, origin, publisher, serve};
use crate::support::until;
use rtmp_server::config::Role;

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_one_after_another() {
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let uris = player.fetch(&media).await.uris();
    let targets: Vec<_> = uris.iter().map(|uri| beside(PLAYLIST, uri)).collect();
    // All requests are sent before the first answer is read.
    for target in &targets {
        player.ask(&format!("GET {target}"), "").await;
    }
    let mut bodies = Vec::new();
    for _ in &targets {
        bodies.push(player.answer().await.body);
    }
    for (target, body) in targets.iter().zip(bodies) {
        assert_eq!(player.fetch(target).await.body, body, "{target}");
    }
    player
        .ask(&format!("GET {media}"), "Connection: close\r\n")
        .await;
    let last = player.answer().await;
    assert_eq!(last.field("Connection"), Some("close"));
    player.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_is_given_in_ranges_and_without_its_body() {
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    let uri = player.fetch(&media).await.uris().remove(0);
    let target = beside(PLAYLIST, &uri);
    let whole = player.fetch(&target).await;
    assert!(
        whole
            .field("Cache-Control")
            .unwrap()
            .starts_with("max-age=")
    );
    player
        .ask(&format!("GET {target}"), "Range: bytes=188-375\r\n")
        .await;
    let part = player.answer().await;
    assert_eq!(part.status, 206);
    let range = format!("bytes 188-375/{}", whole.body.len());
    assert_eq!(part.field("Content-Range"), Some(&*range));
    assert_eq!(part.body, whole.body[188..376]);
    player
        .ask(&format!("GET {target}"), "Range: bytes=99999999-\r\n")
        .await;
    assert_eq!(player.answer().await.status, 416);
    player.ask(&format!("HEAD {target}"), "").await;
    let head = player.answer_to("HEAD").await;
    let length = whole.body.len().to_string();
    assert_eq!(head.field("Content-Length"), Some(&*length));
    player.ask(&format!("HEAD {PLAYLIST}"), "").await;
    let head = player.answer_to("HEAD").await;
    assert_eq!((head.status, head.field("Content-Length")), (200, None));
    player.ask("HEAD /live/other.m3u8", "").await;
    assert_eq!(player.answer_to("HEAD").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_may_read_answers() {
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    player
        .ask(&format!("OPTIONS {PLAYLIST}"), "Origin: http://a\r\n")
        .await;
    let answer = player.answer_to("OPTIONS").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    let playlist = player.fetch(PLAYLIST).await;
    assert_eq!(playlist.field("Access-Control-Allow-Origin"), Some("*"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_publishes_is_not_found() {
    let (_origin, http) = serve(Role::Origin, "", "play_wait_timeout 100;");
    let mut player = HlsClient::connect(http).await;
    let refused = player.get(PLAYLIST).await;
    assert_eq!(refused.status, 404, "{refused:?}");
    // The connection stays.
    assert_eq!(player.get("/live/s.m3u8?hls_ctx=x").await.status, 404);
    assert_eq!(player.get("/live/s-1.ts?hls_ctx=..").await.status, 400);
    assert_eq!(player.get("/live/s-1.ts").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_ends_the_connection() {
    let text = "http_server { enabled on; } handshake_timeout 200; \
                vhost __defaultVhost__ { hls { enabled on; } }";
    let origin = crate::support::TestServer::start(Role::Origin, text);
    let http = origin.http.unwrap();
    let mut client = HlsClient::connect(http).await;
    client.ask("OPTIONS /live/s.m3u8", "").await;
    assert_eq!(client.answer_to("OPTIONS").await.status, 204);
    // The second request of a connection is bounded in time as the first one is.
    client
        .socket
        .write_all(b"GET /live/s.m3u8 HTTP/1.1\r\n")
        .await
        .unwrap();
    assert_eq!(client.answer().await.status, 408);
    client.closed().await;
    let mut endless = HlsClient::connect(http).await;
    let field = format!("X: {}\r\n", "a".repeat(1_000));
    endless
        .socket
        .write_all(b"GET /live/s.m3u8 HTTP/1.1\r\n")
        .await
        .unwrap();
    for _ in 0..9 {
        endless.socket.write_all(field.as_bytes()).await.unwrap();
    }
    assert_eq!(endless.answer().await.status, 431);
    endless.closed().await;
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_while_it_waits_is_forgotten() {
    let (origin, http) = serve(Role::Origin, "", "play_wait_timeout 600000;");
    let mut player = HlsClient::connect(http).await;
    player.ask(&format!("GET {PLAYLIST}"), "").await;
    until(|| origin.server.clients().count() == 2).await;
    drop(player);
    until(|| origin.server.clients().count() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_is_told_that_its_connection_stays() {
    let (origin, http) = origin("");
    let _publisher = publisher(&origin, 9).await;
    let mut client = HlsClient::connect(http).await;
    for _ in 0..2 {
        let request = format!("GET {PLAYLIST} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        client.socket.write_all(request.as_bytes()).await.unwrap();
        let answer = client.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("Connection"), Some("keep-alive"));
    }
    assert_eq!(client.fetch(PLAYLIST).await.field("Connection"), None);
    let request = format!("GET {PLAYLIST} HTTP/1.0\r\n\r\n");
    client.socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.field("Connection"), Some("close"));
    client.closed().await;
}
