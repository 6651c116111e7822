//! HLS and low-latency HLS at origins and edges.

pub(crate) mod client;
mod files;
mod keys;
mod life;
mod low_latency;
mod requests;
mod sessions;
mod standby;
mod tls;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use rtmp_server::config::Role;

use crate::hooks::Site;
use crate::support::{Client, TestServer, until};
use client::{Answer, HlsClient, beside, seconds, sequence_headers};

/// A server with these directives in `hls` and in its vhost.
pub(crate) fn serve(role: Role, hls: &str, vhost: &str) -> (TestServer, SocketAddr) {
    let text = format!(
        "http_server {{ enabled on; }} vhost __defaultVhost__ {{ min_latency on; \
         publish_normal_timeout 600000; hls {{ enabled on; hls_fragment 2; hls_window 10; {hls} }} \
         {vhost} }}"
    );
    let server = TestServer::start(role, &text);
    let http = server.http.unwrap();
    (server, http)
}

pub(crate) fn origin(hls: &str) -> (TestServer, SocketAddr) {
    serve(Role::Origin, hls, "")
}

/// The block `http_hooks` with these events and the paths of `site` that answer them.
pub(crate) async fn hooks(site: &Site, events: &[(&str, &str)]) -> String {
    let web = site.start().await;
    let events = events.iter();
    let events = events.map(|(event, path)| format!("{event} http://{web}{path};"));
    format!(
        "http_hooks {{ enabled on; {} }}",
        events.collect::<String>()
    )
}

/// An origin with those hooks.
pub(crate) async fn hooked(site: &Site, events: &[(&str, &str)]) -> (TestServer, SocketAddr) {
    serve(Role::Origin, "", &hooks(site, events).await)
}

/// A publisher of which this many seconds have arrived.
pub(crate) async fn publisher(origin: &TestServer, length: u32) -> Client {
    let mut publisher = origin.publisher("s").await;
    let streams = origin.server.streams();
    let stream = streams.iter().find(|known| known.key().stream == "s");
    let stream = stream.expect("the stream is not there");
    let arrived = || stream.totals().messages_in.load(Ordering::Relaxed);
    let messages = [sequence_headers(0), seconds(0, length)].concat();
    let expected = arrived() + messages.len() as u64;
    publisher.publish(&messages).await;
    until(|| arrived() == expected).await;
    publisher
}

pub(crate) const PLAYLIST: &str = "/live/s.m3u8";

#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_segments_of_mpeg_ts() {
    let (origin, http) = origin("");
    let mut publisher = publisher(&origin, 9).await;
    let mut player = HlsClient::connect(http).await;
    let media = player.begin(PLAYLIST).await;
    // All but the last second.
    let all = |playlist: &Answer| playlist.uris().len() == 5;
    let playlist = player.fetch_until(&media, all).await;
    let kind = playlist.field("Content-Type").unwrap();
    assert_eq!(kind, "application/vnd.apple.mpegurl");
    assert_eq!(playlist.field("Cache-Control"), Some("no-cache"));
    let uris = playlist.uris();
    assert!(!playlist.text().contains("EXT-X-PART"), "{playlist:?}");
    for uri in &uris {
        let segment = player.fetch(&beside(PLAYLIST, uri)).await;
        assert_eq!(segment.field("Content-Type"), Some("video/mp2t"));
        assert!(segment.body.len() > 188 && segment.body.len() % 188 == 0);
        assert!(segment.body.chunks(188).all(|packet| packet[0] == 0x47));
    }
    // The window moves on.
    let first = playlist.number("#EXT-X-MEDIA-SEQUENCE").unwrap();
    publisher.publish(&seconds(9, 40)).await;
    let moved = |later: &Answer| later.number("#EXT-X-MEDIA-SEQUENCE").unwrap() > first;
    player.fetch_until(&media, moved).await;
}
