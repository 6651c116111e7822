//! WebSocket-FLV.

use super::origin;
use crate::flv_client::FlvClient;
use crate::support::{headers, keyframe, picture};

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_names_the_site_of_its_page() {
    let crossdomain_off = "http_server { enabled on; crossdomain off; }";
    let websocket = FlvClient::websocket_fields();
    for (vhost, globals, site, expected) in [
        ("refer_play example.com;", "", "http://example.com", " 101 "),
        ("refer_play example.com;", "", "http://evil.net", " 403 "),
        ("", "", "http://evil.net", " 101 "),
        ("", crossdomain_off, "http://evil.net", " 403 "),
        ("", crossdomain_off, "http://127.0.0.1", " 101 "),
    ] {
        let (origin, http) = origin(vhost, globals);
        let mut publisher = origin.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        let fields = format!("Origin: {site}\r\n{websocket}");
        let mut client = FlvClient::asking(http, "GET /live/s.flv", &fields).await;
        let head = client.head().await;
        assert!(head.contains(expected), "{vhost} {globals} {site}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_told_pongs_and_closes_in_order() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    origin.arrived("s", 4).await;
    let (mut player, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
    assert_eq!(player.tags(4).await[3], (9, 0, 0x17));
    player.send_frame(0x81, b"text is ignored").await;
    player.send_frame(0x89, b"a ping").await;
    while player.pongs.is_empty() {
        assert!(player.fill().await);
    }
    assert_eq!(player.pongs, [b"a ping"]);
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.tags(1).await, [(9, 40, 0x27)]);
    player.send_frame(0x88, &1_000_u16.to_be_bytes()).await;
    player.closed().await;
    assert_eq!(player.close_code, Some(1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_client_that_lies_is_closed() {
    let (origin, http) = origin("", "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let unmasked: &[u8] = &[0x81, 1, 7];
    let oversized: &[u8] = &[0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4];
    for lie in [unmasked, oversized] {
        let (mut player, _) = FlvClient::playing_websocket(http, "/live/s.flv").await;
        player.tag().await;
        player.send(lie).await;
        player.closed().await;
        assert_eq!(player.close_code, Some(1_002));
    }
}
