//! A drain asks the clients that can to connect again.

use rtmp_proto::session::status::code;
use rtmp_proto::session::{ClientConfig, ClientEvent, Purpose};
use rtmp_proto::wire::amf0::Value;

use crate::support::{Client, TestServer, headers, keyframe, picture};

/// A client that has `capsEx` in its `connect`.
async fn client(origin: &TestServer, purpose: Purpose, caps_ex: f64) -> Client {
    let tc_url = format!("rtmp://{}/live", origin.address);
    let mut config = ClientConfig::new(purpose, &tc_url, "live", "s");
    let property = ("capsEx".to_owned(), Value::Number(caps_ex));
    config.connect_properties.push(property);
    Client::connect(origin.address, config).await
}

/// Waits for the request to connect again.
async fn asked(client: &mut Client) {
    loop {
        match client.event().await.expect("the connection stays") {
            ClientEvent::Status(status) if status.code == code::CONNECT_RECONNECT_REQUEST => return,
            ClientEvent::Status(_) | ClientEvent::Connected | ClientEvent::Playing => {}
            ClientEvent::Media(_) | ClientEvent::StreamBegin => {}
            other => panic!("not asked: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_announce_it_are_asked_to_connect_again_and_others_are_not() {
    let origin = TestServer::origin("");
    let mut publisher = client(&origin, Purpose::Publish, 1.0).await;
    publisher.may_publish().await;
    publisher.publish(&headers()).await;
    publisher.publish(&[keyframe(0)]).await;
    // Reconnect and multitrack; multitrack alone; nothing.
    let mut able = client(&origin, Purpose::Play, 3.0).await;
    let mut unable = [
        client(&origin, Purpose::Play, 2.0).await,
        client(&origin, Purpose::Play, f64::NAN).await,
        origin.player("s").await,
    ];
    assert_eq!(able.frame().await, keyframe(0));
    for player in &mut unable {
        assert_eq!(player.frame().await, keyframe(0));
    }
    origin.server.drain();
    asked(&mut able).await;
    asked(&mut publisher).await;
    // Everybody may finish, and what is sent goes on.
    publisher.publish(&[picture(40)]).await;
    assert_eq!(able.frame().await, picture(40));
    for player in &mut unable {
        let event = player.event().await;
        assert!(matches!(event, Some(ClientEvent::Media(_))), "{event:?}");
    }
}
