//! Certificates: which one a client gets, and new ones while others play.

use crate::common::certificates::{Authority, first};
use crate::flv_client::FlvClient;
use crate::support::{keep_log, keyframe, log_lines, picture, until};
use crate::tls_support::TlsServer;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_name_a_vhost_get_its_certificate() {
    let authority = Authority::new();
    let default = authority.issue("default", "localhost");
    let [a, b] = ["a.example", "b.example"].map(|name| authority.issue(name, name));
    let globals = format!(
        "vhost a.example {{ https {{ {} }} }} vhost b.example {{ https {{ {} }} }}",
        a.directives(),
        b.directives()
    );
    let origin = TlsServer::with(authority, default.clone(), &globals, "");
    for (name, certificate) in [
        ("a.example", &a),
        ("b.example", &b),
        ("localhost", &default),
    ] {
        for address in [origin.https(), origin.rtmps()] {
            let shown = origin.certificate_for(address, name).await;
            assert_eq!(shown, first(&certificate.cert), "{name}");
        }
    }
    // An address is no name (RFC 6066 §3).
    let shown = origin.certificate_for(origin.https(), "127.0.0.1").await;
    assert_eq!(shown, first(&default.cert));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_while_players_go_on() {
    keep_log();
    let origin = TlsServer::origin("", "");
    let old = origin.certificate_for(origin.https(), "localhost").await;
    let https = origin.tunnel(origin.https()).await;
    let mut publisher = origin.server.publisher("s").await;
    publisher.publish(&[keyframe(0)]).await;
    let (mut player, _) = FlvClient::playing(https, "/live/s.flv").await;
    assert_eq!(player.tags(1).await, [(9, 0, 0x17)]);
    // As it changes: nobody reloads.
    let renewed = origin.authority.issue("renewed", "localhost");
    origin.certificate.replace(&renewed);
    let file = origin.certificate.cert.display().to_string();
    until(|| {
        log_lines(&file)
            .iter()
            .any(|line| line.contains("new certificate"))
    })
    .await;
    let shown = origin.certificate_for(origin.https(), "localhost").await;
    assert!(shown != old && shown == first(&renewed.cert));
    publisher.publish(&[picture(40)]).await;
    assert_eq!(player.tags(1).await, [(9, 40, 0x27)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_reads_certificates_and_keeps_those_that_it_cannot_read() {
    keep_log();
    let origin = TlsServer::origin("", "");
    let renewed = origin.authority.issue("renewed", "localhost");
    origin.certificate.replace(&renewed);
    origin.server.reload(&origin.text);
    let shown = origin.certificate_for(origin.rtmps(), "localhost").await;
    assert_eq!(shown, first(&renewed.cert));
    std::fs::write(&origin.certificate.cert, "no certificate").unwrap();
    origin.server.reload(&origin.text);
    let shown = origin.certificate_for(origin.rtmps(), "localhost").await;
    assert_eq!(shown, first(&renewed.cert));
    let file = origin.certificate.cert.display().to_string();
    let lines = log_lines(&file);
    // One for each of `https` and `rtmps`.
    let errors: Vec<_> = lines
        .iter()
        .filter(|line| line.starts_with("ERROR"))
        .collect();
    assert_eq!(errors.len(), 2, "{lines:?}");
    assert!(
        errors[0].contains("the former one stays in force"),
        "{lines:?}"
    );
    // A key of another certificate.
    let other = origin.authority.issue("other", "localhost");
    std::fs::copy(&other.cert, &origin.certificate.cert).unwrap();
    origin.server.reload(&origin.text);
    let shown = origin.certificate_for(origin.rtmps(), "localhost").await;
    assert_eq!(shown, first(&renewed.cert));
}
