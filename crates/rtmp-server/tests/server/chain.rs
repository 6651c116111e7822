//! Servers behind servers: only the last of them gathers messages for viewers.

use std::sync::Arc;
use std::time::Duration;

use rtmp_proto::session::{ClientConfig, Purpose};
use rtmp_proto::wire::amf0::Value;
use rtmp_server::config::Role;

use crate::common::nginx::nginx;
use crate::common::server::configuration;
use crate::support::{Client, TestServer, keyframe, picture, sound};

/// Longer than any test: whoever is sent what was gathered for so long gets
/// nothing.
const FOR_EVER: Duration = Duration::from_secs(86_400);

/// A server whose viewers wait for ever for what is gathered for them.
fn merging_server(role: Role, vhost: &str) -> TestServer {
    let text = format!("vhost __defaultVhost__ {{ publish_normal_timeout 600000; {vhost} }}");
    let mut config = configuration(role, &text);
    for vhost in config.vhosts.values_mut() {
        Arc::make_mut(vhost).mw_latency = FOR_EVER;
    }
    TestServer::with("127.0.0.1:0".parse().unwrap(), role, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_server_of_a_chain_gathers_messages() {
    let origin = merging_server(Role::Origin, "");
    // Nor does an edge get the pictures by connecting again.
    let patience = "origin_read_timeout 600000;";
    let upstream = format!("mode remote; origin {}; {patience}", origin.address);
    let middle = merging_server(Role::Edge, &upstream);
    let last = TestServer::edge(&[middle.address], patience);
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let mut viewers = Vec::new();
    for server in [&origin, &middle, &last] {
        let mut viewer = server.player("s").await;
        assert_eq!(viewer.frame().await, keyframe(0));
        viewers.push(viewer);
    }
    for time in [40, 80, 120] {
        publisher.publish(&[picture(time), sound(time + 5)]).await;
        let viewer = viewers.last_mut().unwrap();
        assert_eq!(viewer.frame().await, picture(time));
        assert_eq!(viewer.frame().await, sound(time + 5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_other_makes_get_each_message_at_once_too() {
    let origin = merging_server(Role::Origin, "");
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let config = |adjust: fn(&mut ClientConfig)| {
        let tc_url = format!("rtmp://{}/live", origin.address);
        let mut config = ClientConfig::new(Purpose::Play, &tc_url, "live", "s");
        adjust(&mut config);
        config
    };
    let srs = config(|config| {
        let signature = vec![("srs_sig".to_owned(), "SRS".into())];
        config.flash_ver = "WIN 15,0,0,239".to_owned();
        config.connect_arguments = vec![Value::Object(signature)];
    });
    let nginx = config(|config| config.flash_ver = "LNX.11,1,102,55".to_owned());
    for (number, config) in [srs, nginx].into_iter().enumerate() {
        let mut edge = Client::connect(origin.address, config).await;
        assert_eq!(edge.frame().await, keyframe(0));
        let time = 1_000 * (u32::try_from(number).unwrap() + 1);
        publisher.publish(&[picture(time)]).await;
        loop {
            let frame = edge.frame().await;
            if frame == picture(time) {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edge_forwards_is_not_gathered_again() {
    let origin = merging_server(
        Role::Origin,
        "min_latency on; mr { enabled on; latency 500; }",
    );
    {
        let mut config = (*origin.server.config()).clone();
        for vhost in config.vhosts.values_mut() {
            Arc::make_mut(vhost).mr = Some(FOR_EVER);
        }
        origin.server.reconfigure(config);
    }
    let edge = TestServer::edge(&[origin.address], "");
    let mut publisher = edge.publisher("s").await;
    let mut player = origin.player("s").await;
    for time in [0, 1_000, 2_000] {
        publisher.publish(&[keyframe(time)]).await;
        assert_eq!(player.frame().await, keyframe(time));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nginxs_pull_gets_each_message_at_once() {
    let origin = merging_server(Role::Origin, "");
    let nginx = nginx(&format!("pull rtmp://{}/live;", origin.address));
    let address = nginx.address;
    let mut publisher = origin.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let tc_url = format!("rtmp://{address}/live");
    let config = ClientConfig::new(Purpose::Play, &tc_url, "live", "s");
    let mut viewer = Client::connect(address, config).await;
    assert_eq!(viewer.frame().await.payload, keyframe(0).payload);
    for time in [40, 80, 120] {
        publisher.publish(&[picture(time)]).await;
        assert_eq!(viewer.frame().await.payload, picture(time).payload);
    }
}
