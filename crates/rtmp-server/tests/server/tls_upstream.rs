//! Edges whose origins are reached by `rtmps://`.

use rtmp_server::config::Role;

use crate::common::certificates::Authority;
use crate::support::{TestServer, keep_log, keyframe, log_lines, picture, until};
use crate::tls_support::TlsServer;

/// An edge of `origin`, with these directives in its vhost.
fn edge(origin: &TlsServer, vhost: &str) -> TestServer {
    let port = origin.server.rtmps.unwrap().port();
    let text = format!(
        "vhost __defaultVhost__ {{ mode remote; origin rtmps://localhost:{port}; min_latency on; \
         publish_normal_timeout 600000; {vhost} }}"
    );
    TestServer::start(Role::Edge, &text)
}

fn trusting(origin: &TlsServer) -> String {
    format!("origin_ca {};", origin.authority.file().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_pulls_and_publishes_over_tls() {
    let origin = TlsServer::origin("", "");
    for traverse in ["off", "on"] {
        let vhost = format!("{} token_traverse {traverse};", trusting(&origin));
        let edge = edge(&origin, &vhost);
        let stream = format!("s{traverse}");
        let mut publisher = edge.publisher(&stream).await;
        publisher.publish(&[keyframe(0)]).await;
        let mut player = edge.player(&stream).await;
        assert_eq!(player.frame().await, keyframe(0));
        publisher.publish(&[picture(40)]).await;
        assert_eq!(player.frame().await, picture(40));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_is_refused_whose_certificate_is_not_trusted_or_has_another_name() {
    keep_log();
    let good = TlsServer::origin("", "");
    let authority = Authority::new();
    let certificate = authority.issue("other", "other.example");
    let misnamed = TlsServer::with(authority, certificate, "", "");
    let nowhere = "origin_ca /nonexistent;".to_owned();
    for (origin, vhost, why) in [
        (&good, String::new(), "UnknownIssuer"),
        (&misnamed, trusting(&misnamed), "not valid for name"),
        (&good, nowhere, "`origin_ca` /nonexistent cannot be used"),
    ] {
        let mut publisher = origin.server.publisher("s").await;
        publisher.publish(&[keyframe(0)]).await;
        let edge = edge(origin, &format!("play_wait_timeout 100; {vhost}"));
        let mut player = edge.player("s").await;
        player.refusal().await;
        let port = origin.server.rtmps.unwrap().port();
        let lines = log_lines(&format!("live/s from rtmps://localhost:{port}: "));
        let said = lines.iter().any(|line| line.contains(why));
        assert!(said, "{why}: {lines:?}");
        drop(publisher);
        until(|| origin.server.server.clients().count() == 0).await;
    }
}
