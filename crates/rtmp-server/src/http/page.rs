//! The page for operators, at `/`. SRS has its console at `/console/`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};

use super::Api;
use crate::config::Config;

/// The HTML.
pub(super) async fn html(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|it| it.to_str().ok());
    page::SERVER.html(&media_sources(
        &api.server.config(),
        host.unwrap_or_default(),
    ))
}

/// Its other files.
pub(super) async fn file(Path(name): Path<String>) -> Response {
    let file = page::SERVER.file(&name);
    file.unwrap_or_else(|| StatusCode::NOT_FOUND.into_response())
}

/// Where operators of SRS look for it.
pub(super) async fn moved() -> Redirect {
    Redirect::permanent("/")
}

/// Where the page of `host` finds streams, as sources of a `Content-Security-Policy`.
fn media_sources(config: &Config, host: &str) -> String {
    let server = config.http_server.as_ref();
    let https = server.and_then(|it| it.https.as_ref());
    let plain = config.http_listen().iter().map(|it| ("http", it));
    let encrypted = https
        .iter()
        .flat_map(|it| &it.listen)
        .map(|it| ("https", it));
    let sources = plain.chain(encrypted);
    let sources = sources.map(|(scheme, address)| source(scheme, address, host));
    sources.collect::<Vec<_>>().join(" ")
}

fn source(scheme: &str, address: &SocketAddr, host: &str) -> String {
    let plain = |name: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
        !name.is_empty() && name.bytes().all(plain)
    };
    let name = match address.ip() {
        ip if ip.is_unspecified() => host
            .rsplit_once(':')
            .map_or(host, |(name, _)| name)
            .to_owned(),
        ip => ip.to_string(),
    };
    // A policy cannot name IPv6 addresses (CSP 3 §2.3.1).
    let name = if plain(&name) { &name } else { "*" };
    format!("{scheme}://{name}:{}", address.port())
}

#[cfg(test)]
mod tests {
    use rtmp_proto::session::StreamKey;

    use super::*;
    use crate::server::Activity;

    #[test]
    fn a_source_has_the_name_that_the_page_has_or_the_listeners_own() {
        for (listen, host, expected) in [
            ("0.0.0.0:8080", "edge:1985", "http://edge:8080"),
            ("[::]:8080", "192.0.2.1", "http://192.0.2.1:8080"),
            ("192.0.2.9:80", "127.0.0.1:1985", "http://192.0.2.9:80"),
            ("[::]:8080", "[2001:db8::1]:1985", "http://*:8080"),
            ("[2001:db8::1]:8080", "edge", "http://*:8080"),
            ("[::]:8080", "", "http://*:8080"),
            ("[::]:8080", "a; script-src *", "http://*:8080"),
        ] {
            let address = listen.parse().unwrap();
            assert_eq!(source("http", &address, host), expected, "{listen} {host}");
        }
    }

    #[tokio::test]
    async fn the_page_has_words_for_what_clients_do() {
        let script = page::SERVER.file("server.js").unwrap().into_body();
        let script = axum::body::to_bytes(script, usize::MAX).await.unwrap();
        let script = String::from_utf8_lossy(&script);
        let key = Arc::new(StreamKey {
            vhost: "v".to_owned(),
            app: "live".to_owned(),
            stream: "s".to_owned(),
        });
        for activity in [
            Activity::Idle,
            Activity::Publishing(key.clone()),
            Activity::StandingBy(key.clone()),
            Activity::Waiting(key.clone()),
            Activity::Playing(key),
        ] {
            let word = format!("\"type.{}\": [", activity.name());
            assert!(script.contains(&word), "{word}");
        }
    }
}
